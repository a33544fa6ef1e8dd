//! The observers of a cache, and its counters, which count with or without observers.
//!
//! An observer runs inside the call that emits the event, and may use the cache. Events of the
//! observer's own calls are counted, but passed to no observer: two caches whose observers use each
//! other would otherwise call each other without end.

#[cfg(any(feature = "memory", feature = "redis"))]
mod apart;
mod sinks;

#[cfg(any(feature = "memory", feature = "redis"))]
pub(crate) use apart::{EventsApart, OwnedEvent};
pub(crate) use sinks::Line;
pub use sinks::{EventSink, EventSinks};

use crate::event::Event;
use crate::runtime::lock;
use crate::stats::Counters;
use arc_swap::ArcSwap;
use std::cell::Cell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

thread_local! {
    /// Whether this thread is inside an observer of any cache.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// This thread is inside an observer, until dropped.
struct Inside {
    was_inside: bool,
}

impl Inside {
    fn enter() -> Self {
        Self { was_inside: INSIDE.replace(true) }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.set(self.was_inside);
    }
}

/// Wraps work that is about to become a task: if an observer starts it, its events are passed to no
/// observer either.
pub(crate) fn inherit<F: Future + ?Sized>(
    mut work: Pin<Box<F>>,
) -> impl Future<Output = F::Output> {
    let is_inside = INSIDE.get();
    poll_fn(move |context| {
        let _inside = is_inside.then(Inside::enter);
        work.as_mut().poll(context)
    })
}

/// Whether an observer makes this call.
pub(crate) fn is_observing() -> bool {
    INSIDE.get()
}

type Observe = dyn Fn(&Event<'_>) + Send + Sync;

/// An observer, and the number by which it is removed.
#[derive(Clone)]
struct Observer {
    number: u64,
    observe: Arc<Observe>,
}

/// The observers of a cache, and its counters. Emitting an event takes no lock; adding and removing
/// an observer copy the list.
#[derive(Default)]
pub(crate) struct Observers {
    pub(crate) counters: Counters,
    /// Whether the list is not empty. A hit in memory reads only this flag.
    has_observers: AtomicBool,
    /// Whether traces show keys.
    #[cfg(feature = "tracing")]
    pub(crate) shows_keys: AtomicBool,
    list: ArcSwap<Vec<Observer>>,
    /// Held while the list and `has_observers` change together. No user code runs under this lock.
    changing: Mutex<()>,
}

impl Observers {
    fn add(&self, observer: Observer) {
        let _changing = lock(&self.changing);
        let known = self.list.load();
        self.list.store(Arc::new(known.iter().cloned().chain([observer]).collect()));
        self.has_observers.store(true, Ordering::Release);
    }

    fn remove(&self, number: u64) {
        let taken_off = {
            let _changing = lock(&self.changing);
            let known = self.list.load_full();
            let left = known.iter().filter(|observer| observer.number != number);
            let left: Vec<Observer> = left.cloned().collect();
            self.has_observers.store(!left.is_empty(), Ordering::Release);
            self.list.store(Arc::new(left));
            known
        };
        // Drop the observer after releasing the lock: its `Drop` is the user's code and may use the
        // cache.
        drop(taken_off);
    }

    /// Whether there are observers.
    #[inline]
    pub(crate) fn has_observers(&self) -> bool {
        self.has_observers.load(Ordering::Acquire)
    }

    /// The time, if there are observers. A hit in memory cannot afford to read a clock otherwise.
    #[inline]
    pub(crate) fn clock(&self) -> Option<Instant> {
        self.has_observers().then(Instant::now)
    }

    /// Counts the event, and notifies the observers.
    pub(crate) fn emit(&self, event: Event<'_>) {
        self.counters.add(event.kind, event.count);
        if self.has_observers() {
            self.notify(event);
        }
    }

    /// Notifies the observers, unless an observer caused the event. A panic of an observer is
    /// contained.
    #[cold]
    pub(crate) fn notify(&self, event: Event<'_>) {
        if INSIDE.get() {
            return;
        }
        let _inside = Inside::enter();
        #[cfg(feature = "tracing")]
        let event = Event { shows_key: self.shows_keys.load(Ordering::Relaxed), ..event };
        let list = self.list.load();
        for observer in list.iter() {
            let _panicked = catch_unwind(AssertUnwindSafe(|| (observer.observe)(&event)));
        }
        // If an observer was removed during the loop, this list may be its last owner. Its `Drop`
        // is the user's code, and may panic as well.
        let _panicked = catch_unwind(AssertUnwindSafe(|| drop(list)));
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Observers({})", self.list.load().len())
    }
}

/// The registration of an observer, which [`observe`](crate::AsyncCacheWrapper::observe) returns.
///
/// Dropping the registration changes nothing: the observer is notified for as long as the cache
/// exists. It does not keep the cache alive.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
/// let cache = larder::AsyncCacheWrapper::new("memory")?;
/// let (sender, events) = std::sync::mpsc::channel();
/// let observation = cache.observe(move |event| drop(sender.send(event.kind)));
/// cache.set("k", 1u8).await?;
/// observation.stop();
/// cache.remove("k").await?;
/// assert_eq!(events.iter().collect::<Vec<_>>(), [larder::EventKind::Set]);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Observation {
    number: u64,
    places: Vec<Weak<Observers>>,
}

impl Observation {
    /// Removes the observer and drops it. If another thread is notifying it at this moment, that
    /// notification is the last.
    pub fn stop(self) {
        for observers in self.places.iter().filter_map(Weak::upgrade) {
            observers.remove(self.number);
        }
    }

    /// Registers an observer in each of `places`.
    pub(crate) fn begin<const N: usize>(
        observe: impl Fn(&Event<'_>) + Send + Sync + 'static,
        places: [&Arc<Observers>; N],
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let observe: Arc<Observe> = Arc::new(observe);
        let mut distinct: Vec<Weak<Observers>> = Vec::with_capacity(N);
        for observers in places {
            // Registering twice in one place would notify the observer twice.
            if distinct.iter().all(|known| !std::ptr::eq(known.as_ptr(), Arc::as_ptr(observers))) {
                observers.add(Observer { number, observe: observe.clone() });
                distinct.push(Arc::downgrade(observers));
            }
        }
        Self { number, places: distinct }
    }
}
