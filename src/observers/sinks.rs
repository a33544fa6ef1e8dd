//! The way from an adapter to the observers of the caches that it is in.

use super::Observers;
use crate::event::Event;
use arc_swap::ArcSwap;
use std::sync::{Arc, Weak};

/// A cache, as its adapter sees it: see [`AsyncCacheAdapter::subscribe`](crate::AsyncCacheAdapter::subscribe). It is gone when the cache
/// has another adapter.
#[derive(Clone, Debug)]
pub struct EventSink(Weak<Line>);

/// From an adapter to the observers of a cache that it is in; cut when it is no longer.
#[derive(Debug)]
pub(crate) struct Line(Arc<Observers>);

impl Line {
    pub(crate) fn to(observers: &Arc<Observers>) -> Arc<Self> {
        Arc::new(Self(observers.clone()))
    }
}

impl EventSink {
    pub(crate) fn new(line: &Arc<Line>) -> Self {
        Self(Arc::downgrade(line))
    }

    /// Counts the event, and tells it to the cache's observers. Whether the cache is still there; a sink of one that is gone can be
    /// dropped.
    pub fn tell(&self, event: &Event<'_>) -> bool {
        let line = self.0.upgrade();
        if let Some(line) = &line {
            line.0.emit(*event);
        }
        line.is_some()
    }

    /// Whether both lead to the same cache.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self.0.upgrade(), other.0.upgrade()) {
            (Some(this), Some(that)) => Arc::ptr_eq(&this.0, &that.0),
            _ => false,
        }
    }
}

/// The caches that an adapter is in: for adapters with something to tell, which keep one.
///
/// Telling takes no lock. Clones of an adapter share one behind an `Arc`.
///
/// ```
/// use larder::{Event, EventKind, EventSinks};
///
/// let sinks = EventSinks::default(); // `AsyncCacheAdapter::subscribe` adds to it
/// if !sinks.is_empty() {
///     sinks.tell(&Event::new(EventKind::Evict, "my store").with_key("k"));
/// }
/// ```
#[derive(Debug, Default)]
pub struct EventSinks(ArcSwap<Vec<EventSink>>);

impl EventSinks {
    /// Adds a cache. One that is known is not told twice, and those that are gone are dropped.
    pub fn add(&self, sink: EventSink) {
        self.0.rcu(|known| {
            let others =
                known.iter().filter(|known| known.0.strong_count() > 0 && !known.is_same(&sink));
            others.cloned().chain([sink.clone()]).collect::<Vec<_>>()
        });
    }

    /// Whether there was never a cache to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.load().is_empty()
    }

    /// Tells every cache.
    pub fn tell(&self, event: &Event<'_>) {
        for sink in self.0.load().iter() {
            // Those that are gone go when the next is added: a cache that drops its adapter mostly drops this list, too.
            let _is_there = sink.tell(event);
        }
    }
}
