//! What must be one step, under 64 tasks on four threads.

use super::read;
use futures_util::future::join_all;
use larder::{AsyncCacheAdapter, AsyncMemoryCache, CacheValue, Expiry};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const TASKS: u64 = 64;

async fn at_once<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    task: impl Fn(u64) -> F,
) -> Vec<T> {
    join_all((0..TASKS).map(|at| tokio::spawn(task(at))))
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect()
}

fn plain_and_encoded() -> [&'static AsyncMemoryCache; 2] {
    [AsyncMemoryCache::new(), AsyncMemoryCache::builder().encoded().build()]
        .map(|cache| &*Box::leak(Box::new(cache)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn increments_are_exact() {
    const EACH: u64 = 1_000;
    for cache in plain_and_encoded() {
        let sums = at_once(move |_| async move {
            let mut sums = Vec::new();
            for _ in 0..EACH {
                sums.push(cache.incr("n", 1, Expiry::Never).await.unwrap());
            }
            sums
        });
        let mut sums: Vec<i64> = sums.await.into_iter().flatten().collect();
        sums.sort_unstable();
        assert!(sums.into_iter().eq(1..=(TASKS * EACH) as i64), "each sum is seen once");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_add_wins_and_one_take_gets_it() {
    for cache in plain_and_encoded() {
        for _ in 0..200 {
            let added = at_once(move |at| async move {
                cache.add("k", CacheValue::new(at), Expiry::Never).await.unwrap()
            })
            .await;
            assert_eq!(added.iter().filter(|added| **added).count(), 1);
            let winner = added.iter().position(|added| *added).unwrap() as u64;
            assert_eq!(read(cache, "k").await, Some(winner));
            let taken = at_once(move |_| async move { cache.take("k").await.unwrap() }).await;
            let taken: Vec<u64> =
                taken.into_iter().flatten().map(|value| value.decode().unwrap()).collect();
            assert_eq!(taken, [winner]);
        }
    }
}

/// A queue of one place: each value that is put in is taken out exactly once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn adds_and_takes_balance() {
    static PUT: AtomicU64 = AtomicU64::new(0);
    static TAKEN: AtomicU64 = AtomicU64::new(0);
    for cache in plain_and_encoded() {
        at_once(move |at| async move {
            for turn in 0..500 {
                if at % 2 == 0 {
                    let value = at * 1_000 + turn + 1;
                    if cache.add("place", CacheValue::new(value), Expiry::Never).await.unwrap() {
                        PUT.fetch_add(value, Ordering::SeqCst);
                    }
                } else if let Some(value) = cache.take("place").await.unwrap() {
                    TAKEN.fetch_add(value.decode::<u64>().unwrap(), Ordering::SeqCst);
                }
            }
        })
        .await;
        let left =
            cache.take("place").await.unwrap().map_or(0, |value| value.decode::<u64>().unwrap());
        assert_eq!(PUT.load(Ordering::SeqCst), TAKEN.load(Ordering::SeqCst) + left);
        TAKEN.fetch_add(left, Ordering::SeqCst);
    }
}

/// Touch reads and writes: it must not bring back what a set or a removal has replaced.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn touch_brings_nothing_back() {
    for cache in plain_and_encoded() {
        for trial in 0..3_000u64 {
            cache.set("k", CacheValue::new(trial * 2), Expiry::Never).await.unwrap();
            let touch = tokio::spawn(async move {
                cache.touch("k", Duration::from_secs(60).into()).await.unwrap()
            });
            if trial % 2 == 0 {
                cache.set("k", CacheValue::new(trial * 2 + 1), Expiry::Never).await.unwrap();
                touch.await.unwrap();
                assert_eq!(read(cache, "k").await, Some(trial * 2 + 1));
            } else {
                assert!(cache.remove("k").await.unwrap());
                touch.await.unwrap();
                assert!(
                    !cache.contains("k").await.unwrap(),
                    "a touch brought a removed value back"
                );
            }
        }
    }
}
