//! One connection, and what is known of the commands that went over it.

use super::errors::Failure;
use super::millis;
use super::wire::Wire;
use crate::runtime::lock;
use redis::{Cmd, Pipeline, Value};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// As many timeouts without an answer in between say that the connection is dead.
const TIMEOUTS: u32 = 3;
/// A connection that has not answered for so long may have died meanwhile, and nobody has noticed.
const FRESH: Duration = Duration::from_millis(10);
/// As many connections are remembered to be killed; older ones are long gone.
const MAX_ORPHANS: usize = 256;

/// A multiplexed connection: commands are executed, and answered, in the order in which they were begun.
#[derive(Debug)]
pub(super) struct Link {
    wire: Wire,
    client: Option<ClientId>,
    born: Instant,
    /// The number of the last command that had begun when one was given up.
    given_up: AtomicU64,
    /// When the last answer came, in milliseconds since it was born.
    heard: AtomicU64,
    silence: Mutex<Silence>,
    distrusted: AtomicBool,
    orphans: Arc<Orphans>,
}

/// Timeouts in a row.
#[derive(Debug, Default)]
struct Silence {
    since: Option<Instant>,
    timeouts: u32,
    answered: u64,
}

impl Link {
    pub(super) fn new(wire: Wire, client: Option<ClientId>, orphans: Arc<Orphans>) -> Self {
        Self {
            wire,
            client,
            born: Instant::now(),
            given_up: AtomicU64::new(0),
            heard: AtomicU64::new(0),
            silence: Mutex::default(),
            distrusted: AtomicBool::new(false),
            orphans,
        }
    }

    /// Sends one command and waits for its answer; an error of the server is an error.
    pub(super) async fn exchange(&self, command: &Cmd) -> Result<Value, Failure> {
        let flight = Flight::begin(self);
        let answer = self.wire.connection.clone().send_packed_command(command).await;
        flight.end();
        match answer? {
            Value::ServerError(error) => Err(Failure::from(redis::RedisError::from(error))),
            _ if self.distrusted.load(Ordering::Relaxed) => Err(Failure::out_of_step()),
            answer => Ok(answer),
        }
    }

    /// Sends many commands together. An error of the server is in the place of its answer.
    pub(super) async fn exchange_all(&self, commands: &Pipeline) -> Result<Vec<Value>, Failure> {
        let flight = Flight::begin(self);
        let answers =
            self.wire.connection.clone().send_packed_commands(commands, 0, commands.len()).await;
        flight.end();
        let answers = answers?;
        if answers.len() != commands.len() || self.distrusted.load(Ordering::Relaxed) {
            return Err(Failure::out_of_step());
        }
        Ok(answers)
    }

    /// Whether a command that nobody waits for any more may not have been executed yet.
    pub(super) fn has_stragglers(&self) -> bool {
        self.given_up.load(Ordering::Acquire) > self.wire.traffic.answered()
    }

    /// Whether it was alive a moment ago, and the other side has not closed it since. Of a connection that was handed in nobody
    /// knows that.
    pub(super) fn is_fresh(&self) -> bool {
        let heard = Duration::from_millis(self.heard.load(Ordering::Relaxed));
        self.age().saturating_sub(heard) < FRESH && self.wire.is_open_and_quiet()
    }

    pub(super) fn age(&self) -> Duration {
        self.born.elapsed()
    }

    /// Notes that a command begun at `begun` was not answered in time; whether the connection is to be taken for dead: after
    /// some timeouts in a row, and twice the patience without a single answer. One slow command is not enough.
    pub(super) fn is_silent(&self, begun: Instant, patience: Duration) -> bool {
        let answered = self.wire.traffic.answered();
        let mut silence = lock(&self.silence);
        if silence.answered != answered {
            *silence = Silence { since: None, timeouts: 0, answered };
        }
        silence.timeouts += 1;
        let since = *silence.since.get_or_insert(begun);
        silence.timeouts >= TIMEOUTS && since.elapsed() >= patience * 2
    }

    /// Makes every answer still to come an error.
    pub(super) fn distrust(&self) {
        self.distrusted.store(true, Ordering::Relaxed);
    }

    /// Has the server close this connection before it executes anything else of ours.
    pub(super) fn orphan(&self) {
        if let Some(client) = &self.client {
            self.orphans.add(client.clone());
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if self.has_stragglers() {
            self.orphan();
        }
    }
}

/// A command under way; dropped before its end, it was given up.
struct Flight<'l> {
    link: &'l Link,
    number: u64,
}

impl<'l> Flight<'l> {
    fn begin(link: &'l Link) -> Self {
        Self { link, number: link.wire.traffic.begin() }
    }

    fn end(self) {
        self.link.wire.traffic.answer(self.number);
        self.link.heard.store(millis(self.link.age()), Ordering::Relaxed);
        std::mem::forget(self);
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.link.wire.traffic.give_up();
        // Not its own number: two commands may be sent in the other order than they were numbered. Whatever begins from now on
        // is sent later.
        self.link.given_up.fetch_max(self.link.wire.traffic.begun(), Ordering::AcqRel);
    }
}

/// How a server knows a connection.
///
/// The address is part of it, for a restarted server counts from 1 again, and must not be told to close somebody else's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClientId {
    id: String,
    addr: String,
}

impl ClientId {
    /// Reads what `CLIENT INFO` says: `id=7 addr=127.0.0.1:40222 laddr=…`.
    pub(super) fn parse(info: &str) -> Option<Self> {
        let field = |name: &str| {
            info.split_ascii_whitespace()
                .find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
        };
        Some(Self { id: field("id")?.to_owned(), addr: field("addr")?.to_owned() })
    }
}

/// Connections that were thrown away with commands under way. What was sent may still be on the network, or in the server's
/// buffer, and must not be executed after what is sent over another connection: the server closes them first.
#[derive(Debug, Default)]
pub(super) struct Orphans {
    count: AtomicUsize,
    clients: Mutex<Vec<ClientId>>,
}

impl Orphans {
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    fn add(&self, client: ClientId) {
        let mut clients = lock(&self.clients);
        if !clients.contains(&client) {
            if clients.len() == MAX_ORPHANS {
                clients.remove(0);
            }
            clients.push(client);
        }
        self.count.store(clients.len(), Ordering::Release);
    }

    /// Has the server close them, over `link`. A server that does not let us is not asked again: then the order of commands over
    /// different connections is the network's.
    pub(super) async fn bury(&self, link: &Link) -> Result<(), Failure> {
        let mut clients = lock(&self.clients).clone();
        // A late caller of a connection that was thrown away itself: the server would spare it, and it must not be forgotten.
        clients.retain(|client| Some(client) != link.client.as_ref());
        if clients.is_empty() {
            return Ok(());
        }
        let mut kills = Pipeline::with_capacity(clients.len());
        for ClientId { id, addr } in &clients {
            kills.cmd("CLIENT").arg("KILL").arg("ID").arg(id).arg("ADDR").arg(addr);
        }
        link.exchange_all(&kills).await?;
        let mut left = lock(&self.clients);
        left.retain(|client| !clients.contains(client));
        self.count.store(left.len(), Ordering::Release);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_known_by_id_and_address() {
        let known =
            ClientId::parse("id=7 addr=127.0.0.1:40222 laddr=127.0.0.1:6379 fd=8 name= age=0")
                .unwrap();
        assert_eq!((known.id.as_str(), known.addr.as_str()), ("7", "127.0.0.1:40222"));
        assert_eq!(ClientId::parse("id=7 laddr=127.0.0.1:6379"), None);
    }

    #[test]
    fn orphans_are_bounded_and_kept_once() {
        let orphans = Orphans::default();
        for round in 0..2 {
            for id in 0..MAX_ORPHANS + 10 {
                orphans.add(ClientId { id: id.to_string(), addr: format!("{round}") });
                orphans.add(ClientId { id: id.to_string(), addr: format!("{round}") });
            }
        }
        assert_eq!(lock(&orphans.clients).len(), MAX_ORPHANS);
        assert!(!orphans.is_empty());
    }
}
