//! What began earlier never replaces what began later: loads, writes that are dropped or fail, and
//! forced refreshes.

use super::{Faulty, Runs, faulty, fresh};
use crate::trials::{eventually, rng, trials, within};
use futures_util::future::join_all;
use larder::testing::{Fault, FaultyAdapter, Verb};
use larder::{AsyncCacheAdapter, AsyncCacheWrapper, AsyncMemoryCache, ErrorKind, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;

const MS: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(60);

/// Loads of `k0`, `k1` …, which have begun and end when the gate opens.
struct Gated {
    cache: AsyncCacheWrapper,
    gate: Arc<Semaphore>,
    loads: Vec<JoinHandle<Result<u64>>>,
}

impl Gated {
    async fn begin(cache: &AsyncCacheWrapper, count: usize) -> Self {
        let (gate, started) = (Arc::new(Semaphore::new(0)), Runs::default());
        let loads = (0..count).map(|at| {
            let (cache, gate, started) = (cache.clone(), gate.clone(), started.clone());
            tokio::spawn(async move {
                let loader = async move {
                    started.add();
                    drop(gate.acquire().await);
                    1u64
                };
                cache.get_or_set_async(format!("k{at}"), loader).await
            })
        });
        let loads = loads.collect();
        eventually("the loads begin", || started.count() == count).await;
        Self { cache: cache.clone(), gate, loads }
    }

    fn keys(&self) -> impl Iterator<Item = String> + use<> {
        (0..self.loads.len()).map(|at| format!("k{at}"))
    }

    /// Lets the loads end; the keys that hold a value afterwards.
    async fn left(&mut self) -> Vec<String> {
        self.gate.add_permits(self.loads.len());
        for load in join_all(self.loads.drain(..).collect::<Vec<_>>()).await {
            assert_eq!(load.unwrap().unwrap(), 1, "the caller has its loader's value");
        }
        let mut left = Vec::new();
        for at in 0.. {
            let key = format!("k{at}");
            if at >= 1_000 {
                break;
            }
            if self.cache.contains(&key).await.unwrap() {
                left.push(key);
            }
        }
        left
    }
}

/// A store of `slow` that has begun and goes on until its fault is healed or its time is over.
async fn storing(cache: &AsyncCacheWrapper, adapter: &Faulty, lasting: Duration) {
    adapter.put_next(Verb::Set, 1, Fault::Delay(lasting));
    let cache = cache.clone();
    tokio::spawn(async move { cache.get_or_set("slow", 1u64).await });
    eventually("the store begins", || adapter.calls(Verb::Set) == 1).await;
}

#[tokio::test]
async fn a_removal_is_not_undone_by_a_dropped_clear() {
    let (cache, adapter) = faulty();
    let mut gated = Gated::begin(&cache, 1_000).await;
    storing(&cache, &adapter, PATIENCE).await;
    tokio::time::timeout(20 * MS, cache.clear()).await.unwrap_err();
    for key in gated.keys() {
        cache.remove(key).await.unwrap();
    }
    assert!(gated.left().await.is_empty());
}

#[tokio::test]
async fn loads_before_a_dropped_clear_are_not_stored() {
    let (cache, adapter) = faulty();
    let mut gated = Gated::begin(&cache, 1_000).await;
    storing(&cache, &adapter, PATIENCE).await;
    tokio::time::timeout(20 * MS, cache.clear()).await.unwrap_err();
    assert!(gated.left().await.is_empty());
}

#[tokio::test]
async fn a_removal_is_not_undone_by_a_clear_that_fails() {
    let (cache, adapter) = faulty();
    let mut gated = Gated::begin(&cache, 1_000).await;
    storing(&cache, &adapter, 500 * MS).await;
    adapter.put(Verb::Clear, Fault::Fail(ErrorKind::Unavailable));
    let clear = tokio::spawn({
        let cache = cache.clone();
        async move { cache.clear().await }
    });
    tokio::time::sleep(20 * MS).await;
    for key in gated.keys() {
        cache.remove(key).await.unwrap();
    }
    assert!(gated.left().await.is_empty());
    assert_eq!(clear.await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
}

/// The keys of a batch are written together, although the first of them has to be waited for.
#[tokio::test]
async fn loads_before_a_dropped_batch_are_not_stored() {
    let (cache, adapter) = faulty();
    let mut gated = Gated::begin(&cache, 100).await;
    storing(&cache, &adapter, PATIENCE).await;
    let keys: Vec<String> = ["slow".to_owned()].into_iter().chain(gated.keys()).collect();
    tokio::time::timeout(20 * MS, cache.remove(keys)).await.unwrap_err();
    assert!(gated.left().await.is_empty());
}

/// A write that is dropped while it waits for a store must not hide the store from the next write.
#[tokio::test]
async fn a_removal_waits_for_a_store_that_a_dropped_one_waited_for() {
    let (cache, adapter) = faulty();
    storing(&cache, &adapter, 300 * MS).await;
    tokio::time::timeout(20 * MS, cache.remove("slow")).await.unwrap_err();
    cache.remove("slow").await.unwrap();
    assert!(!cache.contains("slow").await.unwrap());
    tokio::time::sleep(400 * MS).await;
    assert!(!cache.contains("slow").await.unwrap(), "the store landed after the removal");
}

/// Loads, clears that are dropped or fail, and removals, at random: what a removal took stays away.
pub(crate) async fn removals_beside_clears(store: Arc<dyn AsyncCacheAdapter>, trials: usize) {
    let adapter = Arc::new(FaultyAdapter::new(store));
    let cache = AsyncCacheWrapper::new(adapter.clone() as Arc<dyn AsyncCacheAdapter>).unwrap();
    let mut random = rng("removals_beside_clears");
    for trial in 0..trials {
        let delay = Fault::Delay(Duration::from_micros(random.u64(..300)));
        for verb in [Verb::Set, Verb::SetClaimed] {
            adapter.heal(verb);
            adapter.put_next(verb, random.u64(..4), delay);
        }
        if random.bool() {
            adapter.put_next(Verb::Clear, 1, Fault::Fail(ErrorKind::Unavailable));
        }
        removal_beside_a_clear(&cache, trial, &mut random).await;
    }
}

/// One trial: whatever a load brings back after a removal began after that.
async fn removal_beside_a_clear(
    cache: &AsyncCacheWrapper,
    trial: usize,
    random: &mut fastrand::Rng,
) {
    let keys: [String; 4] = std::array::from_fn(|key| format!("{trial} {key}"));
    let sources: [Source; 4] = Default::default();
    let loads = keys.iter().zip(&sources).map(|(key, source)| {
        let (cache, key, source, steps) =
            (cache.clone(), key.clone(), source.clone(), random.u8(..20));
        tokio::spawn(async move {
            let loader = async move {
                let value = source.value.load(Ordering::SeqCst);
                steps_aside(steps).await;
                value
            };
            cache.get_or_set_async(key, loader).await
        })
    });
    let loads: Vec<_> = loads.collect();
    steps_aside(random.u8(..10)).await;
    let patience = Duration::from_micros(random.u64(..1_500));
    let clear = async { tokio::time::timeout(patience, cache.clear()).await };
    let removals = async {
        for (key, source) in keys.iter().zip(&sources) {
            steps_aside(3).await;
            source.set(1);
            cache.remove(key).await.unwrap();
        }
    };
    let (_dropped_or_failed, ()) = tokio::join!(clear, removals);
    for load in join_all(loads).await {
        assert!(load.unwrap().unwrap() <= 1);
    }
    for left in cache.get_many::<u64, _>(&keys).await.unwrap() {
        assert!(left.is_none_or(|left| left == 1), "trial {trial}: a removal was undone");
    }
    cache.remove(keys.as_slice()).await.unwrap();
}

async fn steps_aside(steps: u8) {
    for _ in 0..steps {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn removals_beside_clears_that_are_dropped_or_fail() {
    removals_beside_clears(Arc::new(AsyncMemoryCache::new()), trials(1_000, 100_000)).await;
}

/// A load whose key another caller has loaded meanwhile: it began earlier, and is not stored.
#[test]
fn a_load_that_was_given_up_is_not_stored_over_a_newer_one() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let cache = fresh();
        let (started, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let first = tokio::spawn({
            let (cache, started, go) = (cache.clone(), started.clone(), go.clone());
            async move {
                let loader = async move {
                    started.notify_one();
                    go.notified().await;
                    1u64
                };
                cache.get_or_set_async("k", loader).await
            }
        });
        started.notified().await;
        // It blocks the thread that the first load needs, and so gives up waiting for it.
        assert_eq!(cache.blocking().get_or_set("k", 2u64).unwrap(), 2);
        assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(2));
        go.notify_one();
        assert_eq!(first.await.unwrap().unwrap(), 1);
        assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(2), "the older load was stored over");
    });
}

/// The older load is being stored when the newer one is done: the newer one is stored last.
#[test]
fn a_store_that_was_given_up_does_not_replace_a_newer_one() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (cache, adapter) = faulty();
        adapter.put_next(Verb::Set, 1, Fault::Delay(300 * MS));
        let first = tokio::spawn({
            let cache = cache.clone();
            async move { cache.get_or_set_async("k", async { 1u64 }).await }
        });
        eventually("the store begins", || adapter.calls(Verb::Set) == 1).await;
        assert_eq!(cache.blocking().get_or_set("k", 2u64).unwrap(), 2);
        let _served = first.await.unwrap().unwrap();
        eventually("both stores are over", || adapter.calls(Verb::Set) >= 2).await;
        tokio::time::sleep(400 * MS).await;
        let left = cache.get::<u64>("k").await.unwrap();
        assert!(left.is_none_or(|left| left == 2), "{left:?} is the older one's");
    });
}

/// A source whose value changes, and loaders that read it when they begin.
#[derive(Clone, Default)]
struct Source {
    value: Arc<AtomicU64>,
    runs: Runs,
}

impl Source {
    fn load(&self, lasting: Duration) -> impl Future<Output = u64> + Send + use<> {
        let source = self.clone();
        async move {
            source.runs.add();
            let value = source.value.load(Ordering::SeqCst);
            tokio::time::sleep(lasting).await;
            value
        }
    }

    fn set(&self, value: u64) {
        self.value.store(value, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forced_refresh_never_gives_what_began_before_it() {
    let (cache, source) = (fresh(), Source::default());
    let old = tokio::spawn({
        let (cache, loader) = (cache.clone(), source.load(20 * MS));
        async move { cache.get_or_set_async("k", loader).await }
    });
    eventually("the old load begins", || source.runs.count() == 1).await;
    source.set(1);
    let forced = (0..100).map(|_| {
        let (cache, loader) = (cache.clone(), source.load(20 * MS));
        tokio::spawn(async move { cache.force_refresh().get_or_set_async("k", loader).await })
    });
    for answer in within(PATIENCE, "the refreshes", join_all(forced)).await {
        assert_eq!(answer.unwrap().unwrap(), 1, "it began before the refresh was asked for");
    }
    assert_eq!(old.await.unwrap().unwrap(), 0);
    assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(1), "and it is stored");
}

/// One thread, so that all have asked before anything runs.
#[tokio::test]
async fn many_forced_refreshes_at_once_are_two_loads() {
    for beside_a_load in [true, false] {
        let (cache, source) = (fresh(), Source::default());
        let mut before = 0;
        let plain = cache.get_or_set_async("k", source.load(10 * MS));
        let mut plain = std::pin::pin!(plain);
        if beside_a_load {
            let polled = futures_util::future::poll_immediate(plain.as_mut()).await;
            assert!(polled.is_none());
            eventually("the load begins", || source.runs.count() == 1).await;
            before = 1;
        }
        source.set(1);
        let forced =
            (0..100).map(|_| cache.force_refresh().get_or_set_async("k", source.load(10 * MS)));
        for answer in within(PATIENCE, "the refreshes", join_all(forced)).await {
            assert_eq!(answer.unwrap(), 1);
        }
        assert!(source.runs.count() <= 2, "{} loads, {before} before", source.runs.count());
        assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(1));
    }
}

#[tokio::test]
async fn a_forced_refresh_does_not_wait_for_a_load_that_hangs() {
    let (cache, source) = (fresh(), Source::default());
    let hanging = tokio::spawn({
        let (cache, loader) = (cache.clone(), source.load(10 * PATIENCE));
        async move { cache.get_or_set_async("k", loader).await }
    });
    eventually("the load begins", || source.runs.count() == 1).await;
    source.set(1);
    let forced = cache.force_refresh().get_or_set_async("k", source.load(MS));
    assert_eq!(within(PATIENCE, "the refresh", forced).await.unwrap(), 1);
    assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(1));
    source.set(2);
    let closure = cache.force_refresh().get_or_set_with("k", |_| 2u64);
    assert_eq!(within(PATIENCE, "the refresh", closure).await.unwrap(), 2);
    assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(2));
    hanging.abort();
}

/// A closure that is being stored is no answer to a refresh that was asked for after it ran.
#[tokio::test]
async fn a_forced_refresh_does_not_join_a_store() {
    let (cache, adapter) = faulty();
    // Longer than a busy machine takes until the refreshes are asked for.
    adapter.put_next(Verb::Set, 1, Fault::Delay(500 * MS));
    let old = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get_or_set("k", 0u64).await }
    });
    eventually("the store begins", || adapter.calls(Verb::Set) == 1).await;
    let runs = Runs::default();
    let forced = (0..20).map(|_| {
        cache.force_refresh().get_or_set_with("k", |_| {
            runs.add();
            1u64
        })
    });
    assert_eq!(within(PATIENCE, "the refreshes", join_all(forced)).await.len(), 20);
    assert_eq!(old.await.unwrap().unwrap(), 0);
    assert_eq!((runs.count(), cache.get::<u64>("k").await.unwrap()), (1, Some(1)));
}
