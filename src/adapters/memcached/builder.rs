//! The configuration: the builder, and the same settings in a URL.

use super::AsyncMemcachedCache;
use super::connection::address::Address;
use crate::adapters::{Settings, read_remote_table, read_remote_url};
use crate::batching::Limits;
use crate::codec::Codec;
use crate::error::{Error, Result};
use crate::expiry::Expiry;
use crate::url::{CacheUrl, decode};
use serde::{Deserialize, Deserializer};
use std::time::Duration;

/// The server's own limit of 1 MiB for an item, less the item's key of up to 250 bytes and its
/// header.
const MAX_VALUE_BYTES: usize = (1 << 20) - 512;
/// Longer deadlines would overflow the clock.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(365 * 86_400);
/// The most connections of a runtime to a server.
const MAX_POOL_SIZE: usize = 64;
/// The most waiting calls, and bytes of values, in one batch by default.
const MAX_BATCH: usize = 128;
const MAX_BATCH_BYTES: usize = 256 << 10;

/// The configuration of an adapter, from which `rebuild` creates another one.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) servers: Vec<Address>,
    pub(super) settings: Settings,
    pub(super) op_timeout: Duration,
    pub(super) pool_size: usize,
    pub(super) max_value_bytes: usize,
    pub(super) limits: Limits,
}

impl Config {
    /// Rejects settings that are out of range.
    fn check(&self) -> Result<()> {
        for (setting, is_zero) in [
            ("op_timeout", self.op_timeout.is_zero()),
            ("max_value_bytes", self.max_value_bytes == 0),
        ] {
            if is_zero {
                return Err(Error::config(format!("`{setting}` must be more than zero")));
            }
        }
        if !(1..=MAX_POOL_SIZE).contains(&self.pool_size) {
            return Err(Error::config(format!("`pool_size` must be from 1 to {MAX_POOL_SIZE}")));
        }
        self.limits.check()
    }
}

/// Configures an [`AsyncMemcachedCache`]; created by [`AsyncMemcachedCache::builder`].
///
/// The parameters of a URL have the names of the setters.
///
/// ```
/// use larder::{AsyncMemcachedCache, Codec};
/// use std::time::Duration;
///
/// # fn main() -> larder::Result<()> {
/// let cache = AsyncMemcachedCache::builder()
///     .server("10.0.0.1:11211")
///     .server("10.0.0.2:11211")
///     .prefix("shop:")
///     .default_ttl(Duration::from_secs(60))
///     .codec(Codec::Json)
///     .op_timeout(Duration::from_millis(100))
///     .build()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct MemcachedBuilder {
    servers: Vec<String>,
    config: Config,
}

impl MemcachedBuilder {
    pub(super) fn new() -> Self {
        let config = Config {
            servers: Vec::new(),
            settings: Settings::with_prefix("larder:"),
            op_timeout: Duration::from_millis(250),
            pool_size: 2,
            max_value_bytes: MAX_VALUE_BYTES,
            limits: Limits { entries: MAX_BATCH, bytes: MAX_BATCH_BYTES },
        };
        Self { servers: Vec::new(), config }
    }

    /// Reads the settings from a URL. Setters that are called afterwards override it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for another scheme, an unknown parameter, or
    /// a value that is out of range.
    ///
    /// ```
    /// # fn main() -> larder::Result<()> {
    /// use larder::MemcachedBuilder;
    ///
    /// let builder = MemcachedBuilder::from_url("memcached://cache.local?op_timeout=100ms")?;
    /// let cache = builder.prefix("shop:").build()?;
    /// # Ok(()) }
    /// ```
    pub fn from_url(url: &str) -> Result<Self> {
        read_remote_url(url, Self::from_cache_url)
    }

    /// Takes the parameters of this adapter out of a URL.
    pub(crate) fn from_cache_url(url: &mut CacheUrl) -> Result<Self> {
        let mut builder = Self::new();
        let rest = url.rest().strip_prefix("//").ok_or_else(|| {
            Error::config("a memcached URL is `memcached://host:port[,host:port…]`")
        })?;
        match url.scheme() {
            "memcached" | "memcache" => {
                let hosts = decode(rest.strip_suffix('/').unwrap_or(rest))?;
                builder.servers.extend(hosts.split(',').map(str::to_owned));
            }
            "memcached+unix" => builder.servers.push(format!("unix:{}", decode(rest)?)),
            other => {
                return Err(Error::config(format!(
                    "`{other}:` is not a scheme of memcached; use memcached, memcache or \
                     memcached+unix"
                )));
            }
        }
        if let Some(servers) = url.take_address::<String>("server")? {
            builder.servers = servers.split(',').map(str::to_owned).collect();
        }
        let Config { settings, op_timeout, pool_size, max_value_bytes, limits, .. } =
            &mut builder.config;
        settings.take(url)?;
        *op_timeout = url.take("op_timeout")?.unwrap_or(*op_timeout);
        *pool_size = url.take("pool_size")?.unwrap_or(*pool_size);
        *max_value_bytes = url.take_size("max_value_bytes")?.unwrap_or(*max_value_bytes);
        limits.take(url)?;
        addresses(&builder.servers)?;
        builder.config.check()?;
        Ok(builder)
    }

    /// Adds a server: `host`, `host:port`, or `unix:/path` for a socket. An IPv6 address is in
    /// brackets: `[::1]:11211`. The default is `127.0.0.1:11211`.
    ///
    /// Every program that shares the servers must name them by the same text: libmemcached's
    /// `ketama_weighted` chooses the server of a key by these names.
    ///
    /// ```
    /// # fn main() -> larder::Result<()> {
    /// use larder::AsyncMemcachedCache;
    ///
    /// let cache = AsyncMemcachedCache::builder().server("unix:/run/memcached.sock").build()?;
    /// # Ok(()) }
    /// ```
    pub fn server(mut self, address: impl Into<String>) -> Self {
        self.servers.push(address.into());
        self
    }

    /// The prefix of every key, `larder:` by default. [`clear`](crate::AsyncCacheAdapter::clear)
    /// clears keys with this prefix only.
    ///
    /// ```
    /// # fn main() -> larder::Result<()> {
    /// let cache = larder::AsyncMemcachedCache::builder().prefix("shop:").build()?;
    /// # Ok(()) }
    /// ```
    pub fn prefix(mut self, prefix: impl AsRef<str>) -> Self {
        self.config.settings.scope = crate::key::Scope::prefixed(prefix.as_ref());
        self
    }

    /// The expiry of entries that are stored with [`Expiry::Default`](crate::Expiry::Default). 300
    /// s by default.
    ///
    /// ```
    /// # fn main() -> larder::Result<()> {
    /// use larder::AsyncMemcachedCache;
    /// use std::time::Duration;
    ///
    /// let minute = Duration::from_secs(60);
    /// let cache = AsyncMemcachedCache::builder().default_ttl(minute).build()?;
    /// # Ok(()) }
    /// ```
    pub fn default_ttl(mut self, default_ttl: impl Into<Expiry>) -> Self {
        self.config.settings.default_ttl = self.config.settings.resolve(default_ttl.into());
        self
    }

    /// How values are encoded. [`Codec::MessagePack`] by default.
    ///
    /// ```
    /// # fn main() -> larder::Result<()> {
    /// let cache = larder::AsyncMemcachedCache::builder().codec(larder::Codec::Raw).build()?;
    /// # Ok(()) }
    /// ```
    pub fn codec(mut self, codec: Codec) -> Self {
        self.config.settings.codec = codec;
        self
    }

    /// The deadline of every call, which covers waiting, connecting and the command. 250 ms by
    /// default; a year at most.
    ///
    /// ```
    /// # fn main() -> larder::Result<()> {
    /// use larder::AsyncMemcachedCache;
    /// use std::time::Duration;
    ///
    /// let short = Duration::from_millis(50);
    /// let cache = AsyncMemcachedCache::builder().op_timeout(short).build()?;
    /// # Ok(()) }
    /// ```
    pub fn op_timeout(mut self, op_timeout: Duration) -> Self {
        self.config.op_timeout = op_timeout;
        self
    }

    /// How many connections each runtime opens to each server at most. They are opened when they
    /// are needed. 2 by default, 64 at most.
    ///
    /// Waiting calls are sent in batches, so more connections speed up few programs. They keep
    /// small values from waiting behind large ones.
    ///
    /// ```
    /// # fn main() -> larder::Result<()> {
    /// let cache = larder::AsyncMemcachedCache::builder().pool_size(4).build()?;
    /// # Ok(()) }
    /// ```
    pub fn pool_size(mut self, pool_size: usize) -> Self {
        self.config.pool_size = pool_size;
        self
    }

    /// The largest value that is sent, in stored bytes: 1 MiB less 512 bytes by default, which is
    /// what a server accepts without further settings. Raise it together with the server's `-I`.
    /// Larger values are [`TooLarge`](crate::ErrorKind::TooLarge). Values of up to 16 MiB are read
    /// whatever this limit is, as other processes may have another.
    ///
    /// ```
    /// # fn main() -> larder::Result<()> {
    /// let cache = larder::AsyncMemcachedCache::builder().max_value_bytes(100_000).build()?;
    /// # Ok(()) }
    /// ```
    pub fn max_value_bytes(mut self, max_value_bytes: usize) -> Self {
        self.config.max_value_bytes = max_value_bytes;
        self
    }

    /// How many waiting calls are sent as one batch at most. 1 turns batching off. 128 by default.
    pub fn max_batch(mut self, calls: usize) -> Self {
        self.config.limits.entries = calls;
        self
    }

    /// How many bytes of values one batch writes at most. A larger value is sent by itself. 256 KiB
    /// by default.
    pub fn max_batch_bytes(mut self, bytes: usize) -> Self {
        self.config.limits.bytes = bytes;
        self
    }

    /// Builds the adapter. Nothing is opened before the first use.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for an address that is not a server's, and
    /// for a timeout, pool or value size that is out of range.
    ///
    /// ```
    /// # fn main() -> larder::Result<()> {
    /// let cache = larder::AsyncMemcachedCache::builder().build()?;
    /// # Ok(()) }
    /// ```
    pub fn build(self) -> Result<AsyncMemcachedCache> {
        let Self { servers, mut config } = self;
        config.servers = addresses(&servers)?;
        if config.servers.is_empty() {
            config.servers.push(Address::default());
        }
        config.check()?;
        config.op_timeout = config.op_timeout.min(LONGEST_TIMEOUT);
        Ok(AsyncMemcachedCache::from_config(config))
    }
}

/// The addresses of servers, each of which may be named once.
fn addresses(servers: &[String]) -> Result<Vec<Address>> {
    let all: Vec<_> = servers.iter().map(|server| Address::parse(server)).collect::<Result<_>>()?;
    for (at, server) in all.iter().enumerate() {
        if all[..at].iter().any(|other| other.is_same(server)) {
            return Err(Error::config(format!("the memcached server {server} is named twice")));
        }
    }
    Ok(all)
}

/// Reads the settings out of a table, such as one of TOML or JSON: the words are the parameters of
/// the adapter's URL, with the same syntax; and `server`,
/// a text or a list. A word that is not known is an error
/// that lists the known ones.
///
/// ```
/// let table = r#"{ "server": ["10.0.0.1", "10.0.0.2:11212"], "op_timeout": "100ms" }"#;
/// let builder = serde_json::from_str::<larder::MemcachedBuilder>(table)?;
/// # Ok::<(), serde_json::Error>(())
/// ```
impl<'de> Deserialize<'de> for MemcachedBuilder {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        read_remote_table(from, "memcached://127.0.0.1", Self::from_cache_url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn config(url: &str) -> Result<Config> {
        let builder = MemcachedBuilder::from_url(url)?;
        let servers =
            builder.servers.iter().map(|server| Address::parse(server)).collect::<Result<_>>()?;
        Ok(Config { servers, ..builder.config })
    }

    #[test]
    fn urls_say_what_the_builder_says() {
        let url = "Memcached://a:1,b/?prefix=p%3A&default_ttl=never&codec=raw&op_timeout=50ms\
                   &pool_size=2&max_value_bytes=9";
        let config = config(url).expect("a URL");
        let shown: Vec<String> = config.servers.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["a:1", "b:11211"]);
        assert_eq!(config.settings.scope.prefix(), "p:");
        assert_eq!(config.settings.default_ttl, crate::expiry::Lifetime::Never);
        assert_eq!(config.settings.codec, Codec::Raw);
        assert_eq!(config.op_timeout, Duration::from_millis(50));
        assert_eq!((config.pool_size, config.max_value_bytes), (2, 9));
    }

    #[test]
    fn sockets_have_a_scheme_of_their_own() {
        let config = config("memcached+unix:///tmp/m.sock?prefix=").expect("a URL");
        assert_eq!(config.servers, [Address::Unix("/tmp/m.sock".into())]);
        assert_eq!(config.settings.scope.prefix(), "");
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for url in [
            "memcached:",
            "memcached://",
            "memcached://a,",
            "memcached://a?nope=1",
            "memcached://a?pool_size=x",
            "memcached://a?pool_size=1&pool_size=2",
            "memcached://user:secret@a",
            "memcached://a/path",
            "redis://a",
            "memcached+unix://relative",
        ] {
            let error = config(url).expect_err(url);
            assert_eq!(error.kind(), ErrorKind::Config, "{url}");
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        }
    }

    #[test]
    fn what_is_out_of_range_is_no_setting() {
        let builder = MemcachedBuilder::new;
        for built in [
            builder().op_timeout(Duration::ZERO).build(),
            builder().pool_size(0).build(),
            builder().pool_size(65).build(),
            builder().max_value_bytes(0).build(),
            builder().server("a").server("a:11211").build(),
            builder().server("a").server("A").build(),
        ] {
            assert_eq!(built.map(drop).expect_err("refused").kind(), ErrorKind::Config);
        }
    }
}
