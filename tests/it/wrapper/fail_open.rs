//! A backend that is away: `get_or_set*` go on without it.

use super::{Runs, faulty};
use futures_util::future::join_all;
use larder::testing::{Fault, Verb};
use larder::{AsyncCacheWrapper, AsyncMemoryCache, ErrorKind, EventKind, Expiry};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

fn count(cache: &AsyncCacheWrapper, kind: EventKind) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    cache.observe(move |event| {
        if event.kind == kind {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    count
}

#[tokio::test]
async fn reading_fails() {
    for kind in [ErrorKind::Unavailable, ErrorKind::Timeout, ErrorKind::Backend] {
        let (cache, adapter) = faulty();
        let events = count(&cache, EventKind::BackendError);
        cache.ttl(Expiry::Never).set("k", 1u64).await.unwrap();
        adapter.put(Verb::Get, Fault::Fail(kind));
        let runs = Runs::default();
        let ran = runs.clone();
        let loader = move |_: &str| {
            ran.add();
            2u64
        };
        assert_eq!(cache.get_or_set_with("k", loader).await.unwrap(), 2);
        assert_eq!(
            (runs.count(), events.load(Ordering::SeqCst), adapter.calls(Verb::Set)),
            (1, 1, 1),
            "one run, one event, no write"
        );
        assert_eq!(
            cache.get::<u64>("k").await.unwrap_err().kind(),
            kind,
            "a plain get says what is wrong"
        );
        assert_eq!(cache.fail_open(false).get_or_set("k", 2u64).await.unwrap_err().kind(), kind);
        assert_eq!(
            cache.clone().with_fail_open(false).get_or_set("k", 2u64).await.unwrap_err().kind(),
            kind
        );
        adapter.heal_all();
        assert_eq!(
            cache.get("k").await.unwrap(),
            Some(1u64),
            "after recovery the old stored value is intact"
        );
        assert_eq!(cache.expiry("k").await.unwrap(), Some(Expiry::Never));
    }
}

#[tokio::test]
async fn a_slow_failure_costs_one_run_for_all() {
    let (cache, adapter) = faulty();
    adapter.put_on_all(Fault::Fail(ErrorKind::Unavailable));
    let runs = Runs::default();
    let calls = (0..100).map(|_| {
        let runs = runs.clone();
        cache.get_or_set_async("k", async move {
            runs.add();
            tokio::time::sleep(Duration::from_millis(50)).await;
            3u64
        })
    });
    assert!(join_all(calls).await.into_iter().all(|answer| answer.unwrap() == 3));
    assert_eq!(runs.count(), 1);
    assert_eq!(
        cache.get_or_set("k", 4u64).await.unwrap(),
        4,
        "nothing is kept anywhere while the backend is away"
    );
}

#[tokio::test]
async fn storing_fails() {
    for kind in [ErrorKind::Unavailable, ErrorKind::Timeout] {
        for fault in [Fault::Fail(kind), Fault::FailAfter(kind)] {
            let (cache, adapter) = faulty();
            let events = count(&cache, EventKind::BackendError);
            adapter.put(Verb::Set, fault);
            assert_eq!(cache.get_or_set_async("k", async { 2u64 }).await.unwrap(), 2);
            assert_eq!(events.load(Ordering::SeqCst), 1);
            assert_eq!(
                cache.fail_open(false).get_or_set("l", 2u64).await.unwrap_err().kind(),
                kind
            );
            adapter.heal_all();
            let stored = fault == Fault::FailAfter(kind);
            assert_eq!(cache.get::<u64>("k").await.unwrap(), stored.then_some(2));
            assert_eq!(cache.get_or_set("m", 3u64).await.unwrap(), 3);
            assert!(cache.contains("m").await.unwrap());
        }
    }
}

#[tokio::test]
async fn a_caller_gives_up_on_a_backend_that_hangs_and_the_next_is_served() {
    let (cache, adapter) = faulty();
    cache.set("k", 1u64).await.unwrap();
    adapter.put_next(Verb::Get, 1, Fault::Hang);
    let patience = Duration::from_millis(20);
    tokio::time::timeout(patience, cache.get_or_set("k", 2u64)).await.unwrap_err();
    assert_eq!(cache.get_or_set("k", 2u64).await.unwrap(), 1, "a dropped call holds nothing");
}

#[tokio::test]
async fn what_is_no_outage_is_an_error() {
    let (cache, adapter) = faulty();
    for kind in [ErrorKind::InvalidKey, ErrorKind::Config, ErrorKind::Encode] {
        adapter.put_next(Verb::Get, 1, Fault::Fail(kind));
        assert_eq!(cache.get_or_set("k", 1u64).await.unwrap_err().kind(), kind);
    }
}

/// What was computed reaches its caller, whatever is wrong with storing it.
#[tokio::test]
async fn a_value_that_cannot_be_stored_is_there_all_the_same() {
    let (cache, adapter) = faulty();
    for kind in [ErrorKind::InvalidKey, ErrorKind::Config, ErrorKind::Encode] {
        let events = count(&cache, EventKind::BackendError);
        adapter.put_next(Verb::Set, 2, Fault::Fail(kind));
        assert_eq!(cache.get_or_set("k", 1u64).await.unwrap(), 1);
        assert_eq!(events.load(Ordering::SeqCst), 1);
        let strict = cache.fail_open(false).get_or_set("k", 1u64);
        assert_eq!(strict.await.unwrap_err().kind(), kind);
    }
}

#[tokio::test]
async fn a_value_that_is_too_large() {
    let small = AsyncMemoryCache::builder().max_bytes(100_000).max_entries(10).build();
    let cache = AsyncCacheWrapper::new(small).unwrap();
    let events = count(&cache, EventKind::BackendError);
    let huge = "x".repeat(200_000);
    assert_eq!(cache.get_or_set("k", huge.clone()).await.unwrap(), huge);
    assert_eq!(events.load(Ordering::SeqCst), 1);
    assert!(!cache.contains("k").await.unwrap());
    assert_eq!(
        cache.fail_open(false).get_or_set("k", huge).await.unwrap_err().kind(),
        ErrorKind::TooLarge
    );
}

#[tokio::test]
async fn the_other_verbs_say_what_is_wrong() {
    let (cache, adapter) = faulty();
    adapter.put_on_all(Fault::Fail(ErrorKind::Unavailable));
    let answers = [
        cache.get::<u8>("k").await.map(drop),
        cache.get_or("k", 1u8).await.map(drop),
        cache.get_many::<u8, _>(["k"]).await.map(drop),
        cache.set("k", 1).await,
        cache.set_many([("k", 1)]).await,
        cache.remove("k").await.map(drop),
        cache.remove(["k", "l"]).await.map(drop),
        cache.contains("k").await.map(drop),
        cache.expiry("k").await.map(drop),
        cache.touch("k", Expiry::Never).await.map(drop),
        cache.update_timeout::<u8>("k", Expiry::Never).await.map(drop),
        cache.add("k", 1).await.map(drop),
        cache.replace("k", 1).await.map(drop),
        cache.take::<u8>("k").await.map(drop),
        cache.incr("k", 1).await.map(drop),
        cache.clear().await,
        cache.connect().await,
        cache.ping().await,
        cache.close().await,
        cache.reconnect().await,
    ];
    for (at, answer) in answers.into_iter().enumerate() {
        let e = answer.expect_err(&format!("answer {at}"));
        assert_eq!(e.kind(), ErrorKind::Unavailable, "answer {at}");
        assert!(
            e.is_retryable() && e.op().is_some() && e.backend() == Some("memory"),
            "answer {at}: {e}"
        );
    }
}
