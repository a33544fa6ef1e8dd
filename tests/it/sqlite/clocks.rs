//! A wall clock that is set back.

use super::{another_process, fresh_path, get, on, set};
use crate::support::alone::alone;
use larder::testing::set_wall_clock_back;
use larder::{AsyncCacheAdapter, AsyncCacheWrapper, AsyncSqliteCache, CacheValue, Entry, Expiry};
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
fn nor_by_any_verb_that_wrote_it() {
    alone("sqlite::clocks::nor_by_any_verb_that_wrote_it", || {
        in_runtime(async {
            let path = fresh_path();
            for cache in [on(&path).build().unwrap(), AsyncSqliteCache::in_memory()] {
                set_wall_clock_back(Duration::ZERO);
                let value = || CacheValue::new(1);
                for key in ["replace", "touch", "update"] {
                    cache.set(key, value(), HOUR.into()).await.unwrap();
                }
                assert!(cache.add("add", value(), MINUTE.into()).await.unwrap());
                assert!(cache.replace("replace", value(), MINUTE.into()).await.unwrap());
                assert!(cache.touch("touch", MINUTE.into()).await.unwrap());
                assert!(cache.update_timeout("update", MINUTE.into()).await.unwrap().is_some());
                assert_eq!(cache.incr("incr", 1, MINUTE.into()).await.unwrap(), 1);
                let many = [Entry::new("many", value(), MINUTE.into())];
                assert!(cache.set_many(&many).await.unwrap().iter().all(Result::is_ok));
                let claim = cache.claim("claimed", None).await.unwrap().unwrap();
                let claimed = cache.set_claimed("claimed", value(), MINUTE.into(), &claim);
                assert!(claimed.await.unwrap());
                let keys = ["add", "replace", "touch", "update", "incr", "many", "claimed"];
                for back in [Duration::from_secs(10), 4 * HOUR, 5 * HOUR] {
                    set_wall_clock_back(back);
                    for key in keys {
                        let left = left(&cache, key).await;
                        assert!(left <= MINUTE && left > MINUTE / 2, "{key}: {left:?}, {back:?}");
                    }
                    assert!(cache.incr("incr", 1, HOUR.into()).await.unwrap() > 1);
                    assert!(cache.touch("touch", MINUTE.into()).await.unwrap());
                }
            }
        });
    });
}

/// A value that is kept beyond its logical end, in each store: the end is in the value itself.
#[cfg(all(feature = "memory", feature = "redis", feature = "memcached"))]
#[test]
fn no_entry_with_a_stale_window_stays_fresh_for_longer_than_its_ttl() {
    alone(
        "sqlite::clocks::no_entry_with_a_stale_window_stays_fresh_for_longer_than_its_ttl",
        || {
            use crate::support::{Memcached, Redis};
            in_runtime(async {
                let path = fresh_path();
                let (redis, memcached) = (Redis::start(), Memcached::start());
                let file = format!("sqlite:{}", path.display());
                let far = [&file, "sqlite::memory:", redis.url(), memcached.url()];
                let far = far.map(|url| format!("{url}?op_timeout=60s"));
                let near = far.iter().map(|url| format!("near+{url}"));
                let urls = near.chain(far.iter().cloned()).chain(["memory:".to_owned()]);
                for url in urls {
                    set_wall_clock_back(Duration::ZERO);
                    let cache = AsyncCacheWrapper::new(url).unwrap();
                    cache.ttl(MINUTE).stale_for(24 * HOUR).set("k", 1).await.unwrap();
                    for back in [Duration::from_secs(10), 4 * HOUR] {
                        set_wall_clock_back(back);
                        match cache.expiry("k").await.unwrap() {
                            Some(Expiry::After(left)) => assert!(left <= MINUTE, "{left:?}"),
                            other => panic!("{back:?}: {other:?}"),
                        }
                        assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(1));
                    }
                }
            });
        },
    );
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
