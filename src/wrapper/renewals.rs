//! Which keys this process has renewed a moment ago.

use crate::clock;
use crate::runtime::lock;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;
use std::time::Duration;

const SHARDS: usize = 64;

/// The most keys per shard. Above the limit all are forgotten, and a hit looks once too often.
const MOST: usize = 4_096;

/// Which keys were renewed a moment ago, by the hashes of keys. Two keys with the same hash share
/// their pauses.
pub(super) struct Renewals {
    /// When the pause of each key ends.
    shards: Box<[Mutex<HashMap<u64, u64>>]>,
    hasher: RandomState,
}

impl Renewals {
    pub(super) fn new() -> Self {
        let shards = std::iter::repeat_with(Mutex::default).take(SHARDS).collect();
        Self { shards, hasher: RandomState::new() }
    }

    /// Begins the pause of a key; `false` if one has not ended yet.
    pub(super) fn begin(&self, key: &str, pause: Duration) -> bool {
        let hash = self.hasher.hash_one(key);
        let now = clock::now_us();
        let mut pauses = lock(&self.shards[hash as usize % SHARDS]);
        if pauses.get(&hash).is_some_and(|end| *end > now) {
            return false;
        }
        if pauses.len() >= MOST {
            pauses.retain(|_, end| *end > now);
            if pauses.len() > MOST / 2 {
                pauses.clear();
            }
        }
        pauses.insert(hash, now.saturating_add(clock::micros(pause)));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3_600);

    #[test]
    fn a_key_pauses_alone() {
        let renewals = Renewals::new();
        assert!(renewals.begin("a", LONG) && renewals.begin("b", LONG));
        assert!(!renewals.begin("a", LONG));
        assert!(renewals.begin("c", Duration::ZERO) && renewals.begin("c", LONG), "it was over");
    }

    #[test]
    fn however_many_keys_are_hit_memory_is_bounded() {
        let renewals = Renewals::new();
        for number in 0..2 * MOST * SHARDS {
            assert!(renewals.begin(&number.to_string(), LONG));
        }
        assert!(renewals.shards.iter().all(|pauses| lock(pauses).len() <= MOST));
    }
}
