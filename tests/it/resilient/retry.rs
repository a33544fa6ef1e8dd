//! Calls that are made again, and those that are not.

use super::*;
use larder::testing::Verb;

#[tokio::test(start_paused = true)]
async fn reads_and_sets_are_made_again_and_nothing_else() {
    let (cache, store) = around(|layer| layer.retry(2).breaker(false).recovery(false));
    for verb in [Verb::Get, Verb::Set, Verb::Contains, Verb::Expiry, Verb::GetMany, Verb::SetMany] {
        store.put_next(verb, 2, AWAY);
    }
    put(&cache, "k", "v").await.unwrap();
    assert_eq!(text(&cache, "k").await.unwrap().as_deref(), Some("v"));
    assert!(cache.contains("k").await.unwrap() && cache.expiry("k").await.unwrap().is_some());
    for verb in [Verb::Get, Verb::Set, Verb::Contains, Verb::Expiry] {
        assert_eq!(store.calls(verb), 3, "{verb}");
    }

    let (cache, store) = around(|layer| layer.retry(2).breaker(false).recovery(false));
    store.put_on_all(AWAY);
    assert!(cache.remove("k").await.is_err() && cache.take("k").await.is_err());
    assert!(
        cache.incr("k", 1, Expiry::Never).await.is_err()
            && cache.touch("k", Expiry::Never).await.is_err()
    );
    assert!(cache.add("k", CacheValue::new(1), Expiry::Never).await.is_err());
    assert!(cache.replace("k", CacheValue::new(1), Expiry::Never).await.is_err());
    assert!(cache.remove_many(&["k"]).await.is_err() && cache.clear("").await.is_err());
    assert_eq!(store.all_calls(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_which_nothing_was_answered_is_made_again() {
    let (cache, store) = around(|layer| layer.retry(2).breaker(false));
    put(&cache, "a", "1").await.unwrap();
    store.put_next(Verb::GetMany, 2, AWAY);
    let found = cache.get_many(&["a", "b"]).await.unwrap();
    assert!(matches!(&found[..], [Ok(Some(_)), Ok(None)]));
    assert_eq!(store.calls(Verb::GetMany), 3);
}

/// It has had its time, and a write may still be in flight.
#[tokio::test(start_paused = true)]
async fn what_timed_out_is_not_made_again() {
    let (cache, store) = around(|layer| layer.retry(2).breaker(false).recovery(false));
    store.put_on_all(Fault::Fail(ErrorKind::Timeout));
    assert!(cache.get("k").await.is_err() && put(&cache, "k", "v").await.is_err());
    assert_eq!(store.all_calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_failing_calls_are_made_again_ten_times_in_all() {
    let (cache, store) = around(|layer| layer.retry(2).breaker(false));
    store.put_on_all(AWAY);
    for _ in 0..1_000 {
        assert!(cache.get("k").await.is_err());
    }
    assert_eq!(store.calls(Verb::Get), 1_010);

    // What goes well pays for a tenth of a retry.
    store.heal_all();
    for _ in 0..50 {
        cache.get("k").await.unwrap();
    }
    store.put_on_all(AWAY);
    store.reset_calls();
    for _ in 0..1_000 {
        assert!(cache.get("k").await.is_err());
    }
    assert_eq!(store.calls(Verb::Get), 1_005);
}

#[tokio::test(start_paused = true)]
async fn one_deadline_for_all_attempts() {
    let deadline = Duration::from_millis(100);
    let (cache, store) = around(|layer| layer.retry(2).deadline(deadline).recovery(false));
    store.put(Verb::Get, Fault::Hang);
    let begun = Instant::now();
    let error = cache.get("k").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.backend(), error.op()),
        (ErrorKind::Timeout, Some("memory"), Some("get"))
    );
    assert!(
        (deadline..deadline + Duration::from_millis(3)).contains(&begun.elapsed()),
        "{:?}",
        begun.elapsed()
    );

    // The first attempt fails at once, and the second hangs.
    let (hangs, fails) = (store, FaultyAdapter::new(around(|layer| layer).1));
    fails.put_next(Verb::Get, 1, AWAY);
    fails.inner().put(Verb::Get, Fault::Hang);
    let cache = Resilient::builder(Arc::new(fails)).retry(2).deadline(deadline).build();
    let begun = Instant::now();
    assert!(cache.get("k").await.unwrap_err().is_timeout());
    assert_eq!((cache.inner().calls(Verb::Get), hangs.calls(Verb::Get)), (2, 1));
    assert!(
        (deadline..deadline + Duration::from_millis(3)).contains(&begun.elapsed()),
        "{:?}",
        begun.elapsed()
    );

    // What goes well in time goes well; what goes in steps is left alone.
    let (cache, store) = around(|layer| layer.deadline(deadline));
    store.put(Verb::Set, Fault::Delay(Duration::from_millis(60)));
    for _ in 0..3 {
        put(&cache, "k", "v").await.unwrap();
    }
    store.put(Verb::Clear, Fault::Delay(Duration::from_secs(3)));
    cache.clear("").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn none_is_made_behind_an_open_breaker() {
    let (cache, store) = around(|layer| layer.retry(2).breaker_failures(1));
    store.put_on_all(AWAY);
    let calls: Vec<_> = (0..5)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.get("k").await })
        })
        .collect();
    for call in calls {
        assert!(call.await.unwrap().is_err());
    }
    assert!(store.calls(Verb::Get) < 15, "{}", store.calls(Verb::Get));
    assert_ne!(cache.breaker_state(), BreakerState::Closed);
}
