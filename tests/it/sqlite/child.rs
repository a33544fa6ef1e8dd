//! The roles of this test binary as another process. The test here is the entry point; without a
//! role it does nothing.

use super::{PATIENT, get, on, set, soak, sqlite_threads};
use crate::support::alone::resident;
use crate::support::noise::{excuses, noise, watch};
use crate::support::wait_until;
use larder::{AsyncCacheAdapter, AsyncSqliteCache, CacheValue, ErrorKind, Expiry};
use std::cell::RefCell;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[test]
fn entry() {
    let Some(role) = std::env::var_os("LARDER_CHILD") else { return };
    watch();
    let path =
        PathBuf::from(std::env::var_os("LARDER_CHILD_PATH").expect("a child process needs a path"));
    match role.to_str().unwrap_or_default() {
        "write" => in_runtime(write(&path)),
        "count" => in_runtime(count(&path)),
        "many_callers" => in_runtime(many_callers(&path)),
        "drops" => drops(&path),
        "read_only" => in_runtime(read_only(&path)),
        "full" => in_runtime(full(&path)),
        "idle" => in_runtime(idle(&path)),
        "store_a_minute" => in_runtime(store_a_minute(&path)),
        "write_beside" => in_runtime(write_beside(&path)),
        other => panic!("no such role: {other}"),
    }
}

fn in_runtime(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(work);
}

fn say(line: &str) {
    println!("{line}");
    std::io::stdout().flush().unwrap();
}

/// The value that `write` stores, by which a reader sees that it is complete.
pub(super) fn text_of(key: &str) -> String {
    format!("{key}={}", key.repeat(40))
}

/// Writes until it is killed.
async fn write(path: &Path) {
    let cache = Arc::new(on(path).build().unwrap());
    set(&cache, "first", &text_of("first")).await.unwrap();
    say("writing");
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let cache = cache.clone();
            tokio::spawn(async move {
                for n in 0.. {
                    let key = format!("{writer}-{}", n % 300);
                    // The process may be killed at any moment; until then no write fails.
                    set(&cache, &key, &text_of(&key)).await.unwrap();
                    cache.remove(&format!("{writer}-{}", (n + 150) % 300)).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
}

/// Counts and writes beside others.
async fn count(path: &Path) {
    let cache = on(path).op_timeout(PATIENT).build().unwrap();
    let me = std::process::id();
    for n in 0..soak(300, 10_000) {
        cache.incr("count", 1, Expiry::Never).await.unwrap();
        set(&cache, &format!("{me}-{n}"), "here").await.unwrap();
    }
    say("counted");
}

/// A hundred callers for each connection.
async fn many_callers(path: &Path) {
    let op_timeout = Duration::from_millis(500);
    let patient = on(path).build().unwrap();
    for n in 0..100 {
        set(&patient, &format!("k{n}"), &"x".repeat(1_000)).await.unwrap();
    }
    patient.close().await.unwrap();
    let cache = Arc::new(on(path).op_timeout(op_timeout).build().unwrap());
    let before = resident();
    let until = Instant::now() + soak(Duration::from_secs(2), Duration::from_secs(10));
    let callers: Vec<_> = (0..400)
        .map(|caller| {
            let cache = cache.clone();
            tokio::spawn(async move {
                let (mut calls, mut worst, mut timeouts) = (0_u64, Duration::ZERO, 0_u64);
                while Instant::now() < until {
                    let key = format!("k{}", (caller + calls) % 100);
                    let began = Instant::now();
                    let result = if caller % 4 == 0 {
                        set(&cache, &key, &"x".repeat(1_000)).await
                    } else {
                        get(&cache, &key).await.map(drop)
                    };
                    worst = worst.max(began.elapsed());
                    match result {
                        Ok(()) => {}
                        Err(error) if error.kind() == ErrorKind::Timeout => timeouts += 1,
                        Err(error) => panic!("{error}"),
                    }
                    calls += 1;
                }
                (calls, worst, timeouts)
            })
        })
        .collect();
    let (mut calls, mut worst, mut timeouts) = (0, Duration::ZERO, 0);
    for caller in callers {
        let (its, slowest, late) = caller.await.unwrap();
        (calls, worst, timeouts) = (calls + its, worst.max(slowest), timeouts + late);
    }
    let grown = resident().saturating_sub(before) >> 10;
    say(&format!(
        "400 callers, 4 connections: {calls} calls, {timeouts} timed out, worst {worst:?}, memory \
         + {grown} KiB"
    ));
    assert!(worst < op_timeout + noise(), "{worst:?}");
    assert!(grown < 20 << 10, "{grown} KiB");
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

thread_local! {
    static LAST: RefCell<Option<Arc<AsyncSqliteCache>>> = const { RefCell::new(None) };
}

/// Drops the last handle in every place where it can be dropped.
fn drops(path: &Path) {
    drop(used(path));
    wait_until("the first threads end", Duration::from_secs(60), || sqlite_threads() == 0);
    let files = open_files();
    let rounds = soak(40, 1_000);
    for round in 0..rounds {
        match round % 5 {
            0 => drop(used(path)),
            1 => in_runtime(async { drop(fetch(path).await) }),
            // In the destructor of a task that the ending runtime drops.
            2 => {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let cache = fetch(path).await;
                    tokio::spawn(async move {
                        let _held = cache;
                        std::future::pending::<()>().await;
                    });
                    tokio::task::yield_now().await;
                });
                drop(runtime);
            }
            // In a thread-local's destructor.
            3 => {
                let path = path.to_owned();
                std::thread::spawn(move || LAST.set(Some(used(&path)))).join().unwrap();
            }
            // With a call in flight.
            _ => in_runtime(async {
                let cache = fetch(path).await;
                let mut call = Box::pin(async move {
                    cache.set("given up", CacheValue::new(2), Expiry::Never).await
                });
                // In flight, or just done.
                let _ = poll_once(call.as_mut());
                drop(call);
            }),
        }
    }
    wait_until("the threads end", Duration::from_secs(10), || sqlite_threads() == 0);
    wait_until("the files close", Duration::from_secs(5), || open_files() <= files + 5);
    say(&format!(
        "{rounds} last handles dropped: {} threads, {} files, {files} before",
        sqlite_threads(),
        open_files()
    ));
    // One more, which is still in flight when the process ends.
    std::mem::forget(used(path));
    LAST.set(Some(used(path)));
}

fn used(path: &Path) -> Arc<AsyncSqliteCache> {
    let cache = Arc::new(on(path).build().unwrap());
    let blocking = larder::AsyncCacheWrapper::new(cache.clone() as Arc<dyn AsyncCacheAdapter>)
        .unwrap()
        .blocking();
    blocking.set("k", 1).unwrap();
    assert_eq!(blocking.get::<i32>("k").unwrap(), Some(1));
    cache
}

async fn fetch(path: &Path) -> Arc<AsyncSqliteCache> {
    let cache = Arc::new(on(path).build().unwrap());
    set(&cache, "k", "v").await.unwrap();
    assert_eq!(get(&cache, "k").await.unwrap().as_deref(), Some("v"));
    cache
}

fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> std::task::Poll<F::Output> {
    future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
}

/// Keeps the file open, idle until a line arrives on its input; then writes once more.
async fn idle(path: &Path) {
    let cache = on(path).build().unwrap();
    for n in 0..100 {
        set(&cache, &format!("k{n}"), &"x".repeat(3_000)).await.unwrap();
    }
    set(&cache, "first", "v").await.unwrap();
    assert!(get(&cache, "first").await.unwrap().is_some());
    say("idle");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    // Read before the write: a write within a tenth of a second of the last look at the file still
    // goes to the deleted one.
    crate::support::eventually("it finds the new file", PATIENT, async || {
        get(&cache, "k").await.is_ok_and(|found| found.as_deref() == Some("v"))
            && set(&cache, "from the other", "here").await.is_ok()
    })
    .await;
    cache.close().await.unwrap();
    say("awake");
}

/// Stores a value that expires, and one that does not.
async fn store_a_minute(path: &Path) {
    let cache = on(path).build().unwrap();
    cache.set("minute", CacheValue::new(1), Duration::from_secs(60).into()).await.unwrap();
    set(&cache, "ever", "v").await.unwrap();
    cache.close().await.unwrap();
}

/// Writes under its own prefix until its input has a line, and prints the longest wait.
async fn write_beside(path: &Path) {
    let cache = on(path).prefix("beside:").build().unwrap();
    set(&cache, "k", "v").await.unwrap();
    say("writing");
    let (stop, mut stopped) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).unwrap();
        let _ = stop.send(());
    });
    let mut waited = Vec::new();
    while stopped.try_recv().is_err() {
        let began = Instant::now();
        set(&cache, "k", "v").await.unwrap();
        waited.push(began.elapsed());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    waited.sort_unstable();
    let (worst, late) = (waited[waited.len() - 1], waited[waited.len() - 1 - waited.len() / 100]);
    say(&format!(
        "{} sets beside: worst {worst:?}, 99th {late:?}, machine late by {:?}",
        waited.len(),
        noise()
    ));
    assert!(late <= Duration::from_millis(50) + noise(), "{late:?}");
}

/// Uses a file, and a folder, that may only be read.
async fn read_only(path: &Path) {
    let cache = on(path).op_timeout(Duration::from_millis(500)).build().unwrap();
    let began = Instant::now();
    let error = set(&cache, "k", "new").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(began.elapsed() < Duration::from_millis(500) + noise(), "{:?}", began.elapsed());
    let read = get(&cache, "k").await;
    assert!(
        read.as_ref().map_or_else(
            |error| error.kind() == ErrorKind::Unavailable,
            |value| value.as_deref() == Some("v")
        ),
        "{read:?}"
    );
    say(&format!("read-only: set is `{error}`, get is {read:?}"));
}

/// With a file that cannot grow: the newest value is stored, and older entries are evicted for it.
async fn full(path: &Path) {
    let cache = on(path).op_timeout(Duration::from_millis(500)).build().unwrap();
    while set(&cache, "first", "v").await.is_err_and(|error| error.is_timeout()) {}
    let mut refused = 0;
    for n in 0..200 {
        let began = Instant::now();
        let key = format!("k{n}");
        let result = set(&cache, &key, &"x".repeat(10_000)).await;
        assert!(began.elapsed() < Duration::from_millis(500) + noise(), "{:?}", began.elapsed());
        match result {
            Ok(()) => assert!(get(&cache, &key).await.is_ok(), "{key}"),
            Err(error) => {
                assert!(
                    excuses(&error)
                        || matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout),
                    "{error}"
                );
                refused += 1;
            }
        }
    }
    let read = get(&cache, "k199").await.unwrap();
    say(&format!("full: {refused} of 200 refused, `k199` read: {}", read.is_some()));
    assert!(refused < 20, "{refused} of 200 refused");
}
