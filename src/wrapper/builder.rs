//! The builder of a wrapper with options of its own.

use super::slot::Core;
use crate::codec::Codec;
use crate::config::{IntoAdapter, Opened};
use crate::error::Result;
use crate::expiry::Expiry;
use crate::options::{Options, each_option};
use crate::wrapper::AsyncCacheWrapper;

/// Makes an [`AsyncCacheWrapper`] whose calls have these options, unless a view says otherwise.
///
/// ```
/// use larder::AsyncCacheWrapper;
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
/// let cache = AsyncCacheWrapper::builder("memory")
///     .ttl(Duration::from_secs(60))
///     .stale_for(Duration::from_secs(3600))
///     .soft_timeout(Duration::from_millis(100))
///     .jitter(0.1)
///     .build()?;
/// assert_eq!(cache.get_or_set_async("k", async { 5u8 }).await?, 5);
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use]
pub struct WrapperBuilder {
    opened: Result<Opened>,
    options: Options,
}

impl WrapperBuilder {
    pub(super) fn new(adapter: impl IntoAdapter) -> Self {
        Self { opened: adapter.into_opened(), options: Options::default() }
    }

    /// See [`View::ttl`](crate::View::ttl).
    pub fn ttl(mut self, ttl: impl Into<Expiry>) -> Self {
        self.options.expiry = ttl.into().into();
        self
    }

    /// See [`View::codec`](crate::View::codec).
    pub fn codec(mut self, codec: Codec) -> Self {
        self.options.codec = Some(codec);
        self
    }

    /// See [`View::fail_open`](crate::View::fail_open).
    pub fn fail_open(mut self, fail_open: bool) -> Self {
        self.options.fail_open = fail_open;
        self
    }

    /// Builds the cache. Does no I/O.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) for a name or URL that larder does not know, and for an
    /// invalid number.
    pub fn build(self) -> Result<AsyncCacheWrapper> {
        self.options.check()?;
        Ok(AsyncCacheWrapper {
            options: self.options,
            ..AsyncCacheWrapper::over(Core::new(self.opened?))
        })
    }
}

macro_rules! mirror {
    ($($option:ident($($value:ident: $type:ty)?))*) => {$(
        #[doc = concat!("See [`View::", stringify!($option), "`](crate::wrapper::view::View::", stringify!($option), ").")]
        pub fn $option(mut self $(, $value: $type)?) -> Self {
            self.options.$option($($value)?);
            self
        }
    )*};
}

impl WrapperBuilder {
    each_option!(mirror);
}
