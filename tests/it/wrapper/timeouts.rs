//! How long callers wait for a loader.

use super::{Runs, fresh, plain_and_encoded};
use larder::{AsyncCacheWrapper, ErrorKind, View};
use std::time::Duration;
use tokio::time::{Instant, advance, sleep};

const SECOND: Duration = Duration::from_secs(1);
const SOFT: Duration = Duration::from_millis(100);

fn keeping(cache: &AsyncCacheWrapper) -> View<'_> {
    cache.ttl(SECOND).stale_for(60 * SECOND)
}

/// A loader that takes a second.
async fn slow(runs: Runs) -> u64 {
    runs.add();
    sleep(SECOND).await;
    2
}

#[tokio::test(start_paused = true)]
async fn a_soft_timeout_serves_the_stale_value() -> larder::Result<()> {
    for cache in plain_and_encoded() {
        let (view, runs) = (keeping(&cache).soft_timeout(SOFT), Runs::default());
        view.set("k", 1u64).await?;
        advance(2 * SECOND).await;
        let begun = Instant::now();
        let (leader, follower) = tokio::join!(
            view.get_or_set_async("k", slow(runs.clone())),
            view.get_or_set_async("k", slow(runs.clone()))
        );
        assert_eq!((leader?, follower?), (1, 1));
        assert!(begun.elapsed() >= SOFT && begun.elapsed() < 2 * SOFT, "{:?}", begun.elapsed());
        sleep(SECOND).await;
        assert_eq!(
            (cache.get("k").await?, runs.count()),
            (Some(2u64), 1),
            "it went on and was stored"
        );
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn soft_with_nothing_stale_is_no_limit() -> larder::Result<()> {
    assert_eq!(
        fresh()
            .stale_for(SECOND)
            .soft_timeout(SOFT)
            .get_or_set_async("k", slow(Runs::default()))
            .await?,
        2
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_soft_timeout_of_zero_serves_at_once_also_to_followers() -> larder::Result<()> {
    for cache in plain_and_encoded() {
        let (view, runs) = (keeping(&cache).soft_timeout(Duration::ZERO), Runs::default());
        view.set("k", 1u64).await?;
        advance(2 * SECOND).await;
        let begun = Instant::now();
        for _ in 0..10 {
            assert_eq!(view.get_or_set_async("k", slow(runs.clone())).await?, 1);
        }
        assert_eq!(begun.elapsed(), Duration::ZERO);
        sleep(SECOND + SOFT).await;
        assert_eq!((cache.get("k").await?, runs.count()), (Some(2u64), 1));
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_hard_timeout_is_a_typed_error_and_the_value_is_stored() -> larder::Result<()> {
    for cache in plain_and_encoded() {
        let (view, runs) = (cache.hard_timeout(SOFT), Runs::default());
        let begun = Instant::now();
        let (leader, follower) = tokio::join!(
            view.get_or_set_async("k", slow(runs.clone())),
            view.get_or_set_async("k", slow(runs.clone()))
        );
        for error in [leader.unwrap_err(), follower.unwrap_err()] {
            assert_eq!(
                (error.kind(), error.op(), error.key()),
                (ErrorKind::Timeout, Some("get_or_set"), Some("k"))
            );
        }
        assert!(begun.elapsed() >= SOFT && begun.elapsed() < 2 * SOFT, "{:?}", begun.elapsed());
        sleep(SECOND).await;
        assert_eq!((view.get_or_set_async("k", slow(runs.clone())).await?, runs.count()), (2, 1));
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn hard_with_something_stale_serves_it_and_leaves_the_source_in_peace() -> larder::Result<()>
{
    let cache = fresh();
    let view = keeping(&cache).hard_timeout(SOFT);
    view.set("k", 1u64).await?;
    advance(2 * SECOND).await;
    let begun = Instant::now();
    assert_eq!(view.get_or_set_async("k", std::future::pending::<u64>()).await?, 1);
    let waited = begun.elapsed();
    assert_eq!(view.get_or_set_async("k", std::future::pending::<u64>()).await?, 1);
    assert!(waited >= SOFT && begun.elapsed() == waited, "nobody waits again inside the window");
    Ok(())
}

/// Also if it is one who only follows that has run out of time.
#[tokio::test(start_paused = true)]
async fn a_followers_hard_timeout_begins_the_window() -> larder::Result<()> {
    let cache = fresh();
    let patient = keeping(&cache);
    patient.set("k", 1u64).await?;
    advance(2 * SECOND).await;
    let leader = tokio::spawn({
        let cache = cache.clone();
        async move { keeping(&cache).get_or_set_async("k", slow(Runs::default())).await }
    });
    tokio::task::yield_now().await;
    assert_eq!(
        patient.hard_timeout(SOFT).get_or_set_async("k", std::future::pending::<u64>()).await?,
        1
    );
    assert_eq!(cache.stats().joined, 1);
    let begun = Instant::now();
    assert_eq!(patient.get_or_set_async("k", std::future::pending::<u64>()).await?, 1);
    assert_eq!(begun.elapsed(), Duration::ZERO, "nobody waits inside the window");
    assert_eq!(leader.await.unwrap()?, 2, "and the load ends it");
    assert_eq!(cache.get("k").await?, Some(2u64));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_failure_after_the_soft_timeout_blocks_no_later_call() -> larder::Result<()> {
    let cache = fresh();
    let view = keeping(&cache).soft_timeout(SOFT).throttle(SECOND);
    for late in 0..2 {
        view.set("k", 1u64).await?;
        advance(2 * SECOND).await;
        let failing = async move {
            sleep(SECOND).await;
            if late == 0 { Err::<u64, _>("no") } else { panic!("on purpose") }
        };
        assert_eq!(view.try_get_or_set_async("k", failing).await?, 1);
        sleep(3 * SECOND).await;
        assert_eq!(view.get_or_set_async("k", async { 3u64 }).await?, 3, "the next call leads");
    }
    Ok(())
}
