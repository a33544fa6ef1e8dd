//! Connections belong to the runtime that drives them.

use super::lock;
use arc_swap::ArcSwap;
use std::sync::{Arc, Mutex, Weak};
use tokio::runtime::{Handle, Id};
use tokio::sync::oneshot;

/// One `T` for each runtime that asks, dropped when its runtime ends.
///
/// Connections belong to the runtime that drives them: a socket opened on one dies with it, and stands still while it is parked.
#[derive(Debug)]
pub(crate) struct PerRuntime<T>(Arc<Residents<T>>);

#[derive(Debug)]
struct Residents<T> {
    /// Few, and looked through on each call: hashing would take longer, and a lock would be every worker's.
    all: ArcSwap<Vec<Arc<Resident<T>>>>,
    /// Held while `all` is exchanged.
    exchange: Mutex<()>,
}

#[derive(Debug)]
struct Resident<T> {
    home: Id,
    set: Arc<T>,
    /// Dropping it ends the sentinel.
    _leaves: oneshot::Sender<()>,
}

impl<T> Residents<T> {
    fn find(&self, home: Id) -> Option<Arc<T>> {
        self.all
            .load()
            .iter()
            .find(|resident| resident.home == home)
            .map(|resident| resident.set.clone())
    }

    /// Takes some out, for the caller to drop: closing connections is not done under a lock.
    fn take(&self, is_going: impl Fn(&Resident<T>) -> bool) -> Vec<Arc<Resident<T>>> {
        let _exchange = lock(&self.exchange);
        let (going, staying) =
            self.all.load().iter().cloned().partition(|resident| is_going(resident));
        self.all.store(Arc::new(staying));
        going
    }
}

impl<T: Send + Sync + 'static> PerRuntime<T> {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Residents { all: ArcSwap::default(), exchange: Mutex::new(()) }))
    }

    /// The own `T` of the runtime `home`.
    pub(crate) fn get_or_insert_with(&self, home: &Handle, make: impl FnOnce() -> T) -> Arc<T> {
        let Self(residents) = self;
        if let Some(set) = residents.find(home.id()) {
            return set;
        }
        let exchange = lock(&residents.exchange);
        if let Some(set) = residents.find(home.id()) {
            return set;
        }
        let set = Arc::new(make());
        let (leaves, left) = oneshot::channel();
        let mut all = Vec::clone(&residents.all.load());
        all.push(Arc::new(Resident { home: home.id(), set: set.clone(), _leaves: leaves }));
        residents.all.store(Arc::new(all));
        drop(exchange);
        let sentinel = Sentinel { residents: Arc::downgrade(residents), id: home.id() };
        home.spawn(async move {
            let _sentinel = sentinel;
            let _ = left.await;
        });
        set
    }

    /// Lets go of every runtime's `T`; the next caller makes a new one.
    #[cfg(any(feature = "redis", feature = "memcached"))]
    pub(crate) fn clear(&self) {
        drop(self.0.take(|_| true));
    }
}

/// Lives in a task of the runtime; dropped with it.
struct Sentinel<T> {
    residents: Weak<Residents<T>>,
    id: Id,
}

impl<T> Drop for Sentinel<T> {
    fn drop(&mut self) {
        if let Some(residents) = self.residents.upgrade() {
            drop(residents.take(|resident| resident.home == self.id));
        }
    }
}
