//! A wall clock that is set back.

use super::{another_process, fresh_path, get, on, set};
use crate::support::alone::alone;
use larder::testing::set_wall_clock_back;
use larder::{AsyncCacheAdapter, AsyncSqliteCache, CacheValue, Expiry};
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3_600);
const MINUTE: Duration = Duration::from_secs(60);

async fn left(cache: &AsyncSqliteCache, key: &str) -> Duration {
    match cache.expiry(key).await.unwrap() {
        Some(Expiry::After(left)) => left,
        other => panic!("{key}: {other:?}"),
    }
}

fn in_runtime(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
}

async fn minute(cache: &AsyncSqliteCache, key: &str) {
    cache.set(key, CacheValue::new(1), MINUTE.into()).await.unwrap();
}

#[test]
fn no_entry_lives_longer_than_its_ttl_when_the_clock_is_set_back() {
    alone("sqlite::clocks::no_entry_lives_longer_than_its_ttl_when_the_clock_is_set_back", || {
        in_runtime(async {
            let path = fresh_path();
            for cache in [on(&path).build().unwrap(), AsyncSqliteCache::in_memory()] {
                for back in [Duration::from_secs(10), 4 * HOUR, 400 * HOUR] {
                    set_wall_clock_back(Duration::ZERO);
                    minute(&cache, "before").await;
                    set(&cache, "ever", "v").await.unwrap();
                    cache
                        .set("short", CacheValue::new(1), Duration::from_secs(5).into())
                        .await
                        .unwrap();
                    set_wall_clock_back(back);
                    assert!(left(&cache, "before").await <= MINUTE, "{back:?}");
                    assert!(
                        left(&cache, "before").await > MINUTE / 2,
                        "{back:?}: it is not thrown away"
                    );
                    assert!(cache.expiry("short").await.unwrap().is_none_or(
                        |left| matches!(left, Expiry::After(left) if left <= Duration::from_secs(5))
                    ));
                    minute(&cache, "after").await;
                    assert!(left(&cache, "after").await <= MINUTE);
                    assert_eq!(get(&cache, "ever").await.unwrap().as_deref(), Some("v"));
                    cache.clear("").await.unwrap();
                }
            }
        });
    });
}

#[test]
fn a_process_that_starts_after_the_clock_was_set_back_finds_no_longer_ttl() {
    alone(
        "sqlite::clocks::a_process_that_starts_after_the_clock_was_set_back_finds_no_longer_ttl",
        || {
            in_runtime(async {
                for reads_first in [true, false] {
                    let path = fresh_path();
                    let mut child = another_process("store_a_minute", &path);
                    assert!(child.status().unwrap().success());
                    set_wall_clock_back(4 * HOUR);
                    let cache = on(&path).build().unwrap();
                    if !reads_first {
                        minute(&cache, "after").await;
                        assert!(left(&cache, "after").await <= MINUTE);
                    }
                    assert!(left(&cache, "minute").await <= MINUTE);
                    assert!(left(&cache, "minute").await > MINUTE / 6, "it is not thrown away");
                    assert_eq!(get(&cache, "ever").await.unwrap().as_deref(), Some("v"));
                    cache.close().await.unwrap();
                    // One failure is enough.
                    let again = on(&path).build().unwrap();
                    assert!(left(&again, "minute").await > MINUTE / 6);
                    set_wall_clock_back(Duration::ZERO);
                }
            });
        },
    );
}
