//! Who may connect, and when: one attempt at a time, further and further apart while they fail.

use crate::error::Error;
use crate::runtime::{Backoff, lock};
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::MutexGuard;
use tokio::time::Instant;

/// Between two attempts. The longest is short enough that a server that is back is found within
/// half a second.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(400));
/// What is longer ago than this says nothing about now.
const MEMORY: Duration = Duration::from_secs(2);

/// The way to the server, shared by the lanes of one runtime: however many they are, together they
/// connect no oftener than one lane would.
#[derive(Default)]
pub(in crate::adapters::redis) struct ReconnectBackoff {
    turn: tokio::sync::Mutex<()>,
    record: Mutex<Record>,
}

#[derive(Default)]
struct Record {
    misses: u32,
    last: Option<Instant>,
    not_before: Option<Instant>,
    /// Set from the first failure until a success: calls meanwhile fail at once.
    error: Option<Error>,
}

impl ReconnectBackoff {
    /// Waits for its turn, and then for the time to try.
    pub(in crate::adapters::redis) async fn turn(&self) -> MutexGuard<'_, ()> {
        let turn = self.turn.lock().await;
        let not_before = lock(&self.record).not_before;
        if let Some(not_before) = not_before {
            tokio::time::sleep_until(not_before).await;
        }
        turn
    }

    /// Why there is no connection, if the last attempt failed.
    pub(in crate::adapters::redis) fn error(&self) -> Option<Error> {
        lock(&self.record).error.clone()
    }

    pub(in crate::adapters::redis) fn succeeded(&self) {
        let mut record = lock(&self.record);
        record.misses = record.misses.min(2);
        record.not_before = None;
        record.error = None;
    }

    pub(in crate::adapters::redis) fn failed(&self, error: Error) {
        let mut record = lock(&self.record);
        record.miss();
        record.error = Some(error);
    }

    /// A connection broke soon after it was made. Callers wait for the next one, which is not made
    /// at once.
    pub(in crate::adapters::redis) fn short_lived(&self) {
        lock(&self.record).miss();
    }

    /// There was no call for long: the next one finds out anew.
    pub(in crate::adapters::redis) fn forget(&self) {
        *lock(&self.record) = Record::default();
    }
}

impl Record {
    fn miss(&mut self) {
        let now = Instant::now();
        if self.last.is_none_or(|last| now - last > MEMORY) {
            self.misses = 0;
        }
        self.last = Some(now);
        self.not_before = Some(now + BACKOFF.pause(self.misses));
        self.misses = self.misses.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_short() {
        let at = |misses| (0..200).map(|_| BACKOFF.pause(misses)).max().unwrap();
        assert!(at(0) <= Duration::from_millis(50));
        assert!(at(0) < at(3));
        let longest = Duration::from_millis(400);
        for misses in [4, 99, u32::MAX] {
            let pause = BACKOFF.pause(misses);
            assert!(pause >= longest / 2 && pause <= longest, "{pause:?}");
        }
    }

    /// What ten seconds of failures come to, at the shortest pauses that jitter allows.
    #[test]
    fn attempts_stay_under_twenty_a_second() {
        let first_second = (0..).map(|misses| BACKOFF.longest_after(misses) / 2).scan(
            Duration::ZERO,
            |at, pause| {
                *at += pause;
                Some(*at)
            },
        );
        assert!(first_second.take_while(|at| *at < Duration::from_secs(1)).count() < 20);
    }
}
