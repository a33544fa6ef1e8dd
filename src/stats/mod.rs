//! The counters of a cache, which are always on.

mod histogram;
mod near;
mod stripe;
mod tally;

use crate::event::EventKind;
use histogram::Histogram;
#[cfg(feature = "memory")]
pub(crate) use near::NearCounters;
pub use near::NearStats;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
pub(crate) use tally::Tally;

const KINDS: usize = EventKind::ALL.len();

/// The counters of a cache, one per kind of event, in stripes: see [`stripe`].
pub(crate) struct Counters {
    stripes: [Stripe; stripe::ALL],
    loads: Histogram,
    calls: Histogram,
}

/// Two cache lines, which two threads rarely share.
#[repr(align(128))]
struct Stripe([AtomicU64; KINDS]);

impl Default for Counters {
    fn default() -> Self {
        let stripe = |_| Stripe(std::array::from_fn(|_| AtomicU64::new(0)));
        Self {
            stripes: std::array::from_fn(stripe),
            loads: Histogram::default(),
            calls: Histogram::default(),
        }
    }
}

impl Counters {
    #[inline]
    pub(crate) fn add(&self, kind: EventKind, count: u64) {
        let stripe = stripe::current();
        let counter = &self.stripes[stripe % stripe::ALL].0[kind as usize % KINDS];
        if stripe < stripe::OWN {
            // This thread is the only writer of the stripe, so no addition can be lost between the
            // load and the store.
            counter.store(counter.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
        } else {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Records how long a loader took.
    pub(crate) fn load_took(&self, took: Duration) {
        self.loads.add(took);
    }

    /// Records how long a call that waited for the backend took.
    pub(crate) fn call_took(&self, took: Duration) {
        self.calls.add(took);
    }

    pub(crate) fn snapshot(&self) -> Stats {
        let sum = |kind: EventKind| {
            let counts = self
                .stripes
                .iter()
                .map(|stripe| stripe.0[kind as usize % KINDS].load(Ordering::Relaxed));
            counts.fold(0, u64::wrapping_add)
        };
        Stats {
            hits: sum(EventKind::Hit),
            misses: sum(EventKind::Miss),
            stale_hits: sum(EventKind::StaleHit),
            sets: sum(EventKind::Set),
            removes: sum(EventKind::Remove),
            clears: sum(EventKind::Clear),
            expired: sum(EventKind::Expire),
            evicted: sum(EventKind::Evict),
            loads: sum(EventKind::Load),
            load_errors: sum(EventKind::LoadError),
            joined: sum(EventKind::Joined),
            backend_errors: sum(EventKind::BackendError),
            decode_errors: sum(EventKind::DecodeError),
            breaker_opened: sum(EventKind::BreakerOpen),
            breaker_closed: sum(EventKind::BreakerClose),
            swaps: sum(EventKind::Swap),
            entries: None,
            bytes: None,
            near: None,
            load_time: self.loads.snapshot(),
            backend_time: self.calls.snapshot(),
        }
    }
}

/// What a cache has done since it was made: see
/// [`AsyncCacheWrapper::stats`](crate::AsyncCacheWrapper::stats).
///
/// Each counter is exact. The counters are read one after another while calls go on, so two of them
/// may differ by the calls in between.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
/// let cache = larder::AsyncCacheWrapper::new("memory")?;
/// cache.get_or_set("k", 1u8).await?;
/// cache.get_or_set("k", 1u8).await?;
/// let stats = cache.stats();
/// assert_eq!((stats.hits, stats.misses, stats.loads), (1, 1, 1));
/// assert_eq!(stats.hit_ratio(), 0.5);
/// println!("{stats}");
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// Reads that found a live value. Reads are `get*` and `get_or_set*`, and each key of
    /// `get_many`.
    pub hits: u64,
    /// Reads that found nothing.
    pub misses: u64,
    /// Reads that were given a value past its logical expiry.
    pub stale_hits: u64,
    /// Values that callers stored. A value from a loader counts as a load instead.
    pub sets: u64,
    /// Live keys that callers removed.
    pub removes: u64,
    /// Calls of `clear`.
    pub clears: u64,
    /// Entries removed because they expired, as far as the adapter emits this.
    pub expired: u64,
    /// Entries evicted to make room, as far as the adapter emits this.
    pub evicted: u64,
    /// Loaders that returned a value.
    pub loads: u64,
    /// Loaders that failed, panicked or ran out of time.
    pub load_errors: u64,
    /// Callers that waited for another caller's loader.
    pub joined: u64,
    /// Calls, or keys of batches, that the backend failed.
    pub backend_errors: u64,
    /// Values that could not be read.
    pub decode_errors: u64,
    /// How often a breaker has opened.
    pub breaker_opened: u64,
    /// How often a breaker has closed.
    pub breaker_closed: u64,
    /// How often the adapter was replaced.
    pub swaps: u64,
    /// The entries in the store, with those that have expired and were not swept; `None` if the
    /// adapter does not know. Memory counts when it is asked, sqlite when it sweeps.
    pub entries: Option<u64>,
    /// What these entries count for, in bytes: in memory as the bound counts them, on sqlite the
    /// pages of the file that are in use; `None` if the adapter does not know.
    pub bytes: Option<u64>,
    /// What the near level has done; `None` without one, see
    /// [`layers::Tiered`](crate::layers::Tiered).
    pub near: Option<NearStats>,
    /// How long loaders took.
    pub load_time: Times,
    /// How long calls of the backend took. Calls that need not wait, as in memory, are not
    /// measured. A batch is one call.
    pub backend_time: Times,
}

impl Stats {
    /// The part of the reads that returned a value, stale values included; 0 before the first read.
    #[must_use]
    pub fn hit_ratio(&self) -> f64 {
        let served = self.hits + self.stale_hits;
        match served + self.misses {
            0 => 0.0,
            reads => served as f64 / reads as f64,
        }
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hits, misses, stale_hits, sets, removes, clears, expired, evicted, .. } = self;
        let Self {
            loads,
            load_errors,
            joined,
            backend_errors,
            decode_errors,
            breaker_opened,
            breaker_closed,
            swaps,
            ..
        } = self;
        writeln!(
            f,
            "reads: {hits} hits, {misses} misses, {stale_hits} stale, hit ratio {:.1} %",
            100.0 * self.hit_ratio()
        )?;
        writeln!(
            f,
            "writes: {sets} set, {removes} removed, {clears} clears, {expired} expired, {evicted} evicted"
        )?;
        writeln!(f, "loads: {loads}, {load_errors} failed, {joined} joined; {}", self.load_time)?;
        writeln!(
            f,
            "backend: {backend_errors} errors, {decode_errors} undecodable; {}",
            self.backend_time
        )?;
        write!(
            f,
            "breaker: opened {breaker_opened} times, closed {breaker_closed}; {swaps} swaps"
        )?;
        if let (Some(_), _) | (_, Some(_)) = (self.entries, self.bytes) {
            let shown = |number: Option<u64>| number.map_or("?".into(), |it| it.to_string());
            write!(f, "\nstore: {} entries, {} bytes", shown(self.entries), shown(self.bytes))?;
        }
        self.near.map_or(Ok(()), |near| write!(f, "\n{near}"))
    }
}

/// Times from a log-linear histogram. Its percentiles are wrong by 7 % at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Times {
    /// The number of measurements.
    pub count: u64,
    /// The mean.
    pub mean: Duration,
    /// The median.
    pub p50: Duration,
    /// The 99th percentile.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, mean, p50, p99, max } = self;
        if *count == 0 {
            return f.write_str("none timed");
        }
        write!(f, "{count} timed, mean {mean:.1?}, p50 {p50:.1?}, p99 {p99:.1?}, max {max:.1?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// More threads than stripes, at the same time and one after another: no count is lost.
    #[test]
    fn counts_are_exact_with_more_threads_than_lanes() {
        let counters = Counters::default();
        for _ in 0..3 {
            thread::scope(|scope| {
                for _ in 0..2 * stripe::OWN {
                    scope.spawn(|| (0..1_000).for_each(|_| counters.add(EventKind::Hit, 1)));
                }
            });
        }
        counters.add(EventKind::Expire, 5);
        let stats = counters.snapshot();
        assert_eq!(
            (stats.hits, stats.expired, stats.misses),
            (3 * 2 * stripe::OWN as u64 * 1_000, 5, 0)
        );
    }

    #[test]
    fn every_kind_has_its_number() {
        for (number, kind) in EventKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, number);
        }
    }
}
