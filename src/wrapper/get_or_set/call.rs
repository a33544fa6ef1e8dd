//! A call of `get_or_set*` under way: read, join, lead or follow.

use super::task::LoadTask;
use crate::event::EventKind;
use crate::options::Verdict;
use crate::single_flight::{Arrival, Flight, Join, LeaderGuard, ReadMark};
use crate::wrapper::fault::concerns_backend;
use crate::wrapper::fencing::{Acquired, StoreRight};
use crate::wrapper::ready_or_boxed::ready_or_boxed;
use crate::wrapper::slot::Slot;
use crate::wrapper::tell::About;
use crate::wrapper::{Cacheable, View};
use crate::{Error, ErrorKind, Result, clock, runtime};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

const OP: &str = "get_or_set";

/// How often a caller reads again because its key changed meanwhile.
const READS: usize = 16;

/// When the right to store is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClaimWhen {
    /// Before the load begins: a closure runs in its caller, who may be parked while it waits, and nobody must wait for that.
    BeforeJoin,
    /// In the load's own task.
    InTask,
}

/// What the cache had to say.
enum Found<T> {
    Value(T),
    /// A value to serve, and one that is due for a refresh.
    Due(T),
    /// A value to serve if nothing better is to be had.
    Usable(Usable<T>),
    Nothing,
    /// The backend failed, and the call goes on without it.
    Unknown,
}

struct Usable<T> {
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
struct GetOrSet<'a> {
    view: View<'a>,
    slot: &'a Arc<Slot>,
    key: &'a str,
    scoped: &'a str,
    /// Whether it was told of already as a hit or a miss: one a call.
    told: bool,
    /// What was drawn for an early refresh: once a call.
    drawn: Option<bool>,
    ask: ClaimWhen,
    /// When the value was made that was read.
    seen: Option<u64>,
}

impl View<'_> {
    /// Holds `start`, and the loader in it, in one place: an `async fn` that hands it on would hold it twice, and its caller
    /// would hold that twice, so that a loader within a loader within a loader would overflow the stack.
    pub(super) fn get_or_load<T: Cacheable>(
        self,
        key: impl AsRef<str>,
        ask: ClaimWhen,
        start: impl FnOnce(&str, LoadTask),
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
                    let view = View { options: slot.options(&view.options), ..view };
                    view.options.check().map_err(|error| error.with_op(OP).with_key(key))?;
                    let call = GetOrSet {
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

impl<'a> GetOrSet<'a> {
    async fn load<T: Cacheable>(
        mut self,
        spawn: &mut Option<impl FnOnce(&str, LoadTask)>,
    ) -> Result<T> {
        let flights = &self.slot.flights;
        let mut reads = 0;
        loop {
            reads += 1;
            let mark = flights.read_mark(self.scoped);
            let (found, about) = self.read().await?;
            let (mark, skip_store, usable) = match found {
                Found::Value(value) => {
                    self.tell(EventKind::Hit, about);
                    return Ok(value);
                }
                Found::Due(value) => {
                    self.tell(EventKind::Hit, about);
                    self.refresh::<T>(mark, spawn).await;
                    return Ok(value);
                }
                Found::Usable(usable) => (Some(mark), false, Some(usable)),
                Found::Nothing => (Some(mark), false, None),
                // Reading a backend that is down again would cost its deadline again.
                Found::Unknown => (None, true, None),
            };
            if usable.is_some() && flights.is_throttled(self.scoped) {
                return self.serve(usable, about);
            }
            let right = match self.ask_first::<T>(skip_store).await? {
                Some(Acquired::Computed(value)) => {
                    self.tell(EventKind::Hit, about);
                    return value.decode();
                }
                Some(Acquired::Granted(right)) => Some(right),
                None => None,
            };
            let joined = flights.join(self.scoped, mark, reads == READS);
            self.give_back(right.as_ref(), &joined).await;
            if matches!(joined, Join::ReadAgain) {
                // What is new needs no early refresh.
                self.drawn = Some(false);
                continue;
            }
            if usable.is_none() {
                self.tell(EventKind::Miss, about);
            }
            let flight = match joined {
                Join::ReadAgain => continue,
                Join::Lead(guard) => {
                    return self
                        .finish(
                            self.lead(guard, right, skip_store, usable.is_some()),
                            spawn,
                            usable,
                            about,
                        )
                        .await;
                }
                // What is still good need not wait for what will be better.
                Join::Follow(_) if usable.as_ref().is_some_and(|usable| !usable.is_stale) => {
                    return self.serve(usable, about);
                }
                Join::Follow(flight) => flight,
            };
            self.view.cache.tell(self.slot, EventKind::Joined, About::new(OP, self.key));
            reads = 0;
            let finished = match self.wait(usable.is_some(), Box::pin(flight.arrival())).await {
                Wait::Over(Arrival::Finished(finished)) => finished,
                Wait::Over(Arrival::Lost) => {
                    flights.give_up(&flight);
                    continue;
                }
                Wait::Over(Arrival::Cycle) if usable.is_some() => return self.serve(usable, about),
                Wait::Over(Arrival::Cycle) => {
                    let unshared = flights
                        .unshared(self.scoped)
                        .map_err(|error| error.with_op(OP).with_key(self.key))?;
                    // It is not stored, and whoever leased the key may be waiting for it.
                    return self
                        .finish(self.lead(unshared, None, true, false), spawn, None, about)
                        .await;
                }
                Wait::Soft => return self.serve(usable, about),
                Wait::Hard => Err(self.out_of_time(usable.is_some())),
            };
            match finished.map(|value| value.decode()) {
                Ok(Ok(value)) => {
                    self.tell(EventKind::Miss, about);
                    return Ok(value);
                }
                // It was loaded as another type; this caller's loader heals the entry.
                Ok(Err(_)) => flights.give_up(&flight),
                Err(_) if usable.is_some() => return self.serve(usable, about),
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
        let is_stale = value.is_stale();
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
            Ok(value) if verdict == Verdict::Recompute => Found::Usable(Usable { value, is_stale }),
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
    fn serve<T>(&mut self, usable: Option<Usable<T>>, about: About<'_>) -> Result<T> {
        let usable = usable.ok_or_else(|| self.late())?;
        self.tell(if usable.is_stale { EventKind::StaleHit } else { EventKind::Hit }, about);
        Ok(usable.value)
    }

    /// Asks for the right to store, where that has to be known before the loader begins.
    async fn ask_first<T: Cacheable>(&self, skip_store: bool) -> Result<Option<Acquired>> {
        if self.ask == ClaimWhen::InTask || skip_store {
            return Ok(None);
        }
        self.view.ask::<T>(self.slot, self.key, self.scoped, self.seen).await.map(Some)
    }

    /// A claim without a guard is in nobody's way, and ends with the fill of the one who leads.
    async fn give_back(&self, right: Option<&StoreRight>, joined: &Join) {
        if let Some(right) = right
            && right.is_leased()
            && !matches!(joined, Join::Lead(_))
        {
            right.give_up(self.slot, self.scoped).await;
        }
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
            seen: self.seen,
            right,
        }
    }

    /// Starts the loader, and does not wait for it. Whatever goes wrong, the caller has its value.
    async fn refresh<T: Cacheable>(
        &self,
        mark: ReadMark<'_>,
        spawn: &mut Option<impl FnOnce(&str, LoadTask)>,
    ) {
        let flights = &self.slot.flights;
        if flights.is_throttled(self.scoped) {
            return;
        }
        let right = match self.ask_first::<T>(false).await {
            Ok(Some(Acquired::Granted(right))) => Some(right),
            Ok(None) => None,
            // Another process was first, or the backend is away.
            Ok(Some(Acquired::Computed(_))) | Err(_) => return,
        };
        let joined = flights.join(self.scoped, Some(mark), false);
        self.give_back(right.as_ref(), &joined).await;
        if let Join::Lead(guard) = joined {
            start(self.key, self.lead(guard, right, false, true), spawn);
        }
    }

    /// Starts the load and waits for what it comes to.
    async fn finish<T: Cacheable>(
        &mut self,
        load: LoadTask,
        spawn: &mut Option<impl FnOnce(&str, LoadTask)>,
        usable: Option<Usable<T>>,
        about: About<'_>,
    ) -> Result<T> {
        let flight: Arc<Flight> = load.guard.flight().clone();
        let landing = Box::pin(flight.landing());
        start(self.key, load, spawn);
        let failed =
            |kind, words| Error::new(kind).with_op(OP).with_key(self.key).with_message(words);
        let result = match self.wait(usable.is_some(), landing).await {
            Wait::Over(Arrival::Finished(result)) => result,
            // It is loading, but nobody can wait for it here.
            Wait::Over(Arrival::Lost) if runtime::is_gone() => {
                Err(runtime::gone().with_op(OP).with_key(self.key))
            }
            Wait::Over(_) => {
                Err(failed(ErrorKind::Load, "the loader's task went away before it was done"))
            }
            Wait::Soft => return self.serve(usable, about),
            Wait::Hard => {
                let late = self.out_of_time(usable.is_some());
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
            Err(_) if usable.is_some() => self.serve(usable, about),
            Err(error) => Err(error),
        }
    }

    /// Waits for a flight, as long as the caller wants to.
    async fn wait(&self, has_usable: bool, arrival: Arriving<'_>) -> Wait {
        let soft = self.view.options.soft_limit().filter(|_| has_usable);
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

/// Without a loader, which is used once only, the load is dropped and so lost.
fn start(key: &str, load: LoadTask, spawn: &mut Option<impl FnOnce(&str, LoadTask)>) {
    if let Some(spawn) = spawn.take() {
        spawn(key, load);
    }
}
