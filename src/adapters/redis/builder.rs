//! The settings of a redis cache. URL parameters and setters have the same names.

use super::AsyncRedisCache;
use super::connection::endpoint::Endpoint;
use super::connection::source::Source;
use crate::adapters::{Settings, read_remote_table, read_remote_url};
use crate::batching::Limits;
use crate::codec::Codec;
use crate::error::{Error, Result};
use crate::expiry::Expiry;
use crate::key::Scope;
use crate::secret::Secret;
use crate::url::CacheUrl;
use serde::{Deserialize, Deserializer};
use std::path::PathBuf;
use std::time::Duration;

const PREFIX: &str = "larder:";
const OP_TIMEOUT: Duration = Duration::from_millis(250);
/// Measured with 1, 16 and 256 tasks on two cores: 1 lane is as fast as 2 and up to twice as fast
/// as 4, because commands that are sent together share their writes and reads. More lanes are for
/// machines with many cores.
const POOL_SIZE: usize = 1;
const MAX_POOL_SIZE: usize = 64;
const MAX_VALUE_BYTES: usize = 64 << 20;
/// redis itself refuses larger values, and closes the connection.
const LARGEST_VALUE_BYTES: usize = 512 << 20;
const BIG_VALUE_BYTES: usize = 256 << 10;
/// Measured: with fewer reads in flight direct ones are faster, with more of them batches are.
const BATCH_ABOVE: usize = 64;
const MAX_BATCH: usize = 512;
const MAX_BATCH_BYTES: usize = 1 << 20;

/// The configuration that all runtimes share.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) settings: Settings,
    pub(super) op_timeout: Duration,
    pub(super) pool_size: usize,
    pub(super) max_value_bytes: usize,
    pub(super) big_value_bytes: usize,
    pub(super) batch_above: usize,
    pub(super) limits: Limits,
}

impl Config {
    /// Rejects settings that are out of range.
    fn check(&self) -> Result<()> {
        if self.op_timeout.is_zero() {
            return Err(Error::config("`op_timeout` must not be zero"));
        }
        if !(1..=MAX_POOL_SIZE).contains(&self.pool_size) {
            return Err(Error::config(format!("`pool_size` is between 1 and {MAX_POOL_SIZE}")));
        }
        if !(1..=LARGEST_VALUE_BYTES).contains(&self.max_value_bytes) {
            return Err(Error::config(format!(
                "`max_value_bytes` is between 1 and {LARGEST_VALUE_BYTES}, redis's own limit"
            )));
        }
        self.limits.check()
    }
}

/// Builds an [`AsyncRedisCache`]. The setters have the names of the URL's parameters.
///
/// ```
/// use larder::{AsyncRedisCache, Codec};
/// use std::time::Duration;
///
/// # fn main() -> larder::Result<()> {
/// let cache = AsyncRedisCache::builder()
///     .host("cache.internal")
///     .password("secret")
///     .db(2)
///     .prefix("shop:")
///     .default_ttl(Duration::from_secs(60))
///     .codec(Codec::Json)
///     .build()?;
/// assert!(!format!("{cache:?}").contains("secret"));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct RedisBuilder {
    config: Config,
    endpoint: Endpoint,
    handed_in: Option<Source>,
}

impl Default for RedisBuilder {
    fn default() -> Self {
        let config = Config {
            settings: Settings::with_prefix(PREFIX),
            op_timeout: OP_TIMEOUT,
            pool_size: POOL_SIZE,
            max_value_bytes: MAX_VALUE_BYTES,
            big_value_bytes: BIG_VALUE_BYTES,
            batch_above: BATCH_ABOVE,
            limits: Limits { entries: MAX_BATCH, bytes: MAX_BATCH_BYTES },
        };
        Self { config, endpoint: Endpoint::default(), handed_in: None }
    }
}

impl RedisBuilder {
    /// Reads the settings from a URL. Setters that are called afterwards override it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a scheme or a parameter that redis does
    /// not have, and for a value that is out of range. The URL is not repeated.
    ///
    /// ```
    /// use larder::RedisBuilder;
    ///
    /// let url = "redis://:secret@127.0.0.1:6379/2?op_timeout=100ms";
    /// let cache = RedisBuilder::from_url(url)?.prefix("shop:").build()?;
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn from_url(url: &str) -> Result<Self> {
        read_remote_url(url, Self::from_cache_url)
    }

    /// Takes the parameters of this adapter out of a URL.
    pub(crate) fn from_cache_url(url: &mut CacheUrl) -> Result<Self> {
        let mut builder = Self { endpoint: Endpoint::read(url)?, ..Self::default() };
        let config = &mut builder.config;
        config.settings.take(url)?;
        config.op_timeout = url.take("op_timeout")?.unwrap_or(config.op_timeout);
        config.pool_size = url.take("pool_size")?.unwrap_or(config.pool_size);
        config.max_value_bytes =
            url.take_size("max_value_bytes")?.unwrap_or(config.max_value_bytes);
        config.big_value_bytes =
            url.take_size("big_value_bytes")?.unwrap_or(config.big_value_bytes);
        config.batch_above = url.take("batch_above")?.unwrap_or(config.batch_above);
        config.limits.take(url)?;
        config.check()?;
        Ok(builder)
    }

    /// Sets the server's name or address. Default `127.0.0.1`.
    #[must_use]
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.endpoint.host = host.into();
        self
    }

    /// Sets the server's port. Default 6379.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.endpoint.port = port;
        self
    }

    /// Connects to a Unix socket instead of a host.
    #[must_use]
    pub fn unix_socket(mut self, path: impl Into<PathBuf>) -> Self {
        self.endpoint.unix_socket = Some(path.into());
        self
    }

    /// Sets the number of the database. Default 0.
    #[must_use]
    pub fn db(mut self, db: u32) -> Self {
        self.endpoint.db = db;
        self
    }

    /// Sets the user name, for a server with access control lists.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.endpoint.user = Some(user.into());
        self
    }

    /// Sets the password. It is never printed.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.endpoint.password = Some(Secret::new(password));
        self
    }

    /// Turns on TLS, as `rediss:` does. Needs the feature `tls`.
    #[must_use]
    pub fn tls(mut self, tls: bool) -> Self {
        self.endpoint.tls = tls;
        self
    }

    /// Sets a PEM file with the certificates of the authorities to trust, instead of the system's.
    /// It is read at each connect.
    #[must_use]
    pub fn ca_cert(mut self, path: impl Into<PathBuf>) -> Self {
        self.endpoint.ca_cert = Some(path.into());
        self
    }

    /// Uses version 3 of the protocol (RESP3).
    #[must_use]
    pub fn resp3(mut self, resp3: bool) -> Self {
        self.endpoint.resp3 = resp3;
        self
    }

    /// Sets the prefix of every key. [`clear`](crate::AsyncCacheAdapter::clear) removes keys with
    /// this prefix only. Default `larder:`.
    ///
    /// With an empty prefix every key of the database would belong to this cache, so a `clear` of
    /// everything is [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported).
    #[must_use]
    pub fn prefix(mut self, prefix: impl AsRef<str>) -> Self {
        self.config.settings.scope = Scope::prefixed(prefix.as_ref());
        self
    }

    /// Sets the expiry that [`Expiry::Default`](crate::Expiry::Default) means. Default
    /// [`DEFAULT_TTL`](crate::DEFAULT_TTL).
    #[must_use]
    pub fn default_ttl(mut self, ttl: impl Into<Expiry>) -> Self {
        self.config.settings.default_ttl = self.config.settings.resolve(ttl.into());
        self
    }

    /// Sets how values are encoded. Default [`Codec::MessagePack`].
    #[must_use]
    pub fn codec(mut self, codec: Codec) -> Self {
        self.config.settings.codec = codec;
        self
    }

    /// Sets the deadline of a call, which covers waiting, connecting and the command. Default 250
    /// ms. `clear`, and batches of more than a thousand keys, run in steps, and each step has this
    /// deadline.
    #[must_use]
    pub fn op_timeout(mut self, op_timeout: Duration) -> Self {
        self.config.op_timeout = op_timeout;
        self
    }

    /// Sets how many lanes a runtime has. Each is one multiplexed connection. Default 1, 64 at
    /// most. One more is opened for large values and batches when they are used.
    #[must_use]
    pub fn pool_size(mut self, pool_size: usize) -> Self {
        self.config.pool_size = pool_size;
        self
    }

    /// Sets the size of the largest value in stored bytes, header included. Default 64 MiB, 512 MiB
    /// at most. A larger value is [`ErrorKind::TooLarge`](crate::ErrorKind::TooLarge) before it is
    /// sent, and the older value is removed.
    #[must_use]
    pub fn max_value_bytes(mut self, bytes: usize) -> Self {
        self.config.max_value_bytes = bytes;
        self
    }

    /// Sets from which size values are sent over a lane of their own, where small values do not
    /// wait for them. Default 256 KiB.
    #[must_use]
    pub fn big_value_bytes(mut self, bytes: usize) -> Self {
        self.config.big_value_bytes = bytes;
        self
    }

    /// Sets how many `get`s are in flight on a connection before others are sent in batches.
    /// Default 64. A caller never waits for a timer: at most two batches are in flight, and the
    /// next is sent as soon as one of them is answered. Other verbs never wait for a batch.
    #[must_use]
    pub fn batch_above(mut self, calls: usize) -> Self {
        self.config.batch_above = calls;
        self
    }

    /// Sets the most `get`s in a batch. Default 512; 1 turns batching off.
    #[must_use]
    pub fn max_batch(mut self, calls: usize) -> Self {
        self.config.limits.entries = calls;
        self
    }

    /// Sets the most bytes of keys in a batch. Default 1 MiB.
    #[must_use]
    pub fn max_batch_bytes(mut self, bytes: usize) -> Self {
        self.config.limits.bytes = bytes;
        self
    }

    /// Takes connections out of a pool of the program. The pool replaces all settings about the
    /// server, and is kept by [`reconnect`](crate::AsyncCacheAdapter::reconnect) and
    /// [`rebuild`](crate::AsyncCacheAdapter::rebuild).
    ///
    /// A connection is taken out for good; the pool makes another one when it needs it.
    #[must_use]
    pub fn pool(mut self, pool: deadpool_redis::Pool) -> Self {
        self.handed_in = Some(Source::Pool(pool));
        self
    }

    /// Connects with a client of the program, which may have settings that this builder does not
    /// have. The client replaces all settings about the server, and is kept by
    /// [`reconnect`](crate::AsyncCacheAdapter::reconnect) and
    /// [`rebuild`](crate::AsyncCacheAdapter::rebuild).
    #[must_use]
    pub fn client(mut self, client: redis::Client) -> Self {
        self.handed_in = Some(Source::Client(client));
        self
    }

    /// Builds the cache. Nothing is connected, no file is read, and no runtime is needed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for settings that contradict each other, or
    /// are out of range.
    pub fn build(self) -> Result<AsyncRedisCache> {
        self.config.check()?;
        let source = match self.handed_in {
            Some(source) => source,
            None => {
                self.endpoint.check()?;
                Source::Endpoint(self.endpoint)
            }
        };
        Ok(AsyncRedisCache::assemble(self.config, source))
    }
}

impl std::fmt::Debug for RedisBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let server =
            self.handed_in.as_ref().map_or_else(|| self.endpoint.to_string(), ToString::to_string);
        f.debug_struct("RedisBuilder")
            .field("server", &server)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// Reads the settings out of a table, such as one of TOML or JSON: the words are the parameters of
/// the adapter's URL, with the same syntax; and `host`,
/// `port`, `tls` and `unix_socket`. A word that is not known is an error
/// that lists the known ones.
///
/// ```
/// let table = r#"{ "host": "10.0.0.7", "db": 2, "password": "secret", "op_timeout": "100ms" }"#;
/// let builder = serde_json::from_str::<larder::RedisBuilder>(table)?;
/// # Ok::<(), serde_json::Error>(())
/// ```
impl<'de> Deserialize<'de> for RedisBuilder {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        read_remote_table(from, "redis://", Self::from_cache_url)
    }
}
