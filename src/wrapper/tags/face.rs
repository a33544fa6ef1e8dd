//! A cache with tags, as people call it.

use crate::codec::Codec;
use crate::expiry::Expiry;
use crate::options::each_option;
use crate::wrapper::AsyncCacheWrapper;
use std::ops::Deref;

/// A cache whose writes have tags: see [`tags`](AsyncCacheWrapper::tags). It has all verbs of the
/// cache, and its own copy of the options.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
/// use std::time::Duration;
///
/// let cache = larder::AsyncCacheWrapper::new("memory")?;
/// let of_ada = cache.tags(["user:7"]).ttl(Duration::from_secs(60));
/// of_ada.set("profile", "Ada").await?;
/// of_ada.set_many([("page:1", "…"), ("page:2", "…")]).await?;
/// cache.remove_tags(["user:7"]).await?;
/// assert!(!cache.contains("page:2").await?);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Tagged<C>(C);

impl<C> Tagged<C> {
    pub(crate) fn new(cache: C) -> Self {
        Self(cache)
    }

    /// The cache itself, whose writes have the tags.
    #[must_use]
    pub fn into_cache(self) -> C {
        self.0
    }
}

impl<C> Deref for Tagged<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.0
    }
}

/// The options of a cache with tags: as those of the cache, but the result owns what it needs.
macro_rules! tagged_options {
    ($cache:ty) => {
        /// # Options
        impl Tagged<$cache> {
            /// See [`View::ttl`](crate::View::ttl).
            pub fn ttl(self, ttl: impl Into<Expiry>) -> Self {
                Self::new(<$cache>::ttl(&self, ttl).into_cache())
            }

            /// See [`View::codec`](crate::View::codec).
            pub fn codec(self, codec: Codec) -> Self {
                Self::new(<$cache>::codec(&self, codec).into_cache())
            }

            /// See [`View::fail_open`](crate::View::fail_open).
            pub fn fail_open(self, fail_open: bool) -> Self {
                Self::new(<$cache>::fail_open(&self, fail_open).into_cache())
            }

            /// See [`View::max_batch`](crate::View::max_batch).
            pub fn max_batch(self, most: usize) -> Self {
                Self::new(<$cache>::max_batch(&self, most).into_cache())
            }
        }
    };
}
pub(crate) use tagged_options;

macro_rules! mirror {
    ($($option:ident($($value:ident: $type:ty)?))*) => {$(
        #[doc = concat!("See [`View::", stringify!($option), "`](crate::View::", stringify!($option), ").")]
        pub fn $option(self $(, $value: $type)?) -> Self {
            Self::new(AsyncCacheWrapper::$option(&self $(, $value)?).into_cache())
        }
    )*};
}

tagged_options!(AsyncCacheWrapper);

impl Tagged<AsyncCacheWrapper> {
    each_option!(mirror);
}
