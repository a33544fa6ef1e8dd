//! The lanes: who runs a command, on which connection, and what happens when that fails.
//!
//! A lane is a queue before one or more connections: one connection for writes, so that operations on one key keep their order, several
//! for reads. A call that finds an idle connection drives its own statement there, with one wake-up there and one back. As soon as
//! somebody has to wait, or the caller goes away, a task of the background runtime takes the connection over, statement and all, and
//! works through the queue, with neighbours joined into one statement. So a connection belongs to no runtime, a caller who is parked
//! or dropped holds nothing up, and an idle adapter has no task at all.

use super::database::{Connection, Database};
use super::failure::Failure;
use super::job::{Command, Job, Waiting, Work};
use super::upkeep;
use crate::runtime::{self, lock};
use crate::{Error, ErrorKind, Result};
use futures_util::future::BoxFuture;
use std::collections::VecDeque;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Sleep;

/// A queue is searched for jobs that nobody waits for when it has grown to this, and again at each doubling.
const SEARCH_AT: usize = 1_024;

/// How often one job makes a connection anew, or room in a full file, before its caller is told.
const RENEWALS: u32 = 2;
const EVICTIONS: u32 = 24;

/// A pause before a locked database is asked again, beyond the busy timeout it has waited already.
const LOCKED_PAUSE: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Write,
    Read,
}

/// The database and its lanes.
pub(super) struct Engine {
    pub(super) database: Database,
    writer: Lane,
    readers: Lane,
    op_timeout: Duration,
    purge_every: Duration,
    tickets: AtomicU64,
    /// The task that sweeps, while the database is open.
    sweeper: Mutex<Option<JoinHandle<()>>>,
}

struct Lane {
    role: Role,
    state: Mutex<State>,
}

struct State {
    slots: Vec<Slot>,
    queue: VecDeque<Job>,
    search_at: usize,
}

/// What a connection of a lane is doing.
enum Slot {
    /// There is none yet, or no more.
    Closed,
    Idle(Connection),
    /// A caller drives a statement on it.
    Direct(u64, Run),
    /// A background task has it.
    Driven,
}

/// A statement on its way, with all it needs to be finished by anybody.
type Run = BoxFuture<'static, Ran>;

struct Ran {
    connection: Connection,
    work: Box<dyn Work>,
    result: sqlx::Result<()>,
}

/// What is to be done next about a job.
enum Next {
    Try(Option<Connection>),
    Repair(Option<Connection>, Failure),
}

/// What has been done for one job already.
#[derive(Default)]
struct Repairs {
    renewals: u32,
    evictions: u32,
}

/// What a background task starts from.
enum Start {
    Fresh(Option<Connection>),
    Midway(Run),
    /// A direct run that came to an end without an answer for its caller.
    Failed(Ran),
}

impl Lane {
    fn new(role: Role, width: usize) -> Self {
        let slots = (0..width).map(|_| Slot::Closed).collect();
        Self { role, state: Mutex::new(State { slots, queue: VecDeque::new(), search_at: SEARCH_AT }) }
    }
}

impl State {
    fn find(&mut self, wanted: impl Fn(&Slot) -> bool) -> Option<usize> {
        self.slots.iter().position(wanted)
    }

    /// Takes the lowest idle connection out: its statements are the warmest.
    fn take_idle(&mut self) -> Option<(usize, Connection)> {
        let at = self.find(|slot| matches!(slot, Slot::Idle(_)))?;
        match mem::replace(&mut self.slots[at], Slot::Driven) {
            Slot::Idle(connection) => Some((at, connection)),
            other => {
                self.slots[at] = other;
                None
            }
        }
    }

    /// Takes a statement away from the caller who drives it.
    fn take_direct(&mut self, wanted: impl Fn(u64) -> bool) -> Option<(usize, Run)> {
        let at = self.find(|slot| matches!(slot, Slot::Direct(ticket, _) if wanted(*ticket)))?;
        match mem::replace(&mut self.slots[at], Slot::Driven) {
            Slot::Direct(_, run) => Some((at, run)),
            other => {
                self.slots[at] = other;
                None
            }
        }
    }

    fn enqueue(&mut self, job: Job) {
        self.queue.push_back(job);
        if self.queue.len() >= self.search_at {
            let now = Instant::now();
            self.queue.retain_mut(|job| !job.is_over(now));
            self.search_at = SEARCH_AT.max(self.queue.len() * 2);
        }
    }
}

impl Engine {
    pub(super) fn new(database: Database, readers: usize, op_timeout: Duration, purge_every: Duration) -> Arc<Self> {
        // A database in memory is its one connection.
        let readers = if database.is_memory() { 0 } else { readers };
        Arc::new(Self {
            database,
            writer: Lane::new(Role::Write, 1),
            readers: Lane::new(Role::Read, readers),
            op_timeout,
            purge_every,
            tickets: AtomicU64::new(0),
            sweeper: Mutex::new(None),
        })
    }

    fn lane(&self, role: Role) -> &Lane {
        if role == Role::Read && !self.database.is_memory() { &self.readers } else { &self.writer }
    }

    /// Runs a command in its lane. The future may be dropped at any time; what has begun goes on.
    pub(super) fn call<C: Command>(self: &Arc<Self>, role: Role, command: C) -> Call<'_, C::Output> {
        let deadline = Instant::now() + self.op_timeout;
        let (reply, answer) = oneshot::channel();
        let lane = self.lane(role);
        let ticket = self.submit(lane, C::into_job(Waiting::new(command, reply, deadline)), C::BRIEF);
        Call { engine: self, lane, ticket, answer, deadline, alarm: None }
    }

    /// Starts the job on an idle connection and gives a ticket to drive it with, or leaves it to a background task.
    fn submit(self: &Arc<Self>, lane: &Lane, job: Job, brief: bool) -> Option<u64> {
        let mut state = lock(&lane.state);
        let idle = if state.queue.is_empty() { state.take_idle() } else { None };
        match idle {
            Some((at, connection)) if brief && !connection.is_due_for_a_look() => {
                let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
                state.slots[at] = Slot::Direct(ticket, Box::pin(attempt(connection, job.alone())));
                Some(ticket)
            }
            Some((at, connection)) => {
                state.enqueue(job);
                self.drive(lane.role, at, Start::Fresh(Some(connection)));
                None
            }
            None => {
                state.enqueue(job);
                self.call_help(lane, &mut state);
                None
            }
        }
    }

    /// Sees to it that somebody works through the queue.
    fn call_help(self: &Arc<Self>, lane: &Lane, state: &mut State) {
        if let Some((at, connection)) = state.take_idle() {
            self.drive(lane.role, at, Start::Fresh(Some(connection)));
        } else if let Some(at) = state.find(|slot| matches!(slot, Slot::Closed)) {
            state.slots[at] = Slot::Driven;
            self.drive(lane.role, at, Start::Fresh(None));
        } else if state.find(|slot| matches!(slot, Slot::Driven)).is_none()
            && let Some((at, run)) = state.take_direct(|_| true)
        {
            // All connections are with callers, and each of them may be standing still.
            self.drive(lane.role, at, Start::Midway(run));
        }
    }

    fn drive(self: &Arc<Self>, role: Role, at: usize, start: Start) {
        runtime::spawn_background(drive(self.clone(), role, at, start));
    }

    /// Drives the caller's own statement, if it is the caller's still.
    fn poll_direct(self: &Arc<Self>, lane: &Lane, ticket: u64, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = lock(&lane.state);
        let Some((at, mut run)) = state.take_direct(|direct| direct == ticket) else {
            return Poll::Ready(());
        };
        let Poll::Ready(ran) = run.as_mut().poll(cx) else {
            state.slots[at] = Slot::Direct(ticket, run);
            return Poll::Pending;
        };
        if ran.result.is_err() {
            self.drive(lane.role, at, Start::Failed(ran));
        } else if state.queue.is_empty() && !ran.connection.is_retired() {
            state.slots[at] = Slot::Idle(ran.connection);
        } else {
            self.drive(lane.role, at, Start::Fresh(Some(ran.connection)));
        }
        Poll::Ready(())
    }

    /// The caller has gone: the statement goes on without it.
    fn abandon(self: &Arc<Self>, lane: &Lane, ticket: u64) {
        if let Some((at, run)) = lock(&lane.state).take_direct(|direct| direct == ticket) {
            self.drive(lane.role, at, Start::Midway(run));
        }
    }

    /// Makes every connection of the past close as soon as it can be had.
    fn recall(self: &Arc<Self>) {
        for lane in [&self.writer, &self.readers] {
            let mut state = lock(&lane.state);
            while let Some((at, connection)) = state.take_idle() {
                self.drive(lane.role, at, Start::Fresh(Some(connection)));
            }
            while let Some((at, run)) = state.take_direct(|_| true) {
                self.drive(lane.role, at, Start::Midway(run));
            }
        }
    }

    /// Closes all connections and waits until they are; the next call opens new ones.
    pub(super) async fn close(self: &Arc<Self>) -> Result<()> {
        if self.database.is_memory() {
            return Ok(());
        }
        self.stop_sweeping();
        let past = self.database.retire_present();
        self.recall();
        past.wait_until_closed(Instant::now() + self.op_timeout).await
    }

    /// Starts the sweeping task unless there is one.
    fn start_sweeping(self: &Arc<Self>) {
        let mut sweeper = lock(&self.sweeper);
        if sweeper.as_ref().is_none_or(JoinHandle::is_finished) {
            *sweeper = Some(runtime::spawn_background(upkeep::sweep_from_time_to_time(Arc::downgrade(self), self.purge_every)));
        }
    }

    pub(super) fn stop_sweeping(&self) {
        if let Some(sweeper) = lock(&self.sweeper).take() {
            sweeper.abort();
        }
    }

    /// Runs one job to its answer, renewing what needs to be renewed. Gives back the connection, if there still is one.
    async fn serve(self: &Arc<Self>, role: Role, start: Next, mut work: Box<dyn Work>) -> Option<Connection> {
        let mut repairs = Repairs::default();
        let mut next = start;
        loop {
            let connection = match next {
                Next::Try(connection) => connection,
                Next::Repair(connection, error) => match self.repair(connection, error, &mut repairs).await {
                    Ok(connection) => connection,
                    Err((error, connection)) => {
                        work.fail(&error);
                        return connection;
                    }
                },
            };
            if work.is_over(Instant::now()) {
                return connection;
            }
            next = match self.ready(role, connection).await {
                Ok(mut ready) => match work.run(ready.raw()).await {
                    Ok(()) => return Some(ready),
                    Err(error) => Next::Repair(Some(ready), Failure::of(error)),
                },
                Err(failure) => Next::Repair(None, failure),
            };
        }
    }

    /// Does what can be done about a failure, so that the job can be tried again; or gives the error for its caller.
    async fn repair(
        self: &Arc<Self>,
        connection: Option<Connection>,
        failure: Failure,
        repairs: &mut Repairs,
    ) -> Result<Option<Connection>, (Error, Option<Connection>)> {
        match (failure, connection) {
            (Failure::Locked(_), connection) => {
                runtime::alarm(Instant::now() + LOCKED_PAUSE).await;
                Ok(connection)
            }
            (Failure::Full(error), Some(mut on)) => {
                repairs.evictions += 1;
                let room = match repairs.evictions {
                    ..=EVICTIONS => upkeep::make_room(on.raw(), self.database.max_bytes(), repairs.evictions).await,
                    _ => Ok(false),
                };
                match room {
                    Ok(true) => Ok(Some(on)),
                    Ok(false) => Err((Failure::Full(error).into_error(), Some(on))),
                    Err(failure) => Err((failure.into_error(), Some(on))),
                }
            }
            (failure @ (Failure::Corrupt(_) | Failure::Moved(_) | Failure::Broken(_)), connection) => {
                if let Some(on) = connection {
                    let is_corrupt = matches!(failure, Failure::Corrupt(_));
                    if is_corrupt || matches!(failure, Failure::Moved(_)) {
                        self.database.retire_with(&on, is_corrupt);
                    } else {
                        self.database.is_in_place(&on).await;
                    }
                    on.close().await;
                }
                self.recall();
                repairs.renewals += 1;
                if repairs.renewals <= RENEWALS { Ok(None) } else { Err((failure.into_error(), None)) }
            }
            (failure, connection) => Err((failure.into_error(), connection)),
        }
    }

    /// A connection that can be used: the given one, or a new one in place of one whose time is over.
    async fn ready(self: &Arc<Self>, role: Role, connection: Option<Connection>) -> Result<Connection, Failure> {
        if let Some(mut connection) = connection {
            if connection.is_due_for_a_look() && !self.database.is_in_place(&connection).await {
                self.recall();
            }
            if !connection.is_retired() {
                if connection.has_long_log() {
                    upkeep::write_log_back(connection.raw()).await?;
                }
                return Ok(connection);
            }
            connection.close().await;
        }
        let opened = self.database.open(role, Instant::now() + self.op_timeout).await?;
        if role == Role::Write {
            self.start_sweeping();
        }
        Ok(opened)
    }

    pub(super) fn is_open(&self) -> bool {
        !matches!(lock(&self.writer.state).slots.as_slice(), [Slot::Closed])
    }

    pub(super) fn op_timeout(&self) -> Duration {
        self.op_timeout
    }
}

/// One job, once: what a caller may drive.
async fn attempt(mut connection: Connection, mut work: Box<dyn Work>) -> Ran {
    let result = work.run(connection.raw()).await;
    Ran { connection, work, result }
}

/// Works through a lane's queue with one connection until nothing is left.
async fn drive(engine: Arc<Engine>, role: Role, at: usize, start: Start) {
    let mut place = Place { engine: Arc::downgrade(&engine), role, at, left: false };
    let mut connection = match start {
        Start::Fresh(connection) => connection,
        Start::Midway(run) => engine.settle(role, run.await).await,
        Start::Failed(ran) => engine.settle(role, ran).await,
    };
    loop {
        // Closed before the slot says so, for whoever opens next must not meet it.
        if let Some(past) = connection.take_if(|connection| connection.is_retired()) {
            past.close().await;
        }
        let work = {
            let mut state = lock(&engine.lane(role).state);
            match Job::next(&mut state.queue) {
                Some(work) => work,
                None if connection.as_ref().is_some_and(Connection::is_retired) => continue,
                None => {
                    state.slots[at] = connection.map_or(Slot::Closed, Slot::Idle);
                    place.left = true;
                    return;
                }
            }
        };
        connection = engine.serve(role, Next::Try(connection), work).await;
    }
}

impl Engine {
    /// Finishes what a caller began.
    async fn settle(self: &Arc<Self>, role: Role, ran: Ran) -> Option<Connection> {
        match ran.result {
            Ok(()) => Some(ran.connection),
            Err(error) => self.serve(role, Next::Repair(Some(ran.connection), Failure::of(error)), ran.work).await,
        }
    }
}

/// A driven slot. Should its task be lost, the slot is not.
struct Place {
    engine: Weak<Engine>,
    role: Role,
    at: usize,
    left: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let (false, Some(engine)) = (self.left, self.engine.upgrade()) {
            lock(&engine.lane(self.role).state).slots[self.at] = Slot::Closed;
        }
    }
}

/// A command in its lane, as its caller sees it.
pub(super) struct Call<'e, T> {
    engine: &'e Arc<Engine>,
    lane: &'e Lane,
    ticket: Option<u64>,
    answer: oneshot::Receiver<Result<T>>,
    deadline: Instant,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<T> Future for Call<'_, T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some(ticket) = this.ticket
            && this.engine.poll_direct(this.lane, ticket, cx).is_ready()
        {
            this.ticket = None;
        }
        if let Poll::Ready(answer) = Pin::new(&mut this.answer).poll(cx) {
            // A job is only dropped unanswered when its task is lost.
            return Poll::Ready(answer.unwrap_or_else(|_| Err(Error::new(ErrorKind::Unavailable))));
        }
        let alarm = this.alarm.get_or_insert_with(|| Box::pin(runtime::alarm(this.deadline)));
        alarm.as_mut().poll(cx).map(|()| Err(Error::new(ErrorKind::Timeout)))
    }
}

impl<T> Drop for Call<'_, T> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.engine.abandon(self.lane, ticket);
        }
    }
}
