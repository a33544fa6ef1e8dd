//! The store in a file: SQLite through `sqlx`.
//!
//! `builder` configures, `adapter` has the verbs, `statements` the SQL. A call puts a `job` into a `lane`; the `engine` says who runs
//! it and on which connection; `connection` opens those, one database for each file in a process. `errors` sorts what goes wrong, `repair`
//! does what can be done about it, `maintenance` keeps the file in shape.

mod adapter;
mod batch;
mod builder;
mod connection;
mod engine;
mod errors;
mod fencing;
mod job;
mod lane;
mod maintenance;
mod pace;
mod repair;
mod statements;
mod time;

pub use builder::SqliteBuilder;

use crate::adapters::Settings;
use crate::error::{Error, Result};
use connection::source::Site;
use engine::Engine;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

const KIND: &str = "sqlite";

/// A cache in an SQLite file: it outlives the program, and several programs can share it.
///
/// The file is in WAL mode; one connection writes and a few read, so reads never wait for writes, also not for those of other processes.
/// Connections belong to no runtime: the same adapter may be used from any number of runtimes, one after another or at once.
///
/// **Expiry** is exact to the millisecond, by the clock on the wall. Expired rows are never served, and none lives longer than it was
/// told to because that clock is set back by seconds or more; they are swept in the background
/// every [`purge_every`](SqliteBuilder::purge_every) and by [`purge_expired`](AsyncSqliteCache::purge_expired).
///
/// **Size**: the file stays below [`max_bytes`](SqliteBuilder::max_bytes). At the bound the rows that expire soonest go, then the oldest of those that never do.
///
/// **A full disk** is made room on as in a full file: older entries go. Where that needs room itself the cache begins anew, smaller. While
/// another program keeps a read transaction open the log cannot be written back; when it has grown to eight times its usual length writes are
/// [`Unavailable`](crate::ErrorKind::Unavailable), with an error that says who reads.
///
/// **Deadlines**: a call ends within [`op_timeout`](SqliteBuilder::op_timeout), also when another process holds the write lock. A batch has as much for every 512
/// of its keys, and ends with the first part that has not been done in time; `clear` has as much for every few milliseconds
/// of its work, and answers when the keys are gone: their space is given back in the background. A write that has timed out may still be
/// applied a moment later, but never after a later write of this adapter.
///
/// **Cancel safety**: all futures may be dropped at any time. Whether a write then took effect is not known; an open transaction is never
/// left behind.
///
/// **Damage**: a file that was deleted, replaced or cut off beneath the adapter, or whose log was, is noticed within a tenth of a second
/// of use, one that was overwritten when a bad page is read; the cache begins anew, and a cache that was damaged is kept beside the new one
/// under the name `….corrupt`. What is not a cache of larder's (another program's database, a text, a folder), or is of a newer larder, is an
/// [`ErrorKind::Config`](crate::ErrorKind::Config) and left as it is.
///
/// **Several adapters** of one process may have the same file open, by whatever path: each has its own settings and connections, and
/// they share what is known of the file. `close` closes an adapter's own connections.
///
/// **Permissions**: a file that the adapter makes can be read and written by its owner only, and so can a folder; what is there already
/// stays as it is.
///
/// **The table**, for other programs: `larder_cache (key TEXT, expires_at INTEGER, value BLOB)`, `expires_at` in milliseconds since 1970,
/// `NULL` for never; a row from before 1970 has expired like any other, and holds the place of a value that is being computed. Under [`Codec::Json`](crate::Codec::Json) and [`Codec::Raw`](crate::Codec::Raw) the value is what its name says; counters are decimal text under every codec.
///
/// **After `fork`**, in the child, a cache whose file was open is [`Unavailable`](crate::ErrorKind::Unavailable) at once, and so is every other adapter
/// of that path: SQLite cannot be used there. A cache that was not in use yet, or was closed before the fork, works; one in memory starts empty.
///
/// **In memory** it is one database for all tasks and runtimes, as long as the adapter lives: `close` keeps it, and a `rebuild` starts empty.
///
/// ```
/// use larder::{AsyncCacheAdapter, AsyncSqliteCache, CacheValue, Expiry};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
/// let cache = AsyncSqliteCache::in_memory();
/// cache.set("hello", CacheValue::new("world"), Expiry::Default).await?;
/// assert_eq!(cache.get("hello").await?.unwrap().decode::<String>()?, "world");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct AsyncSqliteCache {
    engine: Arc<Engine>,
    settings: Settings,
    max_value_bytes: usize,
    builder: SqliteBuilder,
}

impl AsyncSqliteCache {
    /// The cache at its default path, `larder/<program>.sqlite3` in the user's cache folder: `$XDG_CACHE_HOME` or `~/.cache`,
    /// `~/Library/Caches` on macOS, `%LOCALAPPDATA%` on Windows.
    ///
    /// Nothing is opened until first use.
    ///
    /// ```
    /// # fn main() -> larder::Result<()> {
    /// let cache = larder::AsyncSqliteCache::new()?;
    /// # let _ = cache;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) where there is no such folder.
    pub fn new() -> Result<Self> {
        Self::builder().build()
    }

    /// The cache in the file at `path`, which is made with its folders on first use. A relative path is taken from where the program is now;
    /// `:memory:` is [`in_memory`](AsyncSqliteCache::in_memory), and `~/cache.db` is in the user's home folder.
    ///
    /// ```
    /// # fn main() -> larder::Result<()> {
    /// let cache = larder::AsyncSqliteCache::open("cache.db")?;
    /// # let _ = cache;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a path that is empty, not UTF-8, has a NUL byte in it, or names a folder.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder().path(path).build()
    }

    /// A cache in memory, gone with the adapter.
    ///
    /// ```
    /// let cache = larder::AsyncSqliteCache::in_memory();
    /// # let _ = cache;
    /// ```
    #[must_use]
    pub fn in_memory() -> Self {
        SqliteBuilder::new().in_memory().assemble(Site::Memory)
    }

    /// All settings.
    ///
    /// ```
    /// # fn main() -> larder::Result<()> {
    /// let cache = larder::AsyncSqliteCache::builder().path("cache.db").prefix("users:").build()?;
    /// # let _ = cache;
    /// # Ok(()) }
    /// ```
    pub fn builder() -> SqliteBuilder {
        SqliteBuilder::new()
    }

    /// The cache that a URL describes: `sqlite:cache.db`, `sqlite:///abs/path.db`, `sqlite::memory:`, or `sqlite:` for the default path. The path may be
    /// percent-encoded. Parameters have the names of the builder's setters.
    ///
    /// ```
    /// # fn main() -> larder::Result<()> {
    /// let cache = larder::AsyncSqliteCache::from_url("sqlite:cache.db?default_ttl=60&max_bytes=67108864")?;
    /// # let _ = cache;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for another scheme, an unknown parameter, and what the builder refuses.
    pub fn from_url(url: &str) -> Result<Self> {
        SqliteBuilder::from_url(url)?.build()
    }

    /// Removes all expired rows now, whatever their prefix; how many there were. The space is given back in the background.
    ///
    /// They are swept in the background anyway, and never served.
    ///
    /// # Errors
    ///
    /// As for any write: [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) and [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable).
    ///
    /// # Cancel safety
    ///
    /// Rows go in small batches; what has gone stays gone.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// let cache = larder::AsyncSqliteCache::in_memory();
    /// assert_eq!(cache.purge_expired().await?, 0);
    /// # Ok(()) }
    /// ```
    pub async fn purge_expired(&self) -> Result<u64> {
        self.engine.purge().await.map_err(|error| self.name(error, "purge_expired"))
    }

    fn name(&self, error: Error, op: &'static str) -> Error {
        error.with_backend(KIND).with_op(op)
    }
}

impl fmt::Debug for AsyncSqliteCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("AsyncSqliteCache");
        match self.engine.source.site() {
            Site::Memory => out.field("path", &":memory:"),
            Site::File(path) => out.field("path", path),
        };
        out.field("prefix", &self.settings.scope.prefix())
            .field("op_timeout", &self.engine.op_timeout())
            .finish_non_exhaustive()
    }
}

impl Drop for AsyncSqliteCache {
    fn drop(&mut self) {
        self.engine.stop_sweeping();
    }
}
