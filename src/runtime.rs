//! The one place that builds runtimes and spawns tasks.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::runtime::{Builder, Handle, Id, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The background runtime and the process it was built in: its thread does not survive a fork.
static BACKGROUND: Mutex<Option<(u32, &'static Runtime)>> = Mutex::new(None);

/// larder's own runtime: one thread, built when first needed, never dropped (dropping a runtime in async code panics).
///
/// # Panics
///
/// When the operating system refuses a thread.
pub(crate) fn background() -> &'static Handle {
    let mut built = lock(&BACKGROUND);
    let process = std::process::id();
    let runtime = match *built {
        Some((owner, runtime)) if owner == process => runtime,
        _ => {
            let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("larder").enable_all().build();
            &*Box::leak(Box::new(runtime.expect("the operating system refused a thread for larder's runtime")))
        }
    };
    *built = Some((process, runtime));
    runtime.handle()
}

fn is_background(handle: &Handle) -> bool {
    lock(&BACKGROUND).is_some_and(|(_, runtime)| runtime.handle().id() == handle.id())
}

/// The caller's runtime; the background one where the caller has none.
pub(crate) fn current() -> Handle {
    Handle::try_current().unwrap_or_else(|_| background().clone())
}

/// Runs larder's own work on the caller's runtime, detached from the caller.
pub(crate) fn spawn<F>(work: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    current().spawn(work)
}

/// Runs a user's future detached from the caller: on the caller's runtime, or on a thread of its own where that is the
/// background runtime, for a loader that blocks must not stall the thread that drives connections.
pub(crate) fn spawn_loader<F>(loader: F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let home = current();
    if is_background(&home) {
        let inside = home.clone();
        home.spawn_blocking(move || inside.block_on(loader));
    } else {
        home.spawn(loader);
    }
}

/// One `T` for each runtime that asks, dropped when its runtime ends.
///
/// Connections belong to the runtime that drives them: a socket opened on one dies with it, and stands still while it is parked.
#[derive(Debug)]
pub(crate) struct PerRuntime<T> {
    sets: Arc<Mutex<HashMap<Id, Resident<T>>>>,
}

#[derive(Debug)]
struct Resident<T> {
    set: Arc<T>,
    /// Dropping it ends the sentinel.
    _leaves: oneshot::Sender<()>,
}

impl<T: Send + Sync + 'static> PerRuntime<T> {
    pub(crate) fn new() -> Self {
        Self { sets: Arc::default() }
    }

    /// The caller's runtime's own `T`. Must be called inside a runtime.
    pub(crate) fn get_or_insert_with(&self, make: impl FnOnce() -> T) -> Arc<T> {
        let home = Handle::current();
        let mut sets = lock(&self.sets);
        if let Some(resident) = sets.get(&home.id()) {
            return resident.set.clone();
        }
        let set = Arc::new(make());
        let (leaves, left) = oneshot::channel();
        sets.insert(home.id(), Resident { set: set.clone(), _leaves: leaves });
        drop(sets);
        let sentinel = Sentinel { sets: Arc::downgrade(&self.sets), id: home.id() };
        home.spawn(async move {
            let _sentinel = sentinel;
            let _ = left.await;
        });
        set
    }

    /// Takes every runtime's `T` out; the next caller makes a new one.
    pub(crate) fn take_all(&self) -> Vec<Arc<T>> {
        let taken = std::mem::take(&mut *lock(&self.sets));
        taken.into_values().map(|resident| resident.set).collect()
    }
}

/// Lives in a task of the runtime; dropped with it.
struct Sentinel<T> {
    sets: std::sync::Weak<Mutex<HashMap<Id, Resident<T>>>>,
    id: Id,
}

impl<T> Drop for Sentinel<T> {
    fn drop(&mut self) {
        if let Some(sets) = self.sets.upgrade() {
            // Dropped outside the lock: closing connections is not done under it.
            let _gone = lock(&sets).remove(&self.id);
        }
    }
}

/// Locks a mutex whose data is whole at every point where a panic could happen.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
