//! The redis and Valkey adapter.
//!
//! `builder` reads the configuration, and `adapter` implements the trait. `ops` has the operations
//! on one key, `counter` and `fencing` those of `incr` and of claims, `multi_key` and `clear` those
//! on many keys; `presence` asks whether keys are there. `near` reads for a near level, `lives` has
//! the commands for that, and `following` has the near level told of changes. `commands` and
//! `scripts` are sent to the server in their `raw` form, the most frequent ones `in_place`; the server
//! answers with a `reply`, and `errors` and `refusals` handle its errors. A command is sent over a
//! `lane`, and a read of one key, if they are many, as a `request` to the `batch_leader`;
//! `connection` opens connections and keeps them open. `staging` sends large values over a lane of
//! their own, which `large_keys` chooses. `names` are the names of larder's auxiliary keys.

mod adapter;
mod batch_leader;
mod builder;
mod clear;
mod commands;
mod connection;
mod counter;
mod errors;
mod fencing;
mod following;
mod in_place;
mod keys;
mod lane;
mod large_keys;
mod lives;
mod multi_claim;
mod multi_key;
mod names;
mod near;
mod ops;
mod presence;
mod raw;
mod refusals;
mod reply;
mod request;
mod scripts;
mod staging;

pub use builder::RedisBuilder;

use crate::adapters::Remote;
use crate::batching::{Batcher, Limits};
use crate::codec;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, EventKind};
use crate::observers::EventSinks;
use crate::runtime::{PerRuntime, can_connect, lock};
use builder::Config;
use compact_str::CompactString;
use connection::calls::Drive;
use connection::connection::Orphans;
use connection::factory::ConnectionFactory;
#[cfg(feature = "tls")]
use connection::source;
use connection::source::Source;
use errors::BACKEND;
use following::Following;
use futures_util::future::try_join_all;
use lane::Lane;
use large_keys::BulkyKeys;
use ops::Call;
use refusals::Refusals;
use std::fmt;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::Instant;

/// A cache in redis 6.2 or later, or in Valkey. Cheap to clone; clones share connections.
///
/// Calls go over a few multiplexed connections, opened on first use, one set for each runtime that
/// calls. The operations on one key keep their order. A connection that breaks is replaced in the
/// background, with exponential back-off between the attempts; until then calls fail at once with
/// [`ErrorKind::Unavailable`]. No call takes longer than `op_timeout`.
///
/// | parameter of the URL | default | |
/// |---|---|---|
/// | `prefix` | `larder:` | stands before every key |
/// | `default_ttl` | 300 s | what [`Expiry::Default`](crate::Expiry::Default) stands for |
/// | `codec` | `msgpack` | or `json`, `raw` |
/// | `op_timeout` | `250ms` | the deadline of a call |
/// | `pool_size` | 1 | connections of a runtime, and one more for big values and batches |
/// | `max_value_bytes` | 64 MiB | more is [`ErrorKind::TooLarge`] |
/// | `big_value_bytes` | 256 KiB | more goes over a connection of its own |
/// | `batch_above` | 64 | `get`s in flight on a connection; above that, they are sent in batches |
/// | `max_batch` | 512 | as many waiting `get`s make a batch; 1 is no batches |
/// | `max_batch_bytes` | 1 MiB | and as many bytes of keys |
/// | `resp3` | `false` | version 3 of the protocol |
/// | `ca_cert` | the system's | a PEM file with the authorities to trust (`rediss:`) |
/// | `db`, `user`, `password` | | where the rest of the URL does not say them |
///
/// A cache that is built from the URL puts [`Resilient`](crate::layers::Resilient) around the
/// adapter, and also accepts the parameters of that layer.
///
/// Schemes: `redis`, `rediss`, `redis+unix`, `unix`, `valkey`, `valkeys`, `valkey+unix`.
///
/// # Counters
///
/// [`incr`](crate::AsyncCacheAdapter::incr) works on plain decimal text, as `INCRBY` does. The
/// first `incr` rewrites an integer that `set` stored with larder's header as text, atomically and
/// with its expiry. A read returns the number in both forms.
///
/// # Clearing
///
/// [`clear`](crate::AsyncCacheAdapter::clear) walks over the keys of the database with `SCAN`, in
/// steps, and removes those with the prefix. Its time is proportional to the number of all keys in
/// the database, but it delays no other call.
///
/// # Other processes
///
/// A loaded value is not stored if another process removed, cleared or wrote the key during the
/// load, and a load can have a [lease](crate::View::lease). During a load there is an auxiliary
/// key, for an hour at most; its name is that of the key, a `NUL` character and `larder:claim`. See
/// [`docs::leases`](crate::docs::leases).
///
/// # Near levels
///
/// A near level in front of this adapter ([`layers::Tiered`](crate::layers::Tiered)) is told by the
/// server, within a millisecond or so, which of the keys that were read have changed: by any client's
/// writes, expiry, eviction and flushes.
/// Each connection of larder's own over which keys are read is a [`Source`](crate::Source)
/// (`CLIENT TRACKING`, in version 3 of the protocol). Values are near by age alone if the server is
/// older than redis 7, the user may not run `CLIENT TRACKING` or `HELLO`, or the connections are
/// those of a pool or client of the program. One event, [`NearLost`](crate::EventKind::NearLost)
/// with an error, says so. `SWAPDB` is not told. Of several near levels in front of clones of one
/// adapter only the newest keeps values near.
///
/// # Users who may not run every command
///
/// If a command is refused, another one replaces it where there is one.
/// [`docs::redis_permissions`](crate::docs::redis_permissions) lists the commands, and what is lost
/// without each. A server in cluster mode is [`ErrorKind::Config`].
///
/// # Order
///
/// A write that timed out may still be applied, but never after a later call of the same instance
/// and runtime that succeeded: both are sent over one connection, and before a new connection is
/// used, larder has the server close the old one (`CLIENT KILL`). This does not hold if the server
/// does not permit `CLIENT INFO` and `CLIENT KILL`, or if the address leads to another server in
/// the meantime. Then the expiry limits how long an old value is seen.
///
/// # Example
///
/// ```no_run
/// use larder::{AsyncCacheAdapter, AsyncRedisCache, CacheValue, Expiry};
///
/// # async fn example() -> larder::Result<()> {
/// let cache = AsyncRedisCache::new("redis://:secret@127.0.0.1:6379/2?prefix=shop:")?;
/// cache.set("hello", CacheValue::new("world"), Expiry::Default).await?;
/// let value = cache.get("hello").await?.map(|value| value.decode::<String>()).transpose()?;
/// assert_eq!(value.as_deref(), Some("world"));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct AsyncRedisCache {
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    source: Source,
    orphans: Arc<Orphans>,
    refusals: Arc<Refusals>,
    sinks: Arc<EventSinks>,
    following: Arc<Following>,
    bulky: BulkyKeys,
    runtimes: PerRuntime<Lanes>,
    /// The lane, and the process in which it was opened: its driver does not survive a fork.
    bulk: Mutex<(u32, Weak<Lane>)>,
}

impl Shared {
    fn factory(&self) -> Arc<ConnectionFactory> {
        Arc::new(ConnectionFactory::new(
            self.source.clone(),
            self.orphans.clone(),
            self.refusals.clone(),
            self.following.clone(),
            &self.config,
        ))
    }

    /// Records that the server does not run scripts, and emits one event: claims and leases do not
    /// work.
    fn note_refused_scripts(&self, error: Error) {
        if self.refusals.note_scripts() {
            let error = error.with_backend(BACKEND);
            let event = Event::new(EventKind::BackendError, BACKEND).with_op("claim");
            self.sinks.emit(&event.with_error(&error));
        }
    }

    /// The lane for large values and batches: one for all runtimes, as long as one of them exists.
    fn bulk(&self) -> Arc<Lane> {
        let process = std::process::id();
        let mut bulk = lock(&self.bulk);
        bulk.1.upgrade().filter(|_| bulk.0 == process).unwrap_or_else(|| {
            // No batches: a large value would delay the other calls in its batch.
            let limits = Limits { entries: 1, bytes: 0 };
            let lane =
                Lane::new(self.factory(), Drive::ByWatchdog, Batcher::new(usize::MAX, limits));
            *bulk = (process, Arc::downgrade(&lane));
            lane
        })
    }
}

/// The connections of one runtime.
struct Lanes {
    lanes: Vec<Arc<Lane>>,
    /// The lane for large values and batches.
    bulk: Arc<Lane>,
}

impl Lanes {
    /// The lane of a key with this hash, which is computed if there is more than one lane.
    fn of(&self, hash: impl FnOnce() -> u32) -> &Arc<Lane> {
        match &self.lanes[..] {
            [only] => only,
            // The remainder is less than the number of lanes.
            lanes => &lanes[hash() as usize % lanes.len()],
        }
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Lane>> {
        self.lanes.iter().chain([&self.bulk])
    }
}

impl AsyncRedisCache {
    /// Builds a cache on the server that a URL names, such as `redis://127.0.0.1:6379/2`. Nothing
    /// is connected yet.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] for a URL that does not name a redis server, or has parameters that
    /// redis does not have. The URL is not repeated.
    ///
    /// ```
    /// use larder::{AsyncRedisCache, ErrorKind};
    ///
    /// let cache = AsyncRedisCache::new("redis://:secret@127.0.0.1:6379/2?prefix=shop:")?;
    /// assert!(!format!("{cache:?}").contains("secret"));
    /// let error = AsyncRedisCache::new("redis://localhost?ttl=5").unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Config);
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn new(url: &str) -> Result<Self> {
        Self::from_url(url)
    }

    /// The same as [`new`](AsyncRedisCache::new). All adapters have a method of this name.
    ///
    /// # Errors
    ///
    /// As [`new`](AsyncRedisCache::new).
    pub fn from_url(url: &str) -> Result<Self> {
        RedisBuilder::from_url(url)?.build()
    }

    /// Returns a builder with default settings.
    #[must_use]
    pub fn builder() -> RedisBuilder {
        RedisBuilder::default()
    }

    /// Builds a cache that takes its connections out of a pool of the program; see
    /// [`RedisBuilder::pool`].
    ///
    /// # Errors
    ///
    /// None today; as [`RedisBuilder::build`].
    pub fn from_pool(pool: deadpool_redis::Pool) -> Result<Self> {
        Self::builder().pool(pool).build()
    }

    /// Builds a cache that connects with a client of the program; see [`RedisBuilder::client`].
    ///
    /// # Errors
    ///
    /// None today; as [`RedisBuilder::build`].
    pub fn from_client(client: redis::Client) -> Result<Self> {
        Self::builder().client(client).build()
    }

    fn assemble(config: Config, source: Source) -> Self {
        #[cfg(feature = "tls")]
        source::prepare_tls(&source);
        let sinks = Arc::new(EventSinks::default());
        let shared = Shared {
            config,
            source,
            following: Arc::new(Following::new(sinks.clone())),
            orphans: Arc::default(),
            refusals: Arc::default(),
            sinks,
            bulky: BulkyKeys::default(),
            runtimes: PerRuntime::new(),
            bulk: Mutex::new((0, Weak::new())),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The adapter, with the settings that the `Resilient` layer needs.
    pub(crate) fn remote(self) -> Remote<Self> {
        let Config { settings, op_timeout, .. } = &self.shared.config;
        Remote {
            op_timeout: *op_timeout,
            default_ttl: settings.default_ttl,
            is_one: true,
            adapter: self,
        }
    }

    /// The connections of the current runtime.
    fn lanes(&self) -> Result<Arc<Lanes>> {
        let Ok(home) = Handle::try_current() else {
            let message = "no tokio runtime drives this call; the blocking face brings its own";
            return Err(Error::new(ErrorKind::Unsupported)
                .with_backend(BACKEND)
                .with_message(message));
        };
        can_connect()?;
        let shared = &*self.shared;
        Ok(shared.runtimes.get_or_insert_with(&home, || {
            let factory = shared.factory();
            let Config { batch_above, limits, .. } = shared.config;
            let lane =
                |_| Lane::new(factory.clone(), Drive::ByCallers, Batcher::new(batch_above, limits));
            let lanes = (0..shared.config.pool_size).map(lane).collect();
            Lanes { lanes, bulk: shared.bulk() }
        }))
    }

    fn deadline(&self) -> Instant {
        deadline_in(self.shared.config.op_timeout)
    }

    /// The hash of a key, which selects the lane, and finds the key among the large ones.
    fn hash(&self, key: &str) -> u32 {
        codec::key_hash(key)
    }

    /// The key with the prefix, as the server knows it. A short one takes no allocation.
    fn full_key(&self, key: &str) -> Result<CompactString> {
        names::check(key)?;
        self.shared.config.settings.scope.compact_key(key)
    }

    fn call<'c>(&'c self, op: &'static str, key: &'c str) -> Result<Call<'c>> {
        let named = |error: Error| error.with_backend(BACKEND).with_op(op).with_key(key);
        let full = self.full_key(key).map_err(named)?;
        let lanes = self.lanes().map_err(named)?;
        Ok(Call { cache: &self.shared, lanes, op, key, full, deadline: self.deadline() })
    }

    /// Drops the connections of all runtimes.
    fn disconnect(&self) {
        *lock(&self.shared.bulk) = (0, Weak::new());
        self.shared.runtimes.clear();
    }

    /// Pings over all lanes at the same time.
    async fn ping_all<'l>(
        &self,
        op: &'static str,
        lanes: impl Iterator<Item = &'l Arc<Lane>>,
    ) -> Result<()> {
        let deadline = self.deadline();
        let pings = lanes.map(|lane| lane.ping(deadline));
        try_join_all(pings).await.map(drop).map_err(|failure| failure.error.with_op(op))
    }
}

fn deadline_in(limit: Duration) -> Instant {
    let now = Instant::now();
    // A deadline beyond the range of the clock is replaced by one that no call reaches.
    now.checked_add(limit).unwrap_or_else(|| now + Duration::from_secs(86_400))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Debug for AsyncRedisCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { config, source, .. } = &*self.shared;
        f.debug_struct("AsyncRedisCache")
            .field("server", &source.to_string())
            .field("prefix", &config.settings.scope.prefix())
            .field("codec", &config.settings.codec)
            .field("op_timeout", &config.op_timeout)
            .finish_non_exhaustive()
    }
}
