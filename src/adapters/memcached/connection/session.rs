//! A lane's own connection: opened when it is needed, given up when it cannot be trusted.

use super::{Connector, Item, Written, beside, single, written};
use crate::adapters::memcached::errors::Fault;
use crate::adapters::memcached::late::{BROKEN_FOR, LATE_FOR, Late};
use crate::adapters::memcached::server::Server;
use crate::adapters::memcached::stamps::Stamping;
use crate::adapters::memcached::ttl::Ttl;
use crate::error::{ErrorKind, Result};
use crate::runtime;
use async_memcached::{Client, Error as DriverError, MetaProtocol, MetaValue};
use bytes::Bytes;
use deadpool::managed::{Object, Pool, PoolError};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// After so many deadlines without an answer, the connection is given up. Not after the first: a write whose caller has given
/// up may still be on its way, and a later one for the same key must not overtake it on another connection.
const PATIENCE: u32 = 2;

pub(in crate::adapters::memcached) struct Session {
    pub(in crate::adapters::memcached) server: Arc<Server>,
    pool: Pool<Connector>,
    connection: Option<Connection>,
    asked: u32,
    /// Writes that were never answered, and may take effect at any time.
    pub(in crate::adapters::memcached) unsure: Vec<Arc<Late>>,
    /// Those that a fence keeps off, by the fence's number.
    pub(in crate::adapters::memcached) fenced: Vec<(u64, Arc<Late>)>,
}

struct Connection {
    client: Client,
    generation: u64,
    used: Instant,
}

/// A write on its way, with the client, so that it can go on when the session does not wait for it any longer.
type Running<T> = Pin<Box<dyn Future<Output = (Client, Result<T, DriverError>)> + Send>>;

/// When a write may take place.
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

/// What is put on the wire: an item without its key.
#[derive(Clone, Debug)]
pub(in crate::adapters::memcached) struct Draft {
    pub(in crate::adapters::memcached) bytes: Bytes,
    pub(in crate::adapters::memcached) flags: u32,
    pub(in crate::adapters::memcached) ttl: Ttl,
}

impl Session {
    pub(in crate::adapters::memcached) fn new(server: Arc<Server>, pool: Pool<Connector>) -> Self {
        Self { server, pool, connection: None, asked: 0, unsure: Vec::new(), fenced: Vec::new() }
    }

    /// Lets go of the connection, which is not to be used again by anybody.
    pub(in crate::adapters::memcached) fn abandon(&mut self) {
        self.connection = None;
    }

    /// When the connection last answered.
    pub(in crate::adapters::memcached) fn answered(&self) -> Option<Instant> {
        self.connection.as_ref().map(|connection| connection.used)
    }

    /// The client, on a connection of the current generation.
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

    /// A connection out of the pool, for good: one that is given up with a write on its way must not take a place there.
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

    /// How long an answer may take before the connection is given up.
    fn patience(&self) -> Duration {
        self.server.op_timeout.saturating_mul(PATIENCE)
    }

    /// What the driver's answer to a read or a removal comes to; gives the connection up where it must be.
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

    /// Gives the connection up where it must be. What was sent over it, to these wire keys, may still take effect then.
    fn fail<T>(&mut self, fault: Fault, wires: impl FnOnce() -> Vec<String>) -> Result<T> {
        let given_up = match (&fault, &self.connection) {
            (Fault::Broken(_), Some(connection)) => {
                self.server.broke(connection.generation);
                true
            }
            (Fault::Misplaced, _) => true,
            // The driver closes a connection whose pipeline was answered with an error.
            (_, connection) => connection.as_ref().is_some_and(|open| open.client.is_closed()),
        };
        if given_up {
            self.abandon();
            // A stamp tells whether it does. Without one nothing can be waited for, as the connection is closed at both ends.
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

    /// Runs a write. One that is not answered in time is given up together with its connection, which is listened to until the
    /// answer comes: then it is known that the write has taken effect, and does not arrive later.
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
            // Whatever the answer: nobody waits for it, only for its coming. Without one the connection ends here.
            let _ = timeout(LATE_FOR, running).await;
            late.end();
        });
    }

    /// Whether a late write may change one of these keys, so that nothing that is acknowledged about them would last.
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

    /// Reads items in one round trip. A read may be sent twice: over a connection that turns out dead, it is sent again over a new one.
    pub(in crate::adapters::memcached) async fn read<K: AsRef<str>>(
        &mut self,
        keys: &[K],
        flags: &[&str],
    ) -> Result<Vec<Option<Item>>> {
        let reused = self.connection.is_some();
        match self.read_once(keys, flags).await {
            Err(error)
                if reused
                    && self.connection.is_none()
                    && error.kind() == ErrorKind::Unavailable =>
            {
                self.read_once(keys, flags).await
            }
            answer => answer,
        }
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

    /// Stores items in one round trip; whether all of them were. An error that is not retryable is the server's for any one
    /// of them, and it is not known for which.
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

    /// Removes items in one round trip; the wire keys of those that were not there come back. The driver has no pipeline of
    /// deletes: a replacement that has expired already removes as well, and is refused where there is nothing to replace.
    pub(in crate::adapters::memcached) async fn delete_all(
        &mut self,
        wires: &[&str],
    ) -> Result<Vec<Vec<u8>>> {
        let items = wires.iter().map(|wire| ((*wire).to_owned(), Bytes::new())).collect();
        let flags = vec!["MR".to_owned(), Ttl::PAST.flag()];
        // One that is late removes what is there, and a miss is never wrong.
        let write = |client| set_all(client, Arc::new(items), flags);
        let refused = self.run_write(Vec::new, write).await?;
        Ok(refused.into_iter().filter_map(|answer| answer.key).collect())
    }

    pub(in crate::adapters::memcached) async fn ping(&mut self) -> Result<()> {
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

/// Tries to connect until it works; what was connected waits in the pool. Ends with the adapter.
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
