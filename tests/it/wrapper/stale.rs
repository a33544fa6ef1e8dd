//! Values past their logical end.

use super::{Runs, fresh, plain_and_encoded};
use larder::{AsyncCacheWrapper, AsyncMemoryCache, ErrorKind, EventKind, Expiry, Loaded, View};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::{advance, sleep};

const SECOND: Duration = Duration::from_secs(1);

/// A second of life, a minute as stale.
fn keeping(cache: &AsyncCacheWrapper) -> View<'_> {
    cache.ttl(SECOND).stale_for(60 * SECOND)
}

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

async fn failing(view: View<'_>, runs: &Runs) -> larder::Result<u64> {
    let runs = runs.clone();
    let loader = async move {
        runs.add();
        Err::<u64, _>("the source is away")
    };
    view.try_get_or_set_async("k", loader).await
}

#[tokio::test(start_paused = true)]
async fn a_failing_loader_is_served_stale_and_not_called_again_for_a_while() -> larder::Result<()> {
    for cache in plain_and_encoded() {
        let (stale, errors) =
            (count(&cache, EventKind::StaleHit), count(&cache, EventKind::LoadError));
        let (view, runs) = (keeping(&cache), Runs::default());
        view.set("k", 1u64).await?;
        assert_eq!(failing(view, &runs).await?, 1);
        assert_eq!((runs.count(), stale.load(Ordering::SeqCst)), (0, 0), "a hit as yet");
        advance(2 * SECOND).await;
        for _ in 0..10 {
            assert_eq!(failing(view, &runs).await?, 1);
        }
        assert_eq!(
            (runs.count(), errors.load(Ordering::SeqCst), stale.load(Ordering::SeqCst)),
            (1, 1, 10)
        );
        advance(29 * SECOND).await;
        assert_eq!(
            (failing(view.jitter(0.9), &runs).await?, runs.count()),
            (1, 1),
            "the window has no jitter"
        );
        advance(2 * SECOND).await;
        assert_eq!((failing(view, &runs).await?, runs.count()), (1, 2), "the window is over");
        advance(31 * SECOND).await;
        assert_eq!(
            failing(view, &runs).await.unwrap_err().kind(),
            ErrorKind::Load,
            "stale for too long"
        );
        assert_eq!(view.get_or_set("k", 2u64).await?, 2);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_cooldown_ends_with_success() -> larder::Result<()> {
    let cache = fresh();
    let (view, runs) = (keeping(&cache).throttle(5 * SECOND), Runs::default());
    view.set("k", 1u64).await?;
    advance(2 * SECOND).await;
    assert_eq!(failing(view, &runs).await?, 1);
    advance(6 * SECOND).await;
    assert_eq!(view.get_or_set_async("k", async { 2u64 }).await?, 2);
    advance(2 * SECOND).await;
    assert_eq!(
        (failing(view, &runs).await?, runs.count()),
        (2, 2),
        "a new failure is a new window"
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_served_stale_too_and_nothing_stale_is_an_error() -> larder::Result<()> {
    for cache in plain_and_encoded() {
        let view = keeping(&cache);
        assert_eq!(
            failing(view, &Runs::default()).await.unwrap_err().kind(),
            ErrorKind::Load,
            "without a stale value the error is the loader's"
        );
        view.set("k", 1u64).await?;
        advance(2 * SECOND).await;
        assert_eq!(
            view.get_or_set_async("k", async { if true { panic!("on purpose") } else { 0u64 } })
                .await?,
            1
        );
        advance(31 * SECOND).await;
        assert_eq!(view.get_or_set_with("k", |_| -> u64 { panic!("on purpose") }).await?, 1);
        let error =
            cache.try_get_or_set_async("k", async { Err::<u64, _>("no") }).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Load, "who does not ask for stale values gets none");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn everyone_who_waits_is_served_stale() -> larder::Result<()> {
    let cache = fresh();
    let (view, runs) = (keeping(&cache), Runs::default());
    view.set("k", 1u64).await?;
    advance(2 * SECOND).await;
    let calls = (0..100).map(|_| {
        let runs = runs.clone();
        view.try_get_or_set_async("k", async move {
            runs.add();
            sleep(SECOND).await;
            Err::<u64, _>("no")
        })
    });
    let answers = futures_util::future::join_all(calls).await;
    assert!(answers.into_iter().all(|answer| answer.is_ok_and(|value| value == 1)));
    assert_eq!(runs.count(), 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_stale_entry_is_missing_for_every_other_verb() -> larder::Result<()> {
    for cache in plain_and_encoded() {
        let view = keeping(&cache);
        view.set_many([("k", 1u64), ("r", 1), ("t", 1), ("a", 1), ("i", 7), ("l", 1)]).await?;
        assert!(cache.contains("k").await? && cache.touch("l", 100 * SECOND).await?);
        let Some(Expiry::After(left)) = cache.expiry("k").await? else { panic!("it expires") };
        assert!(left <= SECOND && left > SECOND / 2, "the answer is the logical end: {left:?}");
        advance(2 * SECOND).await;
        assert_eq!(cache.get::<u64>("k").await?, None);
        assert_eq!(cache.allow_stale().get::<u64>("k").await?, Some(1));
        assert_eq!(cache.get_many::<u64, _>(["k", "l"]).await?, [None, Some(1)]);
        assert_eq!(cache.allow_stale().get_many::<u64, _>(["k", "l"]).await?, [Some(1), Some(1)]);
        assert!(!cache.contains("k").await?);
        assert_eq!(cache.expiry("k").await?, None);
        assert!(!cache.touch("k", 10 * SECOND).await?, "not revived");
        assert_eq!(
            cache.update_timeout::<u64>("k", 10 * SECOND).await.unwrap_err().kind(),
            ErrorKind::NotFound
        );
        assert!(!cache.replace("k", 2u64).await?);
        assert!(!cache.remove("r").await?);
        assert!(!cache.remove(["k", "r"]).await?);
        assert_eq!(cache.take::<u64>("t").await?, None);
        assert!(cache.add("a", 2u64).await? && !cache.add("a", 3u64).await?);
        assert_eq!(cache.get::<u64>("a").await?, Some(2));
        assert_eq!(
            (cache.incr("i", 2).await?, cache.incr("i", 2).await?),
            (2, 4),
            "a stale counter starts anew"
        );
        assert_eq!(cache.get::<u64>("l").await?, Some(1), "touch moved the logical end");
        advance(99 * SECOND).await;
        assert_eq!(cache.get::<u64>("l").await?, None);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn touch_moves_both_ends() -> larder::Result<()> {
    for cache in plain_and_encoded() {
        let view = keeping(&cache);
        view.set_many([("k", 1u64), ("n", 1), ("s", 1)]).await?;
        assert!(
            cache.touch("k", 10 * SECOND).await?
                && cache.touch("n", Expiry::Never).await?
                && cache.touch("s", SECOND / 10).await?
        );
        advance(SECOND).await;
        assert_eq!(cache.get::<u64>("s").await?, None, "shorter");
        assert_eq!(view.allow_stale().get::<u64>("s").await?, Some(1));
        advance(10 * SECOND).await;
        assert_eq!((cache.get::<u64>("k").await?, cache.get::<u64>("n").await?), (None, Some(1)));
        assert_eq!(cache.expiry("n").await?, Some(Expiry::Never));
        advance(49 * SECOND).await;
        assert_eq!(
            view.allow_stale().get::<u64>("k").await?,
            Some(1),
            "still kept for a minute after"
        );
        advance(20 * SECOND).await;
        assert_eq!(view.allow_stale().get::<u64>("k").await?, None);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn of_many_adds_over_a_stale_entry_one_wins() -> larder::Result<()> {
    let cache = fresh();
    keeping(&cache).set("k", 0u64).await?;
    advance(2 * SECOND).await;
    let adds = (1..65u64).map(|value| cache.add("k", value));
    let won = futures_util::future::try_join_all(adds).await?;
    assert_eq!(won.iter().filter(|won| **won).count(), 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn zero_and_never_are_what_they_are_without_it() -> larder::Result<()> {
    for cache in plain_and_encoded() {
        let view = cache.stale_for(SECOND);
        assert_eq!(
            view.ttl(Duration::ZERO).get_or_set("z", 1u64).await?,
            1,
            "an expiry of zero stores nothing"
        );
        assert_eq!(view.allow_stale().get::<u64>("z").await?, None);
        view.ttl(Expiry::Never).set("n", 1u64).await?;
        assert_eq!(cache.expiry("n").await?, Some(Expiry::Never));
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn removal_wins_over_what_is_stale() -> larder::Result<()> {
    for cache in plain_and_encoded() {
        let view = keeping(&cache).soft_timeout(Duration::ZERO);
        view.set("k", 1u64).await?;
        advance(2 * SECOND).await;
        let slow = async {
            sleep(SECOND).await;
            2u64
        };
        assert_eq!(view.get_or_set_async("k", slow).await?, 1);
        cache.remove("k").await?;
        sleep(2 * SECOND).await;
        assert_eq!(
            view.allow_stale().get::<u64>("k").await?,
            None,
            "the late store does not undo it"
        );
    }
    Ok(())
}

/// A loader itself decides how long its value may be served stale.
#[tokio::test(start_paused = true)]
async fn a_default_is_stored_briefly_where_no_value_is_stale() -> larder::Result<()> {
    for cache in plain_and_encoded() {
        let runs = Runs::default();
        let rate = || {
            let runs = runs.clone();
            cache.ttl(3_600 * SECOND).get_or_set_loaded_async("k", async move {
                runs.add();
                let asked: Result<u64, &str> = Err("the source is away");
                asked.map_or(Loaded::new(7).ttl(5 * SECOND), Loaded::new)
            })
        };
        for _ in 0..3 {
            assert_eq!((rate().await?, runs.count()), (7, 1));
        }
        advance(6 * SECOND).await;
        assert_eq!((rate().await?, runs.count()), (7, 2), "and then it is asked again");
    }
    Ok(())
}

/// Two caches over the store that a process shares, each with its own history.
#[tokio::test(start_paused = true)]
async fn what_is_stale_is_missing_for_a_cache_that_never_met_it() -> larder::Result<()> {
    let new = || AsyncCacheWrapper::new(AsyncMemoryCache::shared());
    let owner = new()?.namespace("stale for strangers");
    let stranger = || Ok::<_, larder::Error>(new()?.namespace("stale for strangers"));
    let keys = ["contains", "expiry", "touch", "update", "replace", "remove", "many", "take"];
    for key in keys.into_iter().chain(["incr", "add"]) {
        keeping(&owner).set(key, 1u64).await?;
    }
    advance(2 * SECOND).await;
    assert!(!stranger()?.contains("contains").await?);
    assert_eq!(stranger()?.expiry("expiry").await?, None);
    assert!(!stranger()?.touch("touch", SECOND).await?);
    assert!(stranger()?.update_timeout::<u64>("update", SECOND).await.unwrap_err().is_not_found());
    assert!(!stranger()?.replace("replace", 2u64).await?);
    assert!(!stranger()?.remove("remove").await?);
    assert!(!stranger()?.remove(["many", "none"]).await?);
    assert_eq!(stranger()?.take::<u64>("take").await?, None);
    assert_eq!(stranger()?.incr("incr", 2).await?, 2);
    assert!(stranger()?.add("add", 2u64).await?);
    assert!(!stranger()?.add("add", 3u64).await?);
    Ok(())
}
