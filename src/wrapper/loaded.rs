//! A loader's value together with its expiry.

use crate::expiry::Expiry;
use crate::options::Options;
use crate::value::CacheValue;
use crate::wrapper::Cacheable;
use std::time::Duration;

/// A loader's value together with the loader's decision how long it lives, or that it is not
/// stored. Also for negative caching: a short expiry for "not found". What the loader leaves out is
/// taken from the options of the call.
///
/// ```
/// use larder::{AsyncCacheWrapper, Expiry, Loaded};
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
/// let cache = AsyncCacheWrapper::new("memory")?;
/// let found = cache.get_or_set_loaded_async("user:7", async {
///     match find(7).await {
///         Some(name) => Loaded::new(name).ttl(Duration::from_secs(3600)),
///         None => Loaded::unstored("nobody".to_owned()),
///     }
/// });
/// assert_eq!(found.await?, "nobody");
/// assert!(!cache.contains("user:7").await?);
/// # Ok(()) }
/// # async fn find(_: u32) -> Option<String> { None }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub struct Loaded<T> {
    /// The value.
    pub value: T,
    /// When the value expires; [`Expiry::Default`] is the expiry of the call.
    pub ttl: Expiry,
    /// How long the value is kept after it has expired; `None` is the setting of the call.
    pub stale_for: Option<Duration>,
    /// Whether the value is stored.
    pub is_stored: bool,
}

impl<T> Loaded<T> {
    /// A value with the options of the call.
    pub fn new(value: T) -> Self {
        Self { value, ttl: Expiry::Default, stale_for: None, is_stored: true }
    }

    /// A value that is returned to all callers that wait, and not stored.
    pub fn unstored(value: T) -> Self {
        Self { is_stored: false, ..Self::new(value) }
    }

    /// Sets the expiry.
    pub fn ttl(mut self, ttl: impl Into<Expiry>) -> Self {
        self.ttl = ttl.into();
        self
    }

    /// Sets how long the value is kept after it has expired, see
    /// [`View::stale_for`](crate::View::stale_for). Has no effect with [`idle`](crate::View::idle).
    pub fn stale_for(mut self, stale_for: Duration) -> Self {
        self.stale_for = Some(stale_for);
        self
    }

    /// The same with a value whose type the code of the load need not know.
    pub(crate) fn untyped(self) -> Loaded<CacheValue>
    where
        T: Cacheable,
    {
        let Self { value, ttl, stale_for, is_stored } = self;
        Loaded { value: CacheValue::new(value), ttl, stale_for, is_stored }
    }

    /// The options of the call, changed for this entry.
    pub(super) fn options(&self, mut options: Options) -> Options {
        options.expiry = self.ttl.or(options.expiry.get()).into();
        if let Some(stale_for) = self.stale_for {
            options.stale_for(stale_for);
        }
        options
    }
}
