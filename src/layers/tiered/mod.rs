//! Values near, in front of a store that is far.
//!
//! - `core`: what may be served and what may be kept: no I/O, no tasks, no clock
//! - `level`: the core with the store of near values, the clock and the counters
//! - `reads`: far reads; `landed`: their answers, for those that wait
//! - `source`: the sources of the core, as adapters see them
//! - `adapter`: the methods of the contract
//! - `model`: a simulation of many nodes before one store; `map`: its near store

mod adapter;
mod builder;
mod core;
mod landed;
mod level;
#[cfg(test)]
mod map;
#[cfg(test)]
mod model;
mod reads;
mod source;

pub use builder::TieredBuilder;

use crate::adapter::{AsyncCacheAdapter, Follower};
use crate::adapters::memory::AsyncMemoryCache;
use builder::Settings;
use level::Level;
use source::Home;
use std::fmt;
use std::sync::Arc;

/// A layer that keeps values of a far store in this process, and serves them while they are proven
/// to be fresh: two tiers, or levels.
///
/// A read that finds a value near is as fast as a read in memory. How old the value can be has a
/// bound, [`near_bound`](TieredBuilder::near_bound), whatever fails: a value near is served only if
/// it was read less than that ago, or if the store vouches for it (see
/// [`follow`](AsyncCacheAdapter::follow)). The guide is [`docs::tiers`](crate::docs::tiers). A cache
/// has this layer if its URL begins with `near+`: `near+redis://127.0.0.1/?near_bound=100ms`.
///
/// - Once a write, a removal or a `clear` of this layer has returned, its next read sees it.
/// - A read that begins the near bound after the write of another node has returned sees it, too.
/// - Reads that miss near at the same time are one read of the far store.
/// - A value whose proof has ended stays for about ten minutes, for
///   [`get_unproven`](AsyncCacheAdapter::get_unproven).
/// - A value over 256 KiB is not kept near, and neither is the absence of one.
/// - A far store that answers without waiting, as a memory cache does, is asked itself.
///
/// Claims, counters and all writes are the far store's; so is the
/// [`backend`](AsyncCacheAdapter::backend).
///
/// # Errors
///
/// Those of the far store. A value that is near is served without asking it, so for at most the near
/// bound also while the store is away.
///
/// # Cancel safety
///
/// A dropped read leaves nothing behind; of the reads that waited for its answer, one asks the
/// store. A dropped write leaves nothing near.
///
/// # Example
///
/// ```
/// # #[cfg(all(feature = "memory", feature = "sqlite"))]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> larder::Result<()> {
/// use larder::layers::Tiered;
/// use larder::{AsyncCacheWrapper, AsyncMemoryCache, AsyncSqliteCache};
///
/// let far = AsyncSqliteCache::in_memory();
/// let cache = AsyncCacheWrapper::new(Tiered::new(AsyncMemoryCache::new(), far))?;
/// cache.set("k", "value").await?;
/// assert_eq!(cache.get::<String>("k").await?.as_deref(), Some("value")); // from far
/// assert_eq!(cache.get::<String>("k").await?.as_deref(), Some("value")); // from near
/// assert_eq!(cache.stats().near.map(|near| near.far_reads), Some(1));
/// # Ok(())
/// # }
/// # #[cfg(not(all(feature = "memory", feature = "sqlite")))] fn main() {}
/// ```
pub struct Tiered<A> {
    far: A,
    level: Arc<Level>,
    settings: Settings,
}

impl<A: AsyncCacheAdapter> Tiered<A> {
    /// Puts a near level before `far`, with default settings. The near level has a store of its own,
    /// with the bounds of `near`; nothing is kept in `near` itself.
    #[must_use]
    pub fn new(near: AsyncMemoryCache, far: A) -> Self {
        Self::builder(far).near(near).build()
    }

    /// Returns a builder with default settings.
    pub fn builder(far: A) -> TieredBuilder<A> {
        TieredBuilder::new(far)
    }

    fn assemble(far: A, settings: Settings) -> Self {
        let level = Arc::new(Level::new(&settings, far.backend()));
        // Whether the far store tells of changes does not matter here: an answer names its source.
        let _follows = far.follow(Follower::new(Arc::new(Home::of(&level))));
        Self { far, level, settings }
    }

    /// The adapter of the far store.
    ///
    /// ```
    /// use larder::AsyncMemoryCache;
    /// use larder::layers::Tiered;
    ///
    /// let tiered = Tiered::new(AsyncMemoryCache::new(), AsyncMemoryCache::new());
    /// let far: &AsyncMemoryCache = tiered.inner();
    /// ```
    #[must_use]
    pub fn inner(&self) -> &A {
        &self.far
    }

    /// The number of values that are near, with those that are kept to be served as stale.
    ///
    /// ```
    /// use larder::AsyncMemoryCache;
    /// use larder::layers::Tiered;
    ///
    /// let tiered = Tiered::new(AsyncMemoryCache::new(), AsyncMemoryCache::new());
    /// assert_eq!(tiered.near_entries(), 0);
    /// ```
    #[must_use]
    pub fn near_entries(&self) -> usize {
        self.level.len()
    }
}

impl<A: AsyncCacheAdapter> fmt::Debug for Tiered<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tiered")
            .field("far", &self.far.backend())
            .field("near_entries", &self.near_entries())
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
