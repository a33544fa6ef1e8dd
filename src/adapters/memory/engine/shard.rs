//! A part of the map, with its own queues.
//!
//! S3-FIFO (Yang, Zhang, Qiu, Yue, Rashmi: "FIFO queues are all you need for cache eviction", SOSP 2023). New entries go into a small
//! queue. Those that were read by the time they reach its end move to the main queue, the others go, and only their fingerprint is
//! remembered: if they come back soon, they go to the main queue at once. The main queue gives those that were read another round.
//! So what is asked for once, a scan for instance, passes through a tenth of the memory and leaves the rest alone.

use super::ghosts::Ghosts;
use super::queue::{NIL, Node, Queue, Slab, Stage};
use super::{Displaced, Entry, Gone};
use hashbrown::HashTable;
use std::mem;
use std::ops::Range;
use std::sync::atomic::Ordering;

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
}

const _: () = assert!(mem::size_of::<Option<Node>>() == 64, "a node is one cache line");

/// The table wants its bits at both ends, and the tag is as many as it needs.
fn spread(tag: u32) -> u64 {
    u64::from(tag).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

impl Shard {
    pub(super) fn new(capacity: u64) -> Self {
        Self {
            table: HashTable::new(),
            slab: Slab::default(),
            small: Queue::default(),
            main: Queue::default(),
            ghosts: Ghosts::default(),
            capacity,
        }
    }

    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    #[inline]
    pub(super) fn look(&self, key: &str, tag: u32, counts_as_use: bool) -> Option<&Entry> {
        let node = self.slab.get(self.find(key, tag))?;
        if counts_as_use {
            node.count_use();
        }
        Some(&node.entry)
    }

    /// The number of a key's node; [`NIL`] is no node's.
    #[inline]
    fn find(&self, key: &str, tag: u32) -> u32 {
        let is_it = |at: &u32| self.slab.get(*at).is_some_and(|node| node.tag == tag && *node.key == *key);
        self.table.find(spread(tag), is_it).copied().unwrap_or(NIL)
    }

    pub(super) fn insert(&mut self, key: &str, tag: u32, entry: Entry, displaced: &mut Displaced) {
        let at = self.find(key, tag);
        if at != NIL {
            return self.replace(at, entry, displaced);
        }
        let key: Box<str> = key.into();
        self.make_room(entry.weight, displaced);
        let stage = if self.ghosts.take(tag, self.table.len()) { Stage::Main } else { Stage::Small };
        let at = self.slab.add(Node::new(key, tag, entry, stage));
        let Self { table, slab, .. } = self;
        table.insert_unique(spread(tag), at, |at| slab.get(*at).map_or(0, |node| spread(node.tag)));
        self.push(at, stage);
    }

    fn replace(&mut self, at: u32, entry: Entry, displaced: &mut Displaced) {
        let Some(node) = self.slab.get_mut(at) else { return };
        node.count_use();
        let (stage, older) = (node.stage, node.entry.weight);
        if entry.weight == older {
            let old = mem::replace(&mut node.entry, entry);
            return displaced.push(Gone { key: Box::default(), entry: old, evicted: false });
        }
        // Out of its queue it is not evicted while room is made for it.
        self.unlink(at, stage);
        self.make_room(entry.weight, displaced);
        if let Some(node) = self.slab.get_mut(at) {
            let old = mem::replace(&mut node.entry, entry);
            displaced.push(Gone { key: Box::default(), entry: old, evicted: false });
        }
        self.push(at, stage);
    }

    pub(super) fn remove(&mut self, key: &str, tag: u32) -> Option<Gone> {
        let at = self.find(key, tag);
        let stage = self.slab.get(at)?.stage;
        self.unlink(at, stage);
        self.take_out(at, false)
    }

    /// Looks at the nodes of a range of numbers. Whether there are more behind it.
    pub(super) fn retain(&mut self, range: Range<usize>, keep: impl Fn(&str, &Entry) -> bool, removed: &mut Vec<Gone>) -> bool {
        let end = self.slab.end();
        for at in range.start..range.end.min(end) {
            let at = at as u32;
            let Some(stage) = self.slab.get(at).filter(|node| !keep(&node.key, &node.entry)).map(|node| node.stage) else { continue };
            self.unlink(at, stage);
            removed.extend(self.take_out(at, false));
        }
        if self.table.is_empty() {
            self.table = HashTable::new();
        }
        range.end < end
    }

    /// Evicts until an entry of `weight` fits, as it does at the latest when nothing is left.
    fn make_room(&mut self, weight: u64, displaced: &mut Displaced) {
        while self.small.weight + self.main.weight + weight > self.capacity {
            let from_small = self.small.weight > self.capacity / SMALL || self.main.oldest() == NIL;
            let stage = if from_small { Stage::Small } else { Stage::Main };
            let at = self.queue(stage).oldest();
            let Some(node) = self.slab.get_mut(at) else { return };
            let (uses, tag) = (*node.uses.get_mut(), node.tag);
            if uses > 0 {
                *node.uses.get_mut() = if from_small { 0 } else { uses - 1 };
                node.stage = Stage::Main;
                self.unlink(at, stage);
                self.push(at, Stage::Main);
                continue;
            }
            if from_small {
                self.ghosts.add(tag, self.table.len());
            }
            self.unlink(at, stage);
            if let Some(gone) = self.take_out(at, true) {
                displaced.push(gone);
            }
        }
    }

    /// Takes a node that is in no queue out of the table and the slab.
    fn take_out(&mut self, at: u32, evicted: bool) -> Option<Gone> {
        let tag = self.slab.get(at)?.tag;
        if let Ok(found) = self.table.find_entry(spread(tag), |other| *other == at) {
            found.remove();
        }
        let node = self.slab.remove(at)?;
        Some(Gone { key: node.key, entry: node.entry, evicted })
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
