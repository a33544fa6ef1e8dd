//! A backend that fails between an entry and its records: nothing is served that is not proven.

use super::get;
use larder::testing::{Fault, FaultyAdapter, Verb};
use larder::{AsyncCacheAdapter, AsyncCacheWrapper, AsyncMemoryCache, ErrorKind, EventKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

type Faulty = Arc<FaultyAdapter<AsyncMemoryCache>>;

const AWAY: Fault = Fault::Fail(ErrorKind::Unavailable);

/// A cache with an entry whose tag is there.
async fn tagged() -> (AsyncCacheWrapper, Faulty) {
    let adapter = Arc::new(FaultyAdapter::new(AsyncMemoryCache::new()));
    let cache = AsyncCacheWrapper::new(adapter.clone() as Arc<dyn AsyncCacheAdapter>).unwrap();
    cache.tags(["t"]).set("k", 1u64).await.unwrap();
    // As on a store that is not in this process: nothing is answered at once.
    adapter.put(Verb::Get, Fault::Delay(Duration::ZERO));
    (cache, adapter)
}

#[tokio::test]
async fn a_read_whose_records_cannot_be_read_is_an_error() {
    let (cache, adapter) = tagged().await;
    adapter.put(Verb::GetMany, AWAY);
    for _ in 0..2 {
        assert_eq!(cache.get::<u64>("k").await.unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(cache.contains("k").await.unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(cache.touch("k", super::HOUR).await.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    adapter.heal(Verb::GetMany);
    assert_eq!(get(&cache, "k").await, Some(1));
}

#[tokio::test]
async fn a_call_whose_records_cannot_be_read_loads_and_stores_nothing() {
    let (cache, adapter) = tagged().await;
    let errors = Arc::new(AtomicU64::new(0));
    let counting = errors.clone();
    cache.observe(move |event| {
        if event.kind == EventKind::BackendError {
            counting.fetch_add(1, Ordering::SeqCst);
        }
    });
    let stored = adapter.calls(Verb::SetClaimed) + adapter.calls(Verb::Set);
    adapter.put(Verb::GetMany, AWAY);
    let tagged = cache.tags(["t"]);
    assert_eq!(tagged.get_or_set("k", 2u64).await.unwrap(), 2);
    assert_eq!(tagged.get_or_set_async("k", async { 3u64 }).await.unwrap(), 3);
    assert_eq!(tagged.get_or_set_async("missing", async { 4u64 }).await.unwrap(), 4);
    assert_eq!(tagged.get_or_set_with("missing", |_| 5u64).await.unwrap(), 5);
    assert_eq!(tagged.get_or_load_here("missing", || async { 6u64 }).await.unwrap(), 6);
    assert_eq!(adapter.calls(Verb::SetClaimed) + adapter.calls(Verb::Set), stored);
    assert!(errors.load(Ordering::SeqCst) >= 5, "each is seen");
    adapter.heal(Verb::GetMany);
    assert_eq!(get(&cache, "k").await, Some(1));
    assert_eq!(get(&cache, "missing").await, None);
}

#[tokio::test]
async fn without_fail_open_no_loader_runs_whose_records_cannot_be_read() {
    let (cache, adapter) = tagged().await;
    adapter.put(Verb::GetMany, AWAY);
    adapter.put(Verb::RemoveMany, AWAY);
    let strict = cache.fail_open(false).tags(["t"]);
    let never = || -> u64 { panic!("the loader ran") };
    for answer in [
        strict.get_or_set_with("k", |_| never()).await,
        strict.get_or_set_async("missing", async move { never() }).await,
        strict.get_or_set_with("missing", |_| never()).await,
        strict.get_or_load_here("missing", || async move { never() }).await,
    ] {
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    for written in [strict.set("k", 2u64).await, strict.set_many([("k", 2u64)]).await] {
        assert_eq!(written.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    adapter.heal_all();
    assert_eq!(get(&cache, "k").await, Some(1));
}

#[tokio::test]
async fn a_removal_that_fails_is_an_error_and_can_be_repeated() {
    let (cache, adapter) = tagged().await;
    adapter.put_next(Verb::RemoveMany, 1, AWAY);
    let failed = cache.remove_tags(["t"]).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Unavailable);
    assert_eq!(get(&cache, "k").await, Some(1));
    cache.remove_tags(["t"]).await.unwrap();
    assert_eq!(get(&cache, "k").await, None);
}
