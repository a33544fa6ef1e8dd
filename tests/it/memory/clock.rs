//! Expiry by the monotonic clock, which a paused test moves.

use super::{put, read};
use crate::support::noise::{lateness, watch};
use larder::{AsyncCacheAdapter, AsyncMemoryCache, Expiry};
use std::time::{Duration, SystemTime};

#[tokio::test(start_paused = true)]
async fn a_paused_clock_moves_expiry() {
    let cache = AsyncMemoryCache::new();
    put(&cache, "k", 1, Duration::from_secs(10)).await.unwrap();
    tokio::time::advance(Duration::from_millis(9_999)).await;
    assert_eq!(read(&cache, "k").await, Some(1));
    assert_eq!(cache.expiry("k").await.unwrap(), Some(Expiry::After(Duration::from_millis(1))));
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(read::<i32>(&cache, "k").await, None);
}

#[tokio::test(start_paused = true)]
async fn the_clock_on_the_wall_decides_nothing() {
    // A point in time is turned into what is left of it when it is written: what the wall does
    // afterwards does not matter.
    let cache = AsyncMemoryCache::new();
    put(&cache, "k", 1, SystemTime::now() + Duration::from_secs(60)).await.unwrap();
    std::thread::sleep(Duration::from_millis(60));
    let Some(Expiry::After(left)) = cache.expiry("k").await.unwrap() else {
        panic!("it should be there")
    };
    assert!(
        left > Duration::from_millis(59_900),
        "{left:?}: the paused clock stands still, and so does the expiry"
    );
    tokio::time::advance(Duration::from_secs(61)).await;
    assert!(!cache.contains("k").await.unwrap());
    put(&cache, "past", 1, SystemTime::now() - Duration::from_secs(100 * 86_400)).await.unwrap();
    assert!(!cache.contains("past").await.unwrap());
}

#[tokio::test]
async fn real_time_is_kept_to_20_milliseconds() {
    watch();
    let cache = AsyncMemoryCache::new();
    for ttl in [1, 15, 150].map(Duration::from_millis) {
        let begun = std::time::Instant::now();
        put(&cache, "k", 1, ttl).await.unwrap();
        let written = std::time::Instant::now();
        let mut last_seen = begun;
        loop {
            let asked = std::time::Instant::now();
            if cache.contains("k").await.unwrap() {
                last_seen = asked;
            } else {
                assert!(
                    begun.elapsed() >= ttl,
                    "gone {:?} after a write with {ttl:?}",
                    begun.elapsed()
                );
                break;
            }
        }
        assert!(
            last_seen < written + ttl + Duration::from_millis(20) + lateness(),
            "{ttl:?} became {:?}",
            last_seen - written
        );
    }
}

#[tokio::test]
async fn each_write_starts_anew() {
    let cache = AsyncMemoryCache::new();
    put(&cache, "k", 1, Duration::from_secs(10)).await.unwrap();
    put(&cache, "k", 1, Expiry::Default).await.unwrap();
    assert!(
        matches!(cache.expiry("k").await.unwrap(), Some(Expiry::After(left)) if left > Duration::from_secs(290))
    );
    let never = AsyncMemoryCache::builder().default_ttl(Expiry::Never).build();
    put(&never, "k", 1, Expiry::Default).await.unwrap();
    assert_eq!(never.expiry("k").await.unwrap(), Some(Expiry::Never));
    let from_url = AsyncMemoryCache::from_url("memory:?default_ttl=7s").unwrap();
    put(&from_url, "k", 1, Expiry::Default).await.unwrap();
    assert!(
        matches!(from_url.expiry("k").await.unwrap(), Some(Expiry::After(left)) if left <= Duration::from_secs(7))
    );
}
