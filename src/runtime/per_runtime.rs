//! Connections belong to the runtime that drives them.

use super::lock;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use tokio::runtime::{Handle, Id};
use tokio::sync::oneshot;

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
    sets: Weak<Mutex<HashMap<Id, Resident<T>>>>,
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
