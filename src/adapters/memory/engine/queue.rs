//! A slab of nodes, and first-in-first-out queues threaded through it.

use super::{Entry, Gone};
use crate::sync::atomic::AtomicU8;
use crate::value::CacheValue;
use compact_str::CompactString;
use std::mem;

/// The number that is no node's.
pub(super) const NIL: u32 = u32::MAX;

/// Which queue a node is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Small,
    Main,
}

/// An entry in the slab: one cache line. It contains keys of up to 24 bytes.
#[derive(Debug)]
#[repr(align(64))]
pub(in super::super) struct Node {
    pub(in super::super) key: CompactString,
    pub(in super::super) value: CacheValue,
    pub(in super::super) deadline: u64,
    pub(in super::super) weight: u32,
    newer: u32,
    older: u32,
    pub(in super::super) source: u16,
    pub(super) stage: Stage,
    /// How often the entry was read, up to a small maximum.
    pub(super) uses: AtomicU8,
}

impl Node {
    pub(super) fn new(
        key: CompactString,
        Entry { value, deadline, weight, source }: Entry,
        stage: Stage,
    ) -> Self {
        let uses = AtomicU8::new(0);
        Self { key, value, deadline, weight, newer: NIL, older: NIL, source, stage, uses }
    }

    /// Replaces the entry, and returns the old one.
    pub(super) fn replace(&mut self, entry: Entry) -> Entry {
        Entry {
            value: mem::replace(&mut self.value, entry.value),
            deadline: mem::replace(&mut self.deadline, entry.deadline),
            weight: mem::replace(&mut self.weight, entry.weight),
            source: mem::replace(&mut self.source, entry.source),
        }
    }

    pub(super) fn into_gone(self, evicted: bool) -> Gone {
        let Self { key, value, deadline, weight, source, .. } = self;
        Gone { key, entry: Entry { value, deadline, weight, source }, evicted }
    }
}

/// A slab has room for as many nodes at first.
const FIRST: usize = 16;

/// Nodes by number. The numbers of removed nodes are used again.
#[derive(Debug, Default)]
pub(super) struct Slab {
    nodes: Vec<Option<Node>>,
    free: Vec<u32>,
}

impl Slab {
    #[inline]
    pub(super) fn get(&self, at: u32) -> Option<&Node> {
        self.nodes.get(at as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, at: u32) -> Option<&mut Node> {
        self.nodes.get_mut(at as usize)?.as_mut()
    }

    pub(super) fn add(&mut self, node: Node) -> u32 {
        if let Some(at) = self.free.pop() {
            self.nodes[at as usize] = Some(node);
            return at;
        }
        if self.nodes.len() == self.nodes.capacity() {
            // Grow by a quarter: doubling would leave a third of the memory unused on average.
            self.nodes.reserve_exact((self.nodes.len() / 4).max(FIRST));
        }
        self.nodes.push(Some(node));
        // The number fits 32 bits: four billion entries weigh more than a shard may hold.
        (self.nodes.len() - 1) as u32
    }

    pub(super) fn remove(&mut self, at: u32) -> Option<Node> {
        let node = self.nodes.get_mut(at as usize)?.take()?;
        if self.nodes.len() == self.free.len() + 1 && self.nodes.capacity() > FIRST {
            // This was the last node: free the memory to which a burst has grown the slab. A slab
            // that has not grown keeps its memory: one node may come and go all the time.
            *self = Self::default();
        } else {
            self.free.push(at);
        }
        Some(node)
    }

    /// One past the highest number.
    pub(super) fn end(&self) -> usize {
        self.nodes.len()
    }
}

/// A queue, and the weight of all its nodes.
#[derive(Debug)]
pub(super) struct Queue {
    newest: u32,
    oldest: u32,
    pub(super) weight: u64,
}

impl Default for Queue {
    fn default() -> Self {
        Self { newest: NIL, oldest: NIL, weight: 0 }
    }
}

impl Queue {
    pub(super) fn oldest(&self) -> u32 {
        self.oldest
    }

    pub(super) fn push(&mut self, slab: &mut Slab, at: u32) {
        let Some(node) = slab.get_mut(at) else { return };
        (node.newer, node.older) = (NIL, self.newest);
        self.weight += u64::from(node.weight);
        match slab.get_mut(self.newest) {
            Some(before) => before.newer = at,
            None => self.oldest = at,
        }
        self.newest = at;
    }

    pub(super) fn unlink(&mut self, slab: &mut Slab, at: u32) {
        let Some(node) = slab.get(at) else { return };
        let (newer, older) = (node.newer, node.older);
        self.weight -= u64::from(node.weight);
        match slab.get_mut(newer) {
            Some(node) => node.older = older,
            None => self.newest = older,
        }
        match slab.get_mut(older) {
            Some(node) => node.newer = newer,
            None => self.oldest = newer,
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    fn add(slab: &mut Slab) -> u32 {
        let entry = Entry::new(CacheValue::new(1u8), 0, 1);
        slab.add(Node::new(CompactString::default(), entry, Stage::Small))
    }

    #[test]
    fn a_node_that_comes_and_goes_has_room_and_a_burst_gives_its_room_back() {
        let mut slab = Slab::default();
        for _ in 0..3 {
            let at = add(&mut slab);
            assert!(slab.remove(at).is_some());
            assert_eq!(slab.nodes.capacity(), FIRST);
        }
        let many: Vec<u32> = (0..=FIRST).map(|_| add(&mut slab)).collect();
        assert!(slab.nodes.capacity() > FIRST);
        many.into_iter().for_each(|at| assert!(slab.remove(at).is_some()));
        assert_eq!((slab.nodes.capacity(), slab.end()), (0, 0));
    }
}
