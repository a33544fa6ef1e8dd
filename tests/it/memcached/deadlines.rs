//! Far more callers than connections.

use super::{on, put, text};
use crate::support::Memcached;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Measures the effect of `pool_size`, beside the driver with sixteen connections of its own. It
/// prints figures and asserts nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn lanes() {
    let server = Memcached::start();
    let value = "x".repeat(100);
    for round in 0..3 {
        let mut figures = Vec::new();
        for tasks in [1, 16, 256] {
            for write in [false, true] {
                figures.push(bare(&server, tasks, write).await);
            }
        }
        println!(
            "round {round}, the bare driver: {figures:?} gets and sets a second with 1, 16, 256 \
             tasks"
        );
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

fn calls(tasks: usize) -> usize {
    if tasks == 1 { 5_000 } else { 60_000 }
}

async fn bare(server: &Memcached, tasks: usize, write: bool) -> u64 {
    use async_memcached::{AsciiProtocol, Client};
    let mut clients = Vec::new();
    for _ in 0..16 {
        let mut client = Client::new(format!("tcp://{}", server.addr())).await.unwrap();
        for n in 0..64 {
            client
                .set(format!("bare{n}"), "x".repeat(100).as_str(), Some(300), None)
                .await
                .unwrap();
        }
        clients.push(Arc::new(tokio::sync::Mutex::new(client)));
    }
    let begun = Instant::now();
    let mut callers = JoinSet::new();
    for task in 0..tasks {
        let client = clients[task % 16].clone();
        callers.spawn(async move {
            let value = "x".repeat(100);
            for n in 0..calls(tasks) / tasks {
                let key = format!("bare{}", (n + task) % 64);
                let mut client = client.lock().await;
                if write {
                    client.set(key, value.as_str(), Some(300), None).await.unwrap();
                } else {
                    client.get(key).await.unwrap();
                }
            }
        });
    }
    callers.join_all().await;
    (calls(tasks) as f64 / begun.elapsed().as_secs_f64()) as u64
}
