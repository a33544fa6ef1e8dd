//! The verbs of a cache. Each calls the verb of a view with the cache's own options.

use super::keys::{Keys, ManyKeys};
use super::{
    AsyncCacheWrapper, BatchArgument, BatchItem, Cacheable, KeyStream, Loaded, NotAResult,
};
use crate::error::Result;
use crate::expiry::Expiry;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::error::Error as StdError;
use std::future::Future;

/// # Reading
impl AsyncCacheWrapper {
    /// Returns the value under `key`, read as a `T`; `None` when the key is missing or expired.
    ///
    /// # Errors
    ///
    /// [`Decode`](crate::ErrorKind::Decode), naming key and type, when serde cannot read the value
    /// as a `T`. Stored bytes that are damaged, or that larder did not write, are a miss and an
    /// event.
    pub fn get<T>(&self, key: impl AsRef<str>) -> impl Future<Output = Result<Option<T>>>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        self.read(key, &self.options)
    }

    /// [`get`](AsyncCacheWrapper::get), or `default` on a miss. The default is not stored.
    pub fn get_or<T>(&self, key: impl AsRef<str>, default: T) -> impl Future<Output = Result<T>>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        self.view().get_or(key, default)
    }

    /// [`get`](AsyncCacheWrapper::get), with a miss as an error.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound) when the key is missing or expired.
    pub fn get_or_fail<T>(&self, key: impl AsRef<str>) -> impl Future<Output = Result<T>>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        self.view().get_or_fail(key)
    }

    /// The values under `keys`, in the order asked.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// let cache = larder::AsyncCacheWrapper::new("memory")?;
    /// cache.set("user:7", "Ada").await?;
    /// let ids = [7, 8];
    /// let users = cache.get_many::<String, _>(ids.map(|id| format!("user:{id}"))).await?;
    /// assert_eq!(users, [Some("Ada".to_owned()), None]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The first error of a key. All keys are checked before the backend is asked.
    pub fn get_many<T, I>(&self, keys: I) -> impl Future<Output = Result<Vec<Option<T>>>>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        self.view().get_many(keys)
    }

    /// Whether `key` is live. Does not read the value.
    pub fn contains(&self, key: impl AsRef<str>) -> impl Future<Output = Result<bool>> {
        self.view().contains(key)
    }

    /// How long `key` still lives: [`Expiry::Never`], or [`Expiry::After`] with the time that is
    /// left; `None` when the key is missing.
    pub fn expiry(&self, key: impl AsRef<str>) -> impl Future<Output = Result<Option<Expiry>>> {
        self.view().expiry(key)
    }
}

/// # Walking
impl AsyncCacheWrapper {
    /// The live keys of this cache or namespace that begin with `prefix`, without the name of the
    /// namespace, as a stream; with the empty text all of them. The text is no pattern.
    ///
    /// The keys come page by page, in no order. A key that is live during the whole walk is among
    /// them. A key that is written or removed meanwhile may be or not, and may come twice: on redis
    /// also while the server resizes its table. Keys of stale entries are not among them.
    ///
    /// memory, redis and sqlite can do it, memcached cannot. On redis each page is a `SCAN`, which
    /// goes through all keys of the database, also those of others: for maintenance, not for each
    /// request.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// let cache = larder::AsyncCacheWrapper::new("memory")?;
    /// cache.set_many([("user:7", "Ada"), ("user:8", "Grace"), ("other", "")]).await?;
    /// let mut keys = cache.keys("user:");
    /// while let Some(key) = keys.next().await {
    ///     cache.remove(key?).await?;
    /// }
    /// assert!(!cache.contains("user:8").await? && cache.contains("other").await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Unsupported`](crate::ErrorKind::Unsupported) from an adapter that cannot list its keys. An
    /// error is the last item.
    pub fn keys(&self, prefix: impl AsRef<str>) -> KeyStream {
        self.view().keys(prefix)
    }
}

/// # Writing
impl AsyncCacheWrapper {
    /// Stores `value` under `key` with the default expiry.
    ///
    /// # Errors
    ///
    /// [`Encode`](crate::ErrorKind::Encode): nothing was changed.
    /// [`TooLarge`](crate::ErrorKind::TooLarge): the new value was not stored, and the older value
    /// is no longer served. [`Timeout`](crate::ErrorKind::Timeout): the write may still take
    /// effect.
    pub fn set<T>(&self, key: impl AsRef<str>, value: T) -> impl Future<Output = Result<()>>
    where
        T: Serialize + Send + Sync + 'static,
    {
        self.view().set(key, value)
    }

    /// [`set`](AsyncCacheWrapper::set) of several. All keys are checked, and all values encoded,
    /// before anything is changed.
    ///
    /// # Errors
    ///
    /// The first error of an entry; the entries without an error are stored.
    pub fn set_many<K, T, I>(&self, entries: I) -> impl Future<Output = Result<()>>
    where
        K: AsRef<str>,
        T: Serialize + Send + Sync + 'static,
        I: IntoIterator<Item = (K, T)>,
    {
        self.view().set_many(entries)
    }

    /// [`set_many`](AsyncCacheWrapper::set_many) with an expiry for each entry; [`Expiry::Default`]
    /// is the default expiry of the cache.
    ///
    /// ```
    /// use larder::{AsyncCacheWrapper, Expiry};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// let cache = AsyncCacheWrapper::new("memory")?;
    /// cache.set_each([("x", 1, Expiry::Default), ("y", 2, Expiry::Never)]).await?;
    /// assert_eq!(cache.expiry("y").await?, Some(Expiry::Never));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The first error of an entry; the entries without an error are stored.
    pub fn set_each<K, T, I>(&self, entries: I) -> impl Future<Output = Result<()>>
    where
        K: AsRef<str>,
        T: Serialize + Send + Sync + 'static,
        I: IntoIterator<Item = (K, T, Expiry)>,
    {
        self.view().set_each(entries)
    }

    /// Stores `value` only if `key` is missing, in one atomic step. Returns whether the value was
    /// stored.
    pub fn add<T>(&self, key: impl AsRef<str>, value: T) -> impl Future<Output = Result<bool>>
    where
        T: Serialize + Send + Sync + 'static,
    {
        self.view().add(key, value)
    }

    /// Stores `value` only if `key` is live, in one atomic step. Returns whether the value was
    /// stored.
    pub fn replace<T>(&self, key: impl AsRef<str>, value: T) -> impl Future<Output = Result<bool>>
    where
        T: Serialize + Send + Sync + 'static,
    {
        self.view().replace(key, value)
    }

    /// Adds `by` to the counter under `key` in one atomic step and returns the sum. A missing
    /// counter starts from 0; a live one keeps its expiry.
    ///
    /// # Errors
    ///
    /// [`NotANumber`](crate::ErrorKind::NotANumber) and [`Overflow`](crate::ErrorKind::Overflow);
    /// the value is unchanged.
    pub fn incr(&self, key: impl AsRef<str>, by: i64) -> impl Future<Output = Result<i64>> {
        self.view().incr(key, by)
    }

    /// Subtracts `by` from the counter under `key`; otherwise as [`incr`](AsyncCacheWrapper::incr).
    pub fn decr(&self, key: impl AsRef<str>, by: i64) -> impl Future<Output = Result<i64>> {
        self.view().decr(key, by)
    }

    /// Removes one key, or all keys of an array, slice, set, `Vec` or other iterator (see
    /// [`Keys`]). Returns whether all of them were live (for no keys, `true`). Keys that are live
    /// are removed even if other keys are missing.
    pub fn remove<By>(&self, keys: impl Keys<By>) -> impl Future<Output = Result<bool>> {
        self.view().remove(keys)
    }

    /// [`remove`](AsyncCacheWrapper::remove) of several, for callers that are generic over the
    /// iterator.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// let cache = larder::AsyncCacheWrapper::new("memory")?;
    /// cache.set_many([("user:7", "Ada"), ("user:8", "Grace")]).await?;
    /// assert!(cache.remove_many((7..9).map(|id| format!("user:{id}"))).await?);
    /// # Ok(()) }
    /// ```
    pub fn remove_many<I>(&self, keys: I) -> impl Future<Output = Result<bool>>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        self.view().remove::<ManyKeys>(keys)
    }

    /// Removes all entries that were written with one of these tags. See
    /// [`View::remove_tags`](crate::View::remove_tags).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// let cache = larder::AsyncCacheWrapper::new("memory")?;
    /// cache.tags(["user:7", "team:3"]).set("page", "…").await?;
    /// cache.remove_tags(["team:3"]).await?;
    /// assert_eq!(cache.get::<String>("page").await?, None);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidKey`](crate::ErrorKind::InvalidKey) for more than 16 tags, and for an empty one.
    /// Otherwise the first error of a tag; the tags without an error are removed.
    pub fn remove_tags<I>(&self, tags: I) -> impl Future<Output = Result<()>>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        self.view().remove_tags(tags)
    }

    /// Removes `key` and returns the value it had, in one atomic step.
    ///
    /// # Errors
    ///
    /// [`Decode`](crate::ErrorKind::Decode) when the value is not a `T`. The value is removed also
    /// in this case.
    pub fn take<T>(&self, key: impl AsRef<str>) -> impl Future<Output = Result<Option<T>>>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        self.view().take(key)
    }

    /// Gives a live entry a new expiry, counted from now. Returns whether the entry was live.
    pub fn touch(
        &self,
        key: impl AsRef<str>,
        ttl: impl Into<Expiry>,
    ) -> impl Future<Output = Result<bool>> {
        self.view().touch(key, ttl)
    }

    /// Gives a live entry a new expiry as [`touch`](AsyncCacheWrapper::touch) does, and returns its
    /// value.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound) when the key is missing or expired.
    pub fn update_timeout<T>(
        &self,
        key: impl AsRef<str>,
        ttl: impl Into<Expiry>,
    ) -> impl Future<Output = Result<T>>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        self.view().update_timeout(key, ttl)
    }

    /// Removes all of this cache's own keys (its namespace's, its adapter's prefix's), and no other
    /// keys.
    pub fn clear(&self) -> impl Future<Output = Result<()>> {
        self.view().clear()
    }
}

/// # Reading, or computing
impl AsyncCacheWrapper {
    /// Returns the value under `key`. On a miss stores `value` and returns it. See
    /// [`View::get_or_set`](crate::View::get_or_set).
    pub fn get_or_set<T, By>(
        &self,
        key: impl AsRef<str>,
        value: T,
    ) -> impl Future<Output = Result<T>>
    where
        T: Cacheable + NotAResult<By>,
    {
        self.view().get_or_set(key, value)
    }

    /// Returns the value under `key`. On a miss runs the closure `loader`, stores its result and
    /// returns it. See [`View::get_or_set_with`](crate::View::get_or_set_with).
    pub fn get_or_set_with<T, By>(
        &self,
        key: impl AsRef<str>,
        loader: impl FnOnce(&str) -> T,
    ) -> impl Future<Output = Result<T>>
    where
        T: Cacheable + NotAResult<By>,
    {
        self.view().get_or_set_with(key, loader)
    }

    /// Returns the value under `key`. On a miss runs the future `loader`, stores its result and
    /// returns it. See [`View::get_or_set_async`](crate::View::get_or_set_async).
    ///
    /// **For a loader that returns a `Result`:
    /// [`try_get_or_set_async`](AsyncCacheWrapper::try_get_or_set_async).** Here a `Result` is
    /// refused, because its error would be stored as a value: see [`NotAResult`].
    pub fn get_or_set_async<T, By>(
        &self,
        key: impl AsRef<str>,
        loader: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = Result<T>>
    where
        T: Cacheable + NotAResult<By>,
    {
        self.view().get_or_set_async(key, loader)
    }

    /// [`get_or_set_async`](AsyncCacheWrapper::get_or_set_async) with a loader that may fail. See
    /// [`View::try_get_or_set_async`](crate::View::try_get_or_set_async).
    pub fn try_get_or_set_async<T, E, F>(
        &self,
        key: impl AsRef<str>,
        loader: F,
    ) -> impl Future<Output = Result<T>>
    where
        T: Cacheable,
        E: Into<Box<dyn StdError + Send + Sync>>,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        self.view().try_get_or_set_async(key, loader)
    }

    /// [`get_or_set_with`](AsyncCacheWrapper::get_or_set_with) with a closure that may fail. See
    /// [`View::try_get_or_set_with`](crate::View::try_get_or_set_with).
    pub fn try_get_or_set_with<T, E>(
        &self,
        key: impl AsRef<str>,
        loader: impl FnOnce(&str) -> Result<T, E>,
    ) -> impl Future<Output = Result<T>>
    where
        T: Cacheable,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        self.view().try_get_or_set_with(key, loader)
    }

    /// [`get_or_set_async`](AsyncCacheWrapper::get_or_set_async) with a closure that makes the
    /// future, on a miss only. See [`View::get_or_load`](crate::View::get_or_load).
    pub fn get_or_load<T, By, F>(
        &self,
        key: impl AsRef<str>,
        loader: impl FnOnce() -> F,
    ) -> impl Future<Output = Result<T>>
    where
        T: Cacheable + NotAResult<By>,
        F: Future<Output = T> + Send + 'static,
    {
        self.view().get_or_load(key, loader)
    }

    /// [`get_or_load`](AsyncCacheWrapper::get_or_load) with a loader that may fail. See
    /// [`View::try_get_or_load`](crate::View::try_get_or_load).
    pub fn try_get_or_load<T, E, F>(
        &self,
        key: impl AsRef<str>,
        loader: impl FnOnce() -> F,
    ) -> impl Future<Output = Result<T>>
    where
        T: Cacheable,
        E: Into<Box<dyn StdError + Send + Sync>>,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        self.view().try_get_or_load(key, loader)
    }

    /// [`get_or_load`](AsyncCacheWrapper::get_or_load) in the caller: the future may borrow, and
    /// ends with the call. See [`View::get_or_load_here`](crate::View::get_or_load_here).
    pub fn get_or_load_here<T, By, F>(
        &self,
        key: impl AsRef<str>,
        loader: impl FnOnce() -> F,
    ) -> impl Future<Output = Result<T>>
    where
        T: Cacheable + NotAResult<By>,
        F: Future<Output = T>,
    {
        self.view().get_or_load_here(key, loader)
    }

    /// [`get_or_load_here`](AsyncCacheWrapper::get_or_load_here) with a loader that may fail. See
    /// [`View::try_get_or_load_here`](crate::View::try_get_or_load_here).
    pub fn try_get_or_load_here<T, E, F>(
        &self,
        key: impl AsRef<str>,
        loader: impl FnOnce() -> F,
    ) -> impl Future<Output = Result<T>>
    where
        T: Cacheable,
        E: Into<Box<dyn StdError + Send + Sync>>,
        F: Future<Output = Result<T, E>>,
    {
        self.view().try_get_or_load_here(key, loader)
    }

    /// Returns the values under several keys. Runs `loader` once for all that are missing, and
    /// stores what it gives. See
    /// [`View::get_or_set_many_async`](crate::View::get_or_set_many_async).
    pub fn get_or_set_many_async<I, By, A, T, R, F, P, S>(
        &self,
        items: I,
        loader: impl FnMut(Vec<A>) -> F,
    ) -> impl Future<Output = Result<Vec<Option<T>>>>
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

    /// [`get_or_set_many_async`](AsyncCacheWrapper::get_or_set_many_async) with a loader that may
    /// fail. See [`View::try_get_or_set_many_async`](crate::View::try_get_or_set_many_async).
    pub fn try_get_or_set_many_async<I, By, A, T, E, F, P>(
        &self,
        items: I,
        loader: impl FnMut(Vec<A>) -> F,
    ) -> impl Future<Output = Result<Vec<Option<T>>>>
    where
        I: IntoIterator,
        I::Item: BatchItem<By, Argument = A>,
        A: BatchArgument,
        T: Cacheable,
        E: Into<Box<dyn StdError + Send + Sync>>,
        P: IntoIterator<Item = (A, T)>,
        F: Future<Output = Result<P, E>> + Send + 'static,
    {
        self.view().try_get_or_set_many_async(items, loader)
    }

    /// [`get_or_set_with`](AsyncCacheWrapper::get_or_set_with) with a closure that also decides
    /// when its value expires, see [`Loaded`].
    pub fn get_or_set_loaded_with<T>(
        &self,
        key: impl AsRef<str>,
        loader: impl FnOnce(&str) -> Loaded<T>,
    ) -> impl Future<Output = Result<T>>
    where
        T: Cacheable,
    {
        self.view().get_or_set_loaded_with(key, loader)
    }

    /// [`get_or_set_async`](AsyncCacheWrapper::get_or_set_async) with a future that also decides
    /// when its value expires, see [`Loaded`].
    pub fn get_or_set_loaded_async<T, F>(
        &self,
        key: impl AsRef<str>,
        loader: F,
    ) -> impl Future<Output = Result<T>>
    where
        T: Cacheable,
        F: Future<Output = Loaded<T>> + Send + 'static,
    {
        self.view().get_or_set_loaded_async(key, loader)
    }

    /// [`get_or_set_loaded_async`](AsyncCacheWrapper::get_or_set_loaded_async) with a loader that
    /// may fail.
    pub fn try_get_or_set_loaded_async<T, E, F>(
        &self,
        key: impl AsRef<str>,
        loader: F,
    ) -> impl Future<Output = Result<T>>
    where
        T: Cacheable,
        E: Into<Box<dyn StdError + Send + Sync>>,
        F: Future<Output = Result<Loaded<T>, E>> + Send + 'static,
    {
        self.view().try_get_or_set_loaded_async(key, loader)
    }
}
