//! Connections belong to the runtime that drives them.

use super::lock;
use std::sync::{Arc, Mutex, Weak};
use tokio::runtime::{Handle, Id};
use tokio::sync::oneshot;

/// One `T` for each runtime that asks, dropped when its runtime ends.
///
/// Connections belong to the runtime that drives them: a socket opened on one dies with it, and stands still while it is parked.
#[derive(Debug)]
pub(crate) struct PerRuntime<T> {
    /// Few, and looked through on each call: hashing would take longer.
    sets: Arc<Mutex<Vec<Resident<T>>>>,
}

#[derive(Debug)]
struct Resident<T> {
    home: Id,
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
        if let Some(resident) = sets.iter().find(|resident| resident.home == home.id()) {
            return resident.set.clone();
        }
        let set = Arc::new(make());
        let (leaves, left) = oneshot::channel();
        sets.push(Resident { home: home.id(), set: set.clone(), _leaves: leaves });
        drop(sets);
        let sentinel = Sentinel { sets: Arc::downgrade(&self.sets), id: home.id() };
        home.spawn(async move {
            let _sentinel = sentinel;
            let _ = left.await;
        });
        set
    }

    /// Takes every runtime's `T` out; the next caller makes a new one.
    #[cfg(any(feature = "redis", feature = "memcached"))]
    pub(crate) fn take_all(&self) -> Vec<Arc<T>> {
        let taken = std::mem::take(&mut *lock(&self.sets));
        taken.into_iter().map(|resident| resident.set).collect()
    }
}

/// Lives in a task of the runtime; dropped with it.
struct Sentinel<T> {
    sets: Weak<Mutex<Vec<Resident<T>>>>,
    id: Id,
}

impl<T> Drop for Sentinel<T> {
    fn drop(&mut self) {
        if let Some(sets) = self.sets.upgrade() {
            let mut residents = lock(&sets);
            let gone = residents.iter().position(|resident| resident.home == self.id).map(|at| residents.swap_remove(at));
            // Dropped outside the lock: closing connections is not done under it.
            drop(residents);
            drop(gone);
        }
    }
}
