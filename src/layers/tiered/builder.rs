//! The settings of a near level.

use super::Tiered;
use super::core::Bounds;
use crate::adapter::AsyncCacheAdapter;
use crate::adapters::memory::AsyncMemoryCache;
use crate::adapters::memory::near::TICK;
use std::time::Duration;

/// The age that a near value may have, unless the settings say otherwise.
const NEAR_BOUND: Duration = Duration::from_millis(100);

/// How long a value is near at most.
const NEAR_TTL: Duration = Duration::from_secs(60);

/// A time as the core counts it.
pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Its bounds are those of the near store.
    pub(super) near: AsyncMemoryCache,
    pub(super) near_bound: Duration,
    pub(super) near_ttl: Duration,
}

impl Settings {
    /// The bounds of the core, in nanoseconds.
    pub(super) fn bounds(&self) -> Bounds {
        // The clock of a hit may be a tick behind.
        Bounds { age: nanos(self.near_bound).saturating_sub(TICK), ttl: nanos(self.near_ttl) }
    }
}

/// The settings of [`Tiered`]. The parameters of a `near+` URL have the same names.
///
/// ```
/// use larder::AsyncMemoryCache;
/// use larder::layers::Tiered;
/// use std::time::Duration;
///
/// let far = AsyncMemoryCache::new();
/// let tiered = Tiered::builder(far)
///     .near(AsyncMemoryCache::builder().max_entries(10_000).build())
///     .near_bound(Duration::from_millis(250))
///     .near_ttl(Duration::from_secs(10))
///     .build();
/// ```
#[derive(Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct TieredBuilder<A> {
    far: A,
    settings: Settings,
}

impl<A: AsyncCacheAdapter> TieredBuilder<A> {
    pub(super) fn new(far: A) -> Self {
        let near = AsyncMemoryCache::new();
        let settings = Settings { near, near_bound: NEAR_BOUND, near_ttl: NEAR_TTL };
        Self { far, settings }
    }

    /// Sets the bounds of the near store to those of a memory cache. Default 100,000 entries and
    /// 128 MiB; encoded bytes count twice, because the object to which they are decoded stands
    /// beside them. Nothing is kept in `near` itself, and its other settings have no effect.
    pub fn near(mut self, near: AsyncMemoryCache) -> Self {
        self.settings.near = near;
        self
    }

    /// Sets how old a near value may be: a read that begins this long after a write has returned, on
    /// any node, does not return what was there before. Default 100 ms. With 10 ms or less nothing
    /// is served near, because the clock of a hit has ticks of 10 ms.
    ///
    /// A larger bound lets a slow link and a short failure of the store pass unnoticed, and asks the
    /// store less often for proof.
    pub fn near_bound(mut self, bound: Duration) -> Self {
        self.settings.near_bound = bound;
        self
    }

    /// Sets how long a value is near at most, although the store vouches for it. Default 60 s. It
    /// bounds the age after changes that the store tells nobody, such as redis's `SWAPDB`.
    pub fn near_ttl(mut self, ttl: Duration) -> Self {
        self.settings.near_ttl = ttl;
        self
    }

    /// Puts the near level before the far store.
    #[must_use]
    pub fn build(self) -> Tiered<A> {
        Tiered::assemble(self.far, self.settings)
    }
}
