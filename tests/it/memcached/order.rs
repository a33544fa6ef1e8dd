//! A write that timed out must not land after a later removal.

use super::{on, patient, prefix, through};
use crate::support::{Memcached, Proxy};
use larder::{AsyncCacheAdapter, AsyncMemcachedCache, CacheValue, ErrorKind, Expiry};
use std::time::Duration;
use tokio::task::JoinSet;

const PATIENCE: Duration = Duration::from_millis(25);
const TOGETHER: usize = 50;
const ROUNDS: usize = 20;

/// Begins writes that cannot arrive; returns how many timed out.
async fn write_into_nothing(cache: &AsyncMemcachedCache, round: usize, value: &str) -> usize {
    let mut writes = JoinSet::new();
    for n in 0..TOGETHER {
        let (cache, key, value) = (cache.clone(), format!("k{round}-{n}"), value.to_owned());
        writes.spawn(async move { cache.set(&key, CacheValue::new(value), Expiry::Never).await });
    }
    let outcomes = writes.join_all().await;
    outcomes.into_iter().filter(|outcome| matches!(outcome, Err(error) if error.kind() == ErrorKind::Timeout)).count()
}

/// Removes, again and again until each removal is acknowledged.
async fn remove_all(cache: &AsyncMemcachedCache, round: usize) {
    let mut removals = JoinSet::new();
    for n in 0..TOGETHER {
        let (cache, key) = (cache.clone(), format!("k{round}-{n}"));
        removals.spawn(async move {
            while cache.remove(&key).await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
    }
    removals.join_all().await;
}

/// Long enough that connections are thrown away with the writes under way, in every other round.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_timed_out_does_not_come_back() {
    let server = Memcached::start();
    let proxy = Proxy::start(server.addr());
    let prefix = prefix();
    // Another instance, as of another process, and with more patience.
    let witness = patient(on(&server).prefix(&prefix));
    let cache = through(&proxy).prefix(&prefix).op_timeout(PATIENCE).build().unwrap();
    let mut timed_out = 0;
    for round in 0..ROUNDS {
        while cache.connect().await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        proxy.hold();
        timed_out += write_into_nothing(&cache, round, "old").await;
        if round % 2 == 1 {
            for _ in 0..3 {
                write_into_nothing(&cache, round, "old").await;
            }
        }
        proxy.release();
        remove_all(&cache, round).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let keys: Vec<String> = (0..ROUNDS).flat_map(|round| (0..TOGETHER).map(move |n| format!("k{round}-{n}"))).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let found = witness.get_many(&keys).await.unwrap();
    let returned = found.into_iter().filter(|found| found.as_ref().unwrap().is_some()).count();
    println!("{timed_out} writes timed out and were removed, {returned} old values 1 s later");
    assert_eq!(returned, 0);
    assert!(timed_out >= TOGETHER * ROUNDS * 9 / 10, "{timed_out}");
}

/// The same over a path that holds bytes for longer than anybody waits, without a hold: each write times out, each removal is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_over_a_slow_path() {
    let server = Memcached::start();
    let proxy = Proxy::start(server.addr());
    let prefix = prefix();
    let witness = patient(on(&server).prefix(&prefix));
    let cache = through(&proxy).prefix(&prefix).op_timeout(Duration::from_millis(50)).build().unwrap();
    while cache.connect().await.is_err() {}
    proxy.delay(Duration::from_millis(60), Duration::ZERO);
    let timed_out = write_into_nothing(&cache, 0, "old").await;
    proxy.delay(Duration::ZERO, Duration::ZERO);
    remove_all(&cache, 0).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    for n in 0..TOGETHER {
        assert!(!witness.contains(&format!("k0-{n}")).await.unwrap());
    }
    println!("{timed_out} writes timed out over a slow path, 0 old values");
    assert!(timed_out > TOGETHER / 2, "{timed_out}");
}

/// The same for `clear`, which goes over one lane only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_after_a_clear() {
    let server = Memcached::start();
    let proxy = Proxy::start(server.addr());
    let prefix = prefix();
    let witness = patient(on(&server).prefix(&prefix));
    let cache = through(&proxy).prefix(&prefix).op_timeout(Duration::from_millis(100)).build().unwrap();
    while cache.connect().await.is_err() {}
    proxy.hold();
    let timed_out = write_into_nothing(&cache, 0, "old").await;
    proxy.delay(Duration::from_millis(20), Duration::ZERO);
    proxy.release();
    while cache.clear("").await.is_err() {}
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut left = 0;
    for n in 0..TOGETHER {
        left += usize::from(witness.contains(&format!("k0-{n}")).await.unwrap());
    }
    println!("{timed_out} writes timed out, {left} of them there half a second after a clear");
    assert_eq!(left, 0);
    assert!(timed_out > 0);
}
