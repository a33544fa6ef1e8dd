//! A lane: runs commands over one connection in the order in which they come. Reads of single keys
//! that are many become one command. If the connection broke, repeats idempotent commands once.

use super::batch_leader;
use super::commands::{self, Command, Removal};
use super::connection::calls::Drive;
use super::connection::factory::ConnectionFactory;
use super::connection::managed::{First, ManagedConnection, is_refused};
use super::connection::private::PrivateConnection;
use super::errors::{Code, Failure, Fate};
use super::in_place;
use super::lives::{self, Living};
use super::millis;
use super::raw::Encode;
use super::request::{Asks, Reply, Request};
use super::scripts::Invocation;
use crate::adapters::given_up::{GivenUp, Watched};
use crate::batching::Batcher;
use crate::error::ErrorKind;
use crate::runtime::spawn;
use bytes::Bytes;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// One connection, over which the commands about some of the keys are run.
pub(super) struct Lane {
    connection: Arc<ManagedConnection>,
    /// Decides which reads are sent directly, and which in a batch. No write waits in a batch: the
    /// connection itself sends writes together.
    batcher: Arc<Batcher<Request>>,
    born: Instant,
    /// The latest deadline of all reads that have waited so far, in milliseconds since the lane was
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

    /// Runs a command.
    pub(super) async fn run<T>(
        &self,
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

    /// Runs a command. A removal is sent as `removal`.
    async fn run_by<T>(
        &self,
        removal: Removal,
        make: &impl Fn() -> Command<T>,
        deadline: Instant,
    ) -> Result<T, Failure> {
        let answer = self.run_again(&make().removing_by(removal), deadline).await;
        if removal != self.connection.refusals().removal() && !is_refused(&answer) {
            self.connection.refusals().prefer(removal);
        }
        answer
    }

    /// Runs a command, and once more if the connection broke and the command is idempotent.
    pub(super) async fn run_again<T, C: Encode>(
        &self,
        command: &Command<T, C>,
        deadline: Instant,
    ) -> Result<T, Failure> {
        let failed = |failure: Failure| failure.of(command.repeatable);
        match self.connection.run(command, deadline).await.map_err(failed) {
            Err(failure) if failure.again => {
                Box::pin(self.connection.run(command, deadline)).await.map_err(failed)
            }
            outcome => outcome,
        }
    }

    /// Runs a removal and then a command in one round trip, and returns the answer of the command.
    /// If the removal is refused, and no other removal replaces it, only the command counts.
    pub(super) async fn run_after<T>(
        &self,
        make: impl Fn() -> (Command<T>, Command<T>),
        deadline: Instant,
    ) -> Result<T, Failure> {
        let removal = self.connection.refusals().removal();
        let attempt = |removal| {
            let make = &make;
            move || async move {
                let (first, command) = make();
                let (first, command) = (first.removing_by(removal), command.removing_by(removal));
                let ran = self.connection.run_both(&first, &command, deadline).await;
                ran.map_err(|failure| failure.of(command.repeatable))
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

    /// The value of a key, read directly or with the next batch.
    pub(super) async fn get(&self, key: &str, deadline: Instant) -> Result<Option<Bytes>, Failure> {
        let pass = self.batcher.pass();
        if pass.is_none() {
            match Box::pin(self.get_together(Asks::Value, key, deadline)).await? {
                Reply::Found(found) => return Ok(Some(found)),
                Reply::Missing => return Ok(None),
                Reply::FoundLiving(_) | Reply::SendDirectly => {}
            }
        }
        self.run_again(&in_place::get(key), deadline).await
    }

    /// [`get`](Self::get) for a near level: with the rest of the value's life.
    pub(super) async fn get_near(
        &self,
        key: &str,
        deadline: Instant,
    ) -> Result<Option<Living>, Failure> {
        let pass = self.batcher.pass();
        if pass.is_none() {
            match Box::pin(self.get_together(Asks::ValueAndLife, key, deadline)).await? {
                Reply::FoundLiving(found) => return Ok(Some(found)),
                Reply::Missing => return Ok(None),
                Reply::Found(_) | Reply::SendDirectly => {}
            }
        }
        self.read_again(|| lives::read_one(&self.connection, key, deadline)).await
    }

    /// Reads keys for a near level, in one round trip.
    pub(super) async fn get_near_many(
        &self,
        names: &[&str],
        deadline: Instant,
    ) -> Result<Vec<Option<Living>>, Failure> {
        self.read_again(|| lives::read_all(&self.connection, names.iter(), deadline)).await
    }

    /// The same by commands of their own for each key.
    pub(super) async fn get_near_each(
        &self,
        names: &[&str],
        deadline: Instant,
    ) -> Result<Vec<Result<Option<Living>, Failure>>, Failure> {
        self.read_again(|| lives::read_each(&self.connection, names, deadline)).await
    }

    /// Waits for the next batch, and once more if the connection broke.
    async fn get_together(
        &self,
        asks: Asks,
        key: &str,
        deadline: Instant,
    ) -> Result<Reply, Failure> {
        self.read_again(|| self.wait_for_batch(asks, key, deadline)).await
    }

    /// Waits for the next batch. The leader watches the deadline, unless an earlier request has a
    /// later deadline.
    async fn wait_for_batch(
        &self,
        asks: Asks,
        key: &str,
        deadline: Instant,
    ) -> Result<Reply, Failure> {
        let (sender, receiver) = oneshot::channel();
        let until = millis(deadline - self.born);
        // Publish the deadline before enqueuing and read the latest one afterwards: each request
        // then sees the deadlines of all requests ahead of it.
        if self.latest.load(Ordering::Relaxed) < until {
            self.latest.fetch_max(until, Ordering::Relaxed);
        }
        if let Some(leader) = self.batcher.wait(Request::new(asks, key, deadline, sender)) {
            drop(spawn(batch_leader::lead(self.connection.clone(), leader)));
        }
        if self.latest.load(Ordering::Relaxed) > until {
            self.connection.with_deadline(deadline, pin!(received(receiver))).await
        } else {
            received(receiver).await
        }
    }

    /// Makes a call that only reads, and once more if the connection broke.
    async fn read_again<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        read: impl Fn() -> F,
    ) -> Result<T, Failure> {
        Self::retry_once(|| async { read().await.map_err(|failure| failure.of(true)) }).await
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

    /// Runs a script now.
    pub(super) async fn invoke<T>(
        &self,
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
    pub(super) async fn ping(&self, deadline: Instant) -> Result<(), Failure> {
        match self.run(commands::ping, deadline).await {
            Err(failure) if failure.is_refusal() || failure.error.is_refused_write() => Ok(()),
            outcome => outcome,
        }
    }

    /// Runs a batch now, in one round trip. Returns one result for each command.
    pub(super) async fn run_all<T>(
        &self,
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
        &self,
        batch: &[Command<T>],
        deadline: Instant,
    ) -> Result<Vec<Result<T, Failure>>, Failure> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let repeatable = batch.iter().all(|command| command.repeatable);
        let attempt = || async {
            let ran = self.try_run_all(batch, repeatable, deadline).await;
            ran.map_err(|failure| failure.of(repeatable))
        };
        Self::retry_once(attempt).await
    }

    async fn try_run_all<T>(
        &self,
        batch: &[Command<T>],
        repeatable: bool,
        deadline: Instant,
    ) -> Result<Vec<Result<T, Failure>>, Failure> {
        let connection = self.connection.usable_by(deadline, repeatable).await?;
        let answers = self.connection.exchange_all(&connection, batch, deadline).await?;
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

    /// The command for removals that the server permits, as far as is known.
    pub(super) fn removal(&self) -> Removal {
        self.connection.refusals().removal()
    }

    /// Opens a connection to the same server that no other caller uses.
    pub(super) async fn open_private(
        &self,
        deadline: Instant,
    ) -> Result<PrivateConnection, Failure> {
        self.connection.open_private(deadline).await
    }

    /// Waits until every command that was given up on this lane has been executed, or can never be.
    pub(super) async fn settle(&self, deadline: Instant) -> Result<(), Failure> {
        if self.connection.has_stragglers() { self.ping(deadline).await } else { Ok(()) }
    }

    /// A removal that begins now, of keys that are written over other lanes.
    pub(super) fn watch_removal(&self) -> Watched<'_> {
        self.removals.watch()
    }

    /// Waits until the removals that were given up on this lane have been executed: one of them
    /// could otherwise undo a write that is sent now over another lane.
    pub(super) async fn outlast_removals(&self, deadline: Instant) -> Result<(), Failure> {
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
