//! Misses that are loaded: `get_or_set_async` on keys that are never asked for again.

use super::{Hour, TTL};
use crate::figure::Unit;
use crate::goal::Goal;
use crate::line::{Contestant, Line};
use crate::run::Run;
use larder::{AsyncCacheWrapper, AsyncMemoryCache};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

const ENTRIES: usize = 1 << 16;

pub(crate) fn run(run: &mut Run) {
    run.line(
        Line::new("memory/miss", "`get_or_set_async` on distinct keys, miss", Unit::Nanos)
            .goal(Goal::at_most_times(2.5, "quick_cache"))
            .note("In a task, on one thread; the peers run the loader inside the caller. The making of the key is part of it."),
        misses,
    );
    run.line(
        Line::new("memory/stampede", "1,000 tasks, one missing key, 50 ms loader", Unit::Millis)
            .goal(Goal::at_most(53.0))
            .rounds(11),
        stampedes,
    );
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Awaits one operation after the other, each on a new key. In a task, as a service would: to wake
/// what a runtime blocks on is a system call.
fn on_new_keys<'a, F>(
    name: &str,
    operation: impl Fn(String) -> F + Clone + Send + 'static,
) -> Contestant<'a>
where
    F: Future + Send + 'static,
{
    let (runtime, mut next) = (runtime(), 0usize);
    Contestant::batch(name, move |count| {
        let (operation, from) = (operation.clone(), next);
        next += count;
        let work = runtime.spawn(async move {
            for number in from..from + count {
                std::hint::black_box(operation(format!("new/key/{number}")).await);
            }
        });
        runtime.block_on(work).expect("done");
    })
}

fn misses<'a>() -> Vec<Contestant<'a>> {
    let larder =
        AsyncCacheWrapper::new(AsyncMemoryCache::builder().max_entries(ENTRIES as u64).build())
            .expect("memory");
    let quick = Arc::new(quick_cache::sync::Cache::<String, u64>::new(ENTRIES));
    let moka =
        moka::future::Cache::builder().max_capacity(ENTRIES as u64).expire_after(Hour).build();
    vec![
        on_new_keys("larder, get_or_set_async", move |key| {
            let larder = larder.clone();
            async move { larder.ttl(TTL).get_or_set_async(key, async { 1u64 }).await }
        }),
        on_new_keys("quick_cache, get_or_insert_async", move |key| {
            let quick = quick.clone();
            async move { quick.get_or_insert_async(&key, async { Ok::<_, ()>(1) }).await }
        }),
        on_new_keys("moka::future, get_with (per-entry expiry)", move |key| {
            let moka = moka.clone();
            async move { moka.get_with(key, async { 1u64 }).await }
        }),
    ]
}

/// 1,000 tasks ask at once. Says what it took, and fails when the loader ran more than once.
fn stampede<'a, F: Future + Send + 'static>(
    name: &str,
    ask: impl Fn(usize, Arc<AtomicUsize>) -> F + 'a,
) -> Contestant<'a>
where
    F::Output: Send,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let mut round = 0;
    Contestant::round(name, move || {
        round += 1;
        let calls = Arc::new(AtomicUsize::new(0));
        let begun = Instant::now();
        let _entered = runtime.enter();
        let tasks: Vec<_> = (0..1_000).map(|_| tokio::spawn(ask(round, calls.clone()))).collect();
        runtime.block_on(async {
            for task in tasks {
                task.await.expect("an answer");
            }
        });
        let took = begun.elapsed().as_secs_f64() * 1e3;
        assert_eq!(calls.load(Ordering::Relaxed), 1, "one call");
        took
    })
}

async fn slow(calls: Arc<AtomicUsize>) -> u64 {
    calls.fetch_add(1, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(50)).await;
    1
}

fn stampedes<'a>() -> Vec<Contestant<'a>> {
    let larder = AsyncCacheWrapper::new(AsyncMemoryCache::new()).expect("memory");
    let quick = Arc::new(quick_cache::sync::Cache::<usize, u64>::new(ENTRIES));
    let moka = moka::future::Cache::<usize, u64>::new(ENTRIES as u64);
    vec![
        stampede("larder, get_or_set_async", move |round, calls| {
            let larder = larder.clone();
            async move {
                larder.get_or_set_async(format!("k{round}"), slow(calls)).await.expect("a value")
            }
        }),
        stampede("quick_cache, get_or_insert_async", move |round, calls| {
            let quick = quick.clone();
            async move {
                quick
                    .get_or_insert_async(&round, async { Ok::<_, ()>(slow(calls).await) })
                    .await
                    .expect("a value")
            }
        }),
        stampede("moka::future, get_with", move |round, calls| {
            let moka = moka.clone();
            async move { moka.get_with(round, slow(calls)).await }
        }),
    ]
}
