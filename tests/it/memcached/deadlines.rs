//! Far more callers than connections.

use super::{on, put, text};
use crate::support::Memcached;
use larder::AsyncCacheAdapter;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Measures the effect of `pool_size`. It prints figures and asserts nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn lanes() {
    let server = Memcached::start();
    let value = "x".repeat(100);
    for round in 0..3 {
        for pool_size in [1, 2, 4, 8] {
            let cache = on(&server)
                .pool_size(pool_size)
                .op_timeout(Duration::from_secs(5))
                .build()
                .unwrap();
            for n in 0..64 {
                put(&cache, &format!("k{n}"), &value).await.unwrap();
            }
            let mut figures = Vec::new();
            for tasks in [1, 16, 256] {
                for write in [false, true] {
                    let calls = calls(tasks);
                    let begun = Instant::now();
                    let mut callers = JoinSet::new();
                    for task in 0..tasks {
                        let (cache, value) = (cache.clone(), value.clone());
                        callers.spawn(async move {
                            for n in 0..calls / tasks {
                                let key = format!("k{}", (n + task) % 64);
                                if write {
                                    put(&cache, &key, &value).await.unwrap();
                                } else {
                                    text(&cache, &key).await.unwrap();
                                }
                            }
                        });
                    }
                    callers.join_all().await;
                    figures.push((calls as f64 / begun.elapsed().as_secs_f64()) as u64);
                }
            }
            println!("round {round}, pool_size {pool_size}: {figures:?}");
        }
    }
}

/// A deadline beyond what the clock can express is a long one.
#[tokio::test]
async fn the_longest_deadline_overflows_nothing() {
    let cache = on(Memcached::shared()).op_timeout(Duration::MAX).build().unwrap();
    put(&cache, "k", "v").await.unwrap();
    assert_eq!(text(&cache, "k").await.unwrap().as_deref(), Some("v"));
    cache.clear("").await.unwrap();
}

fn calls(tasks: usize) -> usize {
    if tasks == 1 { 5_000 } else { 60_000 }
}
