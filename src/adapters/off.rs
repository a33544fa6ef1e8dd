//! The null adapter: a cache that is turned off.

use super::{Settings, read_url};
use crate::adapter::{AsyncCacheAdapter, Entry, KeyCursor, KeyPage, StoreSize};
use crate::error::{Error, Result};
use crate::expiry::Expiry;
use crate::key;
use crate::url::CacheUrl;
use crate::value::CacheValue;
use async_trait::async_trait;
use std::sync::Arc;
use std::task::Poll;

/// Stores nothing: every entry expires at once. It turns a cache off by configuration
/// (`LARDER_URL=off`), without a change of the program.
///
/// Reads miss. Writes succeed and store nothing: `add` always stores, `incr` always starts from 0,
/// `remove` never finds a live key. `get_or_set*` run their loader each time, still once for all
/// callers that wait at that time.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
/// let cache = larder::AsyncCacheWrapper::new("off")?; // or larder::AsyncNullCache::new()
/// cache.set("k", 1u8).await?;
/// assert_eq!(cache.get::<u8>("k").await?, None);
/// assert_eq!(cache.get_or_set("k", 2u8).await?, 2);
/// assert_eq!(cache.get_or_set("k", 3u8).await?, 3);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct AsyncNullCache;

impl AsyncNullCache {
    /// Creates the adapter that stores nothing.
    #[must_use]
    pub fn new() -> Self {
        Self
    }

    /// Builds the adapter from `off:`. The parameters that all adapters have are accepted, without
    /// effect.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) for any other URL.
    pub fn from_url(url: &str) -> Result<Self> {
        read_url(url, Self::from_cache_url)
    }

    /// Takes the parameters that all adapters have out of a URL.
    pub(crate) fn from_cache_url(url: &mut CacheUrl) -> Result<Self> {
        if url.scheme() != "off" || !url.is_bare() {
            return Err(Error::config("the URL of a cache that is off is `off:`"));
        }
        Settings::default().take(url)?;
        Ok(Self)
    }
}

/// Checks all keys, and returns one answer for each.
fn each<'a, R: Clone>(
    keys: impl Iterator<Item = &'a str> + Clone,
    answer: R,
) -> Result<Vec<Result<R>>> {
    key::check_all(keys.clone())?;
    Ok(keys.map(|_| Ok(answer.clone())).collect())
}

#[async_trait]
impl AsyncCacheAdapter for AsyncNullCache {
    async fn get(&self, key: &str) -> Result<Option<CacheValue>> {
        key::check(key).map(|()| None)
    }

    async fn set(&self, key: &str, _: CacheValue, _: Expiry) -> Result<()> {
        key::check(key)
    }

    async fn remove(&self, key: &str) -> Result<bool> {
        key::check(key).map(|()| false)
    }

    async fn update_timeout(&self, key: &str, _: Expiry) -> Result<Option<CacheValue>> {
        key::check(key).map(|()| None)
    }

    async fn clear(&self, _: &str) -> Result<()> {
        Ok(())
    }

    async fn add(&self, key: &str, _: CacheValue, _: Expiry) -> Result<bool> {
        key::check(key).map(|()| true)
    }

    async fn replace(&self, key: &str, _: CacheValue, _: Expiry) -> Result<bool> {
        key::check(key).map(|()| false)
    }

    async fn incr(&self, key: &str, by: i64, _: Expiry) -> Result<i64> {
        key::check(key).map(|()| by)
    }

    async fn take(&self, key: &str) -> Result<Option<CacheValue>> {
        key::check(key).map(|()| None)
    }

    async fn expiry(&self, key: &str) -> Result<Option<Expiry>> {
        key::check(key).map(|()| None)
    }

    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Result<Option<CacheValue>>>> {
        each(keys.iter().copied(), None)
    }

    async fn set_many(&self, entries: &[Entry<'_>]) -> Result<Vec<Result<()>>> {
        each(entries.iter().map(|entry| entry.key), ())
    }

    async fn remove_many(&self, keys: &[&str]) -> Result<Vec<Result<bool>>> {
        each(keys.iter().copied(), false)
    }

    async fn keys(&self, _: &str, _: Option<&KeyCursor>) -> Result<KeyPage> {
        Ok(KeyPage::default())
    }

    fn get_if_ready(&self, key: &str, _look: &mut dyn FnMut(&CacheValue)) -> Poll<Result<()>> {
        Poll::Ready(key::check(key))
    }

    fn size(&self) -> StoreSize {
        StoreSize::new(0, 0)
    }

    fn rebuild(&self) -> Result<Arc<dyn AsyncCacheAdapter>> {
        Ok(Arc::new(*self))
    }

    fn backend(&self) -> &str {
        "off"
    }
}
