//! The wait-for graph of flights, as in database deadlock detection: a wait that would close a
//! cycle is refused.

use crate::runtime::lock;
use std::collections::{HashMap, HashSet};
use std::sync::{LazyLock, Mutex};

const SHARDS: usize = 64;

/// The flights that one flight's loader waits for, and how often.
type Targets = HashMap<u64, u32>;

/// Which flight waits for which: edges from a loader's flight to the flights it waits for.
static WAITS: LazyLock<[Mutex<HashMap<u64, Targets>>; SHARDS]> =
    LazyLock::new(|| std::array::from_fn(|_| Mutex::default()));

fn shard(flight: u64) -> &'static Mutex<HashMap<u64, Targets>> {
    &WAITS[flight as usize % SHARDS]
}

/// An edge of the wait-for graph. It exists for as long as the wait lasts.
pub(super) struct Edge(Option<(u64, u64)>);

impl Edge {
    /// Adds an edge from `waiter`, if any, to `target`; `None` if `target` already waits for
    /// `waiter`, directly or not.
    pub(super) fn add(waiter: Option<u64>, target: u64) -> Option<Self> {
        let Some(waiter) = waiter else {
            return Some(Self(None));
        };
        // Add the edge before walking the graph. Two waits on different threads may close a cycle
        // together; if both walked first, neither would see the other's edge.
        *lock(shard(waiter)).entry(waiter).or_default().entry(target).or_default() += 1;
        let edge = Self(Some((waiter, target)));
        (!reaches(target, waiter)).then_some(edge)
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        let Some((waiter, target)) = self.0 else { return };
        let mut waits = lock(shard(waiter));
        let Some(targets) = waits.get_mut(&waiter) else { return };
        if let Some(count) = targets.get_mut(&target) {
            *count -= 1;
            if *count == 0 {
                targets.remove(&target);
            }
        }
        if targets.is_empty() {
            waits.remove(&waiter);
        }
    }
}

/// Whether `from` waits for `to`, directly or not, or is `to`. Visits each flight once, and locks
/// one shard at a time, so that no wait is blocked by a whole walk.
pub(super) fn reaches(from: u64, to: u64) -> bool {
    if from == to {
        return true;
    }
    let mut open = vec![from];
    let mut seen = HashSet::from([from]);
    while let Some(flight) = open.pop() {
        let waits = lock(shard(flight));
        let Some(targets) = waits.get(&flight) else { continue };
        if targets.contains_key(&to) {
            return true;
        }
        open.extend(targets.keys().filter(|target| seen.insert(**target)));
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Far from the numbers of the flights in other tests.
    const FAR: u64 = 1 << 60;

    #[test]
    fn a_circle_is_found_however_long_and_wide_it_is() {
        let wide: Vec<_> =
            (1..=8_000).map(|at| Edge::add(Some(FAR), FAR + at).expect("no circle yet")).collect();
        let long: Vec<_> = (1..8_000)
            .map(|at| Edge::add(Some(FAR + at), FAR + at + 1).expect("no circle yet"))
            .collect();
        assert!(Edge::add(Some(FAR + 8_000), FAR).is_none(), "it would close the circle");
        assert!(Edge::add(Some(FAR), FAR).is_none(), "a flight that waits for itself");
        drop(long);
        drop(wide);
        assert!(Edge::add(Some(FAR + 8_000), FAR).is_some(), "no wait is left");
    }

    #[test]
    fn a_wait_that_there_is_twice_ends_twice() {
        let (a, b) = (FAR + 10_001, FAR + 10_002);
        let first = Edge::add(Some(a), b);
        let second = Edge::add(Some(a), b);
        drop(first);
        assert!(Edge::add(Some(b), a).is_none());
        drop(second);
        assert!(Edge::add(Some(b), a).is_some());
        assert!(Edge::add(None, a).is_some(), "who is no loader closes no circle");
    }
}
