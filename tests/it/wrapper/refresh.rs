//! Values that are computed again before they expire, and what a call or a loader says about the
//! entry.

use super::{Runs, fresh, plain_and_encoded};
use futures_util::FutureExt;
use futures_util::future::join_all;
use larder::{AsyncCacheWrapper, AsyncMemoryCache, ErrorKind, Expiry, Loaded};
use std::time::Duration;
use tokio::time::{advance, sleep};

const SECOND: Duration = Duration::from_secs(1);

async fn slow(runs: Runs, value: u64) -> u64 {
    runs.add();
    sleep(SECOND / 10).await;
    value
}

#[tokio::test(start_paused = true)]
async fn a_hundred_readers_past_the_threshold_refresh_once_and_wait_for_nothing()
-> larder::Result<()> {
    for cache in plain_and_encoded() {
        let (view, runs) = (cache.ttl(10 * SECOND).refresh_ahead(0.8), Runs::default());
        assert_eq!(view.get_or_set_async("k", slow(runs.clone(), 1)).await?, 1);
        advance(7 * SECOND).await;
        assert_eq!(
            (view.get_or_set_async("k", slow(runs.clone(), 2)).await?, runs.count()),
            (1, 1),
            "not yet"
        );
        advance(2 * SECOND).await;
        let begun = tokio::time::Instant::now();
        let answers =
            join_all((0..100).map(|_| view.get_or_set_async("k", slow(runs.clone(), 2)))).await;
        assert!(answers.into_iter().all(|answer| answer.is_ok_and(|value| value == 1)));
        assert_eq!(begun.elapsed(), Duration::ZERO);
        sleep(SECOND).await;
        assert_eq!((cache.get("k").await?, runs.count()), (Some(2u64), 2));
        advance(7 * SECOND).await;
        assert_eq!(cache.get("k").await?, Some(2u64), "a life of its own");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_is_dropped_leaves_the_refresh_running() -> larder::Result<()> {
    let cache = fresh();
    let (view, runs) = (cache.ttl(10 * SECOND).refresh_ahead(0.5), Runs::default());
    view.set("k", 1u64).await?;
    advance(6 * SECOND).await;
    {
        let mut call = std::pin::pin!(view.get_or_set_async("k", slow(runs.clone(), 2)));
        assert!(call.as_mut().now_or_never().is_some());
    }
    sleep(SECOND).await;
    assert_eq!((cache.get("k").await?, runs.count()), (Some(2u64), 1));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_fails_is_not_tried_by_every_hit_and_removal_wins_over_one()
-> larder::Result<()> {
    let cache = fresh();
    let (view, runs) = (cache.ttl(100 * SECOND).refresh_ahead(0.1), Runs::default());
    view.set_many([("k", 1u64), ("r", 1)]).await?;
    advance(20 * SECOND).await;
    for _ in 0..10 {
        let ran = runs.clone();
        let failing = async move {
            ran.add();
            Err::<u64, _>("no")
        };
        assert_eq!(view.try_get_or_set_async("k", failing).await?, 1);
        sleep(SECOND).await;
    }
    assert_eq!(runs.count(), 1);
    assert_eq!(view.get_or_set_async("r", slow(runs.clone(), 2)).await?, 1);
    assert!(cache.remove("r").await?);
    sleep(SECOND).await;
    assert_eq!((cache.get::<u64>("r").await?, runs.count()), (None, 2));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn early_refreshes_are_drawn() -> larder::Result<()> {
    let (cache, runs) = (fresh(), Runs::default());
    for beta in [0.0, f64::INFINITY] {
        let before = runs.count();
        for _ in 0..10 {
            cache.early_refresh(beta).get_or_set_async("k", slow(runs.clone(), 1)).await?;
        }
        assert_eq!(runs.count() - before, if beta == 0.0 { 1 } else { 10 });
    }
    for beta in [-1.0, f64::NAN] {
        let error = cache.early_refresh(beta).get_or_set("k", 1u64).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{beta}");
    }
    let failed =
        cache.early_refresh(f64::INFINITY).try_get_or_set_async("k", async { Err::<u64, _>("no") });
    assert_eq!(failed.await?, 1, "the value there is still good");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_forced_refresh_runs_the_loader_and_keeps_the_old_value_on_failure() -> larder::Result<()>
{
    for cache in plain_and_encoded() {
        cache.stale_for(SECOND).set("k", 1u64).await?;
        assert_eq!(cache.force_refresh().get_or_set_async("k", async { 2u64 }).await?, 2);
        let error = cache
            .stale_for(SECOND)
            .force_refresh()
            .try_get_or_set_async("k", async { Err::<u64, _>("no") })
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Load);
        assert_eq!(cache.get("k").await?, Some(2u64), "the old entry stays");
    }
    Ok(())
}

/// Who forces a refresh knows that what is there is wrong.
#[tokio::test(start_paused = true)]
async fn a_forced_refresh_whose_value_is_not_stored_removes_the_old_one() -> larder::Result<()> {
    for cache in plain_and_encoded() {
        let keys = ["skipped", "unstored", "here", "closure", "absent"];
        for key in keys {
            cache.set(key, Some(1u64)).await?;
        }
        let forced = || cache.view().force_refresh();
        let none = async { None::<u64> };
        assert_eq!(forced().skip_none().get_or_set_async("skipped", none).await?, None);
        let none = || async { None::<u64> };
        assert_eq!(forced().skip_none().get_or_load_here("here", none).await?, None);
        assert_eq!(forced().skip_none().get_or_set_with("closure", |_| None::<u64>).await?, None);
        let unstored = async { Loaded::unstored(Some(2u64)) };
        assert_eq!(forced().get_or_set_loaded_async("unstored", unstored).await?, Some(2));
        let nothing = |_: Vec<String>| async { Vec::<(String, Option<u64>)>::new() };
        assert_eq!(forced().get_or_set_many_async(["absent"], nothing).await?, [None]);
        for key in keys {
            assert_eq!(cache.get::<Option<u64>>(key).await?, None, "{key}");
        }
        // Without force the loader does not run, and nothing is removed.
        cache.set("kept", Some(1u64)).await?;
        let none = async { None::<u64> };
        assert_eq!(cache.skip_none().get_or_set_async("kept", none).await?, Some(1));
        assert_eq!(cache.get::<Option<u64>>("kept").await?, Some(Some(1)));
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_a_loader_decides_is_for_its_entry_only() -> larder::Result<()> {
    for cache in plain_and_encoded() {
        let view = cache.ttl(10 * SECOND);
        view.get_or_set_loaded_async("long", async { Loaded::new(1u64).ttl(100 * SECOND) }).await?;
        view.get_or_set_loaded_with("kept", |_| {
            Loaded::new(1u64).ttl(SECOND).stale_for(60 * SECOND)
        })
        .await?;
        view.get_or_set_async("plain", async { 1u64 }).await?;
        let none = view
            .try_get_or_set_loaded_async("none", async {
                Ok::<_, std::io::Error>(Loaded::unstored(1u64))
            })
            .await?;
        assert_eq!((none, cache.contains("none").await?), (1, false));
        advance(11 * SECOND).await;
        assert_eq!(
            cache.get_many::<u64, _>(["long", "plain", "kept"]).await?,
            [Some(1), None, None]
        );
        assert_eq!(cache.allow_stale().get("kept").await?, Some(1u64));
    }
    Ok(())
}

#[tokio::test]
async fn skip_none_returns_none_and_stores_nothing() -> larder::Result<()> {
    for cache in plain_and_encoded() {
        assert_eq!(cache.skip_none().get_or_set("n", None::<u64>).await?, None);
        assert!(!cache.contains("n").await?);
        assert_eq!(cache.skip_none().get_or_set("n", Some(1u64)).await?, Some(1));
        assert_eq!(cache.get_or_set("m", None::<u64>).await?, None);
        assert!(cache.contains("m").await?, "an ordinary hit otherwise");
    }
    Ok(())
}

#[tokio::test]
async fn jitter_is_for_every_write() -> larder::Result<()> {
    let cache =
        AsyncCacheWrapper::builder(AsyncMemoryCache::new()).ttl(10 * SECOND).jitter(0.5).build()?;
    let mut lives = Vec::new();
    for at in 0..300 {
        let key = at.to_string();
        match at % 3 {
            0 => cache.set(&key, 1u64).await?,
            1 => cache.set_many([(&key, 1u64)]).await?,
            _ => drop(cache.get_or_set(&key, 1u64).await?),
        }
        let Some(Expiry::After(left)) = cache.expiry(&key).await? else { panic!("it expires") };
        assert!(left > 8 * SECOND && left <= 15 * SECOND, "{left:?}");
        lives.push(left);
    }
    assert!(
        lives.iter().any(|left| *left > 14 * SECOND)
            && lives.iter().any(|left| *left < 11 * SECOND),
        "not spread"
    );
    assert_eq!(cache.jitter(-1.0).set("k", 1u64).await.unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(
        AsyncCacheWrapper::builder("memory").early_refresh(-1.0).build().unwrap_err().kind(),
        ErrorKind::Config
    );
    Ok(())
}
