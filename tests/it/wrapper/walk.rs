//! The keys of a cache as a stream: its errors, its drops, and the adapter that it stays on.

use super::{faulty, fresh};
use futures_util::{FutureExt, StreamExt};
use larder::testing::{Fault, Verb};
use larder::{CacheWrapper, ErrorKind, EventKind};
use std::collections::BTreeSet;

#[tokio::test]
async fn an_error_is_the_last_item_and_an_event() {
    let (cache, adapter) = faulty();
    cache.set("k", 1u8).await.unwrap();
    let failures = super::events_of(&cache, EventKind::BackendError);
    adapter.put_next(Verb::Keys, 1, Fault::Fail(ErrorKind::Unavailable));
    let mut keys = cache.keys("");
    let error = keys.next().await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.op()), (ErrorKind::Unavailable, Some("keys")));
    assert!(keys.next().await.is_none() && keys.next().await.is_none());
    assert_eq!(failures.count(), 1);
    assert_eq!(cache.keys("").next().await.unwrap().unwrap(), "k", "and it is over");
}

#[tokio::test]
async fn a_call_that_is_dropped_loses_no_key() {
    let (cache, adapter) = faulty();
    cache.set_many((0..100).map(|number| (format!("k{number}"), number))).await.unwrap();
    adapter.put_next(Verb::Keys, 1, Fault::Delay(std::time::Duration::from_millis(20)));
    let mut keys = cache.keys("k");
    assert!(keys.next().now_or_never().is_none());
    let mut found = BTreeSet::new();
    while let Some(key) = keys.next().await {
        assert!(found.insert(key.unwrap()), "twice, and nothing was written");
        let _dropped = keys.next().now_or_never().map(|key| found.extend(key.and_then(Result::ok)));
    }
    assert_eq!(found.len(), 100);
}

#[tokio::test]
async fn a_walk_stays_on_its_adapter() {
    let cache = fresh();
    cache.set_many((0..5_000).map(|number| (format!("old:{number}"), number))).await.unwrap();
    let mut keys = cache.keys("");
    let first = keys.next().await.unwrap().unwrap();
    cache.set_adapter("memory").unwrap();
    cache.set("new", 1u8).await.unwrap();
    let mut rest: BTreeSet<String> = keys.map(Result::unwrap).collect().await;
    rest.insert(first);
    assert!(rest.len() == 5_000 && rest.iter().all(|key| key.starts_with("old:")));
}

/// A page of nothing follows a page of nothing: other tasks still get their turn.
#[tokio::test(flavor = "current_thread")]
async fn a_walk_over_many_keys_of_others_lets_other_tasks_run() {
    let cache = fresh();
    cache.set_many((0..50_000).map(|number| (format!("other:{number}"), number))).await.unwrap();
    let (started, runs) = (tokio::sync::Notify::new(), super::Runs::default());
    let counting = async {
        started.notified().await;
        runs.add();
    };
    let walk = async {
        started.notify_one();
        assert!(cache.keys("none:").next().await.is_none());
        runs.count()
    };
    assert_eq!(tokio::join!(walk, counting).0, 1, "the other future came between");
}

#[test]
fn a_cache_without_a_store_has_no_keys() {
    let off = CacheWrapper::new("off").unwrap();
    off.set("k", 1u8).unwrap();
    assert_eq!(off.keys("").count(), 0);
    let memory = CacheWrapper::new("memory").unwrap();
    memory.set("k", 1u8).unwrap();
    assert_eq!(memory.keys("").map(Result::unwrap).collect::<Vec<_>>(), ["k"]);
}
