//! Until when the records of tags live, as far as this process knows.
//!
//! A record lives as long as the entries with its tag, so a write with a longer life prolongs it.
//! What is known here spares a write the question. The time that stands in a record is that of its
//! first writer.

use crate::clock;
use crate::codec::Tag;
use crate::expiry::Lifetime;
use crate::runtime::lock;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;

const SHARDS: usize = 64;

/// The most records per shard. Above the limit those that have ended are forgotten, or else all; a
/// write then asks once too often.
const MOST: usize = 4_096;

/// A record that never expires.
const NEVER: u64 = u64::MAX;

/// When a record with this life ends, in microseconds since 1970.
pub(super) fn end_of(life: Lifetime) -> u64 {
    match life {
        Lifetime::Never => NEVER,
        Lifetime::For(lasting) => clock::now_us().saturating_add(clock::micros(lasting)),
    }
}

/// The same from a record's own header, in milliseconds; 0 means never.
pub(super) fn end_of_header(ms: u64) -> u64 {
    if ms == 0 { NEVER } else { ms.saturating_mul(1_000) }
}

/// When each record ends, by the hash of its key and generation: the record that another caller
/// makes after a removal is another one.
pub(in crate::wrapper) struct RecordEnds {
    shards: Box<[Mutex<HashMap<u64, u64>>]>,
    hasher: RandomState,
}

impl RecordEnds {
    pub(super) fn new() -> Self {
        let shards = std::iter::repeat_with(Mutex::default).take(SHARDS).collect();
        Self { shards, hasher: RandomState::new() }
    }

    /// Whether a record is known to live until then.
    pub(super) fn reaches(&self, tag: &Tag, until: u64) -> bool {
        let hash = self.hash(tag);
        lock(self.shard(hash)).get(&hash).is_some_and(|end| *end >= until)
    }

    /// Notes that a record lives at least until then.
    pub(super) fn note(&self, tag: &Tag, end: u64) {
        let hash = self.hash(tag);
        let mut ends = lock(self.shard(hash));
        if ends.len() >= MOST {
            let now = clock::now_us();
            ends.retain(|_, end| *end > now);
            if ends.len() > MOST / 2 {
                ends.clear();
            }
        }
        let known = ends.entry(hash).or_default();
        *known = end.max(*known);
    }

    fn hash(&self, Tag { record, generation }: &Tag) -> u64 {
        self.hasher.hash_one((record, generation))
    }

    fn shard(&self, hash: u64) -> &Mutex<HashMap<u64, u64>> {
        &self.shards[hash as usize % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(name: &str, generation: u64) -> Tag {
        Tag { record: name.into(), generation }
    }

    #[test]
    fn the_latest_end_of_a_record_counts_and_no_other_records() {
        let (ends, now) = (RecordEnds::new(), clock::now_us());
        ends.note(&tag("a", 1), now + 10);
        ends.note(&tag("a", 1), now + 5);
        assert!(ends.reaches(&tag("a", 1), now + 10) && !ends.reaches(&tag("a", 1), now + 11));
        assert!(!ends.reaches(&tag("a", 2), now) && !ends.reaches(&tag("b", 1), now));
        ends.note(&tag("a", 2), end_of(Lifetime::Never));
        assert!(ends.reaches(&tag("a", 2), end_of_header(0)));
    }

    #[test]
    fn however_many_records_are_seen_memory_is_bounded() {
        let ends = RecordEnds::new();
        for number in 0..2 * (MOST * SHARDS) as u64 {
            ends.note(&tag("a", number), NEVER);
        }
        assert!(ends.shards.iter().all(|ends| lock(ends).len() <= MOST));
    }
}
