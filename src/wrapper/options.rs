//! Options: the same cache with another option for all calls, and views for some calls.

use super::tags::Tagged;
use super::view::View;
use crate::codec::Codec;
use crate::expiry::Expiry;
use crate::options::each_option;
use crate::wrapper::AsyncCacheWrapper;
use std::time::Duration;

macro_rules! mirror {
    ($($option:ident($($value:ident: $type:ty)?))*) => {$(
        #[doc = concat!("A view with [`", stringify!($option), "`](View::", stringify!($option), ").")]
        pub fn $option(&self $(, $value: $type)?) -> View<'_> {
            self.view().$option($($value)?)
        }
    )*};
}

/// # Options
///
/// A view has options for the calls that go through it. [`View`] says what each option means.
impl AsyncCacheWrapper {
    /// A view of this cache with the wrapper's own options.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        let (options, max_batch) = (self.options, self.max_batch);
        View {
            cache: self,
            options,
            max_batch,
            is_caller_driven: false,
            drawn: None,
            #[cfg(feature = "macros")]
            call_tags: None,
        }
    }

    /// A view whose writes expire after `ttl`.
    pub fn ttl(&self, ttl: impl Into<Expiry>) -> View<'_> {
        self.view().ttl(ttl)
    }

    /// A view that writes values with this codec, and reads those without a header by it.
    pub fn codec(&self, codec: Codec) -> View<'_> {
        self.view().codec(codec)
    }

    /// A view with or without fail-open (see [`View::fail_open`]).
    pub fn fail_open(&self, fail_open: bool) -> View<'_> {
        self.view().fail_open(fail_open)
    }

    /// A view whose loaders for several keys are given at most so many at once.
    pub fn max_batch(&self, most: usize) -> View<'_> {
        self.view().max_batch(most)
    }

    /// This cache with tags for all that it writes: [`remove_tags`](Self::remove_tags) with one of
    /// them removes the entries. See [`View::tags`].
    pub fn tags<I>(&self, tags: I) -> Tagged<Self>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        self.view().tags(tags)
    }

    each_option!(mirror);

    /// The same cache with another default expiry; a call's own `.ttl(…)` still wins.
    ///
    /// ```
    /// use larder::{AsyncCacheWrapper, Expiry};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// let cache = AsyncCacheWrapper::new("memory")?.with_ttl(Expiry::Never);
    /// cache.set("k", 1).await?;
    /// assert_eq!(cache.expiry("k").await?, Some(Expiry::Never));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn with_ttl(mut self, ttl: impl Into<Expiry>) -> Self {
        self.options.expiry = ttl.into().into();
        self
    }

    /// The same cache, with or without fail-open (see [`View::fail_open`]).
    ///
    /// ```
    /// # fn main() -> larder::Result<()> {
    /// let strict = larder::AsyncCacheWrapper::new("memory")?.with_fail_open(false);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn with_fail_open(mut self, fail_open: bool) -> Self {
        self.options.fail_open = fail_open;
        self
    }

    /// The same cache, with a lease for the loads of `get_or_set*` (see [`View::lease`]).
    ///
    /// ```
    /// # fn main() -> larder::Result<()> {
    /// use std::time::Duration;
    ///
    /// let cache = larder::AsyncCacheWrapper::new("memory")?.with_lease(Duration::from_secs(10));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.options.lease(lease);
        self
    }
}
