//! `get_or_set*`, by what kind of fallback they take.

use super::load::{Ask, Load};
use super::{Fresh, View};
use crate::{Result, runtime};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::error::Error as StdError;
use std::future::Future;

/// What `get_or_set*` work with: anything that can be stored, read back and handed to everyone who waits.
pub trait Cacheable: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {}

impl<T: Serialize + DeserializeOwned + Clone + Send + Sync + 'static> Cacheable for T {}

/// # Reading, or computing
impl View<'_> {
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
    /// [`Panic`](crate::ErrorKind::Panic) when the closure panics, for everyone who waits; nothing is stored.
    /// [`Encode`](crate::ErrorKind::Encode) when its value cannot be stored. A backend that fails, or a value too large for it, is
    /// an error only without [`fail_open`](View::fail_open).
    pub fn get_or_set_with<K: AsRef<str>, T: Cacheable>(self, key: K, fallback: impl FnOnce(&str) -> T) -> impl Future<Output = Result<T>> {
        self.get_or_load(key, Ask::First, |key: &str, load: Load| load.run_now(|| Fresh::new(fallback(key))))
    }

    /// The value under `key`; on a miss what the future `fallback` comes to, which is stored and returned.
    ///
    /// The future is not polled on a hit. On a miss it runs in a task of its own on the caller's runtime, once for all who
    /// wait: callers may be dropped, parked or give up, and the work goes on, is stored and shared.
    ///
    /// A write to the key while the fallback runs wins, also one by another process (`docs/leases.md`): the fallback's value is returned and not stored. So does a swap: the
    /// value does not fill the new adapter. A fallback that asks for its own key, or for one that waits for it, runs the inner
    /// fallback unshared.
    ///
    /// # Errors
    ///
    /// As [`get_or_set_with`](View::get_or_set_with); [`Reentrant`](crate::ErrorKind::Reentrant) when fallbacks ask for themselves
    /// without end.
    pub fn get_or_set_async<K, T, F>(self, key: K, fallback: F) -> impl Future<Output = Result<T>>
    where
        K: AsRef<str>,
        T: Cacheable,
        F: Future<Output = T> + Send + 'static,
    {
        self.get_or_load(key, Ask::Inside, |_: &str, load: Load| {
            runtime::spawn_loader(load.run(Box::pin(async { Ok(Fresh::new(fallback.await)) })))
        })
    }

    /// [`get_or_set_async`](View::get_or_set_async) with a fallback that may fail.
    ///
    /// # Errors
    ///
    /// [`Load`](crate::ErrorKind::Load) with the fallback's own error as its `source`, for everyone who waits; nothing is stored
    /// and the next call tries again.
    pub fn try_get_or_set_async<K, T, E, F>(self, key: K, fallback: F) -> impl Future<Output = Result<T>>
    where
        K: AsRef<str>,
        T: Cacheable,
        E: Into<Box<dyn StdError + Send + Sync>>,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let fallible = || async { fallback.await.map(Fresh::new).map_err(Into::into) };
        self.get_or_load(key, Ask::Inside, |_: &str, load: Load| runtime::spawn_loader(load.run(Box::pin(fallible()))))
    }

    /// [`get_or_set_with`](View::get_or_set_with) with a closure that says how long its value is good for, see [`Fresh`].
    ///
    /// # Errors
    ///
    /// As [`get_or_set_with`](View::get_or_set_with).
    pub fn get_or_set_fresh_with<K, T>(self, key: K, fallback: impl FnOnce(&str) -> Fresh<T>) -> impl Future<Output = Result<T>>
    where
        K: AsRef<str>,
        T: Cacheable,
    {
        self.get_or_load(key, Ask::First, |key: &str, load: Load| load.run_now(|| fallback(key)))
    }

    /// [`get_or_set_async`](View::get_or_set_async) with a future that says how long its value is good for, see [`Fresh`].
    ///
    /// # Errors
    ///
    /// As [`get_or_set_async`](View::get_or_set_async).
    pub fn get_or_set_fresh_async<K, T, F>(self, key: K, fallback: F) -> impl Future<Output = Result<T>>
    where
        K: AsRef<str>,
        T: Cacheable,
        F: Future<Output = Fresh<T>> + Send + 'static,
    {
        self.get_or_load(key, Ask::Inside, |_: &str, load: Load| runtime::spawn_loader(load.run(Box::pin(async { Ok(fallback.await) }))))
    }

    /// [`get_or_set_fresh_async`](View::get_or_set_fresh_async) with a fallback that may fail.
    ///
    /// # Errors
    ///
    /// As [`try_get_or_set_async`](View::try_get_or_set_async).
    pub fn try_get_or_set_fresh_async<K, T, E, F>(self, key: K, fallback: F) -> impl Future<Output = Result<T>>
    where
        K: AsRef<str>,
        T: Cacheable,
        E: Into<Box<dyn StdError + Send + Sync>>,
        F: Future<Output = Result<Fresh<T>, E>> + Send + 'static,
    {
        let fallible = || async { fallback.await.map_err(Into::into) };
        self.get_or_load(key, Ask::Inside, |_: &str, load: Load| runtime::spawn_loader(load.run(Box::pin(fallible()))))
    }
}
