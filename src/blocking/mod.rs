//! The blocking face: the same cache for code without `.await`. The only place in the crate that
//! blocks a thread.

mod awaitable;
mod view;
mod wait;

pub use awaitable::{Awaitable, awaitable};
pub use view::BlockingView;
pub(crate) use wait::wait;

use crate::adapter::AsyncCacheAdapter;
use crate::config::IntoAdapter;
use crate::error::Result;
use crate::event::Event;
use crate::expiry::Expiry;
use crate::observers::Observation;
use crate::options::each_option;
use crate::stats::Stats;
use crate::wrapper::{AsyncCacheWrapper, Cacheable, Keys, Loaded, NotAResult, WeakCache};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::future::Future;
use std::sync::Arc;
use std::task::Poll;
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

    /// See [`AsyncCacheWrapper::fail_open`].
    pub fn fail_open(&self, fail_open: bool) -> BlockingView<'_> {
        self.view().fail_open(fail_open)
    }

    each_option!(mirror);

    /// See [`AsyncCacheWrapper::get`].
    pub fn get<T>(&self, key: impl AsRef<str>) -> Result<Option<T>>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        let key = key.as_ref();
        // Memory needs no runtime.
        match self.inner.read_now(key, self.inner.options.allow_stale) {
            Poll::Ready(found) => found,
            Poll::Pending => wait(self.inner.get(key)),
        }
    }

    /// See [`AsyncCacheWrapper::get_or`].
    pub fn get_or<T>(&self, key: impl AsRef<str>, default: T) -> Result<T>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        Ok(self.get(key)?.unwrap_or(default))
    }

    /// See [`AsyncCacheWrapper::get_or_fail`].
    pub fn get_or_fail<T>(&self, key: impl AsRef<str>) -> Result<T>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        self.view().get_or_fail(key)
    }

    /// See [`AsyncCacheWrapper::get_many`].
    pub fn get_many<T, I>(&self, keys: I) -> Result<Vec<Option<T>>>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        self.view().get_many(keys)
    }

    /// See [`AsyncCacheWrapper::contains`].
    pub fn contains(&self, key: impl AsRef<str>) -> Result<bool> {
        self.view().contains(key)
    }

    /// See [`AsyncCacheWrapper::expiry`].
    pub fn expiry(&self, key: impl AsRef<str>) -> Result<Option<Expiry>> {
        self.view().expiry(key)
    }

    /// See [`AsyncCacheWrapper::set`].
    pub fn set<T>(&self, key: impl AsRef<str>, value: T) -> Result<()>
    where
        T: Serialize + Send + Sync + 'static,
    {
        self.view().set(key, value)
    }

    /// See [`AsyncCacheWrapper::set_many`].
    pub fn set_many<K, T, I>(&self, entries: I) -> Result<()>
    where
        K: AsRef<str>,
        T: Serialize + Send + Sync + 'static,
        I: IntoIterator<Item = (K, T)>,
    {
        self.view().set_many(entries)
    }

    /// See [`AsyncCacheWrapper::set_each`].
    pub fn set_each<K, T, I>(&self, entries: I) -> Result<()>
    where
        K: AsRef<str>,
        T: Serialize + Send + Sync + 'static,
        I: IntoIterator<Item = (K, T, Expiry)>,
    {
        self.view().set_each(entries)
    }

    /// See [`AsyncCacheWrapper::add`].
    pub fn add<T>(&self, key: impl AsRef<str>, value: T) -> Result<bool>
    where
        T: Serialize + Send + Sync + 'static,
    {
        self.view().add(key, value)
    }

    /// See [`AsyncCacheWrapper::replace`].
    pub fn replace<T>(&self, key: impl AsRef<str>, value: T) -> Result<bool>
    where
        T: Serialize + Send + Sync + 'static,
    {
        self.view().replace(key, value)
    }

    /// See [`AsyncCacheWrapper::incr`].
    pub fn incr(&self, key: impl AsRef<str>, by: i64) -> Result<i64> {
        self.view().incr(key, by)
    }

    /// See [`AsyncCacheWrapper::decr`].
    pub fn decr(&self, key: impl AsRef<str>, by: i64) -> Result<i64> {
        self.view().decr(key, by)
    }

    /// See [`AsyncCacheWrapper::remove`].
    pub fn remove<By>(&self, keys: impl Keys<By>) -> Result<bool> {
        self.view().remove(keys)
    }

    /// See [`AsyncCacheWrapper::remove_many`].
    pub fn remove_many<I>(&self, keys: I) -> Result<bool>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        self.view().remove_many(keys)
    }

    /// See [`AsyncCacheWrapper::take`].
    pub fn take<T>(&self, key: impl AsRef<str>) -> Result<Option<T>>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        self.view().take(key)
    }

    /// See [`AsyncCacheWrapper::touch`].
    pub fn touch(&self, key: impl AsRef<str>, ttl: impl Into<Expiry>) -> Result<bool> {
        self.view().touch(key, ttl)
    }

    /// See [`AsyncCacheWrapper::update_timeout`].
    pub fn update_timeout<T>(&self, key: impl AsRef<str>, ttl: impl Into<Expiry>) -> Result<T>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        self.view().update_timeout(key, ttl)
    }

    /// See [`AsyncCacheWrapper::clear`].
    pub fn clear(&self) -> Result<()> {
        self.view().clear()
    }

    /// See [`AsyncCacheWrapper::get_or_set`].
    pub fn get_or_set<T, By>(&self, key: impl AsRef<str>, value: T) -> Result<T>
    where
        T: Cacheable + NotAResult<By>,
    {
        self.view().get_or_set(key, value)
    }

    /// See [`AsyncCacheWrapper::get_or_set_with`].
    pub fn get_or_set_with<T, By>(
        &self,
        key: impl AsRef<str>,
        loader: impl FnOnce(&str) -> T,
    ) -> Result<T>
    where
        T: Cacheable + NotAResult<By>,
    {
        self.view().get_or_set_with(key, loader)
    }

    /// See [`AsyncCacheWrapper::get_or_set_async`]. The future runs inside larder's background
    /// runtime: on this thread while the call waits, or on another thread if the call has a timeout
    /// or ends before the future.
    pub fn get_or_set_async<T, By>(
        &self,
        key: impl AsRef<str>,
        loader: impl Future<Output = T> + Send + 'static,
    ) -> Result<T>
    where
        T: Cacheable + NotAResult<By>,
    {
        self.view().get_or_set_async(key, loader)
    }

    /// See [`AsyncCacheWrapper::try_get_or_set_async`].
    pub fn try_get_or_set_async<T, E, F>(&self, key: impl AsRef<str>, loader: F) -> Result<T>
    where
        T: Cacheable,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        self.view().try_get_or_set_async(key, loader)
    }

    /// See [`AsyncCacheWrapper::try_get_or_set_with`].
    pub fn try_get_or_set_with<T, E>(
        &self,
        key: impl AsRef<str>,
        loader: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T>
    where
        T: Cacheable,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.view().try_get_or_set_with(key, loader)
    }

    /// See [`AsyncCacheWrapper::get_or_load`].
    pub fn get_or_load<T, By, F>(
        &self,
        key: impl AsRef<str>,
        loader: impl FnOnce() -> F,
    ) -> Result<T>
    where
        T: Cacheable + NotAResult<By>,
        F: Future<Output = T> + Send + 'static,
    {
        self.view().get_or_load(key, loader)
    }

    /// See [`AsyncCacheWrapper::try_get_or_load`].
    pub fn try_get_or_load<T, E, F>(
        &self,
        key: impl AsRef<str>,
        loader: impl FnOnce() -> F,
    ) -> Result<T>
    where
        T: Cacheable,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        self.view().try_get_or_load(key, loader)
    }

    /// See [`AsyncCacheWrapper::get_or_load_here`]. The future runs on this thread.
    pub fn get_or_load_here<T, By, F>(
        &self,
        key: impl AsRef<str>,
        loader: impl FnOnce() -> F,
    ) -> Result<T>
    where
        T: Cacheable + NotAResult<By>,
        F: Future<Output = T>,
    {
        self.view().get_or_load_here(key, loader)
    }

    /// See [`AsyncCacheWrapper::try_get_or_load_here`]. The future runs on this thread.
    pub fn try_get_or_load_here<T, E, F>(
        &self,
        key: impl AsRef<str>,
        loader: impl FnOnce() -> F,
    ) -> Result<T>
    where
        T: Cacheable,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
        F: Future<Output = Result<T, E>>,
    {
        self.view().try_get_or_load_here(key, loader)
    }

    /// See [`AsyncCacheWrapper::get_or_set_loaded_with`].
    pub fn get_or_set_loaded_with<T: Cacheable>(
        &self,
        key: impl AsRef<str>,
        loader: impl FnOnce(&str) -> Loaded<T>,
    ) -> Result<T> {
        self.view().get_or_set_loaded_with(key, loader)
    }

    /// See [`AsyncCacheWrapper::get_or_set_loaded_async`].
    pub fn get_or_set_loaded_async<T, F>(&self, key: impl AsRef<str>, loader: F) -> Result<T>
    where
        T: Cacheable,
        F: Future<Output = Loaded<T>> + Send + 'static,
    {
        self.view().get_or_set_loaded_async(key, loader)
    }

    /// See [`AsyncCacheWrapper::try_get_or_set_loaded_async`].
    pub fn try_get_or_set_loaded_async<T, E, F>(&self, key: impl AsRef<str>, loader: F) -> Result<T>
    where
        T: Cacheable,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
        F: Future<Output = Result<Loaded<T>, E>> + Send + 'static,
    {
        self.view().try_get_or_set_loaded_async(key, loader)
    }

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
