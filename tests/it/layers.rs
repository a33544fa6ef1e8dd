//! Adapters around adapters.

#![allow(clippy::unwrap_used, reason = "tests")]

use futures_util::FutureExt;
use larder::layers::{Batching, Resilient, Tiered};
use larder::testing::{Fault, FaultyAdapter, conformance};
use larder::{
    AsyncCacheAdapter, AsyncCacheWrapper, AsyncMemoryCache, CacheValue, ErrorKind, Expiry, Result,
};
use std::sync::Arc;
use std::time::Duration;

conformance!(together, Batching::new(AsyncMemoryCache::new()).batch_above(0));
conformance!(mostly_alone, Batching::new(AsyncMemoryCache::new()));
conformance!(never_together, Batching::new(AsyncMemoryCache::new()).max_batch(1));

async fn set(cache: &impl AsyncCacheAdapter, key: &str, value: String) -> Result<()> {
    cache.set(key, CacheValue::new(value), Expiry::Never).await
}

async fn text(cache: &impl AsyncCacheAdapter, key: &str) -> Result<Option<String>> {
    cache.get(key).await?.map(|value| value.decode()).transpose()
}

/// Callers on two runtimes, some of which go; everybody else reads what they wrote.
#[test]
fn many_callers_on_two_runtimes() {
    let cache = Arc::new(Batching::new(AsyncMemoryCache::new()).batch_above(2).max_batch(16));
    let threads = (0..2).map(|thread| {
        let cache = cache.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let callers = (0..128).map(|task| {
                    let cache = cache.clone();
                    tokio::spawn(async move {
                        for round in 0..50 {
                            let key = format!("{thread}-{task}");
                            set(&cache, &key, format!("{key}-{round}")).await.unwrap();
                            // One that is dropped before it is done.
                            drop(text(&cache, &key).now_or_never());
                            assert_eq!(
                                text(&cache, &key).await.unwrap(),
                                Some(format!("{key}-{round}"))
                            );
                            if round % 7 == 0 {
                                assert!(cache.remove(&key).await.unwrap());
                                assert_eq!(text(&cache, &key).await.unwrap(), None);
                            }
                        }
                    })
                });
                for caller in callers.collect::<Vec<_>>() {
                    caller.await.unwrap();
                }
            });
        })
    });
    threads.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().unwrap());
}

/// An adapter that is away is away for each caller of a batch, and each is answers about its own
/// key.
#[tokio::test]
async fn each_gets_the_error_of_its_own_key() {
    let faulty = Arc::new(FaultyAdapter::new(AsyncMemoryCache::new()));
    let cache = Batching::new(faulty.clone()).batch_above(0);
    faulty.put_on_all(Fault::Fail(ErrorKind::Unavailable));
    let keys: Vec<String> = (0..40).map(|n| format!("k{n}")).collect();
    let answers = futures_util::future::join_all(keys.iter().map(|key| cache.get(key))).await;
    for (key, answers) in keys.iter().zip(answers) {
        let error = answers.unwrap_err();
        assert_eq!((error.kind(), error.key()), (ErrorKind::Unavailable, Some(key.as_str())));
    }
}

/// The runtime that led the batches ends; callers of another one go on.
#[test]
fn a_runtime_that_ends_takes_nobody_along() {
    let cache = Arc::new(Batching::new(AsyncMemoryCache::new()).batch_above(0));
    for round in 0..20 {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        for n in 0..20 {
            let cache = cache.clone();
            runtime.spawn(async move { set(&cache, &format!("k{n}"), n.to_string()).await });
        }
        runtime.shutdown_timeout(Duration::from_millis(round % 3));
        let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        other.block_on(async {
            set(&cache, "mine", round.to_string()).await.unwrap();
            assert_eq!(text(&cache, "mine").await.unwrap(), Some(round.to_string()));
        });
    }
}

/// A store whose calls panic where they have to do with one key.
struct Poisoned(AsyncMemoryCache);

#[async_trait::async_trait]
impl AsyncCacheAdapter for Poisoned {
    async fn get(&self, key: &str) -> Result<Option<CacheValue>> {
        assert_ne!(key, "poison");
        tokio::task::yield_now().await;
        self.0.get(key).await
    }

    async fn set(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<()> {
        assert_ne!(key, "poison");
        tokio::task::yield_now().await;
        self.0.set(key, value, expiry).await
    }

    async fn remove(&self, key: &str) -> Result<bool> {
        self.0.remove(key).await
    }

    async fn update_timeout(&self, key: &str, expiry: Expiry) -> Result<Option<CacheValue>> {
        self.0.update_timeout(key, expiry).await
    }

    async fn clear(&self, prefix: &str) -> Result<()> {
        self.0.clear(prefix).await
    }
}

/// The others of its batch are answered, and so are all who come later.
#[tokio::test]
async fn a_panic_in_a_batch_concerns_its_own_caller_only() {
    let cache = Arc::new(Batching::new(Poisoned(AsyncMemoryCache::new())).batch_above(0));
    for round in 0..20 {
        let callers: Vec<_> = (0..20)
            .map(|n| {
                let cache = cache.clone();
                let key = if n == round { "poison".to_owned() } else { format!("k{n}") };
                tokio::spawn(async move {
                    set(&cache, &key, key.clone()).await.unwrap();
                    assert_eq!(text(&cache, &key).await.unwrap(), Some(key));
                })
            })
            .collect();
        for (n, caller) in callers.into_iter().enumerate() {
            assert_eq!(caller.await.is_err(), n == round, "{n} of round {round}");
        }
    }
    set(&cache, "k", "v".to_owned()).await.unwrap();
    assert_eq!(text(&cache, "k").await.unwrap().as_deref(), Some("v"));
}

/// What a near level still has after its proof is asked for through whatever stands around it.
#[tokio::test]
async fn every_layer_passes_on_what_is_near_and_not_proven_any_more() {
    const HOUR: Duration = Duration::from_secs(3_600);
    async fn near() -> Tiered<AsyncMemoryCache> {
        let far = AsyncMemoryCache::builder().encoded().build();
        let tiered = Tiered::builder(far).near_bound(Duration::from_millis(20)).build();
        set(&tiered, "k", "value".to_owned()).await.unwrap();
        assert_eq!(text(&tiered, "k").await.unwrap().as_deref(), Some("value"));
        tiered
    }
    let pointed: Arc<dyn AsyncCacheAdapter> = Arc::new(near().await);
    let layers: [(&str, Box<dyn AsyncCacheAdapter>); 5] = [
        ("nothing", Box::new(near().await)),
        ("Arc", Box::new(pointed)),
        ("Resilient", Box::new(Resilient::new(near().await))),
        ("Batching", Box::new(Batching::new(near().await))),
        ("FaultyAdapter", Box::new(FaultyAdapter::new(near().await))),
    ];
    for (name, around) in layers {
        let unproven = |key: &str, stale_for| {
            around.get_unproven(key, stale_for).map(|value| value.decode::<String>().unwrap())
        };
        assert_eq!(unproven("k", HOUR).as_deref(), Some("value"), "{name}");
        assert_eq!(unproven("k", Duration::ZERO), None, "{name}");
        assert_eq!(unproven("other", HOUR), None, "{name}");
    }
}

/// A near level behind the layers that calls go through, and a store and a loader that fail.
#[tokio::test]
async fn what_was_near_behind_other_layers_is_stale_while_the_store_fails() {
    let far = Arc::new(FaultyAdapter::new(AsyncMemoryCache::builder().encoded().build()));
    let tiered = Tiered::builder(far.clone()).near_bound(Duration::from_millis(20)).build();
    let cache = AsyncCacheWrapper::new(Resilient::new(Batching::new(tiered))).unwrap();
    cache.set("k", "value").await.unwrap();
    // From the store and not from what is at hand, so that it is near.
    let read = cache.view().skip_near().get::<String>("k").await;
    assert_eq!(read.unwrap().as_deref(), Some("value"));
    far.put_on_all(Fault::Fail(ErrorKind::Unavailable));
    tokio::time::sleep(Duration::from_millis(20)).await;
    let kept = || cache.stale_for(Duration::from_secs(3_600)).throttle(Duration::ZERO);
    let fails = async { Err::<String, _>("the source is away") };
    assert_eq!(kept().try_get_or_set_async("k", fails).await.unwrap(), "value");
    assert_eq!(cache.stats().stale_hits, 1);
    // The store answers for no key of a batch.
    let fail = |_| async { Err::<Vec<(String, String)>, _>("the source is away") };
    let found = kept().try_get_or_set_many_async(["k"], fail).await.unwrap();
    assert_eq!(found, [Some("value".to_owned())]);
    assert_eq!(cache.stats().stale_hits, 2);
}
