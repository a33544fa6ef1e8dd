//! From a name to an adapter: aliases, class names, URLs and the environment, through one table.

mod environment;
mod near;
#[cfg(any(feature = "redis", feature = "memcached"))]
mod resilience;
mod table;

pub(crate) use environment::from_environment;
pub use table::CacheConfig;

use crate::adapter::AsyncCacheAdapter;
use crate::adapters::refuse_options;
use crate::error::{Error, Result};
use crate::options::Options;
use crate::url::{CacheUrl, Words, quote};
use std::any::Any;
use std::net::Ipv6Addr;
use std::sync::Arc;

/// Builds an adapter, with its layers, from a URL, and takes its parameters out of the URL.
type Open = fn(&mut CacheUrl) -> Result<Arc<dyn AsyncCacheAdapter>>;

/// An adapter, and the options that its URL gives to the calls of the cache.
#[derive(Debug)]
pub struct Opened {
    pub(crate) adapter: Arc<dyn AsyncCacheAdapter>,
    pub(crate) options: Options,
}

impl From<Arc<dyn AsyncCacheAdapter>> for Opened {
    fn from(adapter: Arc<dyn AsyncCacheAdapter>) -> Self {
        Self { adapter, options: Options::default() }
    }
}

/// A kind of adapter, with its names. The feature has the name of the kind.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    aliases: &'static [&'static str],
    classes: &'static [&'static str],
    schemes: &'static [&'static str],
    /// `None` if the feature is off.
    open: Option<Open>,
}

macro_rules! where_on {
    ($feature:literal, $open:expr) => {{
        #[cfg(feature = $feature)]
        let open: Option<Open> = Some($open);
        #[cfg(not(feature = $feature))]
        let open: Option<Open> = None;
        open
    }};
}

impl Kind {
    fn is_called(&self, name: &str) -> bool {
        self.aliases.iter().chain(self.classes).any(|known| known.eq_ignore_ascii_case(name))
    }
}

static KINDS: [Kind; 5] = [
    Kind {
        name: "memory",
        aliases: &["memory", "mem", "ram"],
        classes: &["MemoryCache", "MemoryAdapter", "AsyncMemoryCache", "AsyncMemoryAdapter"],
        schemes: &["memory"],
        open: where_on!("memory", |url| {
            Ok(Arc::new(crate::adapters::memory::MemoryBuilder::from_cache_url(url)?.build()))
        }),
    },
    Kind {
        name: "redis",
        aliases: &["redis"],
        classes: &["RedisCache", "RedisAdapter", "AsyncRedisCache", "AsyncRedisAdapter"],
        schemes: &["redis", "rediss", "redis+unix", "unix", "valkey", "valkeys", "valkey+unix"],
        open: where_on!("redis", |url| {
            let adapter = crate::adapters::redis::RedisBuilder::from_cache_url(url)?.build()?;
            resilience::around(adapter.remote(), url)
        }),
    },
    Kind {
        name: "memcached",
        aliases: &["memcached", "memcache", "mcache"],
        classes: &[
            "MemcachedCache",
            "MemcachedAdapter",
            "AsyncMemcachedCache",
            "AsyncMemcachedAdapter",
        ],
        schemes: &["memcached", "memcache", "memcached+unix"],
        open: where_on!("memcached", |url| {
            let adapter =
                crate::adapters::memcached::MemcachedBuilder::from_cache_url(url)?.build()?;
            resilience::around(adapter.remote(), url)
        }),
    },
    Kind {
        name: "sqlite",
        aliases: &["sqlite3", "sqlite", "sqlitedb"],
        classes: &["SqliteCache", "SqliteAdapter", "AsyncSqliteCache", "AsyncSqliteAdapter"],
        schemes: &["sqlite", "sqlite3"],
        open: where_on!("sqlite", |url| {
            Ok(Arc::new(crate::adapters::sqlite::SqliteBuilder::from_cache_url(url)?.build()?))
        }),
    },
    Kind {
        name: "off",
        aliases: &["off", "none"],
        classes: &["NullCache", "NullAdapter", "AsyncNullCache", "AsyncNullAdapter"],
        schemes: &["off"],
        open: Some(|url| Ok(Arc::new(crate::adapters::off::AsyncNullCache::from_cache_url(url)?))),
    },
];

/// The values that a cache accepts as its adapter: an alias, a class name, a URL, an adapter, or an
/// `Arc` of an adapter.
///
/// | kind | aliases (any case) | class names | URL |
/// |---|---|---|---|
/// | memory | `memory` `mem` `ram` | `MemoryCache` `MemoryAdapter` `AsyncMemoryCache` `AsyncMemoryAdapter` | `memory:` `memory://` `memory:?max_entries=10000` |
/// | redis | `redis` | `RedisCache` … | `redis://` `rediss://` `redis+unix://` `valkey://` |
/// | memcached | `memcached` `memcache` `mcache` | `MemcachedCache` … | `memcached://host:port[,host:port…]` `memcached+unix:///path` |
/// | sqlite | `sqlite3` `sqlite` `sqlitedb` | `SqliteCache` … | `sqlite:cache.db` `sqlite:///abs/path.db` `sqlite::memory:` |
/// | off | `off` `none` | `NullCache` … | `off:`: nothing is kept |
///
/// With `near+` before any of them but memory, the cache has a near level:
/// [`layers::Tiered`](crate::layers::Tiered), with the parameters `near_entries`, `near_bound` and
/// `near_ttl`.
///
/// ```
/// use larder::IntoAdapter;
///
/// assert_eq!("RAM".into_adapter()?.backend(), "memory");
/// let error = "oracle".into_adapter().unwrap_err();
/// assert!(error.to_string().contains("there are: memory"));
/// # Ok::<(), larder::Error>(())
/// ```
pub trait IntoAdapter {
    /// The adapter. Does no I/O.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) for an unknown name, scheme or parameter, or a backend
    /// that is not compiled in; the message lists what is available.
    fn into_adapter(self) -> Result<Arc<dyn AsyncCacheAdapter>>;

    /// The adapter, and the options that a URL gives to the cache.
    #[doc(hidden)]
    fn into_opened(self) -> Result<Opened>
    where
        Self: Sized,
    {
        self.into_adapter().map(Opened::from)
    }
}

macro_rules! by_name {
    ($($name:ty),*) => {$(
        impl IntoAdapter for $name {
            fn into_adapter(self) -> Result<Arc<dyn AsyncCacheAdapter>> {
                adapter_alone(self.as_ref())
            }

            fn into_opened(self) -> Result<Opened> {
                open(self.as_ref())
            }
        }
    )*};
}

by_name!(&str, String, &String);

impl<A: AsyncCacheAdapter> IntoAdapter for A {
    fn into_adapter(self) -> Result<Arc<dyn AsyncCacheAdapter>> {
        // An `Arc<dyn AsyncCacheAdapter>` is an adapter as well. It is used directly instead of
        // inside a second `Arc`.
        let mut given = Some(self);
        let shared = (&mut given as &mut dyn Any)
            .downcast_mut::<Option<Arc<dyn AsyncCacheAdapter>>>()
            .and_then(Option::take);
        match (shared, given) {
            (Some(shared), _) => Ok(shared),
            (None, Some(adapter)) => Ok(Arc::new(adapter)),
            (None, None) => Err(Error::config("no adapter was given")),
        }
    }
}

/// The adapter and options of a name or URL.
fn open(name: &str) -> Result<Opened> {
    read(name, |adapter, url| Ok(Opened { adapter, options: Options::take(url)? }))
}

/// The adapter of a name or URL, for a caller without a cache: options are refused.
fn adapter_alone(name: &str) -> Result<Arc<dyn AsyncCacheAdapter>> {
    read(name, |adapter, url| refuse_options(url).map(|()| adapter))
}

/// The adapter and options of a name or URL, with the words of a table.
fn open_table(name: &str, words: Words) -> Result<Opened> {
    read_with(name, Some(words), |adapter, url| {
        Ok(Opened { adapter, options: Options::take(url)? })
    })
}

/// Refuses options where there is no cache that would use them.
fn refuse_options_of(opened: &Opened) -> Result<()> {
    if opened.options == Options::default() {
        return Ok(());
    }
    Err(Error::config(
        "the table has options of a cache: pass it to the cache itself, and not for an adapter",
    ))
}

/// Reads a name or URL. The adapter takes its parameters first, then `rest` takes others. A
/// parameter that is left over is an error.
fn read<R>(
    name: &str,
    rest: impl FnOnce(Arc<dyn AsyncCacheAdapter>, &mut CacheUrl) -> Result<R>,
) -> Result<R> {
    read_with(name, None, rest)
}

/// [`read`] with the words of a table beside the name.
fn read_with<R>(
    name: &str,
    words: Option<Words>,
    rest: impl FnOnce(Arc<dyn AsyncCacheAdapter>, &mut CacheUrl) -> Result<R>,
) -> Result<R> {
    let (is_tiered, name) = near::split(name.trim())?;
    let (kind, given) = if name.contains(':') {
        let url = CacheUrl::parse(name)?;
        let kind = KINDS.iter().find(|kind| kind.schemes.contains(&url.scheme()));
        (kind.ok_or_else(|| unknown_scheme(name, url.scheme()))?, Some(url))
    } else {
        let kind = KINDS.iter().find(|kind| kind.is_called(name));
        (kind.ok_or_else(|| unknown("adapter", name, |kind| kind.aliases))?, None)
    };
    let open = kind.open.ok_or_else(|| not_compiled_in(kind))?;
    let is_url = given.is_some();
    let mut url = match given {
        Some(url) => url,
        None => environment::url_of(kind)?,
    };
    if let Some(words) = words {
        url = url.with_table(words, !is_url);
    }
    environment::fill_in(&mut url)?;
    let mut adapter = open(&mut url)?;
    if is_tiered {
        adapter = near::around(adapter, kind.name, &mut url)?;
    } else {
        near::refuse(&url)?;
    }
    let read = rest(adapter, &mut url)?;
    url.finish()?;
    Ok(read)
}

fn not_compiled_in(kind: &Kind) -> Error {
    let here: Vec<_> =
        KINDS.iter().filter(|kind| kind.open.is_some()).map(|kind| kind.name).collect();
    let here = if here.is_empty() { "none".to_owned() } else { here.join(", ") };
    let name = kind.name;
    Error::config(format!("adapter `{name}` needs the feature `{name}`; available here: {here}"))
}

fn unknown(what: &str, name: &str, names: fn(&Kind) -> &'static [&'static str]) -> Error {
    let there_are: Vec<_> = KINDS.iter().flat_map(names).copied().collect();
    Error::config(format!("unknown {what}{}; there are: {}", quote(name), there_are.join(", ")))
}

/// The error for an unknown scheme. The address of a server without a scheme looks like a URL whose
/// scheme is the host.
fn unknown_scheme(name: &str, scheme: &str) -> Error {
    match address(name) {
        Some(server) => Error::config(format!(
            "`{server}` has no scheme; it is `redis://{server}` for redis, and \
             `memcached://{server}` for memcached"
        )),
        None => unknown("URL scheme", scheme, |kind| kind.schemes),
    }
}

/// The host and port at the beginning of the text; `None` if the text may contain a password.
fn address(text: &str) -> Option<&str> {
    let server = text.split(['/', '?']).next()?;
    let (host, port) = server.rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    let is_ip = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .is_some_and(|host| host.parse::<Ipv6Addr>().is_ok());
    let is_name = !host.is_empty()
        && host.len() <= 255
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    (is_ip || is_name).then_some(server)
}
