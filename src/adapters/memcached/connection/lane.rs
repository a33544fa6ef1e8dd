//! A lane: one connection, and the queue in front of it.
//!
//! A caller that finds the connection idle runs its own command: it writes, waits and reads in its
//! own task. As soon as another call has to wait, or the caller gives up, a task on the runtime of
//! the callers takes over the connection together with the command, and works through the queue. So
//! every command that has begun runs to its end, and a caller that is dropped or not polled holds
//! up no other.
//!
//! All commands on a key use one lane and stay in order. Reads, writes and removals that wait at
//! the same time are sent as one batch.

use super::command::{Command, Job, Reply};
use super::run::run;
use super::session::Session;
use crate::batching::{Limits, Queue};
use crate::error::Result;
use crate::runtime;
use crate::runtime::lock;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::yield_now;

/// A command for more keys is run by the task: the lanes then work at the same time, and what that
/// saves is more than what it costs to wake them.
const MOST_KEYS: usize = 128;

/// A lane. A command that has begun keeps it alive.
pub(in crate::adapters::memcached) struct Lane(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// The runtime of the callers, and of the connection.
    runtime: Handle,
}

struct State {
    driver: Driver,
    /// Empty while the lane is idle or a caller runs its command.
    queue: Queue<Job>,
    tickets: u64,
}

/// Who has the connection.
enum Driver {
    Idle(Box<Session>),
    /// The caller with this ticket, which is not being polled at the moment. Its waker is for a task
    /// that takes the command over: from then on the caller waits for the answer.
    Caller(u64, Run, Waker),
    /// A caller that is being polled. It looks at the queue afterwards.
    PolledCaller,
    Task,
    /// Nobody: it has ended with its runtime.
    Ended,
}

/// A command that runs, and gives the session back.
type Run = Pin<Box<dyn Future<Output = Box<Session>> + Send>>;

/// What a task begins with.
enum Start {
    Session(Box<Session>),
    Run(Run),
}

impl Lane {
    /// Opens a lane on the current runtime.
    pub(in crate::adapters::memcached) fn open(session: Session, limits: Limits) -> Self {
        let driver = Driver::Idle(Box::new(session));
        let state = State { driver, queue: Queue::new(limits), tickets: 0 };
        Self(Arc::new(Shared { state: Mutex::new(state), runtime: runtime::current() }))
    }

    /// Runs a command and waits for its answer, without a time limit. `None` if the lane has ended,
    /// or the deadline passed before the command began.
    pub(in crate::adapters::memcached) fn ask<T>(
        &self,
        deadline: Instant,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> impl Future<Output = Option<Result<T>>> {
        let (reply, answer) = oneshot::channel();
        self.call(deadline, command(reply), answer)
    }

    /// As [`ask`](Self::ask), for a command whose answer goes to `answer`.
    pub(in crate::adapters::memcached) fn call<T>(
        &self,
        deadline: Instant,
        command: Command,
        answer: oneshot::Receiver<Result<T>>,
    ) -> impl Future<Output = Option<Result<T>>> {
        let ticket = Shared::submit(&self.0, Job { command, deadline });
        Call { lane: &self.0, ticket, answer }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Puts a job in flight. With the ticket the caller runs its own command.
    fn submit(this: &Arc<Self>, job: Job) -> Option<u64> {
        let mut state = this.state();
        let start = match mem::replace(&mut state.driver, Driver::Task) {
            Driver::Idle(session) if job.command.hashes().nth(MOST_KEYS).is_none() => {
                state.tickets += 1;
                let ticket = state.tickets;
                let run = Box::pin(run_one(session, job));
                state.driver = Driver::Caller(ticket, run, Waker::noop().clone());
                return Some(ticket);
            }
            Driver::Idle(session) => Some((Start::Session(session), None)),
            Driver::Caller(_, run, waker) => Some((Start::Run(run), Some(waker))),
            Driver::Task => None,
            Driver::PolledCaller => {
                state.driver = Driver::PolledCaller;
                None
            }
            Driver::Ended => {
                state.driver = Driver::Ended;
                return None;
            }
        };
        state.queue.push(job);
        drop(state);
        if let Some((start, caller)) = start {
            Self::spawn(this, start);
            caller.into_iter().for_each(Waker::wake);
        }
        None
    }

    /// Polls the command of the caller with this ticket. Ready when it has run to its end, or a
    /// task runs it.
    fn poll_run(this: &Arc<Self>, ticket: u64, context: &mut Context<'_>) -> Poll<()> {
        let Some(mut run) = this.take_run(ticket, Driver::PolledCaller) else {
            return Poll::Ready(());
        };
        // Without the lock: other callers queue meanwhile.
        let end = End { lane: this, is_armed: true };
        let polled = run.as_mut().poll(context);
        end.disarm();
        let mut state = this.state();
        let start = match polled {
            Poll::Pending if state.queue.is_empty() => {
                state.driver = Driver::Caller(ticket, run, context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(session) if state.queue.is_empty() => {
                state.driver = Driver::Idle(session);
                return Poll::Ready(());
            }
            Poll::Pending => Start::Run(run),
            Poll::Ready(session) => Start::Session(session),
        };
        state.driver = Driver::Task;
        drop(state);
        Self::spawn(this, start);
        Poll::Ready(())
    }

    /// A task finishes what the caller with this ticket has begun.
    fn leave(this: &Arc<Self>, ticket: u64) {
        if let Some(run) = this.take_run(ticket, Driver::Task) {
            Self::spawn(this, Start::Run(run));
        }
    }

    fn take_run(&self, ticket: u64, next: Driver) -> Option<Run> {
        let mut state = self.state();
        match mem::replace(&mut state.driver, next) {
            Driver::Caller(own, run, waker) if own == ticket => {
                // Without the lock: the last waker of a task may drop what the task holds.
                drop(state);
                drop(waker);
                Some(run)
            }
            other => {
                state.driver = other;
                None
            }
        }
    }

    /// Without the lock: a runtime that has ended drops the task at once, which takes it.
    fn spawn(this: &Arc<Self>, start: Start) {
        this.runtime.spawn(work(this.clone(), start));
    }

    /// Ends the lane: calls in flight and later ones get no answer.
    fn end(&self) {
        let mut state = self.state();
        let last = mem::replace(&mut state.driver, Driver::Ended);
        let left = state.queue.take_all();
        drop(state);
        drop((last, left));
    }
}

/// Ends the lane if it is dropped while it is armed: with the runtime of a task, or by a panic.
struct End<L: AsRef<Shared>> {
    lane: L,
    is_armed: bool,
}

impl<L: AsRef<Shared>> End<L> {
    fn disarm(mut self) {
        self.is_armed = false;
    }
}

impl<L: AsRef<Shared>> Drop for End<L> {
    fn drop(&mut self) {
        if self.is_armed {
            self.lane.as_ref().end();
        }
    }
}

async fn run_one(mut session: Box<Session>, job: Job) -> Box<Session> {
    run(&mut session, vec![job]).await;
    session
}

/// Works through the queue. Dropped before it is polled for the first time, it ends the lane all
/// the same.
fn work(lane: Arc<Shared>, start: Start) -> impl Future<Output = ()> {
    let end = End { lane, is_armed: true };
    async move {
        let mut session = match start {
            Start::Session(session) => session,
            Start::Run(run) => run.await,
        };
        loop {
            let group = {
                let mut state = end.lane.state();
                let group = state.queue.next();
                if group.is_empty() {
                    state.driver = Driver::Idle(session);
                    break;
                }
                group
            };
            let was_batched = group.len() > 1;
            run(&mut session, group).await;
            if was_batched {
                // Let the callers that were just answered run first: their next commands may join
                // the next batch.
                yield_now().await;
            }
        }
        end.disarm();
    }
}

/// A call in flight. If it is dropped, a task runs its command to the end.
struct Call<'l, T> {
    lane: &'l Arc<Shared>,
    ticket: Option<u64>,
    answer: oneshot::Receiver<Result<T>>,
}

impl<T> Future for Call<'_, T> {
    type Output = Option<Result<T>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(ticket) = self.ticket {
            // The answer is not waited for while the command runs here: the caller would wake
            // itself with it, and be polled once more for nothing.
            ready!(Shared::poll_run(self.lane, ticket, context));
            self.ticket = None;
        }
        Pin::new(&mut self.answer).poll(context).map(Result::ok)
    }
}

impl<T> Drop for Call<'_, T> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            Shared::leave(self.lane, ticket);
        }
    }
}
