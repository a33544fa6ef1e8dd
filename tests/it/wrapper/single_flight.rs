//! Single flight: one loader a key, also when callers are dropped, or the loader fails or hangs.

use super::{Runs, faulty, fresh};
use crate::trials::{eventually, trials, within};
use futures_util::future::join_all;
use larder::testing::{Fault, Verb};
use larder::{AsyncCacheWrapper, Error, ErrorKind, EventKind};
use std::error::Error as _;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;
use tokio::sync::Notify;

const MS: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(20);

fn slow(runs: &Runs, lasting: Duration) -> impl Future<Output = u64> + Send + 'static {
    let runs = runs.clone();
    async move {
        runs.add();
        tokio::time::sleep(lasting).await;
        42
    }
}

async fn callers_share_one_run(callers: usize) {
    let (cache, runs) = (fresh(), Runs::default());
    let calls = (0..callers).map(|_| {
        let (cache, loader) = (cache.clone(), slow(&runs, 100 * MS));
        tokio::spawn(async move { cache.get_or_set_async("k", loader).await })
    });
    for answer in within(PATIENCE, "one load", join_all(calls)).await {
        assert_eq!(answer.unwrap().unwrap(), 42);
    }
    assert_eq!(runs.count(), 1);
    assert_eq!(cache.get("k").await.unwrap(), Some(42));
}

#[tokio::test]
async fn a_thousand_callers_on_one_thread() {
    callers_share_one_run(1_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_callers_on_four() {
    callers_share_one_run(10_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn closures_and_values_run_once_too() {
    let (cache, adapter) = faulty();
    adapter.put(Verb::Set, Fault::Delay(100 * MS));
    let runs = Runs::default();
    let calls = (0..1_000).map(|_| {
        let (cache, runs) = (cache.clone(), runs.clone());
        tokio::spawn(async move {
            let loader = |_: &str| {
                runs.add();
                7
            };
            cache.get_or_set_with("k", loader).await
        })
    });
    for answer in within(PATIENCE, "one load", join_all(calls)).await {
        assert_eq!(answer.unwrap().unwrap(), 7);
    }
    assert_eq!((runs.count(), adapter.calls(Verb::Set)), (1, 1));
}

#[tokio::test]
async fn impatient_callers_that_come_again_are_served_by_one_run() {
    let (cache, runs) = (fresh(), Runs::default());
    let calls = (0..10).map(|_| async {
        loop {
            let call = cache.get_or_set_async("k", slow(&runs, 400 * MS));
            if let Ok(answer) = tokio::time::timeout(50 * MS, call).await {
                return answer.unwrap();
            }
        }
    });
    let answers = within(PATIENCE, "serving impatient callers", join_all(calls)).await;
    assert_eq!(answers, [42; 10]);
    assert_eq!(runs.count(), 1);
}

#[tokio::test]
async fn the_leader_is_dropped() {
    let (cache, runs) = (fresh(), Runs::default());
    let leader = tokio::spawn({
        let (cache, loader) = (cache.clone(), slow(&runs, 100 * MS));
        async move { cache.get_or_set_async("k", loader).await }
    });
    eventually("the loader starts", || runs.count() == 1).await;
    let follower = cache.get_or_set_async("k", slow(&runs, MS));
    leader.abort();
    assert_eq!(within(PATIENCE, "the follower", follower).await.unwrap(), 42);
    assert_eq!(runs.count(), 1);
}

#[tokio::test]
async fn everybody_is_dropped_and_the_value_is_stored_all_the_same() {
    let (cache, runs) = (fresh(), Runs::default());
    for _ in 0..3 {
        tokio::time::timeout(MS, cache.get_or_set_async("k", slow(&runs, 100 * MS)))
            .await
            .unwrap_err();
    }
    let mut found = None;
    for _ in 0..1_000 {
        found = cache.get::<u64>("k").await.unwrap();
        if found.is_some() {
            break;
        }
        tokio::time::sleep(2 * MS).await;
    }
    assert_eq!((found, runs.count()), (Some(42), 1));
}

#[tokio::test]
async fn the_leader_is_polled_once_and_then_parked_for_ever() {
    let (cache, runs) = (fresh(), Runs::default());
    let mut parked = pin!(cache.get_or_set_async("k", slow(&runs, 50 * MS)));
    assert!(parked.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let second = cache.get_or_set_async("k", slow(&runs, MS));
    assert_eq!(within(PATIENCE, "the second caller", second).await.unwrap(), 42);
    assert_eq!(runs.count(), 1);
    assert_eq!(parked.await.unwrap(), 42, "and the parked one can still be picked up");
}

#[tokio::test]
async fn a_future_is_polled_on_a_miss_only() {
    let cache = fresh();
    cache.set("k", 1u8).await.unwrap();
    let never = || async { if true { panic!("polled on a hit") } else { 0u8 } };
    assert_eq!(cache.get_or_set_async("k", never()).await.unwrap(), 1);
    assert_eq!(
        cache
            .try_get_or_set_async("k", async {
                Err::<u8, _>(std::io::Error::other("polled on a hit"))
            })
            .await
            .unwrap(),
        1
    );
    let (cache, adapter) = faulty();
    cache.set("k", 1u8).await.unwrap();
    adapter.put(Verb::Get, Fault::Delay(MS));
    assert_eq!(cache.get_or_set_async("k", never()).await.unwrap(), 1);
    assert_eq!(cache.get_or_set_with("k", |_| -> u8 { panic!("run on a hit") }).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_future_that_panics() {
    let (cache, runs) = (fresh(), Runs::default());
    let calls = (0..50).map(|_| {
        let (cache, runs) = (cache.clone(), runs.clone());
        tokio::spawn(async move {
            let loader = async move {
                runs.add();
                tokio::time::sleep(100 * MS).await;
                panic!("the loader panics")
            };
            cache.get_or_set_async::<u8, _>("k", loader).await
        })
    });
    for answer in within(PATIENCE, "a panic", join_all(calls)).await {
        let e = answer.expect("the panic must not come out of the call").unwrap_err();
        assert_eq!((e.kind(), e.key()), (ErrorKind::Panic, Some("k")));
        assert!(e.source().unwrap().to_string().contains("the loader panics"));
    }
    assert_eq!(runs.count(), 1);
    assert!(!cache.contains("k").await.unwrap());
    assert_eq!(cache.get_or_set("k", 5u8).await.unwrap(), 5, "the next call runs at once");
}

#[tokio::test]
async fn a_closure_that_panics() {
    let cache = fresh();
    let e = cache.get_or_set_with("k", |_| -> u8 { panic!("no value") }).await.unwrap_err();
    assert_eq!((e.kind(), e.key()), (ErrorKind::Panic, Some("k")));
    assert!(!cache.contains("k").await.unwrap());
    assert_eq!(cache.get_or_set("k", 5u8).await.unwrap(), 5);
}

#[derive(Debug, PartialEq)]
struct Own(u32);

impl fmt::Display for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "number {}", self.0)
    }
}

impl std::error::Error for Own {}

#[tokio::test]
async fn a_future_that_fails() {
    let (cache, runs) = (fresh(), Runs::default());
    let calls = (0..100).map(|at| {
        let runs = runs.clone();
        cache.try_get_or_set_async::<u8, _, _>("k", async move {
            runs.add();
            tokio::time::sleep(100 * MS).await;
            Err(Own(at))
        })
    });
    let errors: Vec<Error> = within(PATIENCE, "a failure", join_all(calls))
        .await
        .into_iter()
        .map(Result::unwrap_err)
        .collect();
    let first = errors[0]
        .source()
        .unwrap()
        .downcast_ref::<Own>()
        .expect("the source must be the loader's own error");
    for e in &errors {
        assert_eq!((e.kind(), e.key(), e.op()), (ErrorKind::Load, Some("k"), Some("get_or_set")));
        assert_eq!(
            e.source().unwrap().downcast_ref::<Own>(),
            Some(first),
            "everyone who waited gets the same error"
        );
    }
    assert_eq!(runs.count(), 1);
    assert!(!cache.contains("k").await.unwrap());
    assert_eq!(
        cache.try_get_or_set_async("k", async { Ok::<_, Own>(9u8) }).await.unwrap(),
        9,
        "the next call retries at once"
    );
    cache.remove("k").await.unwrap();
    let boxed: Box<dyn std::error::Error + Send + Sync> = Box::new(Own(7));
    let e = cache.try_get_or_set_async("k", async { Err::<u8, _>(boxed) }).await.unwrap_err();
    assert_eq!(e.source().unwrap().downcast_ref::<Own>(), Some(&Own(7)));
}

/// A runtime on a thread of its own that can be shut down while it works.
fn elsewhere() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

#[tokio::test]
async fn the_loaders_runtime_is_shut_down() {
    let (cache, runs) = (fresh(), Runs::default());
    let other = elsewhere();
    let leader = other.spawn({
        let (cache, loader) = (cache.clone(), slow(&runs, Duration::from_secs(3_600)));
        async move { cache.get_or_set_async("k", loader).await }
    });
    eventually("the loader starts", || runs.count() == 1).await;
    let followers = join_all((0..20).map(|_| cache.get_or_set_async("k", slow(&runs, MS))));
    let mut followers = pin!(followers);
    assert!(
        tokio::time::timeout(50 * MS, followers.as_mut()).await.is_err(),
        "they wait for the other runtime's loader"
    );
    other.shutdown_background();
    for answer in within(PATIENCE, "the followers", followers).await {
        assert_eq!(answer.unwrap(), 42);
    }
    assert_eq!(runs.count(), 2, "one of the followers ran its own, once");
    assert!(leader.await.is_err(), "the leader went down with its runtime");
}

#[tokio::test]
async fn followers_in_other_runtimes() {
    let (cache, runs) = (fresh(), Runs::default());
    let others = [elsewhere(), elsewhere(), elsewhere()];
    let calls: Vec<_> = (0..30)
        .map(|at| {
            let (cache, loader) = (cache.clone(), slow(&runs, 100 * MS));
            others[at % others.len()]
                .spawn(async move { cache.get_or_set_async("k", loader).await })
        })
        .collect();
    for answer in within(PATIENCE, "the followers", join_all(calls)).await {
        assert_eq!(answer.unwrap().unwrap(), 42);
    }
    assert_eq!(runs.count(), 1);
    others.into_iter().for_each(tokio::runtime::Runtime::shutdown_background);
}

#[test]
fn a_runtime_without_timers() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (cache, runs) = (fresh(), Runs::default());
        let turns = |runs: Runs| async move {
            runs.add();
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            42
        };
        let answers =
            join_all((0..10).map(|_| cache.get_or_set_async("k", turns(runs.clone())))).await;
        assert!(answers.into_iter().all(|answer| answer.unwrap() == 42));
        assert_eq!(runs.count(), 1);
        assert_eq!(cache.get_or_set("v", 1u8).await.unwrap(), 1);
        cache.remove("k").await.unwrap();
        cache.clear().await.unwrap();
    });
}

#[test]
fn no_runtime_at_all() {
    let (cache, runs) = (fresh(), Runs::default());
    // `slow` needs tokio's timers, and gets them in the task that larder gives it.
    let answers = block_on_without_tokio(join_all(
        (0..10).map(|_| cache.get_or_set_async("k", slow(&runs, 20 * MS))),
    ));
    assert!(answers.into_iter().all(|answer| answer.unwrap() == 42));
    assert_eq!(runs.count(), 1);
}

/// A stranger's executor: it knows nothing of tokio.
pub(super) fn block_on_without_tokio<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        if let std::task::Poll::Ready(output) =
            future.as_mut().poll(&mut Context::from_waker(&waker))
        {
            return output;
        }
        std::thread::park();
    }
}

#[cfg(feature = "test-util")]
#[tokio::test(start_paused = true)]
async fn a_loader_that_takes_minutes_serves_its_own_caller_and_is_stored() {
    let (cache, runs) = (fresh(), Runs::default());
    assert_eq!(
        cache.get_or_set_async("k", slow(&runs, Duration::from_secs(40))).await.unwrap(),
        42
    );
    assert_eq!(cache.get("k").await.unwrap(), Some(42u64));
    cache.remove("k").await.unwrap();
    let followers = join_all(
        (0..10).map(|_| cache.get_or_set_async("k", slow(&runs, Duration::from_secs(40)))),
    );
    assert!(followers.await.into_iter().all(|answer| answer.unwrap() == 42));
    assert_eq!(cache.get("k").await.unwrap(), Some(42u64), "with followers, too");
    assert_eq!(runs.count(), 2, "one each time");
}

/// How long a load takes says nothing about whether it is alive.
#[cfg(feature = "test-util")]
#[tokio::test(start_paused = true)]
async fn a_loader_of_75_s_runs_once_for_a_hundred_callers() {
    let (cache, runs) = (fresh(), Runs::default());
    let begun = tokio::time::Instant::now();
    let calls = (0..100).map(|_| cache.get_or_set_async("k", slow(&runs, Duration::from_secs(75))));
    assert!(join_all(calls).await.into_iter().all(|answer| answer.unwrap() == 42));
    assert_eq!(runs.count(), 1);
    assert_eq!(begun.elapsed().as_secs(), 75, "all are answered when it lands");
}

/// The loader was polled on the very thread that a follower then blocks, and goes on on another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_follower_waits_for_a_load_that_other_threads_carry_on() {
    let (cache, runs) = (fresh(), Runs::default());
    let followers: Vec<_> = (0..8)
        .map(|_| {
            let (cache, loader) = (cache.clone(), slow(&runs, 1_000 * MS));
            tokio::spawn(async move {
                tokio::spawn({
                    let cache = cache.clone();
                    async move { cache.get_or_set_async("k", loader).await }
                });
                tokio::task::yield_now().await;
                tokio::time::sleep(20 * MS).await;
                cache.blocking().get_or_set("k", 1u64)
            })
        })
        .collect();
    for answer in within(PATIENCE, "the followers", join_all(followers)).await {
        assert_eq!(answer.unwrap().unwrap(), 42, "a follower ran its own");
    }
    assert_eq!(runs.count(), 1);
}

/// A runtime that no thread drives any more, with a load on it: a follower loads instead.
#[test]
fn a_load_on_a_runtime_that_stands_still_is_taken_over() {
    let (cache, runs) = (fresh(), Runs::default());
    let still = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    still.block_on(async {
        let (cache, loader) = (cache.clone(), slow(&runs, Duration::from_secs(3_600)));
        tokio::spawn(async move { cache.get_or_set_async("k", loader).await });
        eventually("the load begins", || runs.count() == 1).await;
    });
    let paused = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    paused.block_on(async {
        assert_eq!(cache.get_or_set_async("k", async { 7u64 }).await.unwrap(), 7);
    });
    drop(still);
    assert_eq!(cache.blocking().get::<u64>("k").unwrap(), Some(7));
}

#[tokio::test]
async fn followers_that_ask_for_another_type() {
    let cache = fresh();
    let gate = Arc::new(Notify::new());
    let opened = gate.clone();
    let leader = cache.get_or_set_async("k", async move {
        opened.notified().await;
        5u32
    });
    let wider = cache.get_or_set_async("k", async { panic!("it can be read") });
    let text = cache.get_or_set_async("k", async { String::from("healed") });
    let open = async {
        tokio::time::sleep(50 * MS).await;
        gate.notify_one();
    };
    let (leader, wider, text, ()) = tokio::join!(leader, wider, text, open);
    let wider: i64 = wider.unwrap();
    assert_eq!((leader.unwrap(), wider, text.unwrap().as_str()), (5, 5, "healed"));
    assert_eq!(cache.get::<String>("k").await.unwrap().as_deref(), Some("healed"));
}

#[tokio::test]
async fn a_value_of_another_type_and_damaged_bytes_heal() {
    let (cache, adapter) = faulty();
    let heals = Arc::new(AtomicUsize::new(0));
    let counted = heals.clone();
    cache.observe(move |event| {
        if event.kind == EventKind::DecodeError {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    cache.set("k", "text").await.unwrap();
    let runs = Runs::default();
    let answers =
        join_all((0..100).map(|_| cache.get_or_set_async("k", slow(&runs, 20 * MS)))).await;
    assert!(answers.into_iter().all(|answer| answer.unwrap() == 42));
    assert_eq!(runs.count(), 1);
    assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(42));
    heals.store(0, Ordering::SeqCst);

    adapter.put_next(Verb::Get, 1, Fault::Corrupt);
    assert_eq!(cache.get_or_set_with("k", |_| 43u64).await.unwrap(), 43);
    assert_eq!(heals.load(Ordering::SeqCst), 1, "one run, one event");
    assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(43));
}

/// Writes to other keys must not keep a caller from ever beginning its load.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_to_other_keys_do_not_starve_a_load() {
    let (cache, adapter) = faulty();
    adapter.put(Verb::Get, Fault::Delay(10 * MS));
    let writers: Vec<_> = (0..2)
        .map(|writer| {
            let cache = cache.clone();
            tokio::spawn(async move {
                for at in 0u64.. {
                    cache.set(format!("{writer} {}", at % 1_000), at).await.unwrap();
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for key in 0..10 {
        let load = cache.get_or_set(format!("key {key}"), 1u8);
        assert_eq!(within(Duration::from_secs(5), "a load beside writes", load).await.unwrap(), 1);
    }
    assert!(adapter.calls(Verb::Get) <= 30, "{} reads for 10 loads", adapter.calls(Verb::Get));
    writers.iter().for_each(tokio::task::JoinHandle::abort);
}

/// The same for a key that is removed all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removals_of_the_key_do_not_starve_a_load() {
    let (cache, adapter) = faulty();
    adapter.put(Verb::Get, Fault::Delay(10 * MS));
    let remover = tokio::spawn({
        let cache = cache.clone();
        async move {
            loop {
                cache.remove("k").await.unwrap();
                tokio::task::yield_now().await;
            }
        }
    });
    for _ in 0..3 {
        let load = cache.get_or_set_async("k", async { 1u8 });
        assert_eq!(
            within(Duration::from_secs(5), "a load beside removals", load).await.unwrap(),
            1
        );
    }
    remover.abort();
}

/// Many keys, many callers, short-lived values: every answer right, and about as many runs as there
/// were misses.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_keys_at_once() {
    let cache: &'static AsyncCacheWrapper = Box::leak(Box::new(fresh()));
    let runs = Runs::default();
    let keys = trials(2_000, 10_000);
    let calls = (0..keys * 4).map(|call| {
        let (key, runs) = (call % keys, runs.clone());
        tokio::spawn(cache.get_or_set_async(format!("k{key}"), async move {
            runs.add();
            tokio::task::yield_now().await;
            key
        }))
    });
    for (call, answer) in
        within(PATIENCE, "many keys", join_all(calls)).await.into_iter().enumerate()
    {
        assert_eq!(answer.unwrap().unwrap(), call % keys);
    }
    assert_eq!(runs.count(), keys);
}

/// A loader within a loader within a loader is a future within two others: each may hold it once.
#[tokio::test]
async fn a_call_is_not_many_times_its_fallback() {
    const BIG: usize = 8_192;
    let cache = fresh();
    async fn big() -> u8 {
        let bytes = [1u8; BIG];
        tokio::task::yield_now().await;
        std::hint::black_box(bytes)[0]
    }
    let view = cache.view();
    let calls = [
        size_of_val(&cache.get_or_set_async("k", big())),
        size_of_val(&view.get_or_set_async("k", big())),
        size_of_val(
            &view.try_get_or_set_async("k", async { Ok::<_, std::io::Error>(big().await) }),
        ),
        size_of_val(&cache.get_or_set("k", [1u8; 16].map(|byte| [byte; 16]))),
    ];
    let once = size_of_val(&big()) + BIG * 2 / 3;
    for size in calls {
        assert!(size < once, "{size} bytes for a loader of {}", size_of_val(&big()));
    }
}

#[tokio::test]
async fn a_loader_that_is_ready_at_once_needs_no_task() {
    let cache = fresh();
    let calls = tokio::spawn(async move {
        let task = || async { tokio::task::id().to_string() };
        let own = task().await;
        let at_once = cache.get_or_set_async("at once", task()).await.unwrap();
        assert_eq!(at_once, own);
        let later = async {
            tokio::task::yield_now().await;
            tokio::task::id().to_string()
        };
        assert_ne!(cache.get_or_set_async("later", later).await.unwrap(), own);
        // A caller that can be answered otherwise is not held up by a loader that blocks.
        let limited = cache.hard_timeout(Duration::from_secs(60));
        assert_ne!(limited.get_or_set_async("limited", task()).await.unwrap(), own);
    });
    calls.await.unwrap();
}
