//! Loaders that remove, force or ask for the keys that they load.

use super::{PATIENCE, on_each_store};
use crate::claims::Shared;
use crate::trials::within;
use larder::AsyncCacheWrapper;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Longer than any test: a lease that is waited for is seen.
const LEASE: Duration = Duration::from_secs(3_000);

on_each_store!(
    a_loader_that_removes_its_own_key_and_asks_for_it_waits_for_no_lease,
    a_load_is_stored_although_its_loader_forces_its_own_key,
    a_batch_is_stored_although_its_loader_forces_its_own_keys,
    a_batch_whose_loader_removes_its_own_key_stores_the_others,
    batches_are_split_at_their_bounds,
    a_batch_of_a_thousand_loads_what_is_missing_once,
);

async fn a_loader_that_removes_its_own_key_and_asks_for_it_waits_for_no_lease(shared: Shared) {
    let (cache, other) = (shared.cache(), shared.cache());
    for key in ["removed", "removed elsewhere"] {
        let (inner, remover) =
            (cache.clone(), if key == "removed" { &cache } else { &other }.clone());
        let load = move || async move {
            remover.remove(key).await.unwrap();
            let again = inner.lease(LEASE).get_or_load(key, || async { 1_u64 }).await.unwrap();
            again + 1
        };
        let call = cache.lease(LEASE).get_or_load(key, load);
        assert_eq!(within(PATIENCE, key, call).await.unwrap(), 2);
        let next = other.lease(LEASE).get_or_load(key, || async { 1_u64 });
        assert_eq!(within(PATIENCE, "no lease is left", next).await.unwrap(), 1, "{key}");
    }
}

async fn a_load_is_stored_although_its_loader_forces_its_own_key(shared: Shared) {
    let cache = shared.cache();
    for is_forced in [false, true] {
        for lease in [None, Some(LEASE)] {
            let key = format!("forced:{is_forced}:{lease:?}");
            let (inner, own) = (cache.clone(), key.clone());
            let load = || async move {
                let again = inner.force_refresh().get_or_load(&own, || async { 1_u64 });
                again.await.unwrap() + 1
            };
            let mut view = cache.view();
            if is_forced {
                view = view.force_refresh();
            }
            if let Some(lease) = lease {
                view = view.lease(lease);
            }
            assert_eq!(within(PATIENCE, &key, view.get_or_load(&key, load)).await.unwrap(), 2);
            assert_eq!(shared.cache().get::<u64>(&key).await.unwrap(), Some(2), "{key}");
        }
    }
}

async fn a_batch_is_stored_although_its_loader_forces_its_own_keys(shared: Shared) {
    let cache = shared.cache();
    let load = |keys: Vec<String>| {
        let inner = cache.clone();
        async move {
            let ones = |keys: Vec<String>| async move {
                keys.into_iter().map(|key| (key, 1_u64)).collect::<Vec<_>>()
            };
            let again =
                inner.force_refresh().get_or_set_many_async(keys.clone(), ones).await.unwrap();
            assert_eq!(again, [Some(1), Some(1)]);
            keys.into_iter().map(|key| (key, 2_u64)).collect::<Vec<_>>()
        }
    };
    let call = cache.get_or_set_many_async(["a", "b"], load);
    assert_eq!(within(PATIENCE, "the batch", call).await.unwrap(), [Some(2), Some(2)]);
    let stored = shared.cache().get_many::<u64, _>(["a", "b"]).await.unwrap();
    assert_eq!(stored, [Some(2), Some(2)]);
}

async fn a_batch_whose_loader_removes_its_own_key_stores_the_others(shared: Shared) {
    let (cache, other) = (shared.cache(), shared.cache());
    for remover in [&cache, &other] {
        let load = |keys: Vec<String>| {
            let remover = remover.clone();
            async move {
                remover.remove("b").await.unwrap();
                keys.into_iter().map(|key| (key, 2_u64)).collect::<Vec<_>>()
            }
        };
        let call = cache.lease(LEASE).get_or_set_many_async(["a", "b", "c", "b"], load);
        let found = within(PATIENCE, "the batch", call).await.unwrap();
        assert_eq!(found, [Some(2); 4]);
        let stored = other.get_many::<u64, _>(["a", "b", "c"]).await.unwrap();
        assert_eq!(stored, [Some(2), None, Some(2)]);
        other.remove_many(["a", "b", "c"]).await.unwrap();
    }
}

/// A loader that counts its runs, and gives each key its length.
fn counted(runs: &Arc<AtomicU64>) -> impl Fn(Vec<u64>) -> std::future::Ready<HashMap<u64, u64>> {
    let runs = runs.clone();
    move |missing| {
        runs.fetch_add(1, Ordering::SeqCst);
        std::future::ready(missing.into_iter().map(|id| (id, id * 2)).collect())
    }
}

async fn ask(
    cache: &AsyncCacheWrapper,
    name: &str,
    ids: impl Iterator<Item = u64>,
) -> (u64, usize) {
    let runs = Arc::new(AtomicU64::new(0));
    let items: Vec<_> = ids.map(|id| (format!("{name}:{id}"), id)).collect();
    let asked: Vec<_> = items.iter().map(|(_, id)| Some(id * 2)).collect();
    let found = cache.get_or_set_many_async(items, counted(&runs)).await.unwrap();
    assert_eq!(found, asked);
    (runs.load(Ordering::SeqCst), found.len())
}

async fn batches_are_split_at_their_bounds(shared: Shared) {
    let cache = shared.cache();
    for (keys, loads) in [(499, 1), (500, 1), (501, 2), (2_001, 5)] {
        let name = format!("split:{keys}");
        assert_eq!(ask(&cache, &name, 0..keys).await.0, loads, "{keys}");
        assert_eq!(ask(&cache, &name, (0..keys).rev()).await.0, 0, "{keys}: all are stored");
    }
}

async fn a_batch_of_a_thousand_loads_what_is_missing_once(shared: Shared) {
    let cache = shared.cache();
    let there = (0..1_000_u64).filter(|id| id % 10 != 0);
    cache.set_many(there.map(|id| (format!("thousand:{id}"), id * 2))).await.unwrap();
    assert_eq!(ask(&cache, "thousand", (0..1_000).chain(0..1_000)).await, (1, 2_000));
    assert_eq!(ask(&cache, "thousand", 0..1_000).await.0, 0);
}
