//! A connection out of a pool or of a client that the user has: the driver's, with the driver's
//! task.

use crate::adapters::redis::errors::Failure;
use crate::adapters::redis::raw::{Encode, EncodeAll};
use crate::adapters::redis::reply::Reply;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Pipeline};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::time::{Instant, timeout_at};

/// How many commands may wait to be written before callers wait for each other; the driver's own 50
/// is few for a cache.
const QUEUE: usize = 1024;

/// The driver's connection, and the numbers of the commands that went over it.
#[derive(Debug)]
pub(in crate::adapters::redis) struct HandedInConnection {
    connection: MultiplexedConnection,
    /// The last command that began, and the last one that was answered.
    begun: AtomicU64,
    answered: AtomicU64,
    /// The number of the last command that had begun when one was given up.
    given_up: AtomicU64,
    /// Every answer still to come is an error.
    is_poisoned: AtomicBool,
}

/// Without deadlines: the one around everything is larder's.
pub(super) fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
        .set_pipeline_buffer_size(QUEUE)
}

impl From<MultiplexedConnection> for HandedInConnection {
    fn from(connection: MultiplexedConnection) -> Self {
        Self {
            connection,
            begun: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
            is_poisoned: AtomicBool::new(false),
        }
    }
}

impl HandedInConnection {
    /// Sends one command and waits for its reply; an error of the server's is a reply.
    pub(super) async fn exchange(
        &self,
        command: &impl Encode,
        deadline: Instant,
    ) -> Result<Reply, Failure> {
        let flight = InFlight::begin(self);
        let (mut connection, command) = (self.connection.clone(), command.for_the_driver());
        let reply = timeout_at(deadline, connection.send_packed_command(&command)).await;
        let reply = reply.map_err(|_| Failure::timeout())?;
        flight.end();
        let reply = Reply::from(reply?);
        if self.is_poisoned.load(Ordering::Relaxed) && !matches!(reply, Reply::Error(_)) {
            return Err(Failure::desynchronized());
        }
        Ok(reply)
    }

    /// Sends many commands together.
    pub(super) async fn exchange_all<C: EncodeAll + ?Sized>(
        &self,
        all: &C,
        deadline: Instant,
    ) -> Result<Vec<Reply>, Failure> {
        let flight = InFlight::begin(self);
        let (mut connection, mut commands) =
            (self.connection.clone(), Pipeline::with_capacity(all.count()));
        for command in all.for_the_driver() {
            commands.add_command(command);
        }
        let sending = connection.send_packed_commands(&commands, 0, commands.len());
        let replies = timeout_at(deadline, sending).await.map_err(|_| Failure::timeout())?;
        flight.end();
        let replies = replies?;
        if replies.len() != commands.len() || self.is_poisoned.load(Ordering::Relaxed) {
            return Err(Failure::desynchronized());
        }
        Ok(replies.into_iter().map(Reply::from).collect())
    }

    /// Whether a command without a caller may not have been executed yet.
    pub(super) fn has_abandoned(&self) -> bool {
        self.given_up.load(Ordering::Acquire) > self.answered()
    }

    /// The number of the last command that was answered.
    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Acquire)
    }

    pub(super) fn poison(&self) {
        self.is_poisoned.store(true, Ordering::Relaxed);
    }
}

/// A command in flight; dropped before its end, it was given up.
struct InFlight<'c> {
    connection: &'c HandedInConnection,
    number: u64,
}

impl<'c> InFlight<'c> {
    fn begin(connection: &'c HandedInConnection) -> Self {
        Self { connection, number: connection.begun.fetch_add(1, Ordering::AcqRel) + 1 }
    }

    fn end(self) {
        self.connection.answered.fetch_max(self.number, Ordering::AcqRel);
        std::mem::forget(self);
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        // Not its own number: two commands may be sent in the other order than they were numbered.
        // A command that begins from now on is sent later.
        let begun = self.connection.begun.load(Ordering::Acquire);
        self.connection.given_up.fetch_max(begun, Ordering::AcqRel);
    }
}
