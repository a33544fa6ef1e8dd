//! One connection, and what is known of the commands that went over it.

use super::driven::{DrivenConnection, untrack};
use super::handed_in::HandedInConnection;
use super::hello::Hello;
use super::open::explained;
use super::tracking::Tracking;
use crate::adapter::{Source, SourceId};
use crate::adapters::redis::errors::{Failure, Fate, in_cluster_mode};
use crate::adapters::redis::raw::{Encode, EncodeAll, RawCommand};
use crate::adapters::redis::reply::Reply;
use crate::error::ErrorKind;
use crate::runtime::lock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio::time::Instant;

/// After this many timeouts in a row without an answer the connection is considered dead.
const TIMEOUTS: u32 = 3;
/// A connection that has not answered for so long may have died unnoticed.
const FRESH: Duration = Duration::from_millis(10);
/// As many connections are remembered to be killed; older ones are long gone.
const MAX_ORPHANS: usize = 256;

/// Commands over it are executed, and answered, in the order in which they were begun.
#[derive(Debug)]
pub(in crate::adapters::redis) enum Link {
    Driven(DrivenConnection),
    HandedIn(HandedInConnection),
}

impl Link {
    /// Sends one command and waits for its reply until the deadline; an error of the server's is a
    /// reply.
    async fn exchange(&self, command: &impl Encode, deadline: Instant) -> Result<Reply, Failure> {
        match self {
            Self::Driven(connection) => connection.exchange(command, deadline).await,
            // Boxed: the driver's future is larger than all else that a call needs.
            Self::HandedIn(connection) => Box::pin(connection.exchange(command, deadline)).await,
        }
    }

    /// Sends many commands together. An error of the server's is in the place of its answer.
    async fn exchange_all<C: EncodeAll + ?Sized>(
        &self,
        commands: &C,
        deadline: Instant,
    ) -> Result<Vec<Reply>, Failure> {
        match self {
            Self::Driven(connection) => connection.exchange_all(commands, deadline).await,
            Self::HandedIn(connection) => {
                Box::pin(connection.exchange_all(commands, deadline)).await
            }
        }
    }

    /// Whether a command without a caller may not have been executed yet.
    fn has_stragglers(&self) -> bool {
        match self {
            Self::Driven(connection) => connection.has_abandoned(),
            Self::HandedIn(connection) => connection.has_abandoned(),
        }
    }

    /// A number that grows with each answer.
    fn answered(&self) -> u64 {
        match self {
            Self::Driven(connection) => connection.answered(),
            Self::HandedIn(connection) => connection.answered(),
        }
    }

    /// Why the server closed a connection that had just been opened, if it said so.
    fn explained(&self, failure: Failure) -> Failure {
        match self {
            Self::Driven(connection) => explained(failure, connection),
            Self::HandedIn(_) => failure,
        }
    }
}

/// A multiplexed connection, and what is known of the commands that went over it.
#[derive(Debug)]
pub(in crate::adapters::redis) struct Connection {
    link: Link,
    tracking: Arc<Tracking>,
    /// Whether the server can tell of changes in order with its answers.
    tells: bool,
    client: Option<ClientId>,
    born: Instant,
    silence: Mutex<Silence>,
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
    /// Takes a link into use that was just opened.
    pub(in crate::adapters::redis) async fn identified(
        link: Link,
        tracking: Arc<Tracking>,
        orphans: Arc<Orphans>,
        deadline: Instant,
    ) -> Result<Self, Failure> {
        let Identity { client, tells } =
            identify(&link, deadline).await.map_err(|failure| link.explained(failure))?;
        let (born, silence) = (Instant::now(), Mutex::default());
        Ok(Self { link, tracking, tells, client, born, silence, orphans })
    }

    /// Has the server tell which of the keys that are read from now on have changed. An answered
    /// failure says why it cannot.
    pub(in crate::adapters::redis) async fn track(&self, deadline: Instant) -> Result<(), Failure> {
        if let Link::HandedIn(_) = &self.link {
            return Err(Failure::untold(
                "the connections of a pool or client cannot tell of changes",
            ));
        }
        if !self.tells {
            let message = "the server does not say that it is redis 7 or later, which tells of changes in order";
            return Err(Failure::untold(message));
        }
        let hello = RawCommand::new("HELLO").arg("3");
        let tracking = RawCommand::new("CLIENT").args(["TRACKING", "ON"]);
        for answer in self.exchange_all(&[hello, tracking][..], deadline).await? {
            if let Reply::Error(error) = answer {
                return Err(Failure::from(error));
            }
        }
        Ok(())
    }

    /// Has the server stop, since nobody would hear it.
    pub(in crate::adapters::redis) async fn untrack(
        &self,
        deadline: Instant,
    ) -> Result<(), Failure> {
        self.link.exchange(&untrack(), deadline).await.map(drop)
    }

    /// Makes this connection a source: the server tells. `timeout` is that of a question that the
    /// near level wants asked.
    pub(in crate::adapters::redis) fn open_source(&self, source: Source, timeout: Duration) {
        self.tracking.open(source);
        if let Link::Driven(connection) = &self.link {
            connection.answer(self.tracking.clone(), timeout);
        }
    }

    /// What ends the source.
    pub(in crate::adapters::redis) fn tracking(&self) -> Weak<Tracking> {
        Arc::downgrade(&self.tracking)
    }

    /// The source that vouches for what is read over this connection from now on.
    pub(in crate::adapters::redis) fn source(&self) -> Option<SourceId> {
        self.tracking.source()
    }

    /// Ends the source, because another connection takes the place of this one.
    pub(in crate::adapters::redis) fn end_source(&self) {
        self.tracking.end();
    }

    /// Sends one command and waits for its answer; an error of the server is an error.
    pub(in crate::adapters::redis) async fn exchange(
        &self,
        command: &impl Encode,
        deadline: Instant,
    ) -> Result<Reply, Failure> {
        match self.link.exchange(command, deadline).await? {
            Reply::Error(error) => Err(Failure::from(error)),
            answer => Ok(answer),
        }
    }

    /// Sends many commands together. An error of the server is in the place of its answer.
    pub(in crate::adapters::redis) async fn exchange_all<C: EncodeAll + ?Sized>(
        &self,
        commands: &C,
        deadline: Instant,
    ) -> Result<Vec<Reply>, Failure> {
        self.link.exchange_all(commands, deadline).await
    }

    /// Whether a command without a caller may not have been executed yet.
    pub(in crate::adapters::redis) fn has_stragglers(&self) -> bool {
        self.link.has_stragglers()
    }

    /// Whether it was alive a moment ago, and the other side has not closed it since. Of a
    /// connection that was handed in that is not known.
    pub(in crate::adapters::redis) fn is_fresh(&self) -> bool {
        matches!(&self.link, Link::Driven(connection)
            if connection.silent_for() < FRESH && connection.is_open_and_quiet())
    }

    pub(in crate::adapters::redis) fn age(&self) -> Duration {
        self.born.elapsed()
    }

    /// Notes that a command begun at `begun` was not answered in time; whether the connection is to
    /// be taken for dead: after some timeouts in a row, and twice the timeout without a single
    /// answer. One slow command is not enough.
    pub(in crate::adapters::redis) fn is_silent(&self, begun: Instant, timeout: Duration) -> bool {
        let answered = self.link.answered();
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
        match &self.link {
            Link::Driven(connection) => connection.end(&Failure::desynchronized()),
            Link::HandedIn(connection) => connection.poison(),
        }
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

/// Who is connected to whom.
struct Identity {
    /// What the server calls this connection, if it says so.
    client: Option<ClientId>,
    tells: bool,
}

/// Asks the server; an error for a server that is not one for a cache.
async fn identify(link: &Link, deadline: Instant) -> Result<Identity, Failure> {
    // Without arguments `HELLO` changes nothing, and says in which mode the server is.
    let questions = [RawCommand::new("CLIENT").arg("INFO"), RawCommand::new("HELLO")];
    let answers = link.exchange_all(&questions[..], deadline).await?;
    let [client, server] =
        <[Reply; 2]>::try_from(answers).map_err(|_| Failure::desynchronized())?;
    let hello = Hello::of(&server);
    match hello.mode() {
        Some("cluster") => return Err(in_cluster_mode()),
        Some("sentinel") => {
            let message = "this is a sentinel, which stores nothing, and not a server";
            return Err(Failure::new(ErrorKind::Config, message, Fate::Drop));
        }
        _ => {}
    }
    let client = match client {
        Reply::Bulk(info) => ClientId::parse(&String::from_utf8_lossy(&info)),
        Reply::Verbatim(text) => ClientId::parse(&text),
        Reply::Error(error) if error.code() == "NOAUTH" => return Err(Failure::from(error)),
        _ => None,
    };
    Ok(Identity { client, tells: hello.tells_in_order() })
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
        deadline: Instant,
    ) -> Result<(), Failure> {
        let mut clients = lock(&self.clients).clone();
        // A late caller of a connection that was thrown away itself: the server would spare it, and
        // it must not be forgotten.
        clients.retain(|client| Some(client) != connection.client.as_ref());
        if clients.is_empty() {
            return Ok(());
        }
        let kill = |ClientId { id, addr }: &ClientId| {
            RawCommand::new("CLIENT").args(["KILL", "ID", id, "ADDR", addr])
        };
        let kills: Vec<RawCommand> = clients.iter().map(kill).collect();
        connection.exchange_all(&kills[..], deadline).await?;
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
