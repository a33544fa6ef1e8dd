//! What is fresh, stale and late for `get_or_set*`, where values are near.

use super::by_age::{HOUR, LONG};
use super::{PATIENCE, near};
use crate::claims::Shared;
use crate::everywhere::on_each_store;
use crate::support::eventually;
use larder::{AsyncCacheWrapper, ErrorKind};
use std::future::pending;
use std::time::Duration;
use tokio::sync::oneshot;

on_each_store!(
    what_is_near_past_its_end_is_stale,
    what_is_near_is_refreshed_ahead,
    a_hard_timeout_ends_a_wait_and_the_value_is_near_afterwards,
);

const SOON: Duration = Duration::from_millis(10);

/// A loader of the number 2, and what lets it end.
fn late() -> (oneshot::Sender<()>, impl Future<Output = u64> + Send + 'static) {
    let (go, may_go) = oneshot::channel();
    let load = async move {
        may_go.await.unwrap();
        2u64
    };
    (go, load)
}

/// Reads until the value has been near for two reads in a row.
async fn becomes_near(cache: &AsyncCacheWrapper, key: &str, value: u64) {
    eventually("it is near", PATIENCE, async || {
        let read = async || cache.get::<u64>(key).await.unwrap() == Some(value);
        let is_there = read().await;
        let before = near(cache).far_reads;
        is_there && read().await && near(cache).far_reads == before
    })
    .await;
}

/// Its logical end holds near as well, and until the physical one it stands in for a loader.
async fn what_is_near_past_its_end_is_stale(shared: Shared) {
    let cache = shared.near(LONG);
    let kept = || cache.ttl(Duration::from_secs(1)).stale_for(HOUR).throttle(Duration::ZERO);
    eventually("it is near", PATIENCE, async || {
        kept().set("k", 1u64).await.unwrap();
        cache.get::<u64>("k").await.unwrap() == Some(1)
    })
    .await;
    let far_reads = near(&cache).far_reads;
    eventually("it has ended", PATIENCE, async || cache.get::<u64>("k").await.unwrap().is_none())
        .await;
    assert_eq!(near(&cache).far_reads, far_reads, "that is known without asking");
    let fails = || async { Err::<u64, _>("the source is away") };
    assert_eq!(kept().try_get_or_set_async("k", fails()).await.unwrap(), 1);
    assert_eq!(cache.stats().stale_hits, 1);
    let (go, load) = late();
    assert_eq!(kept().soft_timeout(SOON).get_or_set_async("k", load).await.unwrap(), 1);
    go.send(()).unwrap();
    eventually("the late value is read", PATIENCE, async || {
        cache.view().allow_stale().get::<u64>("k").await.unwrap() == Some(2)
    })
    .await;
}

async fn what_is_near_is_refreshed_ahead(shared: Shared) {
    let cache = shared.near(LONG);
    assert_eq!(cache.ttl(HOUR).get_or_set("k", 1u64).await.unwrap(), 1);
    assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(1));
    let refreshing = cache.ttl(HOUR).refresh_ahead(0.000_000_1);
    eventually("it is refreshed", PATIENCE, async || {
        refreshing.get_or_set_async("k", async { 2u64 }).await.unwrap();
        cache.get::<u64>("k").await.unwrap() == Some(2)
    })
    .await;
    assert_eq!(shared.cache().get::<u64>("k").await.unwrap(), Some(2));
}

async fn a_hard_timeout_ends_a_wait_and_the_value_is_near_afterwards(shared: Shared) {
    let cache = shared.near(LONG);
    let (go, load) = late();
    let ended = cache.ttl(HOUR).hard_timeout(SOON).get_or_set_async("k", load).await.unwrap_err();
    assert_eq!(ended.kind(), ErrorKind::Timeout);
    assert_eq!(cache.get::<u64>("k").await.unwrap(), None);
    go.send(()).unwrap();
    becomes_near(&cache, "k", 2).await;
    // What is near waits for nothing.
    let at_once = cache.hard_timeout(Duration::ZERO);
    assert_eq!(at_once.get_or_set_async("k", pending::<u64>()).await.unwrap(), 2);

    let kept = cache.ttl(Duration::from_secs(1)).stale_for(HOUR);
    kept.set("kept", 1u64).await.unwrap();
    eventually("it has ended", PATIENCE, async || {
        cache.get::<u64>("kept").await.unwrap().is_none()
    })
    .await;
    let (go, load) = late();
    let before = cache.stats().stale_hits;
    let stands_in = cache.ttl(HOUR).stale_for(HOUR).hard_timeout(SOON);
    assert_eq!(stands_in.get_or_set_async("kept", load).await.unwrap(), 1);
    assert_eq!(cache.stats().stale_hits, before + 1);
    go.send(()).unwrap();
    becomes_near(&cache, "kept", 2).await;
}
