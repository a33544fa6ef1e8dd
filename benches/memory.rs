//! Hits in memory: larder beside its peers, in one process, in interleaved rounds.
//!
//! `cargo bench --bench memory`. Criterion runs one contestant after another, and on a noisy machine the noise lands on one of
//! them; here every round runs all of them, the medians are compared, and the ratio is what counts.

use larder::{AsyncMemoryCache, async_adapter_set, async_cached, cached};
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

const ROUNDS: usize = 31;
const GETS: usize = 200_000;
const TTL: Duration = Duration::from_secs(3_600);

#[derive(Clone, Debug, Serialize, Deserialize)]
struct User {
    id: u64,
    name: String,
    mail: String,
    age: u32,
    active: bool,
}

impl User {
    fn new(id: usize) -> Self {
        Self { id: id as u64, name: format!("user {id}"), mail: format!("user{id}@example.org"), age: 42, active: true }
    }
}

/// Per-entry expiry for moka, as larder has it.
struct Hour;

impl<K, V> moka::Expiry<K, V> for Hour {
    fn expire_after_create(&self, _: &K, _: &V, _: Instant) -> Option<Duration> {
        Some(TTL)
    }
}

/// Which keys are asked for, in which order.
struct Load {
    name: &'static str,
    keys: Vec<String>,
    order: Vec<usize>,
}

impl Load {
    fn hot() -> Self {
        Self { name: "1k hot keys", keys: keys(1_000), order: (0..GETS).map(|_| fastrand::usize(..1_000)).collect() }
    }

    fn zipf() -> Self {
        const KEYS: usize = 100_000;
        let weights: Vec<f64> = (1..=KEYS).map(|rank| (rank as f64).powf(-0.99)).collect();
        let mut sums = weights.clone();
        for at in 1..KEYS {
            sums[at] += sums[at - 1];
        }
        let total = sums[KEYS - 1];
        let order = (0..GETS).map(|_| sums.partition_point(|sum| *sum < fastrand::f64() * total).min(KEYS - 1)).collect();
        Self { name: "100k keys, Zipf 0.99", keys: keys(KEYS), order }
    }
}

fn keys(count: usize) -> Vec<String> {
    (0..count).map(|key| format!("some/key/{key}")).collect()
}

/// Ready futures need no runtime: one poll, the same for everybody.
fn ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a hit in memory is ready at once"),
    }
}

type Contestant<'a> = (&'static str, Box<dyn FnMut(&str) + 'a>);

/// Runs the contestants in turn, round after round, and prints the medians and what they are to the first.
fn compare(title: &str, load: &Load, mut contestants: Vec<Contestant<'_>>) {
    println!("\n{title}, {}", load.name);
    let mut times = vec![Vec::with_capacity(ROUNDS); contestants.len()];
    for _ in 0..ROUNDS {
        for ((_, get), times) in contestants.iter_mut().zip(&mut times) {
            let begun = Instant::now();
            for at in &load.order {
                get(&load.keys[*at]);
            }
            times.push(begun.elapsed().as_nanos() as f64 / load.order.len() as f64);
        }
    }
    let medians: Vec<f64> = times.iter_mut().map(|times| median(times)).collect();
    for ((name, _), median) in contestants.iter().zip(&medians) {
        println!("  {name:<44} {median:>8.1} ns   {:>5.2} x larder", median / medians[0]);
    }
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn shared_values(load: &Load) {
    let quick = quick_cache::sync::Cache::new(1 << 18);
    let moka_sync = moka::sync::Cache::builder().max_capacity(1 << 18).expire_after(Hour).build();
    let moka_future = moka::future::Cache::builder().max_capacity(1 << 18).expire_after(Hour).build();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        for (id, key) in load.keys.iter().enumerate() {
            let user = Arc::new(User::new(id));
            async_cached().ttl(TTL).set(key, user.clone()).await.expect("set");
            quick.insert(key.clone(), user.clone());
            moka_sync.insert(key.clone(), user.clone());
            moka_future.insert(key.clone(), user).await;
        }
    });
    let contestants: Vec<Contestant<'_>> = vec![
        ("larder, async_cached().get", Box::new(|key| drop(black_box(ready(async_cached().get::<Arc<User>>(key)))))),
        ("larder, cached().get (blocking)", Box::new(|key| drop(black_box(cached().get::<Arc<User>>(key))))),
        (
            "larder, get_or_set_async (hit)",
            Box::new(|key| drop(black_box(ready(async_cached().get_or_set_async(key, async { Arc::new(User::new(0)) }))))),
        ),
        ("quick_cache::sync (no expiry)", Box::new(|key| drop(black_box(quick.get(key))))),
        ("moka::sync (per-entry expiry)", Box::new(|key| drop(black_box(moka_sync.get(key))))),
        ("moka::future (per-entry expiry)", Box::new(|key| drop(black_box(ready(moka_future.get(key)))))),
    ];
    compare("get of an Arc<User>", load, contestants);
}

fn owned_values(load: &Load) {
    let quick = quick_cache::sync::Cache::new(1 << 18);
    let moka_sync = moka::sync::Cache::builder().max_capacity(1 << 18).expire_after(Hour).build();
    for (id, key) in load.keys.iter().enumerate() {
        cached().ttl(TTL).set(key, User::new(id)).expect("set");
        quick.insert(key.clone(), User::new(id));
        moka_sync.insert(key.clone(), User::new(id));
    }
    let contestants: Vec<Contestant<'_>> = vec![
        ("larder, async_cached().get", Box::new(|key| drop(black_box(ready(async_cached().get::<User>(key)))))),
        ("quick_cache::sync (no expiry)", Box::new(|key| drop(black_box(quick.get(key))))),
        ("moka::sync (per-entry expiry)", Box::new(|key| drop(black_box(moka_sync.get(key))))),
    ];
    compare("get of an owned User (five fields)", load, contestants);
}

fn main() {
    fastrand::seed(7);
    async_adapter_set(AsyncMemoryCache::builder().max_entries(1 << 18).max_bytes(1 << 30).build()).expect("memory");
    for load in [Load::hot(), Load::zipf()] {
        shared_values(&load);
    }
    owned_values(&Load::hot());
}
