//! Writes while a load is in flight: a load that began before a write was over is not stored after
//! it.

use super::{faulty, fresh};
use crate::trials::{trials, within};
use larder::testing::{Fault, Verb};
use larder::{AsyncCacheWrapper, Expiry, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// A load of `k` that has begun, and ends on a signal.
async fn begun(
    cache: &AsyncCacheWrapper,
    key: &'static str,
) -> (Arc<Notify>, JoinHandle<Result<u64>>) {
    let (started, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let load = tokio::spawn({
        let (cache, started, go) = (cache.clone(), started.clone(), go.clone());
        async move {
            let loader = async move {
                started.notify_one();
                go.notified().await;
                0
            };
            cache.get_or_set_async(key, loader).await
        }
    });
    started.notified().await;
    (go, load)
}

macro_rules! during_a_load {
    ($($name:ident: $key:literal, |$cache:ident| $write:expr => $left:expr;)*) => {$(
        #[tokio::test]
        async fn $name() {
            let $cache = fresh();
            let (go, load) = begun(&$cache, $key).await;
            let _ = $write.await.unwrap();
            go.notify_one();
            assert_eq!(load.await.unwrap().unwrap(), 0, "the caller gets its loader's value");
            let left: Option<u64> = $left;
            assert_eq!($cache.get::<u64>($key).await.unwrap(), left);
            assert_eq!($cache.get_or_set($key, 77u64).await.unwrap(), left.unwrap_or(77), "and the next call is as if there had been no load");
        }
    )*};
}

during_a_load! {
    remove_during_a_load: "k", |cache| cache.remove("k") => None;
    remove_of_many_during_a_load: "k", |cache| cache.remove(["a", "k"]) => None;
    set_during_a_load: "k", |cache| cache.set("k", 5u64) => Some(5);
    set_for_no_time_during_a_load: "k", |cache| cache.ttl(Duration::ZERO).set("k", 5u64) => None;
    set_of_many_during_a_load: "k", |cache| cache.set_many([("a", 1u64), ("k", 5)]) => Some(5);
    add_during_a_load: "k", |cache| cache.add("k", 5u64) => Some(5);
    take_during_a_load: "k", |cache| cache.take::<u64>("k") => None;
    incr_during_a_load: "k", |cache| cache.incr("k", 3) => Some(3);
    clear_during_a_load: "k", |cache| cache.clear() => None;
    namespace_clear_during_a_load: "n:k", |cache| cache.namespace("n").clear() => None;
    remove_through_a_namespace_during_a_load: "n:k", |cache| cache.namespace("n").remove("k") => None;
}

#[tokio::test]
async fn writes_elsewhere_leave_a_load_alone() {
    let cache = fresh();
    let (go, load) = begun(&cache, "users:k").await;
    cache.set("users:other", 1).await.unwrap();
    cache.remove("users").await.unwrap();
    cache.namespace("user").clear().await.unwrap();
    cache.namespace("users:k").clear().await.unwrap();
    go.notify_one();
    assert_eq!(load.await.unwrap().unwrap(), 0);
    assert_eq!(cache.get("users:k").await.unwrap(), Some(0u64));
}

/// The value is on its way to the store when the write comes.
#[tokio::test]
async fn a_write_while_the_value_is_being_stored() {
    for verb in [Verb::Remove, Verb::Set, Verb::Clear, Verb::Take] {
        let (cache, adapter) = faulty();
        adapter.put_next(Verb::Set, 1, Fault::Delay(Duration::from_millis(100)));
        let load = tokio::spawn({
            let cache = cache.clone();
            async move { cache.get_or_set("k", 0u64).await }
        });
        crate::trials::eventually("the store begins", || adapter.calls(Verb::Set) == 1).await;
        match verb {
            Verb::Remove => drop(cache.remove("k").await.unwrap()),
            Verb::Set => cache.set("k", 5u64).await.unwrap(),
            Verb::Clear => cache.clear().await.unwrap(),
            _ => drop(cache.take::<u64>("k").await.unwrap()),
        }
        assert_eq!(load.await.unwrap().unwrap(), 0);
        let left = cache.get::<u64>("k").await.unwrap();
        assert_eq!(
            left,
            (verb == Verb::Set).then_some(5),
            "{verb} while the value was being stored"
        );
    }
}

/// The write lasts, and the load begins meanwhile.
#[tokio::test]
async fn a_load_that_begins_during_a_write() {
    let (cache, adapter) = faulty();
    adapter.put_next(Verb::Remove, 1, Fault::Delay(Duration::from_millis(100)));
    let write = tokio::spawn({
        let cache = cache.clone();
        async move { cache.remove("k").await }
    });
    crate::trials::eventually("the removal begins", || adapter.calls(Verb::Remove) == 1).await;
    assert_eq!(cache.get_or_set("k", 1u64).await.unwrap(), 1);
    write.await.unwrap().unwrap();
    assert_eq!(
        cache.get::<u64>("k").await.unwrap(),
        None,
        "the load may have begun before the removal was asked for"
    );
    assert_eq!(cache.get_or_set("k", 2u64).await.unwrap(), 2);
}

/// A write that is dropped in the middle must not leave its mark: loads are stored again
/// afterwards.
#[tokio::test]
async fn a_dropped_write_leaves_no_mark() {
    let (cache, adapter) = faulty();
    for verb in [Verb::Remove, Verb::Set, Verb::Clear, Verb::SetMany] {
        adapter.put_next(verb, 1, Fault::Hang);
    }
    let patience = Duration::from_millis(20);
    tokio::time::timeout(patience, cache.remove("k")).await.unwrap_err();
    tokio::time::timeout(patience, cache.set("k", 1)).await.unwrap_err();
    tokio::time::timeout(patience, cache.set_many([("k", 1)])).await.unwrap_err();
    tokio::time::timeout(patience, cache.clear()).await.unwrap_err();
    assert_eq!(cache.get_or_set("k", 2u64).await.unwrap(), 2);
    assert_eq!(cache.get("k").await.unwrap(), Some(2u64), "stored");
}

/// Lanes of trials, each on a key of its own: `race` runs a load against a write and says what must
/// hold.
async fn lanes<F, Fut>(count: usize, race: F)
where
    F: Fn(AsyncCacheWrapper, String, u64) -> Fut + Copy + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let cache = fresh();
    let lanes: Vec<_> = (0..8)
        .map(|lane| {
            let cache = cache.clone();
            tokio::spawn(async move {
                for trial in 1..=(count / 8) as u64 {
                    race(cache.clone(), format!("lane {lane}"), trial).await;
                }
            })
        })
        .collect();
    for lane in lanes {
        lane.await.unwrap();
    }
}

static SOURCES: [AtomicU64; 8] = [const { AtomicU64::new(0) }; 8];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_removal_is_never_undone() {
    let race = |cache: AsyncCacheWrapper, key: String, trial: u64| async move {
        let source = &SOURCES[key.as_bytes()[5] as usize - usize::from(b'0')];
        let write = tokio::spawn({
            let (cache, key) = (cache.clone(), key.clone());
            async move {
                source.store(trial, Ordering::SeqCst);
                cache.remove(key).await.unwrap();
            }
        });
        let loaded =
            cache.get_or_set_async(&key, async { source.load(Ordering::SeqCst) }).await.unwrap();
        assert!(loaded + 1 >= trial);
        write.await.unwrap();
        let left = cache.get::<u64>(&key).await.unwrap();
        assert!(
            left.is_none() || left == Some(trial),
            "stale after a removal: {left:?} in trial {trial}"
        );
    };
    within(Duration::from_secs(600), "the trials", lanes(trials(60_000, 1_000_000), race)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_set_never_loses_to_an_older_load() {
    let race = |cache: AsyncCacheWrapper, key: String, trial: u64| async move {
        let write = tokio::spawn({
            let (cache, key) = (cache.clone(), key.clone());
            async move { cache.set(key, trial).await.unwrap() }
        });
        let loaded = if trial.is_multiple_of(2) {
            cache.get_or_set_async(&key, async { 0 }).await.unwrap()
        } else {
            cache.get_or_set(&key, 0).await.unwrap()
        };
        assert!(loaded == 0 || loaded == trial);
        write.await.unwrap();
        assert_eq!(
            cache.get::<u64>(&key).await.unwrap(),
            Some(trial),
            "a set lost to an older load"
        );
        cache.remove(&key).await.unwrap();
    };
    within(Duration::from_secs(600), "the trials", lanes(trials(40_000, 1_000_000), race)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_increment_is_never_lost_to_a_load() {
    let race = |cache: AsyncCacheWrapper, key: String, _: u64| async move {
        let write = tokio::spawn({
            let (cache, key) = (cache.clone(), key.clone());
            async move { cache.incr(key, 1).await.unwrap() }
        });
        cache.get_or_set(&key, 100i64).await.unwrap();
        let sum = write.await.unwrap();
        assert!(sum == 1 || sum == 101, "{sum}");
        assert_eq!(
            cache.get::<i64>(&key).await.unwrap(),
            Some(sum),
            "an increment was lost to a load"
        );
        cache.remove(&key).await.unwrap();
    };
    within(Duration::from_secs(600), "the trials", lanes(trials(20_000, 250_000), race)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_clear_is_never_undone() {
    let race = |cache: AsyncCacheWrapper, key: String, trial: u64| async move {
        let source = Arc::new(AtomicU64::new(0));
        let space = cache.namespace(&key);
        let write = tokio::spawn({
            let (space, source) = (space.clone(), source.clone());
            async move {
                source.store(trial, Ordering::SeqCst);
                space.clear().await.unwrap();
            }
        });
        space
            .ttl(Expiry::Never)
            .get_or_set_async("k", async move { source.load(Ordering::SeqCst) })
            .await
            .unwrap();
        write.await.unwrap();
        let left = space.get::<u64>("k").await.unwrap();
        assert!(left.is_none() || left == Some(trial), "stale after a clear: {left:?}");
        space.remove("k").await.unwrap();
    };
    within(Duration::from_secs(600), "the trials", lanes(trials(8_000, 100_000), race)).await;
}
