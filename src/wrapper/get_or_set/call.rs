//! One call of `get_or_set*`: read, join a flight, then lead or follow.

use super::at_once::Begun;
use super::driver::Runs;
use super::found::{Found, Miss, Reserve, Usable};
use super::ready::Ready;
use super::rest::{Rest, StartRequest};
use super::task::LoadTask;
use super::waiting::Abandoned;
use crate::clock;
use crate::error::{Error, Result};
use crate::event::EventKind;
use crate::key;
use crate::observe::Span;
use crate::options::Verdict;
use crate::runtime;
use crate::single_flight::{
    Flight, Forced, HashedKey, Join, Joining, LeaderGuard, ReadMark, is_in_loader,
};
use crate::value::CacheValue;
use crate::wrapper::View;
use crate::wrapper::events::{CallInfo, concerns_backend};
use crate::wrapper::fencing::{Acquired, Replaced, StoreRight, lease_pause};
use crate::wrapper::slot::Slot;
use crate::wrapper::value_type::{Answer, ValueType};
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

pub(super) const OP: &str = "get_or_set";

/// How often a caller reads again because the key changed after its read mark.
pub(super) const READS: usize = 16;

/// The result of a step of a call: break with an answer, or continue and read again.
pub(super) type Step = ControlFlow<Result<Answer>>;

/// A call in progress.
pub(super) struct GetOrSet<'a> {
    pub(super) view: View<'a>,
    pub(super) slot: &'a Arc<Slot>,
    pub(super) key: &'a str,
    pub(super) scoped: HashedKey<'a>,
    pub(super) of: ValueType,
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

/// How a call goes on after its reads. Only the caller knows the loader's type.
pub(super) enum Next<'a> {
    Answer(Answer),
    /// Answer, and begin a load without waiting for it.
    Refresh(Answer, LoadTask),
    Lead(Led<'a>),
}

/// A load that the call leads.
pub(super) struct Led<'a> {
    pub(super) flight: Arc<Flight>,
    /// `None` if the loader has ended, and its value is being stored.
    pub(super) task: Option<LoadTask>,
    pub(super) miss: Miss<'a>,
}

impl<'a> View<'a> {
    /// The rest of a call that was not answered at once.
    pub(super) fn rest(
        &self,
        key: &str,
        of: ValueType,
        runs: Runs,
        drawn: Option<bool>,
        begun: Option<Box<Begun>>,
    ) -> Rest<'a> {
        let (view, key, start) = (*self, key.to_owned(), Arc::<StartRequest>::default());
        let request = start.clone();
        let answer = Box::pin(async move {
            let (slot, view) = view.opened(&key, runs, begun.as_deref())?;
            let scoped = view.cache.scope.key(&key).map_err(|error| error.with_op(OP))?;
            let mut call = GetOrSet::new(view, &slot, &key, &scoped, runs, of);
            call.drawn = drawn;
            let answer = pin!(async {
                let next = match begun {
                    Some(begun) => call.resume(*begun),
                    None => call.next().await?,
                };
                match next {
                    Next::Answer(answer) => Ok(answer),
                    // A load that the call carries would end with the call.
                    Next::Refresh(answer, _) if runs == Runs::InCaller => Ok(answer),
                    Next::Refresh(answer, task) => {
                        // Dropping the driver hands the load to a task.
                        drop(request.start(task).await);
                        Ok(answer)
                    }
                    Next::Lead(Led { flight, task, miss }) => {
                        // The wait begins before the load.
                        let landing = Box::pin(flight.landing());
                        let driven = match task {
                            Some(task) => request.start(task).await,
                            None => None,
                        };
                        call.finish(driven, &flight, landing, miss).await
                    }
                }
            });
            slot.inside(answer).await
        });
        Rest { answer, start }
    }

    /// The slot of a call, and the view with the options of the adapter's URL.
    fn opened(self, key: &str, runs: Runs, begun: Option<&Begun>) -> Result<(Arc<Slot>, Self)> {
        let slot = match begun {
            Some(begun) => begun.slot.clone(),
            None => self.cache.core.slot()?,
        };
        let view = Self { options: slot.options(&self.options), ..self };
        let refused = |error: Error| error.with_op(OP).with_key(key);
        key::check_write(key).map_err(refused)?;
        view.options.check().map_err(refused)?;
        if runs == Runs::InCaller {
            view.options.check_here().map_err(refused)?;
        }
        Ok((slot, view))
    }

    /// Whether the options ask for loads that go on without their callers.
    pub(super) fn outlives_callers(&self) -> bool {
        let options = self.cache.core.look(|slot| slot.options(&self.options));
        options.unwrap_or(self.options).check_here().is_err()
    }
}

impl<'a> GetOrSet<'a> {
    /// `view` has the options of the adapter's URL, too.
    pub(super) fn new(
        view: View<'a>,
        slot: &'a Arc<Slot>,
        key: &'a str,
        scoped: &'a str,
        runs: Runs,
        of: ValueType,
    ) -> Self {
        Self {
            view,
            slot,
            key,
            scoped: slot.flights.hashed(scoped),
            of,
            has_emitted: false,
            drawn: None,
            runs,
            replaced: Replaced::by(&view.options),
            forced: view.options.force_refresh.then(Forced::now),
            abandoned: Abandoned::default(),
        }
    }

    /// Goes on with a load that was begun before.
    fn resume(&mut self, Begun { flight, task, .. }: Begun) -> Next<'a> {
        self.has_emitted = true;
        let miss = Miss { info: CallInfo::new(OP, self.key), usable: None };
        Next::Lead(Led { flight, task, miss })
    }

    /// Reads, and waits for the flights of other callers, until there is an answer or the call
    /// leads a load.
    async fn next(&mut self) -> Result<Next<'a>> {
        let flights = &self.slot.flights;
        let mut reads = 0;
        loop {
            reads += 1;
            let mark = flights.read_mark(self.scoped);
            let (found, info) = self.read().await?;
            let (mark, skip_store, usable) = match found {
                Found::Value(value) => {
                    self.emit_once(EventKind::Hit, info);
                    return Ok(Next::Answer(value));
                }
                Found::Due(value) => {
                    self.emit_once(EventKind::Hit, info);
                    // Errors are ignored: the caller has its value.
                    let task = match self.make_tags() {
                        Ok(()) => self.refresh(mark).await,
                        Err(_) => None,
                    };
                    return Ok(match task {
                        Some(task) => Next::Refresh(value, task),
                        None => Next::Answer(value),
                    });
                }
                Found::Usable(usable) => (Some(mark), false, Some(usable)),
                Found::Nothing => (Some(mark), false, None),
                // Do not read again: a second read of a backend that is down would cost a second
                // deadline.
                Found::Unknown(usable) => (None, true, usable),
            };
            self.make_tags()?;
            let mut miss = Miss { info, usable };
            if miss.usable.is_some() && flights.is_throttled(self.scoped) {
                return self.serve(miss).map(Next::Answer);
            }
            let ready = match self.acquire(&mut miss, skip_store).await {
                ControlFlow::Continue(ready) => ready,
                ControlFlow::Break(answer) => return answer.map(Next::Answer),
            };
            let joining = self.joining(mark, reads == READS);
            let (joined, ready) = self.join(joining, ready).await;
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
                    return Ok(self.led(self.lead(guard, ready, miss.reserve()), miss));
                }
                Join::Follow(flight) => self.follow(&flight, &mut miss).await,
                Join::LetEnd(flight, limit) => self.let_end(&flight, limit, &mut miss).await,
            };
            reads = 0;
            match step {
                Some(ControlFlow::Break(answer)) => return answer.map(Next::Answer),
                Some(ControlFlow::Continue(())) => {}
                None => return self.unshared(miss),
            }
        }
    }

    /// Makes the tags of the call, which a hit does not need.
    fn make_tags(&mut self) -> Result<()> {
        #[cfg(feature = "macros")]
        self.view.make_call_tags();
        self.view.options.check_tags().map_err(|error| error.with_op(OP).with_key(self.key))
    }

    fn led(&self, task: LoadTask, miss: Miss<'a>) -> Next<'a> {
        Next::Lead(Led { flight: task.flight().clone(), task: Some(task), miss })
    }

    /// How the call joins a flight.
    pub(super) fn joining<'m>(&self, mark: Option<ReadMark<'m>>, insists: bool) -> Joining<'m> {
        Joining { mark, insists, forced: self.forced, is_carried: self.runs == Runs::InCaller }
    }

    /// Leads a load for this caller alone, because waiting for the flight on the key would close a
    /// cycle.
    fn unshared(&self, miss: Miss<'a>) -> Result<Next<'a>> {
        let unshared = self.slot.flights.unshared(self.scoped);
        let unshared = unshared.map_err(|error| error.with_op(OP).with_key(self.key))?;
        // No claim and no store: the holder of a lease on the key may be waiting for this call.
        let task = self.lead(unshared, Ready::unstored(), Reserve::Nothing);
        Ok(self.led(task, Miss { usable: None, ..miss }))
    }

    async fn read(&mut self) -> Result<(Found, CallInfo<'a>)> {
        let (slot, info) = (self.slot, CallInfo::new(OP, self.key));
        let from = self.view.options.reads_from();
        let reading = pin!(slot.read(self.scoped.text(), from));
        let (found, took) = slot.timed(pin!(self.view.cache.traced(slot, info, reading))).await;
        let info = info.took(took);
        Ok((self.judge(found, info)?, info))
    }

    /// What the adapter's answer is to this call.
    pub(super) fn judge(
        &mut self,
        found: Result<Option<CacheValue>>,
        info: CallInfo<'a>,
    ) -> Result<Found> {
        let (slot, mut options) = (self.slot, self.view.options);
        let found = match found {
            Ok(None) => {
                self.replaced.seen = None;
                return Ok(Found::Nothing);
            }
            Ok(Some(found)) => options.read(found),
            Err(error) => {
                let error = self.view.cache.failed(slot, info, error.with_op("get"));
                if !options.fail_open || !concerns_backend(&error) {
                    return Err(error);
                }
                return Ok(Found::Unknown(self.unproven()));
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
        Ok(match self.of.answer(&found) {
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

    /// The value that a near level still has while the backend fails, as a stale one.
    pub(super) fn unproven(&self) -> Option<Usable> {
        let options = &self.view.options;
        let stale_for = options.keeps_for().filter(|_| !options.force_refresh)?;
        let found = self.slot.adapter.get_unproven(self.scoped.text(), stale_for)?;
        // A tag may have been removed meanwhile: an entry is served only if its records are proven.
        let is_current = matches!(self.slot.is_current_now(&found), Poll::Ready(Ok(true)));
        let found = options.read(found);
        let is_of_use = is_current
            && (!found.is_stale() || options.serves_stale(found.meta(), clock::now_ms()));
        let value = if is_of_use { self.of.answer(&found).ok()? } else { return None };
        Some(Usable { value, is_stale: true })
    }

    /// Emits one hit, stale hit or miss per call, however often the call reads.
    pub(super) fn emit_once(&mut self, kind: EventKind, info: CallInfo<'_>) {
        if !std::mem::replace(&mut self.has_emitted, true) {
            self.view.cache.emit(self.slot, kind, info);
        }
    }

    /// Answers with a value that another process has computed.
    pub(super) fn answer(&mut self, info: CallInfo<'_>, value: &CacheValue) -> Result<Answer> {
        self.emit_once(EventKind::Hit, info);
        self.of.answer(value)
    }

    /// Serves the value at hand.
    pub(super) fn serve(&mut self, miss: Miss<'_>) -> Result<Answer> {
        let usable = miss.usable.ok_or_else(|| self.late())?;
        self.emit_once(
            if usable.is_stale { EventKind::StaleHit } else { EventKind::Hit },
            miss.info,
        );
        Ok(usable.value)
    }

    /// Acquires what a closure needs before the call joins a flight. Breaks with an answer if the
    /// call need not, or must not, join a flight.
    async fn acquire(
        &mut self,
        miss: &mut Miss<'a>,
        skip_store: bool,
    ) -> ControlFlow<Result<Answer>, Ready> {
        if self.runs != Runs::AtOnce || skip_store {
            return ControlFlow::Continue(Ready { skip_store, ..Ready::default() });
        }
        let (begun, mut looks) = (Instant::now(), 0);
        loop {
            let end = match self.ready_at_once(begun).await {
                Ok(Some(Acquired::Granted(ready))) => return ControlFlow::Continue(ready),
                Ok(Some(Acquired::Computed(value))) => Some(self.answer(miss.info, &value)),
                Ok(None) => self.end_wait(miss, begun.elapsed()),
                Err(error) => Some(Err(error)),
            };
            if let Some(answer) = end {
                return ControlFlow::Break(answer);
            }
            let left = self.left(miss, begun.elapsed());
            runtime::background_sleep(lease_pause(looks).min(left)).await;
            looks += 1;
        }
    }

    /// What a closure needs before the call joins a flight; `None` while another process has the
    /// lease.
    async fn ready_at_once(&self, begun: Instant) -> Result<Option<Acquired<Ready>>> {
        let right = match self.right(begun).await? {
            None => return Ok(None),
            Some(Acquired::Computed(value)) => return Ok(Some(Acquired::Computed(value))),
            Some(Acquired::Granted(right)) => right,
        };
        let mut ready = Ready { right: Some(right), ..Ready::default() };
        let (cache, options) = (self.view.cache, &self.view.options);
        if !cache.tags.is_empty() {
            let tags = Box::pin(cache.tags_of_load(self.slot, self.key, options));
            ready.take_tags(tags.await.map_err(|error| error.with_op(OP))?);
        }
        Ok(Some(Acquired::Granted(ready)))
    }

    async fn right(&self, begun: Instant) -> Result<Option<Acquired>> {
        if self.view.options.lease_for().is_some() && self.is_loading_here() {
            return Ok(Some(Acquired::Granted(StoreRight::None)));
        }
        let (scoped, wanted) = (self.scoped.text(), (self.replaced, self.of));
        self.asking().ask_once(self.slot, self.key, scoped, wanted, begun).await
    }

    /// The view that asks whether the call may store. Without a lease, if a load that waits for this
    /// call holds the lease: each would wait for the other until the lease ends.
    pub(super) fn asking(&self) -> View<'a> {
        let mut view = self.view;
        if view.options.lease_for().is_some() && self.slot.flights.waits_for_caller(self.scoped) {
            view.options.without_lease();
        }
        view
    }

    /// Whether this process loads the key. The call waits for it there: that flight has the lease,
    /// and a loader that asks for its own key is found by the wait for the flight only. If the
    /// flight ends before it is joined, the call reads again. A forced refresh waits for it once.
    pub(super) fn is_loading_here(&self) -> bool {
        self.forced.is_none_or(|forced| !forced.has_waited)
            && self.slot.flights.has_flight(self.scoped)
    }

    /// Joins the flight on the key, or begins one.
    async fn join(&self, joining: Joining<'_>, mut ready: Ready) -> (Join, Ready) {
        let joined = self.slot.flights.join(self.scoped, joining);
        // Only a lease is given back: it keeps other processes waiting. A claim without a lease
        // blocks no other process, and the leader's store ends it.
        if !matches!(joined, Join::Lead(_))
            && let Some(right) = ready.right.take_if(|right| right.is_leased())
        {
            right.give_up(self.slot, self.scoped.text()).await;
        }
        (joined, ready)
    }

    pub(super) fn lead(&self, guard: LeaderGuard, ready: Ready, reserve: Reserve) -> LoadTask {
        let cache = self.view.cache;
        if !cache.tags.is_empty() {
            guard.flight().note_records(cache.tags.records(&cache.scope));
        }
        // The loads of a batch are one, with a span of its own.
        let span = if self.runs == Runs::InBatch {
            Span::none()
        } else {
            self.view.cache.load_span(self.slot, self.key)
        };
        LoadTask {
            cache: cache.clone(),
            slot: self.slot.clone(),
            guard,
            options: self.asking().options,
            of: self.of,
            span,
            reserve,
            is_nested: is_in_loader(),
            is_caller_driven: self.view.is_caller_driven,
            replaced: self.replaced,
            ready,
            started: None,
        }
    }

    /// Leads a load for which the call does not wait, and whose errors are ignored.
    async fn refresh(&self, mark: ReadMark<'_>) -> Option<LoadTask> {
        if self.slot.flights.is_throttled(self.scoped) {
            return None;
        }
        let ready = match self.runs {
            // Another process that was first, or has the lease, is not waited for.
            Runs::AtOnce => match self.ready_at_once(Instant::now()).await {
                Ok(Some(Acquired::Granted(ready))) => ready,
                _ => return None,
            },
            _ => Ready::default(),
        };
        let joining = Joining { mark: Some(mark), ..Joining::default() };
        match self.join(joining, ready).await {
            (Join::Lead(guard), ready) => Some(self.lead(guard, ready, Reserve::Usable)),
            // A refresh is in flight already.
            _ => None,
        }
    }
}
