//! What was written when, and whether a read may return what it returned.

use super::settings::{BOUND, Invariant};

const NEVER: u64 = u64::MAX;

/// One state of a key: a value, or none.
#[derive(Clone, Copy, Debug)]
pub(super) struct State {
    pub(super) is_value: bool,
    /// When the value expires; [`NEVER`] if it does not.
    pub(super) deadline: u64,
    pub(super) created: u64,
    /// When the first write returned, or failover ended, that came after this state.
    superseded: u64,
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
}

impl History {
    pub(super) fn new(keys: usize) -> Self {
        let first = State { is_value: true, deadline: NEVER, created: 0, superseded: NEVER };
        Self { keys: vec![vec![first]; keys] }
    }

    /// The number of the present state of a key.
    pub(super) fn present(&self, key: usize) -> u32 {
        self.keys[key].len() as u32 - 1
    }

    pub(super) fn state(&self, key: usize, number: u32) -> State {
        self.keys[key][number as usize]
    }

    /// A new state of a key. Returns its number.
    pub(super) fn change(&mut self, key: usize, is_value: bool, deadline: u64, now: u64) -> u32 {
        self.keys[key].push(State { is_value, deadline, created: now, superseded: NEVER });
        self.present(key)
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
            let State { is_value, deadline, .. } = states[before];
            let number = self.change(key, is_value, deadline, now);
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
            (state.is_value && begun > state.deadline, Invariant::Expired),
        ]
        .into_iter()
        .filter_map(|(broken, invariant)| broken.then_some(invariant))
    }
}
