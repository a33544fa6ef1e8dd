//! Futures that are dropped before they are done.

use super::{Cache, PATIENT, Remote, Setup, on_each, put, soak, text, value_of};
use crate::support::turns::turn;
use crate::support::{Proxy, eventually};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

const KEYS: usize = 500;
const TASKS: usize = 16;

on_each!(async no_answer_ever_belongs_to_another_key, nor_over_a_path_that_slices, a_doubled_answer_is_noticed);

/// `None` if `work` is not done after `patience`, to the microsecond: timers tick in milliseconds.
async fn cut<F: Future>(work: F, patience: Duration) -> Option<F::Output> {
    let end = Instant::now() + patience;
    let mut work = pin!(work);
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending if Instant::now() >= end => Poll::Ready(None),
        Poll::Pending => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}

/// Returns how many operations were cancelled.
async fn cancel_many(cache: &Cache, calls: usize) -> usize {
    let cancelled = Arc::new(AtomicUsize::new(0));
    let tasks = (0..TASKS).map(|task| {
        let (cache, cancelled) = (cache.clone(), cancelled.clone());
        tokio::spawn(async move {
            for call in 0..calls / TASKS {
                let key = format!("k{}", (call * 31 + task * 17) % KEYS);
                let patience = Duration::from_nanos(fastrand::u64(0..250_000));
                let done = match call % 8 {
                    0 => cut(put(&cache, &key, &value_of(&key)), patience)
                        .await
                        .map(|done| done.expect("a set")),
                    1 => cut(cache.contains(&key), patience)
                        .await
                        .map(|live| assert!(live.expect("an answer"), "{key}")),
                    2 => cut(cache.get_many(&[&key, "nothing"]), patience).await.map(|found| {
                        let found =
                            found.expect("a batch").remove(0).expect("an answer").expect("a value");
                        assert_eq!(found.decode::<String>().unwrap(), value_of(&key));
                    }),
                    _ => cut(text(&cache, &key), patience)
                        .await
                        .map(|found| assert_eq!(found.unwrap(), Some(value_of(&key)))),
                };
                if done.is_none() {
                    cancelled.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    cancelled.load(Ordering::Relaxed)
}

async fn survives<S: Remote>(server: &S, cache: &Cache, calls: usize, how: &str) {
    for key in 0..KEYS {
        let key = format!("k{key}");
        put(cache, &key, &value_of(&key)).await.unwrap();
    }
    let before = server.accepted();
    let cancelled = cancel_many(cache, calls).await;
    // What was given up is still on its way through the proxy, in pieces, and is answered first.
    let limit = if soak() { Duration::from_secs(3_600) } else { Duration::from_secs(600) };
    eventually("the answers to what was given up are through", limit, || async {
        cache.contains("k0").await.is_ok()
    })
    .await;
    for key in 0..KEYS {
        let key = format!("k{key}");
        assert_eq!(text(cache, &key).await.unwrap(), Some(value_of(&key)));
    }
    let connections = server.accepted() - before;
    println!(
        "{}, {how}: {calls} operations, {cancelled} cancelled, 0 wrong values, {connections} new connections",
        S::KIND
    );
    assert!(cancelled > calls / 20, "only {cancelled} were cancelled");
    assert!(connections * 100 <= cancelled, "{connections} connections for {cancelled} cancels");
}

async fn no_answer_ever_belongs_to_another_key<S: Remote>() {
    let _turn = turn();
    let server = S::start();
    let calls = if soak() { 2_000_000 } else { 100_000 };
    survives(&server, &server.cache(Setup::patient()), calls, "directly").await;
}

async fn nor_over_a_path_that_slices<S: Remote>() {
    let _turn = turn();
    let server = S::start();
    let proxy = Proxy::start(server.addr());
    proxy.slice(true);
    let calls = if soak() { 500_000 } else { 100_000 };
    survives(
        &server,
        &S::adapter(&proxy.url(server.url()), Setup::patient()),
        calls,
        "through the slicing proxy",
    )
    .await;
}

/// An answer that comes twice puts all later ones out of step: larder notices by the key in the
/// header, by the numbers that answers bear and by answers of the wrong kind, and replaces the
/// connection.
async fn a_doubled_answer_is_noticed<S: Remote>() {
    let server = S::start();
    let proxy = Proxy::start(server.addr());
    let cache = S::adapter(
        &proxy.url(server.url()),
        Setup::new().pool_size(1).op_timeout(Duration::from_secs(10)),
    );
    for key in 0..100 {
        let key = format!("k{key}");
        put(&cache, &key, &value_of(&key)).await.unwrap();
    }
    let before = proxy.accepted();
    let mut rounds = 0;
    // One that comes while nothing is asked may be dropped by the driver, with the connection still
    // in step. With questions waiting at the time it cannot be.
    while rounds < 20 || (proxy.accepted() == before && rounds < 1_000) {
        proxy.duplicate_once();
        let keys: Vec<String> = (0..100).map(|key| format!("k{key}")).collect();
        // A miss or an error is fair, another key's value is not.
        let ask = async |key: &String| {
            if let Ok(Some(value)) = cache.get(key).await
                && !value.is_unreadable()
            {
                assert_eq!(value.decode::<String>().unwrap(), value_of(key), "round {rounds}");
            }
        };
        futures_util::future::join_all(keys.iter().map(&ask)).await;
        for key in &keys {
            ask(key).await;
        }
        rounds += 1;
    }
    println!(
        "{}: {rounds} doubled answers: 0 wrong values, {} new connections",
        S::KIND,
        proxy.accepted() - before
    );
    assert!(proxy.accepted() > before, "the connection was replaced");
    eventually("reads are right again", PATIENT, || async {
        text(&cache, "k7").await.ok() == Some(Some(value_of("k7")))
    })
    .await;
}
