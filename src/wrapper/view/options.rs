//! The options of a view: how long values are good, and what is done when they no longer are.

use super::View;
use crate::expiry::Expiry;
use std::time::Duration;

/// # Options
///
/// `docs/freshness.md` tells what they are for.
impl View<'_> {
    /// Writes expire after `ttl`; [`Expiry::Default`] is the default of the cache that the view is of.
    ///
    /// ```
    /// use larder::{AsyncCacheWrapper, Expiry};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// let cache = AsyncCacheWrapper::new("memory")?.with_ttl(Expiry::Never);
    /// cache.ttl(Expiry::Default).set("k", 1).await?;
    /// assert_eq!(cache.expiry("k").await?, Some(Expiry::Never));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn ttl(mut self, ttl: impl Into<Expiry>) -> Self {
        self.options.expiry = ttl.into().or(self.cache.options.expiry);
        self
    }

    /// Whether `get_or_set*` go on without a backend that fails: they run the loader, return its value and emit an event
    /// (the default). Otherwise they give the backend's error.
    #[must_use]
    pub fn fail_open(mut self, fail_open: bool) -> Self {
        self.options.fail_open = fail_open;
        self
    }

    /// Entries are kept that much longer after they have expired, as *stale*: missing for every verb, but served by `get_or_set*`
    /// of a view with this option when the loader fails, panics or takes too long ([`soft_timeout`](View::soft_timeout)).
    /// Nothing by default.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// # let cache = larder::AsyncCacheWrapper::new("memory")?;
    /// let rates = cache.ttl(Duration::from_millis(1)).stale_for(Duration::from_secs(3600));
    /// rates.set("eur", 1.08).await?;
    /// # tokio::time::sleep(Duration::from_millis(20)).await;
    /// let rate: f64 = rates.try_get_or_set_async("eur", async { Err("the bank is closed") }).await?;
    /// assert_eq!(rate, 1.08);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn stale_for(mut self, stale_for: Duration) -> Self {
        self.options.stale_for(stale_for);
        self
    }

    /// With a stale value at hand, `get_or_set*` wait for the loader no longer than this, and serve it. The loader goes on, and
    /// its value is stored. Zero serves what is stale at once. A closure runs where its caller is, and is always waited for.
    #[must_use]
    pub fn soft_timeout(mut self, limit: Duration) -> Self {
        self.options.soft_timeout(limit);
        self
    }

    /// `get_or_set*` wait for the loader no longer than this: then they serve what is stale, or give a
    /// [`Timeout`](crate::ErrorKind::Timeout). The loader goes on, and its value is stored.
    #[must_use]
    pub fn hard_timeout(mut self, limit: Duration) -> Self {
        self.options.hard_timeout(limit);
        self
    }

    /// How long a loader that failed is left in peace, for each key, as long as there is a value to serve in its place. 30 s by
    /// default; within one process.
    #[must_use]
    pub fn throttle(mut self, throttle: Duration) -> Self {
        self.options.throttle(throttle);
        self
    }

    /// A hit of `get_or_set*` after this part of the entry's life (more than 0, at most 1) starts its loader in the background, once
    /// for all, and is served at once. For entries that were stored by `get_or_set*`, or through a view with one of these options.
    /// A closure runs in the call that finds the entry due.
    #[must_use]
    pub fn refresh_ahead(mut self, fraction: f64) -> Self {
        self.options.refresh_ahead(fraction);
        self
    }

    /// Some hits of `get_or_set*` compute the value again before it expires: the sooner it does and the longer it took to compute,
    /// the more of them (XFetch). 1 is what the paper recommends, more is earlier, 0 never, infinite always. The call waits; if the loader
    /// fails, it gets the value there is.
    #[must_use]
    pub fn early_refresh(mut self, beta: f64) -> Self {
        self.options.early_refresh(beta);
        self
    }

    /// Each write lives longer by a random part of its `ttl`, up to this one, so that what was stored together does not expire
    /// together. 0.1 is up to a tenth.
    #[must_use]
    pub fn jitter(mut self, part: f64) -> Self {
        self.options.jitter(part);
        self
    }

    /// `get_or_set*` return a `None` (or `()`, or a null) of the loader's, and do not store it.
    #[must_use]
    pub fn skip_none(mut self) -> Self {
        self.options.skip_none();
        self
    }

    /// `get_or_set*` run the loader although there is a value, and store what it gives. If it fails, that is the call's error, and
    /// the old entry stays. Of several at once one runs.
    #[must_use]
    pub fn force_refresh(mut self) -> Self {
        self.options.force_refresh();
        self
    }

    /// Reads through the view give stale values, too (see [`stale_for`](View::stale_for)).
    #[must_use]
    pub fn allow_stale(mut self) -> Self {
        self.options.allow_stale();
        self
    }

    /// On a miss of `get_or_set*` one process computes, for at most this long; the others wait for its value, and take over when
    /// the lease ends without one. Off by default; nothing on a store that one process has to itself. See `docs/leases.md`.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// let cache = larder::AsyncCacheWrapper::new("memory")?;
    /// let report = cache.view().lease(Duration::from_secs(30)).get_or_set_async("report", async { 42u8 }).await?;
    /// assert_eq!(report, 42);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.options.lease(lease);
        self
    }
}
