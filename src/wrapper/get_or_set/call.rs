//! One call of `get_or_set*`: read, join a flight, then lead or follow.

use super::driver::Runs;
use super::found::{Found, Miss, Usable};
use super::task::LoadTask;
use super::waiting::{Abandoned, Wait};
use crate::error::{Error, ErrorKind, Result};
use crate::event::EventKind;
use crate::options::Verdict;
use crate::single_flight::{
    Arrival, Flight, Forced, Join, Joining, LeaderGuard, Outcome, ReadMark, is_in_loader,
};
use crate::value::CacheValue;
use crate::wrapper::events::{CallInfo, concerns_backend};
use crate::wrapper::fencing::{Acquired, Replaced, StoreRight};
use crate::wrapper::ready_or_boxed::ready_or_boxed;
use crate::wrapper::slot::Slot;
use crate::wrapper::{Cacheable, View};
use crate::{clock, runtime};
use futures_util::future::join;
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

const OP: &str = "get_or_set";

/// How often a caller reads again because the key changed after its read mark.
const READS: usize = 16;

/// The result of a step of a call: break with an answer, or continue and read again.
type Step<T> = ControlFlow<Result<T>>;

/// A call in progress.
struct GetOrSet<'a> {
    view: View<'a>,
    slot: &'a Arc<Slot>,
    key: &'a str,
    scoped: &'a str,
    /// Whether the hit or miss was emitted: one per call.
    has_emitted: bool,
    /// The random draw for an early refresh: one per call.
    drawn: Option<bool>,
    runs: Runs,
    replaced: Replaced,
    /// Set for a call that accepts only a load that begins after it.
    forced: Option<Forced>,
    abandoned: Abandoned,
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
    fn joining<'m>(&self, mark: Option<ReadMark<'m>>, insists: bool) -> Joining<'m> {
        Joining { mark, insists, forced: self.forced, is_carried: self.runs == Runs::InCaller }
    }

    /// Waits for the flight of another caller; `None` if that flight waits for this call.
    async fn follow<T: Cacheable>(
        &mut self,
        flight: &Arc<Flight>,
        miss: &mut Miss<'a, T>,
    ) -> Option<Step<T>> {
        // A value that has not expired is served without waiting for a newer one.
        if miss.usable.as_ref().is_some_and(|usable| !usable.is_stale) {
            return Some(ControlFlow::Break(self.serve(miss.take())));
        }
        self.view.cache.emit(self.slot, EventKind::Joined, CallInfo::new(OP, self.key));
        let outcome = match self.wait(miss, Box::pin(flight.arrival())).await {
            Wait::Over(Arrival::Finished(outcome)) => outcome,
            Wait::Over(Arrival::Lost) => {
                self.slot.flights.give_up(flight);
                self.abandoned.add(flight);
                return Some(ControlFlow::Continue(()));
            }
            Wait::Over(Arrival::Cycle) if miss.usable.is_none() => return None,
            Wait::Over(Arrival::Cycle) | Wait::Soft => {
                return Some(ControlFlow::Break(self.serve(miss.take())));
            }
            Wait::Hard => Outcome::Failed(self.out_of_time(miss.usable.is_some())),
        };
        // The leader refused to load without the backend, but this caller has fail-open: load
        // again.
        if matches!(outcome, Outcome::Refused(_)) && self.view.options.fail_open {
            return Some(ControlFlow::Continue(()));
        }
        let value = match self.value_of(outcome) {
            Ok(value) => value,
            Err(_) if miss.usable.is_some() => {
                return Some(ControlFlow::Break(self.serve(miss.take())));
            }
            Err(error) => return Some(ControlFlow::Break(Err(error))),
        };
        // A value that was loaded as another type is loaded again, which also replaces the entry.
        let Ok(value) = value.decode() else { return Some(ControlFlow::Continue(())) };
        self.emit_once(EventKind::Miss, miss.info);
        Some(ControlFlow::Break(Ok(value)))
    }

    /// Waits for the end of a flight that began too early to answer this call; `None` if that
    /// flight waits for this call.
    async fn let_end<T>(
        &mut self,
        flight: &Arc<Flight>,
        limit: Option<Duration>,
        miss: &mut Miss<'a, T>,
    ) -> Option<Step<T>> {
        let arrival = async {
            match limit {
                Some(limit) => runtime::background_timeout(limit, flight.arrival()).await,
                None => Some(flight.arrival().await),
            }
        };
        let end = Box::pin(async { arrival.await.unwrap_or(Arrival::Lost) });
        match self.wait(miss, end).await {
            Wait::Over(Arrival::Cycle) => return None,
            Wait::Over(Arrival::Lost) if limit.is_none() => self.slot.flights.give_up(flight),
            Wait::Over(_) => {}
            Wait::Soft => return Some(ControlFlow::Break(self.serve(miss.take()))),
            Wait::Hard => {
                let late = self.out_of_time(miss.usable.is_some());
                return Some(ControlFlow::Break(Err(late)));
            }
        }
        if let Some(forced) = &mut self.forced {
            forced.has_waited = true;
        }
        Some(ControlFlow::Continue(()))
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

    /// The outcome of a flight as this caller's options see it.
    fn value_of(&self, outcome: Outcome) -> Result<CacheValue> {
        match outcome {
            Outcome::Loaded { not_stored: Some(error), .. } if !self.view.options.fail_open => {
                Err(error)
            }
            Outcome::Loaded { value, .. } => Ok(value),
            Outcome::Failed(error) | Outcome::Refused(error) => Err(error),
        }
    }

    async fn read<T: Cacheable>(&mut self) -> Result<(Found<T>, CallInfo<'a>)> {
        let (slot, mut options) = (self.slot, self.view.options);
        let info = CallInfo::new(OP, self.key);
        let (found, took) = slot
            .timed(pin!(self.view.cache.traced(slot, info, pin!(slot.adapter.get(self.scoped)))))
            .await;
        let info = info.took(took);
        let value = match found {
            Ok(None) => {
                self.replaced.seen = None;
                return Ok((Found::Nothing, info));
            }
            Ok(Some(value)) => value,
            Err(error) => {
                let error = self.view.cache.failed(slot, info, error.with_op("get"));
                if !options.fail_open || !concerns_backend(&error) {
                    return Err(error);
                }
                return Ok((Found::Unknown, info));
            }
        };
        self.replaced.seen = Some(value.meta().created_ms());
        // A value that another process computed after a forced refresh began also answers the
        // refresh.
        options.force_refresh &=
            !self.forced.is_some_and(|forced| forced.has_waited && self.replaced.is_before(&value));
        let is_stale = value.is_stale();
        let verdict = if is_stale {
            Verdict::Recompute
        } else {
            options.judge(value.meta(), &mut self.drawn)
        };
        let is_of_use = !is_stale || options.serves_stale(value.meta(), clock::now_ms());
        if verdict == Verdict::Replace || options.force_refresh || !is_of_use {
            return Ok((Found::Nothing, info));
        }
        let found = match value.decode() {
            Ok(value) if verdict == Verdict::Refresh => Found::Due(value),
            Ok(value) if verdict == Verdict::Recompute => Found::Usable(Usable { value, is_stale }),
            Ok(value) => Found::Value(value),
            Err(error) => {
                let error = slot.with_context("get")(error).with_key(self.key);
                self.view.cache.emit(slot, EventKind::DecodeError, info.error(&error));
                Found::Nothing
            }
        };
        Ok((found, info))
    }

    /// Emits one hit, stale hit or miss per call, however often the call reads.
    fn emit_once(&mut self, kind: EventKind, info: CallInfo<'_>) {
        if !std::mem::replace(&mut self.has_emitted, true) {
            self.view.cache.emit(self.slot, kind, info);
        }
    }

    /// Answers with a value that another process has computed.
    fn answer<T: Cacheable>(&mut self, info: CallInfo<'_>, value: &CacheValue) -> Result<T> {
        self.emit_once(EventKind::Hit, info);
        value.decode()
    }

    /// Serves the value at hand.
    fn serve<T>(&mut self, miss: Miss<'_, T>) -> Result<T> {
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

    fn lead(
        &self,
        guard: LeaderGuard,
        right: Option<StoreRight>,
        skip_store: bool,
        has_usable: bool,
    ) -> LoadTask {
        let (cache, slot, key) = (self.view.cache.clone(), self.slot.clone(), self.key.to_owned());
        let span = cache.load_span(&slot, &key);
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

    /// Starts the load and waits for its outcome.
    async fn finish<T: Cacheable, D: Future<Output = ()>>(
        &mut self,
        task: LoadTask,
        spawn: &mut Option<impl FnOnce(&str, LoadTask) -> Option<D>>,
        miss: Miss<'a, T>,
    ) -> Result<T> {
        let flight = task.flight().clone();
        let landing = flight.landing();
        let driven = start(self.key, task, spawn);
        let arrival = Box::pin(async move {
            match driven {
                None => landing.await,
                Some(driven) => join(driven, landing).await.1,
            }
        });
        let failed =
            |kind, words| Error::new(kind).with_op(OP).with_key(self.key).with_message(words);
        let value = match self.wait(&miss, arrival).await {
            Wait::Over(Arrival::Finished(outcome)) => self.value_of(outcome),
            // The load goes on, but a thread that is ending cannot wait for it.
            Wait::Over(Arrival::Lost) if runtime::is_gone() => {
                Err(runtime::gone().with_op(OP).with_key(self.key))
            }
            Wait::Over(_) => {
                Err(failed(ErrorKind::Load, "the loader's task went away before it was done"))
            }
            Wait::Soft => return self.serve(miss),
            Wait::Hard => {
                let late = self.out_of_time(miss.usable.is_some());
                let info = miss.info.error(&late);
                self.view.cache.emit_load(self.slot, &flight, EventKind::LoadError, info);
                Err(late)
            }
        };
        match value.and_then(|value| value.decode()) {
            Ok(value) => {
                self.emit_once(EventKind::Miss, miss.info);
                Ok(value)
            }
            Err(_) if miss.usable.is_some() => self.serve(miss),
            Err(error) => Err(error),
        }
    }

    /// Waits for a flight within the time limits of the caller.
    async fn wait<T>(
        &self,
        miss: &Miss<'_, T>,
        arrival: Pin<Box<impl Future<Output = Arrival>>>,
    ) -> Wait {
        let soft = self.view.options.soft_limit().filter(|_| miss.usable.is_some());
        Wait::within(soft, self.view.options.hard_limit(), self.abandoned.or_first(arrival)).await
    }

    /// Ends the wait with a timeout. If a stale value can be served, also starts the cooldown of
    /// the loader, so that the next callers do not wait again.
    fn out_of_time(&self, has_usable: bool) -> Error {
        if has_usable {
            self.slot.flights.throttle(self.scoped, self.view.options.throttle_for());
        }
        self.late()
    }

    fn late(&self) -> Error {
        Error::new(ErrorKind::Timeout)
            .with_op(OP)
            .with_key(self.key)
            .with_message("the loader took longer than its caller would wait")
    }
}

/// A loader is used once. Without one the task is dropped, and its flight is lost.
fn start<D>(
    key: &str,
    task: LoadTask,
    spawn: &mut Option<impl FnOnce(&str, LoadTask) -> Option<D>>,
) -> Option<D> {
    spawn.take().and_then(|spawn| spawn(key, task))
}
