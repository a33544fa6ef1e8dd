//! The memcached adapter.
//!
//! `adapter` is the contract, verb by verb; `multi_key` sends batches to the lanes. `builder` reads the configuration.
//! `connection` has the lanes, one queue and connection each, and what they need; `ops` is what a verb does on one, `fencing` what
//! a claim does. `keys`, `ttl` and `errors` translate. `server` is what all lanes of a server share: what is known of the
//! `clear_log`, by whose numbers, `stamps` and CAS, `judging` tells live values from cleared ones.
//! `late` and `fences` are about writes that were given up and may still arrive.

mod adapter;
mod builder;
mod clear_log;
mod connection;
mod errors;
mod fences;
mod fencing;
mod judging;
mod keys;
mod late;
mod multi_key;
mod ops;
mod prefix;
mod server;
mod stamps;
mod ttl;

pub use builder::MemcachedBuilder;

use crate::adapters::Remote;
use crate::batching::Limits;
use crate::error::Result;
use crate::runtime;
use crate::runtime::PerRuntime;
use builder::Config;
use connection::Connector;
use connection::address::Address;
use connection::lane::{Command, Lane, Reply};
use connection::ring::Ring;
use connection::session::Session;
use deadpool::managed::Pool;
use errors::{BACKEND, about};
use futures_util::future::join_all;
use keys::Key;
use server::Server;
use stamps::Stamping;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use tokio::runtime::Handle;

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
/// [`clear`](crate::AsyncCacheAdapter::clear) costs two round trips and 20 ms, however many keys there are; other programs' keys stay.
/// What has been cleared is a miss from then on in every process that uses larder, and its memory is reclaimed as the server needs
/// it. Other programs still see it. Values that other programs put under the prefix are cleared too. What has been cleared is
/// noted in a clear log on each server. It keeps 1,024 prefixes apart; past it, values that are older than the last 1,024 cleared
/// prefixes are a miss. Should the server evict the log, everything that larder stored there until a moment later is a miss; under
/// `json` and `raw` that holds only for processes that knew the log. Adapters whose prefixes differ do not see each other's values.
///
/// # Other programs
///
/// Under [`Codec::Json`](crate::Codec::Json) and [`Codec::Raw`](crate::Codec::Raw) the client flags of a value are zero, which is plain bytes to every client. Under
/// [`Codec::MessagePack`](crate::Codec::MessagePack) they bear a stamp in bits 16 to 31. The lower half, in which clients keep types, compression and pickles,
/// is zero there, too, so that no client runs what is cached. Without a stamp the order of the server's CAS numbers tells cleared
/// values: a server that moves an item between its slabs gives it a new number, and a cleared value that is moved counts again.
///
/// # Other processes
///
/// What a load computes is not stored if another process removed, cleared or wrote the key meanwhile, and a load can be
/// [leased](crate::View::lease). Under [`Codec::MessagePack`](crate::Codec::MessagePack) only, the default: while a load is under way, an empty item holds the key's place,
/// and other programs would read it. `docs/leases.md` has the details.
///
/// # Deadlines, and what they do not promise
///
/// Every call ends within `op_timeout`; `clear` takes 20 ms longer. Operations on one key keep their order within one runtime, those
/// whose callers have given up included: a write that timed out does not come back after a later removal that succeeded. After
/// twice the deadline without an answer the connection is given up; what was sent over it and may still arrive is fenced off
/// before anything else is done, so that it is a miss if it does. The fence is taken back once the answer has come, or after 30 s.
/// Values under `json` and `raw` bear no stamp that a fence could look at: until the answer comes, and for 30 s at most, keys
/// with such a write are not changed, and `clear` of them fails, with [`ErrorKind::Timeout`](crate::ErrorKind::Timeout). None of this holds between two
/// runtimes, after `close`, or after the runtime ended: then a write that timed out may still land late, and the entry's
/// expiry is all that limits it.
///
/// # Values
///
/// A value over `max_value_bytes`, or over the server's own limit, is [`ErrorKind::TooLarge`](crate::ErrorKind::TooLarge), and the older one is removed.
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
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for what is no such URL.
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
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for what is no such URL.
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
        let names: Vec<String> = config.servers.iter().map(Address::ring_name).collect();
        let prefix = config.settings.scope.prefix();
        let server = |address: &Address| {
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

    /// Settings that the `Resilient` layer needs.
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
        answers.map(drop).map_err(|error| error.with_backend(BACKEND).with_op("clear"))
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
        answers.map(drop).map_err(|error| error.with_backend(BACKEND).with_op(op))
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
