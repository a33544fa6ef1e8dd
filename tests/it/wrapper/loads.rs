//! Loaders that are closures: one that may fail, one that makes a future, one whose future stays in
//! its caller.

use super::{Runs, events_of, faulty, fresh, plain_and_encoded};
use crate::trials::{eventually, within};
use futures_util::future::join_all;
use larder::testing::{Fault, Verb};
use larder::{AsyncCacheWrapper, AsyncMemoryCache, ErrorKind, EventKind};
use std::cell::Cell;
use std::error::Error as _;
use std::future::{Future, poll_fn};
use std::num::ParseIntError;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::Semaphore;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(20);

/// Polls once.
fn poke<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Polls as the task that calls it.
async fn poke_in_task<F: Future>(mut future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

#[tokio::test]
async fn a_closure_that_fails_stores_nothing_and_its_error_is_the_callers() -> larder::Result<()> {
    for cache in plain_and_encoded() {
        let error = cache.try_get_or_set_with("k", |_| "x".parse::<u8>()).await.unwrap_err();
        assert_eq!((error.kind(), error.key()), (ErrorKind::Load, Some("k")));
        assert!(error.load_error::<ParseIntError>().is_some());
        assert!(!cache.contains("k").await?);
        let good = |key: &str| key.len().to_string().parse::<u8>();
        assert_eq!(cache.try_get_or_set_with("k", good).await?, 1);
        let unused = |_: &str| -> Result<u8, String> { panic!("run on a hit") };
        assert_eq!(cache.try_get_or_set_with("k", unused).await?, 1);
        cache.remove("k").await?;
        let panics = |_: &str| -> Result<u8, String> { panic!("no value") };
        let error = cache.try_get_or_set_with("k", panics).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Panic);
        let blocking = cache.blocking();
        let error = blocking.try_get_or_set_with("k", |key| key.parse::<u8>()).unwrap_err();
        assert!(error.load_error::<ParseIntError>().is_some());
        assert_eq!(blocking.try_get_or_set_with("k", |_| "9".parse::<u8>())?, 9);
    }
    Ok(())
}

#[tokio::test]
async fn a_stale_value_is_served_when_a_closure_fails() -> larder::Result<()> {
    let cache = fresh();
    let view = cache.ttl(MS).stale_for(3_600 * SECOND);
    view.set("k", 7u8).await?;
    while cache.contains("k").await? {
        tokio::time::sleep(MS).await;
    }
    assert_eq!(view.try_get_or_set_with("k", |_| Err::<u8, _>("the source is away")).await?, 7);
    Ok(())
}

#[tokio::test]
async fn the_closure_that_makes_a_future_runs_on_a_miss_only() -> larder::Result<()> {
    let (cache, runs) = (fresh(), Runs::default());
    let calls = (0..100).map(|at: u64| {
        let runs = runs.clone();
        cache.get_or_load("k", move || {
            runs.add();
            async move {
                tokio::time::sleep(20 * MS).await;
                at
            }
        })
    });
    let answers = within(PATIENCE, "one load", join_all(calls)).await;
    let first = answers[0].clone()?;
    assert!(answers.into_iter().all(|answer| answer.unwrap() == first));
    assert_eq!(runs.count(), 1, "one closure for all who wait");
    let unused = || -> std::future::Ready<u64> { panic!("made on a hit") };
    assert_eq!(cache.get_or_load("k", unused).await?, first);
    assert_eq!(cache.get_or_load_here("k", unused).await?, first);
    Ok(())
}

#[tokio::test]
async fn a_load_goes_on_without_the_caller_whose_closure_made_it() -> larder::Result<()> {
    let (cache, open) = (fresh(), Arc::new(Semaphore::new(0)));
    {
        let mut call = pin!(cache.get_or_load("k", || {
            let open = open.clone();
            async move {
                open.acquire().await.unwrap().forget();
                5u8
            }
        }));
        assert!(poke(call.as_mut()).is_pending());
    }
    open.add_permits(1);
    for _ in 0..1_000 {
        if cache.contains("k").await? {
            break;
        }
        tokio::time::sleep(2 * MS).await;
    }
    assert_eq!(cache.get("k").await?, Some(5u8));
    Ok(())
}

#[tokio::test]
async fn a_closure_that_panics_instead_of_making_a_future() -> larder::Result<()> {
    let cache = fresh();
    let panics = || -> std::future::Ready<u8> { panic!("no future") };
    for error in [
        cache.get_or_load("k", panics).await.unwrap_err(),
        cache.get_or_load_here("k", panics).await.unwrap_err(),
        cache.blocking().get_or_load("k", panics).unwrap_err(),
        cache.blocking().get_or_load_here("k", panics).unwrap_err(),
    ] {
        assert_eq!((error.kind(), error.key()), (ErrorKind::Panic, Some("k")));
        assert!(error.source().unwrap().to_string().contains("no future"));
    }
    assert_eq!(cache.get_or_load("k", || async { 5u8 }).await?, 5, "the next call runs at once");
    Ok(())
}

// ---- in the caller

#[tokio::test]
async fn a_load_in_its_caller_may_borrow_and_be_of_one_thread() -> larder::Result<()> {
    for cache in plain_and_encoded() {
        let (name, count) = ("site".to_owned(), Rc::new(Cell::new(0)));
        let mut asked = Vec::new();
        let answer = cache.get_or_load_here("k", || async {
            tokio::task::yield_now().await;
            count.set(count.get() + 1);
            asked.push(name.as_str());
            name.len()
        });
        assert_eq!(answer.await?, 4);
        let fails = || async { name.parse::<usize>() };
        let error = cache.try_get_or_load_here("other", fails).await.unwrap_err();
        assert!(error.load_error::<ParseIntError>().is_some());
        assert!(!cache.contains("other").await?);
        let blocking = cache.blocking();
        assert_eq!(blocking.get_or_load_here("b", || async { name.len() + count.get() })?, 5);
        assert_eq!((asked, count.get()), (vec!["site"], 1));
        assert_eq!(cache.get("k").await?, Some(4usize));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_callers_that_carry_their_loads_run_one() {
    let (cache, runs) = (fresh(), Runs::default());
    let calls = (0..1_000).map(|_| {
        let (cache, runs) = (cache.clone(), runs.clone());
        tokio::spawn(async move {
            let load = || async {
                runs.add();
                tokio::time::sleep(50 * MS).await;
                42u64
            };
            cache.get_or_load_here("k", load).await
        })
    });
    for answer in within(PATIENCE, "one load", join_all(calls)).await {
        assert_eq!(answer.unwrap().unwrap(), 42);
    }
    assert_eq!(runs.count(), 1);
}

/// Sets a flag when it is dropped.
struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_dropped_caller_drops_its_load_and_the_next_begins_anew() -> larder::Result<()> {
    let (cache, runs) = (fresh(), Runs::default());
    let is_dropped = Arc::new(AtomicBool::new(false));
    let guard = Dropped(is_dropped.clone());
    let mut leader = Box::pin(cache.get_or_load_here("k", || async {
        let _guard = guard;
        runs.add();
        std::future::pending::<u64>().await
    }));
    assert!(poke(leader.as_mut()).is_pending());
    let follow = || async {
        runs.add();
        7u64
    };
    let mut followers = pin!(join_all((0..10).map(|_| cache.get_or_load_here("k", follow))));
    assert!(poke_in_task(followers.as_mut()).await.is_pending());
    assert_eq!((runs.count(), is_dropped.load(Ordering::SeqCst)), (1, false));
    drop(leader);
    assert!(is_dropped.load(Ordering::SeqCst), "the load ends with its caller");
    for answer in within(PATIENCE, "the followers", followers).await {
        assert_eq!(answer?, 7);
    }
    assert_eq!(runs.count(), 2, "one of the followers ran its own, once");
    Ok(())
}

/// A caller that holds its call and does not poll it: its waiters load by themselves.
#[cfg(feature = "test-util")]
#[tokio::test(start_paused = true)]
async fn who_waits_for_a_call_that_is_not_polled_waits_five_seconds_at_most() -> larder::Result<()>
{
    let (cache, open) = (fresh(), Semaphore::new(0));
    let mut parked = pin!(cache.get_or_load_here("k", || async {
        open.acquire().await.unwrap().forget();
        1u64
    }));
    assert!(poke_in_task(parked.as_mut()).await.is_pending());
    let begun = tokio::time::Instant::now();
    assert_eq!(cache.get_or_load_here("k", || async { 2u64 }).await?, 2);
    assert!(begun.elapsed() <= 5 * SECOND, "{:?}", begun.elapsed());
    assert!(begun.elapsed() >= SECOND, "it did wait: {:?}", begun.elapsed());
    open.add_permits(1);
    assert_eq!(parked.await?, 1, "the parked one can still be picked up");
    assert_eq!(cache.get("k").await?, Some(2u64), "and does not replace a newer value");
    Ok(())
}

/// How long a load takes says nothing about whether its caller polls it.
#[cfg(feature = "test-util")]
#[tokio::test(start_paused = true)]
async fn a_load_of_75_s_in_its_caller_runs_once_for_a_hundred() -> larder::Result<()> {
    let (cache, runs) = (fresh(), Runs::default());
    let load = || async {
        runs.add();
        tokio::time::sleep(75 * SECOND).await;
        42u64
    };
    let calls = (0..100).map(|_| cache.get_or_load_here("k", load));
    assert!(join_all(calls).await.into_iter().all(|answer| answer.unwrap() == 42));
    assert_eq!(runs.count(), 1);
    Ok(())
}

/// The leader is a future of the thread that its follower blocks.
#[tokio::test]
async fn a_blocked_follower_of_its_own_threads_load_loads_by_itself() -> larder::Result<()> {
    let (cache, open) = (fresh(), Semaphore::new(0));
    let mut leader = pin!(cache.get_or_load_here("k", || async {
        open.acquire().await.unwrap().forget();
        1u64
    }));
    assert!(poke_in_task(leader.as_mut()).await.is_pending());
    assert_eq!(cache.blocking().get_or_load_here("k", || async { 2u64 })?, 2);
    open.add_permits(1);
    assert_eq!(leader.await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_load_in_its_caller_does_not_undo_a_removal_a_write_or_a_swap() -> larder::Result<()> {
    let (cache, _) = faulty();
    let racing = async |then: &str| {
        let cache = &cache;
        let load = || async move {
            match then {
                "remove" => drop(cache.remove("k").await),
                "set" => cache.set("k", 2u8).await.unwrap(),
                "clear" => cache.clear().await.unwrap(),
                _ => drop(cache.swap_adapter(AsyncMemoryCache::new())),
            }
            1u8
        };
        cache.get_or_load_here("k", load).await
    };
    for then in ["remove", "clear", "swap"] {
        assert_eq!(racing(then).await?, 1, "{then}");
        assert_eq!(cache.get::<u8>("k").await?, None, "{then}");
    }
    assert_eq!(racing("set").await?, 1);
    assert_eq!(cache.get("k").await?, Some(2u8));
    Ok(())
}

#[tokio::test]
async fn a_load_in_its_caller_that_panics_is_an_error_for_all() -> larder::Result<()> {
    let cache = fresh();
    let panics = || async {
        tokio::task::yield_now().await;
        if true { panic!("the loader panics") } else { 0u8 }
    };
    for answer in join_all((0..10).map(|_| cache.get_or_load_here("k", panics))).await {
        let error = answer.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Panic);
        assert!(error.source().unwrap().to_string().contains("the loader panics"));
    }
    assert_eq!(cache.get_or_load_here("k", || async { 5u8 }).await?, 5);
    Ok(())
}

#[tokio::test]
async fn a_load_in_its_caller_that_asks_for_its_own_key_runs_unshared() -> larder::Result<()> {
    let (cache, runs) = (fresh(), Runs::default());
    let inner = || async {
        runs.add();
        1u64
    };
    let outer = || async {
        runs.add();
        cache.get_or_load_here("k", inner).await.map(|value| value + 1)
    };
    assert_eq!(within(PATIENCE, "no deadlock", cache.try_get_or_load_here("k", outer)).await?, 2);
    assert_eq!(runs.count(), 2);
    Ok(())
}

#[tokio::test]
async fn options_that_need_a_task_are_refused_on_a_miss_and_on_a_hit() -> larder::Result<()> {
    let cache = fresh();
    for _ in ["a miss", "a hit"] {
        for view in [cache.soft_timeout(SECOND), cache.refresh_ahead(0.5)] {
            let error = view.get_or_load_here("k", || async { 1u8 }).await.unwrap_err();
            assert_eq!((error.kind(), error.key()), (ErrorKind::Config, Some("k")), "{error}");
            assert!(error.to_string().contains("get_or_load_here"), "{error}");
            let fails = view.try_get_or_load_here("k", || async { Ok::<_, String>(1u8) }).await;
            assert_eq!(fails.unwrap_err().kind(), ErrorKind::Config);
            let blocking = view.into_cache().blocking();
            let error = blocking.get_or_load_here("k", || async { 1u8 }).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
        }
        cache.set("k", 1u8).await?;
    }
    let by_url = AsyncCacheWrapper::new("memory:?refresh_ahead=0.5")?;
    by_url.set("k", 1u8).await?;
    let error = by_url.get_or_load_here("k", || async { 1u8 }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_eq!(by_url.get_or_load("k", || async { 2u8 }).await?, 1, "with a task it is served");
    Ok(())
}

#[tokio::test]
async fn a_hard_timeout_ends_a_load_in_its_caller() -> larder::Result<()> {
    let cache = fresh();
    let is_dropped = Arc::new(AtomicBool::new(false));
    let guard = Dropped(is_dropped.clone());
    let load = || async {
        let _guard = guard;
        std::future::pending::<u8>().await
    };
    let late = cache.hard_timeout(10 * MS).get_or_load_here("k", load).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Timeout);
    assert!(is_dropped.load(Ordering::SeqCst));
    assert_eq!(cache.get_or_load_here("k", || async { 5u8 }).await?, 5);
    Ok(())
}

#[tokio::test]
async fn what_was_loaded_is_stored_although_its_caller_leaves_before_that() -> larder::Result<()> {
    let (cache, adapter) = faulty();
    adapter.put_next(Verb::Set, 1, Fault::Delay(50 * MS));
    {
        let mut call = pin!(cache.get_or_load_here("k", || async { 5u8 }));
        eventually_pending(call.as_mut(), || adapter.calls(Verb::Set) == 1).await;
    }
    for _ in 0..1_000 {
        if cache.contains("k").await? {
            break;
        }
        tokio::time::sleep(2 * MS).await;
    }
    assert_eq!(cache.get("k").await?, Some(5u8));
    Ok(())
}

/// Polls until `holds`, while there is no answer yet.
async fn eventually_pending<F: Future>(
    mut call: std::pin::Pin<&mut F>,
    mut holds: impl FnMut() -> bool,
) {
    for _ in 0..1_000 {
        assert!(poke_in_task(call.as_mut()).await.is_pending(), "it is over already");
        if holds() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it does not come that far");
}

#[tokio::test]
async fn what_was_loaded_and_cannot_be_stored_reaches_its_caller() -> larder::Result<()> {
    let (cache, adapter) = faulty();
    adapter.put(Verb::Set, Fault::Fail(ErrorKind::Unavailable));
    let failures = events_of(&cache, EventKind::BackendError);
    assert_eq!(cache.get_or_load_here("a", || async { 1u8 }).await?, 1);
    assert_eq!(cache.get_or_load("b", || async { 2u8 }).await?, 2);
    assert_eq!(cache.try_get_or_set_with("c", |_| Ok::<_, String>(3u8)).await?, 3);
    assert_eq!(failures.count(), 3, "the event says why");
    let strict = cache.fail_open(false);
    let error = strict.get_or_load_here("a", || async { 1u8 }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    Ok(())
}

/// Followers on both faces, of leaders on both faces.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_follows_a_load_of_a_blocked_thread() -> larder::Result<()> {
    let (cache, runs) = (fresh(), Runs::default());
    let open = Arc::new(Semaphore::new(0));
    let blocked = std::thread::spawn({
        let (cache, runs, open) = (cache.blocking(), runs.clone(), open.clone());
        move || {
            cache.get_or_load_here("k", || async {
                runs.add();
                open.acquire().await.unwrap().forget();
                1u8
            })
        }
    });
    eventually("the loader starts", || runs.count() == 1).await;
    let follower = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get_or_load_here("k", || async { 2u8 }).await }
    });
    eventually("it follows", || cache.stats().joined == 1).await;
    open.add_permits(1);
    assert_eq!(follower.await.unwrap()?, 1);
    assert_eq!(blocked.join().unwrap()?, 1);
    Ok(())
}
