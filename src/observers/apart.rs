//! Events that belong to no call.

use super::{EventSinks, is_observing};
use crate::error::Error;
use crate::event::{Event, EventKind};
use crate::runtime::{self, lock};
use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Mutex};

/// Emits events that come up while a connection opens or ends, on a thread apart from it: calls of
/// the cache wait for that connection, and so would an observer that uses the cache.
#[derive(Debug)]
pub(crate) struct EventsApart {
    sinks: Arc<EventSinks>,
    pending: Mutex<Pending>,
}

#[derive(Debug, Default)]
struct Pending {
    events: VecDeque<OwnedEvent>,
    /// A thread emits them, one after the other.
    is_emitting: bool,
}

/// An event that outlives what it is about.
#[derive(Debug)]
pub(crate) struct OwnedEvent {
    pub(crate) kind: EventKind,
    pub(crate) backend: Arc<str>,
    pub(crate) op: Option<&'static str>,
    pub(crate) error: Option<Error>,
}

impl EventsApart {
    pub(crate) fn new(sinks: Arc<EventSinks>) -> Arc<Self> {
        Arc::new(Self { sinks, pending: Mutex::default() })
    }

    #[cfg(feature = "memory")]
    pub(crate) fn sinks(&self) -> &EventSinks {
        &self.sinks
    }

    /// Emits an event, after those that were emitted before.
    pub(crate) fn emit(self: &Arc<Self>, event: OwnedEvent) {
        // An event that an observer causes is only counted. A thread that is ending starts no task,
        // and a cache that is used there answers at once.
        if is_observing() || runtime::is_gone() {
            return self.pass(&event);
        }
        let is_emitting = {
            let mut pending = lock(&self.pending);
            pending.events.push_back(event);
            mem::replace(&mut pending.is_emitting, true)
        };
        if !is_emitting {
            let this = self.clone();
            // From a task of the background runtime, whose blocking threads outlive every caller.
            runtime::spawn_background(async move {
                runtime::spawn_blocking(move || this.emit_pending());
            });
        }
    }

    fn emit_pending(&self) {
        while let Some(event) = self.next() {
            self.pass(&event);
        }
    }

    fn next(&self) -> Option<OwnedEvent> {
        let mut pending = lock(&self.pending);
        let next = pending.events.pop_front();
        pending.is_emitting = next.is_some();
        next
    }

    fn pass(&self, OwnedEvent { kind, backend, op, error }: &OwnedEvent) {
        let event = Event { op: *op, ..Event::new(*kind, backend) };
        self.sinks.emit(&event.with_error(error.as_ref()));
    }
}
