//! Which keys hold values that are large enough to delay others.

use crate::runtime::lock;
use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The most keys that are remembered. Beyond that all are forgotten, and learnt again.
const MAX: usize = 4096;

/// Hashes of keys whose values were large when they were last read or written. Only a hint: a key
/// that is missing here is read on its own lane once.
#[derive(Debug, Default)]
pub(super) struct BulkyKeys {
    count: AtomicUsize,
    hashes: Mutex<HashSet<u32>>,
}

impl BulkyKeys {
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    pub(super) fn contains(&self, hash: u32) -> bool {
        self.count.load(Ordering::Relaxed) > 0 && lock(&self.hashes).contains(&hash)
    }

    pub(super) fn note(&self, hash: u32, bulky: bool) {
        if !bulky && self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut hashes = lock(&self.hashes);
        if bulky {
            if hashes.len() == MAX {
                hashes.clear();
            }
            hashes.insert(hash);
        } else {
            hashes.remove(&hash);
        }
        self.count.store(hashes.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_and_go_and_are_bounded() {
        let keys = BulkyKeys::default();
        keys.note(1, false);
        assert!(!keys.contains(1));
        keys.note(1, true);
        assert!(keys.contains(1) && !keys.contains(2));
        keys.note(1, false);
        assert!(!keys.contains(1));
        for hash in 0..10 * MAX as u32 {
            keys.note(hash, true);
        }
        assert!(lock(&keys.hashes).len() <= MAX);
    }
}
