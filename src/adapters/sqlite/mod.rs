//! A cache in a file: SQLite through `sqlx`.
//!
//! `builder` reads the configuration, `adapter` implements the operations, `multi_key` the reads of
//! several keys, and `removal` their removal. `reads`, `presence` and `statements` have the SQL,
//! `fencing` has claims and leases, and `transaction` what several statements need. A call puts a
//! `job` into a `lane`, where `batch` joins waiting jobs. The `engine` decides who runs a job and on
//! which connection; `connection` opens connections, one database per file in a process. `errors`
//! sorts failures, `repair` repairs what can be repaired, and `maintenance` is housekeeping in steps
//! sized by `pace`. `following` tells a near level what has changed, by the log of changed keys that
//! `changes` reads.

mod adapter;
mod batch;
mod builder;
mod changes;
mod connection;
mod engine;
mod errors;
mod fencing;
mod following;
mod job;
mod keys;
mod lane;
mod maintenance;
mod multi_claim;
mod multi_key;
mod pace;
mod presence;
mod reads;
mod removal;
mod repair;
mod statements;
mod time;
mod transaction;

pub use builder::SqliteBuilder;

use crate::adapters::Settings;
use crate::error::{Error, Result};
use connection::source::Site;
use engine::Engine;
use following::Following;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

const KIND: &str = "sqlite";

/// A cache in an SQLite file. It outlives the program, and several programs can share it.
///
/// The file is in WAL mode: one connection writes and a few read, so reads never wait for writes,
/// including those of other processes. Connections belong to no runtime: one adapter may be used
/// from several runtimes, in turn or at the same time.
///
/// **Expiry** is exact to the millisecond of the system clock. Expired rows are never served. If
/// the system clock is set back by seconds or more, entries are expired earlier by the same amount,
/// so that none lives longer than requested. Expired rows are swept in the background every
/// [`purge_every`](SqliteBuilder::purge_every), and by
/// [`purge_expired`](AsyncSqliteCache::purge_expired).
///
/// **Size**: the file stays below [`max_bytes`](SqliteBuilder::max_bytes). At the bound, the rows
/// that expire soonest are evicted, then the oldest of those that never expire.
///
/// **A full disk** is treated like a full file: older entries are evicted. If eviction itself needs
/// space that the disk does not have, the cache starts again with an empty, smaller file. While
/// another program keeps a read transaction open, the log cannot be written back; once it has grown
/// to eight times its usual length, writes are [`Unavailable`](crate::ErrorKind::Unavailable), with
/// an error that names the reader.
///
/// **Deadlines**: a call ends within [`op_timeout`](SqliteBuilder::op_timeout), even if another
/// process holds the write lock. A batch has this time for each 512 of its keys, and ends with the
/// first part that misses its deadline. `clear` has it for each step of a few milliseconds; it
/// returns when the keys are gone, and their space is given back in the background. A write that
/// has timed out may still be applied a moment later, but never after a later write of the same
/// adapter.
///
/// **Cancel safety**: every future may be dropped at any time. The write of a dropped future may or
/// may not take effect; a transaction is never left open.
///
/// **Damage**: if another program deletes, replaces or truncates the file or its log, the adapter
/// notices within a tenth of a second of use; if it overwrites the file, the adapter notices when
/// it reads a damaged page. The cache then starts again with an empty file, and a damaged cache is
/// kept beside the new one as `….corrupt`. A file that is not a larder cache (another program's
/// database, a text, a folder), or that a newer larder wrote, is an
/// [`ErrorKind::Config`](crate::ErrorKind::Config) and is not changed.
///
/// **Several adapters** of one process may have the same file open, by any path. Each has its own
/// settings and connections, and they share what is known about the file. `close` closes the
/// connections of its own adapter only.
///
/// **Permissions**: only the owner can read and write the files and folders that the adapter
/// creates. Existing files and folders keep their permissions.
///
/// **The table**, for other programs: `larder_cache (key TEXT, expires_at INTEGER, value BLOB)`,
/// with `expires_at` in milliseconds since 1970 and `NULL` for never. A row from before 1970 has
/// expired like any other, and marks a key whose value is being computed. Under
/// [`Codec::Json`](crate::Codec::Json) and [`Codec::Raw`](crate::Codec::Raw) the value is JSON or
/// the bytes as stored; counters are decimal text under every codec.
///
/// **The log of changes**, `larder_changes`, is made for a near level ([`layers::Tiered`]) in front
/// of the cache. Triggers fill it, so the changes of all programs are in it. They need nothing that
/// SQLite does not have, and cost a write some microseconds.
///
/// [`layers::Tiered`]: crate::layers::Tiered
///
/// **After `fork`**, in the child, a cache whose file was open is
/// [`Unavailable`](crate::ErrorKind::Unavailable) at once, and so is every other adapter of that
/// path, because SQLite cannot be used there. A cache that had not been used, or was closed before
/// the fork, works. One in memory starts empty.
///
/// **In memory** there is one database for all tasks and runtimes, for as long as the adapter
/// exists: `close` keeps it, and a `rebuild` starts empty.
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
    following: Following,
}

impl AsyncSqliteCache {
    /// Opens the cache at its default path, `larder/<program>.sqlite3` in the user's cache folder:
    /// `$XDG_CACHE_HOME` or `~/.cache`, `~/Library/Caches` on macOS, `%LOCALAPPDATA%` on Windows.
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
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if there is no such folder.
    pub fn new() -> Result<Self> {
        Self::builder().build()
    }

    /// Opens the cache in the file at `path`; the file and its folders are created on first use. A
    /// relative path is resolved now, against the program's working folder. `:memory:` is
    /// [`in_memory`](AsyncSqliteCache::in_memory), and `~/cache.db` is in the user's home folder.
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
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a path that is empty, is not UTF-8, has
    /// a NUL byte, or names a folder.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder().path(path).build()
    }

    /// Creates a cache in memory, which ends with the adapter.
    ///
    /// ```
    /// let cache = larder::AsyncSqliteCache::in_memory();
    /// # let _ = cache;
    /// ```
    #[must_use]
    pub fn in_memory() -> Self {
        SqliteBuilder::new().in_memory().assemble(Site::Memory)
    }

    /// Returns a builder for all settings.
    ///
    /// ```
    /// # fn main() -> larder::Result<()> {
    /// use larder::AsyncSqliteCache;
    ///
    /// let cache = AsyncSqliteCache::builder().path("cache.db").prefix("users:").build()?;
    /// # let _ = cache;
    /// # Ok(()) }
    /// ```
    pub fn builder() -> SqliteBuilder {
        SqliteBuilder::new()
    }

    /// Creates the cache that a URL describes: `sqlite:cache.db`, `sqlite:///abs/path.db`,
    /// `sqlite::memory:`, or `sqlite:` for the default path. The path may be percent-encoded.
    /// Parameters have the names of the builder's setters.
    ///
    /// ```
    /// # fn main() -> larder::Result<()> {
    /// let url = "sqlite:cache.db?default_ttl=60&max_bytes=67108864";
    /// let cache = larder::AsyncSqliteCache::from_url(url)?;
    /// # let _ = cache;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for another scheme, an unknown parameter,
    /// and settings that [`build`](SqliteBuilder::build) refuses.
    pub fn from_url(url: &str) -> Result<Self> {
        SqliteBuilder::from_url(url)?.build()
    }

    /// Removes all expired rows now, under every prefix, and returns their number. The space is
    /// given back in the background.
    ///
    /// Expired rows are swept in the background in any case, and are never served.
    ///
    /// # Errors
    ///
    /// As for any write: [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) and
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable).
    ///
    /// # Cancel safety
    ///
    /// Rows are removed in small batches. If the future is dropped, the batches that are done stay
    /// removed.
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
