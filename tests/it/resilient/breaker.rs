//! The breaker opens, sends the backend no calls, and finds out by itself when it is back.

use super::*;
use larder::testing::Verb;

#[tokio::test(start_paused = true)]
async fn failures_in_a_row_open_it_and_nothing_is_sent_while_it_is_open() {
    let (cache, store) = around(|layer| layer.retry(0).breaker_failures(5).recovery(false));
    store.put_on_all(AWAY);
    for _ in 0..4 {
        assert_eq!(cache.get("k").await.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    assert_eq!(cache.breaker_state(), BreakerState::Closed);
    cache.get("k").await.unwrap_err();
    assert_eq!(cache.breaker_state(), BreakerState::Open);
    store.reset_calls();
    let begun = Instant::now();
    for _ in 0..100 {
        let refused = [
            cache.get("k").await.map(drop),
            put(&cache, "k", "v").await,
            cache.remove("k").await.map(drop),
            cache.update_timeout("k", Expiry::Never).await.map(drop),
            cache.clear("").await,
            cache.add("k", CacheValue::new(1), Expiry::Never).await.map(drop),
            cache.replace("k", CacheValue::new(1), Expiry::Never).await.map(drop),
            cache.incr("k", 1, Expiry::Never).await.map(drop),
            cache.take("k").await.map(drop),
            cache.expiry("k").await.map(drop),
            cache.contains("k").await.map(drop),
            cache.touch("k", Expiry::Never).await.map(drop),
            cache.get_many(&["k"]).await.map(drop),
            cache.set_many(&[]).await.map(drop),
            cache.remove_many(&["k"]).await.map(drop),
            cache.claim("k", None).await.map(drop),
            cache
                .set_claimed("k", CacheValue::new(1), Expiry::Never, &larder::Claim::unguarded())
                .await
                .map(drop),
            cache.release("k", &larder::Claim::unguarded()).await,
        ];
        for answer in refused {
            let error = answer.unwrap_err();
            assert_eq!(
                (error.kind(), error.backend()),
                (ErrorKind::Unavailable, Some("memory")),
                "{error}"
            );
            assert!(error.op().is_some());
        }
        assert_eq!(
            cache.get("").await.unwrap_err().kind(),
            ErrorKind::InvalidKey,
            "what is wrong with a call itself comes first"
        );
    }
    assert_eq!(
        (begun.elapsed(), store.all_calls()),
        (Duration::ZERO, 0),
        "at once, and without the store"
    );
}

#[tokio::test(start_paused = true)]
async fn only_the_backends_absence_counts() {
    let (cache, store) = around(|layer| layer.retry(0).breaker_failures(3));
    for kind in [
        ErrorKind::TooLarge,
        ErrorKind::NotANumber,
        ErrorKind::Overflow,
        ErrorKind::Backend,
        ErrorKind::Encode,
    ] {
        store.put(Verb::Get, Fault::Fail(kind));
        for _ in 0..50 {
            assert_eq!(cache.get("k").await.unwrap_err().kind(), kind);
        }
    }
    assert_eq!(cache.breaker_state(), BreakerState::Closed);
    store.put(Verb::Get, Fault::Fail(ErrorKind::Timeout));
    break_it(&cache).await;
}

#[tokio::test(start_paused = true)]
async fn one_probe_at_a_time_and_no_caller_pays_for_it() {
    let (cache, store) = around(|layer| layer.retry(0));
    store.put_on_all(AWAY);
    break_it(&cache).await;
    store.put(Verb::Ping, Fault::Delay(Duration::from_secs(3)));
    store.put(Verb::Get, Fault::Hang);
    store.reset_calls();
    until("a probe is in flight", || cache.breaker_state() == BreakerState::HalfOpen).await;
    let begun = Instant::now();
    for _ in 0..1_000 {
        assert!(cache.get("k").await.is_err());
        assert_eq!(cache.breaker_state(), BreakerState::HalfOpen);
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(store.all_calls(), 1, "one ping, and nothing else");
    store.heal_all();
    // The call in flight was made slow before the store was healed.
    until("it closes", || cache.breaker_state() == BreakerState::Closed).await;
    assert_eq!(store.calls(Verb::Ping), 1);
    assert!(text(&cache, "k").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn probes_are_few_jittered_and_end_with_the_first_that_succeeds() {
    let (cache, store) = around(|layer| layer.retry(0));
    store.put_on_all(AWAY);
    break_it(&cache).await;
    store.reset_calls();
    let mut at = Vec::new();
    for _ in 0..200 {
        let before = store.calls(Verb::Ping);
        at.push(until("the next probe", || store.calls(Verb::Ping) > before).await);
    }
    let begun = Instant::now();
    store.heal_all();
    let closed = until("it closes", || cache.breaker_state() == BreakerState::Closed).await;
    let probes = store.calls(Verb::Ping);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(store.calls(Verb::Ping), probes, "who is there is not asked");
    let late = &at[10..];
    println!(
        "{} probes: the first after {:?}, then every {:?} to {:?}",
        at.len(),
        at[0],
        late.iter().min(),
        late.iter().max()
    );
    assert!(at[0] <= Duration::from_millis(60));
    assert!(
        late.iter()
            .all(|pause| (Duration::from_millis(99)..=Duration::from_millis(202)).contains(pause)),
        "{late:?}"
    );
    let distinct: std::collections::HashSet<_> = late.iter().collect();
    assert!(distinct.len() > 20, "{distinct:?}");
    assert!(closed <= Duration::from_millis(202), "{closed:?} {:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_hangs_is_given_up() {
    let (cache, store) = around(|layer| layer.retry(0).deadline(Duration::from_millis(250)));
    store.put_on_all(AWAY);
    break_it(&cache).await;
    store.put_next(Verb::Ping, 1, Fault::Hang);
    store.heal(Verb::Get);
    until("the probe hangs", || cache.breaker_state() == BreakerState::HalfOpen).await;
    let again = until("it is open again", || cache.breaker_state() == BreakerState::Open).await;
    assert!(again <= Duration::from_millis(252), "{again:?}");
    until("the next one succeeds", || cache.breaker_state() == BreakerState::Closed).await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_from_before_says_nothing_about_afterwards() {
    let (cache, store) = around(|layer| layer.retry(0).breaker_failures(2));
    store.put(Verb::Get, Fault::FailAfter(ErrorKind::Unavailable));
    let slow = |cache: Resilient<Store>| tokio::spawn(async move { cache.contains("k").await });
    store.put(Verb::Contains, Fault::Delay(Duration::from_secs(10)));
    let late: Vec<_> = (0..10).map(|_| slow(cache.clone())).collect();
    tokio::task::yield_now().await;
    break_it(&cache).await;
    store.heal_all();
    until("it closes", || cache.breaker_state() == BreakerState::Closed).await;
    for call in late {
        assert!(!call.await.unwrap().unwrap());
    }
    assert_eq!(cache.breaker_state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn who_asks_in_so_many_words_is_not_refused() {
    let (cache, store) = around(|layer| layer.retry(0));
    store.put_on_all(AWAY);
    break_it(&cache).await;
    assert!(cache.connect().await.is_err() && cache.ping().await.is_err());
    store.heal_all();
    cache.ping().await.unwrap();
    assert_eq!(cache.breaker_state(), BreakerState::Closed);
    assert!(text(&cache, "k").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn without_a_breaker_every_call_is_tried() {
    let (cache, store) = around(|layer| layer.retry(0).breaker(false));
    store.put_on_all(AWAY);
    for _ in 0..1_000 {
        assert!(cache.get("k").await.is_err());
    }
    assert_eq!((store.calls(Verb::Get), store.calls(Verb::Ping)), (1_000, 0));
    assert_eq!(cache.breaker_state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn observers_get_one_event_each_time() {
    let (layer, store) = around(|layer| layer.retry(0));
    let cache = AsyncCacheWrapper::new(layer.clone()).unwrap();
    cache.set_adapter(layer.clone()).unwrap();
    let events = events(&cache);
    for round in 1..=3 {
        store.put_on_all(AWAY);
        break_it(&layer).await;
        assert_eq!(
            (count(&events, EventKind::BreakerOpen), count(&events, EventKind::BreakerClose)),
            (round, round - 1)
        );
        store.heal_all();
        until("it closes", || layer.breaker_state() == BreakerState::Closed).await;
        assert_eq!(
            (count(&events, EventKind::BreakerOpen), count(&events, EventKind::BreakerClose)),
            (round, round)
        );
    }
}

/// The wrapper's promise, and what it costs.
#[tokio::test(start_paused = true)]
async fn while_it_is_open_get_or_set_costs_its_fallback() {
    let (layer, store) = around(|layer| layer.retry(0));
    let cache = AsyncCacheWrapper::new(layer.clone()).unwrap();
    store.put_on_all(AWAY);
    break_it(&layer).await;
    store.put(Verb::Ping, Fault::Hang);
    store.reset_calls();
    let begun = Instant::now();
    for n in 0..100u64 {
        let loader = async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            n
        };
        assert_eq!(cache.get_or_set_async(format!("k{n}"), loader).await.unwrap(), n);
    }
    assert_eq!(begun.elapsed(), Duration::from_millis(500));
    assert!(store.all_calls() <= 1, "a ping at most");
    assert_eq!(cache.get::<u64>("k1").await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(
        cache.fail_open(false).get_or_set("k1", 1u64).await.unwrap_err().kind(),
        ErrorKind::Unavailable
    );
}

#[test]
fn a_runtime_that_ends_does_not_leave_it_open() {
    let (cache, store) = around(|layer| layer.retry(0));
    store.put_on_all(AWAY);
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime().block_on(break_it(&cache));
    store.heal_all();
    runtime().block_on(async {
        assert!(cache.get("k").await.is_err(), "it sees to it that somebody asks again");
        until("it closes", || cache.breaker_state() == BreakerState::Closed).await;
    });
}

#[tokio::test(start_paused = true)]
async fn a_rebuilt_adapter_takes_it_over() {
    let (cache, store) = around(|layer| layer.retry(0));
    store.put_on_all(AWAY);
    break_it(&cache).await;
    assert!(cache.rebuild().is_err());
    store.heal(Verb::Rebuild);
    let rebuilt = cache.rebuild().unwrap();
    drop(cache);
    assert_eq!(
        (rebuilt.backend(), rebuilt.get("k").await.unwrap_err().kind()),
        ("memory", ErrorKind::Unavailable)
    );
    store.heal_all();
    for _ in 0..10_000 {
        if rebuilt.get("k").await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("nobody asks for a sign of life");
}

/// Why the backend is away is in the errors of calls that it is not asked for.
#[tokio::test(start_paused = true)]
async fn a_refused_call_says_why_the_backend_is_away() {
    let (cache, store) = around(|layer| layer.retry(0));
    store.put_on_all(AWAY);
    break_it(&cache).await;
    let refusals = [
        cache.get("k").await.map(drop),
        put(&cache, "k", "v").await,
        cache.remove("other").await.map(drop),
        cache.clear("x").await,
    ];
    for refusal in refusals {
        let error = refusal.unwrap_err();
        let source = std::error::Error::source(&error).expect("a cause");
        let cause = source.downcast_ref::<larder::Error>().expect("the backend's own error");
        assert_eq!(cause.kind(), ErrorKind::Unavailable, "{cause}");
    }
    let error = cache.get("").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidKey);
    assert!(std::error::Error::source(&error).is_none());
}
