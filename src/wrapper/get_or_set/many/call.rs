//! One call for several keys, in rounds: read all, join a flight for each that is missing, run one
//! loader for those that nobody loads, and wait. A key that needs another read is in the next
//! round.

use super::items::{BatchArgument, Items};
use super::load::{JointTask, Pairs};
use crate::adapter::FoundOrClaimed;
use crate::error::Result;
use crate::event::EventKind;
use crate::options::ReadFrom;
use crate::runtime;
use crate::single_flight::{Arrival, Flight, Forced, Join, ReadMark};
use crate::value::CacheValue;
use crate::wrapper::events::{CallInfo, concerns_backend};
use crate::wrapper::fencing::{Acquired, StoreRight, lease_pause};
use crate::wrapper::get_or_set::call::{GetOrSet, OP, READS, Step};
use crate::wrapper::get_or_set::driver::{CallerDriven, Driver, Runs, drive};
use crate::wrapper::get_or_set::found::{Found, Miss, Reserve};
use crate::wrapper::get_or_set::load_result::Cause;
use crate::wrapper::get_or_set::made;
use crate::wrapper::get_or_set::ready::Ready;
use crate::wrapper::get_or_set::task::LoadTask;
use crate::wrapper::slot::Slot;
use crate::wrapper::value_type::{Answer, ValueType};
use crate::wrapper::{Cacheable, View};
use futures_util::future::{Either, join_all, select};
use futures_util::stream::{self, StreamExt};
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The most loaders of one call that run at the same time.
const AT_A_TIME: usize = 4;

/// A key of a call.
struct Member<'a, T> {
    call: GetOrSet<'a>,
    answer: Option<Result<Option<T>>>,
    /// The flight on the key waits for this call: load it unshared.
    is_cyclic: bool,
}

/// A call in progress.
pub(super) struct GetOrSetMany<'a, A, T> {
    view: View<'a>,
    slot: &'a Arc<Slot>,
    members: Vec<Member<'a, T>>,
    arguments: &'a [A],
    most: usize,
    begun: Instant,
    /// The number of reads in a row without a result.
    reads: usize,
    /// Another process has a lease on one of the keys.
    is_held: bool,
    /// How often in a row the call has waited for such a lease.
    looks: u32,
}

/// A missing key that has not joined a flight yet.
struct Missed<'a> {
    at: usize,
    miss: Miss<'a>,
    mark: Option<ReadMark<'a>>,
    /// The right that came with the read.
    right: Option<StoreRight>,
    skip_store: bool,
    /// The call has answered already, and refreshes the entry in the background.
    is_answered: bool,
}

/// The wait of a key.
enum Awaited {
    /// A load of this call. `load` is the flight for which the event of the load is emitted.
    Own {
        landing: Landing,
        load: Arc<Flight>,
    },
    Other(Arc<Flight>),
    End(Arc<Flight>, Option<Duration>),
}

struct Waiting<'a> {
    at: usize,
    miss: Miss<'a>,
    awaited: Awaited,
}

/// The loads and waits that a round has begun.
struct Round<'a> {
    loads: Vec<(usize, LoadTask)>,
    /// The misses of these loads; `None` for a refresh, for which no caller waits.
    led: Vec<Option<Miss<'a>>>,
    waits: Vec<Waiting<'a>>,
}

/// A wait that has begun before the load.
type Landing = Pin<Box<dyn Future<Output = Arrival> + Send>>;

impl<'a, A, T> GetOrSetMany<'a, A, T>
where
    A: BatchArgument,
    T: Cacheable,
{
    /// `view` has the options of the adapter's URL, too.
    pub(super) fn new(
        view: View<'a>,
        slot: &'a Arc<Slot>,
        items: &'a Items<A>,
        scoped: &[&'a str],
        most: usize,
    ) -> Self {
        let forced = view.options.force_refresh.then(Forced::now);
        let of = ValueType::of::<T>();
        let members = items.keys.named().zip(scoped).map(|(key, scoped)| Member {
            call: GetOrSet { forced, ..GetOrSet::new(view, slot, key, scoped, Runs::InBatch, of) },
            answer: None,
            is_cyclic: false,
        });
        Self {
            view,
            slot,
            members: members.collect(),
            arguments: &items.arguments,
            most,
            begun: Instant::now(),
            reads: 0,
            is_held: false,
            looks: 0,
        }
    }

    /// Returns the answer for each key.
    pub(super) async fn run<F>(
        mut self,
        loader: &mut impl FnMut(Vec<A>) -> F,
    ) -> Result<Vec<Result<Option<T>>>>
    where
        F: Future<Output = Result<Pairs<A, T>, Cause>> + Send + 'static,
    {
        loop {
            let mut round = Round { loads: Vec::new(), led: Vec::new(), waits: Vec::new() };
            self.lead_cyclic(&mut round);
            let missed = self.read().await?;
            self.join(missed, &mut round).await;
            if round.loads.is_empty() && round.waits.is_empty() {
                if self.members.iter().all(|member| member.answer.is_some()) {
                    break;
                }
                self.pause().await;
                continue;
            }
            (self.reads, self.looks) = (0, 0);
            let driven = self.start(&mut round, loader);
            self.wait(round.waits, driven).await;
        }
        let answers = self.members.into_iter().map(|member| member.answer.unwrap_or(Ok(None)));
        Ok(answers.collect())
    }

    /// Leads loads that are neither shared nor stored, for keys whose flights wait for this call.
    fn lead_cyclic(&mut self, round: &mut Round<'a>) {
        let cyclic = self.members.iter_mut().enumerate().filter(|(_, member)| member.is_cyclic);
        for (at, member) in cyclic {
            let call = &member.call;
            match self.slot.flights.unshared(call.scoped) {
                Ok(guard) => {
                    // No claim and no store, as in a call for one key.
                    round.loads.push((at, call.lead(guard, Ready::unstored(), Reserve::Nothing)));
                    let info = CallInfo::new(OP, call.key);
                    round.led.push(Some(Miss { info, usable: None }));
                }
                Err(error) => {
                    member.answer = Some(Err(error.with_op(OP).with_key(call.key)));
                }
            }
        }
    }

    /// Reads the keys that have no answer, in one call of the adapter. Returns those that are
    /// missing or due.
    async fn read(&mut self) -> Result<Vec<Missed<'a>>> {
        let open: Vec<usize> =
            (0..self.members.len()).filter(|at| self.members[*at].is_open()).collect();
        if open.is_empty() {
            return Ok(Vec::new());
        }
        self.reads += 1;
        let keys = open.iter().map(|at| self.members[*at].call.scoped);
        let flights = &self.slot.flights;
        let (marks, scoped): (Vec<_>, Vec<_>) =
            keys.map(|key| (flights.read_mark(key), key.text())).unzip();
        let (slot, cache, info) = (self.slot, self.view.cache, CallInfo::new(OP, ""));
        let view = self.view;
        let reading = pin!(look(slot, &view, &scoped));
        let (found, took) = slot.timed(pin!(cache.traced(slot, info, reading))).await;
        let found = match found {
            Ok(found) => found.into_iter().map(Some).collect(),
            Err(error) => {
                let error = cache.failed_whole(slot, OP, took, error);
                if !self.view.options.fail_open || !concerns_backend(&error) {
                    return Err(error);
                }
                scoped.iter().map(|_| None).collect::<Vec<_>>()
            }
        };
        let read = open.into_iter().zip(marks).zip(found);
        Ok(read.filter_map(|((at, mark), found)| self.judge(at, mark, found, took)).collect())
    }

    /// What was read of a key; `None` if the key has its answer now. `found` is `None` where the
    /// backend failed for all keys.
    fn judge(
        &mut self,
        at: usize,
        mark: ReadMark<'a>,
        found: Option<Result<FoundOrClaimed>>,
        took: Option<Duration>,
    ) -> Option<Missed<'a>> {
        let member = &mut self.members[at];
        let info = CallInfo::new(OP, member.call.key).took(took);
        let mut right = None;
        let found = match found {
            None => Ok(Found::Unknown(member.call.unproven())),
            Some(found) => {
                let found = found.map(|found| match found {
                    FoundOrClaimed::Found(value) => Some(value),
                    FoundOrClaimed::Claimed(claim) => {
                        right = Some(StoreRight::Claimed(claim));
                        None
                    }
                    FoundOrClaimed::Missing => None,
                });
                member.call.judge(found, info)
            }
        };
        let mut missed = Missed {
            at,
            miss: Miss { info, usable: None },
            mark: Some(mark),
            right,
            skip_store: false,
            is_answered: false,
        };
        match found {
            Ok(Found::Value(value)) => {
                member.call.emit_once(EventKind::Hit, info);
                member.answer = Some(value.into_value().map(Some));
                return None;
            }
            Ok(Found::Due(value)) => {
                member.call.emit_once(EventKind::Hit, info);
                member.answer = Some(value.into_value().map(Some));
                missed.is_answered = true;
                let is_throttled = self.slot.flights.is_throttled(member.call.scoped);
                return (!is_throttled).then_some(missed);
            }
            Ok(Found::Usable(usable)) => missed.miss.usable = Some(usable),
            Ok(Found::Nothing) => {}
            Ok(Found::Unknown(usable)) => {
                (missed.mark, missed.skip_store, missed.miss.usable) = (None, true, usable);
            }
            Err(error) => {
                member.answer = Some(Err(error));
                return None;
            }
        }
        if missed.miss.usable.is_some() && self.slot.flights.is_throttled(member.call.scoped) {
            member.answer = Some(member.serve(missed.miss));
            return None;
        }
        Some(missed)
    }

    /// Joins the flight on each key, or begins one. Nothing is awaited once a flight has begun:
    /// its followers must not wait for a caller that may be parked.
    async fn join(&mut self, missed: Vec<Missed<'a>>, round: &mut Round<'a>) {
        let is_leased = self.view.options.lease_for().is_some();
        let rights = if is_leased { self.lease(&missed).await } else { Vec::new() };
        let mut rights = rights.into_iter();
        for missed in missed {
            let member = &mut self.members[missed.at];
            let right = match rights.next() {
                None => None,
                Some(Ok(Some(Acquired::Granted(right)))) => Some(right),
                Some(_) if missed.is_answered => continue,
                Some(Ok(None)) => {
                    self.is_held = true;
                    member.await_lease(missed.miss, self.begun.elapsed());
                    continue;
                }
                Some(Ok(Some(Acquired::Computed(value)))) => {
                    let answer = member.call.answer(missed.miss.info, &value);
                    member.answer = Some(answer.and_then(Answer::into_value).map(Some));
                    continue;
                }
                Some(Err(error)) => {
                    member.answer = Some(Err(error));
                    continue;
                }
            };
            member.join(missed, right, self.reads >= READS, round);
        }
    }

    /// Asks for a lease on each key, before the flights are joined, and only once: two processes
    /// that waited for each other's leases, each with leases of its own in hand, would wait until
    /// these end.
    async fn lease(&self, missed: &[Missed<'a>]) -> Vec<Result<Option<Acquired>>> {
        let asked = missed.iter().map(|missed| {
            let (call, skip_store) = (&self.members[missed.at].call, missed.skip_store);
            let (slot, begun) = (self.slot, self.begun);
            // Should that flight end before it is joined, this load is not stored.
            let is_loading = call.is_loading_here();
            async move {
                if skip_store || is_loading {
                    return Ok(Some(Acquired::Granted(StoreRight::None)));
                }
                let (scoped, wanted) = (call.scoped.text(), (call.replaced, call.of));
                call.asking().ask_once(slot, call.key, scoped, wanted, begun).await
            }
        });
        join_all(asked).await
    }

    /// Waits before the next read, if another process has a lease on one of the keys.
    async fn pause(&mut self) {
        if std::mem::take(&mut self.is_held) {
            self.reads = 0;
            runtime::background_sleep(lease_pause(self.looks)).await;
            self.looks += 1;
        }
    }

    /// Starts one loader for all keys that this round leads, or more if they are too many for one.
    /// The future that is returned has to be polled by the caller while it waits.
    fn start<F>(
        &self,
        round: &mut Round<'a>,
        loader: &mut impl FnMut(Vec<A>) -> F,
    ) -> Option<CallerDriven>
    where
        F: Future<Output = Result<Pairs<A, T>, Cause>> + Send + 'static,
    {
        let mut led = std::mem::take(&mut round.led).into_iter();
        let mut loads = std::mem::take(&mut round.loads).into_iter().peekable();
        let (mut runs, mut flights, mut by_caller) = (Vec::new(), Vec::new(), true);
        while loads.peek().is_some() {
            let chunk: Vec<_> = loads.by_ref().take(self.most).collect();
            let places: Vec<usize> = chunk.iter().map(|(at, _)| *at).collect();
            let argued = chunk.into_iter().map(|(at, task)| (task, self.arguments[at].clone()));
            let (task, arguments) = JointTask::new(argued.collect());
            for ((at, flight), miss) in places.into_iter().zip(task.flights()).zip(led.by_ref()) {
                let Some(miss) = miss else { continue };
                // The wait begins before the load, as in a call for one key.
                let landing = Box::pin(flight.landing());
                let awaited = Awaited::Own { landing, load: task.flights()[0].clone() };
                round.waits.push(Waiting { at, miss, awaited });
            }
            flights.extend_from_slice(task.flights());
            by_caller &= task.is_driven_by_caller();
            let made = made(task.call(|| loader(arguments)));
            runs.push(task.run(made));
        }
        if runs.is_empty() {
            return None;
        }
        let all = stream::iter(runs).for_each_concurrent(AT_A_TIME, |run| run);
        let driver = if by_caller { Driver::Caller } else { Driver::Task };
        drive(Box::pin(all), &flights, driver)
    }

    /// Waits for the flights of this round, and drives its load meanwhile if the caller has to.
    async fn wait(&mut self, waits: Vec<Waiting<'a>>, driven: Option<CallerDriven>) {
        let mut of_members: Vec<Option<Waiting<'a>>> = self.members.iter().map(|_| None).collect();
        for wait in waits {
            let at = wait.at;
            of_members[at] = Some(wait);
        }
        let waits = self.members.iter_mut().zip(of_members);
        let all = join_all(waits.filter_map(|(member, wait)| Some(member.wait(wait?))));
        let Some(driven) = driven else {
            all.await;
            return;
        };
        if let Either::Right(((), all)) = select(Box::pin(all), driven).await {
            all.await;
        }
        // A load that goes on without this call is handed to a task by the drop of its driver.
    }
}

fn value_of(found: &FoundOrClaimed) -> Option<&CacheValue> {
    match found {
        FoundOrClaimed::Found(value) => Some(value),
        FoundOrClaimed::Claimed(_) | FoundOrClaimed::Missing => None,
    }
}

/// Reads keys. Claims those that are missing, unless they are claimed with a lease.
async fn look(
    slot: &Slot,
    view: &View<'_>,
    scoped: &[&str],
) -> Result<Vec<Result<FoundOrClaimed>>> {
    let from = view.options.reads_from();
    let claims = slot.adapter.enforces_claims() && view.options.lease_for().is_none();
    if claims && from == ReadFrom::Near {
        let found = slot.adapter.get_or_claim_many(scoped).await?;
        let instead = FoundOrClaimed::unclaimed;
        return Ok(slot.without_dead(scoped, found, value_of, instead, from).await);
    }
    let found = slot.read_many(scoped, from).await?;
    Ok(found.into_iter().map(|found| found.map(FoundOrClaimed::unclaimed)).collect())
}

impl<'a, T: Cacheable> Member<'a, T> {
    /// Serves the value at hand.
    fn serve(&mut self, miss: Miss<'a>) -> Result<Option<T>> {
        self.call.serve(miss).and_then(Answer::into_value).map(Some)
    }

    /// Whether the key has to be read.
    fn is_open(&self) -> bool {
        self.answer.is_none() && !self.is_cyclic
    }

    /// Answers for a key whose lease is held by another process, if the call has waited long
    /// enough.
    fn await_lease(&mut self, mut miss: Miss<'a>, waited: Duration) {
        let end = self.call.end_wait(&mut miss, waited);
        self.answer = end.map(|answer| answer.and_then(Answer::into_value).map(Some));
    }

    /// Joins the flight on the key, or begins one. A lease that is not used is given back by its
    /// drop.
    fn join(
        &mut self,
        missed: Missed<'a>,
        right: Option<StoreRight>,
        insists: bool,
        round: &mut Round<'a>,
    ) {
        let Missed { at, miss, mark, right: claimed, skip_store, is_answered } = missed;
        let call = &mut self.call;
        let joined = call.slot.flights.join(call.scoped, call.joining(mark, insists));
        if !matches!(joined, Join::ReadAgain) && miss.usable.is_none() {
            // Has no effect for a key that is answered.
            call.emit_once(EventKind::Miss, miss.info);
        }
        let awaited = match joined {
            Join::Lead(guard) => {
                let reserve = if is_answered { Reserve::Usable } else { miss.reserve() };
                let ready = Ready { right: right.or(claimed), skip_store, ..Ready::default() };
                round.loads.push((at, call.lead(guard, ready, reserve)));
                round.led.push((!is_answered).then_some(miss));
                return;
            }
            Join::ReadAgain => {
                // A value that was stored just now needs no early refresh.
                call.drawn = Some(false);
                return;
            }
            Join::Follow(_) | Join::LetEnd(..) if is_answered => return,
            Join::Follow(flight) => Awaited::Other(flight),
            Join::LetEnd(flight, limit) => Awaited::End(flight, limit),
        };
        round.waits.push(Waiting { at, miss, awaited });
    }

    async fn wait(&mut self, Waiting { mut miss, awaited, .. }: Waiting<'a>) {
        let step: Option<Step> = match awaited {
            Awaited::Own { landing, load } => {
                self.is_cyclic = false;
                let wait = self.call.wait(&miss, landing).await;
                Some(ControlFlow::Break(self.call.land(wait, &load, miss)))
            }
            Awaited::Other(flight) => self.call.follow(&flight, &mut miss).await,
            Awaited::End(flight, limit) => self.call.let_end(&flight, limit, &mut miss).await,
        };
        match step {
            Some(ControlFlow::Break(Ok(value))) => {
                self.answer = Some(value.into_value().map(Some));
            }
            // The loader returned no value for the key.
            Some(ControlFlow::Break(Err(error))) if error.is_not_found() => {
                self.answer = Some(Ok(None));
            }
            Some(ControlFlow::Break(Err(error))) => self.answer = Some(Err(error)),
            Some(ControlFlow::Continue(())) => {}
            None => self.is_cyclic = true,
        }
    }
}
