//! `get_or_set*`: read, join, lead or follow.

use super::fault::{concerns_backend, words};
use super::fencing::{Asked, Right};
use super::ready_or_boxed::ready_or_boxed;
use super::slot::Slot;
use super::tell::About;
use super::{Cacheable, Loaded, View};
use crate::event::EventKind;
use crate::observe::Span;
use crate::options::{Options, Verdict};
use crate::single_flight::{Arrival, Flight, Join, Lease, Ticket};
use crate::{AsyncCacheWrapper, CacheValue, Error, ErrorKind, Result, clock, runtime};
use futures_util::FutureExt;
use std::any::Any;
use std::error::Error as StdError;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

const OP: &str = "get_or_set";

type Cause = Box<dyn StdError + Send + Sync>;

/// How often a caller reads again because its key changed meanwhile.
const READS: usize = 16;

/// One run of a loader: everything it needs to go on without its caller.
pub(super) struct Load {
    cache: AsyncCacheWrapper,
    slot: Arc<Slot>,
    lease: Lease,
    key: String,
    options: Options,
    span: Span,
    /// The backend could not be read, and what it holds may still be good.
    keep_stored: bool,
    /// There is something to serve if it fails.
    has_spare: bool,
    /// When the value was made that is to be replaced.
    seen: Option<u64>,
    /// `None` as long as it has not been asked for.
    right: Option<Right>,
}

/// When the right to store is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// Before the load begins: a closure runs in its caller, who may be parked while it waits, and nobody must wait for that.
    First,
    /// In the load's own task.
    Inside,
}

/// What the cache had to say.
enum Found<T> {
    Value(T),
    /// A value to serve, and one that is due for a refresh.
    Due(T),
    /// A value to serve if nothing better is to be had.
    Spare(Spare<T>),
    Nothing,
    /// The backend failed, and the call goes on without it.
    Unknown,
}

struct Spare<T> {
    value: T,
    is_stale: bool,
}

/// How a wait for a flight ended.
enum Wait {
    Over(Arrival),
    /// There is something to serve, and the caller does not want to wait longer for something better.
    Soft,
    Hard,
}

/// A wait for a flight. Boxed, or each future around it would hold it again, in a call that holds a loader already.
type Arriving<'a> = Pin<Box<dyn Future<Output = Arrival> + Send + 'a>>;

/// A call under way.
struct Call<'a> {
    view: View<'a>,
    slot: &'a Arc<Slot>,
    key: &'a str,
    scoped: &'a str,
    /// Whether it was told of already as a hit or a miss: one a call.
    told: bool,
    /// What was drawn for an early refresh: once a call.
    drawn: Option<bool>,
    ask: Ask,
    /// When the value was made that was read.
    seen: Option<u64>,
}

impl View<'_> {
    /// Holds `start`, and the loader in it, in one place: an `async fn` that hands it on would hold it twice, and its caller
    /// would hold that twice, so that a loader within a loader within a loader would overflow the stack.
    pub(super) fn get_or_load<T: Cacheable>(
        self,
        key: impl AsRef<str>,
        ask: Ask,
        start: impl FnOnce(&str, Load),
    ) -> impl Future<Output = Result<T>> {
        ready_or_boxed(
            (self, key, start, None),
            |(view, key, _, drawn)| match view.cache.hit_now(OP, key.as_ref(), &view.options, drawn)
            {
                Some(value) => Poll::Ready(Ok(value)),
                None => Poll::Pending,
            },
            move |(view, key, start, drawn)| {
                let mut start = Some(start);
                Box::pin(async move {
                    let key = key.as_ref();
                    let slot = view.cache.core.slot()?;
                    let scoped = view.cache.scope.key(key).map_err(|error| error.with_op(OP))?;
                    view.options.check().map_err(|error| error.with_op(OP).with_key(key))?;
                    let call = Call {
                        view,
                        slot: &slot,
                        key,
                        scoped: &scoped,
                        told: false,
                        drawn,
                        ask,
                        seen: None,
                    };
                    slot.inside(pin!(call.load(&mut start))).await
                })
            },
        )
    }
}

impl<'a> Call<'a> {
    async fn load<T: Cacheable>(
        mut self,
        start: &mut Option<impl FnOnce(&str, Load)>,
    ) -> Result<T> {
        let flights = &self.slot.flights;
        let mut reads = 0;
        loop {
            reads += 1;
            let ticket = flights.ticket(self.scoped);
            let (found, about) = self.read().await?;
            let (ticket, keep_stored, spare) = match found {
                Found::Value(value) => {
                    self.tell(EventKind::Hit, about);
                    return Ok(value);
                }
                Found::Due(value) => {
                    self.tell(EventKind::Hit, about);
                    self.refresh::<T>(ticket, start).await;
                    return Ok(value);
                }
                Found::Spare(spare) => (Some(ticket), false, Some(spare)),
                Found::Nothing => (Some(ticket), false, None),
                // Reading a backend that is down again would cost its deadline again.
                Found::Unknown => (None, true, None),
            };
            if spare.is_some() && flights.is_throttled(self.scoped) {
                return self.serve(spare, about);
            }
            let right = match self.ask_first::<T>(keep_stored).await? {
                Some(Asked::Computed(value)) => {
                    self.tell(EventKind::Hit, about);
                    return value.decode();
                }
                Some(Asked::Granted(right)) => Some(right),
                None => None,
            };
            let joined = flights.join(self.scoped, ticket, reads == READS);
            self.give_back(right.as_ref(), &joined).await;
            if matches!(joined, Join::ReadAgain) {
                // What is new needs no early refresh.
                self.drawn = Some(false);
                continue;
            }
            if spare.is_none() {
                self.tell(EventKind::Miss, about);
            }
            let flight = match joined {
                Join::ReadAgain => continue,
                Join::Lead(lease) => {
                    return self
                        .finish(
                            self.lead(lease, right, keep_stored, spare.is_some()),
                            start,
                            spare,
                            about,
                        )
                        .await;
                }
                // What is still good need not wait for what will be better.
                Join::Follow(_) if spare.as_ref().is_some_and(|spare| !spare.is_stale) => {
                    return self.serve(spare, about);
                }
                Join::Follow(flight) => flight,
            };
            self.view.cache.tell(self.slot, EventKind::Joined, About::new(OP, self.key));
            reads = 0;
            let landed = match self.wait(spare.is_some(), Box::pin(flight.arrival())).await {
                Wait::Over(Arrival::Landed(landed)) => landed,
                Wait::Over(Arrival::Lost) => {
                    flights.give_up(&flight);
                    continue;
                }
                Wait::Over(Arrival::Cycle) if spare.is_some() => return self.serve(spare, about),
                Wait::Over(Arrival::Cycle) => {
                    let detour = flights
                        .detour(self.scoped)
                        .map_err(|error| error.with_op(OP).with_key(self.key))?;
                    // It is not stored, and whoever leased the key may be waiting for it.
                    return self
                        .finish(self.lead(detour, None, true, false), start, None, about)
                        .await;
                }
                Wait::Soft => return self.serve(spare, about),
                Wait::Hard => Err(self.out_of_time(spare.is_some())),
            };
            match landed.map(|value| value.decode()) {
                Ok(Ok(value)) => {
                    self.tell(EventKind::Miss, about);
                    return Ok(value);
                }
                // It was loaded as another type; this caller's loader heals the entry.
                Ok(Err(_)) => flights.give_up(&flight),
                Err(_) if spare.is_some() => return self.serve(spare, about),
                Err(error) => return Err(error),
            }
        }
    }

    async fn read<T: Cacheable>(&mut self) -> Result<(Found<T>, About<'a>)> {
        let (slot, options) = (self.slot, &self.view.options);
        let about = About::new(OP, self.key);
        let (found, took) = slot
            .timed(pin!(self.view.cache.traced(slot, about, pin!(slot.adapter.get(self.scoped)))))
            .await;
        let about = about.took(took);
        let value = match found {
            Ok(None) => {
                self.seen = None;
                return Ok((Found::Nothing, about));
            }
            Ok(Some(value)) => value,
            Err(error) => {
                let error = self.view.cache.failed(slot, about, error.with_op("get"));
                if !options.fail_open || !concerns_backend(&error) {
                    return Err(error);
                }
                return Ok((Found::Unknown, about));
            }
        };
        self.seen = Some(value.meta().created_ms());
        let is_stale = slot.is_stale(&value);
        let verdict = if is_stale {
            Verdict::Recompute
        } else {
            options.judge(value.meta(), &mut self.drawn)
        };
        let is_of_use = !is_stale || options.serves_stale(value.meta(), clock::now_ms());
        if verdict == Verdict::Replace || options.force_refresh || !is_of_use {
            return Ok((Found::Nothing, about));
        }
        let found = match value.decode() {
            Ok(value) if verdict == Verdict::Refresh => Found::Due(value),
            Ok(value) if verdict == Verdict::Recompute => Found::Spare(Spare { value, is_stale }),
            Ok(value) => Found::Value(value),
            Err(error) => {
                let error = slot.blame("get")(error).with_key(self.key);
                self.view.cache.tell(slot, EventKind::DecodeError, about.error(&error));
                Found::Nothing
            }
        };
        Ok((found, about))
    }

    /// One hit, stale hit or miss a call, however often it reads.
    fn tell(&mut self, kind: EventKind, about: About<'_>) {
        if !std::mem::replace(&mut self.told, true) {
            self.view.cache.tell(self.slot, kind, about);
        }
    }

    /// Serves what there is.
    fn serve<T>(&mut self, spare: Option<Spare<T>>, about: About<'_>) -> Result<T> {
        let spare = spare.ok_or_else(|| self.late())?;
        self.tell(if spare.is_stale { EventKind::StaleHit } else { EventKind::Hit }, about);
        Ok(spare.value)
    }

    /// Asks for the right to store, where that has to be known before the loader begins.
    async fn ask_first<T: Cacheable>(&self, keep_stored: bool) -> Result<Option<Asked>> {
        if self.ask == Ask::Inside || keep_stored {
            return Ok(None);
        }
        self.view.ask::<T>(self.slot, self.key, self.scoped, self.seen).await.map(Some)
    }

    /// A claim without a lease is in nobody's way, and ends with the fill of the one who leads.
    async fn give_back(&self, right: Option<&Right>, joined: &Join) {
        if let Some(right) = right
            && right.is_leased()
            && !matches!(joined, Join::Lead(_))
        {
            right.give_up(self.slot, self.scoped).await;
        }
    }

    fn lead(&self, lease: Lease, right: Option<Right>, keep_stored: bool, has_spare: bool) -> Load {
        let (cache, slot, key) = (self.view.cache.clone(), self.slot.clone(), self.key.to_owned());
        let span = cache.load_span(&slot, &key);
        Load {
            cache,
            slot,
            lease,
            key,
            options: self.view.options,
            span,
            keep_stored,
            has_spare,
            seen: self.seen,
            right,
        }
    }

    /// Starts the loader, and does not wait for it. Whatever goes wrong, the caller has its value.
    async fn refresh<T: Cacheable>(
        &self,
        ticket: Ticket<'_>,
        start: &mut Option<impl FnOnce(&str, Load)>,
    ) {
        let flights = &self.slot.flights;
        if flights.is_throttled(self.scoped) {
            return;
        }
        let right = match self.ask_first::<T>(false).await {
            Ok(Some(Asked::Granted(right))) => Some(right),
            Ok(None) => None,
            // Another process was first, or the backend is away.
            Ok(Some(Asked::Computed(_))) | Err(_) => return,
        };
        let joined = flights.join(self.scoped, Some(ticket), false);
        self.give_back(right.as_ref(), &joined).await;
        if let Join::Lead(lease) = joined {
            take_off(self.key, self.lead(lease, right, false, true), start);
        }
    }

    /// Starts the load and waits for what it comes to.
    async fn finish<T: Cacheable>(
        &mut self,
        load: Load,
        start: &mut Option<impl FnOnce(&str, Load)>,
        spare: Option<Spare<T>>,
        about: About<'_>,
    ) -> Result<T> {
        let flight: Arc<Flight> = load.lease.flight().clone();
        let landing = Box::pin(flight.landing());
        take_off(self.key, load, start);
        let failed =
            |kind, words| Error::new(kind).with_op(OP).with_key(self.key).with_message(words);
        let result = match self.wait(spare.is_some(), landing).await {
            Wait::Over(Arrival::Landed(result)) => result,
            // It is loading, but nobody can wait for it here.
            Wait::Over(Arrival::Lost) if runtime::is_gone() => {
                Err(runtime::gone().with_op(OP).with_key(self.key))
            }
            Wait::Over(_) => {
                Err(failed(ErrorKind::Load, "the loader's task went away before it was done"))
            }
            Wait::Soft => return self.serve(spare, about),
            Wait::Hard => {
                let late = self.out_of_time(spare.is_some());
                self.view.cache.tell_load(
                    self.slot,
                    &flight,
                    EventKind::LoadError,
                    about.error(&late),
                );
                Err(late)
            }
        };
        match result.and_then(|value| value.decode()) {
            Ok(value) => {
                self.tell(EventKind::Miss, about);
                Ok(value)
            }
            Err(_) if spare.is_some() => self.serve(spare, about),
            Err(error) => Err(error),
        }
    }

    /// Waits for a flight, as long as the caller wants to.
    async fn wait(&self, has_spare: bool, arrival: Arriving<'_>) -> Wait {
        let soft = self.view.options.soft_limit().filter(|_| has_spare);
        let hard = self.view.options.hard_limit();
        let (limit, end) = match (soft, hard) {
            (None, None) => return Wait::Over(arrival.await),
            (Some(soft), hard) if hard.is_none_or(|hard| soft <= hard) => (soft, Wait::Soft),
            (_, hard) => (hard.unwrap_or_default(), Wait::Hard),
        };
        if limit.is_zero() {
            return end;
        }
        Box::pin(runtime::limit(limit, arrival)).await.map_or(end, Wait::Over)
    }

    /// Nobody waits any longer, and if there is something to serve, nobody is to wait again so soon.
    fn out_of_time(&self, has_spare: bool) -> Error {
        if has_spare {
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

/// Without a loader, which is used once only, the load is dropped and so lost.
fn take_off(key: &str, load: Load, start: &mut Option<impl FnOnce(&str, Load)>) {
    if let Some(start) = start.take() {
        start(key, load);
    }
}

impl Load {
    /// Runs a future as the loader. Goes on whatever becomes of the caller.
    pub(super) async fn run<T: Cacheable>(
        mut self,
        loader: impl Future<Output = Result<Loaded<T>, Cause>>,
    ) {
        match self.ask::<T>().await {
            Ok(Asked::Granted(right)) => self.right = Some(right),
            Ok(Asked::Computed(value)) => return self.lease.land(Ok(value)),
            Err(error) => return self.lease.land(Err(error)),
        }
        let started = Instant::now();
        let outcome =
            self.span.around(self.lease.carry(AssertUnwindSafe(loader).catch_unwind())).await;
        self.land(outcome, started.elapsed()).await;
    }

    async fn ask<T: Cacheable>(&self) -> Result<Asked> {
        // A flight that must not be stored asks for nothing, and waits for nobody.
        if self.keep_stored || self.lease.is_overtaken() {
            return Ok(Asked::Granted(Right::None));
        }
        let scoped = self.cache.scope.key(&self.key)?;
        View { cache: &self.cache, options: self.options }
            .ask::<T>(&self.slot, &self.key, &scoped, self.seen)
            .await
    }

    /// Lets other processes know that this one will not store anything.
    async fn give_up(&self) {
        if let (Some(right), Ok(scoped)) = (&self.right, self.cache.scope.key(&self.key)) {
            right.give_up(&self.slot, &scoped).await;
        }
    }

    /// Runs a closure as the loader, here and now; only a store that has to wait goes on in a task.
    pub(super) fn run_now<T: Cacheable>(self, loader: impl FnOnce() -> Loaded<T>) {
        let started = Instant::now();
        let outcome =
            self.span.within(|| self.lease.carry_now(|| catch_unwind(AssertUnwindSafe(loader))));
        let mut landing = Box::pin(self.land(outcome.map(Ok), started.elapsed()));
        if landing.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            runtime::spawn(landing);
        }
    }

    async fn land<T: Cacheable>(
        self,
        outcome: Result<Result<Loaded<T>, Cause>, Box<dyn Any + Send>>,
        cost: Duration,
    ) {
        let failed = |kind| Error::new(kind).with_op("get_or_set").with_key(&self.key);
        if !matches!(outcome, Ok(Ok(_))) {
            self.give_up().await;
        }
        let scoped = self.cache.scope.key(&self.key);
        self.slot.observers.counters.load_took(cost);
        let result = match outcome {
            Ok(Ok(fresh)) => {
                self.cache.tell_load(
                    &self.slot,
                    self.lease.flight(),
                    EventKind::Load,
                    self.about(cost),
                );
                if let Ok(scoped) = &scoped {
                    self.slot.flights.unthrottle(scoped);
                }
                self.store(fresh, cost).await
            }
            Ok(Err(cause)) => Err(self.fell(cost, failed(ErrorKind::Load).with_source(cause))),
            Err(panic) => {
                Err(self.fell(cost, failed(ErrorKind::Panic).with_source(words(&*panic))))
            }
        };
        if let (Err(_), Ok(scoped), true) = (&result, &scoped, self.has_spare) {
            self.slot.flights.throttle(scoped, self.options.throttle_for());
        }
        self.span.end(&result);
        self.lease.land(result);
    }

    /// The loader failed: that is told, unless its caller's limit was first.
    fn fell(&self, cost: Duration, error: Error) -> Error {
        self.cache.tell_load(
            &self.slot,
            self.lease.flight(),
            EventKind::LoadError,
            self.about(cost).error(&error),
        );
        error
    }

    /// Stores the value unless a write came in between, and gives it back.
    async fn store<T: Cacheable>(&self, fresh: Loaded<T>, cost: Duration) -> Result<CacheValue> {
        let scoped = self.cache.scope.key(&self.key)?;
        let (options, is_stored) = (fresh.options(self.options), fresh.is_stored);
        let term = options.term(self.slot.adapter.default_ttl(), cost);
        let is_kept = term.meta.is_kept();
        let value = CacheValue::known(fresh.value, term.meta);
        // What cannot be encoded cannot be stored either, and the store says so.
        let is_skipped = !is_stored || (options.skip_none && value.is_nil().unwrap_or(false));
        if is_skipped || self.keep_stored || !self.lease.begin_store() {
            self.give_up().await;
            return Ok(value);
        }
        if is_kept {
            self.slot.note_kept();
        }
        let adapter = &self.slot.adapter;
        let store = async {
            match &self.right {
                Some(right) => right.store(&self.slot, &scoped, value.clone(), term.kept).await,
                None => Ok(()),
            }
        };
        let (mut stored, took) = self
            .slot
            .timed(pin!(self.cache.traced(&self.slot, About::new(OP, &self.key), pin!(store))))
            .await;
        if self.lease.was_overtaken() {
            stored = stored.and(adapter.remove(&scoped).await.map(drop));
        }
        let Err(error) = stored else { return Ok(value) };
        let error = self.slot.blame("set")(error).with_key(&self.key);
        // Also what cannot be encoded: nobody would see that the loader runs each time.
        self.cache.tell(
            &self.slot,
            EventKind::BackendError,
            About::new(OP, &self.key).took(took).error(&error),
        );
        if self.options.fail_open && concerns_backend(&error) { Ok(value) } else { Err(error) }
    }

    fn about(&self, cost: Duration) -> About<'_> {
        About::new(OP, &self.key).took(Some(cost))
    }
}
