//! Loads with tags: the generations are read before the loader runs, so a removal meanwhile wins.

use super::{HOUR, PATIENCE, get, on_each_store, two};
use crate::claims::Shared;
use crate::support::eventually;
use larder::{AsyncCacheWrapper, Loaded};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;

on_each_store!(
    every_loader_gives_the_tags,
    a_tag_removed_during_a_load_makes_its_value_dead_on_arrival,
    a_call_after_a_removal_here_does_not_follow_a_load_from_before,
    a_dead_entry_is_loaded_again_once_for_all_callers,
    the_value_of_another_process_is_no_answer_once_its_tag_is_removed,
    a_value_that_is_refreshed_in_the_background_gets_the_tags,
    a_batch_reads_its_tags_once_and_gives_them_to_all,
);

async fn every_loader_gives_the_tags(shared: Shared) {
    let [here, there] = two(&shared);
    let tagged = here.tags(["t"]);
    let ok = |value: u64| async move { Ok::<_, String>(value) };
    tagged.get_or_set("1", 1u64).await.unwrap();
    tagged.get_or_set_with("2", |_| 2u64).await.unwrap();
    tagged.try_get_or_set_with("3", |_| Ok::<_, String>(3u64)).await.unwrap();
    tagged.get_or_set_async("4", async { 4u64 }).await.unwrap();
    tagged.try_get_or_set_async("5", ok(5)).await.unwrap();
    tagged.get_or_load("6", || async { 6u64 }).await.unwrap();
    tagged.try_get_or_load("7", || ok(7)).await.unwrap();
    tagged.get_or_load_here("8", || async { 8u64 }).await.unwrap();
    tagged.try_get_or_load_here("9", || ok(9)).await.unwrap();
    tagged.get_or_set_loaded_with("10", |_| Loaded::new(10u64)).await.unwrap();
    tagged.get_or_set_loaded_async("11", async { Loaded::new(11u64).ttl(HOUR) }).await.unwrap();
    let pairs = |keys: Vec<String>| async { keys.into_iter().map(|key| (key, 12u64)) };
    tagged.get_or_set_many_async(["12", "13"], pairs).await.unwrap();
    here.view().force_refresh().tags(["t"]).get_or_set("14", 14u64).await.unwrap();
    let keys: Vec<String> = (1..=14).map(|number| number.to_string()).collect();
    let found = there.get_many::<u64, _>(&keys).await.unwrap();
    assert!(found.iter().all(Option::is_some), "{found:?}");
    there.remove_tags(["t"]).await.unwrap();
    let found = there.get_many::<u64, _>(&keys).await.unwrap();
    assert!(found.iter().all(Option::is_none), "{found:?}");
}

/// A loader that has begun, and ends when it is told to.
#[derive(Clone, Default)]
struct Gate {
    begun: Arc<Notify>,
    open: Arc<Notify>,
}

impl Gate {
    async fn load(self, value: u64) -> u64 {
        self.begun.notify_one();
        self.open.notified().await;
        value
    }

    async fn has_begun(&self) {
        let begun = tokio::time::timeout(PATIENCE, self.begun.notified());
        begun.await.expect("the loader does not run");
    }
}

async fn a_tag_removed_during_a_load_makes_its_value_dead_on_arrival(shared: Shared) {
    let [here, there] = two(&shared);
    for (way, remover) in [("async", &there), ("here", &there), ("many", &there), ("own", &here)] {
        let gate = Gate::default();
        let (cache, inner) = (here.tags(["t", "u"]), gate.clone());
        let load = tokio::spawn(async move {
            match way {
                "here" => cache.get_or_load_here(way, || inner.load(1)).await.unwrap(),
                "many" => {
                    let load = |keys: Vec<String>| {
                        let inner = inner.clone();
                        async move { vec![(keys[0].clone(), inner.load(1).await)] }
                    };
                    cache.get_or_set_many_async([way], load).await.unwrap()[0].unwrap()
                }
                _ => cache.get_or_set_async(way, inner.load(1)).await.unwrap(),
            }
        });
        gate.has_begun().await;
        remover.remove_tags(["t"]).await.unwrap();
        gate.open.notify_one();
        assert_eq!(load.await.unwrap(), 1, "its own caller began before");
        for cache in [&here, &there] {
            assert_eq!(get(cache, way).await, None, "{way}");
        }
    }
    // A closure runs inside its call, and the removal inside the closure.
    let (cache, blocking) = (here.tags(["t"]), there.blocking());
    let with = move |_: &str| {
        blocking.remove_tags(["t"]).unwrap();
        1u64
    };
    let loaded = tokio::task::spawn_blocking(move || cache.blocking().get_or_set_with("w", with));
    assert_eq!(loaded.await.unwrap().unwrap(), 1);
    assert_eq!(get(&here, "w").await, None);
}

async fn a_call_after_a_removal_here_does_not_follow_a_load_from_before(shared: Shared) {
    let [here, _] = two(&shared);
    let gate = Gate::default();
    let (cache, old) = (here.tags(["t"]), gate.clone());
    let first = tokio::spawn(async move { cache.get_or_set_async("k", old.load(1)).await });
    gate.has_begun().await;
    here.remove_tags(["t"]).await.unwrap();
    let second = here.tags(["t"]).get_or_set_async("k", async { 2u64 });
    let second = tokio::time::timeout(PATIENCE, second).await.expect("it waits for the old load");
    assert_eq!(second.unwrap(), 2);
    gate.open.notify_one();
    assert_eq!(first.await.unwrap().unwrap(), 1);
    assert_eq!(get(&here, "k").await, Some(2));
}

async fn a_dead_entry_is_loaded_again_once_for_all_callers(shared: Shared) {
    let [here, there] = two(&shared);
    here.tags(["t"]).get_or_set("k", 1u64).await.unwrap();
    there.remove_tags(["t"]).await.unwrap();
    let (runs, gate) = (Arc::new(AtomicU64::new(0)), Gate::default());
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let (cache, runs, gate) = (here.tags(["t"]), runs.clone(), gate.clone());
            tokio::spawn(async move {
                let load = || {
                    runs.fetch_add(1, Ordering::SeqCst);
                    gate.load(2)
                };
                cache.get_or_load("k", load).await.unwrap()
            })
        })
        .collect();
    gate.has_begun().await;
    eventually("the others wait", PATIENCE, || async { here.stats().joined >= 7 }).await;
    gate.open.notify_one();
    for caller in callers {
        assert_eq!(caller.await.unwrap(), 2);
    }
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    assert_eq!(get(&there, "k").await, Some(2));
}

/// A follower of a lease takes what the process with the lease has stored, unless it is dead.
async fn the_value_of_another_process_is_no_answer_once_its_tag_is_removed(shared: Shared) {
    let [here, there] = two(&shared).map(|cache| cache.with_lease(HOUR));
    let gate = Gate::default();
    let (cache, old) = (here.tags(["t"]), gate.clone());
    let first = tokio::spawn(async move { cache.get_or_set_async("k", old.load(1)).await });
    gate.has_begun().await;
    there.remove_tags(["t"]).await.unwrap();
    let cache: AsyncCacheWrapper = there.tags(["t"]).into_cache();
    let second = tokio::spawn(async move { cache.get_or_set_async("k", async { 2u64 }).await });
    // Whether it already waits for the lease makes no difference.
    tokio::task::yield_now().await;
    gate.open.notify_one();
    assert_eq!(first.await.unwrap().unwrap(), 1);
    let second = tokio::time::timeout(PATIENCE, second).await.expect("the lease is over");
    assert_eq!(second.unwrap().unwrap(), 2);
    assert_eq!(get(&here, "k").await, Some(2));
}

async fn a_value_that_is_refreshed_in_the_background_gets_the_tags(shared: Shared) {
    let [here, there] = two(&shared);
    here.ttl(HOUR).get_or_set("k", 1u64).await.unwrap();
    let refreshing = here.ttl(HOUR).refresh_ahead(0.000_000_1).tags(["t"]);
    eventually("it is refreshed", PATIENCE, || async {
        refreshing.get_or_set_async("k", async { 2u64 }).await.unwrap();
        get(&there, "k").await == Some(2)
    })
    .await;
    // The last refresh may begin after the first removal, and its value is good.
    eventually("it goes with its tag", PATIENCE, || async {
        there.remove_tags(["t"]).await.unwrap();
        get(&here, "k").await.is_none()
    })
    .await;
}

async fn a_batch_reads_its_tags_once_and_gives_them_to_all(shared: Shared) {
    let [here, there] = two(&shared);
    here.tags(["t"]).set("b", 0u64).await.unwrap();
    here.set("c", 3u64).await.unwrap();
    here.remove_tags(["t"]).await.unwrap();
    let load = |keys: Vec<String>| async move {
        keys.into_iter().map(|key| (key, 7u64)).collect::<Vec<_>>()
    };
    let found = there.tags(["t"]).get_or_set_many_async(["a", "b", "c"], load).await.unwrap();
    assert_eq!(found, [Some(7), Some(7), Some(3)]);
    assert_eq!(here.get_many(["a", "b"]).await.unwrap(), [Some(7u64), Some(7)]);
    here.remove_tags(["t"]).await.unwrap();
    assert_eq!(there.get_many(["a", "b", "c"]).await.unwrap(), [None, None, Some(3u64)]);
}
