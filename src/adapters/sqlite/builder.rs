//! The configuration of an [`AsyncSqliteCache`]: the builder, and the same settings in a URL.

use super::AsyncSqliteCache;
use super::connection::source::{Site, Source};
use super::engine::Engine;
use super::following::Following;
use crate::adapters::{Settings, read_table, read_url};
use crate::batching::Limits;
use crate::codec::Codec;
use crate::error::{Error, Result};
use crate::expiry::{Expiry, Lifetime};
use crate::key::Scope;
use crate::url;
use crate::url::CacheUrl;
use serde::{Deserialize, Deserializer};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// The largest value that SQLite can store, less room for a key.
const LARGEST_VALUE: usize = 900_000_000;

/// A smaller file could not hold its own tables and the reserve.
const SMALLEST_FILE: u64 = 1 << 20;

/// The most waiting calls, and bytes of values, that one statement joins by default.
const MAX_BATCH: usize = 128;
const MAX_BATCH_BYTES: usize = 1 << 20;

/// Longer deadlines are cut to this: a point in time that the clock cannot express would panic.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(365 * 86_400);

/// Configures an [`AsyncSqliteCache`].
///
/// ```
/// use larder::AsyncSqliteCache;
/// use std::time::Duration;
///
/// # fn main() -> larder::Result<()> {
/// let cache = AsyncSqliteCache::builder()
///     .path("cache.db")
///     .default_ttl(Duration::from_secs(60))
///     .max_bytes(64 << 20)
///     .build()?;
/// # let _ = cache;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct SqliteBuilder {
    site: Option<Site>,
    settings: Settings,
    op_timeout: Duration,
    pool_size: usize,
    max_bytes: u64,
    max_value_bytes: usize,
    purge_every: Duration,
    limits: Limits,
}

impl SqliteBuilder {
    pub(super) fn new() -> Self {
        Self {
            site: None,
            settings: Settings::default(),
            op_timeout: Duration::from_millis(500),
            pool_size: 2,
            max_bytes: 1 << 30,
            max_value_bytes: 16 << 20,
            purge_every: Duration::from_secs(300),
            limits: Limits { entries: MAX_BATCH, bytes: MAX_BATCH_BYTES },
        }
    }

    /// Reads the settings from a URL. Setters that are called afterwards override it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for another scheme, an unknown parameter, or
    /// a value that is out of range.
    ///
    /// ```
    /// let builder = larder::SqliteBuilder::from_url("sqlite::memory:?op_timeout=100ms")?;
    /// let cache = builder.prefix("shop:").build()?;
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn from_url(text: &str) -> Result<Self> {
        read_url(text, Self::from_cache_url)
    }

    /// Takes the parameters of this adapter out of a URL.
    pub(crate) fn from_cache_url(url: &mut CacheUrl) -> Result<Self> {
        if !matches!(url.scheme(), "sqlite" | "sqlite3") {
            return Err(Error::config(format!(
                "`{}:` is not a scheme of sqlite; use `sqlite:` or `sqlite3:`",
                url.scheme()
            )));
        }
        let mut builder = Self::new();
        let path = url::decode(url.rest())?;
        let path = path.strip_prefix("//").unwrap_or(&path);
        // `sqlite:///C:/cache.db`
        let path = if cfg!(windows) && path.get(2..3) == Some(":") {
            path.strip_prefix('/').unwrap_or(path)
        } else {
            path
        };
        if !path.is_empty() {
            builder = builder.path(path);
        }
        if let Some(path) = url.take_address::<String>("path")? {
            builder = builder.path(path);
        }
        builder.settings.take(url)?;
        builder.op_timeout = url.take("op_timeout")?.unwrap_or(builder.op_timeout);
        builder.pool_size = url.take("pool_size")?.unwrap_or(builder.pool_size);
        builder.max_bytes = url.take_size("max_bytes")?.unwrap_or(builder.max_bytes);
        builder.max_value_bytes =
            url.take_size("max_value_bytes")?.unwrap_or(builder.max_value_bytes);
        builder.purge_every = url.take("purge_every")?.unwrap_or(builder.purge_every);
        builder.limits.take(url)?;
        builder.check()?;
        if let Some(Site::File(path)) = &builder.site {
            checked(path)?;
        }
        Ok(builder)
    }

    /// The database file. `:memory:` is [`in_memory`](SqliteBuilder::in_memory), and `~/…` is in
    /// the user's home folder. Missing folders are created on first use.
    ///
    /// The default is `larder/<program>.sqlite3` in the user's cache folder.
    pub fn path(mut self, path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        self.site = Some(if path == Path::new(":memory:") {
            Site::Memory
        } else {
            Site::File(path.to_owned())
        });
        self
    }

    /// Keeps the database in memory instead of a file, for as long as the adapter exists.
    pub fn in_memory(mut self) -> Self {
        self.site = Some(Site::Memory);
        self
    }

    /// The prefix of every key, so that several caches can share a file. `clear` removes keys with
    /// this prefix only. Empty by default, as the table belongs to larder.
    pub fn prefix(mut self, prefix: impl AsRef<str>) -> Self {
        self.settings.scope = Scope::prefixed(prefix.as_ref());
        self
    }

    /// The expiry of entries that are stored with [`Expiry::Default`]. 300 s by default.
    pub fn default_ttl(mut self, ttl: impl Into<Expiry>) -> Self {
        self.settings.default_ttl = ttl.into().resolve(Lifetime::default());
        self
    }

    /// How values are encoded. [`Codec::MessagePack`] by default.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.settings.codec = codec;
        self
    }

    /// The deadline of every call, which covers waiting, opening and the statement. 500 ms by
    /// default.
    pub fn op_timeout(mut self, timeout: Duration) -> Self {
        self.op_timeout = timeout;
        self
    }

    /// How many connections read at the same time, each with its own thread. One more connection
    /// writes. 2 by default: while all of them are busy, waiting reads are joined into one
    /// statement, which is faster than more threads.
    pub fn pool_size(mut self, readers: usize) -> Self {
        self.pool_size = readers;
        self
    }

    /// How large the database file may become. At the bound, the rows that expire soonest are
    /// evicted, then the oldest of those that never expire. 1 GiB by default. The write-ahead log
    /// beside the file takes up to 16 MiB more, and less beside a small file; it grows to eight
    /// times that length while another connection keeps a read transaction open.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// How large a stored value may be. A larger one is [`TooLarge`](crate::ErrorKind::TooLarge).
    /// 16 MiB by default, and never more than a quarter of [`max_bytes`](SqliteBuilder::max_bytes).
    pub fn max_value_bytes(mut self, bytes: usize) -> Self {
        self.max_value_bytes = bytes;
        self
    }

    /// How often expired rows are swept while the database is open. 300 s by default.
    pub fn purge_every(mut self, interval: Duration) -> Self {
        self.purge_every = interval;
        self
    }

    /// How many waiting calls are joined into one statement at most. 1 turns batching off. 128 by
    /// default.
    pub fn max_batch(mut self, calls: usize) -> Self {
        self.limits.entries = calls;
        self
    }

    /// How many bytes of values one batch writes at most. A larger value is written by itself. 1
    /// MiB by default.
    pub fn max_batch_bytes(mut self, bytes: usize) -> Self {
        self.limits.bytes = bytes;
        self
    }

    /// Builds the adapter. Nothing is opened before the first use.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a setting that cannot work: no path and
    /// no default path, a path that is not UTF-8 or has a NUL byte, a deadline or an interval of
    /// zero, no readers or more than 64, a file bound under 1 MiB.
    pub fn build(self) -> Result<AsyncSqliteCache> {
        self.check()?;
        let site = match self.site.clone() {
            Some(Site::Memory) => Site::Memory,
            Some(Site::File(path)) => Site::File(checked(&path)?),
            None => Site::File(checked(&default_path()?)?),
        };
        Ok(self.assemble(site))
    }

    /// Rejects settings that are out of range.
    fn check(&self) -> Result<()> {
        let range =
            |holds: bool, what: &'static str| if holds { Ok(()) } else { Err(Error::config(what)) };
        range(!self.op_timeout.is_zero(), "`op_timeout` must be more than zero")?;
        range(!self.purge_every.is_zero(), "`purge_every` must be more than zero")?;
        range((1..=64).contains(&self.pool_size), "`pool_size` must be from 1 to 64")?;
        range(self.max_bytes >= SMALLEST_FILE, "`max_bytes` must be 1 MiB (1048576) or more")?;
        range(self.max_value_bytes > 0, "`max_value_bytes` must be more than zero")?;
        self.limits.check()
    }

    /// Builds the adapter from settings that have been checked.
    pub(super) fn assemble(self, site: Site) -> AsyncSqliteCache {
        let quarter = usize::try_from(self.max_bytes / 4).unwrap_or(usize::MAX);
        let max_value_bytes = self.max_value_bytes.min(quarter).min(LARGEST_VALUE);
        let op_timeout = self.op_timeout.min(LONGEST_TIMEOUT);
        let source = Source::new(site, self.max_bytes, busy_timeout(op_timeout));
        let engine = Engine::new(source, self.pool_size, self.limits, op_timeout, self.purge_every);
        AsyncSqliteCache {
            engine,
            settings: self.settings.clone(),
            max_value_bytes,
            builder: self,
            following: Following::default(),
        }
    }
}

/// How long SQLite itself waits for a lock. It is well below the deadline, because the connection's
/// thread can do nothing else meanwhile, and SQLite sleeps longer after each attempt.
fn busy_timeout(op_timeout: Duration) -> Duration {
    (op_timeout / 8).clamp(Duration::from_millis(1), Duration::from_millis(25))
}

/// The path as SQLite gets it: absolute, so that the cache keeps its place when the program changes
/// its working folder, and so that `file:x` is read as a file name and not as a URI.
fn checked(path: &Path) -> Result<PathBuf> {
    let unusable = |why: &'static str| Error::config(format!("the path of the database {why}"));
    let text = path.to_str().ok_or_else(|| unusable("must be UTF-8"))?;
    if text.contains('\0') {
        return Err(unusable("must not contain a NUL byte"));
    }
    let is_folder = text.ends_with(std::path::is_separator)
        || matches!(path.components().next_back(), Some(Component::CurDir | Component::ParentDir))
        || text.ends_with("/.")
        || text == "~";
    if is_folder {
        return Err(unusable("names a folder, not a file"));
    }
    let path = at_home(path)?;
    std::path::absolute(path).map_err(|cause| {
        unusable(
            "cannot be made \
                                                        absolute",
        )
        .with_source(cause)
    })
}

/// Expands `~/` to the user's home folder, as a shell does.
fn at_home(path: &Path) -> Result<PathBuf> {
    let mut parts = path.components();
    let (Some(Component::Normal(first)), false) =
        (parts.next(), parts.as_path().as_os_str().is_empty())
    else {
        return Ok(path.to_owned());
    };
    match first.to_str() {
        Some("~") => {
            let home = std::env::home_dir().filter(|home| home.is_absolute()).ok_or_else(|| {
                Error::config(
                    "the path of the database begins with `~`, and the home folder is not known",
                )
            })?;
            Ok(home.join(parts.as_path()))
        }
        Some(first) if first.starts_with('~') => Err(Error::config(
            "the path of the database begins with another user's home folder, which is not looked \
             up; give the whole path, or begin with `./`",
        )),
        _ => Ok(path.to_owned()),
    }
}

/// `larder/<program>.sqlite3` in the user's cache folder.
fn default_path() -> Result<PathBuf> {
    let program = std::env::current_exe()
        .ok()
        .and_then(|program| Some(program.file_stem()?.to_string_lossy().into_owned()));
    let file = format!("{}.sqlite3", program.unwrap_or_else(|| "cache".to_owned()));
    let folder = cache_folder().ok_or_else(|| {
        Error::config("there is no user cache folder on this system; give the database a path")
    })?;
    Ok(folder.join("larder").join(file))
}

/// The folder for files that the user's programs can recreate.
fn cache_folder() -> Option<PathBuf> {
    let folder = |name: &str| {
        std::env::var_os(name).map(PathBuf::from).filter(|folder| folder.is_absolute())
    };
    if cfg!(windows) {
        folder("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        folder("HOME").map(|home| home.join("Library/Caches"))
    } else {
        folder("XDG_CACHE_HOME").or_else(|| folder("HOME").map(|home| home.join(".cache")))
    }
}

/// Reads the settings out of a table, such as one of TOML or JSON: the words are the parameters of
/// the adapter's URL, with the same syntax; and `path`. A word that is not known is an error
/// that lists the known ones.
///
/// ```
/// let table = r#"{ "path": "cache.db", "max_bytes": "1GiB", "purge_every": "10m" }"#;
/// let builder = serde_json::from_str::<larder::SqliteBuilder>(table)?;
/// # Ok::<(), serde_json::Error>(())
/// ```
impl<'de> Deserialize<'de> for SqliteBuilder {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        read_table(from, "sqlite:", Self::from_cache_url)
    }
}
