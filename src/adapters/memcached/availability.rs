//! Whether a server is worth a caller's time.

use crate::runtime::lock;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(400);

/// How late somebody who tries again may be. One that is later stands still with its runtime, and is not waited for.
const LATE: Duration = Duration::from_millis(500);

/// Open while all is well. Once a connection could not be opened it is closed: callers are turned away at once, and one task tries
/// again in the background, after pauses that double.
#[derive(Debug, Default)]
pub(super) struct Availability(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    closed_until: Option<Instant>,
}

impl State {
    fn is_closed(&self) -> bool {
        self.closed_until.is_some_and(|until| Instant::now() < until)
    }
}

impl Availability {
    pub(super) fn is_open(&self) -> bool {
        !lock(&self.0).is_closed()
    }

    /// Opens the gate: a connection was made, or somebody asked for one in so many words.
    pub(super) fn open(&self) {
        *lock(&self.0) = State::default();
    }

    /// Closes the gate after a failure. `true` for the first one, who has to see to it that somebody tries again.
    pub(super) fn close(&self) -> bool {
        let mut state = lock(&self.0);
        if state.is_closed() {
            return false;
        }
        *state = State { failures: 0, closed_until: Some(Instant::now() + LATE) };
        true
    }

    /// For the one who tries again: how long to wait before an attempt that takes up to `attempt`. `None` if the gate is open.
    pub(super) fn pause(&self, attempt: Duration) -> Option<Duration> {
        let mut state = lock(&self.0);
        state.closed_until?;
        let pause = FIRST_PAUSE.saturating_mul(1 << state.failures.min(8)).min(LONGEST_PAUSE);
        let pause = pause.mul_f64(0.5 + fastrand::f64() / 2.0);
        state.failures += 1;
        state.closed_until = Some(Instant::now() + pause + attempt + LATE);
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_many_tries_again() {
        let gate = Availability::default();
        assert!(gate.is_open() && gate.pause(LATE).is_none());
        assert_eq!((0..4).filter(|_| gate.close()).count(), 1);
        assert!(!gate.is_open());
        gate.open();
        assert!(gate.is_open() && gate.close());
    }

    #[test]
    fn who_stands_still_is_not_waited_for() {
        let gate = Availability::default();
        assert!(gate.close());
        lock(&gate.0).closed_until = Some(Instant::now());
        assert!(gate.is_open());
        assert!(gate.close(), "and somebody else takes over");
    }

    #[test]
    fn pauses_grow_and_stay_under_half_a_second() {
        let gate = Availability::default();
        gate.close();
        let pauses: Vec<Duration> = (0..40).filter_map(|_| gate.pause(LATE)).collect();
        assert!(pauses[0] <= FIRST_PAUSE);
        assert!(
            pauses[20..].iter().all(|pause| (LONGEST_PAUSE / 2..=LONGEST_PAUSE).contains(pause)),
            "{pauses:?}"
        );
    }
}
