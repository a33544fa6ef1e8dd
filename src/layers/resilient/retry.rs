//! Retries: how often and when a call is repeated.

use super::builder::Config;
use crate::runtime::{Backoff, lock};
use std::sync::Mutex;
use std::time::Duration;

/// Full jitter: calls that failed at the same time do not retry at the same time.
const BACKOFF: Backoff =
    Backoff::new(Duration::from_millis(5), Duration::from_millis(100)).full_jitter();

/// The number of retries before any call has succeeded.
const RESERVE: f64 = 10.0;

/// A token bucket: each successful call earns a part of a retry, and a retry costs a whole one.
/// While all calls fail nothing is earned, and retries end with the reserve. So retries cannot
/// overload a failing backend.
#[derive(Debug)]
pub(super) struct Retry {
    limit: u32,
    earned_by_a_call: f64,
    tokens: Mutex<TokenBucket>,
}

#[derive(Debug)]
struct TokenBucket {
    tokens: f64,
    /// The number of successes that the budget has counted.
    successes: u64,
}

impl Retry {
    pub(super) fn new(config: &Config) -> Self {
        let tokens = TokenBucket { tokens: RESERVE, successes: 0 };
        Self {
            limit: config.retry,
            earned_by_a_call: config.retry_budget,
            tokens: Mutex::new(tokens),
        }
    }

    /// The pause before the next retry of a call that was repeated `before` times; `None` if the
    /// call must not be repeated.
    pub(super) fn pause(&self, before: u32, successes: u64) -> Option<Duration> {
        (before < self.limit && self.spend(successes)).then(|| BACKOFF.pause(before))
    }

    fn spend(&self, successes: u64) -> bool {
        let mut bucket = lock(&self.tokens);
        let earned = successes.saturating_sub(bucket.successes) as f64 * self.earned_by_a_call;
        bucket.successes = bucket.successes.max(successes);
        bucket.tokens = (bucket.tokens + earned).min(RESERVE);
        let can_pay = bucket.tokens >= 1.0;
        if can_pay {
            bucket.tokens -= 1.0;
        }
        can_pay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry() -> Retry {
        Retry::new(&Config { retry: 2, retry_budget: 0.1, ..Config::default() })
    }

    #[test]
    fn a_thousand_failures_are_not_two_thousand_more() {
        let retry = retry();
        let made = (0..1_000).filter(|_| retry.pause(0, 0).is_some()).count();
        assert_eq!(made, 10);
    }

    #[test]
    fn successes_earn_a_tenth() {
        let retry = retry();
        while retry.pause(0, 0).is_some() {}
        let made = (1..=1_000).filter(|successes| retry.pause(0, *successes).is_some()).count();
        assert!((99..=101).contains(&made), "{made}");
        let made = (0..100).filter(|_| retry.pause(0, 1_000_000).is_some()).count();
        assert_eq!(made, 10, "what is not spent is not saved up without end");
    }

    #[test]
    fn no_call_is_made_again_more_often_than_that() {
        let retry = retry();
        assert!(retry.pause(1, 0).is_some() && retry.pause(2, 0).is_none());
    }

    #[test]
    fn pauses_are_spread_over_their_whole_length() {
        for (before, end) in [
            (0, Duration::from_millis(5)),
            (1, Duration::from_millis(10)),
            (u32::MAX, Duration::from_millis(100)),
        ] {
            let pauses: Vec<Duration> = (0..1_000).map(|_| BACKOFF.pause(before)).collect();
            assert!(pauses.iter().all(|pause| *pause <= end));
            for tenth in 0..10 {
                let part =
                    end.mul_f64(f64::from(tenth) / 10.0)..end.mul_f64(f64::from(tenth + 1) / 10.0);
                let count = pauses.iter().filter(|pause| part.contains(*pause)).count();
                assert!((40..=180).contains(&count), "{count} of 1,000 in tenth {tenth}");
            }
        }
    }
}
