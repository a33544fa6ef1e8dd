//! How often a server that is away is tried.

use crate::runtime::lock;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(400);

/// Lets connection attempts through: freely while all is well; one at a time, after a pause that doubles, while the server is away.
#[derive(Debug, Default)]
pub(super) struct Gate(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    closed_until: Option<Instant>,
    /// Somebody tries already, while the server is away.
    trying: bool,
}

/// The right to try once. Dropped without a word, it counts for nothing.
#[derive(Debug)]
pub(super) struct Attempt<'a> {
    gate: &'a Gate,
    alone: bool,
}

impl Gate {
    /// `None` while the server is given time.
    pub(super) fn attempt(&self) -> Option<Attempt<'_>> {
        let mut state = lock(&self.0);
        let alone = state.failures > 0;
        if alone && (state.trying || state.closed_until.is_some_and(|until| Instant::now() < until)) {
            return None;
        }
        state.trying = alone;
        Some(Attempt { gate: self, alone })
    }

    /// Forgets what went wrong: somebody asked for a connection in so many words.
    pub(super) fn reset(&self) {
        *lock(&self.0) = State::default();
    }
}

impl Attempt<'_> {
    pub(super) fn succeeded(self) {
        self.gate.reset();
    }

    pub(super) fn failed(self) {
        let mut state = lock(&self.gate.0);
        let now = Instant::now();
        // Of several that failed together, the first one counts.
        if state.closed_until.is_none_or(|until| until <= now) {
            let pause = FIRST_PAUSE.saturating_mul(1 << state.failures.min(8)).min(LONGEST_PAUSE);
            state.closed_until = Some(now + pause.mul_f64(0.5 + fastrand::f64() / 2.0));
            state.failures += 1;
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.alone {
            lock(&self.gate.0).trying = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_at_once_while_all_is_well() {
        let gate = Gate::default();
        let attempts: Vec<_> = (0..4).map(|_| gate.attempt().expect("open")).collect();
        attempts.into_iter().for_each(Attempt::failed);
        assert_eq!(lock(&gate.0).failures, 1);
        assert!(gate.attempt().is_none());
    }

    #[test]
    fn one_at_a_time_while_it_is_away() {
        let gate = Gate::default();
        gate.attempt().expect("open").failed();
        lock(&gate.0).closed_until = None;
        let only = gate.attempt().expect("the pause is over");
        assert!(gate.attempt().is_none());
        drop(only);
        gate.attempt().expect("nobody tries").succeeded();
        assert!(gate.attempt().is_some() && gate.attempt().is_some());
    }

    #[test]
    fn pauses_grow_and_stay_under_half_a_second() {
        let gate = Gate::default();
        let mut pauses = Vec::new();
        for _ in 0..40 {
            lock(&gate.0).closed_until = None;
            gate.attempt().expect("open").failed();
            pauses.push(lock(&gate.0).closed_until.expect("closed").duration_since(Instant::now()));
        }
        assert!(pauses[0] <= FIRST_PAUSE);
        assert!(pauses[20..].iter().all(|pause| (LONGEST_PAUSE / 3..=LONGEST_PAUSE).contains(pause)), "{pauses:?}");
    }
}
