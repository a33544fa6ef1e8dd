//! The writing verbs, with their options.

use super::load::{Ask, Load};
use super::tell::About;
use crate::event::EventKind;
use crate::options::Options;
use crate::{AsyncCacheWrapper, CacheValue, Entry, Error, ErrorKind, Expiry, Result, runtime};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::error::Error as StdError;
use std::future::Future;
use std::time::Duration;

/// What `get_or_set*` work with: anything that can be stored, read back and handed to everyone who waits.
pub trait Cacheable: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {}

impl<T: Serialize + DeserializeOwned + Clone + Send + Sync + 'static> Cacheable for T {}

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
    pub(super) cache: &'a AsyncCacheWrapper,
    pub(super) options: Options,
}

impl<'a> View<'a> {
    /// Writes expire after `ttl`.
    #[must_use]
    pub fn ttl(mut self, ttl: impl Into<Expiry>) -> Self {
        self.options.expiry = ttl.into();
        self
    }

    /// Whether `get_or_set*` go on without a backend that fails: they run the fallback, return its value and emit an event
    /// (the default). Otherwise they give the backend's error.
    #[must_use]
    pub fn fail_open(mut self, fail_open: bool) -> Self {
        self.options.fail_open = fail_open;
        self
    }

    /// On a miss of `get_or_set*` one process computes, for at most this long; the others wait for its value, and take over when
    /// the lease ends without one. Off by default; nothing on a store that one process has to itself. See `docs/leases.md`.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// let cache = larder::AsyncCacheWrapper::new("memory")?;
    /// let report = cache.view().lease(Duration::from_secs(30)).get_or_set_async("report", async { 42u8 }).await?;
    /// assert_eq!(report, 42);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.options.lease = Some(lease);
        self
    }

    /// See [`AsyncCacheWrapper::set`].
    pub async fn set<K, T>(self, key: K, value: T) -> Result<()>
    where
        K: AsRef<str>,
        T: Serialize + Send + Sync + 'static,
    {
        let (value, expiry) = (CacheValue::new(value), self.options.expiry);
        let done = self.cache.write("set", key.as_ref(), async move |slot, key| slot.adapter.set(key, value, expiry).await).await?;
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
        let (cache, default) = (self.cache, self.options.expiry);
        let entries: Vec<_> = entries.into_iter().map(|(key, value, expiry)| (key, CacheValue::new(value), expiry.or(default))).collect();
        let scoped = entries.iter().map(|(key, ..)| cache.scope.key(key.as_ref())).collect::<Result<Vec<_>>>()?;
        let scoped: Vec<&str> = scoped.iter().map(AsRef::as_ref).collect();
        let writes: Vec<_> = scoped.iter().zip(&entries).map(|(key, (_, value, expiry))| Entry::new(key, value.clone(), *expiry)).collect();
        let slot = cache.core.slot()?;
        let _writes = slot.writes(&scoped).await;
        let (stored, took) = slot.timed(slot.inside(cache.traced(&slot, About::new("set_many", ""), slot.adapter.set_many(&writes)))).await;
        let stored = stored.map_err(|error| cache.failed_whole(&slot, "set_many", took, error))?;
        let stored = entries.iter().zip(stored).map(|((key, ..), stored)| {
            let about = About::new("set_many", key.as_ref()).took(took);
            stored.inspect(|()| cache.tell(&slot, EventKind::Set, about)).map_err(|error| cache.failed(&slot, about, error))
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
        let (value, expiry) = (CacheValue::new(value), self.options.expiry);
        let stored = self.cache.write("add", key.as_ref(), async move |slot, key| slot.adapter.add(key, value, expiry).await).await?;
        Ok(self.cache.tell_if(|stored| *stored, EventKind::Set, stored))
    }

    /// See [`AsyncCacheWrapper::replace`].
    pub async fn replace<K, T>(self, key: K, value: T) -> Result<bool>
    where
        K: AsRef<str>,
        T: Serialize + Send + Sync + 'static,
    {
        let (value, expiry) = (CacheValue::new(value), self.options.expiry);
        let stored =
            self.cache.write("replace", key.as_ref(), async move |slot, key| slot.adapter.replace(key, value, expiry).await).await?;
        Ok(self.cache.tell_if(|stored| *stored, EventKind::Set, stored))
    }

    /// See [`AsyncCacheWrapper::incr`]. The view's expiry is for a counter that starts here.
    pub async fn incr<K: AsRef<str>>(self, key: K, by: i64) -> Result<i64> {
        let expiry = self.options.expiry;
        let sum = self.cache.write("incr", key.as_ref(), async move |slot, key| slot.adapter.incr(key, by, expiry).await).await?;
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

    /// The value under `key`; on a miss `value`, which is stored and returned.
    ///
    /// # Errors
    ///
    /// As [`get_or_set_with`](View::get_or_set_with).
    pub fn get_or_set<K: AsRef<str>, T: Cacheable>(self, key: K, value: T) -> impl Future<Output = Result<T>> {
        self.get_or_set_with(key, |_| value)
    }

    /// The value under `key`; on a miss what `fallback` makes of the key, which is stored and returned.
    ///
    /// The closure runs at once, where the caller runs, and for one caller of all that wait; a slow one belongs into
    /// [`get_or_set_async`](View::get_or_set_async).
    ///
    /// # Errors
    ///
    /// [`Panic`](ErrorKind::Panic) when the closure panics, for everyone who waits; nothing is stored.
    /// [`Encode`](ErrorKind::Encode) when its value cannot be stored. A backend that fails, or a value too large for it, is
    /// an error only without [`fail_open`](View::fail_open).
    pub fn get_or_set_with<K: AsRef<str>, T: Cacheable>(self, key: K, fallback: impl FnOnce(&str) -> T) -> impl Future<Output = Result<T>> {
        self.get_or_load(key, Ask::First, |key: &str, load: Load| load.run_now(|| fallback(key)))
    }

    /// The value under `key`; on a miss what the future `fallback` comes to, which is stored and returned.
    ///
    /// The future is not polled on a hit. On a miss it runs in a task of its own on the caller's runtime, once for all who
    /// wait: callers may be dropped, parked or give up, and the work goes on, is stored and shared.
    ///
    /// A write to the key while the fallback runs wins, also one by another process (`docs/leases.md`): the fallback's value is
    /// returned and not stored. So does a swap: the
    /// value does not fill the new adapter. A fallback that asks for its own key, or for one that waits for it, runs the inner
    /// fallback unshared.
    ///
    /// # Errors
    ///
    /// As [`get_or_set_with`](View::get_or_set_with); [`Reentrant`](ErrorKind::Reentrant) when fallbacks ask for themselves
    /// without end.
    pub fn get_or_set_async<K, T, F>(self, key: K, fallback: F) -> impl Future<Output = Result<T>>
    where
        K: AsRef<str>,
        T: Cacheable,
        F: Future<Output = T> + Send + 'static,
    {
        self.get_or_load(key, Ask::Inside, |_: &str, load: Load| runtime::spawn_loader(load.run(Box::pin(async { Ok(fallback.await) }))))
    }

    /// [`get_or_set_async`](View::get_or_set_async) with a fallback that may fail.
    ///
    /// # Errors
    ///
    /// [`Load`](ErrorKind::Load) with the fallback's own error as its `source`, for everyone who waits; nothing is stored
    /// and the next call tries again.
    pub fn try_get_or_set_async<K, T, E, F>(self, key: K, fallback: F) -> impl Future<Output = Result<T>>
    where
        K: AsRef<str>,
        T: Cacheable,
        E: Into<Box<dyn StdError + Send + Sync>>,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let fallible = || async { fallback.await.map_err(Into::into) };
        self.get_or_load(key, Ask::Inside, |_: &str, load: Load| runtime::spawn_loader(load.run(Box::pin(fallible()))))
    }
}
