//! The memcached adapter.
//!
//! `builder` and `address` read the configuration; `ring` says which server has a key, `keys` what the key is there and `ttl` for
//! how long. Each server has a few lanes for each runtime; a `lane` owns a `session`, which owns one `connection` and knows the
//! `ops`. What all lanes of a server share is in `server`: its `availability`, and what is known of the `clear_log`, by which
//! `judging` tells live values from cleared ones. `late` and `fences` are about writes that were given up, `fencing` about claims.

mod address;
mod availability;
mod builder;
mod clear_log;
mod connection;
mod fences;
mod fencing;
mod judging;
mod keys;
mod lane;
mod late;
mod ops;
mod ring;
mod server;
mod session;
mod ttl;

pub use builder::MemcachedBuilder;

use crate::adapters::Remote;
use crate::batching::Limits;
use crate::runtime::{self, PerRuntime};
use crate::{
    AsyncCacheAdapter, CacheValue, Claim, Codec, Entry, Error, ErrorKind, Expiry, Lifetime, Result,
};
use async_trait::async_trait;
use builder::Config;
use bytes::Bytes;
use clear_log::{CLEAR_LOG_TTL, Stamping};
use connection::{Connector, Want};
use deadpool::managed::Pool;
use futures_util::future::join_all;
use judging::Found;
use keys::Key;
use lane::{Command, Each, Lane, Reply};
use ops::{Count, Write};
use ring::Ring;
use server::Server;
use session::Session;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use ttl::Ttl;

const KIND: &str = "memcached";

/// A cache on one or more memcached servers, 1.6 or later.
///
/// # Keys
///
/// A key goes over the wire as `prefix + key` where memcached takes that: up to 250 bytes of printable ASCII without spaces. Other
/// programs find it there. Any other key, and one that begins with `~` without a prefix, is percent-encoded behind `~e`, or, where
/// that is too long, is its SHA-256 behind `~h`. The same key is always encoded alike, and two keys never are.
///
/// With several servers, each key belongs to one of them by consistent hashing, as libmemcached does it under `ketama_weighted`, so
/// that its clients find the same keys on the same servers, if they name the servers by the same letters. A server that is away
/// costs its own keys and no others.
///
/// # Expiry
///
/// memcached counts whole seconds. Lifetimes are rounded up, and an entry may live for up to a second longer than that. It lives
/// shorter only where the server's own clock, which drifts, skips a second: about once in a quarter of an hour, for whatever was
/// written in the second before. What ends after January 2038 does not end. `expiry` tells whole seconds and does not overstate.
///
/// # Clearing
///
/// [`clear`](AsyncCacheAdapter::clear) costs two round trips and 20 ms, however many keys there are; other programs' keys stay.
/// What has been cleared is a miss from then on in every process that uses larder, and its memory is reclaimed as the server needs
/// it. Other programs still see it. Values that other programs put under the prefix are cleared too. What has been cleared is
/// noted in a clear log on each server. It keeps 1,024 prefixes apart; past it, values that are older than the last 1,024 cleared
/// prefixes are a miss. Should the server evict the log, everything that larder stored there until a moment later is a miss; under
/// `json` and `raw` that holds only for processes that knew the log. Adapters whose prefixes differ do not see each other's values.
///
/// # Other programs
///
/// Under [`Codec::Json`] and [`Codec::Raw`] the client flags of a value are zero, which is plain bytes to every client. Under
/// [`Codec::MessagePack`] they bear a stamp in bits 16 to 31. The lower half, in which clients keep types, compression and pickles,
/// is zero there, too, so that no client runs what is cached. Without a stamp the order of the server's CAS numbers tells cleared
/// values: a server that moves an item between its slabs gives it a new number, and a cleared value that is moved counts again.
///
/// # Other processes
///
/// What a load computes is not stored if another process removed, cleared or wrote the key meanwhile, and a load can be
/// [leased](crate::View::lease). Under [`Codec::MessagePack`] only, the default: while a load is under way, an empty item holds the key's place,
/// and other programs would read it. `docs/leases.md` has the details.
///
/// # Deadlines, and what they do not promise
///
/// Every call ends within `op_timeout`; `clear` takes 20 ms longer. Operations on one key keep their order within one runtime, those
/// whose callers have given up included: a write that timed out does not come back after a later removal that succeeded. After
/// twice the deadline without an answer the connection is given up; what was sent over it and may still arrive is fenced off
/// before anything else is done, so that it is a miss if it does. The fence is taken back once the answer has come, or after 30 s.
/// Values under `json` and `raw` bear no stamp that a fence could look at: until the answer comes, and for 30 s at most, keys
/// with such a write are not changed, and `clear` of them fails, with [`ErrorKind::Timeout`]. None of this holds between two
/// runtimes, after `close`, or after the runtime ended: then a write that timed out may still land late, and the entry's
/// expiry is all that limits it.
///
/// # Values
///
/// A value over `max_value_bytes`, or over the server's own limit, is [`ErrorKind::TooLarge`], and the older one is removed.
///
/// ```no_run
/// use larder::{AsyncCacheAdapter, AsyncMemcachedCache, CacheValue, Expiry};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
/// let cache = AsyncMemcachedCache::new("memcached://10.0.0.1,10.0.0.2:11212?default_ttl=60")?;
/// cache.set("hello", CacheValue::new("world"), Expiry::Default).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct AsyncMemcachedCache {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    ring: Ring,
    servers: Vec<Arc<Server>>,
    homes: PerRuntime<Home>,
}

/// One runtime's lanes to every server.
struct Home(Vec<Lanes>);

struct Lanes {
    server: Arc<Server>,
    pool: Pool<Connector>,
    lanes: Vec<OnceLock<Lane>>,
    limits: Limits,
}

impl Lanes {
    fn new(server: &Arc<Server>, config: &Config) -> Self {
        let size = config.pool_size;
        // One more than the lanes have, for whoever finds out that a server is back.
        let pool = Connector::pool(server.address.clone(), size + 1);
        Self {
            server: server.clone(),
            pool,
            lanes: (0..size).map(|_| OnceLock::new()).collect(),
            limits: config.limits,
        }
    }

    /// The lanes that have been used.
    fn opened(&self) -> impl Iterator<Item = usize> {
        let lanes = self.lanes.iter().enumerate();
        lanes.filter(|(_, lane)| lane.get().is_some()).map(|(at, _)| at)
    }

    fn get(&self, at: usize) -> Lane {
        self.lanes[at % self.lanes.len()]
            .get_or_init(|| {
                Lane::open(Session::new(self.server.clone(), self.pool.clone()), self.limits)
            })
            .clone()
    }
}

/// Where a key's operations go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Place {
    server: usize,
    lane: usize,
}

impl AsyncMemcachedCache {
    /// The adapter that a URL describes: `memcached://host:port[,host:port…]` or `memcached+unix:///path`, with parameters named
    /// as the [builder](MemcachedBuilder)'s setters. Opens nothing yet.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] for what is no such URL.
    ///
    /// ```
    /// # fn main() -> larder::Result<()> {
    /// let cache = larder::AsyncMemcachedCache::new("memcached://127.0.0.1:11211?prefix=shop:")?;
    /// # Ok(()) }
    /// ```
    pub fn new(url: &str) -> Result<Self> {
        Self::from_url(url)
    }

    /// The same as [`new`](AsyncMemcachedCache::new).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] for what is no such URL.
    ///
    /// ```
    /// # fn main() -> larder::Result<()> {
    /// let cache = larder::AsyncMemcachedCache::from_url("memcached+unix:///run/memcached.sock")?;
    /// # Ok(()) }
    /// ```
    pub fn from_url(url: &str) -> Result<Self> {
        MemcachedBuilder::from_url(url)?.build()
    }

    /// A builder, for `127.0.0.1:11211` unless it is told otherwise.
    ///
    /// ```
    /// # fn main() -> larder::Result<()> {
    /// let cache = larder::AsyncMemcachedCache::builder().server("cache.local").build()?;
    /// # Ok(()) }
    /// ```
    pub fn builder() -> MemcachedBuilder {
        MemcachedBuilder::new()
    }

    fn from_config(config: Config) -> Self {
        let names: Vec<String> = config.servers.iter().map(address::Address::ring_name).collect();
        let prefix = config.settings.scope.prefix();
        let server = |address: &address::Address| {
            Arc::new(Server::new(address.clone(), prefix, config.settings.codec, config.op_timeout))
        };
        let servers = config.servers.iter().map(server).collect();
        Self {
            inner: Arc::new(Inner {
                ring: Ring::new(&names),
                servers,
                homes: PerRuntime::new(),
                config,
            }),
        }
    }

    /// What stands around it has to know.
    pub(crate) fn remote(self) -> Remote<Self> {
        let Config { settings, op_timeout, servers, .. } = &self.inner.config;
        // Of several servers, one that is away costs its own keys and no others.
        Remote {
            op_timeout: *op_timeout,
            default_ttl: settings.default_ttl,
            is_one: servers.len() == 1,
            adapter: self,
        }
    }

    fn key(&self, key: &str) -> Result<Key> {
        Ok(Key::new(self.inner.config.settings.scope.key(key)?))
    }

    fn place(&self, key: &Key) -> Place {
        Place {
            server: self.inner.ring.server(key.wire()),
            lane: key.hash() as usize % self.inner.config.pool_size,
        }
    }

    fn home(&self, runtime: &Handle) -> Arc<Home> {
        let Inner { servers, config, homes, .. } = &*self.inner;
        homes.get_or_insert_with(runtime, || {
            Home(servers.iter().map(|server| Lanes::new(server, config)).collect())
        })
    }

    /// Gives a command to a lane and waits for the answer, until the deadline.
    async fn ask<T>(&self, place: Place, command: impl FnOnce(Reply<T>) -> Command) -> Result<T> {
        let server = &self.inner.servers[place.server];
        let Ok(runtime) = Handle::try_current() else {
            return Err(server.unavailable("can be reached from inside a tokio runtime only"));
        };
        runtime::can_connect()?;
        let deadline = Instant::now() + server.op_timeout;
        let lane = self.home(&runtime).0[place.server].get(place.lane);
        match tokio::time::timeout_at(deadline.into(), lane.ask(deadline, command)).await {
            Ok(Some(answer)) => answer,
            // The lane dropped it unanswered: it was too late to begin, or its runtime ends.
            Ok(None) if Instant::now() >= deadline => Err(server.timeout()),
            Ok(None) => Err(server.unavailable("was let go of")),
            Err(_) => Err(server.timeout()),
        }
    }

    /// [`ask`](Self::ask) about one key, with the error saying so.
    async fn ask_about<T>(
        &self,
        op: &'static str,
        key: &str,
        command: impl FnOnce(Key, Reply<T>) -> Command,
    ) -> Result<T> {
        let asked = async {
            let wire = self.key(key)?;
            self.ask(self.place(&wire), |reply| command(wire, reply)).await
        };
        asked.await.map_err(|error| about(error, op, key))
    }

    async fn fetch(&self, op: &'static str, key: &str, want: Want) -> Result<Option<Found>> {
        let found =
            self.ask_about(op, key, |wire, reply| Command::Fetch(vec![wire], want, reply)).await?;
        only(found).map_err(|error| about(error, op, key))
    }

    async fn delete(&self, op: &'static str, key: &str) -> Result<bool> {
        let removed =
            self.ask_about(op, key, |wire, reply| Command::Remove(vec![wire], reply)).await?;
        only(removed).map_err(|error| about(error, op, key))
    }

    /// The value's stored bytes. Too many of them are an error, and remove what is there.
    async fn encode(&self, op: &'static str, key: &str, value: &CacheValue) -> Result<Bytes> {
        match self.stored(key, value) {
            Err(error) if error.kind() == ErrorKind::TooLarge => {
                self.delete(op, key).await?;
                Err(about(error, op, key))
            }
            stored => stored.map_err(|error| about(error, op, key)),
        }
    }

    fn stored(&self, key: &str, value: &CacheValue) -> Result<Bytes> {
        let Config { settings, max_value_bytes, .. } = &self.inner.config;
        let bytes = value.to_stored(&settings.scope.key(key)?, settings.codec)?;
        if bytes.len() > *max_value_bytes {
            let message = format!(
                "the value is too large: {} bytes as stored, and {max_value_bytes} is the limit",
                bytes.len()
            );
            return Err(Error::new(ErrorKind::TooLarge).with_message(message));
        }
        Ok(bytes)
    }

    /// `None` for a lifetime of zero.
    fn ttl(&self, expiry: Expiry) -> Option<Ttl> {
        Ttl::new(self.inner.config.settings.resolve(expiry))
    }

    /// Sends each item of a batch with those of its lane, and puts the answers back in order.
    async fn ask_each<I, T>(
        &self,
        op: &'static str,
        items: Vec<(usize, I)>,
        key: impl Fn(&I) -> &Key,
        command: impl Fn(Vec<I>, Reply<Each<T>>) -> Command,
        results: &mut [Option<Result<T>>],
    ) {
        let mut batches: HashMap<Place, (Vec<usize>, Vec<I>)> = HashMap::new();
        for (at, item) in items {
            let (places, batch) = batches.entry(self.place(key(&item))).or_default();
            places.push(at);
            batch.push(item);
        }
        let asked = batches.into_iter().map(|(place, (places, batch))| {
            let command = &command;
            async move { (places, self.ask(place, |reply| command(batch, reply)).await) }
        });
        for (places, answer) in join_all(asked).await {
            match answer {
                Ok(each) => {
                    places.into_iter().zip(each).for_each(|(at, result)| results[at] = Some(result))
                }
                Err(error) => places
                    .into_iter()
                    .for_each(|at| results[at] = Some(Err(error.clone().with_op(op)))),
            }
        }
    }

    /// Waits for what the lanes have begun, where nothing but the order of writes tells a cleared value: a write that the server
    /// has not seen yet would come after the clear.
    async fn settle_lanes(&self) -> Result<()> {
        let Ok(runtime) = Handle::try_current() else { return Ok(()) };
        if Stamping::of(self.inner.config.settings.codec) == Stamping::Stamped {
            return Ok(());
        }
        let home = self.home(&runtime);
        let asked = home.0.iter().enumerate().flat_map(|(server, lanes)| {
            let opened = lanes.opened();
            opened.map(move |lane| self.ask(Place { server, lane }, Command::Ping))
        });
        let answers: Result<Vec<()>> = join_all(asked).await.into_iter().collect();
        answers.map(drop).map_err(|error| error.with_backend(KIND).with_op("clear"))
    }

    /// Asks every server the same, all at once; the first error, once all are done.
    async fn ask_all(
        &self,
        op: &'static str,
        command: impl Fn(Reply<()>) -> Command,
    ) -> Result<()> {
        let asked = (0..self.inner.servers.len())
            .map(|server| self.ask(Place { server, lane: 0 }, &command));
        let answers: Result<Vec<()>> = join_all(asked).await.into_iter().collect();
        answers.map(drop).map_err(|error| error.with_backend(KIND).with_op(op))
    }
}

fn about(error: Error, op: &'static str, key: &str) -> Error {
    error.with_backend(KIND).with_op(op).with_key(key)
}

fn only<T>(each: Each<T>) -> Result<T> {
    each.into_iter()
        .next()
        .unwrap_or_else(|| Err(Error::new(ErrorKind::Backend).with_message("an empty answer")))
}

/// The results of a batch; every one has been given by then.
fn finished<T>(op: &'static str, keys: &[&str], results: Vec<Option<Result<T>>>) -> Vec<Result<T>> {
    let missing = || Err(Error::new(ErrorKind::Backend).with_message("no answer"));
    let results = results.into_iter().map(|result| result.unwrap_or_else(missing));
    results.zip(keys).map(|(result, key)| result.map_err(|error| about(error, op, key))).collect()
}

fn unset<T>(count: usize) -> Vec<Option<T>> {
    std::iter::repeat_with(|| None).take(count).collect()
}

#[async_trait]
impl AsyncCacheAdapter for AsyncMemcachedCache {
    async fn get(&self, key: &str) -> Result<Option<CacheValue>> {
        Ok(self.fetch("get", key, Want::Value).await?.map(|found| found.value))
    }

    async fn set(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<()> {
        crate::key::check(key).map_err(|error| about(error, "set", key))?;
        let bytes = self.encode("set", key, &value).await?;
        let Some(ttl) = self.ttl(expiry) else {
            return self.delete("set", key).await.map(drop);
        };
        let stored = self
            .ask_about("set", key, |key, reply| {
                Command::Store(vec![Write { key, bytes, ttl }], reply)
            })
            .await?;
        only(stored).map_err(|error| about(error, "set", key))
    }

    async fn remove(&self, key: &str) -> Result<bool> {
        self.delete("remove", key).await
    }

    async fn update_timeout(&self, key: &str, expiry: Expiry) -> Result<Option<CacheValue>> {
        let found = match self.ttl(expiry) {
            Some(ttl) => {
                self.ask_about("update_timeout", key, |key, reply| {
                    Command::Touch(key, ttl, Want::Value, reply)
                })
                .await?
            }
            None => self.ask_about("update_timeout", key, Command::Take).await?,
        };
        Ok(found.map(|found| found.value))
    }

    async fn clear(&self, prefix: &str) -> Result<()> {
        let whole = format!("{}{prefix}", self.inner.config.settings.scope.prefix());
        self.settle_lanes().await?;
        let cleared = self.ask_all("clear", |reply| Command::Clear(whole.clone(), reply)).await;
        if Handle::try_current().is_ok() {
            // By then, nobody acts any more on what was known before.
            tokio::time::sleep(CLEAR_LOG_TTL).await;
        }
        cleared
    }

    async fn add(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<bool> {
        crate::key::check(key).map_err(|error| about(error, "add", key))?;
        let bytes = self.stored(key, &value).map_err(|error| about(error, "add", key))?;
        match self.ttl(expiry) {
            Some(ttl) => {
                self.ask_about("add", key, |key, reply| {
                    Command::Add(Write { key, bytes, ttl }, reply)
                })
                .await
            }
            None => Ok(self.fetch("add", key, Want::Meta).await?.is_none()),
        }
    }

    async fn replace(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<bool> {
        crate::key::check(key).map_err(|error| about(error, "replace", key))?;
        let bytes = self.encode("replace", key, &value).await?;
        match self.ttl(expiry) {
            Some(ttl) => {
                self.ask_about("replace", key, |key, reply| {
                    Command::Replace(Write { key, bytes, ttl }, reply)
                })
                .await
            }
            None => self.delete("replace", key).await,
        }
    }

    async fn incr(&self, key: &str, by: i64, expiry: Expiry) -> Result<i64> {
        let ttl = self.ttl(expiry);
        self.ask_about("incr", key, |key, reply| Command::Count(Count { key, by, ttl }, reply))
            .await
    }

    async fn take(&self, key: &str) -> Result<Option<CacheValue>> {
        Ok(self.ask_about("take", key, Command::Take).await?.map(|found| found.value))
    }

    async fn expiry(&self, key: &str) -> Result<Option<Expiry>> {
        Ok(self.fetch("expiry", key, Want::Meta).await?.map(|found| ttl::expiry(found.remaining)))
    }

    async fn contains(&self, key: &str) -> Result<bool> {
        Ok(self.fetch("contains", key, Want::Meta).await?.is_some())
    }

    fn has_logical_ends(&self) -> bool {
        self.inner.config.settings.codec.has_logical_ends()
    }

    async fn touch(&self, key: &str, expiry: Expiry) -> Result<bool> {
        match self.ttl(expiry) {
            Some(ttl) => Ok(self
                .ask_about("touch", key, |key, reply| Command::Touch(key, ttl, Want::Meta, reply))
                .await?
                .is_some()),
            None => self.delete("touch", key).await,
        }
    }

    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Result<Option<CacheValue>>>> {
        let wires =
            self.keys(keys).map_err(|error| error.with_backend(KIND).with_op("get_many"))?;
        let mut results = unset(keys.len());
        let command = |keys, reply| Command::Fetch(keys, Want::Value, reply);
        self.ask_each("get_many", wires, |key| key, command, &mut results).await;
        let results = finished("get_many", keys, results);
        Ok(results
            .into_iter()
            .map(|result| result.map(|found| found.map(|found| found.value)))
            .collect())
    }

    async fn set_many(&self, entries: &[Entry<'_>]) -> Result<Vec<Result<()>>> {
        let keys: Vec<&str> = entries.iter().map(|entry| entry.key).collect();
        let wires =
            self.keys(&keys).map_err(|error| error.with_backend(KIND).with_op("set_many"))?;
        let mut results = unset(entries.len());
        let stored: Vec<Result<Bytes>> =
            entries.iter().map(|entry| self.stored(entry.key, &entry.value)).collect();
        // Of several entries for one key the last one that has an effect is what is left; the others need not be sent.
        let has_effect = |at: &usize| {
            stored[*at].as_ref().err().is_none_or(|error| error.kind() == ErrorKind::TooLarge)
        };
        let last: HashMap<&str, usize> =
            (0..keys.len()).filter(has_effect).map(|at| (keys[at], at)).collect();
        let (mut writes, mut gone) = (Vec::new(), Vec::new());
        for ((at, key), (entry, stored)) in wires.into_iter().zip(entries.iter().zip(stored)) {
            let counts = last.get(entry.key) == Some(&at);
            match (stored, self.ttl(entry.expiry)) {
                (Ok(bytes), Some(ttl)) if counts => writes.push((at, Write { key, bytes, ttl })),
                (stored, _) if counts => gone.push((at, key, stored.map(drop))),
                (stored, _) => results[at] = Some(stored.map(drop)),
            }
        }
        self.ask_each("set_many", writes, |write| &write.key, Command::Store, &mut results).await;
        self.remove_for(gone, &mut results).await;
        Ok(finished("set_many", &keys, results))
    }

    async fn remove_many(&self, keys: &[&str]) -> Result<Vec<Result<bool>>> {
        let wires =
            self.keys(keys).map_err(|error| error.with_backend(KIND).with_op("remove_many"))?;
        let mut results = unset(keys.len());
        self.ask_each("remove_many", wires, |key| key, Command::Remove, &mut results).await;
        Ok(finished("remove_many", keys, results))
    }

    /// Not under the codecs that are meant for other programs.
    fn enforces_claims(&self) -> bool {
        self.inner.config.settings.codec == Codec::MessagePack
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn claim(&self, key: &str, lease: Option<Duration>) -> Result<Option<Claim>> {
        self.take_claim(key, lease).await
    }

    async fn set_claimed(
        &self,
        key: &str,
        value: CacheValue,
        expiry: Expiry,
        claim: &Claim,
    ) -> Result<bool> {
        match claim.token() {
            Some(noted) => self.fill_claim(key, &value, expiry, noted).await,
            None => self.set(key, value, expiry).await.map(|()| true),
        }
    }

    async fn release(&self, key: &str, claim: &Claim) -> Result<()> {
        self.release_claim(key, claim).await
    }

    async fn connect(&self) -> Result<()> {
        self.ask_all("connect", Command::Ping).await
    }

    async fn ping(&self) -> Result<()> {
        self.ask_all("ping", Command::Ping).await
    }

    async fn close(&self) -> Result<()> {
        // Each lane ends once it has answered what it has begun, and its connection with it.
        self.inner.homes.clear();
        self.inner.servers.iter().for_each(|server| server.availability.open());
        Ok(())
    }

    fn rebuild(&self) -> Result<Arc<dyn AsyncCacheAdapter>> {
        Ok(Arc::new(Self::from_config(self.inner.config.clone())))
    }

    fn default_ttl(&self) -> Lifetime {
        self.inner.config.settings.default_ttl
    }

    fn backend(&self) -> &str {
        KIND
    }
}

impl AsyncMemcachedCache {
    /// All keys of a batch, or the first one that is none.
    fn keys(&self, keys: &[&str]) -> Result<Vec<(usize, Key)>> {
        keys.iter().enumerate().map(|(at, key)| Ok((at, self.key(key)?))).collect()
    }

    /// Removes the keys of a batch whose new values are not to be stored; each gets its own result, or the removal's error.
    async fn remove_for(
        &self,
        gone: Vec<(usize, Key, Result<()>)>,
        results: &mut [Option<Result<()>>],
    ) {
        let mut removed = unset(results.len());
        let mut outcomes = Vec::with_capacity(gone.len());
        let mut keys = Vec::with_capacity(gone.len());
        for (at, key, outcome) in gone {
            outcomes.push((at, outcome));
            keys.push((at, key));
        }
        self.ask_each("set_many", keys, |key| key, Command::Remove, &mut removed).await;
        for (at, outcome) in outcomes {
            results[at] = Some(match removed[at].take() {
                Some(Err(error)) => Err(error),
                _ => outcome,
            });
        }
    }
}

impl fmt::Debug for AsyncMemcachedCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Config { servers, settings, op_timeout, pool_size, .. } = &self.inner.config;
        let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
        f.debug_struct("AsyncMemcachedCache")
            .field("servers", &servers)
            .field("prefix", &settings.scope.prefix())
            .field("op_timeout", op_timeout)
            .field("pool_size", pool_size)
            .finish_non_exhaustive()
    }
}
