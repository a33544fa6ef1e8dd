//! One connection, and what is known of the commands that went over it.

use super::driver::DriverHandle;
use crate::adapters::redis::errors::{Failure, Fate, in_cluster_mode};
use crate::adapters::redis::millis;
use crate::error::ErrorKind;
use crate::runtime::lock;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, Value};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// After this many timeouts in a row without an answer the connection is considered dead.
const TIMEOUTS: u32 = 3;
/// A connection that has not answered for so long may have died unnoticed.
const FRESH: Duration = Duration::from_millis(10);
/// As many connections are remembered to be killed; older ones are long gone.
const MAX_ORPHANS: usize = 256;

/// A multiplexed connection: commands are executed, and answered, in the order in which they were
/// begun.
#[derive(Debug)]
pub(in crate::adapters::redis) struct Connection {
    driver: DriverHandle,
    client: Option<ClientId>,
    born: Instant,
    /// The number of the last command that had begun when one was given up.
    given_up: AtomicU64,
    /// When the last answer came, in milliseconds since it was born.
    heard: AtomicU64,
    silence: Mutex<Silence>,
    poisoned: AtomicBool,
    orphans: Arc<Orphans>,
}

/// Timeouts in a row.
#[derive(Debug, Default)]
struct Silence {
    since: Option<Instant>,
    timeouts: u32,
    answered: u64,
}

impl Connection {
    pub(in crate::adapters::redis) fn new(
        driver: DriverHandle,
        client: Option<ClientId>,
        orphans: Arc<Orphans>,
    ) -> Self {
        Self {
            driver,
            client,
            born: Instant::now(),
            given_up: AtomicU64::new(0),
            heard: AtomicU64::new(0),
            silence: Mutex::default(),
            poisoned: AtomicBool::new(false),
            orphans,
        }
    }

    /// Sends one command and waits for its answer; an error of the server is an error.
    pub(in crate::adapters::redis) async fn exchange(
        &self,
        command: &Cmd,
    ) -> Result<Value, Failure> {
        let flight = InFlight::begin(self);
        let answer = self.driver.connection.clone().send_packed_command(command).await;
        flight.end();
        match answer? {
            Value::ServerError(error) => Err(Failure::from(redis::RedisError::from(error))),
            _ if self.poisoned.load(Ordering::Relaxed) => Err(Failure::desynchronized()),
            answer => Ok(answer),
        }
    }

    /// Sends many commands together. An error of the server is in the place of its answer.
    pub(in crate::adapters::redis) async fn exchange_all(
        &self,
        commands: &Pipeline,
    ) -> Result<Vec<Value>, Failure> {
        let flight = InFlight::begin(self);
        let answers =
            self.driver.connection.clone().send_packed_commands(commands, 0, commands.len()).await;
        flight.end();
        let answers = answers?;
        if answers.len() != commands.len() || self.poisoned.load(Ordering::Relaxed) {
            return Err(Failure::desynchronized());
        }
        Ok(answers)
    }

    /// Whether a command without a caller may not have been executed yet.
    pub(in crate::adapters::redis) fn has_stragglers(&self) -> bool {
        self.given_up.load(Ordering::Acquire) > self.driver.coalescer.answered()
    }

    /// Whether it was alive a moment ago, and the other side has not closed it since. Of a
    /// connection that was handed in that is not known.
    pub(in crate::adapters::redis) fn is_fresh(&self) -> bool {
        let heard = Duration::from_millis(self.heard.load(Ordering::Relaxed));
        self.age().saturating_sub(heard) < FRESH && self.driver.is_open_and_quiet()
    }

    pub(in crate::adapters::redis) fn age(&self) -> Duration {
        self.born.elapsed()
    }

    /// Notes that a command begun at `begun` was not answered in time; whether the connection is to
    /// be taken for dead: after some timeouts in a row, and twice the timeout without a single
    /// answer. One slow command is not enough.
    pub(in crate::adapters::redis) fn is_silent(&self, begun: Instant, timeout: Duration) -> bool {
        let answered = self.driver.coalescer.answered();
        let mut silence = lock(&self.silence);
        if silence.answered != answered {
            *silence = Silence { since: None, timeouts: 0, answered };
        }
        silence.timeouts += 1;
        let since = *silence.since.get_or_insert(begun);
        silence.timeouts >= TIMEOUTS && since.elapsed() >= timeout * 2
    }

    /// Makes every answer still to come an error.
    pub(in crate::adapters::redis) fn poison(&self) {
        self.poisoned.store(true, Ordering::Relaxed);
    }

    /// Has the server close this connection before it executes anything else of ours.
    pub(in crate::adapters::redis) fn orphan(&self) {
        if let Some(client) = &self.client {
            self.orphans.add(client.clone());
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.has_stragglers() {
            self.orphan();
        }
    }
}

/// A command in flight; dropped before its end, it was given up.
struct InFlight<'l> {
    connection: &'l Connection,
    number: u64,
}

impl<'l> InFlight<'l> {
    fn begin(connection: &'l Connection) -> Self {
        Self { connection, number: connection.driver.coalescer.begin() }
    }

    fn end(self) {
        self.connection.driver.coalescer.answer(self.number);
        self.connection.heard.store(millis(self.connection.age()), Ordering::Relaxed);
        std::mem::forget(self);
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.connection.driver.coalescer.give_up();
        // Not its own number: two commands may be sent in the other order than they were numbered.
        // Whatever begins from now on is sent later.
        self.connection
            .given_up
            .fetch_max(self.connection.driver.coalescer.begun(), Ordering::AcqRel);
    }
}

/// How a server knows a connection.
///
/// The address is part of it, for a restarted server counts from 1 again, and must not close a
/// connection of another client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::adapters::redis) struct ClientId {
    id: String,
    addr: String,
}

impl ClientId {
    /// Reads what `CLIENT INFO` says: `id=7 addr=127.0.0.1:40222 laddr=…`.
    pub(in crate::adapters::redis) fn parse(info: &str) -> Option<Self> {
        let field = |name: &str| {
            info.split_ascii_whitespace()
                .find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
        };
        Some(Self { id: field("id")?.to_owned(), addr: field("addr")?.to_owned() })
    }
}

/// What the server calls this connection, `None` if it does not say; an error for a server that is
/// not one for a cache.
pub(in crate::adapters::redis) async fn identify(
    connection: &mut MultiplexedConnection,
) -> Result<Option<ClientId>, Failure> {
    let mut questions = Pipeline::with_capacity(2);
    questions.cmd("CLIENT").arg("INFO");
    // Without arguments it changes nothing, and says in which mode the server is.
    questions.cmd("HELLO");
    let answers = connection.send_packed_commands(&questions, 0, 2).await?;
    let [client, server] =
        <[Value; 2]>::try_from(answers).map_err(|_| Failure::desynchronized())?;
    match mode(&server) {
        Some("cluster") => return Err(in_cluster_mode()),
        Some("sentinel") => {
            let message = "this is a sentinel, which stores nothing, and not a server";
            return Err(Failure::new(ErrorKind::Config, message, Fate::Drop));
        }
        _ => {}
    }
    Ok(match client {
        Value::BulkString(info) => ClientId::parse(&String::from_utf8_lossy(&info)),
        Value::VerbatimString { text, .. } => ClientId::parse(&text),
        Value::ServerError(error) if error.code() == "NOAUTH" => {
            return Err(Failure::from(redis::RedisError::from(error)));
        }
        _ => None,
    })
}

/// Which of the modes that are of no use here a server says that it is in, in either version of the
/// protocol.
fn mode(hello: &Value) -> Option<&'static str> {
    let mode = match hello {
        Value::Map(fields) => {
            fields.iter().find(|(name, _)| text(name) == Some("mode")).map(|(_, mode)| mode)
        }
        Value::Array(fields) => fields
            .chunks_exact(2)
            .find(|field| text(&field[0]) == Some("mode"))
            .map(|field| &field[1]),
        _ => None,
    };
    let mode = mode.and_then(text)?;
    ["cluster", "sentinel"].into_iter().find(|known| *known == mode)
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(text) => std::str::from_utf8(text).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

/// Connections that were thrown away with commands in flight. What was sent may still be on the
/// network, or in the server's buffer, and must not be executed after what is sent over another
/// connection: the server closes them first.
#[derive(Debug, Default)]
pub(in crate::adapters::redis) struct Orphans {
    count: AtomicUsize,
    clients: Mutex<Vec<ClientId>>,
}

impl Orphans {
    pub(in crate::adapters::redis) fn is_empty(&self) -> bool {
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

    /// Has the server close them, over `connection`. A server that does not let us is not asked
    /// again: then the order of commands over different connections is the network's.
    pub(in crate::adapters::redis) async fn kill(
        &self,
        connection: &Connection,
    ) -> Result<(), Failure> {
        let mut clients = lock(&self.clients).clone();
        // A late caller of a connection that was thrown away itself: the server would spare it, and
        // it must not be forgotten.
        clients.retain(|client| Some(client) != connection.client.as_ref());
        if clients.is_empty() {
            return Ok(());
        }
        let mut kills = Pipeline::with_capacity(clients.len());
        for ClientId { id, addr } in &clients {
            kills.cmd("CLIENT").arg("KILL").arg("ID").arg(id).arg("ADDR").arg(addr);
        }
        connection.exchange_all(&kills).await?;
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
