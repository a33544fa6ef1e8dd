//! Writes with tags where the store refuses to read, make or prolong the records: what they were to
//! replace is not served any more, and what is only a check fails no write.

use super::{HOUR, MINUTE, PATIENCE};
use crate::support::{Memcached, Redis, eventually};
use larder::layers::{BreakerState, Resilient};
use larder::testing::{Fault, FaultyAdapter};
use larder::{
    AsyncCacheWrapper, AsyncMemoryCache, Codec, ErrorKind, EventKind, Expiry, RedisBuilder, Result,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

/// The verbs that overwrite.
const OVERWRITES: [&str; 4] = ["set", "set_many", "set_each", "replace"];

/// Overwrites `k` with tags, and once by a forced refresh, whose caller gets the value in any case.
async fn overwrite(cache: &AsyncCacheWrapper, verb: &str, value: u64) -> Result<()> {
    let tagged = cache.tags(["never seen"]);
    match verb {
        "set" => tagged.set("k", value).await,
        "set_many" => tagged.set_many([("k", value)]).await,
        "set_each" => tagged.set_each([("k", value, Expiry::Never)]).await,
        "replace" => tagged.replace("k", value).await.map(drop),
        "refresh" => {
            let forced = cache.view().force_refresh().tags(["never seen"]);
            assert_eq!(forced.get_or_set_async("k", async move { value }).await?, value);
            Ok(())
        }
        _ => {
            let forced = cache.view().force_refresh().tags(["never seen"]);
            let load = |keys: Vec<String>| async move {
                keys.into_iter().map(|key| (key, value)).collect::<HashMap<_, _>>()
            };
            let found = forced.get_or_set_many_async(["other", "k"], load).await?;
            assert_eq!(found, [Some(value); 2]);
            Ok(())
        }
    }
}

#[tokio::test]
async fn a_write_whose_records_could_not_be_read_is_made_up_for_by_a_removal() {
    for verb in OVERWRITES {
        let store = Arc::new(FaultyAdapter::new(AsyncMemoryCache::new()));
        let layer = Resilient::builder(store.clone()).retry(0).build();
        let cache = AsyncCacheWrapper::new(layer.clone()).unwrap();
        cache.tags(["t"]).set("k", 1u64).await.unwrap();
        store.put_on_all(Fault::Fail(ErrorKind::Unavailable));
        let failed = overwrite(&cache, verb, 2).await.unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::Unavailable, "{verb}");
        store.heal_all();
        eventually("it is made up for", PATIENCE, || async {
            let _ = cache.get::<u64>("other").await;
            layer.pending_writes() == 0 && layer.breaker_state() == BreakerState::Closed
        })
        .await;
        assert_eq!(cache.get::<u64>("k").await.unwrap(), None, "{verb}");
    }
}

#[tokio::test]
async fn a_full_server_serves_no_older_value_after_a_write_with_a_new_tag() {
    for verb in OVERWRITES.into_iter().chain(["refresh", "refresh of several"]) {
        let server = Redis::start_with(&["--maxmemory-policy", "noeviction"]);
        let url = format!("{}?prefix=p:&op_timeout=60s&resilient=off", server.url());
        let cache = AsyncCacheWrapper::new(url).unwrap();
        cache.set("k", 1u64).await.unwrap();
        server.text(&["CONFIG", "SET", "maxmemory", "1"]);
        let written = overwrite(&cache, verb, 2).await;
        assert_eq!(written.is_err(), OVERWRITES.contains(&verb), "{verb}: {written:?}");
        assert_eq!(cache.get::<u64>("k").await.unwrap(), None, "{verb}");
        server.text(&["CONFIG", "SET", "maxmemory", "0"]);
        overwrite(&cache, "set", 3).await.unwrap();
        assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(3), "{verb}");
    }
}

/// What is stored later has no smaller items to take the place of.
#[tokio::test]
async fn nor_does_a_memcached_without_memory() {
    let server = Memcached::start_with(&["-m", "8", "-M"]);
    let url = format!("{}?prefix=p:&op_timeout=60s&resilient=off", server.url());
    let cache = AsyncCacheWrapper::new(url).unwrap();
    cache.set("k", 1u64).await.unwrap();
    for size in [100_000, 5_000, 500, 100, 40] {
        for number in 0.. {
            let filler = cache.set(format!("{size}-{number}"), "x".repeat(size)).await;
            if filler.is_err() {
                break;
            }
        }
    }
    let tag = format!("never seen {}", "x".repeat(80));
    let tagged = cache.tags([tag]);
    let refused = tagged.set("k", "y".repeat(300)).await.unwrap_err();
    assert!(refused.to_string().contains("out of memory"), "{refused}");
    assert_eq!(cache.get::<u64>("k").await.unwrap(), None);
}

#[tokio::test]
async fn what_a_replica_refuses_is_made_up_for_by_a_removal_also_near() {
    for near in ["", "near+"] {
        for verb in OVERWRITES {
            let server = Redis::start();
            let url = format!("{near}{}?prefix=p:&op_timeout=60s", server.url());
            let cache = AsyncCacheWrapper::new(url).unwrap();
            cache.tags(["t"]).set("k", 1u64).await.unwrap();
            assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(1));
            // Of a primary that is away: it keeps what it holds, and goes on reading.
            server.text(&["REPLICAOF", "127.0.0.1", "1"]);
            let refused = overwrite(&cache, verb, 2).await.unwrap_err();
            assert!(refused.is_refused_write(), "{near}{verb}: {refused}");
            assert_eq!(cache.get::<u64>("k").await.unwrap(), None, "{near}{verb}: noted");
            server.text(&["REPLICAOF", "NO", "ONE"]);
            eventually("it takes writes again", PATIENCE, || async {
                cache.set("k", 3u64).await.is_ok()
            })
            .await;
            assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(3), "{near}{verb}");
        }
    }
}

/// A cache on a server of its own, whose user has all rights but these, and one without limits.
async fn restricted(rules: &str) -> (Redis, AsyncCacheWrapper, AsyncCacheWrapper) {
    let server = Redis::start();
    let (name, password) = server.user(rules);
    let builder =
        || RedisBuilder::from_url(server.url()).unwrap().prefix("p:").op_timeout(PATIENCE);
    let cache = builder().user(name).password(password).build().unwrap();
    let free = AsyncCacheWrapper::new(builder().build().unwrap()).unwrap();
    (server, AsyncCacheWrapper::new(cache).unwrap(), free)
}

/// A record of an hour, and then entries that live for a day.
#[tokio::test]
async fn a_record_that_may_not_be_prolonged_fails_no_write() {
    for rules in ["-pexpire", "-pttl", "-pexpire -persist -pttl"] {
        let (_server, cache, free) = restricted(rules).await;
        let errors = Arc::new(AtomicU64::new(0));
        let counting = errors.clone();
        cache.observe(move |event| {
            if event.kind == EventKind::BackendError {
                counting.fetch_add(1, Ordering::SeqCst);
            }
        });
        free.ttl(MINUTE).tags(["t"]).set("a", 1u64).await.unwrap();
        let tagged = cache.ttl(DAY).tags(["t"]);
        tagged.set("b", 2u64).await.unwrap();
        tagged.set_many([("c", 3u64)]).await.unwrap();
        assert_eq!(tagged.get_or_set("d", 4u64).await.unwrap(), 4);
        let found = free.get_many::<u64, _>(["a", "b", "c", "d"]).await.unwrap();
        assert_eq!(found, [1, 2, 3, 4].map(Some), "{rules}");
        assert_eq!(errors.load(Ordering::SeqCst) > 0, rules.contains("-pexpire"), "{rules}");
        cache.remove_tags(["t"]).await.unwrap();
        let found = free.get_many::<u64, _>(["a", "b", "c", "d"]).await.unwrap();
        assert_eq!(found, [None; 4], "{rules}");
    }
}

#[tokio::test]
async fn a_user_who_may_not_ask_for_lives_renews_and_touches_all_the_same() {
    let (_server, cache, free) = restricted("-pttl").await;
    free.ttl(MINUTE).set("k", 1u64).await.unwrap();
    assert_eq!(cache.idle(HOUR).get::<u64>("k").await.unwrap(), Some(1));
    eventually("it is renewed", PATIENCE, || async {
        matches!(free.expiry("k").await.unwrap(), Some(Expiry::After(left)) if left > 2 * MINUTE)
    })
    .await;
    free.ttl(MINUTE).stale_for(HOUR).set("kept", 1u64).await.unwrap();
    assert!(cache.touch("kept", HOUR).await.unwrap());
    let left = free.expiry("kept").await.unwrap();
    assert!(matches!(left, Some(Expiry::After(left)) if left > 2 * MINUTE), "{left:?}");
    assert_eq!(free.get::<u64>("kept").await.unwrap(), Some(1));
}

/// With fail-open the layer finds no record and makes none, and each call takes a deadline.
#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_costs_a_write_with_tags_a_few_deadlines() {
    let deadline = Duration::from_secs(1);
    let store = Arc::new(FaultyAdapter::new(AsyncMemoryCache::new()));
    let layer = Resilient::builder(store.clone()).breaker(false).fail_open(true);
    let cache = AsyncCacheWrapper::new(layer.deadline(deadline).build()).unwrap();
    store.put_on_all(Fault::Hang);
    let begun = tokio::time::Instant::now();
    let tagged = cache.tags(["t"]);
    assert!(tagged.set("k", 1u64).await.is_err(), "without a record there is nothing to write");
    assert_eq!(tagged.get_or_set_async("k", async { 2u64 }).await.unwrap(), 2);
    assert!(!cache.add("k", 1u64).await.unwrap());
    assert!(begun.elapsed() < 40 * deadline, "{:?}", begun.elapsed());
}

/// A view whose values have no header gives no tags, whatever the server allows.
#[tokio::test]
async fn a_refusal_by_the_cache_itself_removes_nothing() {
    let cache = AsyncCacheWrapper::new("memory").unwrap();
    cache.set("k", 1u64).await.unwrap();
    let json = cache.codec(Codec::Json).tags(["t"]);
    assert_eq!(json.set("k", 2u64).await.unwrap_err().kind(), ErrorKind::Unsupported);
    let many = cache.tags((0..17).map(|number| number.to_string()));
    assert_eq!(many.set("k", 2u64).await.unwrap_err().kind(), ErrorKind::InvalidKey);
    assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(1));
}
