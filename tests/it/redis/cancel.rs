//! Futures that are dropped before they are done.

use super::{PATIENT, on, put, soak, text, value_of};
use crate::support::{Proxy, Redis, eventually};
use larder::{AsyncCacheAdapter, AsyncRedisCache, RedisBuilder};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

const KEYS: usize = 500;
const TASKS: usize = 16;

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
async fn cancel_many(cache: &AsyncRedisCache, calls: usize) -> usize {
    let cancelled = Arc::new(AtomicUsize::new(0));
    let tasks = (0..TASKS).map(|task| {
        let (cache, cancelled) = (cache.clone(), cancelled.clone());
        tokio::spawn(async move {
            for call in 0..calls / TASKS {
                let key = format!("k{}", (call * 31 + task * 17) % KEYS);
                let patience = Duration::from_nanos(fastrand::u64(0..250_000));
                let done = match call % 8 {
                    0 => cut(put(&cache, &key, &value_of(&key)), patience).await.map(|done| done.unwrap()),
                    1 => cut(cache.contains(&key), patience).await.map(|live| assert!(live.unwrap(), "{key}")),
                    2 => cut(cache.get_many(&[&key, "nothing"]), patience).await.map(|found| {
                        let found = found.unwrap().remove(0).unwrap().expect("a value");
                        assert_eq!(found.decode::<String>().unwrap(), value_of(&key));
                    }),
                    _ => cut(text(&cache, &key), patience).await.map(|found| assert_eq!(found.unwrap(), Some(value_of(&key)))),
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

async fn survives(server: &Redis, cache: &AsyncRedisCache, calls: usize, how: &str) {
    for key in 0..KEYS {
        let key = format!("k{key}");
        put(cache, &key, &value_of(&key)).await.unwrap();
    }
    let before: usize = server.info("total_connections_received").parse().unwrap();
    let cancelled = cancel_many(cache, calls).await;
    for key in 0..KEYS {
        let key = format!("k{key}");
        assert_eq!(text(cache, &key).await.unwrap(), Some(value_of(&key)));
    }
    let connections = server.info("total_connections_received").parse::<usize>().unwrap() - before;
    println!("{how}: {calls} operations, {cancelled} cancelled, 0 wrong values, {connections} new connections");
    assert!(cancelled > calls / 20, "only {cancelled} were cancelled");
    assert!(connections * 100 <= cancelled, "{connections} connections for {cancelled} cancels");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_ever_belongs_to_another_key() {
    let server = Redis::start();
    let calls = if soak() { 2_000_000 } else { 20_000 };
    let cache = on(&server).op_timeout(PATIENT).build().unwrap();
    survives(&server, &cache, calls, "directly").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_over_a_path_that_slices() {
    let server = Redis::start();
    let proxy = Proxy::start(server.addr());
    proxy.slice(true);
    let calls = if soak() { 500_000 } else { 20_000 };
    let cache = RedisBuilder::from_url(&proxy.url(server.url())).unwrap().op_timeout(PATIENT).build().unwrap();
    survives(&server, &cache, calls, "through the slicing proxy").await;
}

/// An answer that comes twice puts all later ones out of step: larder notices by the key in the header, and by answers of the wrong
/// kind, and replaces the connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_doubled_answer_is_noticed() {
    let server = Redis::start();
    let proxy = Proxy::start(server.addr());
    let cache = RedisBuilder::from_url(&proxy.url(server.url())).unwrap().pool_size(1).op_timeout(PATIENT).build().unwrap();
    for key in 0..100 {
        let key = format!("k{key}");
        put(&cache, &key, &value_of(&key)).await.unwrap();
    }
    let before = proxy.accepted();
    for round in 0..20 {
        proxy.duplicate_once();
        for key in 0..100 {
            let key = format!("k{key}");
            // A miss or an error is fair, another key's value is not.
            if let Ok(Some(value)) = cache.get(&key).await
                && !value.is_unreadable()
            {
                assert_eq!(value.decode::<String>().unwrap(), value_of(&key), "round {round}");
            }
        }
    }
    println!("20 doubled answers: 0 wrong values, {} new connections", proxy.accepted() - before);
    // One that comes while nothing is asked is dropped by the driver, and the connection is still in step.
    eventually("reads are right again", Duration::from_secs(5), || async { text(&cache, "k7").await.ok() == Some(Some(value_of("k7"))) })
        .await;
}
