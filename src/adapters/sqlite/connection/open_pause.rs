//! The pause after a failure to open a database.

use crate::error::Error;
use crate::runtime::Backoff;
use std::time::{Duration, Instant};

const BACKOFF: Backoff = Backoff::new(Duration::from_millis(30), Duration::from_millis(450));

/// Remembers the last failure to open: until the pause is over, calls get its error at once.
#[derive(Default)]
pub(super) struct OpenPause(Option<Failed>);

struct Failed {
    until: Instant,
    failures: u32,
    error: Error,
}

impl OpenPause {
    /// The error of the last attempt, while the pause lasts.
    pub(super) fn error(&self) -> Option<Error> {
        let failed = self.0.as_ref().filter(|failed| Instant::now() < failed.until);
        failed.map(|failed| failed.error.clone())
    }

    /// Begins a pause, which is longer after each failure in a row.
    pub(super) fn failed(&mut self, error: &Error) {
        let failures = self.0.as_ref().map_or(0, |last| last.failures.saturating_add(1));
        let until = Instant::now() + BACKOFF.pause(failures);
        self.0 = Some(Failed { until, failures, error: error.clone() });
    }

    pub(super) fn opened(&mut self) {
        self.0 = None;
    }
}
