//! Batches with leases, beside another process and beside loads of their own.

use super::{Asked, MS, PATIENCE, SECOND, closed, source_away, stale, two_over_one};
use crate::trials::{eventually, within};
use crate::wrapper::Runs;
use futures_util::FutureExt;
use larder::testing::{Fault, Verb};
use larder::{AsyncCacheWrapper, ErrorKind, EventKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Longer than any test: a lease that is not given back is seen.
const LEASE: Duration = Duration::from_secs(3_000);

/// Begins a load of these keys, which has their leases until the gate opens. Then it fails.
async fn hold(
    cache: &AsyncCacheWrapper,
    keys: [&'static str; 2],
) -> (Arc<Semaphore>, JoinHandle<larder::Result<Vec<Option<usize>>>>) {
    let (cache, open, runs) = (cache.clone(), closed(), Runs::default());
    let (gate, begun) = (open.clone(), runs.clone());
    let holding = tokio::spawn(async move {
        let load = |keys| {
            begun.add();
            let gate = gate.clone();
            async move {
                gate.acquire().await.unwrap().forget();
                source_away(keys).await
            }
        };
        cache.lease(LEASE).try_get_or_set_many_async(keys, load).await
    });
    eventually("it loads", || runs.count() == 1).await;
    (open, holding)
}

#[tokio::test]
async fn a_lease_that_cannot_be_asked_for_is_an_error_without_fail_open() -> larder::Result<()> {
    let (([cache, _], adapter), asked) = (two_over_one(), Asked::default());
    let load = |missing| asked.lengths(missing);
    adapter.put(Verb::Claim, Fault::Fail(ErrorKind::Unavailable));
    let strict = cache.fail_open(false).lease(LEASE).get_or_set_many_async(["a", "bb"], load);
    let error = strict.await.unwrap_err();
    assert_eq!((error.kind(), error.key()), (ErrorKind::Unavailable, Some("a")));
    assert_eq!(asked.calls().len(), 0);
    let found = cache.lease(LEASE).get_or_set_many_async(["a", "bb"], load).await?;
    assert_eq!(found, [Some(1), Some(2)]);
    assert_eq!(cache.get_many::<usize, _>(["a", "bb"]).await?, [None, None]);
    Ok(())
}

#[tokio::test]
async fn a_batch_asks_for_no_lease_while_its_backend_cannot_be_read() -> larder::Result<()> {
    let (([cache, _], adapter), asked) = (two_over_one(), Asked::default());
    adapter.put(Verb::GetMany, Fault::Fail(ErrorKind::Unavailable));
    let load = |missing| asked.lengths(missing);
    let found = cache.lease(LEASE).get_or_set_many_async(["a", "bb"], load).await?;
    assert_eq!(found, [Some(1), Some(2)]);
    assert_eq!((adapter.calls(Verb::GetMany), adapter.calls(Verb::Claim)), (1, 0));
    Ok(())
}

#[tokio::test]
async fn each_missing_key_is_claimed_once_with_a_lease_or_without() -> larder::Result<()> {
    for lease in [Duration::ZERO, LEASE] {
        let (([cache, _], adapter), asked) = (two_over_one(), Asked::default());
        cache.set("there", 0usize).await?;
        let load = |missing| asked.lengths(missing);
        let found = cache.lease(lease).get_or_set_many_async(["a", "there", "bb"], load).await?;
        assert_eq!(found, [Some(1), Some(0), Some(2)]);
        let calls = [Verb::Claim, Verb::SetClaimed, Verb::Release].map(|verb| adapter.calls(verb));
        assert_eq!(calls, [2, 2, 0], "{lease:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_forced_batch_gives_and_stores_nothing_that_began_before_it() -> larder::Result<()> {
    for lease in [Duration::ZERO, LEASE] {
        let (([cache, _], _), asked) = (two_over_one(), Asked::default());
        let (open, runs) = (closed(), Runs::default());
        let old = tokio::spawn({
            let (cache, open, runs) = (cache.clone(), open.clone(), runs.clone());
            let load = async move {
                runs.add();
                open.acquire().await.unwrap().forget();
                50usize
            };
            async move { cache.get_or_set_async("a", load).await }
        });
        eventually("it loads", || runs.count() == 1).await;
        let load = |missing| asked.lengths(missing);
        let forced = cache.lease(lease).force_refresh().get_or_set_many_async(["a", "bb"], load);
        let found = within(PATIENCE, "it waits for no load that hangs", forced).await?;
        assert_eq!(found, [Some(1), Some(2)], "{lease:?}");
        open.add_permits(1);
        assert_eq!(old.await.unwrap()?, 50);
        let stored = cache.get_many::<usize, _>(["a", "bb"]).await?;
        assert_eq!(stored, [Some(1), Some(2)], "{lease:?}");
    }
    Ok(())
}

#[tokio::test]
async fn the_time_limits_of_a_batch_count_while_another_process_has_a_lease() -> larder::Result<()>
{
    let ([first, second], _) = two_over_one();
    let (asked, runs) = (Asked::default(), Runs::default());
    stale(&first, ["old", "older"]).await?;
    let (open, holding) = hold(&first, ["old", "new"]).await;
    let load = |missing| asked.lengths(missing);
    let waiting = second.lease(LEASE).stale_for(3_600 * SECOND);
    let soft = waiting.soft_timeout(10 * MS).get_or_set_many_async(["old"], load);
    assert_eq!(within(PATIENCE, "the soft timeout", soft).await?, [Some(100)]);
    let hard = waiting.hard_timeout(10 * MS);
    let late = hard.get_or_set_many_async(["new"], load);
    let late = within(PATIENCE, "the hard timeout", late).await.unwrap_err();
    assert_eq!((late.kind(), late.key()), (ErrorKind::Timeout, Some("new")));
    let served = within(PATIENCE, "the hard timeout", hard.get_or_set_many_async(["old"], load));
    assert_eq!(served.await?, [Some(100)], "a stale value is better than an error");
    let fails = |keys| {
        runs.add();
        source_away(keys)
    };
    let again = waiting.try_get_or_set_many_async(["old"], fails);
    let again = within(PATIENCE, "a call in the cooldown waits for nothing", again).await?;
    assert_eq!((again, runs.count(), asked.calls().len()), (vec![Some(100)], 0, 0));
    open.add_permits(1);
    assert_eq!(holding.await.unwrap().unwrap_err().kind(), ErrorKind::Load);
    Ok(())
}

#[tokio::test]
async fn a_batch_pauses_between_its_looks_for_the_value_of_another_process() -> larder::Result<()> {
    let (([first, second], adapter), asked) = (two_over_one(), Asked::default());
    let (open, holding) = hold(&first, ["a", "bb"]).await;
    adapter.reset_calls();
    let begun = Instant::now();
    let waiting = tokio::spawn({
        let asked = asked.clone();
        async move {
            let load = |missing| asked.lengths(missing);
            second.lease(LEASE).get_or_set_many_async(["a", "bb"], load).await
        }
    });
    eventually("it has looked again", || adapter.calls(Verb::GetMany) > 12).await;
    // From 2 ms on each pause is half as long again, at most 50 ms, and at least half of that.
    assert!(begun.elapsed() > 100 * MS, "twelve looks in {:?}", begun.elapsed());
    assert_eq!(asked.calls().len(), 0);
    open.add_permits(1);
    assert_eq!(holding.await.unwrap().unwrap_err().kind(), ErrorKind::Load);
    let found = within(PATIENCE, "the leases are given back", waiting).await.unwrap()?;
    assert_eq!(found, [Some(1), Some(2)]);
    Ok(())
}

#[tokio::test]
async fn looks_for_the_value_of_another_process_are_no_failed_reads() -> larder::Result<()> {
    let (([first, second], adapter), asked) = (two_over_one(), Asked::default());
    // Another type than the batch reads, so that each read of it emits an event.
    first.set_many([("k", "text"), ("other", "text")]).await?;
    let (open, holding) = hold(&first, ["k", "other"]).await;
    let (is_written, reads) = (Arc::new(AtomicBool::new(false)), Runs::default());
    second.observe({
        let (cache, is_written, reads) = (second.clone(), is_written.clone(), reads.clone());
        move |event| {
            if event.kind == EventKind::DecodeError && is_written.load(Ordering::SeqCst) {
                cache.set("k", "text").now_or_never().expect("it need not wait").unwrap();
                reads.add();
            }
        }
    });
    let waiting = tokio::spawn({
        let asked = asked.clone();
        async move {
            let load = |missing| asked.lengths(missing);
            second.lease(LEASE).get_or_set_many_async(["k"], load).await
        }
    });
    eventually("it has looked often", || adapter.calls(Verb::GetMany) > 20).await;
    is_written.store(true, Ordering::SeqCst);
    let found = within(PATIENCE, "a write ends a lease", waiting).await.unwrap()?;
    assert_eq!((found, asked.calls().len()), (vec![Some(1)], 1));
    assert!(reads.count() >= 16, "it read {} times what was written meanwhile", reads.count());
    open.add_permits(1);
    assert_eq!(holding.await.unwrap().unwrap_err().kind(), ErrorKind::Load);
    Ok(())
}
