//! Concurrency: tasks, processes, locks, and callers that give up.

use super::{
    Guarded, PATIENT, another_process, fresh, fresh_path, get, on, python, python_says, set,
    shared, soak,
};
use crate::support::noise::{excuses, noise, watch};
use larder::{AsyncCacheAdapter, CacheValue, ErrorKind, Expiry};
use std::future::poll_fn;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::pin::pin;
use std::process::Stdio;
use std::task::Poll;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn increments_and_writes_of_eight_tasks_and_two_processes_are_exact() {
    let path = fresh_path();
    let began = Instant::now();
    let mut others: Vec<_> =
        (0..2).map(|_| Guarded(another_process("count", &path).spawn().unwrap())).collect();
    let cache = shared(on(&path).op_timeout(PATIENT).build().unwrap());
    let each = soak(300, 10_000);
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let cache = cache.clone();
            tokio::spawn(async move {
                for n in 0..each {
                    cache.incr("count", 1, Expiry::Never).await.unwrap();
                    set(&cache, &format!("t{task}-{n}"), "here").await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    for other in &mut others {
        assert!(other.0.wait().unwrap().success());
    }
    let counted = cache.get("count").await.unwrap().unwrap().as_counter().unwrap();
    let rows = python_says(
        "import sqlite3,sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT count(*) FROM \
         larder_cache').fetchone()[0])",
        &[path.to_str().unwrap()],
    );
    println!(
        "sqlite: 8 tasks and 2 processes counted to {counted} and wrote {rows} rows in {:?}",
        began.elapsed()
    );
    assert_eq!(counted, 10 * each);
    assert_eq!(rows, (10 * each + 1).to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_counter_in_larders_own_format_is_counted_exactly_too() {
    let cache = shared(fresh());
    cache.set("n", CacheValue::new(1_000_i64), Duration::from_secs(60).into()).await.unwrap();
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            tokio::spawn({
                let cache = cache.clone();
                async move { cache.incr("n", 1, Expiry::Never).await.unwrap() }
            })
        })
        .collect();
    let mut sums = Vec::new();
    for task in tasks {
        sums.push(task.await.unwrap());
    }
    sums.sort_unstable();
    assert_eq!(sums, (1_001..=1_064).collect::<Vec<i64>>());
    assert!(
        matches!(cache.expiry("n").await.unwrap(), Some(Expiry::After(left)) if left <= Duration::from_secs(60))
    );
    for (start, by, sum) in [
        (i64::MAX - 1, 1, Some(i64::MAX)),
        (i64::MAX, 1, None),
        (i64::MIN, -1, None),
        (0, i64::MIN, Some(i64::MIN)),
        (-1, i64::MIN, None),
    ] {
        for plain in [false, true] {
            cache.remove("edge").await.unwrap();
            if plain {
                cache.incr("edge", start, Expiry::Never).await.unwrap();
            } else {
                cache.set("edge", CacheValue::new(start), Expiry::Never).await.unwrap();
            }
            let result = cache.incr("edge", by, Expiry::Never).await;
            assert_eq!(result.as_ref().ok(), sum.as_ref(), "{start} + {by}, plain: {plain}");
            if let Err(error) = result {
                assert_eq!(error.kind(), ErrorKind::Overflow);
                assert_eq!(cache.get("edge").await.unwrap().unwrap().as_counter().unwrap(), start);
            }
        }
    }
}

/// Holds the write lock of a database for a while, in another process.
pub(super) fn hold_lock(path: &Path, begin: &str, seconds: f64) -> Guarded {
    let script = "\
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in sys.argv[2].split(';'): db.execute(statement)
print('locked', flush=True)
time.sleep(float(sys.argv[3]))
db.execute('ROLLBACK')";
    let mut holder = python(script, &[path.to_str().unwrap(), begin, &seconds.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line.trim(), "locked");
    Guarded(holder)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_held_by_another_process_costs_writes_their_deadline_and_reads_nothing() {
    watch();
    let path = fresh_path();
    let op_timeout = Duration::from_millis(300);
    let cache = shared(on(&path).op_timeout(op_timeout).build().unwrap());
    while set(&cache, "k", "old").await.is_err() || get(&cache, "k").await.is_err() {}
    let mut holder = hold_lock(&path, "BEGIN IMMEDIATE", 600.0);
    let writers: Vec<_> = (0..16)
        .map(|writer| {
            let cache = cache.clone();
            tokio::spawn(async move {
                let (mut worst, mut timeouts) = (Duration::ZERO, 0);
                while timeouts < soak(3, 12) {
                    let began = Instant::now();
                    match set(&cache, &format!("w{writer}"), "v").await {
                        Ok(()) => panic!("written while another process has the lock"),
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Timeout, "{error}"),
                    }
                    worst = worst.max(began.elapsed());
                    timeouts += 1;
                }
                (worst, timeouts)
            })
        })
        .collect();
    let mut reads = Vec::new();
    while writers.iter().any(|writer| !writer.is_finished()) {
        let began = Instant::now();
        match get(&cache, "k").await {
            Ok(found) => assert_eq!(found.as_deref(), Some("old")),
            Err(error) => assert!(excuses(&error), "{error}"),
        }
        reads.push(began.elapsed());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let (mut worst, mut timeouts) = (Duration::ZERO, 0);
    for writer in writers {
        let (its, late) = writer.await.unwrap();
        (worst, timeouts) = (worst.max(its), timeouts + late);
    }
    reads.sort_unstable();
    let (middle, most) = (reads[reads.len() / 2], reads[reads.len() - 1 - reads.len() / 50]);
    holder.0.kill().unwrap();
    holder.0.wait().unwrap();
    let began = Instant::now();
    while let Err(error) = set(&cache, "k", "new").await {
        assert!(excuses(&error), "{error}");
    }
    let back = began.elapsed();
    println!(
        "sqlite: locked: {timeouts} writes timed out, worst {worst:?}; {} reads, median \
         {middle:?}, 98th {most:?}; first write after it {back:?}",
        reads.len()
    );
    assert!(timeouts >= 16 * soak(3, 12), "{timeouts}");
    assert!(worst < op_timeout + noise(), "{worst:?}");
    assert!(most <= noise(), "{most:?}");
    // A command that timed out in the queue is not run later.
    assert!(back < noise() * 2, "{back:?}");
}

#[tokio::test]
async fn one_deadline_bounds_waiting_and_opening_and_the_statement() {
    let path = fresh_path();
    python_says(
        "import sqlite3,sys; d=sqlite3.connect(sys.argv[1]); d.execute('PRAGMA journal_mode=WAL')",
        &[path.to_str().unwrap()],
    );
    // With an exclusive lock, which keeps other connections from reading, too.
    let _holder = hold_lock(
        &path,
        "PRAGMA locking_mode=EXCLUSIVE;BEGIN IMMEDIATE;CREATE TABLE t (x);COMMIT;BEGIN IMMEDIATE",
        60.0,
    );
    let op_timeout = Duration::from_millis(200);
    for pool_size in [1, 4, 64] {
        let cache = shared(on(&path).op_timeout(op_timeout).pool_size(pool_size).build().unwrap());
        let began = Instant::now();
        let calls: Vec<_> = (0..128)
            .map(|n| {
                tokio::spawn({
                    let cache = cache.clone();
                    async move {
                        if n % 2 == 0 {
                            get(&cache, "k").await.map(drop)
                        } else {
                            set(&cache, "k", "v").await
                        }
                    }
                })
            })
            .collect();
        for call in calls {
            let error = call.await.unwrap().unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable), "{error}");
        }
        println!(
            "sqlite: 128 calls on a database that cannot be opened, {pool_size} readers: {:?}",
            began.elapsed()
        );
        assert!(began.elapsed() < op_timeout + noise(), "{:?}", began.elapsed());
    }
}

/// Another program keeps a read transaction open.
fn hold_reader(path: &Path) -> Guarded {
    hold_lock(path, "BEGIN;SELECT count(*) FROM larder_cache", 600.0)
}

#[tokio::test]
async fn a_log_that_cannot_be_written_back_is_bounded_and_the_error_says_who_is_in_the_way() {
    let path = fresh_path();
    let cache = on(&path).max_bytes(4 << 20).build().unwrap();
    set(&cache, "k", "v").await.unwrap();
    let mut holder = hold_reader(&path);
    let value = "x".repeat(50_000);
    let log = path.with_extension("db-wal");
    let (mut refused, mut longest, mut last) = (None, 0, String::new());
    for n in 0..1_500 {
        let key = format!("k{n}");
        let stored = set(&cache, &key, &value).await;
        longest = longest.max(std::fs::metadata(&log).unwrap().len());
        match stored {
            Ok(()) => last = key,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                refused = Some(error.to_string());
            }
        }
    }
    let refused = refused.expect("72 MB do not fit");
    println!("sqlite: log at most {longest} bytes: {refused}");
    assert!(longest < 24 << 20, "{longest}");
    if cfg!(target_os = "linux") {
        assert!(refused.contains(&holder.0.id().to_string()), "{refused}");
    }
    assert_eq!(get(&cache, &last).await.unwrap().as_ref(), Some(&value), "reads go on");
    holder.0.kill().unwrap();
    holder.0.wait().unwrap();
    crate::support::eventually("writes go on", PATIENT, async || {
        set(&cache, "k", "new").await.is_ok()
    })
    .await;
    assert_eq!(get(&cache, "k").await.unwrap().as_deref(), Some("new"));
    assert!(std::fs::metadata(&log).unwrap().len() < 24 << 20);
}

/// Polls a call for this long: finer than a timer.
async fn cut<T>(call: impl Future<Output = T>, after: Duration) -> Option<T> {
    let end = Instant::now() + after;
    let mut call = pin!(call);
    poll_fn(|cx| match call.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending if Instant::now() >= end => Poll::Ready(None),
        Poll::Pending => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_calls_give_nobody_a_wrong_value() {
    let cache = shared(on(&fresh_path()).op_timeout(PATIENT).build().unwrap());
    let text = |key: &str| format!("value of {key}");
    for n in 0..200 {
        let key = format!("k{n}");
        set(&cache, &key, &text(&key)).await.unwrap();
    }
    let each = soak(5_000, 500_000);
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move {
                let mut cancelled = 0;
                for _ in 0..each {
                    let key = format!("k{}", fastrand(200));
                    let after = Duration::from_micros(fastrand(250));
                    let done = match fastrand(10) {
                        0 => cut(set(&cache, &key, &text(&key)), after).await.map(Result::unwrap),
                        1 => cut(cache.get_many(&[&key, "none"]), after).await.map(|many| {
                            let found = many.unwrap().remove(0).unwrap().unwrap();
                            assert_eq!(found.decode::<String>().unwrap(), text(&key));
                        }),
                        2 => cut(cache.touch(&key, Expiry::Never), after)
                            .await
                            .map(|live| assert!(live.unwrap())),
                        _ => cut(get(&cache, &key), after)
                            .await
                            .map(|found| assert_eq!(found.unwrap().as_deref(), Some(&*text(&key)))),
                    };
                    cancelled += usize::from(done.is_none());
                }
                cancelled
            })
        })
        .collect();
    let mut cancelled = 0;
    for task in tasks {
        cancelled += task.await.unwrap();
    }
    for n in 0..200 {
        let key = format!("k{n}");
        assert_eq!(get(&cache, &key).await.unwrap(), Some(text(&key)));
    }
    println!("sqlite: {} calls, {cancelled} of them cancelled: no wrong value", 4 * each);
    assert!(cancelled > each, "{cancelled}");
}

fn fastrand(below: u64) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0) % below
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_was_given_up_never_lands_after_a_later_one() {
    let path = fresh_path();
    let cache = shared(on(&path).op_timeout(Duration::from_millis(100)).build().unwrap());
    let (rounds, mut given_up) = (soak(500, 5_000), 0);
    for n in 0..rounds {
        let key = format!("k{n}");
        given_up += usize::from(
            cut(set(&cache, &key, "old"), Duration::from_micros(fastrand(120))).await.is_none(),
        );
        while cache.remove(&key).await.is_err() {}
    }
    // Behind a lock, with real deadlines.
    let mut holder = hold_lock(&path, "BEGIN IMMEDIATE", 600.0);
    for n in 0..4 {
        assert_eq!(
            set(&cache, &format!("l{n}"), "old").await.unwrap_err().kind(),
            ErrorKind::Timeout
        );
    }
    holder.0.kill().unwrap();
    holder.0.wait().unwrap();
    for n in 0..4 {
        while cache.remove(&format!("l{n}")).await.is_err() {}
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let rows = python_says(
        "import sqlite3,sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT count(*) FROM \
         larder_cache').fetchone()[0])",
        &[path.to_str().unwrap()],
    );
    println!("sqlite: {given_up} of {rounds} sets given up, then removed: {rows} old values left");
    assert!(given_up > 0);
    assert_eq!(rows, "0");
}

#[test]
fn many_callers_are_answered_by_their_deadlines_and_take_no_memory() {
    let done = another_process("many_callers", &fresh_path()).output().unwrap();
    print!(
        "sqlite: {}",
        String::from_utf8_lossy(&done.stdout)
            .lines()
            .filter(|line| line.contains("callers"))
            .collect::<String>()
            + "\n"
    );
    assert!(done.status.success());
}
