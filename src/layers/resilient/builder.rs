//! The settings of a resilient layer, in the words that URLs share.

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

/// The time of a call, all of its attempts together.
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

/// Builds a [`Resilient`] layer; made by [`Resilient::builder`]. Values out of range are taken to
/// the nearest that is in it.
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

    /// The time that a call on one key or a batch has, its retries included; what takes longer is
    /// [`Timeout`](crate::ErrorKind::Timeout). Unless set, the adapter's own deadline is the only
    /// limit, for each attempt.
    ///
    /// `clear`, `connect` and the like have no limit here: they may take many steps.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.config.deadline = Some(Deadline::Own(deadline));
        self
    }

    /// The deadline that the adapter itself keeps.
    #[cfg(any(feature = "redis", feature = "memcached"))]
    pub(crate) fn inner_deadline(mut self, deadline: Duration) -> Self {
        self.config.deadline = Some(Deadline::Inner(deadline));
        self
    }

    /// How often a call is made again, 2 unless set; 0 turns retries off.
    ///
    /// Reads and `set` are made again where the backend was
    /// [`Unavailable`](crate::ErrorKind::Unavailable), after a pause of random length. A call that
    /// timed out has had its time. `remove` would say that there was nothing to remove; `add`,
    /// `incr` and `take` are not the same twice.
    pub fn retry(mut self, times: u32) -> Self {
        self.config.retry = times;
        self
    }

    /// How many retries a call that goes well pays for, 0.1 unless set. Ten can be spent before any
    /// has been earned, and no more are saved up.
    pub fn retry_budget(mut self, retries: f64) -> Self {
        self.config.retry_budget = retries.clamp(0.0, 1.0);
        self
    }

    /// Whether there is a breaker; there is unless set. Without one, calls are tried for as long as
    /// the backend is away.
    ///
    /// It is meant for an adapter that leads to one place: with several servers, the failure of one
    /// would stop calls to the others.
    pub fn breaker(mut self, breaker: bool) -> Self {
        self.config.breaker = breaker;
        self
    }

    /// How many failures in a row open the breaker, 5 unless set.
    pub fn breaker_failures(mut self, failures: u32) -> Self {
        self.config.breaker_failures = failures.max(1);
        self
    }

    /// What part of the calls must fail within the window to open the breaker, 0.5 unless set; of
    /// 20 calls at least.
    pub fn breaker_rate(mut self, rate: f64) -> Self {
        self.config.breaker_rate = if rate > 0.0 { rate } else { f64::MIN_POSITIVE };
        self
    }

    /// How far back failures count, 10 s unless set.
    pub fn breaker_window(mut self, window: Duration) -> Self {
        self.config.breaker_window = window.max(Duration::from_millis(1));
        self
    }

    /// Whether writes that failed are noted and written when the backend is back; they are unless
    /// set.
    pub fn recovery(mut self, recovery: bool) -> Self {
        self.config.recovery = recovery;
        self
    }

    /// About how many keys something can be noted at a time, 10,000 unless set. The oldest note is
    /// dropped, and an event is emitted.
    pub fn recovery_entries(mut self, entries: usize) -> Self {
        self.config.recovery_entries = entries.max(1);
        self
    }

    /// How many bytes of keys and values can be noted, 16 MiB unless set. Of what does not fit only
    /// the key is kept, and removed.
    pub fn recovery_bytes(mut self, bytes: usize) -> Self {
        self.config.recovery_bytes = bytes;
        self
    }

    /// Whether callers go on without a backend that is away (fail-open): reads are a miss, and
    /// writes succeed. Off unless set.
    ///
    /// Some verbs still fail: `incr`, `claim`, `connect`, `ping` and their kin. `add`, `replace`
    /// and `set_claimed` return that they stored nothing.
    pub fn fail_open(mut self, fail_open: bool) -> Self {
        self.config.fail_open = fail_open;
        self
    }

    /// What [`Expiry::Default`] comes to in the adapter, [`DEFAULT_TTL`](crate::DEFAULT_TTL) unless
    /// set: for so long a write without an expiry of its own is worth writing later.
    pub fn default_ttl(mut self, ttl: impl Into<Expiry>) -> Self {
        self.config.default_ttl = ttl.into().resolve(self.config.default_ttl);
        self
    }

    /// The layer. Spawns nothing, and needs no runtime.
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
