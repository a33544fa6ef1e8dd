//! Milliseconds since 1970, as stored in the table.

use crate::clock::since_epoch;
use crate::expiry::{Expiry, Lifetime};
use std::time::{Duration, Instant};

/// The present time, rounded down. An entry has expired once this value reaches its expiry.
pub(super) fn now() -> i64 {
    millis(since_epoch().as_millis())
}

/// The expiry of an entry that is stored now, rounded up, so that no entry lives shorter than
/// requested. `None` is never.
pub(super) fn deadline(lifetime: Lifetime) -> Option<i64> {
    match lifetime {
        Lifetime::Never => None,
        Lifetime::For(lasting) if lasting.is_zero() => Some(now()),
        Lifetime::For(lasting) => {
            Some(millis((since_epoch() + lasting).as_nanos().div_ceil(1_000_000)))
        }
    }
}

/// The time left until `expires_at`, for an entry that was live a moment ago.
pub(super) fn remaining(expires_at: Option<i64>) -> Expiry {
    match left(expires_at) {
        Lifetime::For(left) => Expiry::After(left.max(Duration::from_millis(1))),
        Lifetime::Never => Expiry::Never,
    }
}

/// The time left until `expires_at`, rounded down.
pub(super) fn left(expires_at: Option<i64>) -> Lifetime {
    let Some(expires_at) = expires_at else { return Lifetime::Never };
    let now = millis(since_epoch().as_nanos().div_ceil(1_000_000));
    let left = u64::try_from(expires_at.saturating_sub(now)).unwrap_or(0);
    Lifetime::For(Duration::from_millis(left))
}

/// Detects that the wall clock was set back: it has then advanced less than the monotonic clock.
pub(super) struct WallWatch {
    steady: Instant,
    wall: i64,
}

impl WallWatch {
    /// The largest difference, in milliseconds, that two successive readings and a slowly adjusted
    /// clock can cause.
    const TOLERANCE: i64 = 250;

    pub(super) fn begin() -> Self {
        Self { steady: Instant::now(), wall: now() }
    }

    pub(super) fn was_set_back(&self) -> bool {
        let passed = i64::try_from(self.steady.elapsed().as_millis()).unwrap_or(i64::MAX);
        now() < self.wall.saturating_add(passed).saturating_sub(Self::TOLERANCE)
    }
}

/// Detects that the wall clock was set forward: it has then advanced more than the monotonic clock.
pub(super) struct LeapWatch {
    steady: Instant,
    wall: i64,
}

impl LeapWatch {
    /// The largest difference from one look to the next, in milliseconds, that a slowly adjusted
    /// clock can cause.
    const TOLERANCE: i64 = 20;

    pub(super) fn begin() -> Self {
        Self { steady: Instant::now(), wall: now() }
    }

    /// Whether the wall clock was set forward since the last look.
    pub(super) fn has_leapt(&mut self) -> bool {
        // The wall clock is read between two readings of the other one, so a thread that is
        // suspended between two of them makes the measured time longer, and no leap of it.
        let before = Instant::now();
        let wall = now();
        let passed = i64::try_from(self.steady.elapsed().as_millis()).unwrap_or(i64::MAX);
        let most = self.wall.saturating_add(passed).saturating_add(Self::TOLERANCE);
        *self = Self { steady: before, wall };
        wall > most
    }
}

fn millis(millis: u128) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}
