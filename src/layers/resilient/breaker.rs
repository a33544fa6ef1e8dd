//! The circuit breaker: whether calls are sent to the backend.

use super::builder::Config;
use crate::runtime::lock;
use crate::stats::Tally;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// The state of the circuit breaker of a [`Resilient`](super::Resilient) layer.
///
/// ```
/// use larder::layers::{BreakerState, Resilient};
/// # #[cfg(feature = "memory")] {
/// let cache = Resilient::new(larder::AsyncMemoryCache::new());
/// assert_eq!(cache.breaker_state(), BreakerState::Closed);
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BreakerState {
    /// Normal operation: calls reach the adapter.
    Closed,
    /// Calls are answered at once, and nothing is sent to the adapter.
    Open,
    /// As [`Open`](BreakerState::Open), while a ping tests whether the backend is back.
    HalfOpen,
}

/// The number of slices in the window. The window slides by whole slices.
const SLICES: u32 = 10;

/// The state, and the counts that decide it. A successful call costs a load and an increment.
#[derive(Debug)]
pub(super) struct Breaker {
    /// `None` if the breaker is off, and then it is always closed.
    rules: Option<Rules>,
    /// The state in the lowest two bits, and above them how often it was opened and closed: the
    /// result of a call that was sent before a change is ignored.
    word: AtomicU64,
    successes: Tally,
    record: Mutex<Record>,
}

#[derive(Clone, Copy, Debug)]
struct Rules {
    in_a_row: u32,
    rate: f64,
    window: Duration,
    at_least: u64,
}

#[derive(Debug, Default)]
struct Record {
    in_a_row: u32,
    /// The number of successes when the last call failed.
    successes: u64,
    slices: VecDeque<Slice>,
}

#[derive(Debug)]
struct Slice {
    begun: Instant,
    /// The number of successes before the slice.
    successes: u64,
    failures: u64,
}

/// The permit of a call that was sent while the breaker was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pass(u64);

impl BreakerState {
    fn of(word: u64) -> Self {
        match word & 3 {
            0 => Self::Closed,
            1 => Self::Open,
            _ => Self::HalfOpen,
        }
    }
}

impl Breaker {
    pub(super) fn new(config: &Config) -> Self {
        let rules = Rules {
            in_a_row: config.breaker_failures,
            rate: config.breaker_rate,
            window: config.breaker_window,
            at_least: config.breaker_calls,
        };
        Self {
            rules: config.breaker.then_some(rules),
            word: AtomicU64::new(0),
            successes: Tally::default(),
            record: Mutex::default(),
        }
    }

    pub(super) fn is_on(&self) -> bool {
        self.rules.is_some()
    }

    pub(super) fn state(&self) -> BreakerState {
        BreakerState::of(self.word.load(Ordering::Acquire))
    }

    /// The permit of a call; `None` while the breaker is open.
    pub(super) fn pass(&self) -> Option<Pass> {
        let word = self.word.load(Ordering::Acquire);
        (BreakerState::of(word) == BreakerState::Closed).then_some(Pass(word))
    }

    pub(super) fn successes(&self) -> u64 {
        self.successes.total()
    }

    pub(super) fn succeeded(&self) {
        self.successes.add_one();
    }

    /// Records a failure of the backend. Returns whether it opened the breaker.
    pub(super) fn failed(&self, pass: Pass) -> bool {
        let Some(rules) = &self.rules else { return false };
        let mut record = lock(&self.record);
        // The breaker has changed since the call began, so the result is outdated.
        if self.word.load(Ordering::Acquire) != pass.0 {
            return false;
        }
        let opens = record.fail(rules, self.successes(), Instant::now());
        if opens {
            self.turn(BreakerState::Open);
        }
        opens
    }

    /// Changes from open to half open, for the task that pings the backend.
    pub(super) fn half_open(&self) -> bool {
        let _record = lock(&self.record);
        let is_open = self.state() != BreakerState::Closed;
        if is_open {
            self.turn(BreakerState::HalfOpen);
        }
        is_open
    }

    pub(super) fn reopen(&self) {
        let _record = lock(&self.record);
        if self.state() == BreakerState::HalfOpen {
            self.turn(BreakerState::Open);
        }
    }

    /// Closes the breaker, because the backend has answered. Returns whether it was open.
    pub(super) fn close(&self) -> bool {
        if self.state() == BreakerState::Closed {
            return false;
        }
        let mut record = lock(&self.record);
        let was_open = self.state() != BreakerState::Closed;
        if was_open {
            *record = Record::default();
            self.turn(BreakerState::Closed);
        }
        was_open
    }

    /// Must be called with the record locked.
    fn turn(&self, state: BreakerState) {
        let word = self.word.load(Ordering::Acquire);
        let bits = match state {
            BreakerState::Closed => 0,
            BreakerState::Open => 1,
            BreakerState::HalfOpen => 2,
        };
        self.word.store(((word >> 2).wrapping_add(1) << 2) | bits, Ordering::Release);
    }
}

impl Record {
    fn fail(&mut self, rules: &Rules, successes: u64, now: Instant) -> bool {
        while self
            .slices
            .front()
            .is_some_and(|slice| now.duration_since(slice.begun) >= rules.window)
        {
            self.slices.pop_front();
        }
        // Two failures that are further apart than the window are not consecutive.
        let follows = self.successes == successes && !self.slices.is_empty();
        self.in_a_row = if follows { self.in_a_row.saturating_add(1) } else { 1 };
        self.successes = successes;
        match self.slices.back_mut() {
            Some(slice) if now.duration_since(slice.begun) < rules.window / SLICES => {
                slice.failures += 1
            }
            _ => self.slices.push_back(Slice { begun: now, successes, failures: 1 }),
        }
        // The window begins with its first failure, so that successes need no clock.
        let failures: u64 = self.slices.iter().map(|slice| slice.failures).sum();
        let calls = failures
            + self.slices.front().map_or(0, |slice| successes.saturating_sub(slice.successes));
        let is_too_many = calls >= rules.at_least && failures as f64 >= calls as f64 * rules.rate;
        self.in_a_row >= rules.in_a_row || is_too_many
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker(failures: u32, rate: f64) -> Breaker {
        Breaker::new(&Config {
            breaker_failures: failures,
            breaker_rate: rate,
            breaker_calls: 20,
            ..Config::default()
        })
    }

    fn fail(breaker: &Breaker) -> bool {
        breaker.failed(breaker.pass().expect("closed"))
    }

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_open_it() {
        let breaker = breaker(3, 1.1);
        for _ in 0..10 {
            assert!(!fail(&breaker) && !fail(&breaker));
            breaker.succeeded();
        }
        assert!(!fail(&breaker) && !fail(&breaker));
        tokio::time::advance(Duration::from_secs(11)).await;
        assert!(!fail(&breaker) && !fail(&breaker), "long ago is not in a row");
        let late = breaker.pass().expect("closed");
        assert!(fail(&breaker));
        assert_eq!(breaker.state(), BreakerState::Open);
        assert!(breaker.pass().is_none());
        assert!(!breaker.failed(late), "it is open already");
    }

    #[tokio::test(start_paused = true)]
    async fn half_of_the_calls_failing_opens_it() {
        let breaker = breaker(1_000, 0.5);
        let mut calls = 0;
        loop {
            breaker.succeeded();
            calls += 1;
            if fail(&breaker) {
                break;
            }
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        assert!((10..=20).contains(&calls), "{calls}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_third_failing_does_not() {
        let breaker = breaker(1_000, 0.5);
        for _ in 0..1_000 {
            breaker.succeeded();
            breaker.succeeded();
            assert!(!fail(&breaker));
            tokio::time::advance(Duration::from_millis(30)).await;
        }
        assert!(lock(&breaker.record).slices.len() <= SLICES as usize + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn it_goes_round() {
        let breaker = breaker(1, 1.1);
        assert!(!breaker.half_open() && !breaker.close());
        let before = breaker.pass().expect("closed");
        assert!(fail(&breaker));
        assert!(breaker.half_open());
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        assert!(breaker.pass().is_none(), "no caller pays for the probe");
        breaker.reopen();
        assert_eq!(breaker.state(), BreakerState::Open);
        assert!(breaker.half_open() && breaker.close() && !breaker.close());
        assert_eq!(breaker.state(), BreakerState::Closed);
        assert!(!breaker.failed(before), "a failure from before it opened");
        breaker.reopen();
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn without_rules_it_stays_closed() {
        let breaker = Breaker::new(&Config { breaker: false, ..Config::default() });
        assert!((0..1_000).all(|_| !fail(&breaker)));
        assert!(!breaker.is_on());
    }
}
