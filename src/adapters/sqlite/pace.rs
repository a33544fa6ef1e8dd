//! Decides how much work one step of housekeeping does.
//!
//! A step holds the lock that every writer of the file needs, in every process. So a step is
//! bounded by the time it takes, not by a number of rows: one row may be a byte or the pages of 16
//! MiB.

use std::time::Duration;

/// The intended length of one step, and the shortest pause after it in which other writers can take
/// the lock.
const AIM: Duration = Duration::from_millis(4);
const LEAST_REST: Duration = Duration::from_millis(1);

/// The largest step, in pages.
const MOST: u64 = 4_096;

/// SQLite's default page size. A row is counted as one page, plus one for each page of its value.
pub(super) const PAGE: u64 = 4_096;

/// The number of pages that the next step may free.
#[derive(Debug)]
pub(super) struct Pace(u64);

impl Pace {
    /// Starts with a small step, which measures what a row costs.
    pub(super) fn new() -> Self {
        Self(16)
    }

    pub(super) fn pages(&self) -> u64 {
        self.0
    }

    /// Adjusts the size by the time that a step took, and returns how long to pause.
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
