//! The verbs that look at options.

mod options;

use crate::event::EventKind;
use crate::options::Options;
use crate::wrapper::slot::Slot;
use crate::wrapper::tell::About;
use crate::{AsyncCacheWrapper, CacheValue, Entry, Error, ErrorKind, Expiry, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::pin::pin;

/// A cache together with options for the calls that go through it. Copy it, keep it, or use it once.
///
/// ```
/// use larder::{AsyncCacheWrapper, Expiry};
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
/// let cache = AsyncCacheWrapper::new("memory")?;
/// let brief = cache.ttl(Duration::from_secs(30));
/// brief.set("example", "test").await?;
/// brief.get_or_set("other", 7u32).await?;
/// cache.ttl(Expiry::Never).set("this key", "is for ever").await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub(in crate::wrapper) cache: &'a AsyncCacheWrapper,
    pub(in crate::wrapper) options: Options,
}

impl View<'_> {
    /// See [`AsyncCacheWrapper::get`].
    pub fn get<T>(self, key: impl AsRef<str>) -> impl Future<Output = Result<Option<T>>>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        self.cache.read(key, self.options.allow_stale)
    }

    /// See [`AsyncCacheWrapper::get_many`].
    pub async fn get_many<T, I>(self, keys: I) -> Result<Vec<Option<T>>>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let (cache, keys) = (self.cache, keys.into_iter().collect::<Vec<I::Item>>());
        let scoped =
            keys.iter().map(|key| cache.scope.key(key.as_ref())).collect::<Result<Vec<_>>>()?;
        let scoped: Vec<&str> = scoped.iter().map(AsRef::as_ref).collect();
        let slot = cache.core.slot()?;
        let (found, took) = cache
            .call(&slot, About::new("get_many", ""), pin!(slot.adapter.get_many(&scoped)))
            .await;
        let found = found.map_err(|error| cache.failed_whole(&slot, "get_many", took, error))?;
        // All of them are told of, also behind one that failed.
        let values = keys.iter().zip(found).map(|(key, found)| {
            let about = About::new("get_many", key.as_ref()).took(took);
            let found = found.map_err(|error| cache.failed(&slot, about, error))?;
            cache.conclude(&slot, about, found, self.options.allow_stale)
        });
        values.collect::<Vec<_>>().into_iter().collect()
    }

    /// See [`AsyncCacheWrapper::set`].
    pub async fn set<K, T>(self, key: K, value: T) -> Result<()>
    where
        K: AsRef<str>,
        T: Serialize + Send + Sync + 'static,
    {
        let set = async move |slot: &Slot, key: &str| {
            let term = slot.plain_term(&self.options)?;
            slot.adapter.set(key, CacheValue::known(value, term.meta), term.kept).await
        };
        let done = self.cache.write("set", key.as_ref(), set).await?;
        self.cache.tell(&done.slot, EventKind::Set, done.about);
        Ok(())
    }

    /// See [`AsyncCacheWrapper::set_many`].
    pub async fn set_many<K, T, I>(self, entries: I) -> Result<()>
    where
        K: AsRef<str>,
        T: Serialize + Send + Sync + 'static,
        I: IntoIterator<Item = (K, T)>,
    {
        let entries = entries.into_iter().map(|(key, value)| (key, value, self.options.expiry));
        self.set_each(entries).await
    }

    /// [`set_many`](View::set_many) with an expiry for each entry; [`Expiry::Default`] is the view's.
    ///
    /// ```
    /// use larder::{AsyncCacheWrapper, Expiry};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// let cache = AsyncCacheWrapper::new("memory")?;
    /// cache.view().set_each([("x", 1, Expiry::Default), ("y", 2, Expiry::Never)]).await?;
    /// assert_eq!(cache.expiry("y").await?, Some(Expiry::Never));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The first that an entry met; the entries that met none are stored.
    pub async fn set_each<K, T, I>(self, entries: I) -> Result<()>
    where
        K: AsRef<str>,
        T: Serialize + Send + Sync + 'static,
        I: IntoIterator<Item = (K, T, Expiry)>,
    {
        let cache = self.cache;
        let slot = cache.core.slot()?;
        let entry = |(key, value, expiry): (K, T, Expiry)| {
            let mut options = self.options;
            options.expiry = expiry.or(options.expiry);
            let term = slot.plain_term(&options)?;
            Ok((key, CacheValue::known(value, term.meta), term.kept))
        };
        let entries = entries.into_iter().map(entry).collect::<Result<Vec<_>>>()?;
        let scoped = entries
            .iter()
            .map(|(key, ..)| cache.scope.key(key.as_ref()))
            .collect::<Result<Vec<_>>>()?;
        let scoped: Vec<&str> = scoped.iter().map(AsRef::as_ref).collect();
        let writes: Vec<_> = scoped
            .iter()
            .zip(&entries)
            .map(|(key, (_, value, expiry))| Entry::new(key, value.clone(), *expiry))
            .collect();
        let _writes = slot.writes(&scoped).await;
        let (stored, took) = cache
            .call(&slot, About::new("set_many", ""), pin!(slot.adapter.set_many(&writes)))
            .await;
        let stored = stored.map_err(|error| cache.failed_whole(&slot, "set_many", took, error))?;
        let stored = entries.iter().zip(stored).map(|((key, ..), stored)| {
            let about = About::new("set_many", key.as_ref()).took(took);
            stored
                .inspect(|()| cache.tell(&slot, EventKind::Set, about))
                .map_err(|error| cache.failed(&slot, about, error))
        });
        // All of them are told of, also behind one that failed.
        stored.collect::<Vec<_>>().into_iter().collect()
    }

    /// See [`AsyncCacheWrapper::add`].
    pub async fn add<K, T>(self, key: K, value: T) -> Result<bool>
    where
        K: AsRef<str>,
        T: Serialize + Send + Sync + 'static,
    {
        let add = async move |slot: &Slot, key: &str| {
            let term = slot.plain_term(&self.options)?;
            slot.add(key, CacheValue::known(value, term.meta.clone()), term, &self.options).await
        };
        let stored = self.cache.write("add", key.as_ref(), add).await?;
        Ok(self.cache.tell_if(|stored| *stored, EventKind::Set, stored))
    }

    /// See [`AsyncCacheWrapper::replace`].
    pub async fn replace<K, T>(self, key: K, value: T) -> Result<bool>
    where
        K: AsRef<str>,
        T: Serialize + Send + Sync + 'static,
    {
        let replace = async move |slot: &Slot, key: &str| {
            let term = slot.plain_term(&self.options)?;
            slot.replace(key, CacheValue::known(value, term.meta.clone()), term, &self.options)
                .await
        };
        let stored = self.cache.write("replace", key.as_ref(), replace).await?;
        Ok(self.cache.tell_if(|stored| *stored, EventKind::Set, stored))
    }

    /// See [`AsyncCacheWrapper::incr`]. The view's expiry is for a counter that starts here.
    pub async fn incr<K: AsRef<str>>(self, key: K, by: i64) -> Result<i64> {
        let incr = async move |slot: &Slot, key: &str| slot.incr(key, by, &self.options).await;
        let sum = self.cache.write("incr", key.as_ref(), incr).await?;
        self.cache.tell(&sum.slot, EventKind::Set, sum.about);
        Ok(sum.answer)
    }

    /// See [`AsyncCacheWrapper::decr`].
    pub async fn decr<K: AsRef<str>>(self, key: K, by: i64) -> Result<i64> {
        match by.checked_neg() {
            Some(by) => self.incr(key, by).await,
            None => Err(Error::new(ErrorKind::Overflow).with_op("decr").with_key(key.as_ref())),
        }
    }
}
