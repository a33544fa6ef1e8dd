//! The global caches.

use crate::adapter::AsyncCacheAdapter;
use crate::blocking::CacheWrapper;
use crate::config::IntoAdapter;
use crate::error::Result;
use crate::expiry::Expiry;
use crate::wrapper::{AsyncCacheWrapper, Cacheable, Core, Keys, NotAResult, Origin};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::{Arc, LazyLock};

static ASYNC: LazyLock<AsyncCacheWrapper> =
    LazyLock::new(|| AsyncCacheWrapper::over(Core::empty(Origin::Environment)));
static BLOCKING: LazyLock<CacheWrapper> = LazyLock::new(|| {
    CacheWrapper::from(AsyncCacheWrapper::over(Core::empty(Origin::Follow(async_cached()))))
});

/// The global cache, for async code.
///
/// It begins with the adapter that the environment names (`LARDER_URL`, or the Python names
/// `PRIVEX_ASYNC_CACHE_ADAPTER`, `PRIVEX_CACHE_ADAPTER`), or with a bounded cache in memory if the
/// environment names none. [`async_adapter_set`] exchanges the adapter.
///
/// ```
/// use larder::async_cached;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
/// async_cached().set("hello", "world").await?;
/// let hello: Option<String> = async_cached().get("hello").await?;
/// assert_eq!(hello.as_deref(), Some("world"));
/// # Ok(()) }
/// ```
pub fn async_cached() -> &'static AsyncCacheWrapper {
    &ASYNC
}

/// The global cache, for blocking code. It uses the adapter of [`async_cached`] until
/// [`adapter_set`] gives it an adapter of its own. After that the two caches are separate.
///
/// ```
/// use larder::cached;
///
/// cached().set("hello", "world")?;
/// assert_eq!(cached().get::<String>("hello")?.as_deref(), Some("world"));
/// # Ok::<(), larder::Error>(())
/// ```
pub fn cached() -> &'static CacheWrapper {
    &BLOCKING
}

/// The current adapter of [`async_cached`]. It does not follow later swaps.
///
/// # Errors
///
/// [`Config`](crate::ErrorKind::Config) when the environment names an unknown adapter.
pub fn async_adapter_get() -> Result<Arc<dyn AsyncCacheAdapter>> {
    async_cached().adapter()
}

/// Gives [`async_cached`] another adapter and returns it. The cache may be in use.
///
/// ```
/// use larder::{AsyncMemoryCache, async_adapter_set};
///
/// async_adapter_set("memory")?;
/// async_adapter_set(AsyncMemoryCache::builder().max_entries(1_000).build())?;
/// # Ok::<(), larder::Error>(())
/// ```
///
/// # Errors
///
/// [`Config`](crate::ErrorKind::Config) for a name or URL that larder does not know; the old
/// adapter stays.
pub fn async_adapter_set(adapter: impl IntoAdapter) -> Result<Arc<dyn AsyncCacheAdapter>> {
    async_cached().set_adapter(adapter)
}

/// The current adapter of [`cached`]. It does not follow later swaps.
///
/// # Errors
///
/// As [`async_adapter_get`].
pub fn adapter_get() -> Result<Arc<dyn AsyncCacheAdapter>> {
    cached().adapter()
}

/// Gives [`cached`] an adapter of its own and returns it. After that [`cached`] does not follow
/// [`async_cached`].
///
/// # Errors
///
/// As [`async_adapter_set`].
pub fn adapter_set(adapter: impl IntoAdapter) -> Result<Arc<dyn AsyncCacheAdapter>> {
    cached().set_adapter(adapter)
}

/// [`cached`]`().get(key)`.
///
/// ```
/// larder::set("k", 1)?;
/// assert_eq!(larder::get::<i64>("k")?, Some(1));
/// larder::remove("k")?;
/// # Ok::<(), larder::Error>(())
/// ```
///
/// # Errors
///
/// As [`AsyncCacheWrapper::get`].
pub fn get<T>(key: impl AsRef<str>) -> Result<Option<T>>
where
    T: DeserializeOwned + Clone + Send + Sync + 'static,
{
    cached().get(key)
}

/// [`cached`]`().set(key, value)`.
///
/// # Errors
///
/// As [`AsyncCacheWrapper::set`].
pub fn set<T>(key: impl AsRef<str>, value: T) -> Result<()>
where
    T: Serialize + Send + Sync + 'static,
{
    cached().set(key, value)
}

/// [`cached`]`().get_or_set(key, value)`.
///
/// # Errors
///
/// As [`AsyncCacheWrapper::get_or_set`].
pub fn get_or_set<T, By>(key: impl AsRef<str>, value: T) -> Result<T>
where
    T: Cacheable + NotAResult<By>,
{
    cached().get_or_set(key, value)
}

/// [`cached`]`().remove(keys)`.
///
/// # Errors
///
/// As [`AsyncCacheWrapper::remove`].
pub fn remove<By>(keys: impl Keys<By>) -> Result<bool> {
    cached().remove(keys)
}

/// [`cached`]`().update_timeout(key, ttl)`.
///
/// # Errors
///
/// As [`AsyncCacheWrapper::update_timeout`].
pub fn update_timeout<T>(key: impl AsRef<str>, ttl: impl Into<Expiry>) -> Result<T>
where
    T: DeserializeOwned + Clone + Send + Sync + 'static,
{
    cached().update_timeout(key, ttl)
}
