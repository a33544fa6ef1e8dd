//! Closures with leases, beside another process and beside loads of their own.

use super::{Runs, two_over_one};
use crate::trials::{eventually, within};
use larder::testing::{Fault, Verb};
use larder::{AsyncCacheWrapper, ErrorKind, EventKind};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3_600);
const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than any test: a call that waits for its end is seen.
const LEASE: Duration = Duration::from_secs(3_000);

/// Begins a load of a key, which has the lease until the gate opens.
async fn hold(
    cache: &AsyncCacheWrapper,
    key: &'static str,
) -> (Arc<Semaphore>, JoinHandle<larder::Result<u64>>) {
    let (cache, open, runs) = (cache.clone(), Arc::new(Semaphore::new(0)), Runs::default());
    let (gate, begun) = (open.clone(), runs.clone());
    let load = async move {
        begun.add();
        gate.acquire().await.unwrap().forget();
        200u64
    };
    let holding = tokio::spawn(async move {
        cache.lease(LEASE).force_refresh().get_or_set_async(key, load).await
    });
    eventually("it loads", || runs.count() == 1).await;
    (open, holding)
}

#[tokio::test]
async fn the_time_limits_of_a_closure_count_while_another_process_has_the_lease()
-> larder::Result<()> {
    let ([first, second], _) = two_over_one();
    let misses = super::events_of(&second, EventKind::Miss);
    first.ttl(MS).stale_for(HOUR).set("old", 100u64).await?;
    while first.contains("old").await? {
        tokio::time::sleep(MS).await;
    }
    let (old, new) = (hold(&first, "old").await, hold(&first, "new").await);
    let waiting = second.lease(LEASE).stale_for(HOUR).throttle(Duration::ZERO);
    for (which, limited) in [
        ("soft", waiting.soft_timeout(10 * MS)),
        ("hard", waiting.hard_timeout(10 * MS)),
        ("soft zero", waiting.soft_timeout(Duration::ZERO)),
        ("hard zero", waiting.hard_timeout(Duration::ZERO)),
    ] {
        let served = within(PATIENCE, which, limited.get_or_set_with("old", |_| 1)).await?;
        assert_eq!(served, 100, "{which}");
    }
    assert_eq!(misses.count(), 0);
    for limit in [10 * MS, Duration::ZERO] {
        let call = waiting.hard_timeout(limit).try_get_or_set_with("new", |key| key.parse::<u64>());
        let late = within(PATIENCE, "the hard timeout", call).await.unwrap_err();
        assert_eq!((late.kind(), late.key()), (ErrorKind::Timeout, Some("new")));
    }
    assert_eq!(misses.count(), 2);
    for (open, holding) in [old, new] {
        open.add_permits(1);
        assert_eq!(holding.await.unwrap()?, 200);
    }
    Ok(())
}

#[tokio::test]
async fn no_time_limit_ends_a_closure_that_runs() -> larder::Result<()> {
    let ([cache, _], adapter) = two_over_one();
    adapter.put(Verb::SetClaimed, Fault::Delay(20 * MS));
    for view in [cache.view(), cache.lease(LEASE)] {
        let view = view.stale_for(HOUR);
        for limit in [Duration::ZERO, MS] {
            cache.ttl(MS).stale_for(HOUR).set_many([("soft", 100u64), ("hard", 100)]).await?;
            while cache.contains("soft").await? || cache.contains("hard").await? {
                tokio::time::sleep(MS).await;
            }
            let new = view.hard_timeout(limit).get_or_set_with("new", |_| 7).await?;
            let soft = view.soft_timeout(limit).get_or_set_with("soft", |_| 7).await?;
            let hard = view.hard_timeout(limit).get_or_set_with("hard", |_| 7).await?;
            assert_eq!([new, soft, hard], [7; 3]);
            cache.remove("new").await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_closure_refreshes_no_due_value_that_another_process_refreshes() -> larder::Result<()> {
    let (([first, second], _), runs) = (two_over_one(), Runs::default());
    let ahead = second.ttl(HOUR).lease(LEASE).refresh_ahead(1e-7);
    ahead.set_many([("k", 100u64), ("free", 100)]).await?;
    let (open, holding) = hold(&first, "k").await;
    let load = |_: &str| {
        runs.add();
        1
    };
    // From the first millisecond of its age on the value is due.
    for _ in 0..20 {
        tokio::time::sleep(MS).await;
        assert_eq!(within(PATIENCE, "a hit", ahead.get_or_set_with("k", load)).await?, 100);
    }
    assert_eq!(runs.count(), 0);
    assert_eq!(ahead.get_or_set_with("free", load).await?, 100);
    assert_eq!((runs.count(), second.get("free").await?), (1, Some(1)), "it was due");
    open.add_permits(1);
    assert_eq!(holding.await.unwrap()?, 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_has_not_expired_is_served_while_another_process_recomputes_it()
-> larder::Result<()> {
    let (([first, second], _), runs) = (two_over_one(), Runs::default());
    let early = second.ttl(HOUR).lease(LEASE).early_refresh(f64::INFINITY);
    first.ttl(HOUR).set("k", 100u64).await?;
    let (open, holding) = hold(&first, "k").await;
    let load = || {
        let runs = runs.clone();
        async move {
            runs.add();
            runs.count() as u64
        }
    };
    let served = within(PATIENCE, "a future", early.get_or_load("k", load)).await?;
    assert_eq!(served, 100);
    let served = within(PATIENCE, "a closure", early.get_or_set_with("k", |_| 1)).await?;
    assert_eq!(served, 100);
    let served = within(PATIENCE, "in the caller", early.get_or_load_here("k", load)).await?;
    assert_eq!(served, 100);
    let many = |keys: Vec<String>| async { keys.into_iter().map(|key| (key, 1)) };
    let served = early.get_or_set_many_async(["k"], many);
    assert_eq!(within(PATIENCE, "a batch", served).await?, [Some(100)]);
    let blocking = second.blocking();
    let served = tokio::task::spawn_blocking(move || {
        let early = blocking.ttl(HOUR).lease(LEASE).early_refresh(f64::INFINITY);
        early.get_or_set_with("k", |_| 1)
    });
    assert_eq!(within(PATIENCE, "blocking", served).await.unwrap()?, 100);
    assert_eq!((runs.count(), second.stats().stale_hits), (0, 0));
    open.add_permits(1);
    assert_eq!(holding.await.unwrap()?, 200);
    assert_eq!(within(PATIENCE, "the lease is free", early.get_or_load("k", load)).await?, 1);
    Ok(())
}

#[tokio::test]
async fn who_has_no_value_waits_although_the_caller_that_began_has_one() -> larder::Result<()> {
    let ([first, second], adapter) = two_over_one();
    let brief = Duration::from_millis(500);
    first.ttl(brief).set("k", 100u64).await?;
    let (open, holding) = hold(&first, "k").await;
    adapter.put_next(Verb::Claim, 1, Fault::Delay(2 * brief));
    let early = second.ttl(HOUR).lease(LEASE).early_refresh(f64::INFINITY);
    let mut begun = std::pin::pin!(early.get_or_set_async("k", async { 1u64 }));
    assert!(futures_util::poll!(begun.as_mut()).is_pending(), "it asks for the lease");
    while first.contains("k").await? {
        tokio::time::sleep(MS).await;
    }
    let follower = second.clone();
    let following =
        tokio::spawn(
            async move { follower.lease(LEASE).get_or_set_async("k", async { 2u64 }).await },
        );
    assert_eq!(within(PATIENCE, "who had a value", begun).await?, 100);
    open.add_permits(1);
    assert_eq!(holding.await.unwrap()?, 200);
    assert_eq!(within(PATIENCE, "who had none", following).await.unwrap()?, 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forced_load_with_a_lease_that_asks_for_its_own_key_does_not_wait_for_itself()
-> larder::Result<()> {
    let ([cache, _], _) = two_over_one();
    let blocking = cache.blocking();
    let nested = tokio::task::spawn_blocking(move || {
        let forced = blocking.lease(LEASE).force_refresh();
        forced.get_or_set_with("closure", |_| {
            forced.get_or_set_with("closure", |_| 7u64).unwrap() + 1
        })
    });
    assert_eq!(within(PATIENCE, "a closure in a closure", nested).await.unwrap()?, 8);
    let inner = cache.clone();
    let outer = cache.lease(LEASE).force_refresh().get_or_set_async("future", async move {
        let forced = inner.lease(LEASE).force_refresh();
        let sum = forced.get_or_set_async("future", async { 7u64 }).await.unwrap();
        sum + forced.get_or_set_with("future", |_| 1).await.unwrap()
    });
    assert_eq!(within(PATIENCE, "both in a future", outer).await?, 8);
    let inner = cache.clone();
    let outer = cache.lease(LEASE).force_refresh().get_or_set_async("batch", async move {
        let forced = inner.lease(LEASE).force_refresh();
        let many = |keys: Vec<String>| async { keys.into_iter().map(|key| (key, 7u64)) };
        forced.get_or_set_many_async(["batch"], many).await.unwrap()[0].unwrap() + 1
    });
    assert_eq!(within(PATIENCE, "a batch in a future", outer).await?, 8);
    let inner = cache.clone();
    let outer = cache.lease(LEASE).force_refresh().get_or_load_here("here", || async move {
        let forced = inner.lease(LEASE).force_refresh();
        forced.get_or_load_here("here", || async { 7u64 }).await.unwrap() + 1
    });
    assert_eq!(within(PATIENCE, "in the caller", outer).await?, 8);

    // Without an end it is the error of any load that asks for its own key.
    let blocking = cache.blocking();
    let endless = tokio::task::spawn_blocking(move || endless(&blocking));
    let error = within(PATIENCE, "it ends", endless).await.unwrap().unwrap_err();
    assert_eq!(innermost(&error), ErrorKind::Reentrant, "{error:?}");
    Ok(())
}

/// A closure that runs itself in any case.
fn endless(cache: &larder::CacheWrapper) -> larder::Result<u64> {
    cache.lease(LEASE).force_refresh().try_get_or_set_with("endless", |_| endless(cache))
}

/// The error of the load in the load in the load.
fn innermost(error: &larder::Error) -> ErrorKind {
    error.load_error::<larder::Error>().map_or(error.kind(), innermost)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closure_with_a_lease_that_asks_for_its_own_key_does_not_wait_for_itself()
-> larder::Result<()> {
    let ([cache, other], _) = two_over_one();
    let inner = cache.clone();
    let outer = cache.lease(LEASE).get_or_set_async("future", async move {
        inner.lease(LEASE).get_or_set_with("future", |_| 7u64).await.unwrap() + 1
    });
    assert_eq!(within(PATIENCE, "a closure in a future", outer).await?, 8);
    let blocking = cache.blocking();
    let nested = tokio::task::spawn_blocking(move || {
        let inner = |_: &str| blocking.lease(LEASE).get_or_set_with("closure", |_| 7u64).unwrap();
        let middle = |_: &str| blocking.lease(LEASE).get_or_set_with("closure", inner).unwrap() + 1;
        let outer = |_: &str| blocking.lease(LEASE).get_or_set_with("through", middle).unwrap() + 1;
        blocking.lease(LEASE).get_or_set_with("closure", outer)
    });
    assert_eq!(within(PATIENCE, "closures in closures", nested).await.unwrap()?, 9);
    assert_eq!(other.get_many("closure future".split(' ')).await?, [Some(9u64), Some(8)]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn closures_of_one_process_share_one_load_under_a_lease() -> larder::Result<()> {
    let ([cache, other], _) = two_over_one();
    let (runs, gate) = (Runs::default(), Arc::new(std::sync::Barrier::new(8)));
    for round in 0..50 {
        let calls = (0..8).map(|_| {
            let (cache, runs, gate) = (cache.blocking(), runs.clone(), gate.clone());
            tokio::task::spawn_blocking(move || {
                gate.wait();
                cache.lease(LEASE).get_or_set_with(format!("k{round}"), |_| {
                    runs.add();
                    round
                })
            })
        });
        for call in calls.collect::<Vec<_>>() {
            assert_eq!(within(PATIENCE, "each has the value", call).await.unwrap()?, round);
        }
        assert_eq!(runs.count(), round + 1);
        assert_eq!(other.get(format!("k{round}")).await?, Some(round), "it is stored");
    }
    Ok(())
}
