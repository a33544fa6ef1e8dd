//! An sqlite file is taken away under two hundred calls a second.

use super::outage::{between, none_fails, steady, warm};
use crate::remote::{PATIENT, percentile};
use crate::support::noise::{lateness, noise};
use crate::support::turns::turn;
use larder::AsyncCacheWrapper;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const STRETCH: Duration = Duration::from_millis(500);

fn on(path: &Path) -> AsyncCacheWrapper {
    AsyncCacheWrapper::new(format!("sqlite:{}?op_timeout=10s", path.display())).unwrap()
}

/// When it works again, and into the file that is there now; and then it goes on to. Each of its
/// connections has to find out.
async fn healed(cache: &AsyncCacheWrapper, path: &Path, way: &str) -> Duration {
    let begun = Instant::now();
    let mut well_since = begun;
    while well_since.elapsed() < Duration::from_millis(400) {
        if !works(cache, path, way).await {
            well_since = Instant::now();
        }
        assert!(begun.elapsed() < PATIENT, "{way}: never well");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    well_since - begun
}

async fn works(cache: &AsyncCacheWrapper, path: &Path, way: &str) -> bool {
    let is_there = match way {
        "another cache" => cache.get::<u64>("theirs").await.is_ok_and(|found| found == Some(7)),
        _ => is_cache(path),
    };
    is_there
        && cache.set(way, 1u64).await.is_ok()
        && cache.get::<u64>(way).await.is_ok_and(|found| found == Some(1))
}

/// Whether there is a core for this test. Each call is three statements, on threads that other
/// tests want as well: without one it is their queue that is measured, and then the figures are
/// only printed.
fn is_idle() -> bool {
    lateness() < Duration::from_millis(40)
}

/// Whether a database of more than its first page lies there.
fn is_cache(path: &Path) -> bool {
    fs::read(path).is_ok_and(|file| file.len() > 512 && file.starts_with(b"SQLite format 3"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_replaced_under_two_hundred_calls_a_second() {
    let _turn = turn();
    let folder = crate::support::server::dir();
    let (path, other) = (folder.path().join("cache.db"), folder.path().join("other.db"));
    let cache = on(&path);
    warm(&cache).await;
    let another = on(&other);
    another.set("theirs", 7u64).await.unwrap();
    // What it holds is to be in the file, and not in a log beside it.
    another.close().await.unwrap();
    let (start, go) = (Instant::now(), Arc::new(AtomicBool::new(true)));
    let calls = steady(&cache, start, &go);
    tokio::time::sleep(STRETCH).await;
    let first = start.elapsed();
    for way in ["another cache", "nothing", "garbage"] {
        tokio::time::sleep(Duration::from_millis(300)).await;
        match way {
            "another cache" => fs::rename(&other, &path).unwrap(),
            "nothing" => fs::remove_file(&path).unwrap(),
            // Into the file itself: another file, which never was a cache, would be left alone.
            // What is as long as the cache was is noticed only when SQLite next reads a damaged
            // page.
            _ => fs::write(&path, "garbage").unwrap(),
        }
        let took = healed(&cache, &path, way).await;
        println!("sqlite: replaced by {way}: good {took:?} later");
        assert!(took < Duration::from_secs(1) + noise() * 2 || !is_idle(), "{way}: {took:?}");
    }
    let last = start.elapsed();
    tokio::time::sleep(STRETCH).await;
    go.store(false, Ordering::Relaxed);
    let calls = calls.await.unwrap();
    // What this machine makes of two hundred calls a second while nothing happens to the file.
    let quiet: Vec<_> =
        [between(&calls, Duration::ZERO, first), between(&calls, last, Duration::MAX)].concat();
    let (usual, took) =
        (quiet.iter().max().copied().unwrap_or_default(), between(&calls, first, last));
    let (p50, p99, longest) =
        (percentile(&took, 0.5), percentile(&took, 0.99), percentile(&took, 1.0));
    println!(
        "sqlite: {} calls, all answered; while its file was replaced p50 {p50:?}, p99 {p99:?}, longest {longest:?}; otherwise at most {usual:?}; noise {:?}",
        calls.len(),
        noise()
    );
    none_fails(&cache).await;
    if is_idle() {
        let forgiven = noise() + usual * 4;
        assert!(p99 <= Duration::from_millis(20) + forgiven, "{p99:?}");
        assert!(longest <= Duration::from_millis(50) + forgiven, "{longest:?}");
    }
}
