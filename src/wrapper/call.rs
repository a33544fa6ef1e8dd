//! Calls of the adapter: each runs inside a runtime and a span, is measured, and emits its error.

use super::events::CallInfo;
use super::slot::Slot;
use crate::error::Result;
use crate::event::EventKind;
use crate::key;
use crate::observe::Span;
use crate::wrapper::AsyncCacheWrapper;
use std::borrow::Cow;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

/// The adapter's answer to a call about one key.
pub(super) struct Answer<'a, R> {
    pub(super) slot: Arc<Slot>,
    pub(super) info: CallInfo<'a>,
    pub(super) answer: R,
}

impl AsyncCacheWrapper {
    /// Runs a call of the adapter inside a span.
    pub(super) async fn traced<R>(
        &self,
        slot: &Slot,
        info: CallInfo<'_>,
        call: Pin<&mut impl Future<Output = Result<R>>>,
    ) -> Result<R> {
        let backend = slot.adapter.backend();
        let span = Span::call(&slot.observers, backend, info.op, || self.scoped_key(info.key));
        let result = span.around(call).await;
        span.end(&result);
        result
    }

    /// Opens the span of a loader.
    pub(super) fn load_span(&self, slot: &Slot, key: &str) -> Span {
        Span::load(&slot.observers, slot.adapter.backend(), || self.scoped_key(key))
    }

    /// The key with the prefix of the namespace; `None` for a batch, which has no single key.
    fn scoped_key<'k>(&self, key: &'k str) -> Option<Cow<'k, str>> {
        self.scope.key(key).ok()
    }

    /// Runs a call of the adapter inside a runtime and a span, and measures it.
    pub(super) async fn call<R>(
        &self,
        slot: &Slot,
        info: CallInfo<'_>,
        call: Pin<&mut impl Future<Output = Result<R>>>,
    ) -> (Result<R>, Option<Duration>) {
        slot.timed(pin!(slot.inside(pin!(self.traced(slot, info, call))))).await
    }

    /// Begins a call about one key: takes the slot, and adds the prefix of the namespace.
    fn begin<'k>(
        &self,
        op: &'static str,
        key: &'k str,
    ) -> Result<(Arc<Slot>, Cow<'k, str>, CallInfo<'k>)> {
        let checked = self.options.check_tags().and_then(|()| self.scope.key(key));
        let scoped = checked.map_err(|error| error.with_op(op).with_key(key))?;
        Ok((self.core.slot()?, scoped, CallInfo::new(op, key)))
    }

    /// Begins a call about several keys, or all: takes the slot.
    pub(super) fn begin_batch(&self, op: &'static str) -> Result<Arc<Slot>> {
        self.options.check_tags().map_err(|error| error.with_op(op))?;
        self.core.slot()
    }

    /// One call of the adapter about one key, which changes no value.
    ///
    /// Boxed, because each future around a call contains the call's state, and a program wraps a
    /// call in many futures.
    pub(super) fn ask<'a, R>(
        &self,
        op: &'static str,
        key: &'a str,
        call: impl AsyncFnOnce(&Slot, &str) -> Result<R>,
    ) -> impl Future<Output = Result<Answer<'a, R>>> {
        Box::pin(self.ask_unboxed(op, key, call))
    }

    /// [`ask`](Self::ask) for a caller that is in a box already.
    pub(super) async fn ask_unboxed<'a, R>(
        &self,
        op: &'static str,
        key: &'a str,
        call: impl AsyncFnOnce(&Slot, &str) -> Result<R>,
    ) -> Result<Answer<'a, R>> {
        let (slot, scoped, info) = self.begin(op, key)?;
        let answer = self.call(&slot, info, pin!(call(&slot, &scoped))).await;
        self.answer(slot, info, answer)
    }

    /// One call of the adapter that changes the value of a key.
    ///
    /// The write mark spans the whole call: a load of the key that began before the call ended may
    /// have read the old value, and must not store its result afterwards.
    ///
    /// Boxed, as [`ask`](Self::ask).
    pub(super) fn write<'a, R>(
        &self,
        op: &'static str,
        key: &'a str,
        call: impl AsyncFnOnce(&Slot, &str) -> Result<R>,
    ) -> impl Future<Output = Result<Answer<'a, R>>> {
        Box::pin(async move {
            key::check_write(key).map_err(|error| error.with_op(op))?;
            let (slot, scoped, info) = self.begin(op, key)?;
            let answer = {
                let mut call = pin!(call(&slot, &scoped));
                let write = pin!(async {
                    let _write = slot.flights.write(&scoped).await;
                    Ok(slot.timed(pin!(self.traced(&slot, info, call.as_mut()))).await)
                });
                slot.inside(write).await?
            };
            self.answer(slot, info, answer)
        })
    }

    fn answer<'a, R>(
        &self,
        slot: Arc<Slot>,
        info: CallInfo<'a>,
        (answer, took): (Result<R>, Option<Duration>),
    ) -> Result<Answer<'a, R>> {
        let info = info.took(took);
        match answer {
            Ok(answer) => Ok(Answer { slot, info, answer }),
            Err(error) => Err(self.failed(&slot, info, error)),
        }
    }

    /// Emits an event if the answer shows that its cause happened, and returns the answer.
    pub(super) fn emit_if<R>(
        &self,
        happened: impl FnOnce(&R) -> bool,
        kind: EventKind,
        answer: Answer<'_, R>,
    ) -> R {
        if happened(&answer.answer) {
            self.emit(&answer.slot, kind, answer.info);
        }
        answer.answer
    }
}
