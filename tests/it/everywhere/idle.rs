//! Time to idle on stores that others write to: a hit renews what any process has stored.

use super::{PATIENCE, on_each_store};
use crate::claims::Shared;
use crate::support::eventually;
use larder::{AsyncCacheWrapper, Expiry};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

on_each_store!(
    a_hit_by_any_verb_renews_what_a_stranger_has_stored,
    a_hit_never_shortens_a_life_nor_outlives_the_ttl,
    what_was_written_to_idle_is_renewed_until_its_end,
    the_shortest_and_the_longest_time_to_idle_are_times,
);

async fn left(cache: &AsyncCacheWrapper, key: &str) -> Duration {
    match cache.expiry(key).await.unwrap() {
        Some(Expiry::After(left)) => left,
        other => panic!("{key}: {other:?}"),
    }
}

async fn is_renewed(cache: &AsyncCacheWrapper, key: &str) {
    eventually(key, PATIENCE, || async { left(cache, key).await > 2 * MINUTE }).await;
    assert!(left(cache, key).await <= HOUR);
}

async fn a_hit_by_any_verb_renews_what_a_stranger_has_stored(shared: Shared) {
    let (stranger, cache) = (shared.cache(), shared.cache());
    let keys = ["get", "many", "set", "async", "loads", "blocking"];
    stranger.ttl(MINUTE).set_many(keys.map(|key| (key, 1u64))).await.unwrap();
    let view = cache.idle(HOUR);
    assert_eq!(view.get("get").await.unwrap(), Some(1u64));
    assert_eq!(view.get_many(["many", "none"]).await.unwrap(), [Some(1u64), None]);
    assert_eq!(view.get_or_set("set", 2u64).await.unwrap(), 1);
    assert_eq!(view.get_or_set_async("async", async { 2u64 }).await.unwrap(), 1);
    let loads = |keys: Vec<String>| async { keys.into_iter().map(|key| (key, 2u64)) };
    assert_eq!(view.get_or_set_many_async(["loads"], loads).await.unwrap(), [Some(1)]);
    let blocking = cache.blocking();
    let read = move || blocking.idle(HOUR).get::<u64>("blocking").unwrap();
    assert_eq!(tokio::task::spawn_blocking(read).await.unwrap(), Some(1));
    for key in keys {
        is_renewed(&stranger, key).await;
    }
    assert!(!cache.contains("none").await.unwrap());
}

async fn a_hit_never_shortens_a_life_nor_outlives_the_ttl(shared: Shared) {
    let (stranger, cache) = (shared.cache(), shared.cache());
    stranger.ttl(HOUR).set("long", 1u64).await.unwrap();
    stranger.ttl(Expiry::Never).set("never", 1u64).await.unwrap();
    stranger.ttl(MINUTE).get_or_set("ends", 1u64).await.unwrap();
    stranger.ttl(MINUTE).set("last", 1u64).await.unwrap();
    for key in ["long", "never", "ends", "last"] {
        assert_eq!(cache.idle(10 * MINUTE).get(key).await.unwrap(), Some(1u64));
    }
    // The renewal that comes last is done, and so the others are most likely, too.
    eventually("last", PATIENCE, || async { left(&cache, "last").await > 2 * MINUTE }).await;
    assert!(left(&cache, "long").await > 50 * MINUTE);
    assert_eq!(cache.expiry("never").await.unwrap(), Some(Expiry::Never));
    assert!(left(&cache, "ends").await <= MINUTE + Duration::from_secs(1), "its end is recorded");
}

async fn what_was_written_to_idle_is_renewed_until_its_end(shared: Shared) {
    let (cache, other) = (shared.cache(), shared.cache());
    let view = cache.ttl(HOUR).idle(MINUTE);
    view.set("k", 1u64).await.unwrap();
    view.get_or_set("loaded", 1u64).await.unwrap();
    for key in ["k", "loaded"] {
        assert!(left(&other, key).await <= MINUTE + Duration::from_secs(1));
        // By a reader with more patience: no further than the end that the writer has given.
        assert_eq!(other.idle(10 * HOUR).get(key).await.unwrap(), Some(1u64));
        eventually(key, PATIENCE, || async { left(&cache, key).await > 10 * MINUTE }).await;
        assert!(left(&cache, key).await <= HOUR + Duration::from_secs(1));
    }
}

async fn the_shortest_and_the_longest_time_to_idle_are_times(shared: Shared) {
    let (cache, other) = (shared.cache(), shared.cache());
    let (day, years) = (24 * HOUR, 999 * 365 * 24 * HOUR);
    let brief = cache.idle(Duration::from_nanos(1));
    brief.set("brief", 1u64).await.unwrap();
    brief.get_or_set("loaded", 1u64).await.unwrap();
    other.ttl(HOUR).set("hour", 1u64).await.unwrap();
    assert_eq!(brief.get("hour").await.unwrap(), Some(1u64));
    for key in ["brief", "loaded"] {
        eventually(key, PATIENCE, || async { !other.contains(key).await.unwrap() }).await;
    }
    assert_eq!(brief.get_or_set_async("loaded", async { 2u64 }).await.unwrap(), 2);
    assert!(left(&other, "hour").await > 50 * MINUTE, "it is not shortened");

    let (long, ending) = (cache.idle(years), cache.ttl(HOUR).idle(years));
    long.set("long", 1u64).await.unwrap();
    long.ttl(Expiry::Never).set("never", 1u64).await.unwrap();
    ending.set("ends", 1u64).await.unwrap();
    other.ttl(MINUTE).set("stranger", 1u64).await.unwrap();
    for key in ["long", "never", "ends", "stranger"] {
        assert_eq!(long.get(key).await.unwrap(), Some(1u64), "{key}");
    }
    let far = async |key| match other.expiry(key).await.unwrap() {
        Some(Expiry::After(left)) => left > day,
        other => other == Some(Expiry::Never),
    };
    eventually("stranger", PATIENCE, async || far("stranger").await).await;
    assert!(far("long").await && far("never").await);
    assert!(left(&other, "ends").await <= HOUR + Duration::from_secs(1));
}
