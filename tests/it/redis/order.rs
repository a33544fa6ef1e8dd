//! A write that was given up must not land after a later removal, whichever way either of them
//! went.

use super::together::calls;
use super::{on, prefix};
use crate::remote::order::{LATER, PATIENCE, PROMPT, dropped_before, race, write_by};
use crate::remote::{Cache, PATIENT};
use crate::support::turns::turn;
use crate::support::{Proxy, Redis, eventually};
use larder::layers::Tiered;
use larder::{
    AsyncCacheAdapter, AsyncMemoryCache, AsyncRedisCache, CacheValue, Entry, Expiry, RedisBuilder,
};
use std::sync::Arc;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_big_write_that_timed_out_does_not_come_back() {
    let _turn = turn();
    let server = Redis::start();
    let proxy = Proxy::start(server.addr());
    let prefix = prefix();
    let witness: Cache = Arc::new(on(&server).prefix(&prefix).op_timeout(PATIENT).build().unwrap());
    let builder = RedisBuilder::from_url(&proxy.url(server.url()))
        .unwrap()
        .prefix(&prefix)
        .op_timeout(PATIENCE);
    let cache: Cache = Arc::new(builder.big_value_bytes(0).build().unwrap());
    race(&cache, &proxy, &witness, "redis, big").await;
}

/// Runs `work` on a runtime of its own, which ends after it with whatever is in flight.
fn on_another_runtime<F: Future<Output = ()> + Send + 'static>(work: F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    std::thread::spawn(move || runtime.block_on(work)).join().unwrap();
}

/// A connection that its runtime took along while a read was in flight: the server is to close it
/// before it gets other commands.
fn leave_a_connection(cache: &AsyncRedisCache, proxy: &Arc<Proxy>) {
    let (cache, on_its_way) = (cache.clone(), proxy.clone());
    proxy.keep_answers_after(b"\r\nGET\r\n");
    on_another_runtime(async move {
        let read = tokio::spawn(async move { cache.get("nothing").await });
        eventually("the read was sent", PATIENT, async || on_its_way.sent() > 0).await;
        assert!(!read.is_finished());
    });
    proxy.release_kept();
}

/// While a write waits for the server to close an old connection, another runtime has that done.
/// Nothing keeps a later removal from being sent at once, so the write, which has lost its caller,
/// must not be sent any more.
async fn a_write_without_a_caller_is_not_sent_late(direct: usize) {
    let server = Redis::start();
    let proxy = Arc::new(Proxy::start(server.addr()));
    let url = proxy.url(server.url());
    let builder = RedisBuilder::from_url(&url).unwrap().prefix(prefix()).op_timeout(PATIENT);
    let cache = builder.batch_above(direct).build().unwrap();
    cache.ping().await.unwrap();
    leave_a_connection(&cache, &proxy);

    proxy.keep_answers_after(b"\r\nKILL\r\n");
    let mut reads = tokio::task::JoinSet::new();
    for n in 0..direct {
        let cache = cache.clone();
        reads.spawn(async move { cache.get(&format!("missing {n}")).await.unwrap() });
    }
    eventually("the reads wait", PATIENT, async || proxy.sent() >= direct).await;
    let write = {
        let cache = cache.clone();
        tokio::spawn(async move { cache.set("k", CacheValue::new("old"), Expiry::Never).await })
    };
    eventually("the write waits", PATIENT, async || proxy.sent() > direct).await;
    write.abort();
    assert!(write.await.unwrap_err().is_cancelled());

    let another = cache.clone();
    on_another_runtime(async move { another.ping().await.unwrap() });
    let removal = {
        let cache = cache.clone();
        tokio::spawn(async move { cache.remove("k").await })
    };
    // Out of its turn the removal is executed at once, and in its turn not before the answers come.
    let executed = eventually("", PATIENT, async || calls(&server, "unlink") > 0);
    let _ = tokio::time::timeout(PROMPT, executed).await;
    proxy.release_kept();
    removal.await.unwrap().unwrap();
    reads.join_all().await;
    // A command that was sent before this one is executed before it.
    assert!(!cache.contains("k").await.unwrap(), "{direct} direct calls");
    assert_eq!(calls(&server, "set"), 0, "{direct} direct calls");
}

/// The verbs that change the key `k`, as the call that loses its caller.
const DROPPED: [&str; 8] =
    ["set_many", "add", "replace", "incr", "set_claimed", "remove", "touch", "remove_many"];

async fn change_by(cache: Cache, verb: &str) {
    let value = || CacheValue::new("dropped");
    let gone = Expiry::After(Duration::ZERO);
    match verb {
        "set_many" => {
            let entries = ["k", "l", "m"].map(|key| Entry::new(key, value(), Expiry::Never));
            drop(cache.set_many(&entries).await);
        }
        "add" => drop(cache.add("k", value(), Expiry::Never).await),
        "replace" => drop(cache.replace("k", value(), Expiry::Never).await),
        "incr" => drop(cache.incr("k", 100, Expiry::Never).await),
        "set_claimed" => {
            if let Ok(Some(claim)) = cache.claim("k", None).await {
                drop(cache.set_claimed("k", value(), Expiry::Never, &claim).await);
            }
        }
        "remove" => drop(cache.remove("k").await),
        "touch" => drop(cache.touch("k", gone).await),
        _ => drop(cache.remove_many(&["k", "l"]).await),
    }
}

/// The same for every verb, over each way on which it may wait, with a near level and without: the
/// later call that was acknowledged is what counts.
async fn the_later_call_counts(verb: &'static str, direct: usize, is_near: bool) {
    let server = Redis::start();
    let proxy = Arc::new(Proxy::start(server.addr()));
    let url = proxy.url(server.url());
    let builder = RedisBuilder::from_url(&url).unwrap().prefix(prefix()).op_timeout(PATIENT);
    let redis = builder.batch_above(direct).build().unwrap();
    let plain: Cache = Arc::new(redis.clone());
    let cache: Cache = if is_near {
        Arc::new(Tiered::new(AsyncMemoryCache::new(), redis.clone()))
    } else {
        plain.clone()
    };
    let is_removal = matches!(verb, "remove" | "touch" | "remove_many");
    let before = if verb == "incr" { CacheValue::new(1) } else { CacheValue::new("before") };
    if verb != "add" {
        cache.set("k", before, Expiry::Never).await.unwrap();
    }
    leave_a_connection(&redis, &proxy);

    proxy.keep_answers_after(b"\r\nKILL\r\n");
    let mut changing = tokio::spawn(change_by(cache.clone(), verb));
    let is_on_its_way = eventually("the call waits", PATIENT, async || proxy.sent() > 0);
    // A call over another lane waits for nothing, and is done.
    let _ = tokio::time::timeout(PROMPT, is_on_its_way).await;
    let _ = tokio::time::timeout(PROMPT / 10, &mut changing).await;
    changing.abort();
    let _ = changing.await;

    let another = redis.clone();
    on_another_runtime(async move { another.ping().await.unwrap() });
    let later = {
        let cache = cache.clone();
        tokio::spawn(async move {
            if is_removal {
                cache.set("k", CacheValue::new("later"), Expiry::Never).await
            } else {
                cache.remove("k").await.map(drop)
            }
        })
    };
    tokio::time::sleep(PROMPT / 10).await;
    proxy.release_kept();
    later.await.unwrap().unwrap();
    plain.ping().await.unwrap();
    // What was sent before this is executed before it, on the same lane.
    for reader in [&cache, &plain] {
        assert_eq!(reader.contains("k").await.unwrap(), is_removal, "{verb}, {direct}, {is_near}");
    }
    let found = cache.get("k").await.unwrap().map(|value| value.decode::<String>().unwrap());
    assert_eq!(found.as_deref(), is_removal.then_some("later"), "{verb}, {direct}, {is_near}");
}

#[cfg(feature = "memory")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whichever_verb_lost_its_caller_the_later_call_counts() {
    for verb in DROPPED {
        for (direct, is_near) in [(0, false), (16, true)] {
            the_later_call_counts(verb, direct, is_near).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_without_a_caller_lands_before_a_later_removal() {
    let default = 16;
    for direct in [0, default] {
        a_write_without_a_caller_is_not_sent_late(direct).await;
    }
}

/// A cache behind a proxy, and another one over the same keys.
fn behind_a_proxy(big: usize) -> (Redis, Proxy, AsyncRedisCache, AsyncRedisCache) {
    let server = Redis::start();
    let proxy = Proxy::start(server.addr());
    let builder = RedisBuilder::from_url(&proxy.url(server.url())).unwrap();
    let builder = builder.prefix(prefix()).op_timeout(PATIENT).big_value_bytes(big);
    let (cache, another) = (builder.clone().build().unwrap(), builder.build().unwrap());
    (server, proxy, cache, another)
}

const WHOLE: &[u8] = b"\r\nUNLINK\r\n";

/// Every verb that writes, after a clear that was dropped with its last command in flight.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clear_without_a_caller_lands_before_later_writes() {
    for verb in LATER {
        let (server, proxy, cache, _) = behind_a_proxy(1 << 20);
        cache.set("k", CacheValue::new(1), Expiry::Never).await.unwrap();
        let clearing = cache.clone();
        let clear = async move { clearing.clear("").await.unwrap() };
        dropped_before(&proxy, WHOLE, clear, write_by(&cache, verb)).await;
        eventually("the keys are removed", PATIENT, async || calls(&server, "unlink") > 0).await;
        assert!(cache.contains("k").await.unwrap(), "{verb}");
    }
}

/// A clear that was dropped, or that failed, does not refuse the loads that come after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loads_after_a_dropped_clear_are_stored() {
    let (server, proxy, cache, _) = behind_a_proxy(1 << 20);
    cache.set("k", CacheValue::new(1), Expiry::Never).await.unwrap();
    let clearing = cache.clone();
    let clear = async move { clearing.clear("").await.unwrap() };
    let later = async {};
    dropped_before(&proxy, b"\r\nSCAN\r\n", clear, later).await;
    eventually("the clear walks", PATIENT, async || calls(&server, "scan") > 0).await;
    let wrapper = larder::AsyncCacheWrapper::new(cache).unwrap();
    // Far less than the mark lives.
    eventually("a load is stored", Duration::from_secs(20), async || {
        wrapper.get_or_set_async("loaded", async { 7u8 }).await.unwrap();
        wrapper.contains("loaded").await.unwrap()
    })
    .await;
}

/// A large value is taken over the lane of large values, and written over that of its key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_take_without_a_caller_lands_before_later_writes() {
    for verb in LATER {
        let (server, proxy, cache, another) = behind_a_proxy(100);
        cache.set("k", CacheValue::new("v".repeat(1_000)), Expiry::Never).await.unwrap();
        if verb == "incr" {
            // The cache still takes the value for large.
            another.set("k", CacheValue::new(1), Expiry::Never).await.unwrap();
        }
        let taking = cache.clone();
        let take = async move { drop(taking.take("k").await.unwrap()) };
        dropped_before(&proxy, b"\r\nGETDEL\r\n", take, write_by(&cache, verb)).await;
        eventually("the value is taken", PATIENT, async || calls(&server, "getdel") > 0).await;
        assert!(cache.contains("k").await.unwrap(), "{verb}");
    }
}
