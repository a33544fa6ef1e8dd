//! Decides who runs a command, and on which connection.
//!
//! A [lane](Lane) is a queue in front of one or more connections: one connection for writes, so
//! that operations on one key keep their order, and several for reads. A caller that finds an idle
//! connection drives its own statement there: one wake-up of the connection's thread, and one back.
//!
//! As soon as another call has to wait, or the caller drops its future, a task of the background
//! runtime takes over the connection together with the statement. The task works through the queue
//! and joins waiting commands of one kind into one statement. So a connection belongs to no
//! runtime, a caller that is not polled or is dropped blocks no other call, and an idle adapter has
//! no task at all.

use super::batch::Job;
use super::connection::database::{Connection, Role};
use super::connection::members::Member;
use super::connection::source::Source;
use super::job::{Command, Waiting};
use super::lane::{Lane, Slot, Start, State, attempt};
use super::maintenance::{Clear, Measure, Shrink, Step, Sweep, WriteBack};
use super::pace::Pace;
use super::reads::{Found, Get};
use super::repair::{Host, Next, Repairer};
use super::statements::{Ping, Put, Stored};
use crate::adapter::StoreSize;
use crate::batching::Limits;
use crate::error::{Error, ErrorKind, Result};
use crate::runtime;
use crate::runtime::lock;
use futures_util::future::{BoxFuture, select};
use std::pin::{Pin, pin};
use std::process;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Sleep;

/// The database and its lanes.
pub(super) struct Engine {
    pub(super) source: Source,
    writer: Lane,
    readers: Lane,
    op_timeout: Duration,
    purge_every: Duration,
    tickets: AtomicU64,
    /// The process that opened the connections in the lanes. Connections do not survive a fork.
    process: AtomicU32,
    /// The task that sweeps, while the database is open.
    sweeper: Mutex<Option<JoinHandle<()>>>,
    /// Wakes the sweeper when there is space to give back.
    has_space: Arc<Notify>,
    /// The size after the last sweep.
    size: Mutex<StoreSize>,
}

impl Engine {
    pub(super) fn new(
        source: Source,
        readers: usize,
        limits: Limits,
        op_timeout: Duration,
        purge_every: Duration,
    ) -> Arc<Self> {
        // A database in memory is its one connection.
        let readers = if source.is_memory() { 0 } else { readers };
        Arc::new(Self {
            source,
            writer: Lane::new(Role::Write, 1, limits),
            readers: Lane::new(Role::Read, readers, limits),
            op_timeout,
            purge_every,
            tickets: AtomicU64::new(0),
            process: AtomicU32::new(process::id()),
            sweeper: Mutex::new(None),
            has_space: Arc::default(),
            size: Mutex::default(),
        })
    }

    fn lane(&self, role: Role) -> &Lane {
        if role == Role::Read && !self.source.is_memory() { &self.readers } else { &self.writer }
    }

    /// Runs a command in its lane. If the future is dropped, a command that has begun runs to its
    /// end.
    pub(super) fn call<C: Command>(
        self: &Arc<Self>,
        role: Role,
        command: C,
    ) -> Call<'_, C::Output> {
        self.queue(role, command, |waiting| Job::Alone(Box::new(waiting)))
    }

    /// Reads a live row, in one statement with other reads that wait.
    pub(super) fn get(self: &Arc<Self>, key: String) -> Call<'_, Option<Found>> {
        self.queue(Role::Read, Get(key), Job::Get)
    }

    /// Stores an entry, in one statement with other writes that wait.
    pub(super) fn put(self: &Arc<Self>, entry: Stored) -> Call<'_, ()> {
        self.queue(Role::Write, Put(entry), Job::Put)
    }

    fn queue<C: Command>(
        self: &Arc<Self>,
        role: Role,
        command: C,
        into_job: impl FnOnce(Waiting<C>) -> Job,
    ) -> Call<'_, C::Output> {
        let deadline = Instant::now() + self.op_timeout;
        let (reply, answer) = oneshot::channel();
        let lane = self.lane(role);
        let job = into_job(Waiting::new(command, reply, deadline));
        let ticket = self.submit(lane, job, C::BRIEF);
        Call { engine: self, lane, ticket, answer, deadline, alarm: None }
    }

    /// Starts the job on an idle connection and returns a ticket to drive it with; or queues the
    /// job for a background task and returns `None`.
    fn submit(self: &Arc<Self>, lane: &Lane, job: Job, brief: bool) -> Option<u64> {
        self.leave_what_was_before_a_fork();
        let mut state = lane.state();
        // An idle connection beside a queue is about to be taken by a task, which a call that came
        // later must not pass: its write could then be applied before an earlier write of its key.
        let idle = if state.queue.is_empty() { state.take_idle() } else { None };
        match idle {
            Some((at, connection)) if brief && !connection.is_due_for_a_look() => {
                let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
                state.slots[at] =
                    Slot::CallerDriven(ticket, Box::pin(attempt(connection, job.alone())));
                Some(ticket)
            }
            Some((at, connection)) => {
                state.queue.push(job);
                self.drive(lane.role, at, Start::Loaded(Some(connection)));
                None
            }
            None => {
                state.queue.push(job);
                self.call_help(lane, &mut state);
                None
            }
        }
    }

    /// In the child of a fork, the connections' threads and the lanes' tasks do not exist. They are
    /// forgotten, not dropped: to drop them would have SQLite close files that the parent still has
    /// open, and wait for threads that do not exist.
    fn leave_what_was_before_a_fork(&self) {
        let process = process::id();
        if self.process.load(Ordering::Acquire) == process
            || self.process.swap(process, Ordering::AcqRel) == process
        {
            return;
        }
        for lane in [&self.writer, &self.readers] {
            lane.state().forget();
        }
        std::mem::forget(lock(&self.sweeper).take());
        self.source.forget();
    }

    /// Makes sure that a task works through the queue.
    fn call_help(self: &Arc<Self>, lane: &Lane, state: &mut State) {
        if let Some((at, connection)) = state.take_idle() {
            self.drive(lane.role, at, Start::Loaded(Some(connection)));
        } else if let Some(at) = state.find(|slot| matches!(slot, Slot::Closed)) {
            state.slots[at] = Slot::TaskDriven;
            self.drive(lane.role, at, Start::Loaded(None));
        } else if state.find(|slot| matches!(slot, Slot::TaskDriven)).is_none()
            && let Some((at, run)) = state.take_caller_driven(|_| true)
        {
            // Callers drive all connections, and any of these callers may have stopped polling. A
            // task takes one connection over, or the queued job could wait until its deadline.
            self.drive(lane.role, at, Start::Resume(run));
        }
    }

    fn drive(self: &Arc<Self>, role: Role, at: usize, start: Start) {
        runtime::spawn_background(drive(self.clone(), role, at, start));
    }

    /// Drives the caller's own statement, unless a task has taken it over.
    fn poll_caller_driven(
        self: &Arc<Self>,
        lane: &Lane,
        ticket: u64,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let mut state = lane.state();
        let Some((at, mut run)) = state.take_caller_driven(|direct| direct == ticket) else {
            return Poll::Ready(());
        };
        let Poll::Ready(ran) = run.as_mut().poll(cx) else {
            state.slots[at] = Slot::CallerDriven(ticket, run);
            return Poll::Pending;
        };
        // Still under the lock that `submit` takes. If the slot became idle first and the queue was
        // read later, a job queued in between would find no task and wait until its deadline.
        if ran.result.is_err() {
            self.drive(lane.role, at, Start::Failed(ran));
        } else if state.queue.is_empty() && !ran.connection.is_retired() {
            state.slots[at] = Slot::Idle(ran.connection);
        } else {
            self.drive(lane.role, at, Start::Loaded(Some(ran.connection)));
        }
        Poll::Ready(())
    }

    /// Hands the statement of a dropped call to a background task, which finishes it.
    fn abandon(self: &Arc<Self>, lane: &Lane, ticket: u64) {
        if let Some((at, run)) = lane.state().take_caller_driven(|direct| direct == ticket) {
            self.drive(lane.role, at, Start::Resume(run));
        }
    }

    /// Closes all connections and waits until they are closed. The next call opens new ones.
    pub(super) async fn close(self: &Arc<Self>) -> Result<()> {
        if self.source.is_memory() {
            return Ok(());
        }
        self.leave_what_was_before_a_fork();
        self.stop_sweeping();
        // End the session before the recall: a lane closes only connections that it sees as
        // retired.
        let past = self.source.end_session();
        self.clone().recall();
        past.wait_until_closed(Instant::now() + self.op_timeout).await
    }

    /// Removes the keys from `from` up to, and without, `to`, and has their space given back.
    pub(super) async fn clear(self: &Arc<Self>, from: String, to: Option<String>) -> Result<()> {
        let mut pace = Pace::new();
        loop {
            let clear = Clear { from: from.clone(), to: to.clone(), pages: pace.pages() };
            if self.step(&mut pace, clear).await?.is_last {
                self.has_space.notify_one();
                return Ok(());
            }
        }
    }

    /// Removes all expired rows, has their space given back, and returns the number of rows.
    pub(super) async fn purge(self: &Arc<Self>) -> Result<u64> {
        let (mut pace, mut purged) = (Pace::new(), 0);
        loop {
            let sweep = Sweep { pages: pace.pages() };
            let step = self.step(&mut pace, sweep).await?;
            purged += step.done;
            if step.is_last {
                self.has_space.notify_one();
                // If the rows cannot be counted now, the size stays what it was: the sweep is done.
                if let Ok(size) = self.call(Role::Read, Measure).await {
                    *lock(&self.size) = size;
                }
                return Ok(purged);
            }
        }
    }

    /// The size after the last sweep: counting takes milliseconds for each million of rows.
    pub(super) fn size(&self) -> StoreSize {
        *lock(&self.size)
    }

    /// Gives unused pages back to the file system, and evicts rows where the file is over its
    /// bound.
    async fn give_back(self: &Arc<Self>) -> Result<()> {
        let (mut pace, mut given) = (Pace::new(), 0);
        loop {
            let shrink = Shrink { max_bytes: self.source.bound(), pages: pace.pages() };
            let step = self.step(&mut pace, shrink).await?;
            given += step.done;
            if !step.is_last {
                continue;
            }
            if given > 0 {
                self.call(Role::Write, WriteBack).await?;
            }
            return Ok(());
        }
    }

    /// Runs one step of housekeeping, and then pauses so that other writers get their turn.
    async fn step<C: Command<Output = Step>>(
        self: &Arc<Self>,
        pace: &mut Pace,
        command: C,
    ) -> Result<Step> {
        let step = self.call(Role::Write, command).await?;
        let rest = pace.after(step.took);
        if !step.is_last {
            runtime::background_sleep_until(Instant::now() + rest).await;
        }
        Ok(step)
    }

    pub(super) fn stop_sweeping(&self) {
        if let Some(sweeper) = lock(&self.sweeper).take() {
            sweeper.abort();
        }
    }

    fn repairer(self: &Arc<Self>) -> Repairer<'_, Self> {
        Repairer { host: self, source: &self.source, op_timeout: self.op_timeout }
    }

    pub(super) fn is_open(&self) -> bool {
        !matches!(self.writer.state().slots.as_slice(), [Slot::Closed])
    }

    pub(super) fn op_timeout(&self) -> Duration {
        self.op_timeout
    }
}

/// A command in its lane, as its caller awaits it.
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
            && this.engine.poll_caller_driven(this.lane, ticket, cx).is_ready()
        {
            this.ticket = None;
        }
        if let Poll::Ready(answer) = Pin::new(&mut this.answer).poll(cx) {
            // A job is dropped without an answer only if its task is lost.
            return Poll::Ready(answer.unwrap_or_else(|_| Err(Error::new(ErrorKind::Unavailable))));
        }
        let alarm = this
            .alarm
            .get_or_insert_with(|| Box::pin(runtime::background_sleep_until(this.deadline)));
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

impl Member for Engine {
    fn recall(self: Arc<Self>) {
        for lane in [&self.writer, &self.readers] {
            let mut state = lane.state();
            while let Some((at, connection)) = state.take_idle() {
                self.drive(lane.role, at, Start::Loaded(Some(connection)));
            }
            while let Some((at, run)) = state.take_caller_driven(|_| true) {
                self.drive(lane.role, at, Start::Resume(run));
            }
        }
    }
}

impl Host for Engine {
    /// Starts the sweeping task unless there is one.
    fn writer_opened(self: &Arc<Self>) {
        let mut sweeper = lock(&self.sweeper);
        if sweeper.as_ref().is_none_or(JoinHandle::is_finished) {
            *sweeper = Some(runtime::spawn_background(sweep_from_time_to_time(
                Arc::downgrade(self),
                self.purge_every,
            )));
        }
    }

    /// Every write notes the time, so the smallest one will do.
    fn note_time(self: &Arc<Self>) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.call(Role::Write, Ping))
    }
}

impl Drop for Engine {
    /// Closes the connections in the background. They count as open until they are closed, so that
    /// the next opener of the path waits for them.
    fn drop(&mut self) {
        self.leave_what_was_before_a_fork();
        let mut connections = Vec::new();
        for lane in [&self.writer, &self.readers] {
            let mut state = lane.state();
            while let Some((_, connection)) = state.take_idle() {
                connections.push(connection);
            }
        }
        if !connections.is_empty() {
            runtime::spawn_background(async move {
                for connection in connections {
                    connection.close().await;
                }
            });
        }
    }
}

/// How long after opening the first sweep runs. Many rows may have expired while the program was
/// not running.
const FIRST_SWEEP: Duration = Duration::from_secs(1);

/// Sweeps at intervals, and gives space back when there is some, for as long as the adapter exists
/// and its database is open.
async fn sweep_from_time_to_time(engine: Weak<Engine>, every: Duration) {
    // Bounded, so that the sum below is a point in time that the clock can express.
    let every = every.min(Duration::from_secs(30 * 365 * 86_400));
    let mut next = Instant::now() + FIRST_SWEEP.min(every);
    let Some(has_space) = engine.upgrade().map(|engine| engine.has_space.clone()) else { return };
    loop {
        let _ =
            select(pin!(has_space.notified()), pin!(runtime::background_sleep_until(next))).await;
        let Some(engine) = engine.upgrade().filter(|engine| engine.is_open()) else { return };
        // Ignore failures: the next round tries again, and a lasting failure shows in the calls.
        if Instant::now() >= next {
            let _ = engine.purge().await;
            engine.source.relax();
            next = Instant::now() + every;
        }
        let _ = engine.give_back().await;
    }
}

/// Works through a lane's queue with one connection until nothing is left.
async fn drive(engine: Arc<Engine>, role: Role, at: usize, start: Start) {
    let mut slot = DrivenSlot { engine: Arc::downgrade(&engine), role, at, is_left: false };
    let mut connection = match start {
        Start::Loaded(connection) => connection,
        Start::Resume(run) => engine.repairer().settle(role, run.await).await,
        Start::Failed(ran) => engine.repairer().settle(role, ran).await,
    };
    loop {
        // Close the connection before marking the slot closed. Otherwise a call that finds the slot
        // closed could open the file again while this connection still has it open.
        if let Some(past) = connection.take_if(|connection| connection.is_retired()) {
            past.close().await;
        }
        let work = {
            // The queue is read and the slot marked under one lock, or a call that queues a job in
            // between would rely on this task, which is about to end.
            let mut state = engine.lane(role).state();
            match Job::next(&mut state.queue) {
                Some(work) => work,
                None if connection.as_ref().is_some_and(Connection::is_retired) => continue,
                None => {
                    state.slots[at] = connection.map_or(Slot::Closed, Slot::Idle);
                    slot.is_left = true;
                    return;
                }
            }
        };
        connection = engine.repairer().serve(role, Next::Try(connection), work).await;
    }
}

/// A slot that a task drives. If the task is lost, the slot is marked closed.
struct DrivenSlot {
    engine: Weak<Engine>,
    role: Role,
    at: usize,
    is_left: bool,
}

impl Drop for DrivenSlot {
    fn drop(&mut self) {
        if let (false, Some(engine)) = (self.is_left, self.engine.upgrade()) {
            engine.lane(self.role).state().slots[self.at] = Slot::Closed;
        }
    }
}
