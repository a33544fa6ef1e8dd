//! Far more callers than connections.

use super::{on, percentile, put, soak, text, value_of};
use crate::support::{Proxy, Redis};
use larder::RedisBuilder;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// A hundred callers a connection for a while, over a path with a latency: each is answered by its deadline.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_callers_a_connection() {
    let server = Redis::start();
    let proxy = Proxy::start(server.addr());
    proxy.delay(Duration::from_millis(2), Duration::from_millis(2));
    let deadline = Duration::from_secs(1);
    let builder = RedisBuilder::from_url(&proxy.url(server.url())).unwrap().pool_size(2).op_timeout(deadline);
    let cache = Arc::new(builder.build().unwrap());
    for n in 0..20 {
        let key = format!("k{n}");
        put(&cache, &key, &value_of(&key)).await.unwrap();
    }
    let until = Instant::now() + Duration::from_secs(if soak() { 10 } else { 2 });
    let mut callers = JoinSet::new();
    for n in 0..200 {
        let (cache, key) = (cache.clone(), format!("k{}", n % 20));
        callers.spawn(async move {
            let mut took = Vec::new();
            while Instant::now() < until {
                let begun = Instant::now();
                assert_eq!(text(&cache, &key).await.unwrap(), Some(value_of(&key)));
                took.push(begun.elapsed());
            }
            took
        });
    }
    let mut took: Vec<Duration> = callers.join_all().await.into_iter().flatten().collect();
    took.sort();
    println!(
        "200 callers on 2 connections: {} calls, p50 {:?}, p99 {:?}, longest {:?}, {} connections",
        took.len(),
        percentile(&took, 0.5),
        percentile(&took, 0.99),
        percentile(&took, 1.0),
        proxy.accepted()
    );
    assert!(percentile(&took, 1.0) <= deadline + Duration::from_millis(100));
    assert!(proxy.accepted() <= 2);
}

/// Measures what `pool_size` is worth; prints, and promises nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, which promises nothing"]
async fn lanes() {
    let server = Redis::start();
    for round in 0..3 {
        for pool_size in [1, 2, 3, 4, 8] {
            let cache = on(&server).pool_size(pool_size).op_timeout(Duration::from_secs(5)).build().unwrap();
            for n in 0..64 {
                put(&cache, &format!("k{n}"), &"x".repeat(100)).await.unwrap();
            }
            let mut figures = Vec::new();
            for tasks in [1, 16, 256] {
                let calls = if tasks == 1 { 5_000 } else { 60_000 };
                let begun = Instant::now();
                let mut callers = JoinSet::new();
                for task in 0..tasks {
                    let cache = cache.clone();
                    callers.spawn(async move {
                        for n in 0..calls / tasks {
                            text(&cache, &format!("k{}", (n + task) % 64)).await.unwrap();
                        }
                    });
                }
                callers.join_all().await;
                figures.push((calls as f64 / begun.elapsed().as_secs_f64()) as u64);
            }
            println!("round {round}, pool_size {pool_size}: {figures:?} gets a second with 1, 16, 256 tasks");
        }
    }
}
