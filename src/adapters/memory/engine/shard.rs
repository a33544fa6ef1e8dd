//! A part of the map, with its own queues.
//!
//! S3-FIFO (Yang, Zhang, Qiu, Yue, Rashmi: "FIFO queues are all you need for cache eviction", SOSP 2023). New entries go into a small
//! queue. Those that were read by the time they reach its end move to the main queue, the others go, and only their fingerprint is
//! remembered: if they come back soon, they go to the main queue at once. The main queue gives those that were read another round.
//! So what is asked for once, a scan for instance, passes through a tenth of the memory and leaves the rest alone.

use super::ghosts::Ghosts;
use super::queue::{NIL, Node, Queue, Slab, Stage};
use super::{Displaced, Entry, Gone, Hash};
use crate::sync::atomic::Ordering;
use compact_str::CompactString;
use foldhash::quality::RandomState;
use hashbrown::HashTable;
use std::ops::Range;

/// The small queue's part of the weight: one in so many.
const SMALL: u64 = 10;

/// Reads beyond so many are not counted.
const MOST_USES: u8 = 3;

#[derive(Debug)]
pub(super) struct Shard {
    table: HashTable<u32>,
    slab: Slab,
    small: Queue,
    main: Queue,
    ghosts: Ghosts,
    capacity: u64,
    hasher: RandomState,
}

#[cfg(not(shuttle))]
const _: () = assert!(size_of::<Option<Node>>() == 64, "a node is one cache line");

/// Whether two keys are the same. Short ones are compared here: a call of `memcmp` costs a `get_or_set` hit 8 ns of 75.
#[inline]
fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    match (a.first_chunk(), b.first_chunk(), a.last_chunk(), b.last_chunk()) {
        (Some(a_first), Some(b_first), Some(a_last), Some(b_last)) if a.len() <= 16 => {
            u64::from_ne_bytes(*a_first) == u64::from_ne_bytes(*b_first)
                && u64::from_ne_bytes(*a_last) == u64::from_ne_bytes(*b_last)
        }
        _ => a == b,
    }
}

impl Shard {
    pub(super) fn new(capacity: u64, hasher: RandomState) -> Self {
        Self {
            table: HashTable::new(),
            slab: Slab::default(),
            small: Queue::default(),
            main: Queue::default(),
            ghosts: Ghosts::default(),
            capacity,
            hasher,
        }
    }

    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    #[inline]
    pub(super) fn look(&self, key: &str, hash: Hash, counts_as_use: bool) -> Option<&Node> {
        let node = self.slab.get(self.find(key, hash))?;
        if counts_as_use {
            node.count_use();
        }
        Some(node)
    }

    /// The number of a key's node; [`NIL`] is no node's.
    #[inline]
    fn find(&self, key: &str, hash: Hash) -> u32 {
        let is_it = |at: &u32| {
            self.slab.get(*at).is_some_and(|node| same(node.key.as_bytes(), key.as_bytes()))
        };
        self.table.find(hash.spread(), is_it).copied().unwrap_or(NIL)
    }

    pub(super) fn insert(
        &mut self,
        key: &str,
        hash: Hash,
        entry: Entry,
        displaced: &mut Displaced,
    ) {
        let at = self.find(key, hash);
        if at != NIL {
            return self.replace_at(at, entry, displaced);
        }
        let key = CompactString::new(key);
        self.make_room(entry.weight, displaced);
        let stage =
            if self.ghosts.take(hash.tag(), self.table.len()) { Stage::Main } else { Stage::Small };
        let at = self.slab.add(Node::new(key, entry, stage));
        let Self { table, slab, hasher, .. } = self;
        table.insert_unique(hash.spread(), at, |at| {
            slab.get(*at).map_or(0, |node| Hash::of(&node.key, hasher).spread())
        });
        self.push(at, stage);
    }

    pub(super) fn replace(
        &mut self,
        key: &str,
        hash: Hash,
        entry: Entry,
        displaced: &mut Displaced,
    ) -> bool {
        let at = self.find(key, hash);
        if at == NIL {
            displaced.push(Gone::replaced(entry));
            return false;
        }
        self.replace_at(at, entry, displaced);
        true
    }

    fn replace_at(&mut self, at: u32, entry: Entry, displaced: &mut Displaced) {
        let Some(node) = self.slab.get_mut(at) else { return };
        node.count_use();
        let stage = node.stage;
        if entry.weight == node.weight {
            return displaced.push(Gone::replaced(node.replace(entry)));
        }
        // Out of its queue it is not evicted while room is made for it.
        self.unlink(at, stage);
        self.make_room(entry.weight, displaced);
        if let Some(node) = self.slab.get_mut(at) {
            displaced.push(Gone::replaced(node.replace(entry)));
        }
        self.push(at, stage);
    }

    pub(super) fn remove(&mut self, key: &str, hash: Hash) -> Option<Gone> {
        let at = self.find(key, hash);
        let stage = self.slab.get(at)?.stage;
        self.unlink(at, stage);
        self.take_out(at, hash, false)
    }

    /// Looks at the nodes of a range of numbers. Whether there are more behind it.
    pub(super) fn retain(
        &mut self,
        range: Range<usize>,
        keep: impl Fn(&Node) -> bool,
        removed: &mut Vec<Gone>,
    ) -> bool {
        let end = self.slab.end();
        for at in range.start..range.end.min(end) {
            let at = at as u32;
            let Some(node) = self.slab.get(at).filter(|node| !keep(node)) else { continue };
            let (hash, stage) = (Hash::of(&node.key, &self.hasher), node.stage);
            self.unlink(at, stage);
            removed.extend(self.take_out(at, hash, false));
        }
        if self.table.is_empty() {
            self.table = HashTable::new();
        }
        range.end < end
    }

    /// Evicts until an entry of `weight` fits, as it does at the latest when nothing is left.
    fn make_room(&mut self, weight: u32, displaced: &mut Displaced) {
        while self.small.weight + self.main.weight + u64::from(weight) > self.capacity {
            let from_small = self.small.weight > self.capacity / SMALL || self.main.oldest() == NIL;
            let stage = if from_small { Stage::Small } else { Stage::Main };
            let at = self.queue(stage).oldest();
            let Some(node) = self.slab.get_mut(at) else { return };
            let uses = *node.uses.get_mut();
            if uses > 0 {
                *node.uses.get_mut() = if from_small { 0 } else { uses - 1 };
                node.stage = Stage::Main;
                self.unlink(at, stage);
                self.push(at, Stage::Main);
                continue;
            }
            let hash = Hash::of(&node.key, &self.hasher);
            if from_small {
                self.ghosts.add(hash.tag(), self.table.len());
            }
            self.unlink(at, stage);
            if let Some(gone) = self.take_out(at, hash, true) {
                displaced.push(gone);
            }
        }
    }

    /// Takes a node that is in no queue out of the table and the slab.
    fn take_out(&mut self, at: u32, hash: Hash, evicted: bool) -> Option<Gone> {
        if let Ok(found) = self.table.find_entry(hash.spread(), |other| *other == at) {
            found.remove();
        }
        Some(self.slab.remove(at)?.into_gone(evicted))
    }

    fn queue(&mut self, stage: Stage) -> &mut Queue {
        match stage {
            Stage::Small => &mut self.small,
            Stage::Main => &mut self.main,
        }
    }

    fn push(&mut self, at: u32, stage: Stage) {
        let Self { slab, small, main, .. } = self;
        let queue = if stage == Stage::Small { small } else { main };
        queue.push(slab, at);
    }

    fn unlink(&mut self, at: u32, stage: Stage) {
        let Self { slab, small, main, .. } = self;
        let queue = if stage == Stage::Small { small } else { main };
        queue.unlink(slab, at);
    }
}

impl Node {
    fn count_use(&self) {
        let uses = self.uses.load(Ordering::Relaxed);
        // What is read often is not written to: its cache line stays shared among the cores. A count that is lost does not matter.
        if uses < MOST_USES {
            self.uses.store(uses + 1, Ordering::Relaxed);
        }
    }
}
