//! Real servers that are killed, frozen and come back, behind the layer that a cache has around
//! them when it is given their URL.

use super::{count, events};
use crate::remote::{PATIENT, Remote, on_each, percentile, put, soak, text, value_of};
use crate::support::noise::{excuses, noise};
use crate::support::turns::turn;
use crate::support::{Proxy, eventually};
use larder::{AsyncCacheWrapper, ErrorKind, EventKind, IntoAdapter};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const DEADLINE: Duration = Duration::from_millis(250);
/// A server that is dead says so at once; this is for the machine, whose pauses are not to be taken
/// for another outage.
const PATIENTLY: &str = "op_timeout=10s";
const LOADER: Duration = Duration::from_millis(5);

on_each!(async
    killed_under_two_hundred_calls_a_second,
    frozen_under_two_hundred_calls_a_second,
    a_thousand_tasks_through_an_outage,
    what_was_removed_while_it_was_frozen_is_gone_when_it_is_back,
    what_was_set_while_it_was_dead_is_there_when_it_is_back,
    strict_means_that_every_caller_gets_the_error,
);

/// How long a server is away.
fn outage() -> Duration {
    Duration::from_secs(if soak() { 5 } else { 2 })
}

/// As `larder::async_adapter_set` makes it of a URL, with a prefix of its own.
fn by_url(url: &str, parameters: &str) -> AsyncCacheWrapper {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let separator = if url.contains('?') { '&' } else { '?' };
    let prefix = format!("o{}-{}:", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    AsyncCacheWrapper::new(format!("{url}{separator}prefix={prefix}&{parameters}")).unwrap()
}

/// When something went wrong, or right, counted from the start.
pub(super) struct Call {
    pub(super) begun: Duration,
    pub(super) took: Duration,
}

/// 200 calls a second, each with a key and a loader of its own, for as long as `go` says.
pub(super) fn steady(
    cache: &AsyncCacheWrapper,
    start: Instant,
    go: &Arc<AtomicBool>,
) -> tokio::task::JoinHandle<Vec<Call>> {
    let (cache, go) = (cache.clone(), go.clone());
    tokio::spawn(async move {
        let mut calls = JoinSet::new();
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        let mut n = 0u64;
        while go.load(Ordering::Relaxed) {
            tick.tick().await;
            n += 1;
            let cache = cache.clone();
            calls.spawn(async move {
                let begun = Instant::now();
                let loader = async move {
                    tokio::time::sleep(LOADER).await;
                    n
                };
                assert_eq!(
                    cache.get_or_set_async(format!("n{n}"), loader).await.unwrap(),
                    n,
                    "every call is answered"
                );
                Call { begun: begun - start, took: begun.elapsed() }
            });
        }
        calls.join_all().await
    })
}

/// Times of the calls that began in a stretch of time, sorted.
pub(super) fn between(calls: &[Call], from: Duration, to: Duration) -> Vec<Duration> {
    let mut took: Vec<_> = calls
        .iter()
        .filter(|call| (from..to).contains(&call.begun))
        .map(|call| call.took)
        .collect();
    took.sort();
    took
}

/// Opens a connection, however long this machine takes for it.
pub(super) async fn warm(cache: &AsyncCacheWrapper) {
    eventually("a first write succeeds", PATIENT, || async { cache.set("warm", 1).await.is_ok() })
        .await;
}

/// Until the first operation that succeeds.
async fn first_good(cache: &AsyncCacheWrapper) -> Duration {
    let begun = Instant::now();
    eventually("an operation succeeds again", PATIENT, || async {
        cache.contains("k0").await.is_ok()
    })
    .await;
    begun.elapsed()
}

pub(super) async fn none_fails(cache: &AsyncCacheWrapper) {
    for n in 0..300 {
        let done = async {
            cache.set(format!("after{n}"), n).await?;
            cache.get::<u64>(format!("after{n}")).await
        };
        match done.await {
            Ok(found) => assert_eq!(found, Some(n)),
            Err(error) => assert!(excuses(&error), "failed after it was back: {error}"),
        }
    }
}

async fn killed_under_two_hundred_calls_a_second<S: Remote>() {
    let _turn = turn();
    let server = S::start();
    let cache = by_url(server.url(), PATIENTLY);
    warm(&cache).await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let (start, go) = (Instant::now(), Arc::new(AtomicBool::new(true)));
    let calls = steady(&cache, start, &go);
    tokio::time::sleep(Duration::from_millis(500)).await;
    tokio::task::block_in_place(|| server.kill());
    tokio::time::sleep(outage()).await;
    tokio::task::block_in_place(|| server.restart());
    let healed = first_good(&cache).await;
    none_fails(&cache).await;
    go.store(false, Ordering::Relaxed);
    let calls = calls.await.unwrap();
    let took = between(&calls, Duration::ZERO, Duration::MAX);
    let (p99, longest) = (percentile(&took, 0.99), percentile(&took, 1.0));
    println!(
        "{}: killed for {:?} under 200 calls a second: {} of {} answered, p50 {:?}, p99 {p99:?}, longest {longest:?}; good {healed:?} after it was back, none failed after that; noise {:?}",
        S::KIND,
        outage(),
        calls.len(),
        calls.len(),
        percentile(&took, 0.5),
        noise()
    );
    assert!(p99 <= Duration::from_millis(20) + noise(), "{p99:?}");
    assert!(longest <= Duration::from_millis(50) + noise(), "{longest:?}");
    assert!(healed < Duration::from_secs(1) + noise(), "{healed:?}");
}

async fn frozen_under_two_hundred_calls_a_second<S: Remote>() {
    let _turn = turn();
    let server = S::start();
    let cache = by_url(server.url(), "");
    let events = events(&cache);
    warm(&cache).await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let (start, go) = (Instant::now(), Arc::new(AtomicBool::new(true)));
    let calls = steady(&cache, start, &go);
    tokio::time::sleep(Duration::from_millis(500)).await;
    tokio::task::block_in_place(|| server.freeze());
    let frozen = start.elapsed();
    tokio::time::sleep(outage()).await;
    let thawed = start.elapsed();
    tokio::task::block_in_place(|| server.thaw());
    let healed = first_good(&cache).await;
    go.store(false, Ordering::Relaxed);
    let calls = calls.await.unwrap();
    let took = between(&calls, Duration::ZERO, Duration::MAX);
    let settled = between(&calls, frozen + Duration::from_millis(500), thawed);
    let (longest, p50, p99) =
        (percentile(&took, 1.0), percentile(&settled, 0.5), percentile(&settled, 0.99));
    println!(
        "{}: frozen for {:?} under 200 calls a second: {} answered, longest {longest:?}; from 500 ms on p50 {p50:?}, p99 {p99:?}, longest {:?}; good {healed:?} after the thaw; noise {:?}",
        S::KIND,
        outage(),
        calls.len(),
        percentile(&settled, 1.0),
        noise()
    );
    // The read, and the store of what was loaded meanwhile.
    assert!(longest <= DEADLINE * 2 + LOADER + Duration::from_millis(20) + noise(), "{longest:?}");
    // The goal is 1 ms more than the loader takes; timers go by milliseconds, and the rest is the
    // machine's.
    assert!(p50 <= LOADER + Duration::from_millis(3) + noise() / 2, "{p50:?}");
    assert!(p99 <= LOADER + Duration::from_millis(3) + noise(), "{p99:?}");
    assert!(healed < Duration::from_secs(1) + noise(), "{healed:?}");
    assert!(count(&events, EventKind::BreakerOpen) >= 1);
    // Where the machine stands still, calls time out, and it opens once more.
    let is_closed = || async {
        count(&events, EventKind::BreakerOpen) == count(&events, EventKind::BreakerClose)
    };
    eventually("it closes as often as it opens", PATIENT, is_closed).await;
}

async fn a_thousand_tasks_through_an_outage<S: Remote>() {
    let _turn = turn();
    let server = S::start();
    // In front of a dead server it accepts, and closes at once.
    let proxy = Proxy::start(server.addr());
    let cache = by_url(&proxy.url(server.url()), &format!("pool_size=4&{PATIENTLY}"));
    warm(&cache).await;
    let go = Arc::new(AtomicBool::new(true));
    let mut tasks = JoinSet::new();
    for n in 0..1_000u64 {
        let (cache, go) = (cache.clone(), go.clone());
        tasks.spawn(async move {
            let mut calls = 0u64;
            while go.load(Ordering::Relaxed) {
                assert_eq!(cache.get_or_set_with(format!("n{n}"), |_| n).await.unwrap(), n);
                calls += 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            calls
        });
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    tokio::task::block_in_place(|| server.kill());
    let mut seconds = Vec::new();
    for _ in 0..outage().as_secs() {
        let before = proxy.accepted();
        tokio::time::sleep(Duration::from_secs(1)).await;
        seconds.push(proxy.accepted() - before);
    }
    tokio::task::block_in_place(|| server.restart());
    let healed = first_good(&cache).await;
    go.store(false, Ordering::Relaxed);
    let calls: u64 = tasks.join_all().await.into_iter().sum();
    println!(
        "{}: 1,000 tasks through an outage: {calls} calls, all answered; {seconds:?} connects a second; good {healed:?} after it was back",
        S::KIND
    );
    assert!(seconds.iter().all(|connects| (1..=20).contains(connects)), "{seconds:?}");
    assert!(healed < Duration::from_secs(1) + noise(), "{healed:?}");
}

async fn what_was_removed_while_it_was_frozen_is_gone_when_it_is_back<S: Remote>() {
    let _turn = turn();
    let server = S::start();
    let adapter = format!("{}?prefix=shared:", server.url()).into_adapter().unwrap();
    let other = format!("{}?prefix=shared:&resilient=false&op_timeout=10s", server.url())
        .into_adapter()
        .unwrap();
    for n in 0..20 {
        put(&other, &format!("k{n}"), "old").await.unwrap();
    }
    tokio::task::block_in_place(|| server.freeze());
    for n in 0..10 {
        let key = format!("k{n}");
        assert!(
            adapter.remove(&key).await.unwrap_err().is_retryable(),
            "its caller gets the error"
        );
        assert!(put(&adapter, &format!("k{}", n + 10), "new").await.is_err());
    }
    tokio::task::block_in_place(|| server.thaw());
    let begun = Instant::now();
    // Nobody has to ask for it. Another process sees it, too.
    eventually("all that failed is made up for", PATIENT, || async {
        let mut is_done = true;
        for n in 0..20 {
            let found = text(&other, &format!("k{n}")).await.unwrap();
            is_done &= if n < 10 { found.is_none() } else { found.as_deref() == Some("new") };
        }
        is_done
    })
    .await;
    println!(
        "{}: 10 removals and 10 writes that failed while it was frozen: made up for {:?} after the thaw",
        S::KIND,
        begun.elapsed()
    );
    for n in 0..10 {
        let key = format!("k{n}");
        eventually("it is read as removed", PATIENT, || async {
            matches!(text(&adapter, &key).await, Ok(None))
        })
        .await;
    }
}

async fn what_was_set_while_it_was_dead_is_there_when_it_is_back<S: Remote>() {
    let _turn = turn();
    let server = S::start();
    let cache = by_url(server.url(), PATIENTLY);
    cache.set("k0", value_of("k0")).await.unwrap();
    tokio::task::block_in_place(|| server.kill());
    for round in 0..5 {
        for n in 0..50 {
            assert!(cache.set(format!("k{n}"), format!("{round}")).await.is_err());
        }
        assert!(cache.remove("k7").await.is_err());
    }
    tokio::task::block_in_place(|| server.restart());
    eventually("the last of each is there", PATIENT, || async {
        let found =
            cache.get_many::<String, _>((0..50).map(|n| format!("k{n}")).collect::<Vec<_>>()).await;
        found.is_ok_and(|found| {
            found.iter().enumerate().all(|(n, found)| found.as_deref() == (n != 7).then_some("4"))
        })
    })
    .await;
}

async fn strict_means_that_every_caller_gets_the_error<S: Remote>() {
    let _turn = turn();
    let server = S::start();
    for parameters in ["retry=1", "breaker=off", "recovery=false", "retry=0", "resilient=off"] {
        let cache = by_url(server.url(), &format!("{PATIENTLY}&{parameters}"));
        cache.set("k", 1).await.unwrap();
        tokio::task::block_in_place(|| server.kill());
        for _ in 0..30 {
            let answers = [
                cache.get::<u64>("k").await.map(drop),
                cache.set("k", 2).await,
                cache.remove("k").await.map(drop),
            ];
            for answer in answers {
                let error = answer.unwrap_err();
                assert_eq!(
                    (error.kind(), error.backend(), error.key()),
                    (ErrorKind::Unavailable, Some(S::KIND), Some("k")),
                    "{error}"
                );
            }
        }
        tokio::task::block_in_place(|| server.restart());
    }
    let cache = by_url(server.url(), &format!("fail_open=true&{PATIENTLY}"));
    tokio::task::block_in_place(|| server.kill());
    cache.set("k", 2u64).await.unwrap();
    assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(2));
    assert_eq!(cache.get::<u64>("l").await.unwrap(), None);
}
