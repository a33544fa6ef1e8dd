//! What this test binary does as another process. The test here is its way in; without a role it
//! has nothing to do.

use super::{KEY, now};
use crate::support::lock;
use crate::support::noise::{noise, watch};
use larder::AsyncCacheWrapper;
use std::io::{BufRead, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

#[test]
fn entry() {
    let Ok(role) = std::env::var("LARDER_CLAIMS_CHILD") else { return };
    watch();
    let url = std::env::var("LARDER_CLAIMS_URL").expect("a child process needs an address");
    let number = std::env::var("LARDER_CLAIMS_NUMBER").expect("a child process needs a number");
    let number: u64 = number.parse().unwrap();
    let lease = Duration::from_millis(number);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let cache = AsyncCacheWrapper::new(url.as_str()).unwrap();
    match role.as_str() {
        "many" => runtime.block_on(many(cache.with_lease(lease))),
        "hold" => runtime.block_on(hold(cache.with_lease(lease))),
        "load" => runtime.block_on(load(cache, number)),
        other => panic!("no such role: {other}"),
    }
}

fn say(line: &str) {
    println!("{line}");
    std::io::stdout().flush().unwrap();
}

/// Waits for a word of the parent process; the death of the parent is one too.
fn wait_for_a_word() {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).unwrap();
}

/// 250 tasks that want the same key.
async fn many(cache: AsyncCacheWrapper) {
    cache.get::<u64>("warm").await.unwrap();
    say("ready");
    tokio::task::spawn_blocking(wait_for_a_word).await.unwrap();
    let begun = Instant::now();
    let runs = Arc::new(AtomicU64::new(0));
    let loaded = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = JoinSet::new();
    for _ in 0..250 {
        let (cache, runs, loaded) = (cache.clone(), runs.clone(), loaded.clone());
        tasks.spawn(async move {
            let loader = async move {
                let from = begun.elapsed();
                runs.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(300)).await;
                lock(&loaded).push((from, begun.elapsed()));
                u64::from(std::process::id())
            };
            cache.get_or_set_async(KEY, loader).await.unwrap()
        });
    }
    let values = tasks.join_all().await;
    let answered = begun.elapsed();
    assert_eq!(values.len(), 250);
    assert!(values.iter().all(|value| *value == values[0]), "{values:?}");
    // The times are for who reads why a test failed.
    say(&format!(
        "done {} {} {} loaded {:?}, answered after {answered:?}",
        runs.load(Ordering::SeqCst),
        values[0],
        noise().as_millis(),
        lock(&loaded)
    ));
}

/// Begins to compute, and never ends.
async fn hold(cache: AsyncCacheWrapper) {
    let loader = async {
        say("loading");
        std::future::pending::<u64>().await
    };
    cache.get_or_set_async(KEY, loader).await.unwrap();
}

/// Loads what is missing, over and over. A value is the time at which its load began.
async fn load(cache: AsyncCacheWrapper, enough: u64) {
    let loads = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for task in 0..8 {
        let (cache, loads) = (cache.clone(), loads.clone());
        tasks.spawn(async move {
            for turn in task.. {
                let loads = loads.clone();
                let loader = async move {
                    let begun = now();
                    if loads.fetch_add(1, Ordering::SeqCst) + 1 == enough {
                        say("enough");
                    }
                    for _ in 0..fastrand::u8(..8) {
                        tokio::task::yield_now().await;
                    }
                    if fastrand::u8(..8) == 0 {
                        tokio::time::sleep(Duration::from_micros(fastrand::u64(..500))).await;
                    }
                    begun
                };
                cache.get_or_set_async(super::key(turn), loader).await.unwrap();
                // A hit may never have had to wait.
                tokio::task::yield_now().await;
            }
        });
    }
    say("loading");
    tokio::task::spawn_blocking(wait_for_a_word).await.unwrap();
    tasks.shutdown().await;
    say(&format!("done {} 0 {}", loads.load(Ordering::SeqCst), noise().as_millis()));
}
