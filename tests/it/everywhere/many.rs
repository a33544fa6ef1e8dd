//! One loader for several keys, on stores that other processes write to.

use super::{PATIENCE, on_each_store};
use crate::claims::Shared;
use crate::support::eventually;
use larder::{AsyncCacheWrapper, ErrorKind};
use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Longer than any test: a lease that is not given back is seen.
const LEASE: Duration = Duration::from_secs(3_000);

on_each_store!(
    a_batch_is_answered_in_order_and_stored,
    a_removal_or_write_elsewhere_wins_over_a_batch,
    a_batch_with_a_lease_waits_for_the_loads_of_its_own_process,
    two_processes_with_leases_load_each_key_once_in_any_order,
    a_batch_that_fails_or_panics_gives_its_leases_back,
    a_batch_that_is_dropped_before_it_loads_gives_its_leases_back,
    a_dropped_batch_is_stored_all_the_same,
    the_time_limits_of_a_batch_count_while_another_process_loads,
    a_forced_batch_is_stored_beside_a_load_that_hangs,
);

fn counted(keys: Vec<String>, count: &AtomicU64) -> HashMap<String, u64> {
    keys.into_iter().map(|key| (key, count.fetch_add(1, Ordering::SeqCst))).collect()
}

async fn a_batch_is_answered_in_order_and_stored(shared: Shared) {
    let [first, second] = [shared.cache(), shared.cache()];
    second.set("there", 100u64).await.unwrap();
    let load = |missing: Vec<String>| async move {
        assert_eq!(missing, ["a", "none", "b"]);
        [("a".to_owned(), 1u64), ("b".to_owned(), 2)]
    };
    let keys = ["a", "there", "none", "b", "a"];
    let found = first.get_or_set_many_async(keys, load).await.unwrap();
    assert_eq!(found, [Some(1), Some(100), None, Some(2), Some(1)]);
    let stored = second.get_many::<u64, _>(["a", "b", "none"]).await.unwrap();
    assert_eq!(stored, [Some(1), Some(2), None]);
}

async fn a_removal_or_write_elsewhere_wins_over_a_batch(shared: Shared) {
    let [first, second] = [shared.cache(), shared.cache()];
    for _ in 0..10 {
        let other = second.clone();
        let load = move |missing: Vec<String>| {
            let other = other.clone();
            async move {
                other.remove("removed").await.unwrap();
                other.set("written", 2u64).await.unwrap();
                missing.into_iter().map(|key| (key, 1u64)).collect::<Vec<_>>()
            }
        };
        let keys = ["removed", "kept", "written"];
        assert_eq!(first.get_or_set_many_async(keys, load).await.unwrap(), [Some(1); 3]);
        let left = second.get_many::<u64, _>(keys).await.unwrap();
        assert_eq!(left, [None, Some(1), Some(2)]);
        second.remove(keys).await.unwrap();
    }
}

/// Each holds leases that the other waits for: neither waits with leases in hand.
async fn two_processes_with_leases_load_each_key_once_in_any_order(shared: Shared) {
    let caches = [shared.cache(), shared.cache()].map(|cache| cache.with_lease(LEASE));
    let loads = Arc::new(AtomicU64::new(0));
    for round in 0..10 {
        let before = loads.load(Ordering::SeqCst);
        let calls = [0, 1].map(|at: usize| {
            let (cache, loads) = (caches[at].clone(), loads.clone());
            let mut keys: Vec<String> = (0..20).map(|key| format!("{round}:{key}")).collect();
            if at == 1 {
                keys.reverse();
            }
            tokio::spawn(async move {
                let load = |missing: Vec<String>| {
                    let loads = loads.clone();
                    async move {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                        counted(missing, &loads)
                    }
                };
                let mut found = cache.get_or_set_many_async(&keys, load).await.unwrap();
                if at == 1 {
                    found.reverse();
                }
                found
            })
        });
        let [first, second] = calls.map(|call| timeout(PATIENCE, call));
        let first = first.await.expect("it waits for a lease").unwrap();
        let second = second.await.expect("it waits for a lease").unwrap();
        assert!(first.iter().all(Option::is_some) && first == second, "{first:?} {second:?}");
        assert_eq!(loads.load(Ordering::SeqCst) - before, 20, "each key is loaded by one");
    }
}

async fn a_batch_with_a_lease_waits_for_the_loads_of_its_own_process(shared: Shared) {
    let cache = shared.cache().with_lease(LEASE);
    let (open, loads) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicU64::new(0)));
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let (cache, open, loads) = (cache.clone(), open.clone(), loads.clone());
            tokio::spawn(async move {
                let load = |missing: Vec<String>| {
                    let (open, loads) = (open.clone(), loads.clone());
                    async move {
                        open.acquire().await.unwrap().forget();
                        counted(missing, &loads)
                    }
                };
                cache.get_or_set_many_async(["a", "b"], load).await.unwrap()
            })
        })
        .collect();
    // Two may lead one key each. The others follow both, or the first only: where its leader has
    // begun its flight, and the holder of the second key's lease has not yet, a call asks for the
    // second key again when the first has landed.
    eventually("they follow", PATIENCE, || async { cache.stats().joined >= 18 }).await;
    open.add_permits(20);
    for call in calls {
        assert!(call.await.unwrap().iter().all(Option::is_some));
    }
    assert_eq!(loads.load(Ordering::SeqCst), 2, "each key is loaded once");
}

async fn is_free(cache: &AsyncCacheWrapper, key: &str) {
    let next = timeout(PATIENCE, cache.get_or_set(key, 5u64));
    assert_eq!(next.await.expect("the lease is still held").unwrap(), 5);
}

async fn a_batch_that_fails_or_panics_gives_its_leases_back(shared: Shared) {
    let [first, second] = [shared.cache(), shared.cache()].map(|cache| cache.with_lease(LEASE));
    let fails = |_: Vec<String>| async { Err::<HashMap<String, u64>, _>("the source is away") };
    let error = first.try_get_or_set_many_async(["a", "b"], fails).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Load);
    let panics =
        |_: Vec<String>| -> std::future::Ready<HashMap<String, u64>> { panic!("no value") };
    let error = first.get_or_set_many_async(["c", "d"], panics).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Panic);
    let nothing = |_: Vec<String>| async { HashMap::<String, u64>::new() };
    assert_eq!(first.get_or_set_many_async(["e"], nothing).await.unwrap(), [None]);
    for key in ["a", "b", "c", "d", "e"] {
        is_free(&second, key).await;
    }
}

/// At every point of the way to the loader.
async fn a_batch_that_is_dropped_before_it_loads_gives_its_leases_back(shared: Shared) {
    let [first, second] = [shared.cache(), shared.cache()].map(|cache| cache.with_lease(LEASE));
    for polls in 1..10 {
        let keys = [format!("a{polls}"), format!("b{polls}")];
        let load = |missing: Vec<String>| async { missing.into_iter().map(|key| (key, 5u64)) };
        {
            let mut call = pin!(first.get_or_set_many_async(&keys, load));
            for _ in 0..polls {
                if call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                    break;
                }
                tokio::time::sleep(Duration::from_micros(300)).await;
            }
        }
        for key in &keys {
            is_free(&second, key).await;
        }
    }
}

async fn a_dropped_batch_is_stored_all_the_same(shared: Shared) {
    let (cache, open) = (shared.cache(), Arc::new(Semaphore::new(0)));
    let begun = Arc::new(AtomicU64::new(0));
    let call = tokio::spawn({
        let (cache, open, begun) = (cache.clone(), open.clone(), begun.clone());
        async move {
            let load = |missing: Vec<String>| {
                let (open, begun) = (open.clone(), begun.clone());
                async move {
                    begun.fetch_add(1, Ordering::SeqCst);
                    open.acquire().await.unwrap().forget();
                    missing.into_iter().map(|key| (key, 7u64))
                }
            };
            cache.get_or_set_many_async(["a", "b"], load).await
        }
    });
    eventually("it loads", PATIENCE, || async { begun.load(Ordering::SeqCst) == 1 }).await;
    call.abort();
    open.add_permits(1);
    eventually("it is stored", PATIENCE, || async {
        cache.get_many::<u64, _>(["a", "b"]).await.unwrap() == [Some(7); 2]
    })
    .await;
}

/// A load that has begun, and ends once the gate opens.
struct Gated {
    open: Arc<Semaphore>,
    begun: Arc<AtomicU64>,
}

impl Gated {
    fn closed() -> Self {
        Self { open: Arc::new(Semaphore::new(0)), begun: Arc::default() }
    }

    fn load(&self, value: u64) -> impl Future<Output = u64> + Send + use<> {
        let (open, begun) = (self.open.clone(), self.begun.clone());
        async move {
            begun.fetch_add(1, Ordering::SeqCst);
            open.acquire().await.unwrap().forget();
            value
        }
    }

    async fn has_begun(&self) {
        let begun = || async { self.begun.load(Ordering::SeqCst) > 0 };
        eventually("it loads", PATIENCE, begun).await;
    }
}

async fn the_time_limits_of_a_batch_count_while_another_process_loads(shared: Shared) {
    const SHORT: Duration = Duration::from_millis(10);
    let [first, second] = [shared.cache(), shared.cache()];
    let kept = first.ttl(Duration::from_millis(1)).stale_for(LEASE);
    kept.set("old", 100u64).await.unwrap();
    let expired = || async { !second.contains("old").await.unwrap() };
    eventually("it has expired", PATIENCE, expired).await;
    let (old, new) = (Gated::closed(), Gated::closed());
    let holding = [("old", &old), ("new", &new)].map(|(key, gated)| {
        let (cache, load) = (first.clone().with_lease(LEASE), gated.load(1));
        tokio::spawn(async move { cache.get_or_set_async(key, load).await })
    });
    old.has_begun().await;
    new.has_begun().await;
    let loads = AtomicU64::new(0);
    let load = |missing| {
        let counted = counted(missing, &loads);
        async move { counted }
    };
    let waiting = second.lease(LEASE).stale_for(LEASE);
    for limited in [waiting.soft_timeout(SHORT), waiting.hard_timeout(SHORT)] {
        let found = timeout(PATIENCE, limited.get_or_set_many_async(["old"], load)).await;
        assert_eq!(found.expect("it waits for the lease").unwrap(), [Some(100)]);
    }
    let late = waiting.hard_timeout(SHORT).get_or_set_many_async(["new"], load);
    let late = timeout(PATIENCE, late).await.expect("it waits for the lease").unwrap_err();
    assert_eq!((late.kind(), late.key()), (ErrorKind::Timeout, Some("new")));
    assert_eq!(loads.load(Ordering::SeqCst), 0);
    old.open.add_permits(1);
    new.open.add_permits(1);
    for holding in holding {
        assert_eq!(holding.await.unwrap().unwrap(), 1);
    }
    let found = second.get_or_set_many_async(["old", "new"], load).await.unwrap();
    assert_eq!(found, [Some(1); 2]);
}

async fn a_forced_batch_is_stored_beside_a_load_that_hangs(shared: Shared) {
    let [first, second] = [shared.cache(), shared.cache()];
    for lease in [Duration::ZERO, LEASE] {
        let gated = Gated::closed();
        let hanging = tokio::spawn({
            let (cache, load) = (first.clone(), gated.load(50));
            async move { cache.get_or_set_async("a", load).await }
        });
        gated.has_begun().await;
        let load = |keys: Vec<String>| async { keys.into_iter().map(|key| (key, 7u64)) };
        let forced = first.lease(lease).force_refresh().get_or_set_many_async(["a", "b"], load);
        let found = timeout(PATIENCE, forced).await.expect("it waits for the load");
        assert_eq!(found.unwrap(), [Some(7); 2], "{lease:?}");
        gated.open.add_permits(1);
        assert_eq!(hanging.await.unwrap().unwrap(), 50);
        let stored = second.get_many::<u64, _>(["a", "b"]).await.unwrap();
        assert_eq!(stored, [Some(7); 2], "{lease:?}");
        second.remove(["a", "b"]).await.unwrap();
    }
}
