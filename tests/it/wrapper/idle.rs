//! Time to idle, by a clock that the test moves: what a hit renews, and what it does not.

use super::events::Log;
use super::{faulty, plain_and_encoded};
use futures_util::FutureExt;
use larder::testing::{Fault, Verb};
use larder::{AsyncCacheWrapper, ErrorKind, EventKind, Expiry, Loaded};
use std::time::Duration;
use tokio::time::{advance, sleep};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test(start_paused = true)]
async fn an_entry_lives_for_as_long_as_it_is_read_by_any_verb() -> larder::Result<()> {
    for cache in plain_and_encoded() {
        let view = cache.idle(10 * SECOND);
        view.set("k", 1u64).await?;
        for round in 0..12 {
            advance(9 * SECOND).await;
            let found = match round % 12 {
                0 => view.get("k").await?,
                1 => Some(view.get_or("k", 7).await?),
                2 => Some(view.get_or_fail("k").await?),
                3 => view.get_many(["k"]).await?[0],
                4 => Some(view.get_or_set("k", 7).await?),
                5 => Some(view.get_or_set_async("k", async { 7 }).await?),
                6 => Some(view.try_get_or_set_with("k", |_| Err::<u64, _>("no")).await?),
                7 => Some(view.get_or_load_here("k", || async { 7 }).await?),
                8 => view.get_or_set_many_async(["k"], |_: Vec<String>| async { [] }).await?[0],
                9 => cache.blocking().idle(10 * SECOND).get("k")?,
                10 => cache.blocking().idle(10 * SECOND).get_many(["k"])?[0],
                _ => Some(cache.blocking().idle(10 * SECOND).get_or_set("k", 7)?),
            };
            assert_eq!(found, Some(1), "round {round}");
        }
        advance(10 * SECOND).await;
        assert_eq!(view.get::<u64>("k").await?, None, "nobody has read it");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn questions_that_read_no_value_renew_nothing() -> larder::Result<()> {
    for cache in plain_and_encoded() {
        let view = cache.idle(10 * SECOND);
        view.set("k", 1u64).await?;
        advance(9 * SECOND).await;
        assert!(view.contains("k").await?);
        assert_eq!(view.expiry("k").await?, Some(Expiry::After(SECOND)));
        assert_eq!(cache.get("k").await?, Some(1u64), "by a view without the option");
        advance(SECOND).await;
        assert!(!view.contains("k").await?);

        view.set("k", 1u64).await?;
        assert!(view.touch("k", HOUR).await?);
        assert_eq!(view.expiry("k").await?, Some(Expiry::After(HOUR)), "what was asked for");
        assert_eq!(view.incr("n", 1).await?, 1);
        assert_eq!(view.expiry("n").await?, Some(Expiry::After(10 * SECOND)));
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn many_hits_within_a_tenth_renew_once() -> larder::Result<()> {
    let (cache, adapter) = faulty();
    let view = cache.idle(10 * SECOND);
    view.set("k", 1u64).await?;
    for _ in 0..100 {
        assert_eq!(view.get("k").await?, Some(1u64));
        assert_eq!(view.get_or_set("k", 2u64).await?, 1);
    }
    assert_eq!(adapter.calls(Verb::Touch), 0, "the write was a moment ago");
    assert_eq!(adapter.calls(Verb::Expiry), 1);
    for round in 1..=5 {
        advance(2 * SECOND).await;
        for _ in 0..100 {
            assert_eq!(view.get("k").await?, Some(1u64));
        }
        assert_eq!((adapter.calls(Verb::Touch), adapter.calls(Verb::Expiry)), (round, 1 + round));
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_ttl_is_the_longest_life_however_often_an_entry_is_read() -> larder::Result<()> {
    for cache in plain_and_encoded() {
        let view = cache.ttl(25 * SECOND).idle(10 * SECOND);
        view.set("set", 1u64).await?;
        view.set_each([("each", 1u64, Expiry::After(25 * SECOND))]).await?;
        view.get_or_set("loaded", 1u64).await?;
        let brief = Loaded::new(1u64).ttl(15 * SECOND);
        cache.idle(10 * SECOND).get_or_set_loaded_with("brief", |_| brief).await?;
        for second in 1..30u32 {
            advance(SECOND).await;
            for key in ["set", "each", "loaded", "brief"] {
                let lives = second < if key == "brief" { 15 } else { 25 };
                assert_eq!(view.get::<u64>(key).await?.is_some(), lives, "{key}, {second} s");
            }
        }
        view.ttl(SECOND).set("short", 1u64).await?;
        assert_eq!(cache.expiry("short").await?, Some(Expiry::After(SECOND)));
        cache.ttl(Expiry::Never).idle(10 * SECOND).set("never", 1u64).await?;
        assert_eq!(cache.expiry("never").await?, Some(Expiry::After(10 * SECOND)));
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_hit_never_shortens_a_life() -> larder::Result<()> {
    for cache in plain_and_encoded() {
        cache.ttl(Expiry::Never).set("never", 1u64).await?;
        cache.ttl(HOUR).set("hour", 1u64).await?;
        cache.ttl(HOUR).stale_for(HOUR).set("stale", 1u64).await?;
        for key in ["never", "hour", "stale"] {
            let before = cache.expiry(key).await?;
            assert_eq!(cache.idle(SECOND).get(key).await?, Some(1u64));
            assert_eq!(cache.expiry(key).await?, before, "{key}");
        }
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_refresh_counts_from_the_write_and_not_from_the_last_hit() -> larder::Result<()> {
    for cache in plain_and_encoded() {
        let view = cache.ttl(100 * SECOND).idle(10 * SECOND).refresh_ahead(0.5);
        view.set("k", 1u64).await?;
        for _ in 0..9 {
            advance(6 * SECOND).await;
            view.get_or_set_async("k", async { 2u64 }).await?;
        }
        tokio::task::yield_now().await;
        assert_eq!(cache.get("k").await?, Some(2u64), "54 seconds after the write");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_or_hangs_is_not_the_hits() -> larder::Result<()> {
    for verb in [Verb::Expiry, Verb::Touch] {
        let (cache, adapter) = faulty();
        let (view, log) = (cache.idle(10 * SECOND), Log::of(&cache));
        view.set("k", 1u64).await?;
        advance(2 * SECOND).await;
        log.read();

        adapter.put(verb, Fault::Fail(ErrorKind::Unavailable));
        assert_eq!(view.get("k").await?, Some(1u64));
        let failed: Vec<_> =
            log.read().into_iter().filter(|heard| heard.kind == EventKind::BackendError).collect();
        let [failed] = &failed[..] else { panic!("{failed:?}") };
        assert_eq!((failed.op, failed.key.as_deref()), (Some("idle"), Some("k")));

        adapter.put(verb, Fault::Hang);
        advance(2 * SECOND).await;
        assert_eq!(view.get::<u64>("k").now_or_never().expect("no wait")?, Some(1));
        advance(2 * SECOND).await;
        assert_eq!(view.get_or_set("k", 2u64).now_or_never().expect("no wait")?, 1);
        advance(4 * SECOND).await;
        assert_eq!(view.get::<u64>("k").await?, None, "it was not renewed");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_late_renewal_undoes_no_removal_and_shortens_no_newer_life() -> larder::Result<()> {
    let (cache, adapter) = faulty();
    let view = cache.idle(10 * SECOND);
    view.set_many([("removed", 1u64), ("replaced", 1)]).await?;
    advance(2 * SECOND).await;
    adapter.put(Verb::Expiry, Fault::Delay(SECOND));
    assert_eq!(view.get_many(["removed", "replaced"]).await?, [Some(1u64), Some(1)]);
    cache.remove("removed").await?;
    cache.ttl(HOUR).set("replaced", 2u64).await?;
    sleep(3 * SECOND).await;
    adapter.heal_all();
    assert!(!cache.contains("removed").await?);
    assert_eq!(cache.expiry("replaced").await?, Some(Expiry::After(HOUR - 3 * SECOND)));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_url_a_builder_and_an_owned_cache_have_the_option() -> larder::Result<()> {
    let of_url = AsyncCacheWrapper::new("memory:?idle=10s")?;
    let of_builder = AsyncCacheWrapper::builder("memory:").idle(10 * SECOND).build()?;
    let of_view = AsyncCacheWrapper::new("memory:")?.idle(10 * SECOND).into_cache();
    for cache in [of_url, of_builder, of_view] {
        cache.set_many([("a", 1u64), ("b", 1), ("c", 1)]).await?;
        for _ in 0..3 {
            advance(6 * SECOND).await;
            assert_eq!(cache.get("a").await?, Some(1u64));
            assert_eq!(cache.get_or_set("b", 2u64).await?, 1);
            assert_eq!(cache.blocking().get("c")?, Some(1u64));
        }
        advance(10 * SECOND).await;
        assert_eq!(cache.get::<u64>("a").await?, None);
        cache.ttl(15 * SECOND).set("ends", 1u64).await?;
        for second in 1..20u32 {
            advance(SECOND).await;
            assert_eq!(cache.get::<u64>("ends").await?.is_some(), second < 15, "{second} s");
        }
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_shortest_and_the_longest_time_to_idle_are_times() -> larder::Result<()> {
    let years = Duration::from_secs(999 * 365 * 86_400);
    for cache in plain_and_encoded() {
        let brief = cache.idle(Duration::from_nanos(1));
        cache.ttl(HOUR).set("hour", 1u64).await?;
        brief.set("k", 1u64).await?;
        assert_eq!(brief.get("hour").await?, Some(1u64));
        assert_eq!(cache.expiry("hour").await?, Some(Expiry::After(HOUR)), "it is not shortened");
        advance(SECOND).await;
        assert_eq!(brief.get::<u64>("k").await?, None);
        assert_eq!(brief.get_or_set("k", 2u64).await?, 2);
        advance(SECOND).await;
        assert_eq!(brief.get_or_set_async("k", async { 3u64 }).await?, 3, "each call loads");

        let (long, ending) = (cache.idle(years), cache.ttl(10 * SECOND).idle(years));
        long.set("long", 1u64).await?;
        ending.set("ends", 1u64).await?;
        long.ttl(Expiry::Never).set("never", 1u64).await?;
        for second in 1..20u32 {
            advance(SECOND).await;
            assert_eq!(long.get("long").await?, Some(1u64));
            assert_eq!(long.get("never").await?, Some(1u64));
            assert_eq!(ending.get::<u64>("ends").await?.is_some(), second < 10, "{second} s");
        }
        cache.ttl(HOUR).set("hour", 1u64).await?;
        assert_eq!(long.get("hour").await?, Some(1u64));
        let Some(Expiry::After(left)) = cache.expiry("hour").await? else { panic!("it is gone") };
        assert!(left > years / 2, "a stranger's: {left:?}");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_time_to_idle_that_cannot_be_is_an_error_of_every_verb() -> larder::Result<()> {
    for cache in plain_and_encoded() {
        cache.set("k", 1u64).await?;
        for view in [
            cache.idle(Duration::ZERO),
            cache.idle(Duration::MAX),
            cache.idle(SECOND).stale_for(SECOND),
        ] {
            let refused = [
                view.get::<u64>("k").await.map(drop),
                view.get::<u64>("none").await.map(drop),
                view.get_many::<u64, _>(["k"]).await.map(drop),
                view.set("k", 2u64).await,
                view.set_many([("k", 2u64)]).await,
                view.add("other", 2u64).await.map(drop),
                view.get_or_set("k", 2u64).await.map(drop),
                view.get_or_set_async("other", async { 2u64 }).await.map(drop),
            ];
            for (verb, refused) in refused.into_iter().enumerate() {
                assert_eq!(refused.unwrap_err().kind(), ErrorKind::Config, "verb {verb}");
            }
        }
        assert_eq!(cache.get("k").await?, Some(1u64));
        assert!(!cache.contains("other").await?);
    }
    let of_builder = AsyncCacheWrapper::builder("memory").idle(Duration::ZERO).build();
    let of_url = AsyncCacheWrapper::new("memory:?idle=0");
    for error in [of_builder.unwrap_err(), of_url.unwrap_err()] {
        assert!(error.to_string().contains("`idle` is more than zero"), "{error}");
    }
    Ok(())
}
