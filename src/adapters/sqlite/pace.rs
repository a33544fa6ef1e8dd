//! How much one step of housekeeping does.
//!
//! A step holds the lock that all writers of the file need, whatever process they are in. So it is
//! measured by the time that it took, not by rows: a row may be a byte or the pages of 16 MiB.

use std::time::Duration;

/// How long one step should take, and how long the lock is left to others after it at least.
const AIM: Duration = Duration::from_millis(4);
const LEAST_REST: Duration = Duration::from_millis(1);

/// A step does not become larger than this many pages.
const MOST: u64 = 4_096;

/// A page of SQLite's default size: a row costs one, and one more for each page of its value.
pub(super) const PAGE: u64 = 4_096;

/// How many pages the next step may free.
#[derive(Debug)]
pub(super) struct Pace(u64);

impl Pace {
    /// Begins small: what the rows cost is found out.
    pub(super) fn new() -> Self {
        Self(16)
    }

    pub(super) fn pages(&self) -> u64 {
        self.0
    }

    /// Learns from a step. The answer is how long others have their turn.
    pub(super) fn after(&mut self, took: Duration) -> Duration {
        if took < AIM {
            self.0 = (self.0 * 2).min(MOST);
        } else if took > AIM * 2 {
            let share = AIM.as_secs_f64() / took.as_secs_f64();
            self.0 = ((self.0 as f64 * share) as u64).max(1);
        }
        took.clamp(LEAST_REST, AIM * 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_grow_while_they_are_short_and_shrink_when_they_are_long() {
        let mut pace = Pace::new();
        for _ in 0..20 {
            pace.after(Duration::from_micros(10));
        }
        assert_eq!(pace.pages(), MOST);
        assert_eq!(pace.after(Duration::from_millis(400)), AIM * 2);
        assert!(pace.pages() <= MOST / 50, "{}", pace.pages());
        for _ in 0..20 {
            pace.after(Duration::from_secs(1));
        }
        assert_eq!(pace.pages(), 1, "one row goes, however long it takes");
    }
}
