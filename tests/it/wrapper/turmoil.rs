//! Everything at once.

use super::fresh;
use crate::trials::{eventually, rng, trials};
use larder::{AsyncCacheAdapter, AsyncCacheWrapper, AsyncMemoryCache, Expiry, Result};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

const KEYS: u64 = 200;

/// A value from which a test sees whether it is complete, and to which key it belongs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Whole {
    key: u64,
    salt: u64,
    words: Vec<u64>,
}

impl Whole {
    fn of(key: u64, salt: u64) -> Self {
        Self { key, salt, words: (0..8).map(|at| key ^ salt.rotate_left(at)).collect() }
    }

    fn check(&self, key: u64) {
        assert_eq!(*self, Self::of(key, self.salt), "another key's value, or parts of two");
    }
}

async fn operation(cache: &AsyncCacheWrapper, rng: &mut fastrand::Rng) -> Result<()> {
    let (key, salt) = (rng.u64(..KEYS), rng.u64(..));
    let name = format!("k{key}");
    match rng.u8(..20) {
        0..8 => drop(cache.get::<Whole>(&name).await?.inspect(|found| found.check(key))),
        8..11 => cache.set(&name, Whole::of(key, salt)).await?,
        11 => drop(cache.remove(&name).await?),
        12 => cache.get_or_set(&name, Whole::of(key, salt)).await?.check(key),
        13 => cache.get_or_set_with(&name, |_| Whole::of(key, salt)).await?.check(key),
        14 => {
            let loader = async move {
                tokio::task::yield_now().await;
                Whole::of(key, salt)
            };
            cache.get_or_set_async(&name, loader).await?.check(key);
        }
        15 => drop(cache.incr(format!("counter {}", key % 10), 1).await?),
        16 => drop(cache.take::<Whole>(&name).await?.inspect(|found| found.check(key))),
        17 => {
            let keys = [key, (key + 1) % KEYS, (key + 2) % KEYS];
            let found = cache.get_many::<Whole, _>(keys.map(|key| format!("k{key}"))).await?;
            keys.iter()
                .zip(found)
                .for_each(|(key, found)| drop(found.inspect(|found| found.check(*key))));
            cache.set_many(keys.map(|key| (format!("k{key}"), Whole::of(key, salt)))).await?;
        }
        18 => {
            cache.touch(&name, Expiry::Never).await?;
            cache.contains(&name).await?;
            cache.expiry(&name).await?;
            cache.ttl(Duration::from_millis(1)).add(&name, Whole::of(key, salt)).await?;
        }
        _ if salt.is_multiple_of(50) => cache.namespace(format!("n{}", key % 3)).clear().await?,
        _ => {
            let space = cache.namespace(format!("n{}", key % 3));
            space.get_or_set(&name, Whole::of(key, salt)).await?.check(key);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_million_operations_over_a_thousand_swaps() {
    const TASKS: usize = 8;
    const SWAPS: usize = 1_000;
    let mut seeds = rng("a_million_operations_over_a_thousand_swaps");
    let cache = fresh();
    let each = trials(20_000, 125_000);
    let done = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let (cache, mut rng) = (cache.clone(), seeds.fork());
            tokio::spawn(async move {
                for _ in 0..each {
                    operation(&cache, &mut rng)
                        .await
                        .expect("no operation may fail because of a swap");
                }
            })
        })
        .collect();
    let swapper = tokio::spawn({
        let (cache, done) = (cache.clone(), done.clone());
        async move {
            let mut old: Vec<Weak<dyn AsyncCacheAdapter>> = Vec::new();
            let mut swaps = 0;
            while swaps < SWAPS || !done.load(Ordering::SeqCst) {
                let memory = AsyncMemoryCache::builder();
                let memory = if swaps % 2 == 0 { memory.encoded() } else { memory };
                old.push(Arc::downgrade(&cache.swap_adapter(memory.build()).unwrap()));
                swaps += 1;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            old
        }
    });
    for task in tasks {
        task.await.unwrap();
    }
    done.store(true, Ordering::SeqCst);
    let old = swapper.await.unwrap();
    println!("{} operations over {} swaps", TASKS * each, old.len());
    assert!(old.len() >= SWAPS);
    eventually("the old adapters are freed", || {
        old.iter().all(|adapter| adapter.upgrade().is_none())
    })
    .await;
    assert_eq!(cache.generation().unwrap(), old.len() as u64);
}

/// A hundred swappers at once: generations count every swap, and every adapter but the last comes
/// back exactly once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_swaps_at_once() {
    let cache = fresh();
    let first = cache.adapter().unwrap();
    let swaps: Vec<_> = (0..100)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move {
                let new: Arc<dyn AsyncCacheAdapter> = Arc::new(AsyncMemoryCache::new());
                (new.clone(), cache.swap_adapter(new).unwrap())
            })
        })
        .collect();
    let (mut put, mut got) = (vec![first], Vec::new());
    for swap in swaps {
        let (new, old) = swap.await.unwrap();
        put.push(new);
        got.push(old);
    }
    got.push(cache.adapter().unwrap());
    assert_eq!(cache.generation().unwrap(), 100);
    for adapter in &put {
        assert_eq!(got.iter().filter(|other| Arc::ptr_eq(adapter, other)).count(), 1);
    }
}
