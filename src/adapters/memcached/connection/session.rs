//! A lane's own connection: opened when it is needed, abandoned when it cannot be trusted.

use super::{Connector, Item, Written, beside, single, written};
use crate::adapters::memcached::errors::Fault;
use crate::adapters::memcached::late::{BROKEN_FOR, LATE_FOR, Late};
use crate::adapters::memcached::server::Server;
use crate::adapters::memcached::stamps::Stamping;
use crate::adapters::memcached::ttl::Ttl;
use crate::error::{Error, ErrorKind, Result};
use crate::runtime;
use async_memcached::{Client, Error as DriverError, MetaProtocol, MetaValue};
use bytes::Bytes;
use deadpool::managed::{Object, Pool, PoolError};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// The number of deadlines without an answer after which the connection is abandoned. The first one
/// is not enough: a write whose caller has given up may still be in flight, and a later write to
/// the same key, on a new connection, could reach the server before it.
const PATIENCE: u32 = 2;

pub(in crate::adapters::memcached) struct Session {
    pub(in crate::adapters::memcached) server: Arc<Server>,
    pool: Pool<Connector>,
    connection: Option<Connection>,
    asked: u32,
    /// Writes that were never answered and may still take effect.
    pub(in crate::adapters::memcached) unsure: Vec<Arc<Late>>,
    /// Writes that a fence keeps off, with the fence's number.
    pub(in crate::adapters::memcached) fenced: Vec<(u64, Arc<Late>)>,
    /// Whether a change of the clear log was never answered, and may still take effect.
    pub(in crate::adapters::memcached) log_in_doubt: bool,
}

struct Connection {
    client: Client,
    generation: u64,
    used: Instant,
}

/// A write in flight together with its client, so that it can finish without the session.
type Running<T> = Pin<Box<dyn Future<Output = (Client, Result<T, DriverError>)> + Send>>;

/// The condition of a write.
#[derive(Clone, Copy, Debug)]
pub(in crate::adapters::memcached) enum Condition {
    Always,
    Absent,
    Unchanged(u64),
}

impl Condition {
    fn flag(self) -> Option<String> {
        match self {
            Self::Always => None,
            Self::Absent => Some("ME".to_owned()),
            Self::Unchanged(cas) => Some(format!("C{cas}")),
        }
    }
}

/// An item to send, without its key.
#[derive(Clone, Debug)]
pub(in crate::adapters::memcached) struct Draft {
    pub(in crate::adapters::memcached) bytes: Bytes,
    pub(in crate::adapters::memcached) flags: u32,
    pub(in crate::adapters::memcached) ttl: Ttl,
}

impl Session {
    pub(in crate::adapters::memcached) fn new(server: Arc<Server>, pool: Pool<Connector>) -> Self {
        Self {
            server,
            pool,
            connection: None,
            asked: 0,
            unsure: Vec::new(),
            fenced: Vec::new(),
            log_in_doubt: false,
        }
    }

    /// Abandons the connection, which is not used again.
    pub(in crate::adapters::memcached) fn abandon(&mut self) {
        self.connection = None;
    }

    /// When the connection last answered.
    pub(in crate::adapters::memcached) fn answered(&self) -> Option<Instant> {
        self.connection.as_ref().map(|connection| connection.used)
    }

    /// The client, on a connection of the present generation.
    pub(in crate::adapters::memcached) async fn client(&mut self) -> Result<&mut Client> {
        let generation = self.server.generation();
        if self.connection.as_ref().is_some_and(|connection| {
            connection.generation != generation || connection.client.is_closed()
        }) {
            self.abandon();
        }
        if self.connection.is_none() {
            let client = self.open().await?;
            self.connection = Some(Connection { client, generation, used: Instant::now() });
        }
        self.connection
            .as_mut()
            .map(|connection| &mut connection.client)
            .ok_or_else(|| self.server.unavailable("has no connection"))
    }

    /// Takes a connection out of the pool for good: an abandoned connection with a write in flight
    /// must not occupy a place there.
    async fn open(&self) -> Result<Client> {
        let server = &self.server;
        if let Some(cause) = server.availability.closed_by() {
            return Err(server.turned_away(cause));
        }
        let error = match timeout(server.op_timeout, self.pool.get()).await {
            Ok(Ok(client)) => {
                server.availability.open();
                return Ok(Object::take(client));
            }
            Ok(Err(PoolError::Backend(cause))) => server.error(cause.into()),
            Ok(Err(other)) => server.unavailable("gave no connection").with_source(other),
            Err(_) => server.timeout(),
        };
        if server.availability.close(&error) {
            runtime::spawn(try_again(Arc::downgrade(server), self.pool.clone()));
        }
        Err(error)
    }

    /// How long an answer may take before the connection is abandoned.
    fn patience(&self) -> Duration {
        self.server.op_timeout.saturating_mul(PATIENCE)
    }

    /// Translates the driver's answer to a read or a removal, and abandons the connection if
    /// necessary.
    fn settle<T>(
        &mut self,
        answer: Result<Result<T, DriverError>, tokio::time::error::Elapsed>,
    ) -> Result<T> {
        match answer {
            Ok(Ok(answer)) => {
                if let Some(connection) = &mut self.connection {
                    connection.used = Instant::now();
                }
                Ok(answer)
            }
            Ok(Err(error)) => self.fail(error.into(), Vec::new),
            Err(_) => {
                self.abandon();
                Err(self.server.timeout())
            }
        }
    }

    /// Abandons the connection if necessary. Writes that were sent over it to these wire keys may
    /// then still take effect.
    fn fail<T>(&mut self, fault: Fault, wires: impl FnOnce() -> Vec<String>) -> Result<T> {
        let given_up = match (&fault, &self.connection) {
            (Fault::Broken(_), Some(connection)) => {
                self.server.broke(connection.generation);
                true
            }
            (Fault::Misplaced, _) => true,
            // The driver closes a connection whose pipeline got an error as an answer.
            (_, connection) => connection.as_ref().is_some_and(|open| open.client.is_closed()),
        };
        if given_up {
            self.abandon();
            // Stamped values can be fenced off. For others there is no answer to wait for, as the
            // connection is closed at both ends.
            if self.server.stamping == Stamping::Stamped {
                self.doubt(&Late::new(wires(), BROKEN_FOR));
            }
        }
        Err(self.server.error(fault))
    }

    fn doubt(&mut self, late: &Arc<Late>) {
        if late.wires.is_empty() {
            return;
        }
        match self.server.stamping {
            Stamping::Stamped => self.unsure.push(late.clone()),
            Stamping::Plain => self.server.in_doubt.add(late.clone()),
        }
    }

    /// Runs a write. If no answer arrives in time, the write and its connection are abandoned, and
    /// a task reads from the connection until the answer arrives: from then on the write cannot
    /// take effect late.
    async fn run_write<T: Send + 'static>(
        &mut self,
        wires: impl FnOnce() -> Vec<String>,
        write: impl FnOnce(Client) -> Running<T>,
    ) -> Result<T> {
        let patience = self.patience();
        self.client().await?;
        let Some(Connection { client, generation, used }) = self.connection.take() else {
            return Err(self.server.unavailable("has no connection"));
        };
        let mut running = write(client);
        let Ok((client, answer)) = timeout(patience, &mut running).await else {
            self.let_run(running, wires());
            return Err(self.server.timeout());
        };
        let used = if answer.is_ok() { Instant::now() } else { used };
        self.connection = Some(Connection { client, generation, used });
        answer.or_else(|error| self.fail(error.into(), wires))
    }

    fn let_run<T: Send + 'static>(&mut self, running: Running<T>, wires: Vec<String>) {
        if wires.is_empty() {
            return;
        }
        let late = Late::new(wires, LATE_FOR);
        self.doubt(&late);
        let Ok(permit) = self.server.listeners.clone().try_acquire_owned() else { return };
        runtime::spawn(async move {
            let _permit = permit;
            // Only the arrival of an answer matters, not its content. Without one, the connection
            // is closed here.
            let _ = timeout(LATE_FOR, running).await;
            late.end();
        });
    }

    /// Fails if a late write may still change one of these keys: an acknowledged operation on such
    /// a key could be undone.
    fn is_settled(&self, wires: &[&str]) -> Result<()> {
        if self.server.in_doubt.has(|late| wires.contains(&late)) {
            Err(self.server.doubt())
        } else {
            Ok(())
        }
    }

    fn opaque(&mut self) -> String {
        self.asked = self.asked.wrapping_add(1);
        format!("O{}", self.asked)
    }

    /// Reads items in one round trip. Reads are idempotent: if the connection turns out to be
    /// broken, the read is sent again over a new one.
    pub(in crate::adapters::memcached) async fn read<K: AsRef<str>>(
        &mut self,
        keys: &[K],
        flags: &[&str],
    ) -> Result<Vec<Option<Item>>> {
        let reused = self.connection.is_some();
        match self.read_once(keys, flags).await {
            Err(error) if reused && self.was_closed(&error) => self.read_once(keys, flags).await,
            answer => answer,
        }
    }

    /// Whether there is a connection, which the server may have closed.
    pub(in crate::adapters::memcached) fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// Whether an operation failed because the server had closed the connection.
    pub(in crate::adapters::memcached) fn was_closed(&self, error: &Error) -> bool {
        self.connection.is_none() && error.kind() == ErrorKind::Unavailable
    }

    async fn read_once<K: AsRef<str>>(
        &mut self,
        keys: &[K],
        flags: &[&str],
    ) -> Result<Vec<Option<Item>>> {
        let opaque = self.opaque();
        let patience = self.patience();
        let mut all: Vec<&str> = flags.to_vec();
        all.push(&opaque);
        let client = self.client().await?;
        let found = if let [key] = keys {
            let answer =
                timeout(patience, client.meta_get(key.as_ref(), false, None, Some(&all))).await;
            single(key.as_ref(), &opaque, self.settle(answer)?).map(|found| vec![found])
        } else {
            let wires: Vec<&str> = keys.iter().map(AsRef::as_ref).collect();
            let answer = timeout(patience, client.meta_get_multi(&wires, Some(&all))).await;
            beside(keys, &opaque, self.settle(answer)?)
        };
        found.or_else(|fault| self.fail(fault, Vec::new))
    }

    /// Writes one item under a condition.
    pub(in crate::adapters::memcached) async fn write(
        &mut self,
        key: &str,
        draft: Draft,
        condition: Condition,
    ) -> Result<Written> {
        self.is_settled(&[key])?;
        let opaque = self.opaque();
        let mut flags =
            vec![format!("F{}", draft.flags), draft.ttl.flag(), "c".to_owned(), opaque.clone()];
        flags.extend(condition.flag());
        // A late compare-and-set fails by itself; it needs no fencing.
        let may_be_late =
            !matches!(condition, Condition::Unchanged(_)) && key != self.server.log_key;
        let wires = || if may_be_late { vec![key.to_owned()] } else { Vec::new() };
        let key = key.to_owned();
        let answer = self.run_write(wires, |client| set(client, key, draft.bytes, flags)).await?;
        written(&opaque, answer).or_else(|fault| self.fail(fault, wires))
    }

    /// Removes one item under a condition.
    pub(in crate::adapters::memcached) async fn delete(
        &mut self,
        key: &str,
        condition: Condition,
    ) -> Result<Written> {
        self.is_settled(&[key])?;
        let (opaque, only_if) = (self.opaque(), condition.flag());
        let flags: Vec<&str> = [opaque.as_str()].into_iter().chain(only_if.as_deref()).collect();
        let patience = self.patience();
        let client = self.client().await?;
        let answer = timeout(patience, client.meta_delete(key, false, None, Some(&flags))).await;
        let answer = self.settle(answer)?;
        written(&opaque, answer).or_else(|fault| self.fail(fault, Vec::new))
    }

    /// Stores items in one round trip, and returns whether all of them were stored. An error that
    /// is not retryable concerns one of the items, and the server does not say which.
    pub(in crate::adapters::memcached) async fn store_all(
        &mut self,
        items: Vec<(String, Bytes)>,
        flags: u32,
        ttl: Ttl,
    ) -> Result<bool> {
        let items = Arc::new(items);
        let sent = items.clone();
        let wires = || items.iter().map(|(wire, _)| wire.clone()).collect();
        let flags = vec![format!("F{flags}"), ttl.flag()];
        let refused = self.run_write(wires, |client| set_all(client, sent, flags)).await?;
        Ok(refused.is_empty())
    }

    /// Removes items in one round trip, and returns the wire keys of those that did not exist. The
    /// driver cannot pipeline deletes, so each delete is a replacement that has already expired:
    /// the server refuses it if there is nothing to replace.
    pub(in crate::adapters::memcached) async fn delete_all(
        &mut self,
        wires: &[&str],
    ) -> Result<Vec<Vec<u8>>> {
        let items = wires.iter().map(|wire| ((*wire).to_owned(), Bytes::new())).collect();
        let flags = vec!["MR".to_owned(), Ttl::PAST.flag()];
        // A late removal causes a miss at most, which is never wrong.
        let write = |client| set_all(client, Arc::new(items), flags);
        let refused = self.run_write(Vec::new, write).await?;
        Ok(refused.into_iter().filter_map(|answer| answer.key).collect())
    }

    /// Asks for a sign of life, again over a new connection if the connection turns out to be broken.
    pub(in crate::adapters::memcached) async fn ping(&mut self) -> Result<()> {
        let reused = self.connection.is_some();
        match self.ping_once().await {
            Err(error) if reused && self.was_closed(&error) => self.ping_once().await,
            answer => answer,
        }
    }

    async fn ping_once(&mut self) -> Result<()> {
        let patience = self.patience();
        let client = self.client().await?;
        let answer = timeout(patience, client.version()).await;
        self.settle(answer).map(drop)
    }
}

fn set(
    mut client: Client,
    key: String,
    bytes: Bytes,
    flags: Vec<String>,
) -> Running<Option<MetaValue>> {
    Box::pin(async move {
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let answer = client.meta_set(key, &*bytes, false, None, Some(&flags)).await;
        (client, answer)
    })
}

fn set_all(
    mut client: Client,
    items: Arc<Vec<(String, Bytes)>>,
    flags: Vec<String>,
) -> Running<Vec<MetaValue>> {
    Box::pin(async move {
        let items: Vec<(&str, &[u8])> =
            items.iter().map(|(wire, bytes)| (wire.as_str(), &**bytes)).collect();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let answer = client.meta_set_multi(&items, Some(&flags)).await;
        (client, answer)
    })
}

/// Tries to connect until it succeeds, and leaves the connection in the pool. Ends with the
/// adapter.
async fn try_again(server: Weak<Server>, pool: Pool<Connector>) {
    loop {
        let plan = server.upgrade().and_then(|server| {
            Some((server.availability.pause(server.op_timeout)?, server.op_timeout))
        });
        let Some((pause, patience)) = plan else { return };
        sleep(pause).await;
        let connected = timeout(patience, pool.get()).await;
        let Some(server) = server.upgrade() else { return };
        match connected {
            Ok(Ok(_)) => return server.availability.open(),
            Ok(Err(PoolError::Backend(cause))) => {
                server.availability.still_closed_by(&server.error(cause.into()));
            }
            Ok(Err(_)) | Err(_) => server.availability.still_closed_by(&server.timeout()),
        }
    }
}
