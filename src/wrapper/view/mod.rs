//! The verbs as they are implemented, with the options of a view. `verbs.rs` forwards to them.

mod batch;
mod options;

use crate::error::{Error, ErrorKind, Result};
use crate::event::EventKind;
use crate::expiry::Expiry;
use crate::key;
use crate::options::Options;
use crate::value::CacheValue;
use crate::wrapper::AsyncCacheWrapper;
#[cfg(feature = "macros")]
use crate::wrapper::CallTags;
use crate::wrapper::KeyStream;
use crate::wrapper::events::CallInfo;
use crate::wrapper::max_batch::MaxBatch;
use crate::wrapper::slot::Slot;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::future::Future;
use std::pin::pin;

/// A cache together with options for the calls that go through it. It has all verbs of a cache.
///
/// A view borrows its cache; [`into_cache`](View::into_cache) makes an owned cache.
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
    pub(in crate::wrapper) max_batch: MaxBatch,
    /// The caller waits on its own thread until the call ends, and can drive its load there.
    pub(in crate::wrapper) is_caller_driven: bool,
    /// The random draw for an early refresh, if the call was looked for before it began.
    pub(in crate::wrapper) drawn: Option<bool>,
    /// The tags of the next call, which it makes when it has missed.
    #[cfg(feature = "macros")]
    pub(in crate::wrapper) call_tags: Option<&'a CallTags<'a>>,
}

impl View<'_> {
    /// Makes an owned cache that has the view's options for all its calls. It can be kept, moved
    /// into a task, or divided into namespaces.
    ///
    /// It shares adapter, swaps, observers and counters with the cache of the view, and has the
    /// same namespace.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// let cache = larder::async_cached();
    /// let rates = cache.stale_for(Duration::from_secs(3600)).jitter(0.1).into_cache();
    /// let task = async move { rates.get_or_set_async("eur", async { 1.08 }).await };
    /// assert_eq!(tokio::spawn(task).await.unwrap()?, 1.08);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn into_cache(self) -> AsyncCacheWrapper {
        let (options, max_batch) = (self.options, self.max_batch);
        AsyncCacheWrapper { options, max_batch, ..self.cache.clone() }
    }

    // ---- reading

    /// See [`AsyncCacheWrapper::get`].
    pub fn get<T>(self, key: impl AsRef<str>) -> impl Future<Output = Result<Option<T>>>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        self.cache.read(key, self.options)
    }

    /// See [`AsyncCacheWrapper::get_or`].
    pub async fn get_or<T>(self, key: impl AsRef<str>, default: T) -> Result<T>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        Ok(self.get(key).await?.unwrap_or(default))
    }

    /// See [`AsyncCacheWrapper::get_or_fail`].
    pub async fn get_or_fail<T>(self, key: impl AsRef<str>) -> Result<T>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        let key = key.as_ref();
        self.get(key).await?.ok_or_else(|| Error::not_found(key).with_op("get"))
    }

    /// See [`AsyncCacheWrapper::contains`].
    pub async fn contains(self, key: impl AsRef<str>) -> Result<bool> {
        let contains = async move |slot: &Slot, key: &str| {
            slot.contains(key, &slot.options(&self.options)).await
        };
        Ok(self.cache.ask("contains", key.as_ref(), contains).await?.answer)
    }

    /// See [`AsyncCacheWrapper::expiry`].
    pub async fn expiry(self, key: impl AsRef<str>) -> Result<Option<Expiry>> {
        let expiry = async move |slot: &Slot, key: &str| slot.expiry(key).await;
        Ok(self.cache.ask("expiry", key.as_ref(), expiry).await?.answer)
    }

    /// See [`AsyncCacheWrapper::keys`].
    pub fn keys(self, prefix: impl AsRef<str>) -> KeyStream {
        KeyStream::new(self.cache.clone(), prefix.as_ref())
    }

    // ---- writing

    /// See [`AsyncCacheWrapper::set`].
    pub async fn set<K, T>(self, key: K, value: T) -> Result<()>
    where
        K: AsRef<str>,
        T: Serialize + Send + Sync + 'static,
    {
        let set = async move |slot: &Slot, key: &str| {
            let options = slot.options(&self.options);
            let plan = slot.plan_plain_write(&options)?;
            let value = options.written(CacheValue::known(value, plan.meta))?;
            let tagged = slot.with_tags_of(self.cache, value, plan.kept, &options).await;
            let value = slot.or_removed(&[key], tagged).await?;
            slot.adapter.set(key, value, plan.kept).await
        };
        let done = self.cache.write("set", key.as_ref(), set).await?;
        self.cache.emit(&done.slot, EventKind::Set, done.info);
        Ok(())
    }

    /// See [`AsyncCacheWrapper::add`].
    pub async fn add<K, T>(self, key: K, value: T) -> Result<bool>
    where
        K: AsRef<str>,
        T: Serialize + Send + Sync + 'static,
    {
        let add = async move |slot: &Slot, key: &str| {
            let options = slot.options(&self.options);
            let plan = slot.plan_plain_write(&options)?;
            let value = options.written(CacheValue::known(value, plan.meta.clone()))?;
            let value = slot.with_tags_of(self.cache, value, plan.kept, &options).await?;
            slot.add(key, value, plan).await
        };
        let stored = self.cache.write("add", key.as_ref(), add).await?;
        Ok(self.cache.emit_if(|stored| *stored, EventKind::Set, stored))
    }

    /// See [`AsyncCacheWrapper::replace`].
    pub async fn replace<K, T>(self, key: K, value: T) -> Result<bool>
    where
        K: AsRef<str>,
        T: Serialize + Send + Sync + 'static,
    {
        let replace = async move |slot: &Slot, key: &str| {
            let options = slot.options(&self.options);
            let plan = slot.plan_plain_write(&options)?;
            let value = options.written(CacheValue::known(value, plan.meta.clone()))?;
            let tagged = slot.with_tags_of(self.cache, value, plan.kept, &options).await;
            let value = slot.or_removed(&[key], tagged).await?;
            slot.replace(key, value, plan).await
        };
        let stored = self.cache.write("replace", key.as_ref(), replace).await?;
        Ok(self.cache.emit_if(|stored| *stored, EventKind::Set, stored))
    }

    /// See [`AsyncCacheWrapper::incr`]. The view's expiry applies to a counter that this call
    /// creates.
    pub async fn incr<K: AsRef<str>>(self, key: K, by: i64) -> Result<i64> {
        if !self.cache.tags.is_empty() {
            return Err(Error::new(ErrorKind::Unsupported)
                .with_op("incr")
                .with_key(key.as_ref())
                .with_message("a counter cannot have tags"));
        }
        let incr = async move |slot: &Slot, key: &str| {
            slot.incr(key, by, &slot.options(&self.options)).await
        };
        let sum = self.cache.write("incr", key.as_ref(), incr).await?;
        self.cache.emit(&sum.slot, EventKind::Set, sum.info);
        Ok(sum.answer)
    }

    /// See [`AsyncCacheWrapper::decr`].
    pub async fn decr<K: AsRef<str>>(self, key: K, by: i64) -> Result<i64> {
        match by.checked_neg() {
            Some(by) => self.incr(key, by).await,
            None => Err(Error::new(ErrorKind::Overflow).with_op("decr").with_key(key.as_ref())),
        }
    }

    /// See [`AsyncCacheWrapper::take`].
    pub async fn take<T>(self, key: impl AsRef<str>) -> Result<Option<T>>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        let take = async |slot: &Slot, key: &str| slot.take(key).await;
        let taken = self.cache.write("take", key.as_ref(), take).await?;
        let (slot, info) = (taken.slot.clone(), taken.info);
        match self.cache.emit_if(Option::is_some, EventKind::Remove, taken) {
            Some(value) => self.cache.decode(&slot, info, &self.options.read(value)),
            None => Ok(None),
        }
    }

    /// See [`AsyncCacheWrapper::touch`]. [`Expiry::Default`] is the view's.
    pub async fn touch(self, key: impl AsRef<str>, ttl: impl Into<Expiry>) -> Result<bool> {
        key::check_write(key.as_ref()).map_err(|error| error.with_op("touch"))?;
        let expiry = ttl.into().or(self.options.expiry.get());
        let touch = async move |slot: &Slot, key: &str| {
            slot.touch(key, expiry, &slot.options(&self.options)).await
        };
        Ok(self.cache.ask("touch", key.as_ref(), touch).await?.answer)
    }

    /// See [`AsyncCacheWrapper::update_timeout`]. [`Expiry::Default`] is the view's.
    pub async fn update_timeout<T>(self, key: impl AsRef<str>, ttl: impl Into<Expiry>) -> Result<T>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        let (key, expiry) = (key.as_ref(), ttl.into().or(self.options.expiry.get()));
        key::check_write(key).map_err(|error| error.with_op("update_timeout"))?;
        let update = async move |slot: &Slot, key: &str| {
            slot.update_timeout(key, expiry, &slot.options(&self.options)).await
        };
        let found = self.cache.ask("update_timeout", key, update).await?;
        let value = match found.answer {
            Some(value) => self.cache.decode(&found.slot, found.info, &self.options.read(value))?,
            None => None,
        };
        value.ok_or_else(|| Error::not_found(key).with_op("update_timeout"))
    }

    /// See [`AsyncCacheWrapper::clear`].
    pub fn clear(self) -> impl Future<Output = Result<()>> {
        Box::pin(async move {
            let cache = self.cache;
            let slot = cache.begin_batch("clear")?;
            let prefix = cache.scope.prefix();
            let _clear = slot.flights.clear(prefix).await;
            let clear = pin!(slot.adapter.clear(prefix));
            let (cleared, took) = cache.call(&slot, CallInfo::new("clear", ""), clear).await;
            cleared.map_err(|error| cache.failed_whole(&slot, "clear", took, error))?;
            cache.emit(&slot, EventKind::Clear, CallInfo::new("clear", "").took(took));
            Ok(())
        })
    }
}
