//! The settings of a redis cache, in the words that its URL and its builder share.

use super::AsyncRedisCache;
use super::connection::endpoint::Endpoint;
use super::connection::source::Source;
use crate::adapters::{Settings, read_remote_url};
use crate::batching::Limits;
use crate::codec::Codec;
use crate::error::{Error, Result};
use crate::expiry::Expiry;
use crate::key::Scope;
use crate::secret::Secret;
use crate::url::CacheUrl;
use std::path::PathBuf;
use std::time::Duration;

const PREFIX: &str = "larder:";
const OP_TIMEOUT: Duration = Duration::from_millis(250);
/// Measured with 1, 16 and 256 tasks on two cores, 1 lane carries as much as 2 and up to twice as
/// much as 4: what is sent together is written and read together. More are for machines with many
/// cores.
const POOL_SIZE: usize = 1;
const MAX_POOL_SIZE: usize = 64;
const MAX_VALUE_BYTES: usize = 64 << 20;
/// More is refused by redis itself, which then closes the connection.
const LARGEST_VALUE_BYTES: usize = 512 << 20;
const BIG_VALUE_BYTES: usize = 256 << 10;
/// Measured: below, calls by themselves are faster; above, batches.
const BATCH_ABOVE: usize = 16;
const MAX_BATCH: usize = 512;
const MAX_BATCH_BYTES: usize = 1 << 20;

/// What is the same in every runtime.
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
    /// Reads a URL; setters called afterwards win over it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a scheme or a parameter that redis does
    /// not have. The URL is not repeated.
    ///
    /// ```
    /// use larder::RedisBuilder;
    ///
    /// let builder = RedisBuilder::from_url("redis://:secret@127.0.0.1:6379/2?op_timeout=100ms")?;
    /// let cache = builder.prefix("shop:").build()?;
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn from_url(url: &str) -> Result<Self> {
        read_remote_url(url, Self::from_cache_url)
    }

    /// Takes what is redis's out of a URL.
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
        Ok(builder)
    }

    /// The server's name or address; `127.0.0.1` unless set.
    #[must_use]
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.endpoint.host = host.into();
        self
    }

    /// The server's port; 6379 unless set.
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

    /// The number of the database; 0 unless set.
    #[must_use]
    pub fn db(mut self, db: u32) -> Self {
        self.endpoint.db = db;
        self
    }

    /// The user name, for a server with access control lists.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.endpoint.user = Some(user.into());
        self
    }

    /// The password. It is never printed.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.endpoint.password = Some(Secret::new(password));
        self
    }

    /// Encrypts, as `rediss:` does. Needs the feature `tls`.
    #[must_use]
    pub fn tls(mut self, tls: bool) -> Self {
        self.endpoint.tls = tls;
        self
    }

    /// A file with the certificates, in PEM form, of the authorities to trust instead of the
    /// system's. It is read at each connect.
    #[must_use]
    pub fn ca_cert(mut self, path: impl Into<PathBuf>) -> Self {
        self.endpoint.ca_cert = Some(path.into());
        self
    }

    /// Speaks version 3 of the protocol.
    #[must_use]
    pub fn resp3(mut self, resp3: bool) -> Self {
        self.endpoint.resp3 = resp3;
        self
    }

    /// Stands before every key, so that [`clear`](crate::AsyncCacheAdapter::clear) knows its own;
    /// `larder:` unless set.
    ///
    /// With an empty prefix every key of the database would be this cache's own, so `clear` of
    /// everything is then [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported).
    #[must_use]
    pub fn prefix(mut self, prefix: impl AsRef<str>) -> Self {
        self.config.settings.scope = Scope::prefixed(prefix.as_ref());
        self
    }

    /// What [`Expiry::Default`](crate::Expiry::Default) stands for;
    /// [`DEFAULT_TTL`](crate::DEFAULT_TTL) unless set.
    #[must_use]
    pub fn default_ttl(mut self, ttl: impl Into<Expiry>) -> Self {
        self.config.settings.default_ttl = self.config.settings.resolve(ttl.into());
        self
    }

    /// How values become bytes.
    #[must_use]
    pub fn codec(mut self, codec: Codec) -> Self {
        self.config.settings.codec = codec;
        self
    }

    /// The deadline of a call, around waiting, connecting and the command; 250 ms unless set.
    /// `clear` and batches of more than a thousand keys go in steps, and each step has it.
    #[must_use]
    pub fn op_timeout(mut self, op_timeout: Duration) -> Self {
        self.config.op_timeout = op_timeout;
        self
    }

    /// How many lanes, each one multiplexed connection, a runtime has; 1 unless set, 64 at most.
    /// One more is opened for big values and batches when there are any.
    #[must_use]
    pub fn pool_size(mut self, pool_size: usize) -> Self {
        self.config.pool_size = pool_size;
        self
    }

    /// The largest value, as it is stored, header included; 64 MiB unless set, 512 MiB at most.
    /// What is larger is [`ErrorKind::TooLarge`](crate::ErrorKind::TooLarge) before it is sent, and
    /// the older value is removed.
    #[must_use]
    pub fn max_value_bytes(mut self, bytes: usize) -> Self {
        self.config.max_value_bytes = bytes;
        self
    }

    /// Values larger than this go over a lane of their own, where small ones do not wait for them;
    /// 256 KiB unless set.
    #[must_use]
    pub fn big_value_bytes(mut self, bytes: usize) -> Self {
        self.config.big_value_bytes = bytes;
        self
    }

    /// How many calls are in flight on a connection before others are sent in batches; 16 unless
    /// set. A caller never waits for a timer: two batches are in flight at most, and the next is
    /// sent as soon as one of them is back.
    #[must_use]
    pub fn batch_above(mut self, calls: usize) -> Self {
        self.config.batch_above = calls;
        self
    }

    /// How many calls a batch has at most; 512 unless set, and 1 is no batches.
    #[must_use]
    pub fn max_batch(mut self, calls: usize) -> Self {
        self.config.limits.entries = calls;
        self
    }

    /// How many bytes of keys and values a batch has at most; 1 MiB unless set. What is larger is
    /// sent alone.
    #[must_use]
    pub fn max_batch_bytes(mut self, bytes: usize) -> Self {
        self.config.limits.bytes = bytes;
        self
    }

    /// Takes connections out of a pool that the program has. It stands in for everything said about
    /// the server, and is kept over [`reconnect`](crate::AsyncCacheAdapter::reconnect) and
    /// [`rebuild`](crate::AsyncCacheAdapter::rebuild).
    ///
    /// A connection is taken for good: the pool makes itself another one when it needs it.
    #[must_use]
    pub fn pool(mut self, pool: deadpool_redis::Pool) -> Self {
        self.handed_in = Some(Source::Pool(pool));
        self
    }

    /// Connects with a client that the program has, which may know more ways than the builder does.
    /// It stands in for everything said about the server, and is kept over
    /// [`reconnect`](crate::AsyncCacheAdapter::reconnect) and
    /// [`rebuild`](crate::AsyncCacheAdapter::rebuild).
    #[must_use]
    pub fn client(mut self, client: redis::Client) -> Self {
        self.handed_in = Some(Source::Client(client));
        self
    }

    /// The cache. Nothing is connected, no file is read, and no runtime is needed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for settings that do not go together, or are
    /// out of range.
    pub fn build(self) -> Result<AsyncRedisCache> {
        let Config { op_timeout, pool_size, max_value_bytes, .. } = self.config;
        if op_timeout.is_zero() {
            return Err(Error::config("`op_timeout` must not be zero"));
        }
        if !(1..=MAX_POOL_SIZE).contains(&pool_size) {
            return Err(Error::config(format!("`pool_size` is between 1 and {MAX_POOL_SIZE}")));
        }
        if !(1..=LARGEST_VALUE_BYTES).contains(&max_value_bytes) {
            return Err(Error::config(format!(
                "`max_value_bytes` is between 1 and {LARGEST_VALUE_BYTES}, redis's own limit"
            )));
        }
        self.config.limits.check()?;
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
