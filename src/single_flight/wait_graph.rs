//! Who waits for whom: a wait that would close a circle is not begun.

use crate::runtime::lock;
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

/// Which flight waits for which: edges from a loader's flight to the flights it waits for.
static WAITS: LazyLock<Mutex<HashMap<u64, Vec<u64>>>> = LazyLock::new(Mutex::default);

/// An edge of the waiting-for graph, as long as the wait lasts.
pub(super) struct Edge(Option<(u64, u64)>);

impl Edge {
    /// Notes that `waiter`, if any, waits for `target`; `None` if `target` waits for it already.
    pub(super) fn add(waiter: Option<u64>, target: u64) -> Option<Self> {
        let Some(waiter) = waiter else {
            return Some(Self(None));
        };
        let mut waits = lock(&WAITS);
        if reaches(&waits, target, waiter) {
            return None;
        }
        waits.entry(waiter).or_default().push(target);
        Some(Self(Some((waiter, target))))
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        let Some((waiter, target)) = self.0 else { return };
        let mut waits = lock(&WAITS);
        if let Some(targets) = waits.get_mut(&waiter) {
            if let Some(at) = targets.iter().position(|other| *other == target) {
                targets.swap_remove(at);
            }
            if targets.is_empty() {
                waits.remove(&waiter);
            }
        }
    }
}

fn reaches(waits: &HashMap<u64, Vec<u64>>, from: u64, to: u64) -> bool {
    let mut open = vec![from];
    let mut seen = Vec::new();
    while let Some(flight) = open.pop() {
        if flight == to {
            return true;
        }
        if !seen.contains(&flight) {
            seen.push(flight);
            open.extend(waits.get(&flight).into_iter().flatten());
        }
    }
    false
}
