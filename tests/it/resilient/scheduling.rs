//! Calls that are answered at once leave room for the other tasks of a current-thread runtime.

use super::*;
use larder::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};

/// By the clock on the wall: a runtime that is starved has no timers.
const PATIENCE: Duration = Duration::from_secs(20);

/// A timer that other tasks must let go off.
fn ticker() -> Arc<AtomicUsize> {
    let ticks = Arc::new(AtomicUsize::new(0));
    let seen = ticks.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(1)).await;
            seen.fetch_add(1, Ordering::Relaxed);
        }
    });
    ticks
}

/// One call of each kind.
async fn calls(cache: &Resilient<Store>) -> Vec<Result<()>> {
    let entry = Entry::new("k", CacheValue::new(1), Expiry::Never);
    vec![
        cache.get("k").await.map(drop),
        put(cache, "k", "v").await,
        cache.remove("k").await.map(drop),
        cache.clear("k").await,
        cache.add("k", CacheValue::new(1), Expiry::Never).await.map(drop),
        cache.contains("k").await.map(drop),
        cache.get_many(&["k"]).await.map(drop),
        cache.set_many(&[entry]).await.map(drop),
        cache.remove_many(&["k"]).await.map(drop),
        cache.claim("k", None).await.map(drop),
    ]
}

#[tokio::test]
async fn a_loop_of_refused_calls_lets_timers_go_off() {
    for (breaker, fail_open) in [(true, false), (true, true), (false, false)] {
        let (cache, store) = around(|layer| layer.retry(0).breaker(breaker).fail_open(fail_open));
        store.put_on_all(AWAY);
        // Until the breaker is open, and what is noted has been tried: before that, calls wait.
        for _ in 0..20 {
            calls(&cache).await;
        }
        let (ticks, begun) = (ticker(), std::time::Instant::now());
        while ticks.load(Ordering::Relaxed) < 10 {
            assert!(begun.elapsed() < PATIENCE, "starved: {breaker}, {fail_open}");
            calls(&cache).await;
        }
    }
}

#[tokio::test]
async fn a_loop_over_keys_that_are_not_made_up_for_lets_timers_go_off() {
    let (cache, store) = around(|layer| layer.retry(0).breaker(false));
    store.put_on_all(AWAY);
    cache.remove("k").await.unwrap_err();
    // Tried once: from then on the key is refused at once.
    until("writing it was tried", || store.calls(larder::testing::Verb::Get) > 0).await;
    let (ticks, begun) = (ticker(), std::time::Instant::now());
    while ticks.load(Ordering::Relaxed) < 10 {
        assert!(begun.elapsed() < PATIENCE, "starved");
        cache.get("k").await.unwrap_err();
    }
}

/// The task that asks for a sign of life is on the thread of the loop.
#[tokio::test]
async fn a_loop_of_refused_calls_sees_the_backend_come_back() {
    let (cache, store) = around(|layer| layer.retry(0));
    store.put_on_all(AWAY);
    let begun = std::time::Instant::now();
    while cache.breaker_state() == BreakerState::Closed {
        calls(&cache).await;
    }
    store.heal_all();
    while cache.get("k").await.is_err() || put(&cache, "k", "v").await.is_err() {
        assert!(begun.elapsed() < PATIENCE, "nothing closes the breaker");
    }
}
