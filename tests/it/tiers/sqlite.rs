//! A near level before an SQLite file, which a source vouches for: the log of changed keys.

use super::by_age::CHANGES;
use super::{PATIENCE, near};
use crate::sqlite::fresh_path;
#[cfg(feature = "test-util")]
use crate::support::alone::alone;
use crate::support::eventually;
use larder::layers::Tiered;
#[cfg(feature = "test-util")]
use larder::testing::set_wall_clock_back;
use larder::{AsyncCacheAdapter, AsyncCacheWrapper, AsyncMemoryCache, AsyncSqliteCache};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const BOUND: Duration = Duration::from_millis(100);

fn far(path: &Path) -> AsyncSqliteCache {
    AsyncSqliteCache::builder().path(path).op_timeout(PATIENCE).build().unwrap()
}

fn before(far: impl AsyncCacheAdapter) -> AsyncCacheWrapper {
    let tiered = Tiered::builder(far).near(AsyncMemoryCache::new()).near_bound(BOUND).build();
    AsyncCacheWrapper::new(tiered).unwrap()
}

/// Reads until the value has been near for three bounds in a row.
async fn stays_near(cache: &AsyncCacheWrapper, value: u64) {
    eventually("it stays near", PATIENCE, async || {
        let (begun, reads) = (Instant::now(), near(cache).far_reads);
        while begun.elapsed() < 3 * BOUND {
            assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(value));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        near(cache).far_reads == reads
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_nobody_changes_stays_near_past_the_bound() {
    let path = fresh_path();
    let cache = before(far(&path));
    cache.set("k", 1u64).await.unwrap();
    stays_near(&cache, 1).await;
}

/// The removal of an entry that has expired with the clock is logged by no trigger.
#[cfg(feature = "test-util")]
#[test]
fn what_is_removed_after_the_clock_was_set_forward_is_not_near_past_the_bound() {
    let name =
        "tiers::sqlite::what_is_removed_after_the_clock_was_set_forward_is_not_near_past_the_bound";
    alone(name, || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let path = fresh_path();
            set_wall_clock_back(Duration::from_secs(3_600));
            let (reader, plain) = (before(far(&path)), AsyncCacheWrapper::new(far(&path)).unwrap());
            plain.set("k", 1u64).await.unwrap();
            stays_near(&reader, 1).await;
            set_wall_clock_back(Duration::ZERO);
            assert!(!plain.remove("k").await.unwrap(), "it has expired");
            let returned = Instant::now();
            while returned.elapsed() < BOUND {
                reader.get::<u64>("k").await.unwrap();
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            assert_eq!(reader.get::<u64>("k").await.unwrap(), None);
        });
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_node_did_is_seen_within_the_bound() {
    let path = fresh_path();
    let (reader, writer) = (before(far(&path)), before(far(&path)));
    let plain = AsyncCacheWrapper::new(far(&path)).unwrap();
    for (name, change) in CHANGES {
        plain.set("k", 1u64).await.unwrap();
        tokio::time::sleep(BOUND).await;
        stays_near(&reader, 1).await;
        change(writer.clone()).await;
        let returned = Instant::now();
        let truth = plain.get::<u64>("k").await.unwrap();
        tokio::time::sleep_until((returned + BOUND).into()).await;
        assert_eq!(reader.get::<u64>("k").await.unwrap(), truth, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_program_and_another_file_are_seen_within_the_bound() {
    let path = fresh_path();
    let (cache, plain) = (before(far(&path)), AsyncCacheWrapper::new(far(&path)).unwrap());
    cache.set("k", 1u64).await.unwrap();
    stays_near(&cache, 1).await;
    let delete = "import sqlite3, sys\nsqlite3.connect(sys.argv[1], isolation_level=None)\
                  .execute('DELETE FROM larder_cache')";
    crate::sqlite::python_says(delete, &[path.to_str().unwrap()]);
    let returned = Instant::now();
    tokio::time::sleep_until((returned + BOUND).into()).await;
    assert_eq!(cache.get::<u64>("k").await.unwrap(), None);
    cache.set("k", 2u64).await.unwrap();
    stays_near(&cache, 2).await;
    std::fs::remove_file(&path).unwrap();
    // An adapter looks at its file ten times a second, while it is used.
    eventually("adapters have noticed", PATIENCE, async || {
        plain.get::<u64>("k").await.is_ok_and(|found| found.is_none())
    })
    .await;
    let noticed = Instant::now();
    tokio::time::sleep_until((noticed + BOUND).into()).await;
    assert_eq!(cache.get::<u64>("k").await.unwrap(), None);
    cache.set("k", 3u64).await.unwrap();
    stays_near(&cache, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_near_levels_before_one_store_see_each_others_writes() {
    let path = fresh_path();
    let adapter = far(&path);
    let shared: Arc<dyn AsyncCacheAdapter> = Arc::new(far(&path));
    for (one, other) in
        [(before(adapter.clone()), before(adapter)), (before(shared.clone()), before(shared))]
    {
        one.set("k", 1u64).await.unwrap();
        for (writer, reader, value) in [(&one, &other, 2u64), (&other, &one, 3)] {
            for cache in [&one, &other] {
                cache.get::<u64>("k").await.unwrap();
            }
            writer.set("k", value).await.unwrap();
            assert_eq!(writer.get::<u64>("k").await.unwrap(), Some(value));
            let returned = Instant::now();
            tokio::time::sleep_until((returned + BOUND).into()).await;
            assert_eq!(reader.get::<u64>("k").await.unwrap(), Some(value));
        }
        // The near level that came last is told.
        stays_near(&other, 3).await;
    }
}

/// A program has put something else in the place of the log, and left the triggers that fill it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_log_of_changes_fails_no_write() {
    for other in ["TABLE larder_changes (wrong TEXT NOT NULL)", "VIEW larder_changes AS SELECT 1"] {
        let path = fresh_path();
        let (cache, plain) = (before(far(&path)), AsyncCacheWrapper::new(far(&path)).unwrap());
        cache.set("k", 1u64).await.unwrap();
        stays_near(&cache, 1).await;
        let script = "import sqlite3, sys\n\
            db = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)\n\
            db.execute('DROP TABLE larder_changes')\n\
            db.execute('CREATE ' + sys.argv[2])";
        let path = path.display().to_string();
        let spoil = move || crate::sqlite::python_says(script, &[&path, other]);
        tokio::task::spawn_blocking(spoil).await.unwrap();
        for writer in [&plain, &cache] {
            for value in 2..5u64 {
                eventually(&format!("a write beside {other}"), PATIENCE, async || {
                    writer.set("k", value).await.is_ok()
                })
                .await;
                tokio::time::sleep(BOUND).await;
                assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(value), "{other}");
            }
        }
        plain.clear().await.unwrap();
        tokio::time::sleep(BOUND).await;
        assert_eq!(cache.get::<u64>("k").await.unwrap(), None);
    }
}
