//! `get_or_set_many_async`: one loader for several keys.

mod backend;
mod events;
mod flights;
mod freshness;
mod leases;

use super::single_flight::block_on_without_tokio;
use super::{faulty, fresh, plain_and_encoded, two_over_one};
use larder::testing::{Fault, Verb};
use larder::{AsyncCacheWrapper, ErrorKind, Expiry};
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
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

/// A loader that does not get what it asks for.
async fn source_away(_: Vec<String>) -> Result<HashMap<String, usize>, &'static str> {
    Err("the source is away")
}

/// Entries that have expired and are kept.
async fn stale(cache: &AsyncCacheWrapper, keys: [&str; 2]) -> larder::Result<()> {
    let view = cache.ttl(MS).stale_for(3_600 * SECOND);
    view.set_many(keys.map(|key| (key, 100usize))).await?;
    expired(cache, keys).await
}

async fn expired(cache: &AsyncCacheWrapper, keys: [&str; 2]) -> larder::Result<()> {
    while cache.contains(keys[1]).await? || cache.contains(keys[0]).await? {
        tokio::time::sleep(MS).await;
    }
    Ok(())
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
async fn the_options_of_the_adapters_url_are_those_of_a_batch() -> larder::Result<()> {
    let cache = AsyncCacheWrapper::new("memory:?skip_none=true")?;
    let numbers = |keys: Vec<String>| async {
        keys.into_iter().map(|key| {
            let number = key.parse::<u8>().ok();
            (key, number)
        })
    };
    let found = cache.get_or_set_many_async(["7", "x"], numbers).await?;
    assert_eq!(found, [Some(Some(7)), Some(None)]);
    assert!(cache.contains("7").await? && !cache.contains("x").await?);
    let (cache, asked) = (AsyncCacheWrapper::new("memory:?force_refresh=true")?, Asked::default());
    cache.set("a", 100usize).await?;
    let load = |missing| asked.lengths(missing);
    assert_eq!(cache.get_or_set_many_async(["a"], load).await?, [Some(1)]);
    Ok(())
}

#[test]
fn a_batch_needs_no_runtime_of_its_caller() -> larder::Result<()> {
    let ((cache, adapter), asked) = (faulty(), Asked::default());
    // The store waits by tokio's clock, and gets it.
    adapter.put(Verb::GetMany, Fault::Delay(MS));
    adapter.put(Verb::Set, Fault::Delay(MS));
    let load = |missing| asked.lengths(missing);
    let call = cache.get_or_set_many_async(["a", "bb"], load);
    assert_eq!(block_on_without_tokio(call)?, [Some(1), Some(2)]);
    assert_eq!(adapter.calls(Verb::Set), 2);
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
