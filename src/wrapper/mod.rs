//! The cache that people call: typed verbs over an adapter that can be exchanged at any moment.

mod adapter;
mod builder;
mod fault;
mod fencing;
mod get_or_set;
mod ready_or_boxed;

mod hit;
mod keys;
mod loaded;
mod slot;
mod stale;
mod tell;
mod view;

pub use builder::WrapperBuilder;
pub use get_or_set::Cacheable;
pub use keys::Keys;
pub use loaded::Loaded;
pub(crate) use slot::{Core, Origin};
pub use view::View;

use crate::event::{Event, EventKind};
use crate::key::Scope;
use crate::options::{Options, each_option};
use crate::stats::Stats;
use crate::{AsyncCacheAdapter, CacheWrapper, Error, Expiry, IntoAdapter, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tell::About;

/// A cache over an adapter that can be exchanged while it is in use.
///
/// Cheap to clone: clones share the adapter and follow swaps. [`async_cached`](crate::async_cached) is the global one.
///
/// # Swapping
///
/// A call takes one look at the adapter when it is first polled. Calls that began before a swap finish on the old adapter,
/// calls that begin after it returned use the new one, and none fails because of it.
///
/// # Cancel safety
///
/// Every future here may be dropped at any point: no lock stays held and no connection is left half read. Whether a dropped
/// write took effect is not known. A dropped `get_or_set*` leaves its loader running; the value is stored.
///
/// # Errors
///
/// All verbs: [`InvalidKey`](crate::ErrorKind::InvalidKey) for an empty key, [`Unavailable`](crate::ErrorKind::Unavailable) and
/// [`Timeout`](crate::ErrorKind::Timeout) when the backend is away or slow, [`Config`](crate::ErrorKind::Config) when the
/// environment names an adapter that there is not.
///
/// # Example
///
/// ```
/// use larder::AsyncCacheWrapper;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
/// let cache = AsyncCacheWrapper::new("memory")?;
/// cache.set("hello", "world").await?;
/// assert_eq!(cache.get::<String>("hello").await?.as_deref(), Some("world"));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct AsyncCacheWrapper {
    pub(crate) core: Arc<Core>,
    pub(crate) scope: Scope,
    pub(crate) options: Options,
}

macro_rules! mirror {
    ($($option:ident($($value:ident: $type:ty)?))*) => {$(
        #[doc = concat!("A view with [`", stringify!($option), "`](View::", stringify!($option), ").")]
        pub fn $option(&self $(, $value: $type)?) -> View<'_> {
            self.view().$option($($value)?)
        }
    )*};
}

impl AsyncCacheWrapper {
    /// A cache of one's own over an alias, class name, URL, adapter or `Arc<dyn AsyncCacheAdapter>`. Does no I/O.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) for a name or URL that larder does not know, saying what there is.
    pub fn new(adapter: impl IntoAdapter) -> Result<Self> {
        Ok(Self::over(Core::new(adapter.into_adapter()?)))
    }

    /// A cache with options of its own for all its calls, see [`WrapperBuilder`].
    pub fn builder(adapter: impl IntoAdapter) -> WrapperBuilder {
        WrapperBuilder::new(adapter)
    }

    pub(crate) fn over(core: Core) -> Self {
        Self { core: Arc::new(core), scope: Scope::default(), options: Options::default() }
    }

    /// The same cache with another default expiry; a call's own `.ttl(…)` still wins.
    ///
    /// ```
    /// use larder::{AsyncCacheWrapper, Expiry};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// let cache = AsyncCacheWrapper::new("memory")?.with_ttl(Expiry::Never);
    /// cache.set("k", 1).await?;
    /// assert_eq!(cache.expiry("k").await?, Some(Expiry::Never));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn with_ttl(mut self, ttl: impl Into<Expiry>) -> Self {
        self.options.expiry = ttl.into();
        self
    }

    /// The same cache, with or without fail-open (see [`View::fail_open`]).
    ///
    /// ```
    /// # fn main() -> larder::Result<()> {
    /// let strict = larder::AsyncCacheWrapper::new("memory")?.with_fail_open(false);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn with_fail_open(mut self, fail_open: bool) -> Self {
        self.options.fail_open = fail_open;
        self
    }

    /// The same cache, with a lease on what `get_or_set*` compute (see [`View::lease`]).
    ///
    /// ```
    /// # fn main() -> larder::Result<()> {
    /// use std::time::Duration;
    ///
    /// let cache = larder::AsyncCacheWrapper::new("memory")?.with_lease(Duration::from_secs(10));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.options.lease(lease);
        self
    }

    /// A part of this cache: keys of its own, a `clear` of its own, the same adapter, also after a swap.
    ///
    /// Keys of the namespace `users` are this cache's keys that begin with `users:`, so `namespace("users").get("7")` and
    /// `get("users:7")` are the same entry.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// let cache = larder::AsyncCacheWrapper::new("memory")?;
    /// let users = cache.namespace("users");
    /// users.set("7", "Ada").await?;
    /// cache.set("usersAbc", 1).await?;
    /// users.clear().await?;
    /// assert!(!cache.contains("users:7").await?);
    /// assert!(cache.contains("usersAbc").await?);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn namespace(&self, name: impl AsRef<str>) -> Self {
        Self { scope: self.scope.nested(name.as_ref()), ..self.clone() }
    }

    /// The blocking face of the same cache.
    #[must_use]
    pub fn blocking(&self) -> CacheWrapper {
        CacheWrapper::from(self.clone())
    }

    /// Tells `observer` of every [`Event`] of this cache, its clones and namespaces.
    ///
    /// It runs inside calls, in the order in which things happen to each: a slow one makes every call slower, and should hand on
    /// what takes time. A panic in it is contained and changes nothing. It may use the cache.
    pub fn observe(&self, observer: impl Fn(&Event<'_>) + Send + Sync + 'static) {
        self.core.observe(observer);
    }

    /// What this cache, its clones and namespaces have done so far: counters and times, always on.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// let cache = larder::AsyncCacheWrapper::new("memory")?;
    /// cache.set("k", 1u8).await?;
    /// cache.get_many::<u8, _>(["k", "nope"]).await?;
    /// let stats = cache.stats();
    /// assert_eq!((stats.sets, stats.hits, stats.misses), (1, 1, 1));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.core.observers().counters.snapshot()
    }

    /// Whether spans and events of `tracing` show keys, their first 128 bytes, for this cache, its clones and namespaces. Off at first.
    #[cfg(feature = "tracing")]
    pub fn trace_keys(&self, show: bool) {
        self.core.observers().shows_keys.store(show, std::sync::atomic::Ordering::Relaxed);
    }

    // ---- options

    /// A view of this cache with the wrapper's own options.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        View { cache: self, options: self.options }
    }

    /// A view whose writes expire after `ttl`.
    pub fn ttl(&self, ttl: impl Into<Expiry>) -> View<'_> {
        self.view().ttl(ttl)
    }

    /// A view whose `get_or_set*` go on without a backend that fails, or do not.
    pub fn fail_open(&self, fail_open: bool) -> View<'_> {
        self.view().fail_open(fail_open)
    }

    each_option!(mirror);

    // ---- reading

    /// The value under `key`, read as a `T`; `None` when it is missing or expired.
    ///
    /// # Errors
    ///
    /// [`Decode`](crate::ErrorKind::Decode), naming key and type, when the value is not something serde can read as a `T`.
    /// Stored bytes that larder did not write, or that are damaged, are a miss and an event.
    pub fn get<T>(&self, key: impl AsRef<str>) -> impl Future<Output = Result<Option<T>>>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        self.read(key, self.options.allow_stale)
    }

    /// [`get`](AsyncCacheWrapper::get), or `default` on a miss. The default is not stored.
    pub async fn get_or<T>(&self, key: impl AsRef<str>, default: T) -> Result<T>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        Ok(self.get(key).await?.unwrap_or(default))
    }

    /// [`get`](AsyncCacheWrapper::get), with a miss as an error.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound) when the key is missing or expired.
    pub async fn get_or_fail<T>(&self, key: impl AsRef<str>) -> Result<T>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        let key = key.as_ref();
        self.get(key).await?.ok_or_else(|| Error::not_found(key).with_op("get"))
    }

    /// The values under `keys`, in the order asked.
    ///
    /// # Errors
    ///
    /// The first that a key met. All keys are checked before the backend is asked.
    pub async fn get_many<T, I>(&self, keys: I) -> Result<Vec<Option<T>>>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        self.view().get_many(keys).await
    }

    /// Whether `key` is live. Does not read the value.
    pub async fn contains(&self, key: impl AsRef<str>) -> Result<bool> {
        Ok(self
            .ask("contains", key.as_ref(), async |slot, key| {
                slot.contains(key, &self.options).await
            })
            .await?
            .answer)
    }

    /// How long `key` still lives: [`Expiry::Never`] or [`Expiry::After`] what remains; `None` when it is missing.
    pub async fn expiry(&self, key: impl AsRef<str>) -> Result<Option<Expiry>> {
        Ok(self
            .ask("expiry", key.as_ref(), async |slot, key| slot.expiry(key, &self.options).await)
            .await?
            .answer)
    }

    // ---- writing

    /// Stores `value` under `key` with the default expiry.
    ///
    /// # Errors
    ///
    /// [`Encode`](crate::ErrorKind::Encode): nothing was changed. [`TooLarge`](crate::ErrorKind::TooLarge): the older value is
    /// not served any more. [`Timeout`](crate::ErrorKind::Timeout): the write may still take effect.
    pub async fn set<T>(&self, key: impl AsRef<str>, value: T) -> Result<()>
    where
        T: Serialize + Send + Sync + 'static,
    {
        self.view().set(key, value).await
    }

    /// [`set`](AsyncCacheWrapper::set) of several. All keys are checked, and all values encoded, before anything is changed.
    ///
    /// # Errors
    ///
    /// The first that an entry met; the entries that met none are stored.
    pub async fn set_many<K, T, I>(&self, entries: I) -> Result<()>
    where
        K: AsRef<str>,
        T: Serialize + Send + Sync + 'static,
        I: IntoIterator<Item = (K, T)>,
    {
        self.view().set_many(entries).await
    }

    /// Stores `value` only if `key` is missing, in one atomic step; whether it did.
    pub async fn add<T>(&self, key: impl AsRef<str>, value: T) -> Result<bool>
    where
        T: Serialize + Send + Sync + 'static,
    {
        self.view().add(key, value).await
    }

    /// Stores `value` only if `key` is live, in one atomic step; whether it did.
    pub async fn replace<T>(&self, key: impl AsRef<str>, value: T) -> Result<bool>
    where
        T: Serialize + Send + Sync + 'static,
    {
        self.view().replace(key, value).await
    }

    /// Adds `by` to the counter under `key` in one atomic step and returns the sum. A missing counter starts from 0; a live one
    /// keeps its expiry.
    ///
    /// # Errors
    ///
    /// [`NotANumber`](crate::ErrorKind::NotANumber) and [`Overflow`](crate::ErrorKind::Overflow); the value is unchanged.
    pub async fn incr(&self, key: impl AsRef<str>, by: i64) -> Result<i64> {
        self.view().incr(key, by).await
    }

    /// [`incr`](AsyncCacheWrapper::incr) the other way.
    pub async fn decr(&self, key: impl AsRef<str>, by: i64) -> Result<i64> {
        self.view().decr(key, by).await
    }

    /// Removes keys: one, or an array, slice or `Vec` of them. Whether all of them were live (no keys: true). The live ones go
    /// even if others are missing.
    pub async fn remove(&self, keys: impl Keys) -> Result<bool> {
        let keys = keys.list();
        let keys = keys.as_ref();
        if let [key] = keys {
            let removed = self
                .write("remove", key.as_ref(), async |slot, key| {
                    slot.remove(key, &self.options).await
                })
                .await?;
            return Ok(self.tell_if(|live| *live, EventKind::Remove, removed));
        }
        let scoped =
            keys.iter().map(|key| self.scope.key(key.as_ref())).collect::<Result<Vec<_>>>()?;
        let scoped: Vec<&str> = scoped.iter().map(AsRef::as_ref).collect();
        let slot = self.core.slot()?;
        let _writes = slot.writes(&scoped).await;
        let (removed, took) = self
            .call(&slot, About::new("remove", ""), pin!(slot.remove_many(&scoped, &self.options)))
            .await;
        let removed = removed.map_err(|error| self.failed_whole(&slot, "remove", took, error))?;
        let removed = keys.iter().zip(removed).map(|(key, live)| {
            let about = About::new("remove", key.as_ref()).took(took);
            live.inspect(|live| {
                if *live {
                    self.tell(&slot, EventKind::Remove, about)
                }
            })
            .map_err(|error| self.failed(&slot, about, error))
        });
        removed.collect::<Vec<_>>().into_iter().try_fold(true, |all, live| Ok(all && live?))
    }

    /// Removes `key` and returns the value it had, in one atomic step.
    ///
    /// # Errors
    ///
    /// [`Decode`](crate::ErrorKind::Decode) when the value is not a `T`; it is removed all the same.
    pub async fn take<T>(&self, key: impl AsRef<str>) -> Result<Option<T>>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        let key = key.as_ref();
        let taken = self.write("take", key, async |slot, key| slot.take(key).await).await?;
        let (slot, about) = (taken.slot.clone(), taken.about);
        match self.tell_if(Option::is_some, EventKind::Remove, taken) {
            Some(value) => self.decode(&slot, about, &value),
            None => Ok(None),
        }
    }

    /// Gives a live entry a new expiry, counted from now; whether it was live.
    pub async fn touch(&self, key: impl AsRef<str>, ttl: impl Into<Expiry>) -> Result<bool> {
        let expiry = ttl.into().or(self.options.expiry);
        Ok(self
            .ask("touch", key.as_ref(), async move |slot, key| {
                slot.touch(key, expiry, &self.options).await
            })
            .await?
            .answer)
    }

    /// [`touch`](AsyncCacheWrapper::touch) that returns the value.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound) when the key is missing or expired.
    pub async fn update_timeout<T>(&self, key: impl AsRef<str>, ttl: impl Into<Expiry>) -> Result<T>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        let key = key.as_ref();
        let expiry = ttl.into().or(self.options.expiry);
        let found = self
            .ask("update_timeout", key, async move |slot, key| {
                slot.update_timeout(key, expiry, &self.options).await
            })
            .await?;
        let value = found
            .answer
            .map(|value| self.decode(&found.slot, found.about, &value))
            .transpose()?
            .flatten();
        value.ok_or_else(|| Error::not_found(key).with_op("update_timeout"))
    }

    /// Removes all of this cache's own keys (its namespace's, its adapter's prefix's), never anybody else's.
    pub async fn clear(&self) -> Result<()> {
        let slot = self.core.slot()?;
        let _clear = slot.flights.clear(self.scope.prefix()).await;
        let (cleared, took) = self
            .call(&slot, About::new("clear", ""), pin!(slot.adapter.clear(self.scope.prefix())))
            .await;
        cleared.map_err(|error| self.failed_whole(&slot, "clear", took, error))?;
        self.tell(&slot, EventKind::Clear, About::new("clear", "").took(took));
        Ok(())
    }

    // ---- reading, or computing

    /// The value under `key`; on a miss `value`, which is stored.
    pub fn get_or_set<T: Cacheable>(
        &self,
        key: impl AsRef<str>,
        value: T,
    ) -> impl Future<Output = Result<T>> {
        self.view().get_or_set(key, value)
    }

    /// The value under `key`; on a miss what `loader` makes of the key, which is stored. See [`View::get_or_set_with`].
    pub fn get_or_set_with<T: Cacheable>(
        &self,
        key: impl AsRef<str>,
        loader: impl FnOnce(&str) -> T,
    ) -> impl Future<Output = Result<T>> {
        self.view().get_or_set_with(key, loader)
    }

    /// The value under `key`; on a miss what `loader` comes to, which is stored. See [`View::get_or_set_async`].
    pub fn get_or_set_async<T, F>(
        &self,
        key: impl AsRef<str>,
        loader: F,
    ) -> impl Future<Output = Result<T>>
    where
        T: Cacheable,
        F: Future<Output = T> + Send + 'static,
    {
        self.view().get_or_set_async(key, loader)
    }

    /// [`get_or_set_async`](AsyncCacheWrapper::get_or_set_async) with a loader that may fail. See [`View::try_get_or_set_async`].
    pub fn try_get_or_set_async<T, E, F>(
        &self,
        key: impl AsRef<str>,
        loader: F,
    ) -> impl Future<Output = Result<T>>
    where
        T: Cacheable,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        self.view().try_get_or_set_async(key, loader)
    }

    /// [`get_or_set_with`](AsyncCacheWrapper::get_or_set_with) with a closure that says how long its value is good for, see [`Loaded`].
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

    /// [`get_or_set_async`](AsyncCacheWrapper::get_or_set_async) with a future that says how long its value is good for, see [`Loaded`].
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

    /// [`get_or_set_loaded_async`](AsyncCacheWrapper::get_or_set_loaded_async) with a loader that may fail.
    pub fn try_get_or_set_loaded_async<T, E, F>(
        &self,
        key: impl AsRef<str>,
        loader: F,
    ) -> impl Future<Output = Result<T>>
    where
        T: Cacheable,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
        F: Future<Output = Result<Loaded<T>, E>> + Send + 'static,
    {
        self.view().try_get_or_set_loaded_async(key, loader)
    }
}
