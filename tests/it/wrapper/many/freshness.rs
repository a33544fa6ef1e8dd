//! Batches over entries that are stale, due or to be replaced.

use super::{Asked, MS, PATIENCE, SECOND, becomes, closed, expired, poke, source_away, stale};
use crate::trials::{eventually, within};
use crate::wrapper::{Runs, faulty, fresh, plain_and_encoded};
use larder::testing::{Fault, Verb};
use larder::{AsyncCacheWrapper, ErrorKind, View};
use std::collections::HashMap;
use std::pin::pin;
use std::time::Duration;

#[tokio::test]
async fn stale_values_are_served_when_a_batch_fails_or_is_late() -> larder::Result<()> {
    for cache in plain_and_encoded() {
        let keeping = cache.stale_for(3_600 * SECOND);
        stale(&cache, ["a", "bb"]).await?;
        let runs = Runs::default();
        let fails = |_: Vec<String>| {
            runs.add();
            async { Err::<HashMap<String, usize>, _>("the source is away") }
        };
        for _ in 0..2 {
            let found = keeping.try_get_or_set_many_async(["a", "bb"], fails).await?;
            assert_eq!(found, [Some(100); 2]);
        }
        assert_eq!(runs.count(), 1, "a loader that failed is not called again at once");
        let missing = keeping.try_get_or_set_many_async(["a", "new"], fails).await.unwrap_err();
        assert_eq!(missing.key(), Some("new"));

        let cache = cache.namespace("late");
        let keeping = cache.stale_for(3_600 * SECOND);
        stale(&cache, ["a", "bb"]).await?;
        let (asked, open) = (Asked::default(), closed());
        let load = |missing| asked.gated(&open, missing);
        let at_once = keeping.soft_timeout(Duration::ZERO);
        assert_eq!(at_once.get_or_set_many_async(["a", "bb"], load).await?, [Some(100); 2]);
        assert_eq!(asked.calls(), [["a", "bb"]]);
        open.add_permits(1);
        becomes(&cache, "bb", 2).await;
        assert_eq!(cache.get("a").await?, Some(1usize));
    }
    Ok(())
}

#[tokio::test]
async fn a_key_that_the_loader_does_not_know_any_more_is_not_served_stale() -> larder::Result<()> {
    let cache = fresh();
    stale(&cache, ["a", "bb"]).await?;
    let keeping = cache.stale_for(3_600 * SECOND);
    let load = |_: Vec<String>| async { [("a".to_owned(), 1usize)] };
    assert_eq!(keeping.get_or_set_many_async(["a", "bb"], load).await?, [Some(1), None]);
    Ok(())
}

#[tokio::test]
async fn entries_that_are_due_are_served_and_refreshed_by_one_load() -> larder::Result<()> {
    let (cache, asked) = (fresh(), Asked::default());
    let view = cache.ttl(3_600 * SECOND).refresh_ahead(0.000_001);
    view.set_many([("a", 100usize), ("bb", 100)]).await?;
    tokio::time::sleep(20 * MS).await;
    let load = |missing| asked.lengths(missing);
    let found = view.get_or_set_many_async(["a", "bb"], load).await?;
    assert_eq!(found, [Some(100); 2]);
    becomes(&cache, "a", 1).await;
    becomes(&cache, "bb", 2).await;
    assert_eq!(asked.calls(), [["a", "bb"]]);
    Ok(())
}

#[tokio::test]
async fn a_forced_refresh_loads_all_keys_and_skip_none_stores_no_nothing() -> larder::Result<()> {
    let (cache, asked) = (fresh(), Asked::default());
    cache.set_many([("a", 100usize), ("bb", 100)]).await?;
    let load = |missing| asked.lengths(missing);
    let found = cache.force_refresh().get_or_set_many_async(["a", "bb"], load).await?;
    assert_eq!((found, cache.get("bb").await?), (vec![Some(1), Some(2)], Some(2usize)));
    let load = |keys: Vec<String>| async {
        keys.into_iter()
            .map(|key| {
                let some = key.parse::<u8>().ok();
                (key, some)
            })
            .collect::<Vec<_>>()
    };
    let found = cache.skip_none().get_or_set_many_async(["7", "x"], load).await?;
    assert_eq!(found, [Some(Some(7)), Some(None)]);
    assert!(cache.contains("7").await? && !cache.contains("x").await?);
    Ok(())
}

#[tokio::test]
async fn a_hard_timeout_ends_the_wait_and_the_load_goes_on() -> larder::Result<()> {
    let (cache, asked, open) = (fresh(), Asked::default(), closed());
    let load = |missing| asked.gated(&open, missing);
    let late = cache.hard_timeout(10 * MS).get_or_set_many_async(["a", "bb"], load).await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Timeout);
    open.add_permits(1);
    becomes(&cache, "bb", 2).await;
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.load_errors), (0, 1), "one event for the load");
    Ok(())
}

/// Two entries that every hit finds due for a refresh.
async fn due(cache: &AsyncCacheWrapper) -> larder::Result<View<'_>> {
    let view = cache.ttl(3_600 * SECOND).refresh_ahead(0.000_001);
    view.set_many([("a", 100usize), ("bb", 100)]).await?;
    tokio::time::sleep(20 * MS).await;
    Ok(view)
}

#[tokio::test]
async fn a_refresh_that_fails_is_not_tried_by_every_batch() -> larder::Result<()> {
    let (cache, runs) = (fresh(), Runs::default());
    let view = due(&cache).await?;
    let fails = |keys| {
        runs.add();
        source_away(keys)
    };
    assert_eq!(view.try_get_or_set_many_async(["a", "bb"], fails).await?, [Some(100); 2]);
    eventually("it has failed", || cache.stats().load_errors == 1).await;
    for _ in 0..3 {
        assert_eq!(view.try_get_or_set_many_async(["a", "bb"], fails).await?, [Some(100); 2]);
    }
    assert_eq!(runs.count(), 1);
    Ok(())
}

#[tokio::test]
async fn a_batch_waits_for_no_refresh_in_flight() -> larder::Result<()> {
    let (cache, asked, open) = (fresh(), Asked::default(), closed());
    let view = due(&cache).await?;
    let load = |missing| asked.gated(&open, missing);
    for _ in 0..2 {
        let call = view.get_or_set_many_async(["a", "bb"], load);
        let found = within(PATIENCE, "what is good is served at once", call).await?;
        assert_eq!(found, [Some(100); 2]);
    }
    assert_eq!(asked.calls(), [["a", "bb"]]);
    assert_eq!(cache.stats().joined, 0);
    open.add_permits(1);
    becomes(&cache, "bb", 2).await;
    Ok(())
}

#[tokio::test]
async fn a_value_that_arrives_during_the_read_needs_no_early_refresh() -> larder::Result<()> {
    let ((cache, adapter), asked) = (faulty(), Asked::default());
    cache.set("k", 1usize).await?;
    adapter.put_next(Verb::GetMany, 1, Fault::Delay(MS));
    let load = |missing| asked.lengths(missing);
    let always = cache.early_refresh(f64::INFINITY);
    let mut call = pin!(always.get_or_set_many_async(["k"], load));
    assert!(!poke(call.as_mut()), "it reads");
    cache.set("k", 2usize).await?;
    assert_eq!(call.await?, [Some(2)]);
    assert_eq!(asked.calls().len(), 0);
    Ok(())
}

#[tokio::test]
async fn a_batch_that_works_ends_the_cooldown_of_one_that_failed() -> larder::Result<()> {
    let (cache, asked) = (fresh(), Asked::default());
    let keys = ["a", "bb"];
    let keeping = cache.stale_for(3_600 * SECOND);
    stale(&cache, keys).await?;
    assert_eq!(keeping.try_get_or_set_many_async(keys, source_away).await?, [Some(100); 2]);
    let load = |missing| asked.lengths(missing);
    assert_eq!(keeping.get_or_set_many_async(keys, load).await?, [Some(100); 2], "the cooldown");
    let forced = keeping.ttl(MS).force_refresh();
    assert_eq!(forced.get_or_set_many_async(keys, load).await?, [Some(1), Some(2)]);
    expired(&cache, keys).await?;
    let newer = |missing: Vec<String>| async { missing.into_iter().map(|key| (key, 7usize)) };
    assert_eq!(keeping.get_or_set_many_async(keys, newer).await?, [Some(7); 2]);
    Ok(())
}
