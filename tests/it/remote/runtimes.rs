//! Runtimes come and go; one cache outlives them.

use super::{Cache, Remote, Setup, on_each, put, text};
use crate::support::noise::noise;
use crate::support::turns::turn;
use crate::support::wait_until;
use larder::AsyncCacheWrapper;
use std::cell::RefCell;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};

on_each!(blocking
    many_short_lived_runtimes_share_one_cache,
    two_runtimes_at_once,
    the_blocking_face_works_wherever_it_is_called,
    the_last_handle_may_go_anywhere,
    without_a_runtime_the_error_says_so,
);

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn multi_thread() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Each `#[tokio::test]` is a runtime: many in a row, four at a time, beside one that stands still.
fn many_short_lived_runtimes_share_one_cache<S: Remote>() {
    let _turn = turn();
    let server = S::start();
    let cache = server.cache(Setup::patient());
    // Connected, and no longer driven from now on.
    let parked = current_thread();
    parked.block_on(put(&cache, "parked", "v")).unwrap();

    let each = 125;
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let cache = cache.clone();
            thread::spawn(move || {
                let mut worst = Duration::ZERO;
                for round in 0..each {
                    let runtime = if round % 2 == 0 { current_thread() } else { multi_thread() };
                    runtime.block_on(async {
                        let key = format!("k{thread}-{round}");
                        let begun = Instant::now();
                        put(&cache, &key, &key).await.unwrap();
                        let then = Instant::now();
                        assert_eq!(text(&cache, &key).await.unwrap(), Some(key));
                        worst = worst.max(then - begun).max(then.elapsed());
                    });
                }
                worst
            })
        })
        .collect();
    let worst = threads.into_iter().map(|thread| thread.join().unwrap()).max().unwrap();
    wait_until("the connections of ended runtimes are closed", Duration::from_secs(60), || {
        server.open() <= 4
    });
    // The parked one goes on where it stopped.
    assert_eq!(parked.block_on(text(&cache, "parked")).unwrap().as_deref(), Some("v"));
    println!(
        "{}: {} runtimes, four at a time, beside a parked one: 0 errors, worst call {worst:?}",
        S::KIND,
        each * 4
    );
    // A call that waited for the parked runtime, or for one that has ended, would take its whole
    // deadline of a minute. Hundreds of runtimes that begin and end are late for other reasons.
    assert!(worst <= Duration::from_secs(1) + noise(), "{worst:?}");
}

fn two_runtimes_at_once<S: Remote>() {
    let server = S::start();
    let cache = server.cache(Setup::patient());
    let threads: Vec<_> = (0..2)
        .map(|thread| {
            let cache = cache.clone();
            thread::spawn(move || {
                multi_thread().block_on(async {
                    for n in 0..500 {
                        let key = format!("k{thread}-{n}");
                        put(&cache, &key, &key).await.unwrap();
                        assert_eq!(text(&cache, &key).await.unwrap(), Some(key));
                    }
                });
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

/// The blocking face, from a plain thread, inside a current-thread runtime, in a worker and in
/// `spawn_blocking`.
fn the_blocking_face_works_wherever_it_is_called<S: Remote>() {
    let server = S::start();
    let adapter = server.cache(Setup::patient());
    let cache = AsyncCacheWrapper::new(adapter).unwrap().blocking();
    let check = move |key: &str| {
        cache.set(key, key.to_owned()).unwrap();
        assert_eq!(cache.get::<String>(key).unwrap().as_deref(), Some(key));
        assert_eq!(cache.get_or_set_with("made", |_| 5u32).unwrap(), 5);
    };
    check("plain");
    current_thread().block_on(async { check("current thread") });
    current_thread().block_on(tokio::task::LocalSet::new().run_until(async { check("local set") }));
    let runtime = multi_thread();
    let inside = check.clone();
    runtime.block_on(async move { tokio::spawn(async move { inside("worker") }).await.unwrap() });
    let inside = check.clone();
    runtime.block_on(async move {
        tokio::task::spawn_blocking(move || inside("spawn_blocking")).await.unwrap()
    });
    drop(runtime);
    check("after a runtime");
}

struct InDrop(Cache);

impl Drop for InDrop {
    fn drop(&mut self) {
        let wrapper = AsyncCacheWrapper::new(self.0.clone()).unwrap().blocking();
        wrapper.set("dropped", true).unwrap();
    }
}

thread_local! {
    static KEPT: RefCell<Option<Cache>> = const { RefCell::new(None) };
}

/// The last handle goes in async code, with its runtime, in a thread-local's destructor.
fn the_last_handle_may_go_anywhere<S: Remote>() {
    let _turn = turn();
    let server = S::start();
    let connected = |runtime: &Runtime| {
        let cache = server.cache(Setup::patient());
        runtime.block_on(put(&cache, "k", "v")).unwrap();
        cache
    };
    let threads = thread_count();
    let rounds = 1_000;
    for round in 0..rounds {
        let runtime = if round % 2 == 0 { current_thread() } else { multi_thread() };
        let cache = connected(&runtime);
        match round % 5 {
            0 => runtime.block_on(async move { drop(cache) }),
            1 => {
                let (started, wait) = mpsc::channel();
                runtime.spawn(async move {
                    let _held = cache;
                    started.send(()).unwrap();
                    std::future::pending::<()>().await;
                });
                runtime.block_on(tokio::task::yield_now());
                let _ = wait.recv_timeout(Duration::from_secs(60));
            }
            2 => thread::spawn(move || KEPT.set(Some(cache))).join().unwrap(),
            3 => drop((runtime, cache)),
            _ => drop(cache),
        }
    }
    let runtime = multi_thread();
    let held = InDrop(connected(&runtime));
    runtime.spawn(async move {
        let _held = held;
        std::future::pending::<()>().await;
    });
    drop(runtime);
    wait_until("threads are back to where they were", Duration::from_secs(60), || {
        thread_count() <= threads + 4
    });
    println!(
        "{}: the last handle dropped {rounds} times: 0 panics, {threads} threads before, {} after",
        S::KIND,
        thread_count()
    );
    wait_until("connections are closed", Duration::from_secs(60), || server.open() <= 4);
}

/// Where there is no runtime at all, nothing panics.
fn without_a_runtime_the_error_says_so<S: Remote>() {
    let cache = S::shared().cache(Setup::new());
    let mut call = std::pin::pin!(cache.get("k"));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match call.as_mut().poll(&mut cx) {
        std::task::Poll::Ready(Err(error)) => {
            assert!(error.to_string().contains("runtime"), "{error}")
        }
        other => panic!("{other:?}"),
    }
}

fn thread_count() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, |tasks| tasks.count())
}
