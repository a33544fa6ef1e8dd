//! What batches emit and count.

use super::{Asked, SECOND, source_away, stale};
use crate::wrapper::events::{Log, emitted};
use crate::wrapper::fresh;
use larder::EventKind::{Hit, Load, LoadError, Miss, StaleHit};

#[tokio::test]
async fn each_missing_key_is_a_miss_and_each_load_is_one_event() -> larder::Result<()> {
    let (cache, asked) = (fresh(), Asked::default());
    let log = Log::of(&cache);
    let load = |missing| asked.lengths(missing);
    cache.get_or_set_many_async(["a", "bb"], load).await?;
    assert_eq!(log.kinds(), emitted(&[(Miss, "a"), (Miss, "bb"), (Load, "")]));
    cache.get_or_set_many_async(["a", "ccc"], load).await?;
    let of_one_key = [(Hit, "a"), (Miss, "ccc"), (Load, "ccc")];
    assert_eq!(log.kinds(), emitted(&of_one_key), "the load of one key has its name");
    cache.try_get_or_set_many_async(["x", "y"], source_away).await.unwrap_err();
    assert_eq!(log.kinds(), emitted(&[(Miss, "x"), (Miss, "y"), (LoadError, "")]));
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses, stats.loads, stats.load_errors), (1, 5, 2, 1));
    assert_eq!(stats.load_time.count, 3);
    Ok(())
}

#[tokio::test]
async fn keys_that_are_served_stale_are_no_misses() -> larder::Result<()> {
    let cache = fresh();
    stale(&cache, ["a", "bb"]).await?;
    let log = Log::of(&cache);
    let keeping = cache.stale_for(3_600 * SECOND);
    keeping.try_get_or_set_many_async(["a", "bb"], source_away).await?;
    assert_eq!(log.kinds(), emitted(&[(LoadError, ""), (StaleHit, "a"), (StaleHit, "bb")]));
    keeping.try_get_or_set_many_async(["a", "bb"], source_away).await?;
    assert_eq!(log.kinds(), emitted(&[(StaleHit, "a"), (StaleHit, "bb")]), "the cooldown");
    Ok(())
}
