//! A lane's own connection: opened when it is needed, given up when it cannot be trusted.

use super::clear_log::{LEASE, Registry, Verdict};
use super::connection::{Connector, Fault, Item, Want, Written, beside, single, written};
use super::fencing::HELD;
use super::keys::Key;
use super::server::{Known, Server};
use super::ttl::{LAST_SECOND, Ttl};
use crate::{CacheValue, Codec, Error, ErrorKind, Result, runtime};
use async_memcached::{Client, Error as DriverError, MetaProtocol};
use deadpool::managed::{Object, Pool, PoolError};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// After so many deadlines without an answer, the connection is given up. Not after the first: a write whose caller has given
/// up may still be on its way, and a later one for the same key must not overtake it on another connection.
const PATIENCE: u32 = 2;

/// How often the registry may turn out to have just changed.
const REGISTRY_TRIES: usize = 16;

pub(super) struct Session {
    pub(super) server: Arc<Server>,
    pool: Pool<Connector>,
    connection: Option<Connection>,
    asked: u32,
    /// The wire keys of the write that is on its way.
    pending: Vec<String>,
    /// Those of writes that were never answered, and may take effect at any time.
    unsure: Vec<String>,
}

struct Connection {
    client: Object<Connector>,
    generation: u64,
    used: Instant,
}

/// A value that is there.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) value: CacheValue,
    pub(super) remaining: i64,
    pub(super) version: Version,
}

/// What a write needs that is to take effect only if nothing has happened since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) cas: u64,
    /// Of the registry by which the value was judged. With a newer one, a clear in between would be undone.
    pub(super) stamp: u32,
}

/// A value that may not count.
#[derive(Debug)]
pub(super) enum Present {
    Live(Found),
    /// Cleared, but still there: who wants to write must replace it.
    Cleared(Version),
    /// The place of a value that is being computed: as good as cleared, but a removal is to be noticed.
    Held(Version),
}

impl Present {
    pub(super) fn live(self) -> Option<Found> {
        match self {
            Self::Live(found) => Some(found),
            Self::Cleared(_) | Self::Held(_) => None,
        }
    }
}

/// When a write may take place.
#[derive(Clone, Copy, Debug)]
pub(super) enum Condition {
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
#[derive(Clone, Copy, Debug)]
pub(super) struct Draft<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) flags: u32,
    pub(super) ttl: Ttl,
}

impl Session {
    pub(super) fn new(server: Arc<Server>, pool: Pool<Connector>) -> Self {
        Self { server, pool, connection: None, asked: 0, pending: Vec::new(), unsure: Vec::new() }
    }

    /// Lets go of the connection, which is not to be used again by anybody.
    pub(super) fn abandon(&mut self) {
        if let Some(connection) = self.connection.take() {
            drop(Object::take(connection.client));
        }
        self.unsure.append(&mut self.pending);
    }

    /// Fences off what may still arrive from connections that were given up. Nothing else is begun before that: a removal
    /// that is acknowledged must not be followed by a write that came before it.
    pub(super) async fn resolve(&mut self) -> Result<()> {
        for _ in 0..REGISTRY_TRIES {
            if self.unsure.is_empty() {
                return Ok(());
            }
            let (known, _) = self.refresh().await?;
            let fenced = known.registry.with_fences(&self.unsure, &self.server.prefix);
            let fenced = fenced.unwrap_or_else(|| Registry::new(fastrand::u32(..)));
            if self.write_registry(fenced, Condition::Unchanged(known.cas)).await?.is_some() {
                self.unsure.clear();
                // Until other processes know it too.
                sleep(LEASE).await;
            }
        }
        Err(self.busy())
    }

    fn busy(&self) -> Error {
        Error::new(ErrorKind::Backend)
            .with_message(format!("{}: what was cleared changes too fast", self.server.address))
    }

    /// The client, on a connection of the current generation.
    pub(super) async fn client(&mut self) -> Result<&mut Client> {
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
            .map(|connection| &mut *connection.client)
            .ok_or_else(|| self.server.unavailable("has no connection"))
    }

    async fn open(&self) -> Result<Object<Connector>> {
        let server = &self.server;
        if !server.gate.is_open() {
            return Err(server.unavailable("is away and will be tried again in a moment"));
        }
        let error = match timeout(server.op_timeout, self.pool.get()).await {
            Ok(Ok(client)) => {
                server.gate.open();
                return Ok(client);
            }
            Ok(Err(PoolError::Backend(cause))) => server.error(cause.into()),
            Ok(Err(other)) => server.unavailable("gave no connection").with_source(other),
            Err(_) => server.timeout(),
        };
        if server.gate.close() {
            runtime::spawn(try_again(Arc::downgrade(server), self.pool.clone()));
        }
        Err(error)
    }

    /// How long an answer may take before the connection is given up.
    fn patience(&self) -> Duration {
        self.server.op_timeout.saturating_mul(PATIENCE)
    }

    /// What the driver's answer comes to; gives the connection up where it must be.
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
            Ok(Err(error)) => self.fail(error.into()),
            Err(_) => {
                self.abandon();
                Err(self.server.timeout())
            }
        }
    }

    fn fail<T>(&mut self, fault: Fault) -> Result<T> {
        match (&fault, &self.connection) {
            (Fault::Broken(_), Some(connection)) => {
                self.server.broke(connection.generation);
                self.abandon();
            }
            (Fault::Misplaced, _) => self.abandon(),
            // The driver closes a connection whose pipeline was answered with an error.
            (_, Some(connection)) if connection.client.is_closed() => self.abandon(),
            _ => self.pending.clear(),
        }
        Err(self.server.error(fault))
    }

    fn opaque(&mut self) -> String {
        self.asked = self.asked.wrapping_add(1);
        format!("O{}", self.asked)
    }

    /// Reads items in one round trip. A read may be sent twice: over a connection that turns out dead, it is sent again over a new one.
    pub(super) async fn read<K: AsRef<str>>(
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
        found.or_else(|fault| self.fail(fault))
    }

    /// Writes one item under a condition.
    pub(super) async fn write(
        &mut self,
        key: &str,
        draft: Draft<'_>,
        condition: Condition,
    ) -> Result<Written> {
        let opaque = self.opaque();
        let (stamp, ttl, only_if) =
            (format!("F{}", draft.flags), draft.ttl.flag(), condition.flag());
        let mut flags = vec![stamp.as_str(), &ttl, "c", &opaque];
        flags.extend(only_if.as_deref());
        let patience = self.patience();
        self.client().await?;
        // What names a CAS number comes to nothing when it comes late.
        if !matches!(condition, Condition::Unchanged(_)) && key != self.server.registry_key {
            self.pending.push(key.to_owned());
        }
        let client = self.client().await?;
        let answer =
            timeout(patience, client.meta_set(key, draft.bytes, false, None, Some(&flags))).await;
        let answer = self.settle(answer)?;
        let done = written(&opaque, answer).or_else(|fault| self.fail(fault))?;
        self.pending.clear();
        Ok(done)
    }

    /// Removes one item under a condition.
    pub(super) async fn delete(&mut self, key: &str, condition: Condition) -> Result<Written> {
        let (opaque, only_if) = (self.opaque(), condition.flag());
        let flags: Vec<&str> = [opaque.as_str()].into_iter().chain(only_if.as_deref()).collect();
        let patience = self.patience();
        let client = self.client().await?;
        let answer = timeout(patience, client.meta_delete(key, false, None, Some(&flags))).await;
        let answer = self.settle(answer)?;
        written(&opaque, answer).or_else(|fault| self.fail(fault))
    }

    /// Stores items in one round trip; whether all of them were. An error that is not retryable is the server's for any one
    /// of them, and it is not known for which.
    pub(super) async fn store_all(
        &mut self,
        items: &[(&str, &[u8])],
        stamp: u32,
        ttl: Ttl,
    ) -> Result<bool> {
        self.client().await?;
        self.pending.extend(items.iter().map(|(wire, _)| (*wire).to_owned()));
        let refused = self.set_all(items, &[&format!("F{stamp}"), &ttl.flag()]).await?;
        self.pending.clear();
        Ok(refused.is_empty())
    }

    /// Removes items in one round trip; the wire keys of those that were not there come back. The driver has no pipeline of
    /// deletes: a replacement that has expired already removes as well, and is refused where there is nothing to replace.
    pub(super) async fn delete_all(&mut self, wires: &[&str]) -> Result<Vec<Vec<u8>>> {
        let items: Vec<(&str, &[u8])> = wires.iter().map(|wire| (*wire, &b""[..])).collect();
        self.set_all(&items, &["MR", &Ttl::PAST.flag()]).await
    }

    async fn set_all(&mut self, items: &[(&str, &[u8])], flags: &[&str]) -> Result<Vec<Vec<u8>>> {
        let patience = self.patience();
        let client = self.client().await?;
        let answer = timeout(patience, client.meta_set_multi(items, Some(flags))).await;
        let refused = self.settle(answer)?;
        Ok(refused.into_iter().filter_map(|answer| answer.key).collect())
    }

    pub(super) async fn ping(&mut self) -> Result<()> {
        let patience = self.patience();
        let client = self.client().await?;
        let answer = timeout(patience, client.version()).await;
        self.settle(answer).map(drop)
    }

    /// The registry, known within the lease, over a connection that answered within it: a write cannot be sent twice without more ado.
    pub(super) async fn registry(&mut self) -> Result<Known> {
        let idle =
            self.connection.as_ref().is_none_or(|connection| connection.used.elapsed() > LEASE);
        match self.server.known().filter(Known::is_fresh) {
            Some(known) if !idle => Ok(known),
            _ => self.refresh().await.map(|(known, _)| known),
        }
    }

    /// Asks for the registry, and makes one where there is none. Also how long the item lives on, which tells the server's clock.
    pub(super) async fn refresh(&mut self) -> Result<(Known, i64)> {
        for _ in 0..REGISTRY_TRIES {
            let asked = Instant::now();
            let key = self.server.registry_key.clone();
            let item = self.read(&[key], Want::Value.flags()).await?.pop().flatten();
            if let Some(news) = self.learn(item, asked).await? {
                return Ok(news);
            }
        }
        Err(self.busy())
    }

    /// What an answer to a question for the registry comes to. `None` if another one made it at the same time.
    pub(super) async fn learn(
        &mut self,
        item: Option<Item>,
        asked: Instant,
    ) -> Result<Option<(Known, i64)>> {
        let condition = match item {
            None => Condition::Absent,
            Some(Item { cas: 0, .. }) => {
                let message = format!(
                    "{} runs without CAS numbers (-C), which larder needs",
                    self.server.address
                );
                return Err(Error::new(ErrorKind::Unsupported).with_message(message));
            }
            Some(item) => match self.server.read_registry(&item, asked) {
                Some(known) => {
                    self.server.learn(known.clone());
                    return Ok(Some((self.server.known().unwrap_or(known), item.remaining)));
                }
                None => Condition::Unchanged(item.cas),
            },
        };
        let known = self.write_registry(Registry::new(fastrand::u32(..)), condition).await?;
        Ok(known.map(|known| (known, -1)))
    }

    /// Puts a registry in place; `None` if another one was faster.
    pub(super) async fn write_registry(
        &mut self,
        registry: Registry,
        condition: Condition,
    ) -> Result<Option<Known>> {
        let asked = Instant::now();
        let bytes = registry.to_bytes();
        let key = self.server.registry_key.clone();
        // It ends with the server's calendar, not never: what remains of it is how the server's clock is read.
        let draft = Draft { bytes: &bytes, flags: 0, ttl: Ttl::at(LAST_SECOND) };
        match self.write(&key, draft, condition).await? {
            Written::Refused => Ok(None),
            Written::Done { cas } => {
                let read = Registry::from_bytes(&bytes, cas).unwrap_or(registry);
                let known = Known::new(read, bytes.into(), cas, asked);
                self.server.learn(known.clone());
                Ok(Some(known))
            }
        }
    }

    /// Whether an item that was asked for at `asked` counts.
    pub(super) async fn judge(&mut self, key: &Key, item: Item, asked: Instant) -> Result<Present> {
        let mut known = match self.server.known() {
            Some(known) => known,
            None => self.refresh().await?.0,
        };
        if item.flags == HELD {
            return Ok(Present::Held(Version { cas: item.cas, stamp: known.registry.stamp() }));
        }
        let mut verdict = known.registry.judge(key, item.flags, item.cas);
        if verdict == Verdict::Unknown && known.asked < asked {
            known = self.refresh().await?.0;
            verdict = known.registry.judge(key, item.flags, item.cas);
        }
        let version = Version { cas: item.cas, stamp: known.registry.stamp() };
        Ok(match verdict {
            Verdict::Live => Present::Live(self.open_item(key, item, version)),
            Verdict::Cleared | Verdict::Unknown => Present::Cleared(version),
        })
    }

    fn open_item(&mut self, key: &Key, item: Item, version: Version) -> Found {
        let codec = self.server.codec;
        let mut bytes = item.bytes;
        if codec == Codec::MessagePack && bytes.first().is_some_and(u8::is_ascii_digit) {
            // The server's own decrement leaves spaces behind a number that got shorter.
            bytes.truncate(bytes.trim_ascii_end().len());
        }
        let value = CacheValue::from_stored(key.text(), bytes, codec);
        if value.is_misdirected() {
            self.abandon();
        }
        Found { value, remaining: item.remaining, version }
    }
}

/// Tries to connect until it works; what was connected waits in the pool. Ends with the adapter.
async fn try_again(server: Weak<Server>, pool: Pool<Connector>) {
    loop {
        let plan = server
            .upgrade()
            .and_then(|server| Some((server.gate.pause(server.op_timeout)?, server.op_timeout)));
        let Some((pause, patience)) = plan else { return };
        sleep(pause).await;
        let connected = matches!(timeout(patience, pool.get()).await, Ok(Ok(_)));
        if connected && let Some(server) = server.upgrade() {
            return server.gate.open();
        }
    }
}
