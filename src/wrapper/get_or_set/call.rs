//! One call of `get_or_set*`: read, join a flight, then lead or follow.

use super::driver::Runs;
use super::found::{Found, Miss, Usable};
use super::task::LoadTask;
use super::waiting::Abandoned;
use crate::clock;
use crate::error::{Error, Result};
use crate::event::EventKind;
use crate::observe::Span;
use crate::options::Verdict;
use crate::single_flight::{Forced, Join, Joining, LeaderGuard, ReadMark, is_in_loader};
use crate::value::CacheValue;
use crate::wrapper::events::{CallInfo, concerns_backend};
use crate::wrapper::fencing::{Acquired, Replaced, StoreRight};
use crate::wrapper::ready_or_boxed::ready_or_boxed;
use crate::wrapper::slot::Slot;
use crate::wrapper::{Cacheable, View};
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

pub(super) const OP: &str = "get_or_set";

/// How often a caller reads again because the key changed after its read mark.
pub(super) const READS: usize = 16;

/// The result of a step of a call: break with an answer, or continue and read again.
pub(super) type Step<T> = ControlFlow<Result<T>>;

/// A call in progress.
pub(super) struct GetOrSet<'a> {
    pub(super) view: View<'a>,
    pub(super) slot: &'a Arc<Slot>,
    pub(super) key: &'a str,
    pub(super) scoped: &'a str,
    /// Whether the hit or miss was emitted: one per call.
    pub(super) has_emitted: bool,
    /// The random draw for an early refresh: one per call.
    pub(super) drawn: Option<bool>,
    pub(super) runs: Runs,
    pub(super) replaced: Replaced,
    /// Set for a call that accepts only a load that begins after it.
    pub(super) forced: Option<Forced>,
    pub(super) abandoned: Abandoned,
}

impl View<'_> {
    /// `start` and the loader in it are stored once and then borrowed. An argument of an `async fn`
    /// is stored twice in its future; each level of nesting would double the size, and nested
    /// loaders would overflow the stack.
    pub(super) fn load_with<T: Cacheable, D: Future<Output = ()>>(
        self,
        key: impl AsRef<str>,
        runs: Runs,
        start: impl FnOnce(&str, LoadTask) -> Option<D>,
    ) -> impl Future<Output = Result<T>> {
        ready_or_boxed(
            (self, key, start, None),
            move |(view, key, _, drawn)| {
                // A call that is refused is refused on a hit, too.
                if runs == Runs::InCaller && view.outlives_callers() {
                    return Poll::Pending;
                }
                match view.cache.hit_now(OP, key.as_ref(), &view.options, drawn) {
                    Some(value) => Poll::Ready(Ok(value)),
                    None => Poll::Pending,
                }
            },
            move |(view, key, start, drawn)| {
                let mut start = Some(start);
                Box::pin(async move {
                    let key = key.as_ref();
                    let slot = view.cache.core.slot()?;
                    let scoped = view.cache.scope.key(key).map_err(|error| error.with_op(OP))?;
                    let view = View { options: slot.options(&view.options), ..view };
                    let refused = |error: Error| error.with_op(OP).with_key(key);
                    view.options.check().map_err(refused)?;
                    if runs == Runs::InCaller {
                        view.options.check_here().map_err(refused)?;
                    }
                    let call = GetOrSet {
                        view,
                        slot: &slot,
                        key,
                        scoped: &scoped,
                        has_emitted: false,
                        drawn,
                        runs,
                        replaced: Replaced::by(&view.options),
                        forced: view.options.force_refresh.then(Forced::now),
                        abandoned: Abandoned::default(),
                    };
                    slot.inside(pin!(call.load(&mut start))).await
                })
            },
        )
    }
}

impl View<'_> {
    /// Whether the options ask for loads that go on without their callers.
    fn outlives_callers(&self) -> bool {
        let options = self.cache.core.look(|slot| slot.options(&self.options));
        options.unwrap_or(self.options).check_here().is_err()
    }
}

impl<'a> GetOrSet<'a> {
    async fn load<T: Cacheable, D: Future<Output = ()>>(
        mut self,
        spawn: &mut Option<impl FnOnce(&str, LoadTask) -> Option<D>>,
    ) -> Result<T> {
        let flights = &self.slot.flights;
        let mut reads = 0;
        loop {
            reads += 1;
            let mark = flights.read_mark(self.scoped);
            let (found, info) = self.read().await?;
            let (mark, skip_store, usable) = match found {
                Found::Value(value) => {
                    self.emit_once(EventKind::Hit, info);
                    return Ok(value);
                }
                Found::Due(value) => {
                    self.emit_once(EventKind::Hit, info);
                    self.refresh::<T, D>(mark, spawn).await;
                    return Ok(value);
                }
                Found::Usable(usable) => (Some(mark), false, Some(usable)),
                Found::Nothing => (Some(mark), false, None),
                // Do not read again: a second read of a backend that is down would cost a second
                // deadline.
                Found::Unknown => (None, true, None),
            };
            let mut miss = Miss { info, usable };
            if miss.usable.is_some() && flights.is_throttled(self.scoped) {
                return self.serve(miss);
            }
            let joining = self.joining(mark, reads == READS);
            let (joined, right) = match self.join::<T>(joining, skip_store).await? {
                ControlFlow::Continue(joined) => joined,
                ControlFlow::Break(value) => return self.answer(info, &value),
            };
            if !matches!(joined, Join::ReadAgain) && miss.usable.is_none() {
                self.emit_once(EventKind::Miss, info);
            }
            let step = match joined {
                Join::ReadAgain => {
                    // A value that was stored just now needs no early refresh.
                    self.drawn = Some(false);
                    continue;
                }
                Join::Lead(guard) => {
                    let task = self.lead(guard, right, skip_store, miss.usable.is_some());
                    return self.finish(task, spawn, miss).await;
                }
                Join::Follow(flight) => self.follow(&flight, &mut miss).await,
                Join::LetEnd(flight, limit) => self.let_end(&flight, limit, &mut miss).await,
            };
            reads = 0;
            match step {
                Some(ControlFlow::Break(answer)) => return answer,
                Some(ControlFlow::Continue(())) => {}
                None => return self.run_unshared(spawn, miss).await,
            }
        }
    }

    /// How the call joins a flight.
    pub(super) fn joining<'m>(&self, mark: Option<ReadMark<'m>>, insists: bool) -> Joining<'m> {
        Joining { mark, insists, forced: self.forced, is_carried: self.runs == Runs::InCaller }
    }

    /// Runs the loader for this caller alone, because waiting for the flight on the key would close
    /// a cycle.
    async fn run_unshared<T: Cacheable, D: Future<Output = ()>>(
        mut self,
        spawn: &mut Option<impl FnOnce(&str, LoadTask) -> Option<D>>,
        miss: Miss<'a, T>,
    ) -> Result<T> {
        let unshared = self.slot.flights.unshared(self.scoped);
        let unshared = unshared.map_err(|error| error.with_op(OP).with_key(self.key))?;
        // No claim and no store: the holder of a lease on the key may be waiting for this call.
        let task = self.lead(unshared, None, true, false);
        self.finish(task, spawn, Miss { usable: None, ..miss }).await
    }

    async fn read<T: Cacheable>(&mut self) -> Result<(Found<T>, CallInfo<'a>)> {
        let (slot, info) = (self.slot, CallInfo::new(OP, self.key));
        let (found, took) = slot
            .timed(pin!(self.view.cache.traced(slot, info, pin!(slot.adapter.get(self.scoped)))))
            .await;
        let info = info.took(took);
        Ok((self.judge(found, info)?, info))
    }

    /// What the adapter's answer is to this call.
    pub(super) fn judge<T: Cacheable>(
        &mut self,
        found: Result<Option<CacheValue>>,
        info: CallInfo<'a>,
    ) -> Result<Found<T>> {
        let (slot, mut options) = (self.slot, self.view.options);
        let found = match found {
            Ok(None) => {
                self.replaced.seen = None;
                return Ok(Found::Nothing);
            }
            Ok(Some(found)) => found,
            Err(error) => {
                let error = self.view.cache.failed(slot, info, error.with_op("get"));
                if !options.fail_open || !concerns_backend(&error) {
                    return Err(error);
                }
                return Ok(Found::Unknown);
            }
        };
        self.replaced.seen = Some(found.meta().created_ms());
        // A value that another process computed after a forced refresh began also answers the
        // refresh.
        options.force_refresh &=
            !self.forced.is_some_and(|forced| forced.has_waited && self.replaced.is_before(&found));
        let is_stale = found.is_stale();
        let verdict = if is_stale {
            Verdict::Recompute
        } else {
            options.judge(found.meta(), &mut self.drawn)
        };
        let is_of_use = !is_stale || options.serves_stale(found.meta(), clock::now_ms());
        if verdict == Verdict::Replace || options.force_refresh || !is_of_use {
            return Ok(Found::Nothing);
        }
        Ok(match found.decode() {
            Ok(value) if verdict == Verdict::Recompute => Found::Usable(Usable { value, is_stale }),
            Ok(value) => {
                if options.renews_hits() {
                    self.view.cache.renew(slot, self.key, &found, &options);
                }
                if verdict == Verdict::Refresh { Found::Due(value) } else { Found::Value(value) }
            }
            Err(error) => {
                let error = slot.with_context("get")(error).with_key(self.key);
                self.view.cache.emit(slot, EventKind::DecodeError, info.error(&error));
                Found::Nothing
            }
        })
    }

    /// Emits one hit, stale hit or miss per call, however often the call reads.
    pub(super) fn emit_once(&mut self, kind: EventKind, info: CallInfo<'_>) {
        if !std::mem::replace(&mut self.has_emitted, true) {
            self.view.cache.emit(self.slot, kind, info);
        }
    }

    /// Answers with a value that another process has computed.
    pub(super) fn answer<T: Cacheable>(
        &mut self,
        info: CallInfo<'_>,
        value: &CacheValue,
    ) -> Result<T> {
        self.emit_once(EventKind::Hit, info);
        value.decode()
    }

    /// Serves the value at hand.
    pub(super) fn serve<T>(&mut self, miss: Miss<'_, T>) -> Result<T> {
        let usable = miss.usable.ok_or_else(|| self.late())?;
        self.emit_once(
            if usable.is_stale { EventKind::StaleHit } else { EventKind::Hit },
            miss.info,
        );
        Ok(usable.value)
    }

    /// Joins the flight on the key, or begins one. Breaks with the value if another process has
    /// computed it meanwhile.
    async fn join<T: Cacheable>(
        &self,
        joining: Joining<'_>,
        skip_store: bool,
    ) -> Result<ControlFlow<CacheValue, (Join, Option<StoreRight>)>> {
        let mut right = None;
        if self.runs == Runs::AtOnce && !skip_store {
            match self.view.ask::<T>(self.slot, self.key, self.scoped, self.replaced).await? {
                Acquired::Computed(value) => return Ok(ControlFlow::Break(value)),
                Acquired::Granted(granted) => right = Some(granted),
            }
        }
        let joined = self.slot.flights.join(self.scoped, joining);
        // Only a lease is given back: it keeps other processes waiting. A claim without a lease
        // blocks no other process, and the leader's store ends it.
        if !matches!(joined, Join::Lead(_))
            && let Some(right) = right.take_if(|right| right.is_leased())
        {
            right.give_up(self.slot, self.scoped).await;
        }
        Ok(ControlFlow::Continue((joined, right)))
    }

    pub(super) fn lead(
        &self,
        guard: LeaderGuard,
        right: Option<StoreRight>,
        skip_store: bool,
        has_usable: bool,
    ) -> LoadTask {
        let (cache, slot, key) = (self.view.cache.clone(), self.slot.clone(), self.key.to_owned());
        // The loads of a batch are one, with a span of its own.
        let span =
            if self.runs == Runs::InBatch { Span::none() } else { cache.load_span(&slot, &key) };
        LoadTask {
            cache,
            slot,
            guard,
            key,
            options: self.view.options,
            span,
            skip_store,
            has_usable,
            is_nested: is_in_loader(),
            is_caller_driven: self.view.is_caller_driven,
            replaced: self.replaced,
            right,
        }
    }

    /// Starts the loader without waiting for it. Errors are ignored: the caller has its value.
    async fn refresh<T: Cacheable, D: Future<Output = ()>>(
        &self,
        mark: ReadMark<'_>,
        spawn: &mut Option<impl FnOnce(&str, LoadTask) -> Option<D>>,
    ) {
        let flights = &self.slot.flights;
        if flights.is_throttled(self.scoped) {
            return;
        }
        let joining = Joining { mark: Some(mark), ..Joining::default() };
        // Otherwise another process was first, the backend is unavailable, or a refresh is in
        // flight already.
        if let Ok(ControlFlow::Continue((Join::Lead(guard), right))) =
            self.join::<T>(joining, false).await
        {
            // Dropping the driver hands the load to a task.
            drop(start(self.key, self.lead(guard, right, false, true), spawn));
        }
    }
}

/// A loader is used once. Without one the task is dropped, and its flight is lost.
pub(super) fn start<D>(
    key: &str,
    task: LoadTask,
    spawn: &mut Option<impl FnOnce(&str, LoadTask) -> Option<D>>,
) -> Option<D> {
    spawn.take().and_then(|spawn| spawn(key, task))
}
