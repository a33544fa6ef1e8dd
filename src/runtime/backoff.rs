//! Exponential back-off with jitter: the pauses between all repeated attempts of larder.

use std::time::Duration;

/// Pauses that grow with each failure up to a longest one. Jitter keeps callers that failed at the
/// same time from trying again at the same time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    growth: f64,
    /// The least part of a pause that remains after jitter.
    at_least: f64,
}

impl Backoff {
    /// Pauses that double from `first` to `longest`. Jitter shortens each by up to half.
    pub(crate) const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, growth: 2.0, at_least: 0.5 }
    }

    /// With jitter over the whole length of a pause: for attempts of many callers.
    pub(crate) const fn full_jitter(self) -> Self {
        Self { at_least: 0.0, ..self }
    }

    /// With pauses that grow by another factor than 2.
    pub(crate) const fn growing_by(self, growth: f64) -> Self {
        Self { growth, ..self }
    }

    /// The longest pause after this number of consecutive failures. The first pause is the one
    /// after zero failures.
    pub(crate) fn longest_after(&self, failures: u32) -> Duration {
        // After 64 failures every growth has passed every longest pause; a higher power could
        // overflow.
        let growth = self.growth.powi(failures.min(64).cast_signed());
        let pause = self.first.as_secs_f64() * growth;
        Duration::from_secs_f64(pause.min(self.longest.as_secs_f64()))
    }

    /// The pause after this number of consecutive failures.
    pub(crate) fn pause(&self, failures: u32) -> Duration {
        let part = self.at_least + fastrand::f64() * (1.0 - self.at_least);
        self.longest_after(failures).mul_f64(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(10);
    const LONGEST: Duration = Duration::from_millis(100);

    #[test]
    fn pauses_double_up_to_the_longest() {
        let backoff = Backoff::new(FIRST, LONGEST);
        for (failures, longest) in [(0, FIRST), (1, FIRST * 2), (3, FIRST * 8), (4, LONGEST)] {
            assert_eq!(backoff.longest_after(failures), longest, "{failures}");
        }
        assert_eq!(backoff.longest_after(u32::MAX), LONGEST);
        let slower = backoff.growing_by(1.5);
        assert_eq!(slower.longest_after(2), FIRST * 9 / 4);
    }

    #[test]
    fn jitter_takes_up_to_half_or_all() {
        let backoff = Backoff::new(FIRST, LONGEST);
        for (backoff, least) in [(backoff, FIRST / 2), (backoff.full_jitter(), Duration::ZERO)] {
            let pauses: Vec<Duration> = (0..1_000).map(|_| backoff.pause(0)).collect();
            assert!(pauses.iter().all(|pause| (least..=FIRST).contains(pause)));
            let (low, high) = (least + (FIRST - least) / 10, FIRST - (FIRST - least) / 10);
            assert!(pauses.iter().any(|pause| *pause < low), "nothing near {least:?}");
            assert!(pauses.iter().any(|pause| *pause > high), "nothing near {FIRST:?}");
        }
    }
}
