//! Calls that are answered at once, for the server is away, leave room for the other tasks of a
//! current-thread runtime.

use super::{Cache, PATIENT, Remote, Setup, on_each, put};
use larder::{CacheValue, Entry, Expiry, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

on_each!(blocking a_loop_of_refused_calls_lets_timers_go_off_and_sees_the_server_come_back);

async fn calls(cache: &Cache) -> Vec<Result<()>> {
    let entry = Entry::new("k", CacheValue::new(1), Expiry::Never);
    vec![
        cache.get("k").await.map(drop),
        put(&**cache, "k", "v").await,
        cache.remove("k").await.map(drop),
        cache.incr("n", 1, Expiry::Never).await.map(drop),
        cache.get_many(&["k"]).await.map(drop),
        cache.set_many(&[entry]).await.map(drop),
        cache.claim("k", None).await.map(drop),
    ]
}

fn a_loop_of_refused_calls_lets_timers_go_off_and_sees_the_server_come_back<R: Remote>() {
    let server = R::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let cache = server.cache(Setup::patient());
        put(&*cache, "k", "v").await.unwrap();
        server.kill();
        let begun = Instant::now();
        while cache.get("k").await.is_ok() {}

        let ticks = Arc::new(AtomicUsize::new(0));
        let seen = ticks.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(1)).await;
                seen.fetch_add(1, Ordering::Relaxed);
            }
        });
        while ticks.load(Ordering::Relaxed) < 10 {
            assert!(begun.elapsed() < PATIENT, "starved");
            calls(&cache).await;
        }
        server.restart();
        while put(&*cache, "k", "v").await.is_err() {
            assert!(begun.elapsed() < PATIENT, "no connection is made");
        }
    });
}
