//! Writes that were given up and may still take effect: the protection against them ends with them,
//! and affects no other value.

use super::{CODECS, on, patient, prefix};
use crate::remote::order::race;
use crate::remote::{Cache, PATIENT};
use crate::support::noise::noise;
use crate::support::turns::turn;
use crate::support::{Memcached, Proxy, eventually};
use larder::{AsyncCacheAdapter, AsyncMemcachedCache, CacheValue, Codec, Entry, Expiry};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The length, in bytes, of the clear logs on a server.
fn log_bytes(server: &Memcached) -> usize {
    let logs = server.keys().into_iter().filter(|key| key.starts_with("~r"));
    logs.filter_map(|key| server.get(&key)).map(|log| log.len()).sum()
}

async fn set_all(cache: &AsyncMemcachedCache, keys: &[String], value: &str) -> usize {
    let entry = |key| Entry::new(key, CacheValue::new(value.to_owned()), Expiry::Never);
    let entries: Vec<Entry<'_>> = keys.iter().map(|key| entry(key)).collect();
    cache.set_many(&entries).await.unwrap().iter().filter(|stored| stored.is_ok()).count()
}

async fn count_live(cache: &AsyncMemcachedCache, keys: &[String]) -> usize {
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let found = cache.get_many(&keys).await.unwrap();
    found.into_iter().filter(|found| matches!(found, Ok(Some(_)))).count()
}

/// Writes batches of new keys until a signal, and returns how many of the writes failed.
async fn write_batches(cache: &AsyncMemcachedCache, stop: &AtomicBool) -> usize {
    let (mut failed, mut round) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        let keys: Vec<String> = (0..2_000).map(|n| format!("written-{round}-{n}")).collect();
        failed += keys.len() - set_all(cache, &keys, &"v".repeat(300)).await;
        round += 1;
    }
    failed
}

/// A server that freezes for 0.7 s in the middle of a `set_many`, again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_freezes_loses_no_key_that_was_not_written() {
    let _turn = turn();
    for codec in CODECS {
        let server = Memcached::start_with(&["-m", "512"]);
        let prefix = prefix();
        let builder = || on(&server).prefix(&prefix).codec(codec);
        let cache = builder().op_timeout(Duration::from_millis(250)).build().unwrap();
        let witness = patient(builder());
        let untouched: Vec<String> = (0..2_000).map(|n| format!("untouched-{n}")).collect();
        assert_eq!(set_all(&witness, &untouched, "kept").await, untouched.len());
        let stop = AtomicBool::new(false);
        let freezes = async {
            let mut longest = 0;
            for _ in 0..8 {
                tokio::time::sleep(Duration::from_millis(300)).await;
                server.freeze();
                tokio::time::sleep(Duration::from_millis(700)).await;
                server.thaw();
                tokio::time::sleep(Duration::from_millis(50)).await;
                longest = longest.max(log_bytes(&server));
            }
            stop.store(true, Ordering::Relaxed);
            longest
        };
        let (failed, longest) = tokio::join!(write_batches(&cache, &stop), freezes);
        println!(
            "{codec}: {failed} writes failed in 8 freezes, the clear log had up to {longest} bytes"
        );
        assert!(failed > 0);
        assert!(longest < 1_000, "{longest}");
        assert_eq!(count_live(&witness, &untouched).await, untouched.len(), "{codec}");
        let lanes: Vec<String> = (0..8).map(|n| format!("lane-{n}")).collect();
        eventually("what kept the late writes off is taken back", PATIENT, || async {
            set_all(&cache, &lanes, "v").await == lanes.len() && log_bytes(&server) < 40
        })
        .await;
        assert_eq!(count_live(&witness, &untouched).await, untouched.len(), "{codec}");
    }
}

/// Every verb that writes, on 64 long keys at a time, until a signal. Returns how many calls failed.
async fn write_by_every_verb(cache: &AsyncMemcachedCache, stop: &AtomicBool) -> usize {
    let (mut failed, mut round) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        let call = |n: usize| async move {
            let key = format!("{}{round}-{n}", "long ".repeat(40));
            let value = || CacheValue::new("v".repeat(300));
            match n % 8 {
                0 => cache.set(&key, value(), Expiry::Never).await,
                1 => cache.add(&key, value(), Expiry::Never).await.map(drop),
                2 => cache.replace(&key, value(), Expiry::Never).await.map(drop),
                3 => cache.incr(&key, 1, Expiry::Never).await.map(drop),
                4 => cache.touch(&key, Duration::from_secs(60).into()).await.map(drop),
                5 => cache.remove(&key).await.map(drop),
                6 => cache.take(&key).await.map(drop),
                _ => match cache.claim(&key, None).await {
                    Ok(Some(claim)) => {
                        cache.set_claimed(&key, value(), Expiry::Never, &claim).await.map(drop)
                    }
                    claim => claim.map(drop),
                },
            }
        };
        let calls = futures_util::future::join_all((0..64).map(call)).await;
        failed += calls.iter().filter(|answer| answer.is_err()).count();
        round += 1;
    }
    failed
}

/// Two instances that write by all verbs, one of which has a connection for each key, while the
/// server freezes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_by_any_verb_of_any_instance() {
    let _turn = turn();
    for codec in CODECS {
        let server = Memcached::start_with(&["-m", "512"]);
        let prefix = prefix();
        let builder = || on(&server).prefix(&prefix).codec(codec);
        let hurried = |lanes| builder().op_timeout(Duration::from_millis(100)).pool_size(lanes);
        let [one, other] = [1, 8].map(|lanes| hurried(lanes).build().unwrap());
        let witness = patient(builder());
        let neighbour = patient(on(&server).codec(codec));
        let untouched: Vec<String> = (0..500).map(|n| format!("untouched-{n}")).collect();
        for cache in [&witness, &neighbour] {
            assert_eq!(set_all(cache, &untouched, "kept").await, untouched.len());
        }
        let stop = AtomicBool::new(false);
        let freezes = async {
            let mut longest = 0;
            for _ in 0..6 {
                tokio::time::sleep(Duration::from_millis(150)).await;
                server.freeze();
                tokio::time::sleep(Duration::from_millis(400)).await;
                server.thaw();
                tokio::time::sleep(Duration::from_millis(50)).await;
                longest = longest.max(log_bytes(&server));
            }
            stop.store(true, Ordering::Relaxed);
            longest
        };
        let (failed, others, longest) = tokio::join!(
            write_by_every_verb(&one, &stop),
            write_by_every_verb(&other, &stop),
            freezes
        );
        println!("{codec}: {failed} and {others} calls failed, the clear logs had {longest} bytes");
        assert!(failed > 0 && others > 0);
        assert!(longest < 2_000, "{longest}");
        for cache in [&witness, &neighbour] {
            assert_eq!(count_live(cache, &untouched).await, untouched.len(), "{codec}");
        }
        let lanes: Vec<String> = (0..64).map(|n| format!("lane-{n}")).collect();
        eventually("what kept the late writes off is taken back", PATIENT, || async {
            let mut all = 0;
            for cache in [&one, &other] {
                all += set_all(cache, &lanes, "v").await;
            }
            all == 2 * lanes.len() && log_bytes(&server) < 80
        })
        .await;
    }
}

/// The codecs without stamps keep the same promise: a removal that was acknowledged is final.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_without_a_stamp_that_timed_out_does_not_come_back() {
    let _turn = turn();
    for codec in [Codec::Json, Codec::Raw] {
        let server = Memcached::start();
        let proxy = Proxy::start(server.addr());
        let prefix = prefix();
        let witness: Cache = Arc::new(patient(on(&server).prefix(&prefix).codec(codec)));
        let builder = AsyncMemcachedCache::builder().server(proxy.addr().to_string());
        let builder = builder.prefix(&prefix).codec(codec).op_timeout(Duration::from_millis(25));
        let cache: Cache = Arc::new(builder.build().unwrap());
        race(&cache, &proxy, &witness, &format!("memcached, {codec}")).await;
    }
}

/// A clear is final as well, over all lanes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_after_a_clear_without_a_stamp() {
    let _turn = turn();
    for codec in CODECS {
        let server = Memcached::start();
        let proxy = Proxy::start(server.addr());
        let prefix = prefix();
        let witness = patient(on(&server).prefix(&prefix).codec(codec));
        let builder = AsyncMemcachedCache::builder().server(proxy.addr().to_string());
        let builder = builder.prefix(&prefix).codec(codec).pool_size(4);
        let cache = builder.op_timeout(Duration::from_millis(100)).build().unwrap();
        let keys: Vec<String> = (0..200).map(|n| format!("k{n}")).collect();
        let (mut late, mut rounds) = (0, 0);
        while late < 1_000 && rounds < 50 {
            rounds += 1;
            eventually("writes get through", PATIENT, || async {
                set_all(&cache, &keys, "first").await == keys.len()
            })
            .await;
            proxy.hold();
            late += keys.len() - set_all(&cache, &keys, "late").await;
            proxy.delay(Duration::from_millis(20), Duration::ZERO);
            proxy.release();
            eventually("the clear is acknowledged", PATIENT, || async {
                cache.clear("").await.is_ok()
            })
            .await;
            // Writes in flight arrive within this time.
            tokio::time::sleep(Duration::from_millis(300) + noise() / 10).await;
            proxy.delay(Duration::ZERO, Duration::ZERO);
            assert_eq!(count_live(&witness, &keys).await, 0, "{codec}, round {rounds}");
        }
        assert!(late > 0, "{codec}");
    }
}
