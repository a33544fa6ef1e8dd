//! Loaders that ask the cache.

use super::fresh;
use crate::trials::{rng, within};
use futures_util::future::{BoxFuture, join_all};
use larder::{AsyncCacheWrapper, CacheWrapper, Error, ErrorKind};
use std::error::Error as StdError;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn for_its_own_key() {
    let cache = fresh();
    let inner = cache.clone();
    let outer = cache.get_or_set_async("k", async move {
        inner.get_or_set_async("k", async { 7 }).await.unwrap() + 1
    });
    assert_eq!(within(SOON, "asking for its own key", outer).await.unwrap(), 8);
    assert_eq!(cache.get("k").await.unwrap(), Some(8));
}

#[tokio::test]
async fn for_its_own_key_by_value_and_closure() {
    let cache = fresh();
    let inner = cache.clone();
    let outer = cache.get_or_set_async("k", async move {
        inner.get_or_set("k", 1).await.unwrap()
            + inner.get_or_set_with("k", |key| key.len()).await.unwrap()
    });
    assert_eq!(within(SOON, "asking for its own key", outer).await.unwrap(), 2);
}

#[test]
fn for_its_own_key_from_a_closure_on_the_blocking_face() {
    let cache = CacheWrapper::new("memory").unwrap();
    let inner = cache.clone();
    let answer =
        cache.get_or_set_with("k", |_| inner.get_or_set_with("k", |_| 7).unwrap() + 1).unwrap();
    assert_eq!(answer, 8);
    assert_eq!(
        cache
            .get_or_set_with("a", |_| inner
                .get_or_set_with("b", |_| inner.get_or_set("a", 1).unwrap())
                .unwrap())
            .unwrap(),
        1
    );
}

/// The inner load is unshared: if it kept the outer one from being stored, no call would store.
#[tokio::test]
async fn a_load_is_stored_although_its_own_key_is_forced_within() {
    for is_forced in [false, true] {
        let cache = fresh();
        let view = if is_forced { cache.force_refresh() } else { cache.view() };
        let forced = |key: &'static str| {
            let inner = cache.clone();
            async move { inner.force_refresh().get_or_set(key, 1).await.unwrap() + 1 }
        };
        let call = view.get_or_set_async("own", forced("own"));
        assert_eq!(within(SOON, "forcing its own key", call).await.unwrap(), 2);
        let between = (cache.clone(), forced("outer"));
        let call = view.get_or_set_async("outer", async move {
            let (cache, forced) = between;
            cache.get_or_set_async("between", forced).await.unwrap() + 1
        });
        assert_eq!(within(SOON, "forcing the key of an outer load", call).await.unwrap(), 3);
        let call = view.get_or_load_here("here", || async { forced("here").await });
        assert_eq!(within(SOON, "forcing the key of a carried load", call).await.unwrap(), 2);
        let stored = cache.get_many(["own", "outer", "between", "here"]).await.unwrap();
        assert_eq!(stored, [Some(2), Some(3), Some(2), Some(2)]);
    }
}

#[tokio::test]
async fn writes_from_within_are_fine_and_win() {
    let cache = fresh();
    let inner = cache.clone();
    let load = cache.get_or_set_async("k", async move {
        inner.set("k", 1).await.unwrap();
        inner.set("other", 1).await.unwrap();
        inner.remove("gone").await.unwrap();
        2
    });
    assert_eq!(within(SOON, "a loader that writes", load).await.unwrap(), 2);
    assert_eq!(cache.get("k").await.unwrap(), Some(1), "the write came later than the load began");
    let inner = cache.clone();
    let load = cache.get_or_set_async("c", async move {
        inner.clear().await.unwrap();
        2
    });
    assert_eq!(within(SOON, "a loader that clears", load).await.unwrap(), 2);
    assert!(!cache.contains("c").await.unwrap());
}

/// `a` asks for `b` and `b` for `a`, without end on either side, were it not for the way out.
fn ask(
    cache: AsyncCacheWrapper,
    mine: String,
    other: String,
    left: u32,
) -> BoxFuture<'static, larder::Result<u64>> {
    Box::pin(async move {
        let (next, key) = (cache.clone(), mine.clone());
        cache
            .try_get_or_set_async(key, async move {
                tokio::task::yield_now().await;
                if left == 0 { Ok(1) } else { ask(next, other, mine, left - 1).await }
            })
            .await
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_asks_b_and_b_asks_a() {
    let mut rng = rng("a_asks_b_and_b_asks_a");
    let cache = fresh();
    for round in 0..10 {
        let pairs: Vec<(String, String)> = (0..100)
            .map(|_| (format!("{round} {}", rng.u32(..60)), format!("{round} {}", rng.u32(..60))))
            .collect();
        let calls = pairs.into_iter().flat_map(|(a, b)| {
            [
                tokio::spawn(ask(cache.clone(), a.clone(), b.clone(), 3)),
                tokio::spawn(ask(cache.clone(), b, a, 3)),
            ]
        });
        for answer in within(SOON, "pairs that ask for one another", join_all(calls)).await {
            assert_eq!(answer.unwrap().unwrap(), 1);
        }
    }
}

/// The leader's own wait must be known before its loader can wait for the leader's flight.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn asking_back_at_once_is_never_an_error() {
    let cache = fresh();
    let calls = (0..2_000).map(|at| {
        let cache = cache.clone();
        tokio::spawn(async move {
            let (inner, a, b) = (cache.clone(), format!("a{at}"), format!("b{at}"));
            let outer = a.clone();
            cache
                .try_get_or_set_async(outer, async move {
                    let back = inner.clone();
                    inner
                        .try_get_or_set_async(b, async move { back.get_or_set(a, 1u8).await })
                        .await
                })
                .await
        })
    });
    for answer in within(Duration::from_secs(20), "asking back", join_all(calls)).await {
        assert_eq!(answer.unwrap().unwrap(), 1);
    }
}

fn for_ever(cache: AsyncCacheWrapper) -> BoxFuture<'static, larder::Result<u64>> {
    Box::pin(async move {
        let next = cache.clone();
        cache.namespace("n").try_get_or_set_async("k", for_ever(next)).await
    })
}

fn innermost(e: &Error) -> &Error {
    let mut innermost = e;
    let mut cause: Option<&(dyn StdError + 'static)> = Some(e);
    while let Some(e) = cause {
        innermost = e.downcast_ref().unwrap_or(innermost);
        cause = e.source();
    }
    innermost
}

#[tokio::test]
async fn without_end_is_an_error() {
    let cache = fresh();
    let e = within(SOON, "recursion without end", for_ever(cache.clone())).await.unwrap_err();
    let innermost = innermost(&e);
    assert_eq!((innermost.kind(), innermost.key()), (ErrorKind::Reentrant, Some("k")), "{e:?}");
    assert!(!cache.contains("n:k").await.unwrap());
    assert_eq!(
        cache.namespace("n").get_or_set("k", 1u8).await.unwrap(),
        1,
        "and nothing stays behind"
    );
}

/// The loader of a batch is as deep as its caller.
#[tokio::test]
async fn batches_without_end_are_an_error() {
    /// Far deeper than any batch comes.
    const BOTTOM: usize = 200;
    fn for_ever(
        cache: AsyncCacheWrapper,
        levels: Arc<AtomicUsize>,
    ) -> BoxFuture<'static, larder::Result<Vec<Option<u64>>>> {
        Box::pin(async move {
            let load = |keys: Vec<String>| {
                let (cache, levels) = (cache.clone(), levels.clone());
                async move {
                    if levels.fetch_add(1, Ordering::SeqCst) < BOTTOM {
                        for_ever(cache, levels).await?;
                    }
                    Ok::<_, Error>(keys.into_iter().map(|key| (key, 1u64)))
                }
            };
            cache.try_get_or_set_many_async(["k"], load).await
        })
    }
    let (cache, levels) = (fresh(), Arc::<AtomicUsize>::default());
    let call = for_ever(cache.clone(), levels.clone());
    let e = within(SOON, "recursion without end", call).await.unwrap_err();
    let innermost = innermost(&e);
    assert_eq!((innermost.kind(), innermost.key()), (ErrorKind::Reentrant, Some("k")), "{e:?}");
    assert!(levels.load(Ordering::SeqCst) < BOTTOM);
    assert!(!cache.contains("k").await.unwrap());
}

#[test]
fn without_end_on_the_blocking_face() {
    fn for_ever(cache: &CacheWrapper) -> larder::Result<u64> {
        let inner = cache.clone();
        cache.try_get_or_set_async("k", async move { for_ever(&inner) })
    }
    let e = for_ever(&CacheWrapper::new("memory").unwrap()).unwrap_err();
    assert_eq!(innermost(&e).kind(), ErrorKind::Reentrant, "{e:?}");
}

/// A ring of keys, each loaded by way of the next, entered everywhere at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_ring() {
    fn step(
        cache: AsyncCacheWrapper,
        at: usize,
        left: usize,
    ) -> BoxFuture<'static, larder::Result<usize>> {
        Box::pin(async move {
            let next = cache.clone();
            let further = async move {
                if left == 0 { Ok(5) } else { step(next, (at + 1) % 7, left - 1).await }
            };
            cache.try_get_or_set_async(format!("ring {at}"), further).await
        })
    }
    for _ in 0..50 {
        let cache = fresh();
        let calls = (0..7).map(|at| tokio::spawn(step(cache.clone(), at, 9)));
        for answer in within(SOON, "a ring", join_all(calls)).await {
            assert_eq!(answer.unwrap().unwrap(), 5);
        }
    }
}

/// Loaders that ask for another key, a thousand random pairs at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_pairs_of_keys() {
    let (cache, mut random) = (fresh(), rng("a_thousand_pairs_of_keys"));
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..1_000 {
        let (first, second) = (random.u64(..20), random.u64(..20));
        let (cache, inner) = (cache.clone(), cache.clone());
        calls.spawn(async move {
            let loader = async move {
                tokio::task::yield_now().await;
                let nested = inner.get_or_set_async(format!("k{second}"), async move { second });
                assert_eq!(nested.await.unwrap(), second);
                first
            };
            assert_eq!(cache.get_or_set_async(format!("k{first}"), loader).await.unwrap(), first);
        });
    }
    within(Duration::from_secs(60), "a thousand pairs", calls.join_all()).await;
}

/// A loader that asks for thousands of keys must not stand in the way of others that ask for one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loader_of_thousands_of_keys() {
    const KEYS: usize = 8_000;
    let cache = fresh();
    let inner = cache.clone();
    let hub = cache.get_or_set_async("hub", async move {
        let keys = (0..KEYS).map(|at| {
            let (back, key) = (inner.clone(), format!("k{at}"));
            inner.get_or_set_async(key, async move {
                tokio::task::yield_now().await;
                back.get_or_set_async("hub", async { 0 }).await.unwrap() + 1
            })
        });
        join_all(keys).await.into_iter().map(larder::Result::unwrap).sum::<usize>()
    });
    assert_eq!(within(Duration::from_secs(60), "the hub", hub).await.unwrap(), KEYS);
}
