//! A histogram of times. Its buckets grow with the time, eight for each doubling, so that a figure
//! is wrong by 6 % at most.

use super::{Times, stripe};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The resolution is 2⁷ ns.
const UNIT: u32 = 7;
/// Buckets for each doubling: 2³.
const FINE: u32 = 3;
/// The last bucket begins at 2³⁵ units, 73 minutes.
const DOUBLINGS: u32 = 33;
const BUCKETS: usize = ((DOUBLINGS + 1) << FINE) as usize;
/// Threads that measure at the same time mostly write to different stripes.
const STRIPES: usize = 4;

/// A histogram to which all threads may add at any time. An empty histogram has allocated nothing.
#[derive(Default)]
pub(super) struct Histogram(OnceLock<Box<[Stripe]>>);

struct Stripe {
    buckets: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
    max_ns: AtomicU64,
}

impl Stripe {
    fn new() -> Self {
        Self {
            buckets: std::array::from_fn(|_| AtomicU64::new(0)),
            sum_ns: AtomicU64::new(0),
            max_ns: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    pub(super) fn add(&self, took: Duration) {
        let stripes =
            self.0.get_or_init(|| std::iter::repeat_with(Stripe::new).take(STRIPES).collect());
        let stripe = &stripes[stripe::current() % STRIPES];
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        stripe.buckets[bucket(ns)].fetch_add(1, Ordering::Relaxed);
        stripe.sum_ns.fetch_add(ns, Ordering::Relaxed);
        if ns > stripe.max_ns.load(Ordering::Relaxed) {
            stripe.max_ns.fetch_max(ns, Ordering::Relaxed);
        }
    }

    pub(super) fn snapshot(&self) -> Times {
        let mut times = Times::default();
        let Some(stripes) = self.0.get() else { return times };
        let mut buckets = [0; BUCKETS];
        let (mut sum, mut max) = (0u128, 0);
        for stripe in stripes {
            for (total, bucket) in buckets.iter_mut().zip(&stripe.buckets) {
                *total += bucket.load(Ordering::Relaxed);
            }
            sum += u128::from(stripe.sum_ns.load(Ordering::Relaxed));
            max = max.max(stripe.max_ns.load(Ordering::Relaxed));
        }
        times.count = buckets.iter().sum();
        if times.count > 0 {
            times.mean = Duration::from_nanos(
                u64::try_from(sum / u128::from(times.count)).unwrap_or(u64::MAX),
            );
            times.max = Duration::from_nanos(max);
            times.p50 = Duration::from_nanos(percentile(&buckets, times.count, 50)).min(times.max);
            times.p99 = Duration::from_nanos(percentile(&buckets, times.count, 99)).min(times.max);
        }
        times
    }
}

/// The percentile: the time that this percentage of the measurements did not exceed.
fn percentile(buckets: &[u64; BUCKETS], count: u64, percent: u64) -> u64 {
    let wanted = u128::from(count) * u128::from(percent);
    let mut seen = 0u128;
    let at = buckets.iter().position(|bucket| {
        seen += u128::from(*bucket) * 100;
        seen >= wanted
    });
    middle(at.unwrap_or(BUCKETS - 1))
}

fn bucket(ns: u64) -> usize {
    let units = ns >> UNIT;
    if units < 1 << FINE {
        return units as usize;
    }
    let doubling = units.ilog2() - FINE;
    let within = (units >> doubling) as usize - (1 << FINE);
    ((((doubling + 1) as usize) << FINE) + within).min(BUCKETS - 1)
}

/// The middle of a bucket, in nanoseconds.
fn middle(bucket: usize) -> u64 {
    let (doubling, within) = ((bucket >> FINE) as u32, (bucket & ((1 << FINE) - 1)) as u64);
    let (first, width) = match doubling {
        0 => (within, 1),
        doubling => ((within + (1 << FINE)) << (doubling - 1), 1 << (doubling - 1)),
    };
    (first << UNIT) + ((width << UNIT) >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_one_another_and_their_middles_are_near() {
        let mut last = 0;
        for exponent in 0..44 {
            for step in 0..16u64 {
                let ns = (1u64 << exponent) + (step << exponent) / 16;
                let at = bucket(ns);
                assert!(at >= last && at < BUCKETS, "{ns}");
                last = at;
                assert_eq!(bucket(middle(at)), at, "the middle of a bucket is in it");
                if (1 << 10..1 << 42).contains(&ns) {
                    let off = middle(at).abs_diff(ns) as f64 / ns as f64;
                    assert!(off <= 0.07, "{ns} counts as {}", middle(at));
                }
            }
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn figures_of_a_known_series() {
        let histogram = Histogram::default();
        assert_eq!(histogram.snapshot(), Times::default());
        for ms in 1..=1_000 {
            histogram.add(Duration::from_millis(ms));
        }
        let times = histogram.snapshot();
        assert_eq!(
            (times.count, times.max, times.mean),
            (1_000, Duration::from_secs(1), Duration::from_micros(500_500))
        );
        let near = |time: Duration, ms: f64| (time.as_secs_f64() * 1e3 / ms - 1.0).abs() < 0.08;
        assert!(near(times.p50, 500.0) && near(times.p99, 990.0), "{times:?}");
        histogram.add(Duration::MAX);
        assert_eq!(histogram.snapshot().max, Duration::from_nanos(u64::MAX));
    }
}
