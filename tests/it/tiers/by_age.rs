//! A near level whose values are proven by their age alone: what holds of every store.

use super::{PATIENCE, near};
use crate::claims::Shared;
use crate::everywhere::on_each_store;
use crate::support::eventually;
use futures_util::FutureExt;
use futures_util::future::join_all;
use larder::layers::Tiered;
use larder::{AsyncCacheAdapter, AsyncCacheWrapper, AsyncMemoryCache, ErrorKind, Expiry};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

on_each_store!(
    a_second_read_is_near_and_asks_nobody,
    what_another_node_did_is_seen_after_the_bound,
    own_writes_are_seen_at_once,
    own_writes_are_seen_on_every_runtime_and_face,
    a_near_value_does_not_outlive_its_entry,
    many_callers_are_one_far_read,
    callers_of_a_dropped_read_are_answered,
    a_batch_asks_for_what_is_not_near,
    a_batch_that_skips_the_near_level_gets_and_stores_far_values,
    another_type_than_the_first_is_read_too,
    a_value_that_is_too_large_is_not_near,
    absence_is_not_near,
    a_removal_during_a_load_is_not_undone,
    a_follower_of_a_lease_gets_what_the_holder_stored,
    a_swap_takes_both_levels,
    what_is_near_is_bounded,
    what_is_near_is_bounded_in_bytes,
    a_removed_tag_is_seen_here_at_once_and_there_after_the_bound,
    a_load_that_was_late_for_a_tag_is_dead,
);

/// Values stay near for longer than any test.
pub(super) const LONG: &str = "near_bound=600s&near_ttl=600s";

pub(super) const HOUR: Duration = Duration::from_secs(3_600);

async fn text(cache: &AsyncCacheWrapper, key: &str) -> Option<String> {
    cache.get(key).await.unwrap()
}

async fn a_second_read_is_near_and_asks_nobody(shared: Shared) {
    let cache = shared.near(LONG);
    cache.set("k", "value").await.unwrap();
    assert_eq!(near(&cache).far_reads, 0);
    assert_eq!(text(&cache, "k").await.as_deref(), Some("value"));
    for _ in 0..3 {
        let second = cache.get::<String>("k").now_or_never().expect("ready at once");
        assert_eq!(second.unwrap().as_deref(), Some("value"));
    }
    assert_eq!(cache.get_or_fail::<String>("k").await.unwrap(), "value");
    assert_eq!(cache.get_or_set("k", "other".to_owned()).await.unwrap(), "value");
    let near = near(&cache);
    assert_eq!((near.far_reads, near.kept, near.refused), (1, 1, 0));
    assert_eq!(cache.stats().hits, 6);
}

pub(super) type Act = (&'static str, fn(AsyncCacheWrapper) -> BoxedAct);
type BoxedAct = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// What changes "k", which is the number 1.
pub(super) const CHANGES: [Act; 10] = [
    ("set", |cache| Box::pin(async move { cache.set("k", 2u64).await.unwrap() })),
    ("remove", |cache| Box::pin(async move { assert!(cache.remove("k").await.unwrap()) })),
    ("clear", |cache| Box::pin(async move { cache.clear().await.unwrap() })),
    ("incr", |cache| Box::pin(async move { assert_eq!(cache.incr("k", 4).await.unwrap(), 5) })),
    ("take", |cache| {
        Box::pin(async move { assert_eq!(cache.take::<u64>("k").await.unwrap(), Some(1)) })
    }),
    ("replace", |cache| Box::pin(async move { assert!(cache.replace("k", 2u64).await.unwrap()) })),
    ("set_many", |cache| Box::pin(async move { cache.set_many([("k", 2u64)]).await.unwrap() })),
    ("a load", |cache| {
        Box::pin(async move {
            assert_eq!(cache.view().force_refresh().get_or_set("k", 2u64).await.unwrap(), 2);
        })
    }),
    ("remove_many", |cache| {
        Box::pin(async move {
            let _all_were_live = cache.remove_many(["k", "x"]).await.unwrap();
        })
    }),
    ("touch", |cache| {
        Box::pin(async move { assert!(cache.touch("k", Duration::ZERO).await.unwrap()) })
    }),
];

/// What is under "k" by now, by a cache without a near level.
async fn truth(shared: &Shared) -> Option<u64> {
    shared.cache().get("k").await.unwrap()
}

async fn what_another_node_did_is_seen_after_the_bound(shared: Shared) {
    let bound = Duration::from_millis(300);
    let (reader, writer) = (shared.near("near_bound=300ms"), shared.near("near_bound=300ms"));
    for (name, change) in CHANGES {
        shared.cache().set("k", 1u64).await.unwrap();
        tokio::time::sleep(bound).await;
        assert_eq!(reader.get::<u64>("k").await.unwrap(), Some(1), "{name}");
        change(writer.clone()).await;
        let returned = Instant::now();
        let truth = truth(&shared).await;
        assert_ne!(truth, Some(1), "{name}");
        tokio::time::sleep_until((returned + bound).into()).await;
        assert_eq!(reader.get::<u64>("k").await.unwrap(), truth, "{name}");
    }
}

async fn own_writes_are_seen_at_once(shared: Shared) {
    let cache = shared.near(LONG);
    for (name, change) in CHANGES {
        cache.set("k", 1u64).await.unwrap();
        assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(1), "{name}");
        change(cache.clone()).await;
        assert_eq!(cache.get::<u64>("k").await.unwrap(), truth(&shared).await, "{name}");
    }
    // Those that begin with a miss.
    cache.remove("k").await.unwrap();
    assert!(cache.add("k", 7u64).await.unwrap());
    assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(7));
    cache.remove("k").await.unwrap();
    assert_eq!(cache.get_or_set("k", 8u64).await.unwrap(), 8);
    assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(8));
    let users = cache.namespace("users");
    users.set("1", 1u64).await.unwrap();
    assert_eq!(users.get::<u64>("1").await.unwrap(), Some(1));
    users.clear().await.unwrap();
    assert_eq!(users.get::<u64>("1").await.unwrap(), None);
    assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(8));
}

async fn own_writes_are_seen_on_every_runtime_and_face(shared: Shared) {
    let cache = shared.near(LONG);
    for round in 0..20u64 {
        cache.set("k", round).await.unwrap();
        assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(round));
        let other = cache.clone();
        let read = std::thread::spawn(move || {
            let blocking = other.blocking();
            assert_eq!(blocking.get::<u64>("k").unwrap(), Some(round));
            blocking.set("k", round + 100).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async { other.get::<u64>("k").await.unwrap() })
        });
        assert_eq!(read.join().unwrap(), Some(round + 100));
        assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(round + 100));
    }
}

async fn a_near_value_does_not_outlive_its_entry(shared: Shared) {
    let (cache, plain) = (shared.near(LONG), shared.cache());
    cache.ttl(Duration::from_secs(1)).set("k", "value").await.unwrap();
    assert_eq!(text(&cache, "k").await.as_deref(), Some("value"));
    assert_eq!(near(&cache).kept, 1);
    eventually("it has expired", PATIENCE, async || text(&plain, "k").await.is_none()).await;
    // The clock of a hit has ticks of 10 ms, and memcached counts whole seconds.
    let end = Instant::now() + Duration::from_secs(2);
    eventually("it is not near either", PATIENCE, async || text(&cache, "k").await.is_none()).await;
    assert!(Instant::now() < end, "it has lived for seconds longer than its entry");
}

async fn many_callers_are_one_far_read(shared: Shared) {
    let cache = shared.near(LONG);
    shared.cache().set("k", "value").await.unwrap();
    let callers = (0..10_000).map(|_| {
        let cache = cache.clone();
        tokio::spawn(async move { text(&cache, "k").await })
    });
    for found in join_all(callers).await {
        assert_eq!(found.unwrap().as_deref(), Some("value"));
    }
    assert_eq!(near(&cache).far_reads, 1);
}

async fn callers_of_a_dropped_read_are_answered(shared: Shared) {
    let cache = shared.near(LONG);
    shared.cache().set("k", "value").await.unwrap();
    for _ in 0..20 {
        let mut first = Box::pin(cache.get::<String>("k"));
        let _ = futures_util::poll!(first.as_mut());
        let others = join_all((0..3).map(|_| text(&cache, "k")));
        let mut others = Box::pin(others);
        let _ = futures_util::poll!(others.as_mut());
        drop(first);
        let found = tokio::time::timeout(PATIENCE, others).await.expect("they wait for ever");
        assert!(found.iter().all(|found| found.as_deref() == Some("value")), "{found:?}");
        cache.touch("k", Expiry::Default).await.unwrap();
    }
}

async fn a_batch_asks_for_what_is_not_near(shared: Shared) {
    let (cache, plain) = (shared.near(LONG), shared.cache());
    plain.set_many([("a", 1u64), ("b", 2), ("c", 3)]).await.unwrap();
    assert_eq!(cache.get::<u64>("a").await.unwrap(), Some(1));
    let keys = ["a", "b", "missing", "b", "c", "a"];
    let found: Vec<Option<u64>> = cache.get_many(keys).await.unwrap();
    assert_eq!(found, [Some(1), Some(2), None, Some(2), Some(3), Some(1)]);
    // "a", "b", "missing" and "c", each once.
    assert_eq!(near(&cache).far_reads, 4);
    let again: Vec<Option<u64>> = cache.get_many(["a", "b", "c"]).await.unwrap();
    assert_eq!(again, [Some(1), Some(2), Some(3)]);
    assert_eq!(near(&cache).far_reads, 4);
    let loaded = cache
        .get_or_set_many_async(["a", "c", "d"], |missing: Vec<String>| async move {
            assert_eq!(missing, ["d"]);
            vec![("d".to_owned(), 4u64)]
        })
        .await
        .unwrap();
    assert_eq!(loaded, [Some(1), Some(3), Some(4)]);
    assert_eq!(cache.get::<u64>("d").await.unwrap(), Some(4));
    let wrong = cache.get_many::<u64, _>(["a", ""]).await.unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::InvalidKey);
}

async fn a_batch_that_skips_the_near_level_gets_and_stores_far_values(shared: Shared) {
    let (cache, plain) = (shared.near(LONG), shared.cache());
    plain.set("a", 1u64).await.unwrap();
    assert_eq!(cache.get::<u64>("a").await.unwrap(), Some(1));
    plain.set("a", 2u64).await.unwrap();
    let load = |missing: Vec<String>| async { missing.into_iter().map(|key| (key, 3u64)) };
    let found = cache.skip_near().get_or_set_many_async(["a", "b"], load).await.unwrap();
    assert_eq!(found, [Some(2), Some(3)]);
    assert_eq!(plain.get::<u64>("b").await.unwrap(), Some(3));
}

async fn another_type_than_the_first_is_read_too(shared: Shared) {
    let cache = shared.near(LONG);
    cache.set("k", 5u32).await.unwrap();
    for _ in 0..3 {
        assert_eq!(cache.get::<u32>("k").await.unwrap(), Some(5));
        assert_eq!(cache.get::<i64>("k").await.unwrap(), Some(5));
        assert_eq!(cache.get::<f64>("k").await.unwrap_or(Some(5.0)), Some(5.0));
        let text = cache.get::<String>("k").await.unwrap_err();
        assert_eq!(text.kind(), ErrorKind::Decode);
    }
    assert_eq!(near(&cache).far_reads, 1);
}

async fn a_value_that_is_too_large_is_not_near(shared: Shared) {
    let cache = shared.near(LONG);
    for (length, far_reads) in [(250_000, 1), (270_000, 3)] {
        let value = "x".repeat(length);
        cache.set("k", value.clone()).await.unwrap();
        let before = near(&cache).far_reads;
        for _ in 0..far_reads {
            assert_eq!(text(&cache, "k").await.as_deref(), Some(&*value));
        }
        let _near_if_small = text(&cache, "k").await;
        let more = if far_reads == 1 { 0 } else { 1 };
        assert_eq!(near(&cache).far_reads - before, far_reads + more, "{length}");
    }
}

async fn absence_is_not_near(shared: Shared) {
    let cache = shared.near(LONG);
    assert_eq!(text(&cache, "k").await, None);
    shared.cache().set("k", "value").await.unwrap();
    assert_eq!(text(&cache, "k").await.as_deref(), Some("value"));
}

async fn a_removal_during_a_load_is_not_undone(shared: Shared) {
    let (cache, other) = (shared.near(LONG), shared.near(LONG));
    let remover = other.clone();
    let loaded = cache
        .get_or_set_async("k", async move {
            remover.remove("k").await.unwrap();
            1u64
        })
        .await;
    assert_eq!(loaded.unwrap(), 1);
    assert_eq!(cache.get::<u64>("k").await.unwrap(), None);
    assert_eq!(other.get::<u64>("k").await.unwrap(), None);
}

async fn a_follower_of_a_lease_gets_what_the_holder_stored(shared: Shared) {
    let [holder, follower] =
        [(); 2].map(|()| shared.near(LONG).with_lease(Duration::from_secs(600)));
    let (begun, is_begun) = tokio::sync::oneshot::channel();
    let (go, may_go) = tokio::sync::oneshot::channel::<()>();
    let loading = tokio::spawn(async move {
        holder
            .get_or_set_async("k", async move {
                begun.send(()).unwrap();
                may_go.await.unwrap();
                1u64
            })
            .await
    });
    is_begun.await.unwrap();
    let mut waiting = Box::pin(follower.get_or_set("k", 2u64));
    assert!(futures_util::poll!(waiting.as_mut()).is_pending());
    go.send(()).unwrap();
    assert_eq!(loading.await.unwrap().unwrap(), 1);
    let followed = tokio::time::timeout(PATIENCE, waiting).await.expect("it waits for ever");
    assert_eq!(followed.unwrap(), 1);
}

async fn a_swap_takes_both_levels(shared: Shared) {
    let cache = shared.near(LONG);
    cache.set("k", "old").await.unwrap();
    assert_eq!(text(&cache, "k").await.as_deref(), Some("old"));
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move {
                for _ in 0..200 {
                    cache.get::<String>("k").await.expect("no call fails");
                }
            })
        })
        .collect();
    for _ in 0..5 {
        cache.set_adapter(larder::AsyncMemoryCache::new()).unwrap();
        assert_eq!(text(&cache, "k").await, None);
        assert!(cache.stats().near.is_none());
        shared.cache().set("k", "new").await.unwrap();
        cache.set_adapter(shared.near(LONG).adapter().unwrap()).unwrap();
        assert_eq!(text(&cache, "k").await.as_deref(), Some("new"));
        assert_eq!(near(&cache).lost_sources, 0);
    }
    for caller in callers {
        caller.await.unwrap();
    }
}

async fn what_is_near_is_bounded(shared: Shared) {
    let cache = shared.near(&format!("{LONG}&near_entries=40"));
    let keys: Vec<String> = (0..400).map(|number| format!("k{number}")).collect();
    let entries: Vec<(String, u64)> = keys.iter().cloned().zip(0..).collect();
    shared.cache().set_many(entries).await.unwrap();
    for _ in 0..2 {
        for (key, value) in keys.iter().zip(0..) {
            assert_eq!(cache.get::<u64>(key).await.unwrap(), Some(value));
        }
    }
    let near = near(&cache);
    assert!(near.far_reads >= 2 * 400 - 40, "{near}");
}

/// The text and its stored bytes count, so less than half of the bytes are texts.
async fn what_is_near_is_bounded_in_bytes(shared: Shared) {
    const BYTES: usize = 200_000;
    let far = shared.cache().adapter().unwrap();
    let memory = AsyncMemoryCache::builder().max_bytes(BYTES as u64).build();
    let tiered = Tiered::builder(far).near(memory).near_bound(HOUR).near_ttl(HOUR).build();
    let tiered = Arc::new(tiered);
    let cache = AsyncCacheWrapper::new(tiered.clone() as Arc<dyn AsyncCacheAdapter>).unwrap();
    for length in [1_000, 10_000] {
        let value = "x".repeat(length);
        let keys: Vec<String> = (0..400).map(|number| format!("{length}:{number}")).collect();
        shared.cache().set_many(keys.iter().map(|key| (key, value.clone()))).await.unwrap();
        for key in &keys {
            assert_eq!(text(&cache, key).await.as_deref(), Some(&*value));
            assert_eq!(text(&cache, key).await.as_deref(), Some(&*value));
        }
        let entries = tiered.near_entries();
        assert!(entries > 0 && entries * 2 * length <= BYTES, "{entries} of {length} bytes");
    }
    // More than the near store has room for.
    let large = "x".repeat(BYTES * 2 / 3);
    shared.cache().set("large", large.clone()).await.unwrap();
    let before = near(&cache);
    for _ in 0..3 {
        assert_eq!(text(&cache, "large").await.as_ref(), Some(&large));
    }
    let after = near(&cache);
    assert_eq!((after.far_reads, after.kept), (before.far_reads + 3, before.kept));
}

async fn a_removed_tag_is_seen_here_at_once_and_there_after_the_bound(shared: Shared) {
    let bound = Duration::from_millis(300);
    let (here, there) = (shared.near("near_bound=300ms"), shared.near("near_bound=300ms"));
    for round in 0..3u64 {
        here.tags(["user:7", "all"]).set("k", round).await.unwrap();
        here.tags(["user:8"]).set("other", round).await.unwrap();
        tokio::time::sleep(bound).await;
        for cache in [&here, &there, &here, &there] {
            assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(round));
            assert_eq!(cache.get::<u64>("other").await.unwrap(), Some(round));
        }
        here.remove_tags(["user:7"]).await.unwrap();
        let returned = Instant::now();
        assert_eq!(here.get::<u64>("k").await.unwrap(), None);
        assert_eq!(here.get::<u64>("other").await.unwrap(), Some(round));
        tokio::time::sleep_until((returned + bound).into()).await;
        let found: Vec<Option<u64>> = there.get_many(["k", "other"]).await.unwrap();
        assert_eq!(found, [None, Some(round)]);
        assert_eq!(shared.cache().get::<u64>("k").await.unwrap(), None);
    }
}

async fn a_load_that_was_late_for_a_tag_is_dead(shared: Shared) {
    let (here, there) = (shared.near(LONG), shared.near(LONG));
    let remover = there.clone();
    let load = async move {
        remover.remove_tags(["user:7"]).await.unwrap();
        1u64
    };
    assert_eq!(here.tags(["user:7"]).get_or_set_async("k", load).await.unwrap(), 1);
    for cache in [&here, &there] {
        assert_eq!(cache.get::<u64>("k").await.unwrap(), None);
    }
}
