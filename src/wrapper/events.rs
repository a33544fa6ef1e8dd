//! The events of the wrapper: each is counted, and passed to the observers if there are any.

use super::slot::Slot;
use crate::error::{Error, ErrorKind};
use crate::event::{Event, EventKind};
use crate::single_flight::Flight;
use crate::wrapper::AsyncCacheWrapper;
use std::time::Duration;

/// The facts about a call that its events contain.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallInfo<'a> {
    pub(super) op: &'static str,
    /// The key as the caller wrote it, without the prefix of the namespace.
    pub(super) key: &'a str,
    took: Option<Duration>,
    error: Option<&'a Error>,
}

impl<'a> CallInfo<'a> {
    pub(super) fn new(op: &'static str, key: &'a str) -> Self {
        Self { op, key, took: None, error: None }
    }

    pub(super) fn took(mut self, took: Option<Duration>) -> Self {
        self.took = took;
        self
    }

    pub(super) fn error(mut self, error: &'a Error) -> Self {
        self.error = Some(error);
        self
    }
}

impl AsyncCacheWrapper {
    /// Counts an event, and notifies the observers if there are any.
    #[inline]
    pub(super) fn emit(&self, slot: &Slot, kind: EventKind, info: CallInfo<'_>) {
        slot.observers.counters.add(kind, 1);
        if slot.observers.has_observers() {
            self.notify(slot, kind, info);
        }
    }

    #[cold]
    fn notify(
        &self,
        slot: &Slot,
        kind: EventKind,
        CallInfo { op, key, took, error }: CallInfo<'_>,
    ) {
        // An invalid key is refused before the first event; only a `clear` has an empty key.
        let scoped = self.scope.key(key).unwrap_or(self.scope.prefix().into());
        slot.observers.notify(
            Event::new(kind, slot.adapter.backend())
                .with_op(op)
                .with_key(&scoped)
                .with_took(took)
                .with_error(error),
        );
    }

    /// Adds the context of the call to an error of the adapter. Emits an event if the backend is
    /// the cause.
    pub(super) fn failed(&self, slot: &Slot, info: CallInfo<'_>, error: Error) -> Error {
        let error = slot.with_context(info.op)(error).with_key(info.key);
        if concerns_backend(&error) {
            self.emit(slot, EventKind::BackendError, info.error(&error));
        }
        error
    }

    /// [`failed`](Self::failed) for a call that is not about one key.
    pub(super) fn failed_whole(
        &self,
        slot: &Slot,
        op: &'static str,
        took: Option<Duration>,
        error: Error,
    ) -> Error {
        let error = slot.with_context(op)(error);
        if concerns_backend(&error) {
            slot.observers.emit(
                Event::new(EventKind::BackendError, slot.adapter.backend())
                    .with_op(op)
                    .with_took(took)
                    .with_error(&error),
            );
        }
        error
    }

    /// Emits the outcome of a load, once per flight: the loading task and a caller that gave up
    /// waiting may both try.
    pub(super) fn emit_load(
        &self,
        slot: &Slot,
        flight: &Flight,
        kind: EventKind,
        info: CallInfo<'_>,
    ) {
        if flight.claim_load_event() {
            self.emit(slot, kind, info);
        }
    }
}

/// Whether the backend does not do this at all, or not for this user.
pub(super) fn is_denied(error: &Error) -> bool {
    let is_answer = matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Backend);
    is_answer && !error.is_refused_write()
}

/// Whether the backend is the cause of the error. If so, a program can go on as if the key were
/// missing.
pub(super) fn concerns_backend(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::TooLarge | ErrorKind::Backend
    )
}
