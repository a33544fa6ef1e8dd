//! The options of a view: when values expire, and what happens after that.

use super::View;
use crate::codec::Codec;
use crate::expiry::Expiry;
use crate::wrapper::AsyncCacheWrapper;
use crate::wrapper::max_batch::MaxBatch;
use crate::wrapper::tags::Tagged;
use std::time::Duration;

/// # Options
///
/// [`docs::freshness`](crate::docs::freshness) explains when to use them.
impl View<'_> {
    /// Writes expire after `ttl`; [`Expiry::Default`] is the default expiry of the view's cache.
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
        self.options.expiry = ttl.into().or(self.cache.options.expiry.get()).into();
        self
    }

    /// Writes values with this codec, in its own form, whatever the codec of the adapter is, and
    /// reads values without a header by it. What a header says holds.
    ///
    /// So a program can share some of its keys with programs in other languages over the
    /// connections that it has. See [`docs::codecs`](crate::docs::codecs).
    ///
    /// ```
    /// use larder::Codec;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// # let cache = larder::AsyncCacheWrapper::new("memory")?;
    /// let shared = cache.namespace("shared");
    /// let shared = shared.codec(Codec::Json).into_cache();
    /// shared.set("rates", [1.08, 0.86]).await?; // [1.08,0.86], as Python writes it
    /// assert_eq!(shared.get::<Vec<f64>>("rates").await?, Some(vec![1.08, 0.86]));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Of the verbs that write: [`Encode`](crate::ErrorKind::Encode) for a value that the codec
    /// cannot write; [`Unsupported`](crate::ErrorKind::Unsupported) together with
    /// [`stale_for`](View::stale_for) for a codec without a header, and for
    /// [`Codec::MessagePack`] over an adapter whose codec is [`Codec::Raw`].
    #[must_use]
    pub fn codec(mut self, codec: Codec) -> Self {
        self.options.codec = Some(codec);
        self
    }

    /// Gives these tags to all that is written, in place of those that an entry or the cache has.
    /// [`remove_tags`](View::remove_tags) with one of them removes the entries, in this process and
    /// in all others. Reads need no tags: an entry bears its own.
    ///
    /// At most 16 tags, of any text but the empty one. Each namespace has tags of its own.
    /// [`docs::tags`](crate::docs::tags) says what a tag costs.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// let cache = larder::AsyncCacheWrapper::new("memory")?;
    /// cache.tags(["user:7", "team:3"]).set("page", "…").await?;
    /// let brief = cache.ttl(std::time::Duration::from_secs(60)).tags(["user:7"]);
    /// brief.get_or_set_async("name", async { "Ada".to_owned() }).await?;
    /// cache.remove_tags(["user:7"]).await?;
    /// assert!(!cache.contains("page").await? && !cache.contains("name").await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Of all verbs: [`InvalidKey`](crate::ErrorKind::InvalidKey) for a 17th or an empty tag. Of the
    /// verbs that write: [`Unsupported`](crate::ErrorKind::Unsupported) for a codec without a header,
    /// and for [`incr`](View::incr).
    pub fn tags<I>(self, tags: I) -> Tagged<AsyncCacheWrapper>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        Tagged::new(self.with_tags(tags))
    }

    /// Whether `get_or_set*` go on without a backend that fails (fail-open). If so, which is the
    /// default, they run the loader, return its value and emit an event. If not, they return the
    /// backend's error.
    #[must_use]
    pub fn fail_open(mut self, fail_open: bool) -> Self {
        self.options.fail_open = fail_open;
        self
    }

    /// One call of the loader of [`get_or_set_many_async`](View::get_or_set_many_async) is given at
    /// most so many keys, 500 by default; four calls run at a time.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// # let cache = larder::AsyncCacheWrapper::new("memory")?;
    /// async fn double(numbers: Vec<u64>) -> Vec<(u64, u64)> {
    ///     assert!(numbers.len() <= 100);
    ///     numbers.into_iter().map(|number| (number, 2 * number)).collect()
    /// }
    /// let items = (0..1_000u64).map(|number| (format!("double:{number}"), number));
    /// let doubles = cache.max_batch(100).get_or_set_many_async(items, double).await?;
    /// assert_eq!(doubles[21], Some(42));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn max_batch(mut self, most: usize) -> Self {
        self.max_batch = MaxBatch::new(most);
        self
    }

    /// Entries expire when they were not read for this long (time to idle). A hit renews the
    /// expiry of its entry, at most once in a tenth of `idle`, also if another view wrote the
    /// entry. Hits are those of `get*` and `get_or_set*`.
    ///
    /// Writes expire after `idle` at the latest. A [`ttl`](View::ttl) that is set in code is the
    /// longest life of an entry, however often it is read; the default expiry of the adapter does
    /// not count. [`docs::freshness`](crate::docs::freshness) says what renews an entry and what
    /// does not. More than zero, and not together with [`stale_for`](View::stale_for).
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// let cache = larder::AsyncCacheWrapper::new("memory")?;
    /// // Gone after ten minutes without a read, and in any case after a day.
    /// let day = Duration::from_secs(86_400);
    /// let sessions = cache.ttl(day).idle(Duration::from_secs(600)).into_cache();
    /// sessions.set("session:7", "Ada").await?;
    /// assert_eq!(sessions.get::<String>("session:7").await?.as_deref(), Some("Ada"));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn idle(mut self, idle: Duration) -> Self {
        self.options.idle(idle);
        self
    }

    /// Keeps entries for this long after they have expired, as *stale* (stale-if-error). A stale
    /// entry is missing for every verb, but `get_or_set*` of a view with this option serve it when
    /// the loader fails, panics or takes too long ([`soft_timeout`](View::soft_timeout)). Zero by
    /// default.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// # let cache = larder::AsyncCacheWrapper::new("memory")?;
    /// let rates = cache.ttl(Duration::from_millis(1)).stale_for(Duration::from_secs(3600));
    /// rates.set("eur", 1.08).await?;
    /// # tokio::time::sleep(Duration::from_millis(20)).await;
    /// let rate: f64 = rates
    ///     .try_get_or_set_async("eur", async { Err("the bank is closed") })
    ///     .await?;
    /// assert_eq!(rate, 1.08);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn stale_for(mut self, stale_for: Duration) -> Self {
        self.options.stale_for(stale_for);
        self
    }

    /// If a stale value can be served, `get_or_set*` wait for the loader no longer than this, and
    /// then serve the stale value. The loader goes on, and its value is stored. Zero serves a stale
    /// value at once (stale-while-revalidate). A closure runs in its caller, so this timeout applies
    /// only while the call waits for another caller, or for another process
    /// ([`lease`](View::lease)); `get_or_load_here` refuses this option.
    #[must_use]
    pub fn soft_timeout(mut self, limit: Duration) -> Self {
        self.options.soft_timeout(limit);
        self
    }

    /// `get_or_set*` wait for the loader no longer than this. After that they serve a stale value,
    /// or return a [`Timeout`](crate::ErrorKind::Timeout). The loader goes on, and its value is
    /// stored; the loader of `get_or_load_here` ends. A closure that runs is not ended.
    #[must_use]
    pub fn hard_timeout(mut self, limit: Duration) -> Self {
        self.options.hard_timeout(limit);
        self
    }

    /// After a loader fails, does not call it again for this long (per key) while a stale value can
    /// be served. 30 s by default; within one process.
    #[must_use]
    pub fn throttle(mut self, throttle: Duration) -> Self {
        self.options.throttle(throttle);
        self
    }

    /// A hit of `get_or_set*` after this part of the entry's life (more than 0, at most 1) returns
    /// the value at once, and starts the loader in the background, once for all callers
    /// (refresh-ahead). This applies to entries that were stored by `get_or_set*`, or through a
    /// view with `refresh_ahead` or `early_refresh`. A closure does not run in the background, but
    /// in the call that finds the entry due; `get_or_load_here` refuses this option.
    #[must_use]
    pub fn refresh_ahead(mut self, fraction: f64) -> Self {
        self.options.refresh_ahead(fraction);
        self
    }

    /// Some hits of `get_or_set*`, chosen at random, compute the value again before it expires
    /// (XFetch, probabilistic early expiration). The nearer the end, and the longer the value took
    /// to compute, the more hits do so. `beta` is 1 in the paper; a larger `beta` refreshes
    /// earlier, 0 never, infinity on every hit. The call waits for its loader; if the loader fails,
    /// the call returns the value that is stored.
    #[must_use]
    pub fn early_refresh(mut self, beta: f64) -> Self {
        self.options.early_refresh(beta);
        self
    }

    /// Makes each write live longer by a random part of its `ttl`, up to this part, so that entries
    /// that were stored together do not expire together. 0.1 is up to a tenth.
    #[must_use]
    pub fn jitter(mut self, part: f64) -> Self {
        self.options.jitter(part);
        self
    }

    /// If the loader returns `None` (or `()`, or a null), `get_or_set*` return it and do not store
    /// it.
    #[must_use]
    pub fn skip_none(mut self) -> Self {
        self.options.skip_none();
        self
    }

    /// `get_or_set*` run the loader although there is a value, and store the result. If the loader
    /// fails, the call returns its error and the old entry stays. If the loader gives a value that is
    /// not stored ([`skip_none`](View::skip_none), [`Loaded::unstored`](crate::Loaded::unstored), or
    /// the backend refuses it or is away), the old entry is removed. Simultaneous refreshes share
    /// one load.
    #[must_use]
    pub fn force_refresh(mut self) -> Self {
        self.options.force_refresh();
        self
    }

    /// Reads through the view return stale values as well (see [`stale_for`](View::stale_for)).
    #[must_use]
    pub fn allow_stale(mut self) -> Self {
        self.options.allow_stale();
        self
    }

    /// Reads through the view ask the far store, although the value may be near: their answer is not
    /// older than the call. It is kept near. Has no effect without a near level
    /// ([`layers::Tiered`](crate::layers::Tiered)).
    ///
    /// ```
    /// # #[cfg(all(feature = "memory", feature = "sqlite"))]
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// let cache = larder::AsyncCacheWrapper::new("near+sqlite::memory:")?;
    /// cache.set("k", 1u8).await?;
    /// assert_eq!(cache.view().skip_near().get::<u8>("k").await?, Some(1));
    /// # Ok(()) }
    /// # #[cfg(not(all(feature = "memory", feature = "sqlite")))] fn main() {}
    /// ```
    #[must_use]
    pub fn skip_near(mut self) -> Self {
        self.options.skip_near();
        self
    }

    /// On a miss of `get_or_set*`, one process takes an exclusive lease on the key and computes the
    /// value; the other processes wait for the value, and take over if the lease ends without one.
    /// Off by default. Has no effect on a store that belongs to one process. See
    /// [`docs::leases`](crate::docs::leases).
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// let cache = larder::AsyncCacheWrapper::new("memory")?;
    /// let leased = cache.view().lease(Duration::from_secs(30));
    /// let report = leased.get_or_set_async("report", async { 42u8 }).await?;
    /// assert_eq!(report, 42);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.options.lease(lease);
        self
    }
}
