//! A lane: runs commands over one connection in the order in which they come, directly or in a
//! batch. If the connection broke, repeats idempotent commands once.

use super::batch_leader;
use super::commands::{self, Command, Removal};
use super::connection::calls::Drive;
use super::connection::factory::ConnectionFactory;
use super::connection::managed::{First, ManagedConnection, is_refused};
use super::errors::{Code, Failure, Fate};
use super::millis;
use super::request::{Reply, Request, Work};
use super::scripts::Invocation;
use crate::adapters::given_up::{GivenUp, Watched};
use crate::batching::Batcher;
use crate::error::ErrorKind;
use crate::runtime::spawn;
use bytes::Bytes;
use redis::{Pipeline, Value};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// The queue before one connection.
pub(super) struct Lane {
    connection: Arc<ManagedConnection>,
    /// Decides which calls are sent directly, and which in a batch.
    batcher: Arc<Batcher<Request>>,
    born: Instant,
    /// The latest deadline of all calls that have waited so far, in milliseconds since the lane was
    /// made.
    latest: AtomicU64,
    /// The removals over this lane, of keys that are written over others, that were given up.
    removals: GivenUp,
}

impl Lane {
    pub(super) fn new(
        factory: Arc<ConnectionFactory>,
        drive: Drive,
        batcher: Batcher<Request>,
    ) -> Arc<Self> {
        Arc::new(Self {
            connection: ManagedConnection::new(factory, drive),
            batcher: Arc::new(batcher),
            born: Instant::now(),
            latest: AtomicU64::new(0),
            removals: GivenUp::default(),
        })
    }

    /// Checks that the connection is in sync, as [`ManagedConnection::verify`] does.
    pub(super) async fn verify(&self, deadline: Instant) -> Result<(), Failure> {
        self.connection.verify(deadline).await
    }

    /// Runs a command now, or with the next batch.
    pub(super) async fn run<T>(
        self: &Arc<Self>,
        make: impl Fn() -> Command<T>,
        deadline: Instant,
    ) -> Result<T, Failure> {
        let removal = self.connection.refusals().removal();
        match self.run_by(removal, &make, deadline).await {
            Err(failure) if failure.code == Code::Refused && make().removes() => {
                Box::pin(self.run_by(removal.other(), &make, deadline)).await
            }
            outcome => outcome,
        }
    }

    /// Runs a command now, or with the next batch. A removal is sent as `removal`.
    async fn run_by<T>(
        self: &Arc<Self>,
        removal: Removal,
        make: &impl Fn() -> Command<T>,
        deadline: Instant,
    ) -> Result<T, Failure> {
        let attempt = || self.try_run(None, make().removing_by(removal), deadline);
        let answer = Self::retry_once(attempt).await.map(|(_, answer)| answer);
        if removal != self.connection.refusals().removal() && !is_refused(&answer) {
            self.connection.refusals().prefer(removal);
        }
        answer
    }

    /// Runs a removal and then a command in one round trip, now or with the next batch, and returns
    /// the answer of the command. If the removal is refused, and no other removal replaces it, only
    /// the command counts.
    pub(super) async fn run_after<T>(
        self: &Arc<Self>,
        make: impl Fn() -> (Command<T>, Command<T>),
        deadline: Instant,
    ) -> Result<T, Failure> {
        let removal = self.connection.refusals().removal();
        let attempt = |removal| {
            let make = &make;
            move || {
                let (first, command) = make();
                let first = Box::new(first.removing_by(removal));
                self.try_run(Some(first), command.removing_by(removal), deadline)
            }
        };
        match Self::retry_once(attempt(removal)).await {
            Ok((First::Done, answer)) => Ok(answer),
            Ok((First::Refused, answer)) => {
                // The command has been executed already. The removal is tried by itself, and need
                // not succeed.
                let first = || make().0;
                drop(Box::pin(self.run_by(removal.other(), &first, deadline)).await);
                Ok(answer)
            }
            Err(failure) if failure.code == Code::Refused && make().1.removes() => {
                let answer = Box::pin(Self::retry_once(attempt(removal.other()))).await;
                let answer = answer.map(|(_, answer)| answer);
                if !is_refused(&answer) {
                    self.connection.refusals().prefer(removal.other());
                }
                answer
            }
            Err(failure) => Err(failure),
        }
    }

    async fn try_run<T>(
        self: &Arc<Self>,
        first: Option<Box<Command<T>>>,
        command: Command<T>,
        deadline: Instant,
    ) -> Result<(First, T), Failure> {
        let (read, repeatable) = (command.read, command.repeatable);
        let pass = self.batcher.pass();
        let ran = if pass.is_some() {
            Box::pin(self.connection.run_directly(first, &command, deadline)).await
        } else {
            let first = first.map(|first| Box::new(first.cmd));
            match self.wait(Work::Command { first, cmd: command.cmd, repeatable }, deadline).await {
                Ok(heard) => {
                    self.outcome(heard, read).unwrap_or_else(|| Err(Failure::desynchronized()))
                }
                Err(failure) => Err(failure),
            }
        };
        ran.map_err(|failure| failure.of(repeatable))
    }

    /// The value of a key.
    pub(super) async fn get(
        self: &Arc<Self>,
        key: &str,
        deadline: Instant,
    ) -> Result<Option<Bytes>, Failure> {
        Self::retry_once(|| self.try_get(key, deadline)).await
    }

    async fn try_get(
        self: &Arc<Self>,
        key: &str,
        deadline: Instant,
    ) -> Result<Option<Bytes>, Failure> {
        let pass = self.batcher.pass();
        if pass.is_none() {
            let heard = self
                .wait(Work::Get(key.into()), deadline)
                .await
                .map_err(|failure| failure.of(true))?;
            if let Some(found) = self.outcome(heard, commands::bytes) {
                return found.map(|(_, found)| found);
            }
        }
        let get = commands::get(key);
        let alone = Box::pin(self.connection.run_directly(None, &get, deadline));
        alone.await.map(|(_, found)| found).map_err(|failure| failure.of(true))
    }

    /// Makes a call once more if the connection broke and the call is idempotent.
    async fn retry_once<T, F: Future<Output = Result<T, Failure>>>(
        attempt: impl Fn() -> F,
    ) -> Result<T, Failure> {
        match attempt().await {
            Err(failure) if failure.again => Box::pin(attempt()).await,
            outcome => outcome,
        }
    }

    /// Waits for the next batch. The leader watches the deadline, unless an earlier request has a
    /// later deadline.
    async fn wait(self: &Arc<Self>, work: Work, deadline: Instant) -> Result<Reply, Failure> {
        let (sender, receiver) = oneshot::channel();
        let until = millis(deadline - self.born);
        // Publish the deadline before enqueuing and read the latest one afterwards: each request
        // then sees the deadlines of all requests ahead of it.
        if self.latest.load(Ordering::Relaxed) < until {
            self.latest.fetch_max(until, Ordering::Relaxed);
        }
        if let Some(leader) = self.batcher.wait(Request::new(work, deadline, sender)) {
            drop(spawn(batch_leader::lead(self.connection.clone(), leader)));
        }
        if self.latest.load(Ordering::Relaxed) > until {
            return Box::pin(async {
                self.connection.with_deadline(deadline, pin!(received(receiver))).await
            })
            .await;
        }
        received(receiver).await
    }

    /// The result of a request in a batch; `None` if the caller has to send the request directly.
    fn outcome<T>(
        &self,
        reply: Reply,
        read: fn(Value) -> Option<T>,
    ) -> Option<Result<(First, T), Failure>> {
        let (first, answer) = match reply {
            Reply::Found(value) => {
                (Ok(First::Done), read(value).ok_or_else(Failure::desynchronized))
            }
            Reply::Answer { first, answer, connection } => {
                let first = first.map_or(Ok(First::Done), |first| {
                    First::of(self.connection.read(&connection, Some, first))
                });
                (first, self.connection.read(&connection, read, answer))
            }
            Reply::SendDirectly => return None,
        };
        Some(first.and_then(|first| Ok((first, answer?))))
    }

    /// Runs a script now.
    pub(super) async fn invoke<T>(
        self: &Arc<Self>,
        script: &Invocation<T>,
        deadline: Instant,
    ) -> Result<T, Failure> {
        match self.run(|| script.by_hash.clone(), deadline).await {
            Err(failure) if matches!(failure.code, Code::NoScript | Code::Refused) => {
                self.run(|| script.in_full(), deadline).await
            }
            ran => ran,
        }
    }

    /// Checks that the server answers. A server that refuses the command has answered.
    pub(super) async fn ping(self: &Arc<Self>, deadline: Instant) -> Result<(), Failure> {
        match self.run(commands::ping, deadline).await {
            Err(failure) if failure.is_refusal() || failure.error.is_refused_write() => Ok(()),
            outcome => outcome,
        }
    }

    /// Runs a batch now, in one round trip. Returns one result for each command.
    pub(super) async fn run_all<T>(
        self: &Arc<Self>,
        batch: &[Command<T>],
        deadline: Instant,
    ) -> Result<Vec<Result<T, Failure>>, Failure> {
        let removal = self.connection.refusals().removal();
        let mut answers = match removal {
            Removal::Unlink => self.run_batch(batch, deadline).await?,
            Removal::Delete => {
                let batch: Vec<_> =
                    batch.iter().map(|one| one.clone().removing_by(removal)).collect();
                self.run_batch(&batch, deadline).await?
            }
        };
        let is_to_be_done = |at: &usize| is_refused(&answers[*at]) && batch[*at].removes();
        let refused: Vec<usize> = (0..answers.len()).filter(is_to_be_done).collect();
        let again: Vec<_> =
            refused.iter().map(|at| batch[*at].clone().removing_by(removal.other())).collect();
        for (at, answer) in refused.into_iter().zip(self.run_batch(&again, deadline).await?) {
            if !is_refused(&answer) {
                self.connection.refusals().prefer(removal.other());
            }
            answers[at] = answer;
        }
        Ok(answers)
    }

    async fn run_batch<T>(
        self: &Arc<Self>,
        batch: &[Command<T>],
        deadline: Instant,
    ) -> Result<Vec<Result<T, Failure>>, Failure> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = Pipeline::with_capacity(batch.len());
        for command in batch {
            pipeline.add_command(command.cmd.clone());
        }
        let repeatable = batch.iter().all(|command| command.repeatable);
        let attempt = || async {
            let ran = self.try_run_all(batch, &pipeline, repeatable, deadline).await;
            ran.map_err(|failure| failure.of(repeatable))
        };
        Self::retry_once(attempt).await
    }

    async fn try_run_all<T>(
        self: &Arc<Self>,
        batch: &[Command<T>],
        pipeline: &Pipeline,
        repeatable: bool,
        deadline: Instant,
    ) -> Result<Vec<Result<T, Failure>>, Failure> {
        // Wait for the requests that were given up and have not been sent.
        let pass = self.batcher.pass();
        if pass.is_none() {
            self.wait(Work::Barrier, deadline).await?;
        }
        let connection = self.connection.connection_by(deadline, repeatable).await?;
        let answers = self.connection.exchange_all(&connection, pipeline, deadline).await?;
        let read = |(command, answer): (&Command<T>, _)| match self.connection.read(
            &connection,
            command.read,
            answer,
        ) {
            Err(failure) if failure.code == Code::Desynchronized => Err(failure),
            read => Ok(read),
        };
        batch.iter().zip(answers).map(read).collect()
    }

    /// Waits until every command that was given up on this lane has been executed, or can never be.
    pub(super) async fn settle(self: &Arc<Self>, deadline: Instant) -> Result<(), Failure> {
        let behind = self.batcher.is_batching() || self.connection.has_stragglers();
        if behind { self.ping(deadline).await } else { Ok(()) }
    }

    /// A removal that begins now, of keys that are written over other lanes.
    pub(super) fn watch_removal(&self) -> Watched<'_> {
        self.removals.watch()
    }

    /// Waits until the removals that were given up on this lane have been executed: one of them
    /// could otherwise undo a write that is sent now over another lane.
    pub(super) async fn outlast_removals(
        self: &Arc<Self>,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let Some(count) = self.removals.in_flight() else { return Ok(()) };
        Box::pin(self.settle(deadline)).await?;
        self.removals.settle(count);
        Ok(())
    }
}

async fn received(receiver: oneshot::Receiver<Result<Reply, Failure>>) -> Result<Reply, Failure> {
    let lost = |_| {
        Failure::new(ErrorKind::Unavailable, "the runtime of the connection has ended", Fate::Keep)
    };
    receiver.await.map_err(lost)?
}
