//! Tests of sqlite, with real files and real processes.

// clippy allows `unwrap` in `#[test]` functions, but not in functions that they share.
#![allow(clippy::unwrap_used)]

mod bounds;
mod child;
#[cfg(feature = "test-util")]
mod clocks;
#[cfg(all(feature = "memory", feature = "testing"))]
mod conformance;
mod damage;
mod files;
mod forks;
mod full_disk;
mod keys;
mod neighbours;
mod no_room;
mod runtimes;
mod speed;
mod together;

use larder::{AsyncCacheAdapter, AsyncSqliteCache, CacheValue, Expiry, Result, SqliteBuilder};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tempfile::TempDir;

/// A new path in a folder that all tests of this process share.
pub(crate) fn fresh_path() -> PathBuf {
    crate::support::noise::watch();
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let folder = FOLDER.get_or_init(|| TempDir::with_prefix("larder-sqlite-").unwrap());
    folder.path().join(format!("{}.db", NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// The patience of tests, for a machine that runs all other tests at the same time.
const PATIENT: Duration = Duration::from_secs(60);

/// A builder for `path`, with long deadlines because other tests keep the disk busy. Tests of
/// deadlines set their own.
fn on(path: &Path) -> SqliteBuilder {
    AsyncSqliteCache::builder().path(path).op_timeout(PATIENT)
}

fn fresh() -> AsyncSqliteCache {
    on(&fresh_path()).build().unwrap()
}

async fn set(cache: &impl AsyncCacheAdapter, key: &str, value: &str) -> Result<()> {
    cache.set(key, CacheValue::new(value.to_owned()), Expiry::Never).await
}

async fn get(cache: &impl AsyncCacheAdapter, key: &str) -> Result<Option<String>> {
    cache.get(key).await?.map(|value| value.decode()).transpose()
}

/// A Python program with the standard library's `sqlite3`: a process without larder.
pub(crate) fn python(script: &str, arguments: &[&str]) -> Command {
    let mut python = Command::new("python3");
    python.arg("-c").arg(script).args(arguments);
    python
}

/// The output of a Python program.
pub(crate) fn python_says(script: &str, arguments: &[&str]) -> String {
    let done = python(script, arguments).output().expect("these tests need python3");
    assert!(done.status.success(), "python: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

/// This test binary again, as another process that does `role` (see `child`).
fn another_process(role: &str, path: &Path) -> Command {
    let mut process = Command::new(std::env::current_exe().unwrap());
    process
        .args(["--exact", "sqlite::child::entry", "--nocapture"])
        .env("LARDER_CHILD", role)
        .env("LARDER_CHILD_PATH", path);
    process.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    process
}

/// Kills its process when a test ends early.
pub(crate) struct Guarded(pub(crate) Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The long form of a test, if `LARDER_SOAK` is set.
fn soak<T>(short: T, long: T) -> T {
    if std::env::var_os("LARDER_SOAK").is_some() { long } else { short }
}

/// The number of larder's sqlite threads, and of open files, in this process.
#[cfg(target_os = "linux")]
fn sqlite_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks
        .filter(|task| {
            std::fs::read_to_string(task.as_ref().unwrap().path().join("comm"))
                .is_ok_and(|name| name.starts_with("larder-sqlite"))
        })
        .count()
}

/// Several handles on one adapter.
fn shared(cache: AsyncSqliteCache) -> Arc<AsyncSqliteCache> {
    Arc::new(cache)
}
