//! Values around the limit, and big ones beside small ones.

use super::{PATIENT, on, percentile, put, text};
use crate::support::Redis;
use crate::support::noise::{lateness, noise};
use crate::support::turns::turn;
use larder::{AsyncCacheAdapter, AsyncRedisCache, CacheValue, Codec, Entry, ErrorKind, Expiry};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const LIMIT: usize = 300_000;

fn limited(server: &Redis) -> AsyncRedisCache {
    // Raw has no header, so that the limit is the value's own length.
    on(server)
        .codec(Codec::Raw)
        .max_value_bytes(LIMIT)
        .big_value_bytes(100_000)
        .op_timeout(PATIENT)
        .build()
        .unwrap()
}

#[tokio::test]
async fn every_verb_works_on_big_values() {
    let server = Redis::start();
    let cache = limited(&server);
    let big = "b".repeat(200_000);
    let value = || CacheValue::new(big.clone());
    let whole = |value: Option<CacheValue>| {
        value.map(|value| value.decode::<String>().unwrap()) == Some(big.clone())
    };
    assert!(!cache.replace("k", value(), Expiry::Never).await.unwrap());
    assert!(cache.add("k", value(), Expiry::Never).await.unwrap());
    assert!(!cache.add("k", value(), Expiry::Never).await.unwrap());
    assert_eq!(cache.expiry("k").await.unwrap(), Some(Expiry::Never));
    assert!(cache.replace("k", value(), Expiry::After(Duration::from_secs(60))).await.unwrap());
    assert!(
        matches!(cache.expiry("k").await.unwrap(), Some(Expiry::After(left)) if left > Duration::from_secs(50))
    );
    assert!(whole(cache.update_timeout("k", Expiry::Never).await.unwrap()));
    assert_eq!(cache.expiry("k").await.unwrap(), Some(Expiry::Never));
    assert!(whole(cache.get("k").await.unwrap()));
    assert!(whole(cache.take("k").await.unwrap()));
    assert!(!cache.contains("k").await.unwrap());
    // In a batch the order of one key's entries is kept, big or small.
    let small = || CacheValue::new("small");
    let entry = |key, value| Entry::new(key, value, Expiry::Never);
    let stored = cache
        .set_many(&[
            entry("k", small()),
            entry("k", value()),
            entry("k", small()),
            entry("l", small()),
            entry("l", value()),
        ])
        .await
        .unwrap();
    assert!(stored.iter().all(Result::is_ok));
    assert_eq!(text(&cache, "k").await.unwrap().as_deref(), Some("small"));
    assert_eq!(text(&cache, "l").await.unwrap(), Some(big.clone()));
    assert_eq!(server.int(&["DBSIZE"]), 2, "nothing is left on its way");
}

#[tokio::test]
async fn a_server_that_is_full_does_not_go_on_serving_the_older_value() {
    let server = Redis::start_with(&["--maxmemory-policy", "noeviction"]);
    let cache = on(&server).build().unwrap();
    put(&cache, "k", "older").await.unwrap();
    server.text(&["CONFIG", "SET", "maxmemory", "1"]);
    let error = put(&cache, "k", "newer").await.unwrap_err();
    println!("{error}");
    assert_eq!(error.kind(), ErrorKind::Backend);
    server.text(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(text(&cache, "k").await.unwrap(), None);
    put(&cache, "k", "newer").await.unwrap();
    assert_eq!(text(&cache, "k").await.unwrap().as_deref(), Some("newer"));
}

/// 64 MiB there and back again and again; small values beside them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_values_do_not_wait_for_big_ones() {
    let _turn = turn();
    let server = Redis::start();
    let cache = on(&server).codec(Codec::Raw).op_timeout(PATIENT).build().unwrap();
    for n in 0..16 {
        put(&cache, &format!("k{n}"), "small").await.unwrap();
    }
    let quiet = small_reads(&cache, &|reads| reads < 300).await;
    let (go, ahead) = (Arc::new(AtomicBool::new(true)), cache.clone());
    let big = {
        let go = go.clone();
        tokio::spawn(async move {
            let value = "b".repeat(64 << 20);
            let stored = CacheValue::new(value.clone());
            for _ in 0..3 {
                ahead.set("big", stored.clone(), Expiry::Default).await.unwrap();
                let found = ahead.get("big").await.unwrap().unwrap();
                assert_eq!(found.encoded_len(Codec::Raw).unwrap(), value.len());
            }
            go.store(false, Ordering::Relaxed);
        })
    };
    // How long the server itself stands still meanwhile, seen from a thread and a connection that
    // have nothing else to do.
    let server = Arc::new(server);
    let alone = {
        let (server, go) = (server.clone(), go.clone());
        std::thread::spawn(move || {
            let mut took = Vec::new();
            while go.load(Ordering::Relaxed) {
                let begun = Instant::now();
                server.text(&["PING"]);
                took.push(begun.elapsed());
                std::thread::sleep(Duration::from_millis(1));
            }
            took.sort();
            took
        })
    };
    let busy = small_reads(&cache, &|_| go.load(Ordering::Relaxed)).await;
    big.await.unwrap();
    let raw = tokio::task::spawn_blocking(move || alone.join().unwrap()).await.unwrap();
    for (how, took) in
        [("alone", &quiet), ("beside 64 MiB", &busy), ("beside 64 MiB, by the server alone", &raw)]
    {
        println!(
            "small reads {how}: {}, p50 {:?}, p95 {:?}, p99 {:?}, longest {:?}",
            took.len(),
            percentile(took, 0.5),
            percentile(took, 0.95),
            percentile(took, 0.99),
            percentile(took, 1.0)
        );
    }
    // The server itself stops while it copies 64 MiB. The test requires that no call waits for the
    // transfer.
    let (longest, still) = (percentile(&busy, 1.0), percentile(&raw, 1.0));
    assert!(
        longest <= still + Duration::from_millis(20) + noise(),
        "{longest:?}, and the server alone {still:?}"
    );
    assert!(
        percentile(&busy, 0.95) <= Duration::from_millis(20) + lateness(),
        "{:?}",
        percentile(&busy, 0.95)
    );
}

async fn small_reads(
    cache: &AsyncRedisCache,
    go: &(dyn Fn(usize) -> bool + Sync),
) -> Vec<Duration> {
    let mut took = Vec::new();
    while go(took.len()) {
        let begun = Instant::now();
        assert_eq!(
            text(cache, &format!("k{}", took.len() % 16)).await.unwrap().as_deref(),
            Some("small")
        );
        took.push(begun.elapsed());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    took.sort();
    took
}
