//! Connections belong to the runtime that drives them.

use super::lock;
use arc_swap::ArcSwap;
use std::sync::{Arc, Mutex, Weak};
use tokio::runtime::{Handle, Id};
use tokio::sync::oneshot;

/// One `T` for each runtime that asks. Each is dropped when its runtime ends.
///
/// A connection belongs to the runtime that drives it: it ends with that runtime, and makes no
/// progress while that runtime is parked.
#[derive(Debug)]
pub(crate) struct PerRuntime<T>(Arc<Residents<T>>);

#[derive(Debug)]
struct Residents<T> {
    /// A short list that is searched on each call: hashing would take longer, and all workers would
    /// contend for a lock.
    all: ArcSwap<Vec<Arc<Resident<T>>>>,
    /// Held while `all` is exchanged. Counts the residents so far.
    exchange: Mutex<u64>,
}

#[derive(Debug)]
struct Resident<T> {
    home: Id,
    /// Distinguishes residents of the same runtime before and after a `clear`.
    number: u64,
    set: Arc<T>,
    /// Dropping this sender ends the sentinel.
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

    /// Removes residents, and returns them for the caller to drop: connections are not closed under
    /// a lock.
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
        Self(Arc::new(Residents { all: ArcSwap::default(), exchange: Mutex::new(0) }))
    }

    /// The `T` of the runtime `home`.
    pub(crate) fn get_or_insert_with(&self, home: &Handle, make: impl FnOnce() -> T) -> Arc<T> {
        let Self(residents) = self;
        if let Some(set) = residents.find(home.id()) {
            return set;
        }
        let mut exchange = lock(&residents.exchange);
        if let Some(set) = residents.find(home.id()) {
            return set;
        }
        let set = Arc::new(make());
        let (leaves, left) = oneshot::channel();
        *exchange += 1;
        let (home_id, number) = (home.id(), *exchange);
        let resident = Resident { home: home_id, number, set: set.clone(), _leaves: leaves };
        let mut all = Vec::clone(&residents.all.load());
        all.push(Arc::new(resident));
        residents.all.store(Arc::new(all));
        drop(exchange);
        let sentinel = Sentinel { residents: Arc::downgrade(residents), number };
        home.spawn(async move {
            let _sentinel = sentinel;
            let _ = left.await;
        });
        set
    }

    /// Drops the `T` of every runtime; the next caller makes a new one.
    #[cfg(any(feature = "redis", feature = "memcached"))]
    pub(crate) fn clear(&self) {
        drop(self.0.take(|_| true));
    }
}

/// Lives in a task of the runtime and is dropped with it. After a `clear` the sentinel lives on for
/// a moment, in which the runtime may have a new `T` already. So it removes only the resident with
/// its own number.
struct Sentinel<T> {
    residents: Weak<Residents<T>>,
    number: u64,
}

impl<T> Drop for Sentinel<T> {
    fn drop(&mut self) {
        if let Some(residents) = self.residents.upgrade() {
            drop(residents.take(|resident| resident.number == self.number));
        }
    }
}

#[cfg(all(test, any(feature = "redis", feature = "memcached")))]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::task::yield_now;

    #[tokio::test]
    async fn what_was_let_go_of_takes_nothing_newer_along() {
        let (residents, made) = (PerRuntime::new(), AtomicUsize::new(0));
        let home = Handle::current();
        let get = || residents.get_or_insert_with(&home, || made.fetch_add(1, Ordering::Relaxed));
        get();
        for round in 1..=10 {
            residents.clear();
            let newer = get();
            // The sentinel of the previous resident ends now.
            for _ in 0..10 {
                yield_now().await;
            }
            assert!(Arc::ptr_eq(&newer, &get()), "round {round}");
            assert_eq!(made.load(Ordering::Relaxed), round + 1);
        }
    }
}
