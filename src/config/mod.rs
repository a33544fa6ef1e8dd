//! From a name to an adapter: aliases, class names, URLs and the environment, through one table.

mod environment;
#[cfg(any(feature = "redis", feature = "memcached"))]
mod resilience;

pub(crate) use environment::{from_environment, with_environment};

use crate::url::{CacheUrl, quote};
use crate::{AsyncCacheAdapter, Error, Result};
use std::any::Any;
use std::sync::Arc;

type Open = fn(&str) -> Result<Arc<dyn AsyncCacheAdapter>>;

/// A kind of adapter and everything it is called. The feature has the kind's name.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    aliases: &'static [&'static str],
    classes: &'static [&'static str],
    schemes: &'static [&'static str],
    /// `None` where the feature is off.
    open: Option<Open>,
}

macro_rules! open {
    ($feature:literal, $adapter:ident) => {{
        #[cfg(feature = $feature)]
        let open: Option<Open> = Some(|url| Ok(Arc::new(crate::$adapter::from_url(url)?)));
        #[cfg(not(feature = $feature))]
        let open: Option<Open> = None;
        open
    }};
}

/// [`open`](open!) for an adapter that may be away.
macro_rules! open_remote {
    ($feature:literal, $adapter:ident) => {{
        #[cfg(feature = $feature)]
        let open: Option<Open> =
            Some(|url| resilience::open(url, |url| Ok(crate::$adapter::from_url(url)?.remote())));
        #[cfg(not(feature = $feature))]
        let open: Option<Open> = None;
        open
    }};
}

static KINDS: [Kind; 5] = [
    Kind {
        name: "memory",
        aliases: &["memory", "mem", "ram"],
        classes: &["MemoryCache", "MemoryAdapter", "AsyncMemoryCache", "AsyncMemoryAdapter"],
        schemes: &["memory"],
        open: open!("memory", AsyncMemoryCache),
    },
    Kind {
        name: "redis",
        aliases: &["redis"],
        classes: &["RedisCache", "RedisAdapter", "AsyncRedisCache", "AsyncRedisAdapter"],
        schemes: &["redis", "rediss", "redis+unix", "unix", "valkey", "valkeys", "valkey+unix"],
        open: open_remote!("redis", AsyncRedisCache),
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
        open: open_remote!("memcached", AsyncMemcachedCache),
    },
    Kind {
        name: "sqlite",
        aliases: &["sqlite3", "sqlite", "sqlitedb"],
        classes: &["SqliteCache", "SqliteAdapter", "AsyncSqliteCache", "AsyncSqliteAdapter"],
        schemes: &["sqlite", "sqlite3"],
        open: open!("sqlite", AsyncSqliteCache),
    },
    Kind {
        name: "off",
        aliases: &["off", "none"],
        classes: &["NullCache", "NullAdapter", "AsyncNullCache", "AsyncNullAdapter"],
        schemes: &["off"],
        open: Some(|url| Ok(Arc::new(crate::AsyncNullCache::from_url(url)?))),
    },
];

/// What a cache can be given as its adapter: an alias, a class name or a URL, an adapter, or an `Arc` of one.
///
/// | kind | aliases (any case) | class names | URL |
/// |---|---|---|---|
/// | memory | `memory` `mem` `ram` | `MemoryCache` `MemoryAdapter` `AsyncMemoryCache` `AsyncMemoryAdapter` | `memory:` `memory:?max_entries=10000` |
/// | redis | `redis` | `RedisCache` … | `redis://` `rediss://` `redis+unix://` `valkey://` |
/// | memcached | `memcached` `memcache` `mcache` | `MemcachedCache` … | `memcached://host:port[,host:port…]` `memcached+unix:///path` |
/// | sqlite | `sqlite3` `sqlite` `sqlitedb` | `SqliteCache` … | `sqlite:cache.db` `sqlite:///abs/path.db` `sqlite::memory:` |
/// | off | `off` `none` | `NullCache` … | `off:`: nothing is kept |
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
    /// [`Config`](crate::ErrorKind::Config) for an unknown name, scheme or parameter, or a backend that is not compiled in;
    /// the message says what there is.
    fn into_adapter(self) -> Result<Arc<dyn AsyncCacheAdapter>>;
}

impl IntoAdapter for &str {
    fn into_adapter(self) -> Result<Arc<dyn AsyncCacheAdapter>> {
        open(self)
    }
}

impl IntoAdapter for String {
    fn into_adapter(self) -> Result<Arc<dyn AsyncCacheAdapter>> {
        open(&self)
    }
}

impl IntoAdapter for &String {
    fn into_adapter(self) -> Result<Arc<dyn AsyncCacheAdapter>> {
        open(self)
    }
}

impl<A: AsyncCacheAdapter> IntoAdapter for A {
    fn into_adapter(self) -> Result<Arc<dyn AsyncCacheAdapter>> {
        // An `Arc<dyn AsyncCacheAdapter>` is an adapter too; it stays the one it is instead of being wrapped once more.
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

/// The adapter that a name or URL stands for.
fn open(name: &str) -> Result<Arc<dyn AsyncCacheAdapter>> {
    let (kind, url) = if name.contains(':') {
        let url = CacheUrl::parse(name)?;
        let kind = KINDS.iter().find(|kind| kind.schemes.contains(&url.scheme()));
        (kind.ok_or_else(|| unknown("URL scheme", url.scheme(), |kind| kind.schemes))?, Some(name))
    } else {
        let named = |kind: &&Kind| {
            kind.aliases.iter().chain(kind.classes).any(|known| known.eq_ignore_ascii_case(name))
        };
        (
            KINDS
                .iter()
                .find(named)
                .ok_or_else(|| unknown("adapter", name, |kind| kind.aliases))?,
            None,
        )
    };
    let open = kind.open.ok_or_else(|| {
        let here: Vec<_> =
            KINDS.iter().filter(|kind| kind.open.is_some()).map(|kind| kind.name).collect();
        let here = if here.is_empty() { "none".to_owned() } else { here.join(", ") };
        Error::config(format!(
            "adapter `{name}` needs the feature `{name}`; available here: {here}",
            name = kind.name
        ))
    })?;
    open(&with_environment(kind, url)?)
}

fn unknown(what: &str, name: &str, names: fn(&Kind) -> &'static [&'static str]) -> Error {
    let there_are: Vec<_> = KINDS.iter().flat_map(names).copied().collect();
    Error::config(format!("unknown {what}{}; there are: {}", quote(name), there_are.join(", ")))
}
