//! `get_or_set*`: read, join, lead or follow.

use super::claim::{Asked, Right};
use super::slot::Slot;
use super::tell::About;
use super::view::{Cacheable, View};
use crate::event::EventKind;
use crate::flight::{Arrival, Flight, Join, Lease};
use crate::observe::Span;
use crate::options::Options;
use crate::value::Meta;
use crate::{AsyncCacheWrapper, CacheValue, Error, ErrorKind, Result, runtime};
use futures_util::FutureExt;
use std::any::Any;
use std::error::Error as StdError;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant, SystemTime};

const OP: &str = "get_or_set";

type Cause = Box<dyn StdError + Send + Sync>;

/// How often a caller reads again because its key changed meanwhile.
const READS: usize = 16;

/// One run of a fallback: everything it needs to go on without its caller.
pub(super) struct Load {
    cache: AsyncCacheWrapper,
    slot: Arc<Slot>,
    lease: Lease,
    key: String,
    options: Options,
    span: Span,
    /// The backend could not be read, and what it holds may still be good.
    keep_stored: bool,
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
    Nothing,
    /// The backend failed, and the call goes on without it.
    Unknown,
}

impl View<'_> {
    /// Holds `start`, and the fallback in it, in one place: an `async fn` that hands it on would hold it twice, and its caller
    /// would hold that twice, so that a fallback within a fallback within a fallback would overflow the stack.
    pub(super) fn get_or_load<T: Cacheable>(
        self,
        key: impl AsRef<str>,
        ask: Ask,
        start: impl FnOnce(&str, Load),
    ) -> impl Future<Output = Result<T>> {
        let mut start = Some(start);
        async move {
            let key = key.as_ref();
            if let Some(value) = self.cache.hit_now(OP, key) {
                return Ok(value);
            }
            let slot = self.cache.core.slot()?;
            slot.inside(self.load(&slot, key, ask, &mut start)).await
        }
    }

    async fn load<T: Cacheable>(self, slot: &Arc<Slot>, key: &str, ask: Ask, start: &mut Option<impl FnOnce(&str, Load)>) -> Result<T> {
        let scoped = self.cache.scope.key(key).map_err(|error| error.with_op("get_or_set"))?;
        let (mut reads, mut told) = (0, false);
        loop {
            reads += 1;
            let ticket = slot.flights.ticket(&scoped);
            let (found, about) = self.read(slot, key, &scoped).await?;
            let (ticket, keep_stored) = match found {
                Found::Value(value) => {
                    if !told {
                        self.cache.tell(slot, EventKind::Hit, about);
                    }
                    return Ok(value);
                }
                Found::Nothing => (Some(ticket), false),
                // Reading a backend that is down again would cost its deadline again.
                Found::Unknown => (None, true),
            };
            let right = match ask {
                Ask::First if !keep_stored => match self.ask::<T>(slot, key, &scoped).await? {
                    Asked::Granted(right) => Some(right),
                    Asked::Computed(value) => {
                        self.cache.tell(slot, EventKind::Hit, about);
                        return value.decode();
                    }
                },
                _ => None,
            };
            let lead = |lease, right, keep_stored| self.lead(slot, lease, key, right, keep_stored);
            let joined = slot.flights.join(&scoped, ticket, reads == READS);
            // A claim without a lease is in nobody's way, and ends with the fill of the one who leads.
            if let Some(right) = &right
                && right.is_leased()
                && !matches!(joined, Join::Lead(_))
            {
                right.give_up(slot, &scoped).await;
            }
            if matches!(joined, Join::ReadAgain) {
                continue;
            }
            // One hit or one miss a call, however often it reads.
            if !std::mem::replace(&mut told, true) {
                self.cache.tell(slot, EventKind::Miss, about);
            }
            let flight = match joined {
                Join::ReadAgain => continue,
                Join::Follow(flight) => flight,
                Join::Lead(lease) => return finish(key, lead(lease, right, keep_stored), start).await,
            };
            self.cache.tell(slot, EventKind::Joined, About::new(OP, key));
            reads = 0;
            match flight.arrival().await {
                Arrival::Landed(Ok(value)) => match value.decode() {
                    Ok(value) => return Ok(value),
                    // It was loaded as another type; this caller's fallback heals the entry.
                    Err(_) => slot.flights.give_up(&flight),
                },
                Arrival::Landed(Err(error)) => return Err(error),
                Arrival::Lost => slot.flights.give_up(&flight),
                Arrival::Cycle => {
                    let detour = slot.flights.detour(&scoped).map_err(|error| error.with_op("get_or_set").with_key(key))?;
                    // It is not stored, and whoever leased the key may be waiting for it.
                    return finish(key, lead(detour, None, true), start).await;
                }
            }
        }
    }

    async fn read<'k, T: Cacheable>(&self, slot: &Slot, key: &'k str, scoped: &str) -> Result<(Found<T>, About<'k>)> {
        let (found, took) = slot.timed(self.cache.traced(slot, About::new(OP, key), slot.adapter.get(scoped))).await;
        let about = About::new(OP, key).took(took);
        let found = match found {
            Ok(None) => Found::Nothing,
            Ok(Some(value)) => match value.decode() {
                Ok(value) => Found::Value(value),
                Err(error) => {
                    let error = slot.blame("get")(error).with_key(key);
                    self.cache.tell(slot, EventKind::DecodeError, about.error(&error));
                    Found::Nothing
                }
            },
            Err(error) => {
                let error = self.cache.failed(slot, about, error.with_op("get"));
                if !self.options.fail_open || !concerns_backend(&error) {
                    return Err(error);
                }
                Found::Unknown
            }
        };
        Ok((found, about))
    }

    fn lead(&self, slot: &Arc<Slot>, lease: Lease, key: &str, right: Option<Right>, keep_stored: bool) -> Load {
        let span = self.cache.load_span(slot, key);
        Load { cache: self.cache.clone(), slot: slot.clone(), lease, key: key.to_owned(), options: self.options, span, keep_stored, right }
    }
}

/// Starts the load and waits for what it comes to.
async fn finish<T: Cacheable>(key: &str, load: Load, start: &mut Option<impl FnOnce(&str, Load)>) -> Result<T> {
    let flight: Arc<Flight> = load.lease.flight();
    let landing = flight.landing();
    take_off(key, load, start);
    match landing.await {
        Arrival::Landed(result) => result?.decode(),
        // It is loading, but nobody can wait for it here.
        Arrival::Lost if runtime::is_gone() => Err(runtime::gone().with_op("get_or_set").with_key(key)),
        Arrival::Lost | Arrival::Cycle => Err(Error::new(ErrorKind::Load)
            .with_op("get_or_set")
            .with_key(key)
            .with_message("the fallback's task went away before it was done")),
    }
}

/// Without a fallback, which is used once only, the load is dropped and so lost.
fn take_off(key: &str, load: Load, start: &mut Option<impl FnOnce(&str, Load)>) {
    if let Some(start) = start.take() {
        start(key, load);
    }
}

impl Load {
    /// Runs a future as the fallback. Goes on whatever becomes of the caller.
    pub(super) async fn run<T: Cacheable>(mut self, fallback: impl Future<Output = Result<T, Cause>>) {
        match self.ask::<T>().await {
            Ok(Asked::Granted(right)) => self.right = Some(right),
            Ok(Asked::Computed(value)) => return self.lease.land(Ok(value)),
            Err(error) => return self.lease.land(Err(error)),
        }
        let started = Instant::now();
        let outcome = self.span.around(self.lease.carry(AssertUnwindSafe(fallback).catch_unwind())).await;
        self.land(outcome, started.elapsed()).await;
    }

    async fn ask<T: Cacheable>(&self) -> Result<Asked> {
        // A flight that must not be stored asks for nothing, and waits for nobody.
        if self.keep_stored || self.lease.is_overtaken() {
            return Ok(Asked::Granted(Right::None));
        }
        let scoped = self.cache.scope.key(&self.key)?;
        View { cache: &self.cache, options: self.options }.ask::<T>(&self.slot, &self.key, &scoped).await
    }

    /// Runs a closure as the fallback, here and now; only a store that has to wait goes on in a task.
    pub(super) fn run_now<T: Cacheable>(self, fallback: impl FnOnce() -> T) {
        let started = Instant::now();
        let outcome = self.span.within(|| self.lease.carry_now(|| catch_unwind(AssertUnwindSafe(fallback))));
        let mut landing = Box::pin(self.land(outcome.map(Ok), started.elapsed()));
        if landing.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            runtime::spawn(landing);
        }
    }

    async fn land<T: Cacheable>(self, outcome: Result<Result<T, Cause>, Box<dyn Any + Send>>, cost: Duration) {
        let failed = |kind| Error::new(kind).with_op("get_or_set").with_key(&self.key);
        if !matches!(outcome, Ok(Ok(_))) {
            self.give_up().await;
        }
        let result = match outcome {
            Ok(Ok(value)) => {
                self.slot.observers.counters.load_took(cost);
                self.cache.tell(&self.slot, EventKind::Load, self.about(cost));
                self.store(CacheValue::known(value, Meta::loaded(cost))).await
            }
            Ok(Err(cause)) => Err(failed(ErrorKind::Load).with_source(cause)),
            Err(panic) => Err(failed(ErrorKind::Panic).with_source(words(&*panic))),
        };
        if let Err(error) = &result {
            self.slot.observers.counters.load_took(cost);
            self.cache.tell(&self.slot, EventKind::LoadError, self.about(cost).error(error));
        }
        self.span.end(&result);
        self.lease.land(result);
    }

    /// Stores the value unless a write came in between, and gives it back.
    async fn store(&self, value: CacheValue) -> Result<CacheValue> {
        let scoped = self.cache.scope.key(&self.key)?;
        if self.keep_stored || !self.lease.begin_store() {
            self.give_up().await;
            return Ok(value);
        }
        let adapter = &self.slot.adapter;
        let store = async {
            match &self.right {
                Some(right) => right.store(&self.slot, &scoped, value.clone(), self.options.expiry).await,
                None => Ok(()),
            }
        };
        let (mut stored, took) = self.slot.timed(self.cache.traced(&self.slot, About::new(OP, &self.key), store)).await;
        if self.lease.was_overtaken() {
            stored = stored.and(adapter.remove(&scoped).await.map(drop));
        }
        let Err(error) = stored else { return Ok(value) };
        let error = self.cache.failed(&self.slot, About::new(OP, &self.key).took(took), error.with_op("set"));
        if self.options.fail_open && concerns_backend(&error) { Ok(value) } else { Err(error) }
    }

    fn about(&self, cost: Duration) -> About<'_> {
        About::new(OP, &self.key).took(Some(cost))
    }
}

impl Load {
    /// Lets other processes know that this one will not store anything.
    async fn give_up(&self) {
        if let (Some(right), Ok(scoped)) = (&self.right, self.cache.scope.key(&self.key)) {
            right.give_up(&self.slot, &scoped).await;
        }
    }
}

impl Meta {
    fn loaded(cost: Duration) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self {
            created_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            expires_ms: 0,
            cost_us: u32::try_from(cost.as_micros()).unwrap_or(u32::MAX),
        }
    }
}

/// Whether a program can go on as if the key were missing.
pub(super) fn concerns_backend(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::TooLarge | ErrorKind::Backend)
}

/// What a panic said, where it said something.
fn words(panic: &(dyn Any + Send)) -> String {
    let words = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    words.unwrap_or("the fallback panicked").to_owned()
}
