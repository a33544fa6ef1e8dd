//! The memcached adapter.
//!
//! `adapter` implements the adapter trait; `multi_key` splits batches among lanes. `builder` reads
//! the configuration. `connection` has the lanes, one queue and one connection each, and what they
//! need. `ops` has the operations on one connection, `fencing` those of claims, `clear` those of
//! clears. `keys`, `ttl` and `errors` translate between larder's terms and memcached's. `server` is
//! the state that all lanes of a server share. `clear_log` records clears, by sequence numbers
//! (`stamps`) and CAS numbers, and `judging` decides by it whether a value is live or cleared.
//! `late` and `fences` handle writes that were given up and may still arrive.

mod adapter;
mod builder;
mod clear;
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
use crate::adapters::given_up::GivenUp;
use crate::batching::Limits;
use crate::error::Result;
use crate::runtime;
use crate::runtime::PerRuntime;
use builder::Config;
use clear::CLEARING;
use connection::address::Address;
use connection::command::{Command, Reply};
use connection::connector::Connector;
use connection::lane::Lane;
use connection::ring::Ring;
use connection::session::Session;
use errors::{BACKEND, about};
use futures_util::future::join_all;
use keys::Key;
use server::Server;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// A cache on one or more memcached servers, 1.6 or later.
///
/// # Keys
///
/// A key is sent as `prefix + key` if memcached accepts that text: up to 250 bytes of printable
/// ASCII without spaces. Other programs find the value under that text. Any other key, and a key
/// that begins with `~` while the prefix is empty, is percent-encoded after `~e`; if that is too
/// long, `~h` and its SHA-256 are sent. The same key is always encoded in the same way, and two
/// keys never get the same encoding.
///
/// With several servers, each key belongs to one of them by consistent hashing, as in
/// libmemcached's `ketama_weighted`, so libmemcached clients find the same keys on the same servers
/// if they name the servers by the same text. If a server is unavailable, only its own keys are
/// affected.
///
/// # Expiry
///
/// memcached counts whole seconds. Lifetimes are rounded up, and an entry may live up to one second
/// longer. It lives shorter only if the server's own clock, which drifts, skips a second: about
/// once in 15 minutes, for entries written in the second before. An expiry after January 2038
/// becomes never. `expiry` reports whole seconds and never too many.
///
/// # Clearing
///
/// [`clear`](crate::AsyncCacheAdapter::clear) takes three round trips and 20 ms for any number of
/// keys, and leaves keys outside the prefix alone. Cleared values are misses from then on in every
/// process that uses larder, and the server reclaims their memory as it needs it. Other programs
/// still see them. Values that other programs stored under the prefix are cleared, too. Each server
/// records clears in a clear log. It distinguishes 1,024 prefixes; beyond that, values that are
/// older than the last 1,024 cleared prefixes are misses. If the server evicts the log, everything
/// that larder stored there until a moment later is a miss; under `json` and `raw` this holds only
/// for processes that had read the log. Adapters with different prefixes do not see each other's
/// values.
///
/// # Other programs
///
/// Under [`Codec::Json`](crate::Codec::Json) and [`Codec::Raw`](crate::Codec::Raw) the client flags
/// of a value are zero, which every client reads as plain bytes. Under
/// [`Codec::MessagePack`](crate::Codec::MessagePack) bits 16 to 31 hold a stamp. The lower half, in
/// which clients record types, compression and pickles, is zero there, too, so no client unpickles
/// a cached value. Without a stamp, the order of the server's CAS numbers decides which values are
/// cleared. If the server moves an item between its slabs, the item gets a new number, and a
/// cleared value that is moved becomes visible again.
///
/// # Other processes
///
/// A loaded value is not stored if another process removed, cleared or wrote the key during the
/// load, and a load can be [leased](crate::View::lease). This holds under
/// [`Codec::MessagePack`](crate::Codec::MessagePack), the default, only: while a load is in flight,
/// an empty item holds the key's place, and other programs would read that item. `docs/leases.md`
/// has the details.
///
/// # Deadlines and their limits
///
/// Every call ends within `op_timeout`; `clear` takes 20 ms longer. Operations on one key keep
/// their order within one runtime, including those whose callers have given up: a write that timed
/// out does not take effect after a later removal that succeeded, and a `clear` that was given up
/// does not take effect after a later write. After twice the deadline without
/// an answer the connection is abandoned. Before any other operation, the writes that were sent
/// over it are fenced off: if they still arrive, they are misses. A removal that timed out may still
/// arrive, too, and remove what was written later: a miss. The fence is removed when the
/// answer arrives, or after 30 s. Values under `json` and `raw` have no stamp for a fence to check:
/// until the answer arrives, and for 30 s at most, keys with such a write are not changed, and
/// `clear` of them fails, with [`ErrorKind::Timeout`](crate::ErrorKind::Timeout). None of this
/// holds between two runtimes, after `close`, or after the runtime has ended: then a write that
/// timed out may still take effect late, limited only by the entry's expiry.
///
/// # Values
///
/// A value over `max_value_bytes`, or over the server's own limit, is
/// [`ErrorKind::TooLarge`](crate::ErrorKind::TooLarge), and the older value is removed.
///
/// ```no_run
/// use larder::{AsyncCacheAdapter, AsyncMemcachedCache, CacheValue, Expiry};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
/// let cache = AsyncMemcachedCache::new("memcached://10.0.0.1,10.0.0.2?default_ttl=60")?;
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

/// The lanes of one runtime, to every server.
struct Home(Vec<Lanes>);

struct Lanes {
    server: Arc<Server>,
    connector: Arc<Connector>,
    lanes: Vec<OnceLock<Lane>>,
    limits: Limits,
    /// The clears that were given up.
    clears: GivenUp,
}

impl Lanes {
    fn new(server: &Arc<Server>, config: &Config) -> Self {
        let size = config.pool_size;
        Self {
            server: server.clone(),
            connector: Arc::new(Connector::new(server.address.clone(), config.max_value_bytes)),
            lanes: (0..size).map(|_| OnceLock::new()).collect(),
            limits: config.limits,
            clears: GivenUp::default(),
        }
    }

    /// The indices of the lanes that have been used.
    fn opened(&self) -> impl Iterator<Item = usize> {
        let lanes = self.lanes.iter().enumerate();
        lanes.filter(|(_, lane)| lane.get().is_some()).map(|(at, _)| at)
    }

    fn get(&self, at: usize) -> &Lane {
        self.lanes[at % self.lanes.len()].get_or_init(|| {
            Lane::open(Session::new(self.server.clone(), self.connector.clone()), self.limits)
        })
    }
}

/// The server and the lane of a key's operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Place {
    server: usize,
    lane: usize,
}

impl AsyncMemcachedCache {
    /// Creates the adapter that a URL describes: `memcached://host:port[,host:port…]` or
    /// `memcached+unix:///path`, with parameters named as the [builder](MemcachedBuilder)'s
    /// setters. Nothing is opened before the first use.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for any other URL.
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
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for any other URL.
    ///
    /// ```
    /// # fn main() -> larder::Result<()> {
    /// use larder::AsyncMemcachedCache;
    ///
    /// let cache = AsyncMemcachedCache::from_url("memcached+unix:///run/memcached.sock")?;
    /// # Ok(()) }
    /// ```
    pub fn from_url(url: &str) -> Result<Self> {
        MemcachedBuilder::from_url(url)?.build()
    }

    /// Returns a builder. The default server is `127.0.0.1:11211`.
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
        // If one of several servers is unavailable, only its own keys are affected.
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

    /// Sends a command to a lane and waits for the answer, until the deadline.
    async fn ask<T>(&self, place: Place, command: impl FnOnce(Reply<T>) -> Command) -> Result<T> {
        let server = &self.inner.servers[place.server];
        let Ok(runtime) = Handle::try_current() else {
            return Err(server.unavailable("can be used inside a tokio runtime only"));
        };
        runtime::can_connect()?;
        let deadline = Instant::now() + server.op_timeout;
        let home = self.home(&runtime);
        let lanes = &home.0[place.server];
        let asked = async {
            let (reply, answer) = oneshot::channel();
            let command = command(reply);
            if command.stores() && lanes.clears.in_flight().is_some() {
                Box::pin(lanes.outlast_clears(deadline)).await?;
            }
            Ok(lanes.get(place.lane).call(deadline, command, answer).await)
        };
        match tokio::time::timeout_at(deadline.into(), asked).await {
            Ok(Err(error)) => Err(error),
            Ok(Ok(Some(answer))) => answer,
            // The lane dropped the command: its deadline passed before it began, or its runtime
            // ends.
            Ok(Ok(None)) if Instant::now() >= deadline => Err(server.timeout()),
            Ok(Ok(None)) => {
                Err(server.unavailable("was not asked: the connection's runtime has ended"))
            }
            Err(_) => Err(server.timeout()),
        }
    }

    /// Like [`ask`](Self::ask), for one key, which errors then name.
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

    /// Sends the same command to all servers at once, waits for all answers, and returns the first
    /// error.
    async fn ask_all(
        &self,
        op: &'static str,
        command: impl Fn(Reply<()>) -> Command,
    ) -> Result<()> {
        let asked = (0..self.inner.servers.len())
            .map(|server| self.ask(Place { server, lane: CLEARING }, &command));
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
