//! Far more callers than connections.

use super::{on, put, text};
use crate::support::Redis;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Measures what `pool_size` is worth; prints, and promises nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, which promises nothing"]
async fn lanes() {
    let server = Redis::start();
    for round in 0..3 {
        for pool_size in [1, 2, 3, 4, 8] {
            let cache = on(&server)
                .pool_size(pool_size)
                .op_timeout(Duration::from_secs(5))
                .build()
                .unwrap();
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
            println!(
                "round {round}, pool_size {pool_size}: {figures:?} gets a second with 1, 16, 256 tasks"
            );
        }
    }
}
