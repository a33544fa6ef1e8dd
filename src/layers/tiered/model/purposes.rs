//! What reads are for: a caller, an entry that is judged by its tags, or a load.

use super::history::{Content, Tag};

/// What a read is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum For {
    /// A caller that wants the value.
    Caller,
    /// An entry with tags: this is the record of one of them.
    Entry(EntryRead),
    /// A load, whose value will bear the generation in this record.
    Load(Load),
}

/// An entry that was read, and is judged by its records one by one.
#[derive(Clone, Copy, Debug)]
pub(super) struct EntryRead {
    pub(super) key: usize,
    pub(super) content: Content,
    pub(super) begun: u64,
    pub(super) is_far: bool,
    /// How many of its records are as they were.
    pub(super) judged: usize,
}

/// A load whose value will bear tags.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) key: usize,
    pub(super) life: Option<u64>,
    pub(super) tags: [Option<Tag>; 2],
    /// How many generations are known.
    pub(super) known: usize,
    pub(super) from: u64,
}

impl Load {
    /// The tag whose generation is not known yet.
    pub(super) fn next(&self) -> Option<Tag> {
        self.tags.get(self.known).copied().flatten()
    }

    pub(super) fn learn(mut self, generation: u64) -> Self {
        if let Some(Some(tag)) = self.tags.get_mut(self.known) {
            tag.generation = generation;
            self.known += 1;
        }
        self
    }
}
