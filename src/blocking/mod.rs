//! The blocking face: the same cache for code without `.await`. The only place in the crate that
//! blocks a thread.

mod awaitable;
mod keys;
mod tags;
mod verbs;
mod view;
mod wait;

pub use awaitable::{Awaitable, awaitable};
pub use keys::KeyIter;
pub use view::BlockingView;
pub(crate) use wait::wait;

use crate::adapter::AsyncCacheAdapter;
use crate::codec::Codec;
use crate::config::IntoAdapter;
use crate::error::Result;
use crate::event::Event;
use crate::expiry::Expiry;
use crate::observers::Observation;
use crate::options::each_option;
use crate::stats::Stats;
use crate::wrapper::{AsyncCacheWrapper, Tagged, WeakCache};
use std::sync::Arc;
use std::time::Duration;

/// The blocking face of a cache: the verbs of [`AsyncCacheWrapper`], with the same meanings and
/// errors, for code without `.await`.
///
/// It works on a plain thread, in `spawn_blocking`, on a worker of a multi-thread runtime, inside a
/// current-thread runtime, in a `LocalSet`, in `Drop`, and after a runtime has shut down. A
/// background runtime of larder's own drives the sockets and timers of a call; a hit in memory
/// needs no runtime. In a thread-local's destructor, where tokio's own thread-locals may be gone, a
/// call that has to wait is [`Unavailable`](crate::ErrorKind::Unavailable). Inside async code a
/// call blocks the thread: prefer the async face there.
///
/// ```
/// use larder::CacheWrapper;
///
/// let cache = CacheWrapper::new("memory")?;
/// cache.set("hello", "world")?;
/// assert_eq!(cache.get::<String>("hello")?.as_deref(), Some("world"));
/// # Ok::<(), larder::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct CacheWrapper {
    inner: AsyncCacheWrapper,
}

impl From<AsyncCacheWrapper> for CacheWrapper {
    fn from(inner: AsyncCacheWrapper) -> Self {
        Self { inner }
    }
}

/// # Without `.await`
impl AsyncCacheWrapper {
    /// The blocking face of the same cache.
    #[must_use]
    pub fn blocking(&self) -> CacheWrapper {
        CacheWrapper::from(self.clone())
    }
}

macro_rules! mirror {
    ($($option:ident($($value:ident: $type:ty)?))*) => {$(
        #[doc = concat!("See [`View::", stringify!($option), "`](crate::wrapper::View::", stringify!($option), ").")]
        pub fn $option(&self $(, $value: $type)?) -> BlockingView<'_> {
            self.view().$option($($value)?)
        }
    )*};
}

impl CacheWrapper {
    /// See [`AsyncCacheWrapper::new`].
    pub fn new(adapter: impl IntoAdapter) -> Result<Self> {
        AsyncCacheWrapper::new(adapter).map(Self::from)
    }

    /// See [`AsyncCacheWrapper::from_env`].
    pub fn from_env() -> Result<Self> {
        AsyncCacheWrapper::from_env().map(Self::from)
    }

    /// The async face of the same cache.
    #[must_use]
    pub fn as_async(&self) -> &AsyncCacheWrapper {
        &self.inner
    }

    /// See [`AsyncCacheWrapper::namespace`].
    #[must_use]
    pub fn namespace(&self, name: impl AsRef<str>) -> Self {
        self.inner.namespace(name).into()
    }

    /// See [`AsyncCacheWrapper::with_ttl`].
    #[must_use]
    pub fn with_ttl(self, ttl: impl Into<Expiry>) -> Self {
        self.inner.with_ttl(ttl).into()
    }

    /// See [`AsyncCacheWrapper::with_lease`].
    #[must_use]
    pub fn with_lease(self, lease: Duration) -> Self {
        self.inner.with_lease(lease).into()
    }

    /// See [`AsyncCacheWrapper::with_fail_open`].
    #[must_use]
    pub fn with_fail_open(self, fail_open: bool) -> Self {
        self.inner.with_fail_open(fail_open).into()
    }

    /// See [`AsyncCacheWrapper::observe`].
    pub fn observe(&self, observer: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Observation {
        self.inner.observe(observer)
    }

    /// See [`AsyncCacheWrapper::downgrade`]; [`AsyncCacheWrapper::blocking`] leads back here.
    #[must_use]
    pub fn downgrade(&self) -> WeakCache {
        self.inner.downgrade()
    }

    /// See [`AsyncCacheWrapper::trace_keys`].
    #[cfg(feature = "tracing")]
    pub fn trace_keys(&self, show: bool) {
        self.inner.trace_keys(show);
    }

    /// See [`AsyncCacheWrapper::stats`].
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inner.stats()
    }

    /// See [`AsyncCacheWrapper::record_size`].
    #[cfg(feature = "metrics")]
    pub fn record_size(&self, cache: impl Into<Arc<str>>) {
        self.inner.record_size(cache);
    }

    /// See [`AsyncCacheWrapper::adapter`].
    pub fn adapter(&self) -> Result<Arc<dyn AsyncCacheAdapter>> {
        self.inner.adapter()
    }

    /// See [`AsyncCacheWrapper::set_adapter`].
    pub fn set_adapter(&self, adapter: impl IntoAdapter) -> Result<Arc<dyn AsyncCacheAdapter>> {
        self.inner.set_adapter(adapter)
    }

    /// See [`AsyncCacheWrapper::swap_adapter`].
    pub fn swap_adapter(&self, adapter: impl IntoAdapter) -> Result<Arc<dyn AsyncCacheAdapter>> {
        self.inner.swap_adapter(adapter)
    }

    /// See [`AsyncCacheWrapper::reset_adapter`].
    pub fn reset_adapter(&self) -> Result<Arc<dyn AsyncCacheAdapter>> {
        wait(self.inner.reset_adapter())
    }

    /// See [`AsyncCacheWrapper::generation`].
    pub fn generation(&self) -> Result<u64> {
        self.inner.generation()
    }

    /// A view with the wrapper's own options.
    #[must_use]
    pub fn view(&self) -> BlockingView<'_> {
        BlockingView(self.inner.view())
    }

    /// See [`AsyncCacheWrapper::ttl`].
    pub fn ttl(&self, ttl: impl Into<Expiry>) -> BlockingView<'_> {
        self.view().ttl(ttl)
    }

    /// See [`AsyncCacheWrapper::codec`].
    pub fn codec(&self, codec: Codec) -> BlockingView<'_> {
        self.view().codec(codec)
    }

    /// See [`AsyncCacheWrapper::fail_open`].
    pub fn fail_open(&self, fail_open: bool) -> BlockingView<'_> {
        self.view().fail_open(fail_open)
    }

    /// See [`AsyncCacheWrapper::max_batch`].
    pub fn max_batch(&self, most: usize) -> BlockingView<'_> {
        self.view().max_batch(most)
    }

    /// See [`AsyncCacheWrapper::tags`].
    pub fn tags<I>(&self, tags: I) -> Tagged<Self>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        self.view().tags(tags)
    }

    each_option!(mirror);

    /// See [`AsyncCacheWrapper::connect`].
    pub fn connect(&self) -> Result<()> {
        wait(self.inner.connect())
    }

    /// See [`AsyncCacheWrapper::ping`].
    pub fn ping(&self) -> Result<()> {
        wait(self.inner.ping())
    }

    /// See [`AsyncCacheWrapper::close`].
    pub fn close(&self) -> Result<()> {
        wait(self.inner.close())
    }

    /// See [`AsyncCacheWrapper::reconnect`].
    pub fn reconnect(&self) -> Result<()> {
        wait(self.inner.reconnect())
    }
}
