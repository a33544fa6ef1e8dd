//! What tags cost in calls of the adapter, and that they cost nothing where there are none.

use larder::testing::{FaultyAdapter, Verb};
use larder::{AsyncCacheAdapter, AsyncCacheWrapper, AsyncMemoryCache};
use std::sync::Arc;

type Counting = Arc<FaultyAdapter<AsyncMemoryCache>>;

fn counting() -> (AsyncCacheWrapper, Counting) {
    let adapter = Arc::new(FaultyAdapter::new(AsyncMemoryCache::new()));
    let cache = AsyncCacheWrapper::new(adapter.clone() as Arc<dyn AsyncCacheAdapter>).unwrap();
    (cache, adapter)
}

#[tokio::test]
async fn entries_without_tags_cost_no_calls_more() {
    let (cache, adapter) = counting();
    let calls = async |what: &str, most: u64| {
        let made = adapter.all_calls();
        adapter.reset_calls();
        assert!(made <= most, "{what}: {made} calls");
    };
    cache.set("k", 1u64).await.unwrap();
    calls("set", 1).await;
    cache.get::<u64>("k").await.unwrap();
    calls("get", 1).await;
    cache.get_many::<u64, _>(["k", "none"]).await.unwrap();
    calls("get_many", 1).await;
    cache.get_or_set_async("k", async { 2u64 }).await.unwrap();
    calls("get_or_set", 1).await;
    cache.contains("k").await.unwrap();
    calls("contains", 1).await;
    cache.remove("k").await.unwrap();
    calls("remove", 1).await;
    cache.incr("n", 1).await.unwrap();
    calls("incr", 1).await;
    cache.get_or_set_async("loaded", async { 2u64 }).await.unwrap();
    // Read, claim, read again, store.
    calls("a load", 4).await;
}

#[tokio::test]
async fn a_tagged_read_is_one_call_more_for_any_number_of_tags_and_keys() {
    let (cache, adapter) = counting();
    cache.tags(["a", "b", "c"]).set_many([("k", 1u64), ("l", 2)]).await.unwrap();
    cache.tags(["a", "d"]).set("m", 3u64).await.unwrap();
    adapter.reset_calls();
    let found = cache.get_many::<u64, _>(["k", "l", "m"]).await.unwrap();
    assert_eq!(found, [Some(1), Some(2), Some(3)]);
    assert_eq!((adapter.calls(Verb::GetMany), adapter.all_calls()), (2, 2));
}

/// Also in a process that has met tags, and whether the entries have tags or not.
#[tokio::test]
async fn the_removal_of_many_keys_asks_about_all_of_them_at_once() {
    let (cache, adapter) = counting();
    let keys: Vec<String> = (0..500).map(|number| format!("k{number}")).collect();
    let entries = || keys.iter().map(|key| (key, 1u64));
    cache.tags(["a", "b"]).set("met", 1u64).await.unwrap();
    cache.set_many(entries()).await.unwrap();
    adapter.reset_calls();
    assert!(cache.remove_many(&keys).await.unwrap());
    assert_eq!((adapter.calls(Verb::RemoveMany), adapter.all_calls()), (1, 2), "without tags");

    let (dead, live) = keys.split_at(250);
    cache.tags(["a"]).set_many(dead.iter().map(|key| (key, 1u64))).await.unwrap();
    cache.tags(["b"]).set_many(live.iter().map(|key| (key, 1u64))).await.unwrap();
    cache.remove_tags(["a"]).await.unwrap();
    adapter.reset_calls();
    assert!(!cache.remove_many(&keys).await.unwrap(), "half of them are dead");
    assert_eq!((adapter.calls(Verb::RemoveMany), adapter.all_calls()), (1, 4), "with tags");
    cache.tags(["b"]).set_many(live.iter().map(|key| (key, 1u64))).await.unwrap();
    assert!(cache.remove_many(live).await.unwrap(), "all of them are live");
}

#[tokio::test]
async fn a_tagged_write_reads_its_records_once_and_prolongs_nothing_that_lives_long_enough() {
    let (cache, adapter) = counting();
    let tagged = cache.tags(["a", "b"]);
    tagged.set("k", 1u64).await.unwrap();
    assert_eq!((adapter.calls(Verb::Add), adapter.calls(Verb::Set)), (2, 1), "two records");
    adapter.reset_calls();
    tagged.set("k", 2u64).await.unwrap();
    assert_eq!((adapter.calls(Verb::GetMany), adapter.all_calls()), (1, 2));
    adapter.reset_calls();
    cache.remove_tags(["a", "b"]).await.unwrap();
    assert_eq!((adapter.calls(Verb::RemoveMany), adapter.all_calls()), (1, 1));
}
