//! One cache, four backends, exchanged all the time.
#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

use crate::support::alone::alone;
use crate::support::{Memcached, Redis};
use larder::{
    AsyncCacheAdapter, AsyncCacheWrapper, AsyncMemcachedCache, AsyncMemoryCache, AsyncRedisCache,
    AsyncSqliteCache,
};
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

const TASKS: u64 = 16;
const KEYS: u64 = 200;

/// A deadline that a busy machine keeps: here a late answer would be a failure.
const SETTINGS: &str = "prefix=swap:&op_timeout=60s";

fn value_of(key: u64) -> String {
    format!("value of {key}")
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

fn adapter(turn: usize, dir: &std::path::Path) -> Arc<dyn AsyncCacheAdapter> {
    match turn % 4 {
        0 => Arc::new(AsyncMemoryCache::new()),
        1 => Arc::new(
            AsyncSqliteCache::from_url(&format!(
                "sqlite:{}?{SETTINGS}",
                dir.join("swap.db").display()
            ))
            .unwrap(),
        ),
        2 => Arc::new(
            AsyncRedisCache::from_url(&format!("{}?{SETTINGS}", Redis::shared().url())).unwrap(),
        ),
        _ => Arc::new(
            AsyncMemcachedCache::from_url(&format!("{}?{SETTINGS}", Memcached::shared().url()))
                .unwrap(),
        ),
    }
}

async fn work(cache: AsyncCacheWrapper, task: u64, stop: Arc<AtomicBool>, done: Arc<AtomicU64>) {
    let mut random = fastrand::Rng::with_seed(task);
    while !stop.load(Ordering::Relaxed) {
        let number = random.u64(..KEYS);
        let (key, value) = (format!("k{number}"), value_of(number));
        match random.u8(..10) {
            0 | 1 => cache.set(&key, value).await.unwrap(),
            2 => drop(cache.remove(&key).await.unwrap()),
            3 => assert_eq!(
                cache.get_or_set_async(&key, async move { value_of(number) }).await.unwrap(),
                value
            ),
            4 => drop(cache.incr(format!("count{task}"), 1).await.unwrap()),
            _ => {
                let found = cache.get::<String>(&key).await.unwrap();
                assert!(
                    found.is_none_or(|found| found == value),
                    "another key's value under {key}"
                );
            }
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn four_backends_exchanged_under_load() {
    alone("swap::four_backends_exchanged_under_load", || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
            .block_on(exchanged_under_load());
    });
}

async fn exchanged_under_load() {
    let dir = tempfile::tempdir().unwrap();
    let operations = if std::env::var_os("LARDER_SOAK").is_some() { 1_000_000 } else { 40_000 };
    // The shared servers, and one connection to each, are no leak of a swap's.
    let cache = AsyncCacheWrapper::new(adapter(0, dir.path())).unwrap();
    for turn in 1..=4 {
        cache.set_adapter(adapter(turn, dir.path())).unwrap();
        cache.set("warm", 1).await.unwrap();
    }
    let before = descriptors();

    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| tokio::spawn(work(cache.clone(), task, stop.clone(), done.clone())))
        .collect();
    let mut old: Vec<Weak<dyn AsyncCacheAdapter>> = Vec::new();
    let (mut turn, mut slowest_swap) = (0, Duration::ZERO);
    while done.load(Ordering::Relaxed) < operations
        && !tasks.iter().any(tokio::task::JoinHandle::is_finished)
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
        turn += 1;
        let next = adapter(turn, dir.path());
        let begun = Instant::now();
        old.push(Arc::downgrade(&cache.swap_adapter(next).unwrap()));
        slowest_swap = slowest_swap.max(begun.elapsed());
    }
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    cache.set_adapter("memory").unwrap();
    let freed = async || old.iter().all(|adapter| adapter.strong_count() == 0);
    crate::support::eventually("old adapters are freed", Duration::from_secs(60), freed).await;
    let closed = async || descriptors() <= before + 5;
    crate::support::eventually("their descriptors are closed", Duration::from_secs(60), closed)
        .await;
    println!(
        "{} operations over {turn} swaps among four backends: 0 failed, 0 wrong; slowest swap {slowest_swap:?}; descriptors {before} -> {}",
        done.load(Ordering::Relaxed),
        descriptors()
    );
}
