//! A shard: a part of the map, with its own queues.
//!
//! S3-FIFO (Yang, Zhang, Qiu, Yue, Rashmi: "FIFO queues are all you need for cache eviction", SOSP
//! 2023). A new entry is put into the small queue. At the end of the small queue, an entry that was
//! read since moves to the main queue; any other entry is evicted, and only its fingerprint is
//! remembered. A key that is stored again soon after its eviction is put into the main queue at
//! once. At the end of the main queue, an entry that was read since is put at the beginning again.
//! So entries that are read once, for example by a scan, use a tenth of the memory and do not
//! displace the others.

use super::budget::{Room, Size};
use super::ghosts::Ghosts;
use super::queue::{NIL, Node, Queue, Slab, Stage};
use super::{Displaced, Entry, Gone, Hash};
use crate::sync::atomic::Ordering;
use compact_str::CompactString;
use foldhash::quality::RandomState;
use hashbrown::HashTable;
use std::ops::Range;

/// The small queue has one part in this number of the weight.
const SMALL: u64 = 10;

/// More reads of an entry are not counted.
const MOST_USES: u8 = 3;

#[derive(Debug)]
pub(super) struct Shard {
    table: HashTable<u32>,
    slab: Slab,
    small: Queue,
    main: Queue,
    ghosts: Ghosts,
    hasher: RandomState,
}

#[cfg(not(shuttle))]
const _: () = assert!(size_of::<Option<Node>>() == 64, "a node is one cache line");

/// Whether two keys are equal. Short keys are compared here: a call of `memcmp` takes 8 of the 75
/// ns of a `get_or_set` hit.
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
    pub(super) fn new(hasher: RandomState) -> Self {
        Self {
            table: HashTable::new(),
            slab: Slab::default(),
            small: Queue::default(),
            main: Queue::default(),
            ghosts: Ghosts::default(),
            hasher,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn size(&self) -> Size {
        Size { entries: self.table.len() as u64, bytes: self.small.weight + self.main.weight }
    }

    #[inline]
    pub(super) fn look(&self, key: &str, hash: Hash, counts_as_use: bool) -> Option<&Node> {
        let node = self.slab.get(self.find(key, hash))?;
        if counts_as_use {
            node.count_use();
        }
        Some(node)
    }

    /// The number of a key's node, or [`NIL`].
    #[inline]
    fn find(&self, key: &str, hash: Hash) -> u32 {
        let is_it = |at: &u32| {
            self.slab.get(*at).is_some_and(|node| same(node.key.as_bytes(), key.as_bytes()))
        };
        self.table.find(hash.spread(), is_it).copied().unwrap_or(NIL)
    }

    /// Stores an entry. Returns the entry if there is no room and nothing to evict in this shard.
    pub(super) fn insert(
        &mut self,
        key: &str,
        hash: Hash,
        entry: Entry,
        room: &mut Room<'_>,
        displaced: &mut Displaced,
    ) -> Result<(), Entry> {
        let at = self.find(key, hash);
        if at != NIL {
            return self.replace_at(at, entry, room, displaced);
        }
        let size = Size::of(entry.weight);
        if !self.make_room(size, room, displaced) {
            return Err(entry);
        }
        let key = CompactString::new(key);
        let stage =
            if self.ghosts.take(hash.tag(), self.table.len()) { Stage::Main } else { Stage::Small };
        let at = self.slab.add(Node::new(key, entry, stage));
        room.spend(size);
        let Self { table, slab, hasher, .. } = self;
        table.insert_unique(hash.spread(), at, |at| {
            slab.get(*at).map_or(0, |node| Hash::of(&node.key, hasher).spread())
        });
        self.push(at, stage);
        Ok(())
    }

    /// [`insert`](Self::insert) if the key exists; if not, the new entry is displaced.
    pub(super) fn replace(
        &mut self,
        key: &str,
        hash: Hash,
        entry: Entry,
        room: &mut Room<'_>,
        displaced: &mut Displaced,
    ) -> Result<bool, Entry> {
        let at = self.find(key, hash);
        if at == NIL {
            displaced.push(Gone::replaced(entry));
            return Ok(false);
        }
        self.replace_at(at, entry, room, displaced).map(|()| true)
    }

    fn replace_at(
        &mut self,
        at: u32,
        entry: Entry,
        room: &mut Room<'_>,
        displaced: &mut Displaced,
    ) -> Result<(), Entry> {
        let Some(node) = self.slab.get_mut(at) else { return Err(entry) };
        node.count_use();
        let (stage, before, after) = (node.stage, node.weight, entry.weight);
        if before == after {
            displaced.push(Gone::replaced(node.replace(entry)));
            return Ok(());
        }
        // Take the old node out of its queue, so that it is not evicted while room is made for its
        // replacement.
        self.unlink(at, stage);
        let more = Size { entries: 0, bytes: after.saturating_sub(before).into() };
        let fits = self.make_room(more, room, displaced);
        let stored = match self.slab.get_mut(at) {
            Some(node) if fits => {
                displaced.push(Gone::replaced(node.replace(entry)));
                room.spend(more);
                room.add(Size { entries: 0, bytes: before.saturating_sub(after).into() });
                Ok(())
            }
            _ => Err(entry),
        };
        self.push(at, stage);
        stored
    }

    pub(super) fn remove(&mut self, key: &str, hash: Hash) -> Option<Gone> {
        let at = self.find(key, hash);
        let stage = self.slab.get(at)?.stage;
        self.unlink(at, stage);
        self.take_out(at, hash, false)
    }

    /// Shows the nodes in a range of numbers. Returns whether there are nodes after the range.
    pub(super) fn walk(&self, range: Range<usize>, look: impl FnMut(&Node)) -> bool {
        let end = self.slab.end();
        let numbers = range.start..range.end.min(end);
        numbers.filter_map(|at| self.slab.get(at as u32)).for_each(look);
        range.end < end
    }

    /// Checks the nodes in a range of numbers. Returns whether there are nodes after the range.
    pub(super) fn retain(
        &mut self,
        range: Range<usize>,
        keep: impl Fn(&mut Node) -> bool,
        removed: &mut Vec<Gone>,
    ) -> bool {
        let end = self.slab.end();
        for at in range.start..range.end.min(end) {
            let at = at as u32;
            let Some(node) = self.slab.get_mut(at) else { continue };
            if keep(node) {
                continue;
            }
            let (hash, stage) = (Hash::of(&node.key, &self.hasher), node.stage);
            self.unlink(at, stage);
            removed.extend(self.take_out(at, hash, false));
        }
        if self.table.is_empty() {
            self.table = HashTable::new();
        }
        range.end < end
    }

    /// Evicts until there is room for `wanted`, or nothing to evict. Returns whether there is room.
    fn make_room(&mut self, wanted: Size, room: &mut Room<'_>, displaced: &mut Displaced) -> bool {
        while !room.reaches(wanted) {
            let Some(gone) = self.evict() else { return false };
            room.add(Size::of(gone.entry.weight));
            displaced.push(gone);
        }
        true
    }

    /// Evicts one entry by S3-FIFO.
    pub(super) fn evict(&mut self) -> Option<Gone> {
        loop {
            let all = self.small.weight + self.main.weight;
            let from_small = self.small.weight > all / SMALL || self.main.oldest() == NIL;
            let stage = if from_small { Stage::Small } else { Stage::Main };
            let at = self.queue(stage).oldest();
            let node = self.slab.get_mut(at)?;
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
            return self.take_out(at, hash, true);
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
        // An entry that is read often is not written to any more, so its cache line stays shared
        // among the cores. A lost count does not matter.
        if uses < MOST_USES {
            self.uses.store(uses + 1, Ordering::Relaxed);
        }
    }
}
