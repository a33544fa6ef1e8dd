//! The writing verbs of the blocking face, with their options.

use super::wait;
use crate::{Cacheable, Expiry, Result, View};
use serde::Serialize;
use std::future::Future;
use std::time::Duration;

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
pub struct BlockingView<'a>(pub(super) View<'a>);

impl BlockingView<'_> {
    /// See [`View::ttl`].
    #[must_use]
    pub fn ttl(self, ttl: impl Into<Expiry>) -> Self {
        Self(self.0.ttl(ttl))
    }

    /// See [`View::fail_open`].
    #[must_use]
    pub fn fail_open(self, fail_open: bool) -> Self {
        Self(self.0.fail_open(fail_open))
    }

    /// See [`View::lease`].
    #[must_use]
    pub fn lease(self, lease: Duration) -> Self {
        Self(self.0.lease(lease))
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

    /// See [`View::get_or_set`].
    pub fn get_or_set<T: Cacheable>(self, key: impl AsRef<str>, value: T) -> Result<T> {
        wait(self.0.get_or_set(key, value))
    }

    /// See [`View::get_or_set_with`].
    pub fn get_or_set_with<T: Cacheable>(self, key: impl AsRef<str>, fallback: impl FnOnce(&str) -> T) -> Result<T> {
        wait(self.0.get_or_set_with(key, fallback))
    }

    /// See [`View::get_or_set_async`].
    pub fn get_or_set_async<T, F>(self, key: impl AsRef<str>, fallback: F) -> Result<T>
    where
        T: Cacheable,
        F: Future<Output = T> + Send + 'static,
    {
        wait(self.0.get_or_set_async(key, fallback))
    }

    /// See [`View::try_get_or_set_async`].
    pub fn try_get_or_set_async<T, E, F>(self, key: impl AsRef<str>, fallback: F) -> Result<T>
    where
        T: Cacheable,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        wait(self.0.try_get_or_set_async(key, fallback))
    }
}
