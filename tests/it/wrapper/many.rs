//! `get_or_set_many_async`: one loader for several keys.

use super::{Runs, events_of, faulty, fresh, plain_and_encoded};
use crate::trials::{eventually, within};
use futures_util::future::join_all;
use larder::testing::{Fault, Verb};
use larder::{AsyncCacheWrapper, AsyncMemoryCache, ErrorKind, EventKind, Expiry};
use std::collections::{BTreeMap, HashMap};
use std::error::Error as _;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;
use tokio::sync::Semaphore;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(20);

/// What a loader was asked for, call by call.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<Vec<String>>>>);

impl Asked {
    fn note(&self, keys: &[String]) {
        self.0.lock().unwrap().push(keys.to_vec());
    }

    fn calls(&self) -> Vec<Vec<String>> {
        self.0.lock().unwrap().clone()
    }

    /// Gives the length of each key.
    fn lengths(&self, keys: Vec<String>) -> impl Future<Output = HashMap<String, usize>> + use<> {
        self.note(&keys);
        async move { keys.into_iter().map(|key| (key.clone(), key.len())).collect() }
    }

    /// The same, once there is a permit.
    fn gated(
        &self,
        open: &Arc<Semaphore>,
        keys: Vec<String>,
    ) -> impl Future<Output = HashMap<String, usize>> + use<> {
        let (open, lengths) = (open.clone(), self.lengths(keys));
        async move {
            open.acquire().await.unwrap().forget();
            lengths.await
        }
    }
}

fn closed() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(0))
}

fn poke<F: Future>(future: std::pin::Pin<&mut F>) -> bool {
    future.poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

async fn becomes(cache: &AsyncCacheWrapper, key: &str, value: usize) {
    for _ in 0..2_000 {
        if cache.get(key).await.unwrap() == Some(value) {
            return;
        }
        tokio::time::sleep(2 * MS).await;
    }
    panic!("`{key}` does not become {value}");
}

#[tokio::test]
async fn answers_are_in_the_order_asked_and_each_missing_key_is_asked_for_once()
-> larder::Result<()> {
    for cache in plain_and_encoded() {
        let asked = Asked::default();
        cache.set("there", 100usize).await?;
        let keys = ["bb", "there", "a", "bb", "none", "a", "there"];
        let found = cache.get_or_set_many_async(keys, |missing: Vec<String>| {
            asked.note(&missing);
            async {
                BTreeMap::from(
                    [("a", 1usize), ("bb", 2), ("other", 9)]
                        .map(|(key, value)| (key.to_owned(), value)),
                )
            }
        });
        let answers = [Some(2), Some(100), Some(1), Some(2), None, Some(1), Some(100)];
        assert_eq!(found.await?, answers);
        assert_eq!(asked.calls(), [["bb", "a", "none"]]);
        assert_eq!(cache.get_many::<usize, _>(["a", "bb"]).await?, [Some(1), Some(2)]);
        assert!(!cache.contains("none").await?, "what the loader does not give is not stored");
        assert!(!cache.contains("other").await?, "nor what it was not asked for");
        let again = cache.get_or_set_many_async(keys, |missing| asked.lengths(missing));
        assert_eq!(again.await?[4], Some(4), "it is asked for again");
        assert_eq!(asked.calls().len(), 2);
    }
    Ok(())
}

#[tokio::test]
async fn a_loader_knows_its_keys_by_their_arguments() -> larder::Result<()> {
    let cache = fresh().namespace("users");
    let asked = Mutex::new(Vec::new());
    let items = [("seven", 7u64), ("also seven", 7), ("eight", 8), ("seven", 70)];
    let load = |ids: Vec<u64>| {
        asked.lock().unwrap().push(ids.clone());
        async move { ids.into_iter().map(|id| (id, format!("user {id}"))).collect::<Vec<_>>() }
    };
    let found = cache.ttl(Expiry::Never).get_or_set_many_async(items, load).await?;
    assert_eq!(
        found.iter().flatten().collect::<Vec<_>>(),
        ["user 7", "user 7", "user 8", "user 7"]
    );
    assert_eq!(*asked.lock().unwrap(), [[7, 8]]);
    assert_eq!(cache.get::<String>("also seven").await?.as_deref(), Some("user 7"));
    assert_eq!(cache.expiry("eight").await?, Some(Expiry::Never));
    Ok(())
}

#[tokio::test]
async fn no_keys_ask_nobody_and_an_invalid_key_refuses_the_batch() -> larder::Result<()> {
    let (cache, adapter) = faulty();
    let asked = Asked::default();
    let none = cache.get_or_set_many_async([""; 0], |missing| asked.lengths(missing)).await?;
    assert!(none.is_empty());
    let refused = cache.get_or_set_many_async(["a", ""], |missing| asked.lengths(missing)).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidKey);
    let zero = cache.max_batch(0).get_or_set_many_async(["a"], |missing| asked.lengths(missing));
    assert_eq!(zero.await.unwrap_err().kind(), ErrorKind::Config);
    assert_eq!((asked.calls().len(), adapter.calls(Verb::GetMany)), (0, 0));
    Ok(())
}

#[tokio::test]
async fn a_batch_is_one_read_one_load_and_one_write_a_key() -> larder::Result<()> {
    let (cache, adapter) = faulty();
    let asked = Asked::default();
    let keys: Vec<String> = (0..1_000).map(|at| format!("k{at}")).collect();
    cache.set_many(keys.iter().skip(100).map(|key| (key, 0usize))).await?;
    let (sets, before) = (adapter.calls(Verb::Set), cache.stats());
    let found = cache.get_or_set_many_async(&keys, |missing| asked.lengths(missing)).await?;
    assert_eq!((found[7], found[700], found.len()), (Some(2), Some(0), 1_000));
    assert_eq!(asked.calls(), [keys[..100].to_vec()]);
    let sets = adapter.calls(Verb::Set) - sets;
    assert_eq!((adapter.calls(Verb::GetMany), adapter.calls(Verb::Get), sets), (1, 0, 100));
    let stats = cache.stats();
    let counted =
        (stats.hits - before.hits, stats.misses - before.misses, stats.loads - before.loads);
    assert_eq!(counted, (900, 100, 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_another_call_loads_are_waited_for() -> larder::Result<()> {
    let (cache, asked, open) = (fresh(), Asked::default(), closed());
    let single = tokio::spawn({
        let (cache, open) = (cache.clone(), open.clone());
        let load = async move {
            open.acquire().await.unwrap().forget();
            50usize
        };
        async move { cache.get_or_set_async("b", load).await }
    });
    eventually("it has begun", || cache.stats().misses == 1).await;
    let batches: Vec<_> = [["a", "b", "c"], ["c", "b", "d"]]
        .into_iter()
        .map(|keys| {
            let (cache, asked, open) = (cache.clone(), asked.clone(), open.clone());
            tokio::spawn(async move {
                cache.get_or_set_many_async(keys, |missing| asked.gated(&open, missing)).await
            })
        })
        .collect();
    eventually("both wait", || cache.stats().joined == 3).await;
    let follower = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get_or_set("a", 99usize).await }
    });
    eventually("it follows", || cache.stats().joined == 4).await;
    open.add_permits(10);
    assert_eq!(single.await.unwrap()?, 50);
    assert_eq!(follower.await.unwrap()?, 1, "a call for one key follows a batch");
    let mut answers = Vec::new();
    for batch in batches {
        answers.push(batch.await.unwrap()?);
    }
    assert_eq!(answers, [[Some(1), Some(50), Some(1)], [Some(1), Some(50), Some(1)]]);
    let mut asked: Vec<String> = asked.calls().concat();
    asked.sort();
    assert_eq!(asked, ["a", "c", "d"], "each key is loaded once");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_batches_load_each_key_once() -> larder::Result<()> {
    let (cache, asked, open) = (fresh(), Asked::default(), closed());
    let calls: Vec<_> = (0..1_000)
        .map(|at| {
            let (cache, asked, open) = (cache.clone(), asked.clone(), open.clone());
            let keys = if at % 2 == 0 { ["a", "bb", "ccc"] } else { ["ccc", "bb", "a"] };
            tokio::spawn(async move {
                cache.get_or_set_many_async(keys, |missing| asked.gated(&open, missing)).await
            })
        })
        .collect();
    eventually("all wait", || cache.stats().joined == 999 * 3).await;
    // Two batches that join at the same time may lead one part each.
    open.add_permits(3);
    for answer in within(PATIENCE, "the loads", join_all(calls)).await {
        assert_eq!(answer.unwrap()?.iter().flatten().sum::<usize>(), 6);
    }
    let mut asked = asked.calls().concat();
    asked.sort();
    assert_eq!(asked, ["a", "bb", "ccc"]);
    Ok(())
}

#[tokio::test]
async fn who_waits_for_a_key_that_a_batch_does_not_give() -> larder::Result<()> {
    let (cache, runs, open) = (fresh(), Runs::default(), closed());
    let nothing = |_: Vec<String>| {
        runs.add();
        let open = open.clone();
        async move {
            open.acquire().await.unwrap().forget();
            HashMap::<String, usize>::new()
        }
    };
    let mut leader = pin!(cache.get_or_set_many_async(["k"], nothing));
    assert!(!poke(leader.as_mut()));
    let mut batch = pin!(cache.get_or_set_many_async(["k"], nothing));
    assert!(!poke(batch.as_mut()));
    let mut single = pin!(cache.get_or_set("k", 5usize));
    assert!(!poke(single.as_mut()));
    open.add_permits(1);
    assert_eq!((leader.await?, batch.await?), (vec![None], vec![None]));
    assert_eq!(runs.count(), 1, "a batch that waits does not ask again");
    assert_eq!(single.await?, 5, "a call for one key has a loader of its own");
    Ok(())
}

#[tokio::test]
async fn an_error_is_for_all_who_wait_and_nothing_of_that_load_is_stored() -> larder::Result<()> {
    for cache in plain_and_encoded() {
        let (runs, open) = (Runs::default(), closed());
        let fails = |_: Vec<String>| {
            runs.add();
            let open = open.clone();
            async move {
                open.acquire().await.unwrap().forget();
                Err::<HashMap<String, usize>, _>(std::io::Error::other("the source is away"))
            }
        };
        cache.set("there", 1usize).await?;
        let mut batch = pin!(cache.try_get_or_set_many_async(["there", "a", "b"], fails));
        assert!(!poke(batch.as_mut()));
        let mut other = pin!(cache.try_get_or_set_many_async(["b"], fails));
        assert!(!poke(other.as_mut()));
        let mut single = pin!(cache.get_or_set_async("a", async { 7usize }));
        assert!(!poke(single.as_mut()));
        open.add_permits(1);
        for (error, key) in [
            (batch.await.unwrap_err(), "a"),
            (other.await.unwrap_err(), "b"),
            (single.await.unwrap_err(), "a"),
        ] {
            assert_eq!((error.kind(), error.key()), (ErrorKind::Load, Some(key)));
            assert!(error.load_error::<std::io::Error>().is_some(), "{error:#}");
        }
        assert_eq!(runs.count(), 1);
        assert_eq!(cache.stats().load_errors, 1, "one for the load");
        assert_eq!(cache.get_many::<usize, _>(["a", "b"]).await?, [None, None]);
        let works = |keys: Vec<String>| async {
            Ok::<_, String>(keys.into_iter().map(|key| (key, 3usize)))
        };
        assert_eq!(cache.try_get_or_set_many_async(["a", "b"], works).await?, [Some(3); 2]);
    }
    Ok(())
}

#[tokio::test]
async fn a_panic_is_for_all_who_wait() -> larder::Result<()> {
    let cache = fresh();
    let panics = |_: Vec<String>| async {
        tokio::task::yield_now().await;
        if true { panic!("the loader panics") } else { HashMap::<String, usize>::new() }
    };
    let in_closure = |_: Vec<String>| -> std::future::Ready<HashMap<String, usize>> {
        panic!("the loader panics")
    };
    struct Iterates;
    impl IntoIterator for Iterates {
        type Item = (String, usize);
        type IntoIter = std::vec::IntoIter<(String, usize)>;
        fn into_iter(self) -> Self::IntoIter {
            panic!("the loader panics")
        }
    }
    for error in [
        cache.get_or_set_many_async(["a", "b"], panics).await.unwrap_err(),
        cache.get_or_set_many_async(["a", "b"], in_closure).await.unwrap_err(),
        cache.get_or_set_many_async(["a", "b"], |_| async { Iterates }).await.unwrap_err(),
        cache.blocking().get_or_set_many_async(["a", "b"], in_closure).unwrap_err(),
    ] {
        assert_eq!((error.kind(), error.key()), (ErrorKind::Panic, Some("a")));
        assert!(error.source().unwrap().to_string().contains("the loader panics"));
    }
    assert_eq!(cache.get_or_set("a", 5usize).await?, 5, "the next call runs at once");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_batches_are_split_and_four_loads_run_at_a_time() -> larder::Result<()> {
    let (cache, asked) = (fresh(), Asked::default());
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let keys: Vec<String> = (0..105).map(|at| format!("k{at}")).collect();
    let load = |missing| {
        let (lengths, now, most) = (asked.lengths(missing), now.clone(), most.clone());
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(5 * MS).await;
            now.fetch_sub(1, Ordering::SeqCst);
            lengths.await
        }
    };
    let found = cache.max_batch(10).get_or_set_many_async(&keys, load).await?;
    assert_eq!(found.iter().flatten().count(), 105);
    let sizes: Vec<usize> = asked.calls().iter().map(Vec::len).collect();
    assert_eq!(sizes, [10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 5]);
    assert_eq!(most.load(Ordering::SeqCst), 4);
    assert_eq!(cache.stats().loads, 11);
    let (cache, asked) = (fresh(), Asked::default());
    let keys = (0..1_001).map(|at| format!("k{at}"));
    cache.get_or_set_many_async(keys, |missing| asked.lengths(missing)).await?;
    assert_eq!(asked.calls().iter().map(Vec::len).collect::<Vec<_>>(), [500, 500, 1]);
    Ok(())
}

#[tokio::test]
async fn one_of_several_loads_that_fails_undoes_none_of_the_others() -> larder::Result<()> {
    let cache = fresh();
    let fails = |keys: Vec<String>| async move {
        if keys[0] == "bad" {
            return Err("the source is away");
        }
        Ok(keys.into_iter().map(|key| (key, 1usize)))
    };
    let error = cache.max_batch(1).try_get_or_set_many_async(["a", "bad", "b"], fails).await;
    assert_eq!(error.unwrap_err().key(), Some("bad"));
    assert_eq!(cache.get_many::<usize, _>(["a", "bad", "b"]).await?, [Some(1), None, Some(1)]);
    Ok(())
}

#[tokio::test]
async fn a_dropped_batch_is_loaded_and_stored_all_the_same() -> larder::Result<()> {
    let (cache, asked, open) = (fresh(), Asked::default(), closed());
    {
        let load = |missing| asked.gated(&open, missing);
        let mut call = pin!(
            cache.max_batch(1).get_or_set_many_async(["a", "bb", "ccc", "dddd", "eeeee"], load)
        );
        assert!(!poke(call.as_mut()));
    }
    open.add_permits(5);
    for (key, length) in [("a", 1), ("bb", 2), ("ccc", 3), ("dddd", 4), ("eeeee", 5)] {
        becomes(&cache, key, length).await;
    }
    assert_eq!(asked.calls().len(), 5);
    Ok(())
}

#[tokio::test]
async fn removals_writes_and_swaps_during_a_batch_are_not_undone() -> larder::Result<()> {
    for then in ["remove", "set", "clear", "swap"] {
        let (cache, _) = faulty();
        let changed = cache.clone();
        let load = |keys: Vec<String>| {
            let cache = changed.clone();
            async move {
                match then {
                    "remove" => drop(cache.remove("a").await.unwrap()),
                    "set" => cache.set("a", 2usize).await.unwrap(),
                    "clear" => cache.clear().await.unwrap(),
                    _ => drop(cache.swap_adapter(AsyncMemoryCache::new()).unwrap()),
                }
                keys.into_iter().map(|key| (key, 1usize)).collect::<Vec<_>>()
            }
        };
        let found = cache.get_or_set_many_async(["a", "b"], load).await?;
        assert_eq!(found, [Some(1), Some(1)], "{then}: what was loaded is returned");
        let left = cache.get_many::<usize, _>(["a", "b"]).await?;
        let expected = match then {
            "remove" => [None, Some(1)],
            "set" => [Some(2), Some(1)],
            _ => [None, None],
        };
        assert_eq!(left, expected, "{then}");
    }
    Ok(())
}

/// Entries that have expired and are kept.
async fn stale(cache: &AsyncCacheWrapper, keys: [&str; 2]) -> larder::Result<()> {
    let view = cache.ttl(MS).stale_for(3_600 * SECOND);
    view.set_many(keys.map(|key| (key, 100usize))).await?;
    while cache.contains(keys[1]).await? || cache.contains(keys[0]).await? {
        tokio::time::sleep(MS).await;
    }
    Ok(())
}

#[tokio::test]
async fn stale_values_are_served_when_a_batch_fails_or_is_late() -> larder::Result<()> {
    for cache in plain_and_encoded() {
        let keeping = cache.stale_for(3_600 * SECOND);
        stale(&cache, ["a", "bb"]).await?;
        let runs = Runs::default();
        let fails = |_: Vec<String>| {
            runs.add();
            async { Err::<HashMap<String, usize>, _>("the source is away") }
        };
        for _ in 0..2 {
            let found = keeping.try_get_or_set_many_async(["a", "bb"], fails).await?;
            assert_eq!(found, [Some(100); 2]);
        }
        assert_eq!(runs.count(), 1, "a loader that failed is not called again at once");
        let missing = keeping.try_get_or_set_many_async(["a", "new"], fails).await.unwrap_err();
        assert_eq!(missing.key(), Some("new"));

        let cache = cache.namespace("late");
        let keeping = cache.stale_for(3_600 * SECOND);
        stale(&cache, ["a", "bb"]).await?;
        let (asked, open) = (Asked::default(), closed());
        let load = |missing| asked.gated(&open, missing);
        let at_once = keeping.soft_timeout(Duration::ZERO);
        assert_eq!(at_once.get_or_set_many_async(["a", "bb"], load).await?, [Some(100); 2]);
        assert_eq!(asked.calls(), [["a", "bb"]]);
        open.add_permits(1);
        becomes(&cache, "bb", 2).await;
        assert_eq!(cache.get("a").await?, Some(1usize));
    }
    Ok(())
}

#[tokio::test]
async fn a_key_that_the_loader_does_not_know_any_more_is_not_served_stale() -> larder::Result<()> {
    let cache = fresh();
    stale(&cache, ["a", "bb"]).await?;
    let keeping = cache.stale_for(3_600 * SECOND);
    let load = |_: Vec<String>| async { [("a".to_owned(), 1usize)] };
    assert_eq!(keeping.get_or_set_many_async(["a", "bb"], load).await?, [Some(1), None]);
    Ok(())
}

#[tokio::test]
async fn entries_that_are_due_are_served_and_refreshed_by_one_load() -> larder::Result<()> {
    let (cache, asked) = (fresh(), Asked::default());
    let view = cache.ttl(3_600 * SECOND).refresh_ahead(0.000_001);
    view.set_many([("a", 100usize), ("bb", 100)]).await?;
    tokio::time::sleep(20 * MS).await;
    let load = |missing| asked.lengths(missing);
    let found = view.get_or_set_many_async(["a", "bb"], load).await?;
    assert_eq!(found, [Some(100); 2]);
    becomes(&cache, "a", 1).await;
    becomes(&cache, "bb", 2).await;
    assert_eq!(asked.calls(), [["a", "bb"]]);
    Ok(())
}

#[tokio::test]
async fn a_forced_refresh_loads_all_keys_and_skip_none_stores_no_nothing() -> larder::Result<()> {
    let (cache, asked) = (fresh(), Asked::default());
    cache.set_many([("a", 100usize), ("bb", 100)]).await?;
    let load = |missing| asked.lengths(missing);
    let found = cache.force_refresh().get_or_set_many_async(["a", "bb"], load).await?;
    assert_eq!((found, cache.get("bb").await?), (vec![Some(1), Some(2)], Some(2usize)));
    let load = |keys: Vec<String>| async {
        keys.into_iter()
            .map(|key| {
                let some = key.parse::<u8>().ok();
                (key, some)
            })
            .collect::<Vec<_>>()
    };
    let found = cache.skip_none().get_or_set_many_async(["7", "x"], load).await?;
    assert_eq!(found, [Some(Some(7)), Some(None)]);
    assert!(cache.contains("7").await? && !cache.contains("x").await?);
    Ok(())
}

#[tokio::test]
async fn a_hard_timeout_ends_the_wait_and_the_load_goes_on() -> larder::Result<()> {
    let (cache, asked, open) = (fresh(), Asked::default(), closed());
    let load = |missing| asked.gated(&open, missing);
    let late = cache.hard_timeout(10 * MS).get_or_set_many_async(["a", "bb"], load).await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Timeout);
    open.add_permits(1);
    becomes(&cache, "bb", 2).await;
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.load_errors), (0, 1), "one event for the load");
    Ok(())
}

#[tokio::test]
async fn a_loader_that_asks_for_one_of_its_own_keys_runs_it_unshared() -> larder::Result<()> {
    let cache = fresh();
    let inner = cache.clone();
    let load = move |keys: Vec<String>| {
        let cache = inner.clone();
        async move {
            let one = cache.get_or_set_async("b", async { 10usize }).await.unwrap();
            let again = |keys: Vec<String>| async { keys.into_iter().map(|key| (key, 5usize)) };
            let more = cache.get_or_set_many_async(["a", "c"], again).await.unwrap();
            let sum = one + more.into_iter().flatten().sum::<usize>();
            keys.into_iter().map(move |key| (key, sum))
        }
    };
    let call = cache.get_or_set_many_async(["a", "b"], load);
    assert_eq!(within(PATIENCE, "no deadlock", call).await?, [Some(20); 2]);
    assert_eq!(cache.get_many::<usize, _>(["a", "b", "c"]).await?, [Some(20), Some(20), Some(5)]);
    Ok(())
}

#[tokio::test]
async fn a_batch_goes_on_without_its_backend() -> larder::Result<()> {
    let (cache, adapter) = faulty();
    let asked = Asked::default();
    let errors = events_of(&cache, EventKind::BackendError);
    let load = |missing| asked.lengths(missing);
    adapter.put(Verb::GetMany, Fault::Fail(ErrorKind::Unavailable));
    assert_eq!(cache.get_or_set_many_async(["a", "bb"], load).await?, [Some(1), Some(2)]);
    assert_eq!((errors.count(), adapter.calls(Verb::Set)), (1, 0), "it may hold good values");
    let strict = cache.fail_open(false).get_or_set_many_async(["a", "bb"], load).await;
    assert_eq!(strict.unwrap_err().kind(), ErrorKind::Unavailable);
    adapter.heal(Verb::GetMany);
    adapter.put(Verb::Set, Fault::Fail(ErrorKind::Unavailable));
    assert_eq!(cache.get_or_set_many_async(["a", "bb"], load).await?, [Some(1), Some(2)]);
    assert_eq!(errors.count(), 4, "each value that could not be stored emits an event");
    let strict = cache.fail_open(false).get_or_set_many_async(["a", "bb"], load).await;
    assert_eq!(strict.unwrap_err().kind(), ErrorKind::Unavailable);
    Ok(())
}

#[test]
fn blocking_batches_run_where_the_caller_is_and_may_be_nested() -> larder::Result<()> {
    let cache = fresh().blocking();
    let inner = cache.clone();
    let load = move |keys: Vec<String>| {
        let (cache, caller) = (inner.clone(), std::thread::current().id());
        async move {
            assert_eq!(std::thread::current().id(), caller);
            let lengths = |keys: Vec<String>| async {
                keys.into_iter().map(|key| {
                    let n = key.len();
                    (key, n)
                })
            };
            let nested = cache.get_or_set_many_async(["x", "yy"], lengths).unwrap();
            let sum: usize = nested.into_iter().flatten().sum();
            keys.into_iter().map(move |key| (key, sum))
        }
    };
    assert_eq!(cache.get_or_set_many_async(["a", "b"], load)?, [Some(3); 2]);
    assert_eq!(cache.get("yy")?, Some(2usize));
    Ok(())
}
