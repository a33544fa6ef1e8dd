//! The one place that builds runtimes and spawns tasks.

#[cfg(any(feature = "redis", feature = "memcached"))]
mod per_runtime;

#[cfg(any(feature = "redis", feature = "memcached"))]
pub(crate) use per_runtime::PerRuntime;

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::runtime::{Builder, EnterGuard, Handle, Runtime, RuntimeFlavor};
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

/// Polls `call` inside a runtime: the caller's, or the background one where the caller polls by other means.
pub(crate) async fn inside<F: Future>(call: F) -> F::Output {
    let mut call = pin!(call);
    poll_fn(|cx| {
        let _entered = Handle::try_current().is_err().then(|| background().enter());
        call.as_mut().poll(cx)
    })
    .await
}

/// Runs larder's own work on the caller's runtime, detached from the caller.
pub(crate) fn spawn<F>(work: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    current().spawn(work)
}

/// A timer of the background runtime: it goes off whatever becomes of the caller's runtime, its clock or its lack of one.
#[cfg(feature = "sqlite")]
pub(crate) fn alarm(at: std::time::Instant) -> tokio::time::Sleep {
    let _entered = background().enter();
    tokio::time::sleep_until(at.into())
}

/// Runs larder's own work on the background runtime, which outlives every caller's.
pub(crate) fn spawn_background<F>(work: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    background().spawn(work)
}

/// Runs work that blocks on a thread that may: one of the caller's runtime's blocking pool.
pub(crate) fn spawn_blocking<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> JoinHandle<R> {
    current().spawn_blocking(work)
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

thread_local! {
    static BLOCKED: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread waits in the blocking face, and with it whatever runtime it was driving.
pub(crate) fn is_blocked() -> bool {
    BLOCKED.get()
}

/// A thread that is about to block in the background runtime's place, until dropped.
pub(crate) struct Blocked {
    /// The runtime whose task or `block_on` the thread is in.
    outer: Option<Handle>,
    before: bool,
    _entered: EnterGuard<'static>,
}

impl Blocked {
    pub(crate) fn enter() -> Self {
        let outer = Handle::try_current().ok();
        Self { outer, before: BLOCKED.replace(true), _entered: background().enter() }
    }

    /// To be called before the thread parks. The task that a worker would run next is the one that no other worker may steal;
    /// a newer task pushes it where they can. (`block_in_place` does more, but panics in a `LocalSet`, which cannot be told apart.)
    pub(crate) fn hand_on(&self) {
        if let Some(outer) = &self.outer
            && outer.runtime_flavor() == RuntimeFlavor::MultiThread
        {
            outer.spawn(async {});
        }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        BLOCKED.set(self.before);
    }
}

/// Locks a mutex whose data is whole at every point where a panic could happen.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
