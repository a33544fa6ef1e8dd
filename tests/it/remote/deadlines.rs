//! Far more callers than connections.

use super::{Remote, Setup, on_each, percentile, put, soak, text, value_of};
use crate::support::Proxy;
use crate::support::alone::{alone, resident};
use crate::support::noise::{excuses, noise};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

on_each!(blocking a_hundred_callers_a_connection);

/// In a process of its own, because the memory of the whole process is measured.
fn a_hundred_callers_a_connection<S: Remote>() {
    alone(&format!("remote::deadlines::{}::a_hundred_callers_a_connection", S::KIND), || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(many_callers::<S>());
    });
}

/// A hundred callers a connection for a while, over a path with a latency: each is answered by its
/// deadline, and they do not pile up.
async fn many_callers<S: Remote>() {
    let server = S::start();
    let proxy = Proxy::start(server.addr());
    proxy.delay(Duration::from_millis(2), Duration::from_millis(2));
    let deadline = Duration::from_secs(1);
    let cache =
        S::adapter(&proxy.url(server.url()), Setup::new().pool_size(2).op_timeout(deadline));
    for n in 0..20 {
        let key = format!("k{n}");
        put(&cache, &key, &value_of(&key)).await.unwrap();
    }
    let before = resident();
    let until = Instant::now() + Duration::from_secs(if soak() { 10 } else { 2 });
    let mut callers = JoinSet::new();
    for n in 0..200 {
        let (cache, key) = (cache.clone(), format!("k{}", n % 20));
        callers.spawn(async move {
            let mut took = Vec::new();
            while Instant::now() < until {
                let begun = Instant::now();
                match text(&cache, &key).await {
                    Ok(found) => assert_eq!(found, Some(value_of(&key))),
                    Err(error) => assert!(excuses(&error), "{error}"),
                }
                took.push(begun.elapsed());
            }
            took
        });
    }
    let mut took: Vec<Duration> = callers.join_all().await.into_iter().flatten().collect();
    took.sort();
    let grown = resident().saturating_sub(before) >> 20;
    println!(
        "{}: 200 callers on 2 connections: {} calls, p50 {:?}, p99 {:?}, longest {:?}, {} connections, memory + {grown} MiB",
        S::KIND,
        took.len(),
        percentile(&took, 0.5),
        percentile(&took, 0.99),
        percentile(&took, 1.0),
        proxy.accepted()
    );
    assert!(percentile(&took, 1.0) <= deadline + noise());
    assert!(proxy.accepted() <= 2);
    assert!(grown <= 20, "{grown} MiB");
}
