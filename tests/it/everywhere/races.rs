//! A removal or a write that races a load is not undone by the load, also from another wrapper or
//! process.

use super::on_each_store;
use crate::claims::Shared;
use crate::trials::trials;
use larder::AsyncCacheWrapper;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tokio::task::JoinSet;

const LANES: u64 = 8;

on_each_store!(
    nothing_stale_is_stored,
    removals_beside_clears_that_are_dropped_or_fail,
    a_value_whose_encoding_panics_gives_its_lease_back,
);

async fn removals_beside_clears_that_are_dropped_or_fail(shared: Shared) {
    let adapter = shared.cache().adapter().unwrap();
    crate::wrapper::order::removals_beside_clears(adapter, trials(200, 100_000)).await;
}

/// A value that cannot be written.
#[derive(Clone, serde::Deserialize)]
struct Panics;

impl serde::Serialize for Panics {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("not to be written")
    }
}

async fn a_value_whose_encoding_panics_gives_its_lease_back(shared: Shared) {
    let lease = std::time::Duration::from_secs(3_000);
    let [first, second] = [shared.cache(), shared.cache()].map(|cache| cache.with_lease(lease));
    for (key, call) in [("future", true), ("closure", false)] {
        let panicked = if call {
            first.get_or_set_async(key, async { Panics }).await
        } else {
            first.get_or_set_with(key, |_| Panics).await
        };
        assert_eq!(panicked.map(drop).unwrap_err().kind(), larder::ErrorKind::Panic);
        let next = tokio::time::timeout(super::PATIENCE, second.get_or_set(key, 5u64));
        assert_eq!(next.await.expect("the lease is still held").unwrap(), 5);
    }
}

/// So that either may be first, and the one come in the middle of the other.
async fn give_way() {
    for _ in 0..fastrand::u8(..6) {
        tokio::task::yield_now().await;
    }
}

/// Trials one after another on a key: a load against a removal, or against a write, by the same
/// cache or by one that knows nothing of it.
async fn lane(
    lane: u64,
    trials: u64,
    loader: AsyncCacheWrapper,
    stranger: AsyncCacheWrapper,
) -> [u64; 2] {
    let (key, source) = (format!("lane {lane}"), Arc::new(AtomicU64::new(0)));
    let (mut removed_last, mut kept) = (0, 0);
    for trial in 1..=trials {
        let (removes, writer) =
            (trial % 2 == 0, if trial % 4 < 2 { loader.clone() } else { stranger.clone() });
        let write = tokio::spawn({
            let (key, source) = (key.clone(), source.clone());
            async move {
                give_way().await;
                source.store(trial, Ordering::SeqCst);
                if removes {
                    writer.remove(&key).await.map(drop)
                } else {
                    writer.set(&key, trial).await
                }
                .unwrap();
            }
        });
        let read = source.clone();
        let load = async move {
            let read = read.load(Ordering::SeqCst);
            give_way().await;
            read
        };
        let loaded = loader.get_or_set_async(&key, load).await.unwrap();
        write.await.unwrap();
        let left = stranger.get::<u64>(&key).await.unwrap();
        if removes {
            assert!(left.is_none_or(|left| left == trial), "{left:?} after removal {trial}");
            removed_last += u64::from(left.is_none());
            kept += u64::from(left.is_some());
        } else {
            assert_eq!(left, Some(trial), "write {trial} lost to a load of {loaded}");
        }
        // Or the next load would only hit.
        stranger.remove(&key).await.unwrap();
    }
    [removed_last, kept]
}

async fn nothing_stale_is_stored(shared: Shared) {
    let trials = trials(4_000, 100_000) as u64;
    let (loader, stranger, begun) = (shared.cache(), shared.cache(), Instant::now());
    let mut lanes = JoinSet::new();
    for number in 0..LANES {
        lanes.spawn(lane(number, trials / LANES, loader.clone(), stranger.clone()));
    }
    let [removed_last, kept] = lanes
        .join_all()
        .await
        .into_iter()
        .fold([0; 2], |sum, lane| [sum[0] + lane[0], sum[1] + lane[1]]);
    let loads = loader.stats().loads;
    println!(
        "{trials} trials in {:?}: {loads} loads; of the removals {removed_last} came last, {kept} first",
        begun.elapsed()
    );
    assert!(loads > 0 && removed_last > 0, "{loads} loads, {removed_last} of them removed last");
}
