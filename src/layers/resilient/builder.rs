//! The settings of a resilient layer. URL parameters have the same names.

use super::Resilient;
use crate::adapter::AsyncCacheAdapter;
use crate::expiry::{Expiry, Lifetime};
use std::fmt;
use std::time::Duration;

#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(super) deadline: Option<Deadline>,
    pub(super) retry: u32,
    pub(super) retry_budget: f64,
    pub(super) breaker: bool,
    pub(super) breaker_failures: u32,
    pub(super) breaker_rate: f64,
    pub(super) breaker_window: Duration,
    pub(super) breaker_calls: u64,
    pub(super) recovery: bool,
    pub(super) recovery_entries: usize,
    pub(super) recovery_bytes: usize,
    pub(super) fail_open: bool,
    pub(super) default_ttl: Lifetime,
}

/// The time limit of a call, for all of its attempts together.
#[derive(Clone, Copy, Debug)]
pub(super) enum Deadline {
    /// Enforced by the layer.
    Own(Duration),
    /// Enforced by the adapter for each attempt, so that only retries need a timer.
    #[cfg_attr(
        not(any(feature = "redis", feature = "memcached")),
        expect(dead_code, reason = "only they are wrapped by name")
    )]
    Inner(Duration),
}

impl Deadline {
    pub(super) fn limit(self) -> Duration {
        match self {
            Self::Own(limit) | Self::Inner(limit) => limit,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            deadline: None,
            retry: 2,
            retry_budget: 0.1,
            breaker: true,
            breaker_failures: 5,
            breaker_rate: 0.5,
            breaker_window: Duration::from_secs(10),
            breaker_calls: 20,
            recovery: true,
            recovery_entries: 10_000,
            recovery_bytes: 16 << 20,
            fail_open: false,
            default_ttl: Lifetime::default(),
        }
    }
}

/// Builds a [`Resilient`] layer; made by [`Resilient::builder`]. A value out of range becomes the
/// nearest value in the range.
///
/// ```
/// use larder::layers::Resilient;
/// use std::time::Duration;
/// # #[cfg(feature = "memory")] {
/// # type MyStore = larder::AsyncMemoryCache;
/// let cache = Resilient::builder(MyStore::new())
///     .deadline(Duration::from_millis(250))
///     .retry(1)
///     .breaker_failures(3)
///     .recovery_entries(1_000)
///     .build();
/// # }
/// ```
#[must_use]
pub struct ResilientBuilder<A> {
    inner: A,
    config: Config,
}

impl<A: AsyncCacheAdapter> ResilientBuilder<A> {
    pub(super) fn new(inner: A) -> Self {
        Self { inner, config: Config::default() }
    }

    /// Sets the time limit of a call on one key or a batch, its retries included. A call that takes
    /// longer is [`Timeout`](crate::ErrorKind::Timeout). By default only the adapter's own deadline
    /// applies, to each attempt.
    ///
    /// `clear`, `connect` and similar calls have no limit here: they may take many steps.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.config.deadline = Some(Deadline::Own(deadline));
        self
    }

    /// Sets the deadline that the adapter itself enforces.
    #[cfg(any(feature = "redis", feature = "memcached"))]
    pub(crate) fn inner_deadline(mut self, deadline: Duration) -> Self {
        self.config.deadline = Some(Deadline::Inner(deadline));
        self
    }

    /// Sets how often a failed call is repeated. Default 2; 0 turns retries off.
    ///
    /// Only idempotent calls, reads and `set`, are repeated, if the backend was
    /// [`Unavailable`](crate::ErrorKind::Unavailable), after a pause of random length (exponential
    /// back-off with jitter). A call that timed out has used up its time. A second `remove`, `add`
    /// or `take` would give another answer than the first, and a second `incr` would count twice.
    pub fn retry(mut self, times: u32) -> Self {
        self.config.retry = times;
        self
    }

    /// Sets how many retries each successful call earns. Default 0.1. Ten retries are available at
    /// the start, and at most ten are saved.
    pub fn retry_budget(mut self, retries: f64) -> Self {
        self.config.retry_budget = retries.clamp(0.0, 1.0);
        self
    }

    /// Turns the circuit breaker on or off. On by default. Without a breaker every call is sent
    /// while the backend is away.
    ///
    /// The breaker is for an adapter with one server: with several servers, the failure of one
    /// would stop the calls to the others.
    pub fn breaker(mut self, breaker: bool) -> Self {
        self.config.breaker = breaker;
        self
    }

    /// Sets how many failures in a row open the breaker. Default 5.
    pub fn breaker_failures(mut self, failures: u32) -> Self {
        self.config.breaker_failures = failures.max(1);
        self
    }

    /// Sets which part of the calls must fail within the window to open the breaker. Default 0.5;
    /// the window must contain 20 calls at least.
    pub fn breaker_rate(mut self, rate: f64) -> Self {
        self.config.breaker_rate = if rate > 0.0 { rate } else { f64::MIN_POSITIVE };
        self
    }

    /// Sets the window: how long failures count. Default 10 s.
    pub fn breaker_window(mut self, window: Duration) -> Self {
        self.config.breaker_window = window.max(Duration::from_millis(1));
        self
    }

    /// Sets whether writes that failed are noted, and replayed when the backend is back. On by
    /// default.
    pub fn recovery(mut self, recovery: bool) -> Self {
        self.config.recovery = recovery;
        self
    }

    /// Sets how many keys can have notes. Default 10,000. Beyond that the oldest note is dropped,
    /// and an event is emitted.
    pub fn recovery_entries(mut self, entries: usize) -> Self {
        self.config.recovery_entries = entries.max(1);
        self
    }

    /// Sets how many bytes of keys and values the notes may take. Default 16 MiB. Of a value that
    /// does not fit only the key is kept, and removed later.
    pub fn recovery_bytes(mut self, bytes: usize) -> Self {
        self.config.recovery_bytes = bytes;
        self
    }

    /// Sets whether callers go on without a backend that is away (fail-open): reads are a miss, and
    /// writes succeed. Off by default.
    ///
    /// Some verbs still fail: `incr`, `claim`, `connect`, `ping` and similar ones. `add`, `replace`
    /// and `set_claimed` answer that they stored nothing.
    pub fn fail_open(mut self, fail_open: bool) -> Self {
        self.config.fail_open = fail_open;
        self
    }

    /// Sets the expiry that [`Expiry::Default`] means in the adapter. Default
    /// [`DEFAULT_TTL`](crate::DEFAULT_TTL). A failed write without an expiry of its own is not
    /// replayed after this time.
    pub fn default_ttl(mut self, ttl: impl Into<Expiry>) -> Self {
        self.config.default_ttl = ttl.into().resolve(self.config.default_ttl);
        self
    }

    /// Builds the layer. Spawns nothing, and needs no runtime.
    #[must_use]
    pub fn build(self) -> Resilient<A> {
        Resilient::assemble(self.inner, self.config)
    }
}

impl<A> fmt::Debug for ResilientBuilder<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResilientBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}
