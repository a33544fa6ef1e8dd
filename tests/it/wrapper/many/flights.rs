//! The loads of batches: who waits for them, and what their end is to whom.

use super::{Asked, PATIENCE, becomes, closed, poke};
use crate::trials::{eventually, within};
use crate::wrapper::{Runs, faulty, fresh, plain_and_encoded};
use futures_util::future::join_all;
use larder::testing::Verb;
use larder::{AsyncMemoryCache, ErrorKind};
use std::collections::HashMap;
use std::error::Error as _;
use std::pin::pin;

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
async fn a_key_whose_load_waits_for_the_batch_is_read_once() -> larder::Result<()> {
    let (cache, adapter) = faulty();
    let inner = cache.clone();
    let load = move |keys: Vec<String>| {
        let cache = inner.clone();
        async move {
            let again = |keys: Vec<String>| async { keys.into_iter().map(|key| (key, 5usize)) };
            let found = cache.get_or_set_many_async(["a", "c"], again).await.unwrap();
            let sum: usize = found.into_iter().flatten().sum();
            keys.into_iter().map(move |key| (key, sum))
        }
    };
    let call = cache.get_or_set_many_async(["a", "b"], load);
    assert_eq!(within(PATIENCE, "no deadlock", call).await?, [Some(10); 2]);
    assert_eq!(adapter.calls(Verb::GetMany), 2, "one for each call");
    Ok(())
}

/// A value whose `Drop` may panic.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Fragile(bool);

impl Drop for Fragile {
    fn drop(&mut self) {
        assert!(self.0, "it breaks");
    }
}

#[tokio::test]
async fn a_value_that_nobody_asked_for_breaks_no_other() -> larder::Result<()> {
    for cache in plain_and_encoded() {
        let load = |keys: Vec<String>| async {
            let whole = keys.into_iter().map(|key| (key, Fragile(true)));
            // Of two values for one key the later counts.
            let asked_twice = [("a".to_owned(), Fragile(false))];
            let unasked = [("unasked".to_owned(), Fragile(false))];
            asked_twice.into_iter().chain(whole).chain(unasked).collect::<Vec<_>>()
        };
        let found = cache.get_or_set_many_async(["a", "b"], load).await?;
        assert_eq!(found, [Some(Fragile(true)), Some(Fragile(true))]);
        assert!(cache.contains("a").await? && !cache.contains("unasked").await?);
    }
    Ok(())
}
