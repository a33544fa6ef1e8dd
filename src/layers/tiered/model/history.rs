//! What was written when, and whether a read may return what it returned.

use super::settings::{BOUND, Invariant, STALE_FOR};

const NEVER: u64 = u64::MAX;

/// A tag of an entry: the key of its record, and the generation that the entry bears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) record: usize,
    pub(super) generation: u64,
}

/// What is under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Nothing,
    Value {
        tags: [Option<Tag>; 2],
        /// When the load began whose value this is.
        loaded_from: u64,
    },
    /// The record of a tag, with its generation.
    Record(u64),
}

impl Content {
    /// A value without tags.
    pub(super) const PLAIN: Self = Self::Value { tags: [None; 2], loaded_from: 0 };
}

/// One state of a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct State {
    pub(super) content: Content,
    /// When the value expires; [`NEVER`] if it does not.
    pub(super) deadline: u64,
    pub(super) created: u64,
    /// When the first write returned, or failover ended, that came after this state.
    superseded: u64,
    /// Whether a failover has lost the write that made this state.
    is_lost: bool,
}

impl State {
    fn new(content: Content, deadline: u64, created: u64) -> Self {
        Self { content, deadline, created, superseded: NEVER, is_lost: false }
    }

    pub(super) fn is_value(&self) -> bool {
        self.content != Content::Nothing
    }
}

/// The removal of a tag, which has returned.
#[derive(Clone, Copy, Debug)]
struct Removal {
    /// The state of the record that it made.
    state: u32,
    returned: u64,
    /// The process that removed it: its node, and the life of the node.
    by: (usize, u32),
}

/// What a read must not be older than.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Floor {
    /// The newest state that a write of the process has made, and returned.
    pub(super) written: u32,
    /// The newest state that a read of the process has returned.
    pub(super) read: u32,
}

/// The states of all keys, in the order of the store.
#[derive(Debug)]
pub(super) struct History {
    keys: Vec<Vec<State>>,
    /// By the key of the record.
    removals: Vec<Vec<Removal>>,
}

impl History {
    /// Keys with a value, and behind them the records of tags, which are missing at first.
    pub(super) fn new(keys: usize, tags: usize) -> Self {
        let first = |content| vec![State::new(content, NEVER, 0)];
        let mut all = vec![first(Content::PLAIN); keys];
        all.resize(keys + tags, first(Content::Nothing));
        Self { keys: all, removals: vec![Vec::new(); keys + tags] }
    }

    /// The number of the present state of a key.
    pub(super) fn present(&self, key: usize) -> u32 {
        self.keys[key].len() as u32 - 1
    }

    pub(super) fn state(&self, key: usize, number: u32) -> State {
        self.keys[key][number as usize]
    }

    /// A new state of a key. Returns its number.
    pub(super) fn change(&mut self, key: usize, content: Content, deadline: u64, now: u64) -> u32 {
        self.keys[key].push(State::new(content, deadline, now));
        self.present(key)
    }

    /// The removal of a tag has returned.
    pub(super) fn removed(&mut self, record: usize, state: u32, returned: u64, by: (usize, u32)) {
        self.removals[record].push(Removal { state, returned, by });
    }

    /// The write that made this state has returned.
    pub(super) fn returned(&mut self, key: usize, number: u32, now: u64) {
        for state in self.keys[key][..number as usize].iter_mut().rev() {
            if state.superseded <= now {
                break;
            }
            state.superseded = now;
        }
    }

    /// A failover loses what was written since `since`. What was there before is there again, as a
    /// new state. Returns the keys that were changed.
    pub(super) fn fall_back(&mut self, since: u64, now: u64) -> Vec<usize> {
        let mut changed = Vec::new();
        for key in 0..self.keys.len() {
            let states = &self.keys[key];
            let Some(before) = states.iter().rposition(|state| state.created <= since) else {
                continue;
            };
            if before + 1 == states.len() {
                continue;
            }
            let State { content, deadline, .. } = states[before];
            self.keys[key][before + 1..].iter_mut().for_each(|state| state.is_lost = true);
            let number = self.change(key, content, deadline, now);
            self.returned(key, number, now);
            changed.push(key);
        }
        changed
    }

    /// How long ago the state was superseded when a read began; `None` if it was not.
    pub(super) fn age(&self, key: usize, number: u32, begun: u64) -> Option<u64> {
        begun.checked_sub(self.state(key, number).superseded)
    }

    /// The invariants that a read breaks which began at `begun` and returns this state.
    pub(super) fn broken_by(
        &self,
        key: usize,
        number: u32,
        begun: u64,
        floor: Floor,
    ) -> impl Iterator<Item = Invariant> {
        let state = self.state(key, number);
        let too_old = self.age(key, number, begun).is_some_and(|age| age > BOUND);
        [
            (too_old, Invariant::Bounded),
            (number < floor.written, Invariant::OwnWrites),
            (number < floor.read, Invariant::NoGoingBack),
            (state.is_value() && begun > state.deadline, Invariant::Expired),
        ]
        .into_iter()
        .filter_map(|(broken, invariant)| broken.then_some(invariant))
    }

    /// The invariants that a caller breaks which takes this state as stale now.
    pub(super) fn broken_as_stale_by(
        &self,
        key: usize,
        number: u32,
        now: u64,
        floor: Floor,
    ) -> impl Iterator<Item = Invariant> {
        let state = self.state(key, number);
        // It was proven less than that ago, and then it was no older than the bound.
        let too_old = self.age(key, number, now).is_some_and(|age| age > BOUND + STALE_FOR);
        let has_expired = now > state.deadline.saturating_add(STALE_FOR);
        [
            (too_old || has_expired, Invariant::StaleFor),
            (number < floor.written, Invariant::OwnWrites),
            (number < floor.read, Invariant::NoGoingBack),
        ]
        .into_iter()
        .filter_map(|(broken, invariant)| broken.then_some(invariant))
    }

    /// How long ago a tag of this entry was removed when a read began, and which invariant that
    /// breaks: by another process longer ago than the bound, or by the reader itself. Only
    /// removals count that took effect after the entry's load had begun.
    pub(super) fn dead_for(
        &self,
        content: Content,
        begun: u64,
        reader: (usize, u32),
    ) -> (u64, Option<Invariant>) {
        let Content::Value { tags, loaded_from } = content else { return (0, None) };
        let (mut longest, mut broken) = (0, None);
        for record in tags.into_iter().flatten().map(|tag| tag.record) {
            for Removal { state, returned, by } in &self.removals[record] {
                let state = self.state(record, *state);
                if state.is_lost || state.created <= loaded_from || *returned > begun {
                    continue;
                }
                let age = begun - returned;
                longest = longest.max(age);
                if age > BOUND {
                    broken = Some(Invariant::Tags);
                } else if *by == reader {
                    broken = broken.or(Some(Invariant::OwnWrites));
                }
            }
        }
        (longest, broken)
    }
}
