//! Several wrappers, or a wrapper and another owner of the adapter, over one memory store.

use super::small;
use larder::{AsyncCacheAdapter, AsyncCacheWrapper, AsyncMemoryCache, CacheValue, Expiry};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

type Change = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs `change` while a load of `key` is in flight in `cache`, and returns what is stored
/// afterwards.
async fn during_a_load(cache: &AsyncCacheWrapper, key: &str, change: Change) -> Option<String> {
    let (begun, has_begun) = oneshot::channel();
    let (go_on, may_go_on) = oneshot::channel::<()>();
    let load = {
        let (cache, key) = (cache.clone(), key.to_owned());
        tokio::spawn(async move {
            cache
                .get_or_set_async(key, async move {
                    begun.send(()).unwrap();
                    may_go_on.await.unwrap();
                    "loaded".to_owned()
                })
                .await
        })
    };
    has_begun.await.unwrap();
    change.await;
    go_on.send(()).unwrap();
    assert_eq!(load.await.unwrap().unwrap(), "loaded", "its caller has the value in any case");
    cache.get(key).await.unwrap()
}

/// Every way in which another user of the store may change a key.
fn changes(other: &AsyncCacheWrapper, key: &'static str) -> Vec<(&'static str, Change)> {
    let adapter = other.adapter().unwrap();
    let long = Expiry::After(Duration::from_secs(60));
    let (a, b, c, d) = (other.clone(), other.clone(), other.clone(), adapter.clone());
    let (e, f) = (adapter.clone(), adapter);
    vec![
        ("remove", Box::pin(async move { assert!(!a.remove(key).await.unwrap()) })),
        ("clear", Box::pin(async move { b.clear().await.unwrap() })),
        ("set", Box::pin(async move { c.set(key, "theirs").await.unwrap() })),
        ("the adapter's remove", Box::pin(async move { assert!(!d.remove(key).await.unwrap()) })),
        (
            "the adapter's take",
            Box::pin(async move { assert!(e.take(key).await.unwrap().is_none()) }),
        ),
        (
            "the adapter's add and remove",
            Box::pin(async move {
                assert!(f.add(key, CacheValue::new("theirs"), long).await.unwrap());
                assert!(f.remove(key).await.unwrap());
            }),
        ),
    ]
}

#[tokio::test]
async fn a_removal_by_one_is_not_undone_by_a_load_of_the_other() {
    let one = AsyncCacheWrapper::new(AsyncMemoryCache::new()).unwrap();
    let clone = AsyncCacheWrapper::new(one.adapter().unwrap()).unwrap();
    for other in [&one, &clone] {
        for (what, change) in changes(other, "k") {
            let left = during_a_load(&one, "k", change).await;
            assert_eq!(left.as_deref(), (what == "set").then_some("theirs"), "after {what}");
            one.remove("k").await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_nobody_changed_is_stored_and_other_keys_do_not_matter() {
    let one = AsyncCacheWrapper::new(AsyncMemoryCache::new()).unwrap();
    let other = AsyncCacheWrapper::new(one.adapter().unwrap()).unwrap();
    let change = Box::pin(async move {
        for at in 0..500 {
            other.set(format!("k{at}"), at).await.unwrap();
            other.remove(format!("k{at}")).await.unwrap();
        }
        other.namespace("other").clear().await.unwrap();
        other.touch("k", Duration::from_secs(9)).await.unwrap();
    });
    assert_eq!(during_a_load(&one, "k", change).await.as_deref(), Some("loaded"));
}

#[tokio::test]
async fn the_shared_store_is_guarded_among_all_who_share_it() {
    let [one, other] = ["a", "b"].map(|_| {
        AsyncCacheWrapper::new(AsyncMemoryCache::builder().shared().prefix("two_wrappers").build())
            .unwrap()
    });
    for (what, change) in changes(&other, "k") {
        let left = during_a_load(&one, "k", change).await;
        assert_eq!(left.as_deref(), (what == "set").then_some("theirs"), "after {what}");
        one.remove("k").await.unwrap();
    }
}

/// A claim ends with its token: loads that are dropped leave nothing in the store, and a lease is
/// free at once.
#[tokio::test]
async fn a_claim_that_is_dropped_is_given_up() {
    let cache = Arc::new(AsyncMemoryCache::new());
    let lease = Some(Duration::from_secs(3_600));
    for _ in 0..3 {
        let claim = cache.claim("k", lease).await.unwrap();
        assert!(claim.is_some(), "the one before was dropped");
        assert!(cache.claim("k", lease).await.unwrap().is_none(), "it is held");
        drop(claim.clone());
        assert!(cache.claim("k", lease).await.unwrap().is_none(), "a clone holds it, too");
    }
}

#[tokio::test]
async fn an_entry_that_is_renewed_for_ever_does_not_grow() {
    let cache = small();
    let stale = cache.ttl(Duration::from_secs(60)).stale_for(Duration::from_secs(600));
    stale.set("k", "v".to_owned()).await.unwrap();
    // Each is a new value over the one before. In a chain of so many, reading would overflow the
    // stack.
    for _ in 0..200_000 {
        assert!(cache.touch("k", Duration::from_secs(60)).await.unwrap());
    }
    assert_eq!(cache.get::<String>("k").await.unwrap().as_deref(), Some("v"));
}
