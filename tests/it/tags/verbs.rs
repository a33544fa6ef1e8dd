//! Every verb that writes gives tags, and a dead entry is missing for every verb.

use super::{HOUR, MINUTE, get, on_each_store, two};
use crate::claims::Shared;
use larder::{AsyncCacheWrapper, ErrorKind, Expiry};
use std::time::Duration;

on_each_store!(
    every_verb_that_stores_gives_the_tags,
    the_blocking_face_gives_and_removes_tags,
    futures_of_writes_are_kept_and_joined,
    options_and_tags_go_together_in_any_order,
    a_dead_entry_is_missing_for_every_verb_that_reads,
    a_dead_entry_is_missing_for_every_verb_that_writes,
    a_dead_entry_is_missing_also_where_it_is_stale,
    a_counter_begins_anew_over_a_dead_entry,
    a_tagged_number_is_not_counted_on,
    an_entry_keeps_its_tags_when_its_expiry_changes,
);

async fn futures_of_writes_are_kept_and_joined(shared: Shared) {
    let [here, there] = two(&shared);
    let key = "b".to_owned();
    let (set, loaded, many) = tokio::join!(
        here.tags(["t"]).set("a", 1u64),
        here.tags(["t"]).ttl(HOUR).get_or_load_here(&key, || async { key.len() as u64 }),
        futures_util::future::join_all((0..3u64).map(|n| here.tags(["t"]).add(n.to_string(), n))),
    );
    set.unwrap();
    assert_eq!(loaded.unwrap(), 1);
    assert!(many.into_iter().all(|added| added.unwrap()));
    there.remove_tags(["t"]).await.unwrap();
    let left = there.get_many::<u64, _>(["a", "b", "0", "1", "2"]).await.unwrap();
    assert_eq!(left, [None; 5]);
}

/// Removes the tag, and checks that the key is gone.
async fn goes_with(tag: &str, key: &str, cache: &AsyncCacheWrapper) {
    assert!(cache.contains(key).await.unwrap(), "{key} was stored");
    cache.remove_tags([tag]).await.unwrap();
    assert!(!cache.contains(key).await.unwrap(), "{key} stays");
}

async fn every_verb_that_stores_gives_the_tags(shared: Shared) {
    let [here, there] = two(&shared);
    let tagged = here.tags(["t", "u"]);
    tagged.set("set", 1u64).await.unwrap();
    goes_with("u", "set", &there).await;
    assert!(tagged.add("add", 1u64).await.unwrap());
    goes_with("t", "add", &there).await;
    here.set("replace", 1u64).await.unwrap();
    assert!(tagged.replace("replace", 2u64).await.unwrap());
    goes_with("t", "replace", &there).await;
    tagged.set_many([("many", 1u64), ("more", 2)]).await.unwrap();
    assert_eq!(there.get_many(["more", "many"]).await.unwrap(), [Some(2u64), Some(1)]);
    goes_with("t", "many", &there).await;
    assert_eq!(there.get_many::<u64, _>(["more", "many"]).await.unwrap(), [None, None]);
    tagged.set_each([("each", 1u64, HOUR.into()), ("ever", 2, Expiry::Never)]).await.unwrap();
    goes_with("t", "ever", &there).await;
    assert!(!there.contains("each").await.unwrap());
}

async fn the_blocking_face_gives_and_removes_tags(shared: Shared) {
    let [here, there] = two(&shared).map(|cache| cache.blocking());
    let work = move || {
        let tagged = here.tags(["t"]).ttl(HOUR).jitter(0.1);
        tagged.set("k", 1u64).unwrap();
        assert_eq!(tagged.get_or_set_async("load", async { 2u64 }).unwrap(), 2);
        assert_eq!(here.view().tags(["t"]).get_or_set_with("with", |_| 3u64).unwrap(), 3);
        let found = there.get_many::<u64, _>(["k", "load", "with"]).unwrap();
        assert_eq!(found, [Some(1), Some(2), Some(3)]);
        there.remove_tags(["t"]).unwrap();
        let found = here.get_many::<u64, _>(["k", "load", "with"]).unwrap();
        assert_eq!(found, [None, None, None]);
    };
    tokio::task::spawn_blocking(work).await.unwrap();
}

async fn options_and_tags_go_together_in_any_order(shared: Shared) {
    let [here, there] = two(&shared);
    let keys = ["first", "last", "kept", "owned"];
    here.tags(["t"]).ttl(HOUR).stale_for(HOUR).set("first", 1u64).await.unwrap();
    here.ttl(HOUR).lease(MINUTE).tags(["t"]).get_or_set("last", 2u64).await.unwrap();
    let kept = here.view().stale_for(HOUR).tags(["t"]).ttl(HOUR);
    kept.get_or_set_async("kept", async { 3u64 }).await.unwrap();
    kept.into_cache().codec(larder::Codec::MessagePack).set("owned", 4u64).await.unwrap();
    for key in keys {
        let left = there.expiry(key).await.unwrap();
        assert!(
            matches!(left, Some(Expiry::After(left)) if left > HOUR / 2 && left <= HOUR),
            "{key}: {left:?}"
        );
    }
    there.remove_tags(["t"]).await.unwrap();
    for key in keys {
        assert_eq!(get(&here, key).await, None, "{key}");
    }
}

/// Stores an entry, and removes its tag.
async fn dead(cache: &AsyncCacheWrapper, key: &str) {
    cache.ttl(HOUR).tags(["t"]).set(key, 1u64).await.unwrap();
    assert_eq!(get(cache, key).await, Some(1));
    cache.remove_tags(["t"]).await.unwrap();
}

async fn a_dead_entry_is_missing_for_every_verb_that_reads(shared: Shared) {
    let caches = two(&shared);
    dead(&caches[0], "k").await;
    caches[0].set("live", 2u64).await.unwrap();
    for cache in &caches {
        assert_eq!(get(cache, "k").await, None);
        assert_eq!(cache.get_many(["k", "live"]).await.unwrap(), [None, Some(2u64)]);
        assert_eq!(cache.get_or("k", 7u64).await.unwrap(), 7);
        let failed = cache.get_or_fail::<u64>("k").await.unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::NotFound);
        assert!(!cache.contains("k").await.unwrap());
        assert_eq!(cache.expiry("k").await.unwrap(), None);
        assert_eq!(cache.view().allow_stale().get::<u64>("k").await.unwrap(), None);
        assert!(!cache.view().allow_stale().contains("k").await.unwrap());
        assert_eq!(cache.idle(HOUR).get::<u64>("k").await.unwrap(), None);
    }
}

async fn a_dead_entry_is_missing_for_every_verb_that_writes(shared: Shared) {
    let caches = two(&shared);
    for (cache, other) in [(&caches[0], &caches[1]), (&caches[1], &caches[0])] {
        dead(cache, "k").await;
        assert!(!cache.touch("k", HOUR).await.unwrap());
        let failed = cache.update_timeout::<u64>("k", HOUR).await.unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::NotFound);
        assert!(!cache.replace("k", 2u64).await.unwrap());
        assert_eq!(get(other, "k").await, None, "nothing brings it back");
        assert_eq!(cache.take::<u64>("k").await.unwrap(), None);
        dead(cache, "k").await;
        assert!(!cache.remove("k").await.unwrap());
        dead(cache, "k").await;
        cache.set("live", 2u64).await.unwrap();
        assert!(!cache.remove(["live", "k"]).await.unwrap());
        assert!(!other.contains("live").await.unwrap());
        dead(cache, "k").await;
        assert!(cache.add("k", 3u64).await.unwrap());
        assert_eq!(get(other, "k").await, Some(3));
        assert!(cache.remove("k").await.unwrap());
    }
}

async fn a_dead_entry_is_missing_also_where_it_is_stale(shared: Shared) {
    let [here, there] = two(&shared);
    let stale = here.ttl(Duration::from_millis(1)).stale_for(HOUR).tags(["t"]);
    let kept = here.ttl(HOUR).stale_for(HOUR).tags(["t"]);
    stale.set("stale", 1u64).await.unwrap();
    kept.set("kept", 2u64).await.unwrap();
    while here.contains("stale").await.unwrap() {
        tokio::task::yield_now().await;
    }
    let allowing = there.view().allow_stale().into_cache();
    assert_eq!(allowing.get::<u64>("stale").await.unwrap(), Some(1));
    assert!(allowing.contains("stale").await.unwrap());
    there.remove_tags(["t"]).await.unwrap();
    for key in ["stale", "kept"] {
        assert_eq!(allowing.get::<u64>(key).await.unwrap(), None, "{key}");
        assert!(!allowing.contains(key).await.unwrap(), "{key}");
        assert!(!there.touch(key, HOUR).await.unwrap(), "{key}");
        let fails = async { Err::<u64, _>("the loader fails") };
        let failed = kept.try_get_or_set_async(key, fails).await.unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::Load, "{key} is not served instead");
        assert!(there.add(key, 3u64).await.unwrap(), "{key}");
        assert_eq!(get(&here, key).await, Some(3));
    }
}

async fn a_counter_begins_anew_over_a_dead_entry(shared: Shared) {
    let [here, there] = two(&shared);
    dead(&here, "n").await;
    assert_eq!(there.ttl(HOUR).incr("n", 5).await.unwrap(), 5);
    assert_eq!(here.incr("n", 2).await.unwrap(), 7);
    assert_eq!(there.decr("n", 1).await.unwrap(), 6);
    assert!(matches!(here.expiry("n").await.unwrap(), Some(Expiry::After(left)) if left > MINUTE));
}

async fn a_tagged_number_is_not_counted_on(shared: Shared) {
    let [here, there] = two(&shared);
    here.tags(["t"]).set("n", 5u64).await.unwrap();
    let refused = there.incr("n", 1).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    assert_eq!(get(&here, "n").await, Some(5));
    goes_with("t", "n", &there).await;
}

async fn an_entry_keeps_its_tags_when_its_expiry_changes(shared: Shared) {
    let [here, there] = two(&shared);
    here.tags(["t"]).ttl(MINUTE).set_many([("a", 1u64), ("b", 2)]).await.unwrap();
    here.tags(["t"]).ttl(MINUTE).stale_for(HOUR).set_many([("c", 3u64), ("d", 4)]).await.unwrap();
    assert!(there.touch("a", HOUR).await.unwrap() && there.touch("c", HOUR).await.unwrap());
    assert_eq!(there.update_timeout::<u64>("b", HOUR).await.unwrap(), 2);
    assert_eq!(there.update_timeout::<u64>("d", HOUR).await.unwrap(), 4);
    for key in ["a", "b", "c", "d"] {
        let left = here.expiry(key).await.unwrap();
        assert!(matches!(left, Some(Expiry::After(left)) if left > 2 * MINUTE), "{key}: {left:?}");
    }
    here.remove_tags(["t"]).await.unwrap();
    for key in ["a", "b", "c", "d"] {
        assert_eq!(get(&there, key).await, None, "{key}");
    }
}
