//! A program without a runtime: `cargo run --example blocking`.
//!
//! Plain `main`, plain threads, no `.await`. The verbs, their meanings and their errors are those
//! of the async face. A background thread of larder drives sockets and timers; a hit in memory does
//! not need it.

use larder::{Awaitable, CacheWrapper, async_cached, awaitable, cached};
use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

static LOADS: AtomicU32 = AtomicU32::new(0);

fn main() -> larder::Result<()> {
    println!("Set and get, on a plain thread");
    cached().set("hello", "world")?;
    let hello: Option<String> = cached().get("hello")?;
    println!("   get(\"hello\"): {hello:?}");
    assert_eq!(hello.as_deref(), Some("world"));

    println!("Eight threads, one key, one load");
    let begun = Instant::now();
    let report = || cached().ttl(Duration::from_secs(60)).get_or_set_async("report", slow_report());
    let reports: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(report)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no thread panics")).collect()
    });
    let loads = LOADS.load(Ordering::Relaxed);
    println!(
        "   {} threads got the report after {:.0?}; its loader ran {loads} time",
        reports.len(),
        begun.elapsed()
    );
    for report in reports {
        assert_eq!(report?, "all is well");
    }
    assert_eq!(loads, 1);

    println!("A loader that fails");
    let error = cached()
        .try_get_or_set_async("figure", async { "seven".parse::<u32>() })
        .expect_err("it is no number");
    let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    println!("   {error}: {cause}");
    assert!(!cached().contains("figure")?);

    println!("One function for async and blocking callers, called without .await");
    let length = hello_length().wait()?;
    println!("   hello_length().wait(): {length}");
    assert_eq!(length, 5);

    println!("A cache of your own, and a counter that four threads increment");
    let own = CacheWrapper::new("memory:?max_entries=100")?;
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..1_000).try_for_each(|_| own.incr("hits", 1).map(drop)));
        }
    });
    let hits: Option<i64> = own.get("hits")?;
    println!("   4 threads, 1,000 times incr(\"hits\", 1) each: {hits:?}");
    assert_eq!(hits, Some(4_000));
    Ok(())
}

/// A future as the loader of blocking code.
async fn slow_report() -> String {
    LOADS.fetch_add(1, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(100)).await;
    "all is well".to_owned()
}

/// Async code says `.await`, blocking code `.wait()`.
fn hello_length() -> Awaitable<impl Future<Output = larder::Result<usize>>> {
    awaitable(async { Ok(async_cached().get_or_fail::<String>("hello").await?.len()) })
}
