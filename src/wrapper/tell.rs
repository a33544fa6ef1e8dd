//! Calls of the adapter, and what is told of them: every event of the wrapper's goes through here.

use super::fault::concerns_backend;
use super::hit::Hit;
use super::ready_or_boxed::ready_or_boxed;
use super::slot::Slot;
use crate::event::{Event, EventKind};
use crate::observe::Span;
use crate::options::{Options, Verdict};
use crate::single_flight::Flight;
use crate::{AsyncCacheWrapper, CacheValue, Error, Result};
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// What a call knows of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct About<'a> {
    op: &'static str,
    /// As the caller named it.
    key: &'a str,
    took: Option<Duration>,
    error: Option<&'a Error>,
}

impl<'a> About<'a> {
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

/// What the adapter said to a call about one key.
pub(super) struct Answer<'a, R> {
    pub(super) slot: Arc<Slot>,
    pub(super) about: About<'a>,
    pub(super) answer: R,
}

impl AsyncCacheWrapper {
    // ---- telling

    /// Counts an event and, if anybody listens, tells of it.
    #[inline]
    pub(super) fn tell(&self, slot: &Slot, kind: EventKind, about: About<'_>) {
        slot.observers.counters.add(kind, 1);
        if slot.observers.is_heard() {
            self.tell_aloud(slot, kind, about);
        }
    }

    #[cold]
    fn tell_aloud(&self, slot: &Slot, kind: EventKind, About { op, key, took, error }: About<'_>) {
        // A key that is none was refused before anything could happen; the empty one is a clear's.
        let scoped = self.scope.key(key).unwrap_or(self.scope.prefix().into());
        slot.observers.announce(
            Event::new(kind, slot.adapter.backend())
                .with_op(op)
                .with_key(&scoped)
                .with_took(took)
                .with_error(error),
        );
    }

    /// Tells of what an answer shows to have happened, if it did.
    pub(super) fn tell_if<R>(
        &self,
        happened: impl FnOnce(&R) -> bool,
        kind: EventKind,
        answer: Answer<'_, R>,
    ) -> R {
        if happened(&answer.answer) {
            self.tell(&answer.slot, kind, answer.about);
        }
        answer.answer
    }

    /// The error as the caller gets it. What is the backend's fault is told.
    pub(super) fn failed(&self, slot: &Slot, about: About<'_>, error: Error) -> Error {
        let error = slot.blame(about.op)(error).with_key(about.key);
        if concerns_backend(&error) {
            self.tell(slot, EventKind::BackendError, about.error(&error));
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
        let error = slot.blame(op)(error);
        if concerns_backend(&error) {
            slot.observers.tell(
                Event::new(EventKind::BackendError, slot.adapter.backend())
                    .with_op(op)
                    .with_took(took)
                    .with_error(&error),
            );
        }
        error
    }

    /// Tells how a load went, if nobody has yet.
    pub(super) fn tell_load(
        &self,
        slot: &Slot,
        flight: &Flight,
        kind: EventKind,
        about: About<'_>,
    ) {
        if flight.is_untold() {
            self.tell(slot, kind, about);
        }
    }

    // ---- reading

    /// A `get`.
    #[inline]
    pub(super) fn read<T>(
        &self,
        key: impl AsRef<str>,
        allow_stale: bool,
    ) -> impl Future<Output = Result<Option<T>>>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        ready_or_boxed(
            key,
            move |key| self.read_now(key.as_ref(), allow_stale),
            move |key| Box::pin(async move { self.read_later(key.as_ref(), allow_stale).await }),
        )
    }

    /// The answer of a `get` that need not wait; `Pending` if it would have to.
    #[inline]
    pub(crate) fn read_now<T>(&self, key: &str, allow_stale: bool) -> Poll<Result<Option<T>>>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        let scoped = self.scope.key(key)?;
        let mut lent = Hit::Nothing;
        let looked = self.core.look(|slot| {
            if slot.observers.is_heard() {
                return ControlFlow::Break(self.read_aloud(
                    slot,
                    &scoped,
                    About::new("get", key),
                    allow_stale,
                ));
            }
            let answer = slot.adapter.get_if_ready(&scoped, &mut |value| lent.take(value, false));
            if lent.is_object() {
                // Nearly every hit in memory: the value is of the type asked for.
                slot.observers.counters.add(EventKind::Hit, 1);
                return ControlFlow::Continue(());
            }
            let answer = answer.map_ok(|()| lent.value());
            ControlFlow::Break(self.read_fully(slot, About::new("get", key), answer, allow_stale))
        });
        match looked {
            Some(ControlFlow::Continue(())) => Poll::Ready(Ok(lent.into_object())),
            Some(ControlFlow::Break(answer)) => answer,
            None => Poll::Pending,
        }
    }

    /// The same where somebody listens, who is told how long it took.
    #[cold]
    fn read_aloud<T>(
        &self,
        slot: &Slot,
        scoped: &str,
        about: About<'_>,
        allow_stale: bool,
    ) -> Poll<Result<Option<T>>>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        let (begun, mut found) = (Instant::now(), None);
        let answer = slot.adapter.get_if_ready(scoped, &mut |value| found = Some(value.clone()));
        self.read_fully(
            slot,
            about.took(Some(begun.elapsed())),
            answer.map_ok(|()| found),
            allow_stale,
        )
    }

    /// Out of the way of the hits, so that these stay short.
    #[inline(never)]
    fn read_fully<T>(
        &self,
        slot: &Slot,
        about: About<'_>,
        found: Poll<Result<Option<CacheValue>>>,
        allow_stale: bool,
    ) -> Poll<Result<Option<T>>>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        found.map(|found| {
            found
                .map_err(|error| self.failed(slot, about, error))
                .and_then(|found| self.conclude(slot, about, found, allow_stale))
        })
    }

    /// [`read_now`](Self::read_now) for a call that goes on if nothing is found, or nothing that will do: then nothing is told. A
    /// draw for an early refresh is noted, for a call draws once.
    #[inline]
    pub(super) fn hit_now<T>(
        &self,
        op: &'static str,
        key: &str,
        options: &Options,
        drawn: &mut Option<bool>,
    ) -> Option<T>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        let scoped = self.scope.key(key).ok()?;
        let (mut lent, mut decoded) = (Hit::Nothing, None);
        self.core.look(|slot| {
            let begun = slot.observers.clock();
            let merged;
            let options = match slot.options_of_url() {
                // Nearly always: then they are not copied.
                None => options,
                Some(of_url) => {
                    merged = options.or(of_url);
                    &merged
                }
            };
            // An error is met again, and told of, where the call goes on.
            let _answer = slot
                .adapter
                .get_if_ready(&scoped, &mut |value| lent.take(value, options.looks_at_hits()));
            if let Hit::Value(value) = &lent {
                let serves = !value.is_stale()
                    && (!options.looks_at_hits()
                        || options.judge(value.meta(), drawn) == Verdict::Serve);
                decoded = if serves { value.decode().ok() } else { None };
            }
            if lent.is_object() || decoded.is_some() {
                self.tell(
                    slot,
                    EventKind::Hit,
                    About::new(op, key).took(begun.map(|begun| begun.elapsed())),
                );
            }
        });
        lent.into_object().or(decoded)
    }

    pub(super) async fn read_later<T>(&self, key: &str, allow_stale: bool) -> Result<Option<T>>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        let found = self.ask("get", key, async |slot, key| slot.adapter.get(key).await).await?;
        self.conclude(&found.slot, found.about, found.answer, allow_stale)
    }

    /// What a read comes to, and what is told of it.
    #[inline]
    pub(super) fn conclude<T>(
        &self,
        slot: &Slot,
        about: About<'_>,
        found: Option<CacheValue>,
        allow_stale: bool,
    ) -> Result<Option<T>>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        let mut kind = EventKind::Hit;
        let value = match found {
            Some(value) if value.is_stale() => {
                kind = EventKind::StaleHit;
                if allow_stale || slot.allows_stale() {
                    self.decode(slot, about, &value)?
                } else {
                    None
                }
            }
            Some(value) => self.decode(slot, about, &value)?,
            None => None,
        };
        self.tell(slot, if value.is_some() { kind } else { EventKind::Miss }, about);
        Ok(value)
    }

    /// The value, unless its bytes cannot be read at all: that is a miss and an event.
    #[inline]
    pub(super) fn decode<T>(
        &self,
        slot: &Slot,
        about: About<'_>,
        value: &CacheValue,
    ) -> Result<Option<T>>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        if let Some(object) = value.object::<T>() {
            return Ok(Some(object.clone()));
        }
        let undecodable = |error: Error| {
            let error = slot.blame(about.op)(error).with_key(about.key);
            self.tell(slot, EventKind::DecodeError, about.error(&error));
            error
        };
        if let Some(error) = value.unreadable_reason() {
            undecodable(error);
            return Ok(None);
        }
        value.decode().map(Some).map_err(undecodable)
    }

    // ---- asking the adapter

    /// A call of the adapter inside a span.
    pub(super) async fn traced<R>(
        &self,
        slot: &Slot,
        about: About<'_>,
        call: Pin<&mut impl Future<Output = Result<R>>>,
    ) -> Result<R> {
        let span =
            Span::call(&slot.observers, slot.adapter.backend(), about.op, || self.named(about.key));
        let result = span.around(call).await;
        span.end(&result);
        result
    }

    /// A span for a loader.
    pub(super) fn load_span(&self, slot: &Slot, key: &str) -> Span {
        Span::load(&slot.observers, slot.adapter.backend(), || self.named(key))
    }

    /// A key as events name it; `None` is that of a batch.
    fn named<'k>(&self, key: &'k str) -> Option<Cow<'k, str>> {
        self.scope.key(key).ok()
    }

    /// A call of the adapter, as all are made: in a runtime, inside a span, and measured.
    pub(super) async fn call<R>(
        &self,
        slot: &Slot,
        about: About<'_>,
        call: Pin<&mut impl Future<Output = Result<R>>>,
    ) -> (Result<R>, Option<Duration>) {
        slot.timed(pin!(slot.inside(pin!(self.traced(slot, about, call))))).await
    }

    /// One call of the adapter, about one key.
    pub(super) async fn ask<'a, R>(
        &self,
        op: &'static str,
        key: &'a str,
        call: impl AsyncFnOnce(&Slot, &str) -> Result<R>,
    ) -> Result<Answer<'a, R>> {
        let scoped = self.scope.key(key).map_err(|error| error.with_op(op))?;
        let slot = self.core.slot()?;
        let about = About::new(op, key);
        let answer = self.call(&slot, about, pin!(call(&slot, &scoped))).await;
        self.answer(slot, about, answer)
    }

    /// [`ask`](Self::ask) for what changes the value: loads that are under way are not stored after it.
    pub(super) async fn write<'a, R>(
        &self,
        op: &'static str,
        key: &'a str,
        call: impl AsyncFnOnce(&Slot, &str) -> Result<R>,
    ) -> Result<Answer<'a, R>> {
        let scoped = self.scope.key(key).map_err(|error| error.with_op(op))?;
        let slot = self.core.slot()?;
        let about = About::new(op, key);
        let answer = {
            let mut call = pin!(call(&slot, &scoped));
            let write = pin!(async {
                let _write = slot.flights.write(&scoped).await;
                Ok(slot.timed(pin!(self.traced(&slot, about, call.as_mut()))).await)
            });
            slot.inside(write).await?
        };
        self.answer(slot, about, answer)
    }

    fn answer<'a, R>(
        &self,
        slot: Arc<Slot>,
        about: About<'a>,
        (answer, took): (Result<R>, Option<Duration>),
    ) -> Result<Answer<'a, R>> {
        let about = about.took(took);
        match answer {
            Ok(answer) => Ok(Answer { slot, about, answer }),
            Err(error) => Err(self.failed(&slot, about, error)),
        }
    }
}
