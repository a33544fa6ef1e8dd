//! `get_or_set*`, one method for each kind of loader. `call` implements one call, `task` one run of
//! a loader. `driver` decides who polls the run, and `waiting` how long a call waits for it.

mod call;
mod driver;
mod found;
mod task;
mod waiting;

use super::{Loaded, NotAResult, View};
use crate::error::Result;
use call::ClaimWhen;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::error::Error as StdError;
use std::future::Future;
use task::LoadTask;

/// The values of `get_or_set*`: types that can be stored, read back and cloned for all callers that
/// wait.
pub trait Cacheable: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {}

impl<T: Serialize + DeserializeOwned + Clone + Send + Sync + 'static> Cacheable for T {}

/// # Reading, or computing
impl View<'_> {
    /// Returns the value under `key`. On a miss stores `value` and returns it. A `Result` is
    /// refused, see [`NotAResult`].
    ///
    /// # Errors
    ///
    /// As [`get_or_set_with`](View::get_or_set_with).
    pub fn get_or_set<K, T, By>(self, key: K, value: T) -> impl Future<Output = Result<T>>
    where
        K: AsRef<str>,
        T: Cacheable + NotAResult<By>,
    {
        self.get_or_set_with(key, |_| value)
    }

    /// Returns the value under `key`. On a miss runs the closure `loader`, stores its result and
    /// returns it.
    ///
    /// The closure runs at once, inside the call, and once for all callers that wait. For slow work
    /// use [`get_or_set_async`](View::get_or_set_async). **For a loader that returns a `Result`:
    /// [`try_get_or_set_async`](View::try_get_or_set_async)**; a `Result` is refused, see
    /// [`NotAResult`].
    ///
    /// # Errors
    ///
    /// [`Panic`](crate::ErrorKind::Panic) when the closure or its value's `Serialize` panics, for
    /// all callers that wait; nothing is stored. A value that cannot be encoded or stored, and a
    /// backend that fails, are an error only without [`fail_open`](View::fail_open). With it the
    /// caller gets the value, and an event has the reason.
    pub fn get_or_set_with<K, T, By>(
        self,
        key: K,
        loader: impl FnOnce(&str) -> T,
    ) -> impl Future<Output = Result<T>>
    where
        K: AsRef<str>,
        T: Cacheable + NotAResult<By>,
    {
        self.get_or_load(key, ClaimWhen::BeforeJoin, |key: &str, task: LoadTask| {
            task.run_now(|| Loaded::new(loader(key)));
            None
        })
    }

    /// Returns the value under `key`. On a miss runs the future `loader`, stores its result and
    /// returns it.
    ///
    /// **For a loader that returns a `Result`:
    /// [`try_get_or_set_async`](View::try_get_or_set_async).** Here a `Result` is refused, because
    /// its error would be stored as a value: see [`NotAResult`].
    ///
    /// The future is not polled on a hit. On a miss it runs in a task of its own on the caller's
    /// runtime, once for all callers that wait. Callers may be dropped or give up; the load goes
    /// on, and its value is stored and shared.
    ///
    /// If the key is written while the loader runs, the write wins, also if another process writes
    /// ([`leases`](crate::docs::leases)): the loader's value is returned and not stored. After a
    /// swap the value is not stored in the new adapter. If a loader asks for its own key, or for a
    /// key whose load waits for this loader, the inner loader runs unshared.
    ///
    /// # Errors
    ///
    /// As [`get_or_set_with`](View::get_or_set_with); [`Reentrant`](crate::ErrorKind::Reentrant)
    /// when loaders ask for their own keys without end.
    pub fn get_or_set_async<K, T, By>(
        self,
        key: K,
        loader: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = Result<T>>
    where
        K: AsRef<str>,
        T: Cacheable + NotAResult<By>,
    {
        self.get_or_start(key, || async { Ok(Loaded::new(loader.await)) })
    }

    /// [`get_or_set_async`](View::get_or_set_async) with a loader that may fail.
    ///
    /// # Errors
    ///
    /// [`Load`](crate::ErrorKind::Load) with the loader's own error as its `source`, for all
    /// callers that wait; nothing is stored and the next call tries again.
    pub fn try_get_or_set_async<K, T, E, F>(
        self,
        key: K,
        loader: F,
    ) -> impl Future<Output = Result<T>>
    where
        K: AsRef<str>,
        T: Cacheable,
        E: Into<Box<dyn StdError + Send + Sync>>,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        self.get_or_start(key, || async { loader.await.map(Loaded::new).map_err(Into::into) })
    }

    /// [`get_or_set_with`](View::get_or_set_with) with a closure that also decides when its value
    /// expires, see [`Loaded`].
    ///
    /// # Errors
    ///
    /// As [`get_or_set_with`](View::get_or_set_with).
    pub fn get_or_set_loaded_with<K, T>(
        self,
        key: K,
        loader: impl FnOnce(&str) -> Loaded<T>,
    ) -> impl Future<Output = Result<T>>
    where
        K: AsRef<str>,
        T: Cacheable,
    {
        self.get_or_load(key, ClaimWhen::BeforeJoin, |key: &str, task: LoadTask| {
            task.run_now(|| loader(key));
            None
        })
    }

    /// [`get_or_set_async`](View::get_or_set_async) with a future that also decides when its value
    /// expires, see [`Loaded`].
    ///
    /// # Errors
    ///
    /// As [`get_or_set_async`](View::get_or_set_async).
    pub fn get_or_set_loaded_async<K, T, F>(
        self,
        key: K,
        loader: F,
    ) -> impl Future<Output = Result<T>>
    where
        K: AsRef<str>,
        T: Cacheable,
        F: Future<Output = Loaded<T>> + Send + 'static,
    {
        self.get_or_start(key, || async { Ok(loader.await) })
    }

    /// [`get_or_set_loaded_async`](View::get_or_set_loaded_async) with a loader that may fail.
    ///
    /// # Errors
    ///
    /// As [`try_get_or_set_async`](View::try_get_or_set_async).
    pub fn try_get_or_set_loaded_async<K, T, E, F>(
        self,
        key: K,
        loader: F,
    ) -> impl Future<Output = Result<T>>
    where
        K: AsRef<str>,
        T: Cacheable,
        E: Into<Box<dyn StdError + Send + Sync>>,
        F: Future<Output = Result<Loaded<T>, E>> + Send + 'static,
    {
        self.get_or_start(key, || async { loader.await.map_err(Into::into) })
    }

    /// The call with a loader that is a future: on a miss, it runs in a task of its own. `loader`
    /// makes the future on a miss only, which keeps the future of a call small.
    fn get_or_start<T, F>(
        self,
        key: impl AsRef<str>,
        loader: impl FnOnce() -> F,
    ) -> impl Future<Output = Result<T>>
    where
        T: Cacheable,
        F: Future<Output = Result<Loaded<T>, Box<dyn StdError + Send + Sync>>> + Send + 'static,
    {
        self.get_or_load(key, ClaimWhen::InTask, |_: &str, task: LoadTask| {
            task.start(Box::pin(loader()))
        })
    }
}
