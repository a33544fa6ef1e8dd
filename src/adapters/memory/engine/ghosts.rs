//! The fingerprints of the keys that were evicted recently (the ghost queue of S3-FIFO).

/// The slots of a bucket. A search checks all of them.
const BUCKET: usize = 4;

/// A slot holds a fingerprint and the number of the eviction that wrote it. A new fingerprint
/// overwrites the oldest slot of its bucket, and a fingerprint that is too many evictions old
/// counts as forgotten. So this works as a queue, but needs neither order nor removal.
#[derive(Debug, Default)]
pub(super) struct Ghosts {
    slots: Box<[Ghost]>,
    /// The number of the latest eviction. It starts at 1, because 0 marks a slot that was never
    /// written.
    evictions: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Ghost {
    tag: u32,
    eviction: u32,
}

impl Ghosts {
    /// Records an eviction. `entries` is the number of entries in the shard, and of the evictions
    /// that are remembered.
    pub(super) fn add(&mut self, tag: u32, entries: usize) {
        if self.slots.len() < entries {
            self.grow(entries);
        }
        self.evictions = match self.evictions.checked_add(1) {
            Some(next) => next,
            None => {
                self.slots.fill(Ghost::default());
                1
            }
        };
        self.put(Ghost { tag, eviction: self.evictions });
    }

    /// Whether `tag` is among the latest `entries` evictions. If so, it is forgotten.
    pub(super) fn take(&mut self, tag: u32, entries: usize) -> bool {
        let since = self.evictions.saturating_sub(u32::try_from(entries).unwrap_or(u32::MAX));
        let found =
            self.bucket(tag).iter_mut().find(|ghost| ghost.eviction > since && ghost.tag == tag);
        found.map(|ghost| *ghost = Ghost::default()).is_some()
    }

    fn put(&mut self, new: Ghost) {
        if let Some(oldest) = self.bucket(new.tag).iter_mut().min_by_key(|ghost| ghost.eviction) {
            *oldest = new;
        }
    }

    fn bucket(&mut self, tag: u32) -> &mut [Ghost] {
        let buckets = self.slots.len() / BUCKET;
        if buckets == 0 {
            return &mut [];
        }
        // The table uses the low bits of the same number.
        let at = (tag.wrapping_mul(0x9E37_79B1) >> 7) as usize % buckets * BUCKET;
        &mut self.slots[at..at + BUCKET]
    }

    fn grow(&mut self, entries: usize) {
        let slots = entries.next_power_of_two().max(BUCKET * 4);
        let old = std::mem::replace(&mut self.slots, vec![Ghost::default(); slots].into());
        old.into_iter().filter(|ghost| ghost.eviction > 0).for_each(|ghost| self.put(ghost));
    }
}
