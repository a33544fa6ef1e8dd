//! Cooldown of loaders: after a failure, a loader is not called again for a while.

use crate::clock;
use crate::runtime::lock;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const SHARDS: usize = 64;

/// The most keys per shard, so that a failing source costs bounded memory. Above the limit, the
/// window that ends first is dropped.
const MOST: usize = 4_096;

/// When each window ends, by the hash of its key. Two keys with the same hash share a window, and
/// at worst serve a stale value a little longer.
pub(super) struct Cooldown {
    shards: Box<[Mutex<HashMap<u64, u64>>]>,
    /// The number of windows. Usually zero, and then no lock is taken.
    count: AtomicUsize,
}

impl Cooldown {
    pub(super) fn new() -> Self {
        Self {
            shards: std::iter::repeat_with(Mutex::default).take(SHARDS).collect(),
            count: AtomicUsize::new(0),
        }
    }

    pub(super) fn add(&self, hash: u64, lasting: Duration) {
        let now = clock::now_us();
        let end = now.saturating_add(clock::micros(lasting));
        let mut windows = lock(self.shard(hash));
        let before = windows.len();
        if before >= MOST && !windows.contains_key(&hash) {
            windows.retain(|_, end| *end > now);
            if windows.len() >= MOST
                && let Some(first) =
                    windows.iter().min_by_key(|(_, end)| **end).map(|(hash, _)| *hash)
            {
                windows.remove(&first);
            }
        }
        windows.insert(hash, end);
        self.recount(before, windows.len());
    }

    pub(super) fn remove(&self, hash: u64) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut windows = lock(self.shard(hash));
        let before = windows.len();
        windows.remove(&hash);
        self.recount(before, windows.len());
    }

    pub(super) fn holds(&self, hash: u64) -> bool {
        if self.count.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let mut windows = lock(self.shard(hash));
        let Some(end) = windows.get(&hash) else { return false };
        if *end > clock::now_us() {
            return true;
        }
        let before = windows.len();
        windows.remove(&hash);
        self.recount(before, windows.len());
        false
    }

    fn recount(&self, before: usize, after: usize) {
        if after >= before {
            self.count.fetch_add(after - before, Ordering::Relaxed);
        } else {
            self.count.fetch_sub(before - after, Ordering::Relaxed);
        }
    }

    fn shard(&self, hash: u64) -> &Mutex<HashMap<u64, u64>> {
        &self.shards[hash as usize % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3_600);

    #[test]
    fn a_window_ends_by_itself_and_by_success() {
        let throttle = Cooldown::new();
        assert!(!throttle.holds(1));
        throttle.add(1, LONG);
        throttle.add(2, Duration::ZERO);
        assert!(throttle.holds(1) && !throttle.holds(2) && !throttle.holds(3));
        throttle.remove(1);
        assert!(!throttle.holds(1));
        assert_eq!(throttle.count.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn however_many_fail_memory_is_bounded() {
        let throttle = Cooldown::new();
        let most = (MOST * SHARDS) as u64;
        (0..2 * most).for_each(|hash| throttle.add(hash, LONG));
        assert_eq!(throttle.count.load(Ordering::Relaxed) as u64, most);
        assert!(throttle.holds(2 * most - 1), "the newest is known");
    }
}
