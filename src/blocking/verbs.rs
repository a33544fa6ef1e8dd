//! The verbs of the blocking face: those of its view with the cache's own options.

use super::CacheWrapper;
use super::keys::KeyIter;
use super::wait::wait;
use crate::error::Result;
use crate::expiry::Expiry;
use crate::wrapper::{
    AsyncCacheWrapper, BatchArgument, BatchItem, Cacheable, Keys, Loaded, NotAResult,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::future::Future;
use std::task::Poll;

/// # Verbs
impl CacheWrapper {
    /// See [`AsyncCacheWrapper::get`].
    pub fn get<T>(&self, key: impl AsRef<str>) -> Result<Option<T>>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        let key = key.as_ref();
        // Memory needs no runtime.
        match self.inner.read_now(key, &self.inner.options) {
            Poll::Ready(found) => found,
            Poll::Pending => wait(AsyncCacheWrapper::get(&self.inner, key)),
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

    /// See [`AsyncCacheWrapper::keys`].
    pub fn keys(&self, prefix: impl AsRef<str>) -> KeyIter {
        self.view().keys(prefix)
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

    /// See [`AsyncCacheWrapper::remove_tags`].
    pub fn remove_tags<I>(&self, tags: I) -> Result<()>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        self.view().remove_tags(tags)
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

    /// See [`AsyncCacheWrapper::get_or_set_many_async`].
    pub fn get_or_set_many_async<I, By, A, T, R, F, P, S>(
        &self,
        items: I,
        loader: impl FnMut(Vec<A>) -> F,
    ) -> Result<Vec<Option<T>>>
    where
        I: IntoIterator,
        I::Item: BatchItem<By, Argument = A>,
        A: BatchArgument,
        T: Cacheable + NotAResult<R>,
        P: IntoIterator<Item = (A, T)> + NotAResult<S>,
        F: Future<Output = P> + Send + 'static,
    {
        self.view().get_or_set_many_async(items, loader)
    }

    /// See [`AsyncCacheWrapper::try_get_or_set_many_async`].
    pub fn try_get_or_set_many_async<I, By, A, T, E, F, P>(
        &self,
        items: I,
        loader: impl FnMut(Vec<A>) -> F,
    ) -> Result<Vec<Option<T>>>
    where
        I: IntoIterator,
        I::Item: BatchItem<By, Argument = A>,
        A: BatchArgument,
        T: Cacheable,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
        P: IntoIterator<Item = (A, T)>,
        F: Future<Output = Result<P, E>> + Send + 'static,
    {
        self.view().try_get_or_set_many_async(items, loader)
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
}
