//! How an adapter emits events: through sinks, which pass them to the observers of the caches that
//! use the adapter.

use super::Observers;
use crate::event::Event;
use arc_swap::ArcSwap;
use std::sync::{Arc, Weak};

/// Passes the events of an adapter to the observers of one cache, see
/// [`AsyncCacheAdapter::subscribe`](crate::AsyncCacheAdapter::subscribe). It ends when the cache is
/// given another adapter.
#[derive(Clone, Debug)]
pub struct EventSink(Weak<Line>);

/// The connection behind a sink. The slot of the cache owns it, so the connection ends with the
/// slot.
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

    /// Counts the event, and notifies the observers of the cache. Returns whether the cache still
    /// uses the adapter; if not, the sink can be dropped.
    pub fn emit(&self, event: &Event<'_>) -> bool {
        let line = self.0.upgrade();
        if let Some(line) = &line {
            line.0.emit(*event);
        }
        line.is_some()
    }

    /// Whether both sinks belong to the same cache.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self.0.upgrade(), other.0.upgrade()) {
            (Some(this), Some(that)) => Arc::ptr_eq(&this.0, &that.0),
            _ => false,
        }
    }
}

/// The sinks of all caches that use an adapter. An adapter that emits events keeps one of these.
///
/// Emitting takes no lock. Clones of an adapter share one `EventSinks` behind an `Arc`.
///
/// ```
/// use larder::{Event, EventKind, EventSinks};
///
/// let sinks = EventSinks::default(); // `AsyncCacheAdapter::subscribe` adds to it
/// if !sinks.is_empty() {
///     sinks.emit(&Event::new(EventKind::Evict, "my store").with_key("k"));
/// }
/// ```
#[derive(Debug, Default)]
pub struct EventSinks(ArcSwap<Vec<EventSink>>);

impl EventSinks {
    /// Adds the sink of a cache, unless the cache has one already. Sinks that have ended are
    /// dropped.
    pub fn add(&self, sink: EventSink) {
        self.0.rcu(|known| {
            let others =
                known.iter().filter(|known| known.0.strong_count() > 0 && !known.is_same(&sink));
            others.cloned().chain([sink.clone()]).collect::<Vec<_>>()
        });
    }

    /// Whether no cache was ever added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.load().is_empty()
    }

    /// Emits the event to every cache.
    pub fn emit(&self, event: &Event<'_>) {
        for sink in self.0.load().iter() {
            // Sinks that have ended are dropped by the next `add`: a cache that drops its adapter
            // usually drops this list as well.
            let _is_there = sink.emit(event);
        }
    }
}
