//! How long a step is tried again because its entry changes in between.

use crate::clock;

/// How often a step is tried at most.
pub(super) const TRIES: usize = 16;

/// How often a step is tried at least, and after that for how long, in microseconds. Behind a layer
/// with fail-open whose store hangs, every key is there for a write and missing for a look at it,
/// and each attempt takes two deadlines.
const FEWEST_TRIES: usize = 3;
const TRIED_FOR: u64 = 1_000_000;

/// Attempts that began together.
pub(super) struct Attempts {
    begun_us: u64,
}

impl Attempts {
    pub(super) fn begin() -> Self {
        Self { begun_us: clock::now_us() }
    }

    /// Whether the step was tried often enough, and for long enough.
    pub(super) fn are_enough(&self, tried: usize) -> bool {
        tried >= FEWEST_TRIES && clock::now_us() >= self.begun_us.saturating_add(TRIED_FOR)
    }
}
