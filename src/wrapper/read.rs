//! The read path: a hit that needs no wait, a read that waits, and the events of both.

use super::events::CallInfo;
use super::hit::Hit;
use super::ready_or_boxed::ready_or_boxed;
use super::slot::Slot;
use crate::error::{Error, Result};
use crate::event::EventKind;
use crate::options::{Options, Verdict};
use crate::value::CacheValue;
use crate::wrapper::AsyncCacheWrapper;
use serde::de::DeserializeOwned;
use std::borrow::Borrow;
use std::future::Future;
use std::sync::Arc;
use std::task::Poll;

/// How far a look at the slot has come.
enum Looked<T> {
    /// The object was found and counted.
    Object,
    Answered(Poll<Result<Option<T>>>),
    /// There are observers, or options that concern hits.
    Inspect,
}

/// What a call that goes on after a miss finds at once.
pub(super) enum AtHand<T> {
    /// A value to serve.
    Hit(T),
    /// Nothing.
    Missing,
    /// The call has to wait, or to inspect what was found.
    Other,
}

impl AsyncCacheWrapper {
    /// A `get` of one key. A cache lends its options, so that its hits copy none.
    #[inline]
    pub(super) fn read<T>(
        &self,
        key: impl AsRef<str>,
        options: impl Borrow<Options>,
    ) -> impl Future<Output = Result<Option<T>>>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        ready_or_boxed(
            (key, options),
            move |(key, options)| self.read_now(key.as_ref(), (*options).borrow()),
            move |(key, options)| {
                Box::pin(async move { self.read_later(key.as_ref(), options.borrow()).await })
            },
        )
    }

    /// Answers a `get` that need not wait; `Pending` if the adapter has to be awaited.
    #[inline]
    pub(crate) fn read_now<T>(&self, key: &str, options: &Options) -> Poll<Result<Option<T>>>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        let scoped = self.scope.key(key)?;
        let mut hit = Hit::Nothing;
        let looked = self.core.look(|slot| {
            if slot.observers.has_observers() || options.inspects_reads() || slot.inspects_reads() {
                return Looked::Inspect;
            }
            let answer = slot.adapter.get_if_ready(&scoped, &mut |value| hit.take(value, false));
            if hit.is_object() {
                // Nearly every hit in memory: the value is of the type asked for.
                slot.observers.counters.add(EventKind::Hit, 1);
                return Looked::Object;
            }
            let answer = slot.current_now(answer.map_ok(|()| hit.take_value()));
            Looked::Answered(self.read_fully(slot, CallInfo::new("get", key), answer, options))
        });
        match looked {
            Some(Looked::Object) => Poll::Ready(Ok(hit.into_object())),
            Some(Looked::Answered(answer)) => answer,
            Some(Looked::Inspect) => self.read_inspected(&scoped, key, options),
            None => Poll::Pending,
        }
    }

    /// [`read_now`](Self::read_now) with observers, who are given the time that the read took, or
    /// with options that concern hits.
    #[cold]
    fn read_inspected<T>(
        &self,
        scoped: &str,
        key: &str,
        options: &Options,
    ) -> Poll<Result<Option<T>>>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        let slot = self.core.slot()?;
        if slot.options(options).skip_near {
            return Poll::Pending;
        }
        let (begun, mut found) = (slot.observers.clock(), None);
        let answer = slot.adapter.get_if_ready(scoped, &mut |value| found = Some(value.clone()));
        let info = CallInfo::new("get", key).took(begun.map(|begun| begun.elapsed()));
        let answer = slot.current_now(answer.map_ok(|()| found));
        let Poll::Ready(answer) = answer else { return Poll::Pending };
        Poll::Ready(match answer {
            Ok(found) => self.conclude(&slot, info, found, options),
            Err(error) => Err(self.failed(&slot, info, error)),
        })
    }

    /// Kept out of line, so that the code of a plain hit stays short.
    #[inline(never)]
    fn read_fully<T>(
        &self,
        slot: &Slot,
        info: CallInfo<'_>,
        found: Poll<Result<Option<CacheValue>>>,
        options: &Options,
    ) -> Poll<Result<Option<T>>>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        found.map(|found| {
            found
                .map_err(|error| self.failed(slot, info, error))
                .and_then(|found| self.value_of(slot, info, found, options.allow_stale))
        })
    }

    /// [`read_now`](Self::read_now) for a call that goes on after a miss, or after a hit that the
    /// call cannot serve. Such a miss or hit emits no event here. `drawn` keeps the random draw for
    /// an early refresh, because a call draws once.
    #[inline]
    pub(super) fn hit_now<T>(
        &self,
        op: &'static str,
        key: &str,
        options: &Options,
        drawn: &mut Option<bool>,
    ) -> AtHand<T>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        let Ok(scoped) = self.scope.key(key) else { return AtHand::Other };
        let (mut hit, mut decoded, mut merged) = (Hit::Nothing, None, None);
        let mut is_missing = false;
        self.core.look(|slot| {
            let begun = slot.observers.clock();
            let options = match slot.options_of_url() {
                // The common case, in which the options need not be copied.
                None => options,
                Some(of_url) => merged.insert(options.or(of_url)),
            };
            if options.skip_near {
                return;
            }
            // An error is ignored: the call goes on, meets the error again, and emits it there.
            let answer = slot
                .adapter
                .get_if_ready(&scoped, &mut |value| hit.take(value, options.inspects_hits()));
            is_missing = matches!((&answer, &hit), (Poll::Ready(Ok(())), Hit::Nothing));
            if let Hit::Value(value) = &hit {
                let serves = !value.is_stale()
                    && matches!(slot.is_current_now(value), Poll::Ready(Ok(true)))
                    && (!options.inspects_hits()
                        || options.judge(value.meta(), drawn) == Verdict::Serve);
                decoded =
                    if serves { options.read(value.clone()).decode_once().ok() } else { None };
            }
            if hit.is_object() || decoded.is_some() {
                self.emit(
                    slot,
                    EventKind::Hit,
                    CallInfo::new(op, key).took(begun.map(|begun| begun.elapsed())),
                );
            }
        });
        let options = merged.as_ref().unwrap_or(options);
        if options.renews_hits()
            && let (Hit::Value(value), Some(_), Ok(slot)) = (&hit, &decoded, self.core.slot())
        {
            self.renew(&slot, key, value, options);
        }
        match hit.into_object().or(decoded) {
            Some(value) => AtHand::Hit(value),
            None if is_missing => AtHand::Missing,
            None => AtHand::Other,
        }
    }

    async fn read_later<T>(&self, key: &str, options: &Options) -> Result<Option<T>>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        let read =
            async |slot: &Slot, key: &str| slot.read(key, slot.options(options).reads_from()).await;
        let found = self.ask_unboxed("get", key, read).await?;
        self.conclude(&found.slot, found.info, found.answer, options)
    }

    /// Turns what was found into the result of a read, emits a hit, stale hit or miss, and does with
    /// a hit what the options say.
    pub(super) fn conclude<T>(
        &self,
        slot: &Arc<Slot>,
        info: CallInfo<'_>,
        found: Option<CacheValue>,
        said: &Options,
    ) -> Result<Option<T>>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        let options = slot
            .options_of_read(said)
            .map_err(|error| slot.with_context(info.op)(error).with_key(info.key))?;
        let Some(options) = options else {
            return self.value_of(slot, info, found, said.allow_stale);
        };
        let found = found.map(|found| options.read(found));
        let value = self.value_of(slot, info, found.clone(), said.allow_stale)?;
        if let (Some(_), Some(hit)) = (&value, found)
            && !hit.is_stale()
        {
            self.renew(slot, info.key, &hit, &options);
        }
        Ok(value)
    }

    /// The value that a read returns, and its event.
    #[inline]
    fn value_of<T>(
        &self,
        slot: &Slot,
        info: CallInfo<'_>,
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
                    self.decode(slot, info, &value)?
                } else {
                    None
                }
            }
            Some(value) => self.decode(slot, info, &value)?,
            None => None,
        };
        self.emit(slot, if value.is_some() { kind } else { EventKind::Miss }, info);
        Ok(value)
    }

    /// Decodes the value. Bytes that cannot be read at all are a miss, and emit a `DecodeError`.
    #[inline]
    pub(super) fn decode<T>(
        &self,
        slot: &Slot,
        info: CallInfo<'_>,
        value: &CacheValue,
    ) -> Result<Option<T>>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        if let Some(object) = value.object::<T>() {
            return Ok(Some(object.clone()));
        }
        let undecodable = |error: Error| {
            let error = slot.with_context(info.op)(error).with_key(info.key);
            self.emit(slot, EventKind::DecodeError, info.error(&error));
            error
        };
        if let Some(error) = value.unreadable_reason() {
            undecodable(error);
            return Ok(None);
        }
        value.decode_once().map(Some).map_err(undecodable)
    }
}
