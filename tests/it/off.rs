//! A cache that is turned off.

#![allow(clippy::unwrap_used, reason = "tests")]

use larder::{AsyncCacheWrapper, AsyncNullCache, ErrorKind, Expiry};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[tokio::test]
async fn every_verb_finds_nothing_and_fails_at_nothing() -> larder::Result<()> {
    for cache in [AsyncCacheWrapper::new("off")?, AsyncCacheWrapper::new(AsyncNullCache::new())?] {
        assert_eq!(cache.adapter()?.backend(), "off");
        cache.set("k", 1u8).await?;
        cache.ttl(Expiry::Never).set_many([("k", 1u8), ("l", 2)]).await?;
        assert_eq!(cache.get::<u8>("k").await?, None);
        assert_eq!(cache.get_or("k", 9u8).await?, 9);
        assert!(cache.get_or_fail::<u8>("k").await.unwrap_err().is_not_found());
        assert_eq!(cache.get_many::<u8, _>(["k", "l"]).await?, [None, None]);
        assert!(!cache.contains("k").await?);
        assert_eq!(cache.expiry("k").await?, None);
        for _ in 0..2 {
            assert!(cache.add("lock", 1u8).await?, "nobody holds it");
            assert_eq!(cache.incr("n", 3).await?, 3);
            assert_eq!(cache.decr("n", 3).await?, -3);
        }
        assert!(!cache.replace("k", 2u8).await?);
        assert!(!cache.remove("k").await?);
        assert!(!cache.remove(["k", "l"]).await?);
        assert!(cache.remove([""; 0]).await?);
        assert_eq!(cache.take::<u8>("k").await?, None);
        assert!(!cache.touch("k", Expiry::Never).await?);
        assert!(cache.update_timeout::<u8>("k", Expiry::Never).await.unwrap_err().is_not_found());
        cache.namespace("n").clear().await?;
        cache.clear().await?;
        cache.ping().await?;
        cache.reconnect().await?;
        cache.reset_adapter().await?;
        assert_eq!(cache.get::<u8>("").await.unwrap_err().kind(), ErrorKind::InvalidKey);
        assert_eq!(
            cache.set_many([("k", 1u8), ("", 1)]).await.unwrap_err().kind(),
            ErrorKind::InvalidKey
        );
        assert_eq!(cache.blocking().get::<u8>("k")?, None);
    }
    Ok(())
}

#[tokio::test]
async fn fallbacks_run_each_time() -> larder::Result<()> {
    let cache = AsyncCacheWrapper::new("NONE")?;
    let runs = Arc::new(AtomicUsize::new(0));
    for round in 1..=3 {
        let counted = runs.clone();
        let value = cache
            .get_or_set_async("k", async move { counted.fetch_add(1, Ordering::SeqCst) + 1 })
            .await?;
        assert_eq!(value, round);
        assert_eq!(cache.get_or_set("l", round).await?, round);
        assert_eq!(cache.get_or_set_with("m", |_| round).await?, round);
    }
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses, stats.loads), (0, 9, 9));
    assert_eq!(stats.hit_ratio(), 0.0);
    Ok(())
}

/// So that `LARDER_URL=off` beside other settings is no error.
#[test]
fn its_url_takes_what_all_take() {
    for url in ["off:", "off:?default_ttl=60", "off:?prefix=p&codec=json"] {
        assert_eq!(AsyncCacheWrapper::new(url).unwrap().adapter().unwrap().backend(), "off");
    }
    for url in ["off:here", "off:?max_entries=1"] {
        assert_eq!(AsyncCacheWrapper::new(url).unwrap_err().kind(), ErrorKind::Config);
    }
}
