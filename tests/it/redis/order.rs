//! A write that timed out must not land after a later removal.

use super::{prefix, put};
use crate::support::{Proxy, Redis};
use larder::{AsyncCacheAdapter, AsyncRedisCache, CacheValue, ErrorKind, Expiry, RedisBuilder};
use std::time::Duration;
use tokio::task::JoinSet;

const PATIENCE: Duration = Duration::from_millis(25);
const TOGETHER: usize = 50;
const ROUNDS: usize = 20;

/// Begins writes that cannot arrive; returns how many timed out.
async fn write_into_nothing(cache: &AsyncRedisCache, round: usize, value: &str) -> usize {
    let mut writes = JoinSet::new();
    for n in 0..TOGETHER {
        let (cache, key, value) = (cache.clone(), format!("k{round}-{n}"), value.to_owned());
        writes.spawn(async move { cache.set(&key, CacheValue::new(value), Expiry::Never).await });
    }
    let outcomes = writes.join_all().await;
    outcomes.into_iter().filter(|outcome| matches!(outcome, Err(error) if error.kind() == ErrorKind::Timeout)).count()
}

/// Removes, again and again until each removal is acknowledged.
async fn remove_all(cache: &AsyncRedisCache, round: usize) {
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

/// Returns how many writes timed out, and how many old values came back.
async fn race(server: &Redis, big: bool) -> (usize, i64) {
    let proxy = Proxy::start(server.addr());
    let prefix = prefix();
    let builder = RedisBuilder::from_url(&proxy.url(server.url())).unwrap().prefix(&prefix).op_timeout(PATIENCE);
    let cache = builder.big_value_bytes(if big { 0 } else { 1 << 20 }).build().unwrap();
    let mut timed_out = 0;
    for round in 0..ROUNDS {
        while cache.connect().await.is_err() || (big && put(&cache, "warm", "up").await.is_err()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        proxy.hold();
        timed_out += write_into_nothing(&cache, round, "old").await;
        if round % 4 == 3 {
            // Long enough that the connection is thrown away with the writes under way.
            for _ in 0..3 {
                write_into_nothing(&cache, round, "old").await;
            }
        }
        proxy.release();
        remove_all(&cache, round).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut exists = vec!["EXISTS".to_owned()];
    exists.extend((0..ROUNDS).flat_map(|round| (0..TOGETHER).map(move |n| (round, n))).map(|(round, n)| format!("{prefix}k{round}-{n}")));
    (timed_out, server.int(&exists))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_timed_out_does_not_come_back() {
    let server = Redis::start();
    for big in [false, true] {
        let (timed_out, returned) = race(&server, big).await;
        println!("big {big}: {timed_out} writes timed out and were removed, {returned} old values 1 s later");
        assert_eq!(returned, 0);
        assert!(timed_out >= TOGETHER * ROUNDS * 9 / 10, "{timed_out}");
    }
}

/// The same for `clear`, which goes over a lane of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_after_a_clear() {
    let server = Redis::start();
    let proxy = Proxy::start(server.addr());
    let prefix = prefix();
    let builder = RedisBuilder::from_url(&proxy.url(server.url())).unwrap().prefix(&prefix);
    let cache = builder.op_timeout(Duration::from_millis(100)).build().unwrap();
    while cache.connect().await.is_err() {}
    proxy.hold();
    let timed_out = write_into_nothing(&cache, 0, "old").await;
    // Freed slowly: without care the clear would overtake.
    proxy.delay(Duration::from_millis(20), Duration::ZERO);
    proxy.release();
    while cache.clear("").await.is_err() {}
    let left = server.text(&["DBSIZE"]);
    tokio::time::sleep(Duration::from_millis(500)).await;
    println!("{timed_out} writes timed out, {left} keys after the clear, {} half a second later", server.text(&["DBSIZE"]));
    assert_eq!(server.int(&["DBSIZE"]), 0);
    assert!(timed_out > 0);
}
