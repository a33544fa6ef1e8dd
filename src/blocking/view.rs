//! The verbs of the blocking face, with their options.

use super::keys::KeyIter;
use super::wait;
use crate::blocking::CacheWrapper;
use crate::codec::Codec;
use crate::error::Result;
use crate::expiry::Expiry;
use crate::options::each_option;
use crate::wrapper::{BatchArgument, BatchItem, Cacheable, Keys, Loaded, NotAResult, Tagged, View};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::future::Future;

/// [`View`] for code without `.await`.
///
/// ```
/// use std::time::Duration;
///
/// let cache = larder::CacheWrapper::new("memory")?;
/// cache.ttl(Duration::from_secs(60)).get_or_set_with("k", |_| 6 * 7)?;
/// assert_eq!(cache.get::<i32>("k")?, Some(42));
/// # Ok::<(), larder::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct BlockingView<'a>(pub(crate) View<'a>);

macro_rules! mirror {
    ($($option:ident($($value:ident: $type:ty)?))*) => {$(
        #[doc = concat!("See [`View::", stringify!($option), "`].")]
        #[must_use]
        pub fn $option(self $(, $value: $type)?) -> Self {
            Self(self.0.$option($($value)?))
        }
    )*};
}

impl BlockingView<'_> {
    /// See [`View::ttl`].
    #[must_use]
    pub fn ttl(self, ttl: impl Into<Expiry>) -> Self {
        Self(self.0.ttl(ttl))
    }

    /// See [`View::codec`].
    #[must_use]
    pub fn codec(self, codec: Codec) -> Self {
        Self(self.0.codec(codec))
    }

    /// See [`View::fail_open`].
    #[must_use]
    pub fn fail_open(self, fail_open: bool) -> Self {
        Self(self.0.fail_open(fail_open))
    }

    /// See [`View::max_batch`].
    #[must_use]
    pub fn max_batch(self, most: usize) -> Self {
        Self(self.0.max_batch(most))
    }

    /// See [`View::tags`].
    pub fn tags<I>(self, tags: I) -> Tagged<CacheWrapper>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        Tagged::new(self.0.tags(tags).into_cache().into())
    }

    each_option!(mirror);

    /// See [`View::into_cache`].
    ///
    /// ```
    /// let rates = larder::cached().jitter(0.1).into_cache();
    /// std::thread::spawn(move || rates.set("eur", 1.08)).join().unwrap()?;
    /// # Ok::<(), larder::Error>(())
    /// ```
    #[must_use]
    pub fn into_cache(self) -> CacheWrapper {
        self.0.into_cache().into()
    }

    /// See [`View::get`].
    pub fn get<T>(self, key: impl AsRef<str>) -> Result<Option<T>>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        wait(self.0.get(key))
    }

    /// See [`View::get_or`].
    pub fn get_or<T>(self, key: impl AsRef<str>, default: T) -> Result<T>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        wait(self.0.get_or(key, default))
    }

    /// See [`View::get_or_fail`].
    pub fn get_or_fail<T>(self, key: impl AsRef<str>) -> Result<T>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        wait(self.0.get_or_fail(key))
    }

    /// See [`View::keys`].
    pub fn keys(self, prefix: impl AsRef<str>) -> KeyIter {
        KeyIter(self.0.keys(prefix))
    }

    /// See [`View::contains`].
    pub fn contains(self, key: impl AsRef<str>) -> Result<bool> {
        wait(self.0.contains(key))
    }

    /// See [`View::expiry`].
    pub fn expiry(self, key: impl AsRef<str>) -> Result<Option<Expiry>> {
        wait(self.0.expiry(key))
    }

    /// See [`View::get_many`].
    pub fn get_many<T, I>(self, keys: I) -> Result<Vec<Option<T>>>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        wait(self.0.get_many(keys))
    }

    /// See [`View::set`].
    pub fn set<T>(self, key: impl AsRef<str>, value: T) -> Result<()>
    where
        T: Serialize + Send + Sync + 'static,
    {
        wait(self.0.set(key, value))
    }

    /// See [`View::set_many`].
    pub fn set_many<K, T, I>(self, entries: I) -> Result<()>
    where
        K: AsRef<str>,
        T: Serialize + Send + Sync + 'static,
        I: IntoIterator<Item = (K, T)>,
    {
        wait(self.0.set_many(entries))
    }

    /// See [`View::set_each`].
    pub fn set_each<K, T, I>(self, entries: I) -> Result<()>
    where
        K: AsRef<str>,
        T: Serialize + Send + Sync + 'static,
        I: IntoIterator<Item = (K, T, Expiry)>,
    {
        wait(self.0.set_each(entries))
    }

    /// See [`View::add`].
    pub fn add<T>(self, key: impl AsRef<str>, value: T) -> Result<bool>
    where
        T: Serialize + Send + Sync + 'static,
    {
        wait(self.0.add(key, value))
    }

    /// See [`View::replace`].
    pub fn replace<T>(self, key: impl AsRef<str>, value: T) -> Result<bool>
    where
        T: Serialize + Send + Sync + 'static,
    {
        wait(self.0.replace(key, value))
    }

    /// See [`View::incr`].
    pub fn incr(self, key: impl AsRef<str>, by: i64) -> Result<i64> {
        wait(self.0.incr(key, by))
    }

    /// See [`View::decr`].
    pub fn decr(self, key: impl AsRef<str>, by: i64) -> Result<i64> {
        wait(self.0.decr(key, by))
    }

    /// See [`View::remove`].
    pub fn remove<By>(self, keys: impl Keys<By>) -> Result<bool> {
        wait(self.0.remove(keys))
    }

    /// See [`View::remove_many`].
    pub fn remove_many<I>(self, keys: I) -> Result<bool>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        wait(self.0.remove_many(keys))
    }

    /// See [`View::remove_tags`].
    pub fn remove_tags<I>(self, tags: I) -> Result<()>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        wait(self.0.remove_tags(tags))
    }

    /// See [`View::take`].
    pub fn take<T>(self, key: impl AsRef<str>) -> Result<Option<T>>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        wait(self.0.take(key))
    }

    /// See [`View::touch`].
    pub fn touch(self, key: impl AsRef<str>, ttl: impl Into<Expiry>) -> Result<bool> {
        wait(self.0.touch(key, ttl))
    }

    /// See [`View::update_timeout`].
    pub fn update_timeout<T>(self, key: impl AsRef<str>, ttl: impl Into<Expiry>) -> Result<T>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        wait(self.0.update_timeout(key, ttl))
    }

    /// See [`View::clear`].
    pub fn clear(self) -> Result<()> {
        wait(self.0.clear())
    }

    /// See [`View::get_or_set`].
    pub fn get_or_set<T, By>(self, key: impl AsRef<str>, value: T) -> Result<T>
    where
        T: Cacheable + NotAResult<By>,
    {
        wait(self.0.get_or_set(key, value))
    }

    /// See [`View::get_or_set_with`].
    pub fn get_or_set_with<T, By>(
        self,
        key: impl AsRef<str>,
        loader: impl FnOnce(&str) -> T,
    ) -> Result<T>
    where
        T: Cacheable + NotAResult<By>,
    {
        wait(self.0.get_or_set_with(key, loader))
    }

    /// See [`View::get_or_set_async`].
    pub fn get_or_set_async<T, By>(
        self,
        key: impl AsRef<str>,
        loader: impl Future<Output = T> + Send + 'static,
    ) -> Result<T>
    where
        T: Cacheable + NotAResult<By>,
    {
        wait(self.0.caller_driven().get_or_set_async(key, loader))
    }

    /// See [`View::try_get_or_set_async`].
    pub fn try_get_or_set_async<T, E, F>(self, key: impl AsRef<str>, loader: F) -> Result<T>
    where
        T: Cacheable,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        wait(self.0.caller_driven().try_get_or_set_async(key, loader))
    }

    /// See [`View::try_get_or_set_with`].
    pub fn try_get_or_set_with<T, E>(
        self,
        key: impl AsRef<str>,
        loader: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T>
    where
        T: Cacheable,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        wait(self.0.try_get_or_set_with(key, loader))
    }

    /// See [`View::get_or_load`].
    pub fn get_or_load<T, By, F>(
        self,
        key: impl AsRef<str>,
        loader: impl FnOnce() -> F,
    ) -> Result<T>
    where
        T: Cacheable + NotAResult<By>,
        F: Future<Output = T> + Send + 'static,
    {
        wait(self.0.caller_driven().get_or_load(key, loader))
    }

    /// See [`View::try_get_or_load`].
    pub fn try_get_or_load<T, E, F>(
        self,
        key: impl AsRef<str>,
        loader: impl FnOnce() -> F,
    ) -> Result<T>
    where
        T: Cacheable,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        wait(self.0.caller_driven().try_get_or_load(key, loader))
    }

    /// See [`View::get_or_load_here`]. The future runs on this thread.
    pub fn get_or_load_here<T, By, F>(
        self,
        key: impl AsRef<str>,
        loader: impl FnOnce() -> F,
    ) -> Result<T>
    where
        T: Cacheable + NotAResult<By>,
        F: Future<Output = T>,
    {
        wait(self.0.caller_driven().get_or_load_here(key, loader))
    }

    /// See [`View::try_get_or_load_here`]. The future runs on this thread.
    pub fn try_get_or_load_here<T, E, F>(
        self,
        key: impl AsRef<str>,
        loader: impl FnOnce() -> F,
    ) -> Result<T>
    where
        T: Cacheable,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
        F: Future<Output = Result<T, E>>,
    {
        wait(self.0.caller_driven().try_get_or_load_here(key, loader))
    }

    /// See [`View::get_or_set_many_async`].
    pub fn get_or_set_many_async<I, By, A, T, R, F, P, S>(
        self,
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
        wait(self.0.caller_driven().get_or_set_many_async(items, loader))
    }

    /// See [`View::try_get_or_set_many_async`].
    pub fn try_get_or_set_many_async<I, By, A, T, E, F, P>(
        self,
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
        wait(self.0.caller_driven().try_get_or_set_many_async(items, loader))
    }

    /// See [`View::get_or_set_loaded_with`].
    pub fn get_or_set_loaded_with<T: Cacheable>(
        self,
        key: impl AsRef<str>,
        loader: impl FnOnce(&str) -> Loaded<T>,
    ) -> Result<T> {
        wait(self.0.get_or_set_loaded_with(key, loader))
    }

    /// See [`View::get_or_set_loaded_async`].
    pub fn get_or_set_loaded_async<T, F>(self, key: impl AsRef<str>, loader: F) -> Result<T>
    where
        T: Cacheable,
        F: Future<Output = Loaded<T>> + Send + 'static,
    {
        wait(self.0.caller_driven().get_or_set_loaded_async(key, loader))
    }

    /// See [`View::try_get_or_set_loaded_async`].
    pub fn try_get_or_set_loaded_async<T, E, F>(self, key: impl AsRef<str>, loader: F) -> Result<T>
    where
        T: Cacheable,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
        F: Future<Output = Result<Loaded<T>, E>> + Send + 'static,
    {
        wait(self.0.caller_driven().try_get_or_set_loaded_async(key, loader))
    }
}
