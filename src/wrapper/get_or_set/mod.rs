//! `get_or_set*`, one method for each kind of loader. `calls` has the futures, `call` implements one
//! call, `task` one run of a loader, `at_once` a run that ends before the call has to wait. `loader`
//! has the loaders without their types, `carried` a load that its call polls, `rest` the part of a call that knows no types. `ready` is
//! what a load acquires before its loader runs. `driver` decides who polls the run, `waiting` how long a call waits for it, and
//! `arriving` what the call makes of the outcome. `many` is for several keys.

mod arriving;
mod at_once;
mod call;
mod calls;
mod carried;
mod driver;
mod found;
mod load_result;
mod loader;
mod many;
mod ready;
mod rest;
mod task;
mod waiting;

pub use many::{BatchArgument, BatchItem, KeyAndArgument};

#[cfg(feature = "macros")]
use super::read::AtHand;
use super::{Loaded, NotAResult, View};
use crate::error::Result;
#[cfg(feature = "macros")]
use call::OP;
pub(crate) use calls::DetachedCall;
use calls::{Call, CarriedCall, InlineCall};
#[cfg(feature = "macros")]
pub(crate) use driver::Runs;
use futures_util::FutureExt;
use futures_util::future::{Either, lazy};
#[cfg(feature = "macros")]
pub(crate) use load_result::LoadResult;
use load_result::Panic;
pub(crate) use load_result::{BoxedLoader, Cause};
use loader::Carrying;
#[cfg(feature = "macros")]
pub(crate) use loader::Pinned;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::error::Error as StdError;
use std::future::Future;
#[cfg(feature = "macros")]
use std::ops::ControlFlow;
use std::panic::resume_unwind;

/// The values of `get_or_set*`: types that can be stored, read back and cloned for all callers that
/// wait.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be kept in a cache",
    label = "needs `Serialize`, `DeserializeOwned`, `Clone`, `Send`, `Sync` and `'static`",
    note = "derive `Clone`, `serde::Serialize` and `serde::Deserialize`, and own what the value borrows"
)]
pub trait Cacheable: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Clone + Send + Sync + 'static> Cacheable for T {}

/// # Reading, or computing
impl<'a> View<'a> {
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
    /// use [`get_or_set_async`](View::get_or_set_async). **For a closure that returns a `Result`:
    /// [`try_get_or_set_with`](View::try_get_or_set_with)**; a `Result` is refused, see
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
        self.get_or_call(key, |key| Ok(Loaded::new(loader(key))))
    }

    /// [`get_or_set_with`](View::get_or_set_with) with a closure that may fail.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// # let cache = larder::AsyncCacheWrapper::new("memory")?;
    /// let port: u16 = cache.try_get_or_set_with("8080", |key| key.parse::<u16>()).await?;
    /// assert_eq!(port, 8080);
    /// assert!(cache.try_get_or_set_with("x", |key| key.parse::<u16>()).await.is_err());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Load`](crate::ErrorKind::Load) with the closure's own error as its `source`, for all
    /// callers that wait; nothing is stored and the next call tries again. Otherwise as
    /// [`get_or_set_with`](View::get_or_set_with).
    pub fn try_get_or_set_with<K, T, E>(
        self,
        key: K,
        loader: impl FnOnce(&str) -> Result<T, E>,
    ) -> impl Future<Output = Result<T>>
    where
        K: AsRef<str>,
        T: Cacheable,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        self.get_or_call(key, |key| loader(key).map(Loaded::new).map_err(Into::into))
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
    /// on, and its value is stored and shared. Over a store that never waits, the call polls the
    /// future once itself, and needs no task if the future is ready.
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
        self.get_or_load(key, || loader)
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
        self.try_get_or_load(key, || loader)
    }

    /// [`get_or_set_async`](View::get_or_set_async) with a closure that makes the future, on a miss
    /// only: a hit prepares nothing that a load needs.
    ///
    /// The closure runs inside the call and may borrow. Read the source in the future and not in
    /// the closure: a value that the closure read may have been removed by another process before
    /// the load began.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// # use larder::{AsyncCacheWrapper, Result};
    /// # let cache = AsyncCacheWrapper::new("memory")?;
    /// # #[derive(Clone)] struct Db;
    /// # impl Db { async fn name(&self, id: u32) -> String { format!("user {id}") } }
    /// async fn name(cache: &AsyncCacheWrapper, db: &Db, id: u32) -> Result<String> {
    ///     let load = || {
    ///         let db = db.clone();
    ///         async move { db.name(id).await }
    ///     };
    ///     cache.get_or_load(format!("user:{id}"), load).await
    /// }
    /// assert_eq!(name(&cache, &Db, 7).await?, "user 7");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get_or_set_async`](View::get_or_set_async).
    pub fn get_or_load<K, T, By, F>(
        self,
        key: K,
        loader: impl FnOnce() -> F,
    ) -> impl Future<Output = Result<T>>
    where
        K: AsRef<str>,
        T: Cacheable + NotAResult<By>,
        F: Future<Output = T> + Send + 'static,
    {
        self.get_or_start(key, || loader().map(|value| Ok(Loaded::new(value))))
    }

    /// [`get_or_load`](View::get_or_load) with a loader that may fail.
    ///
    /// # Errors
    ///
    /// As [`try_get_or_set_async`](View::try_get_or_set_async).
    pub fn try_get_or_load<K, T, E, F>(
        self,
        key: K,
        loader: impl FnOnce() -> F,
    ) -> impl Future<Output = Result<T>>
    where
        K: AsRef<str>,
        T: Cacheable,
        E: Into<Box<dyn StdError + Send + Sync>>,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        self.get_or_start(key, || {
            loader().map(|loaded| loaded.map(Loaded::new).map_err(Into::into))
        })
    }

    /// [`get_or_load`](View::get_or_load) without a task: the call carries the load, so the future
    /// may borrow, and needs neither `Send` nor `'static`.
    ///
    /// There is still one load for all callers that wait. But if the call is dropped, or reaches
    /// its [`hard_timeout`](View::hard_timeout), its load ends as well, and the next caller that
    /// waits begins another one. A value that was already loaded is stored in any case. If the call
    /// is not polled any more, a caller that waits for its load begins a load of its own after at
    /// most 5 s.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// # use larder::{AsyncCacheWrapper, Result};
    /// # let cache = AsyncCacheWrapper::new("memory")?;
    /// # struct Db;
    /// # impl Db { async fn name(&mut self, id: u32) -> String { format!("user {id}") } }
    /// async fn name(cache: &AsyncCacheWrapper, db: &mut Db, id: u32) -> Result<String> {
    ///     cache.get_or_load_here(format!("user:{id}"), || db.name(id)).await
    /// }
    /// assert_eq!(name(&cache, &mut Db, 7).await?, "user 7");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get_or_set_async`](View::get_or_set_async). [`Config`](crate::ErrorKind::Config) with
    /// [`soft_timeout`](View::soft_timeout) or [`refresh_ahead`](View::refresh_ahead), which need a
    /// load that goes on without its caller.
    pub fn get_or_load_here<K, T, By, F>(
        self,
        key: K,
        loader: impl FnOnce() -> F,
    ) -> impl Future<Output = Result<T>>
    where
        K: AsRef<str>,
        T: Cacheable + NotAResult<By>,
        F: Future<Output = T>,
    {
        self.get_or_carry(key, || loader().map(|value| Ok(Loaded::new(value))))
    }

    /// [`get_or_load_here`](View::get_or_load_here) with a loader that may fail.
    ///
    /// # Errors
    ///
    /// As [`get_or_load_here`](View::get_or_load_here) and
    /// [`try_get_or_set_async`](View::try_get_or_set_async).
    pub fn try_get_or_load_here<K, T, E, F>(
        self,
        key: K,
        loader: impl FnOnce() -> F,
    ) -> impl Future<Output = Result<T>>
    where
        K: AsRef<str>,
        T: Cacheable,
        E: Into<Box<dyn StdError + Send + Sync>>,
        F: Future<Output = Result<T, E>>,
    {
        self.get_or_carry(key, || {
            loader().map(|loaded| loaded.map(Loaded::new).map_err(Into::into))
        })
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
        self.get_or_call(key, |key| Ok(loader(key)))
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

    /// The call with a loader that is a closure.
    pub(crate) fn get_or_call<T: Cacheable>(
        self,
        key: impl AsRef<str>,
        loader: impl FnOnce(&str) -> Result<Loaded<T>, Cause>,
    ) -> impl Future<Output = Result<T>> {
        let loader = |key: &str| loader(key).map(Loaded::untyped);
        InlineCall::new(Call::new(self, key), loader)
    }

    /// The call with a loader that is a future: on a miss, it runs in a task of its own. `loader`
    /// makes the future on a miss only, which keeps the future of a call small.
    pub(crate) fn get_or_start<T, F>(
        self,
        key: impl AsRef<str>,
        loader: impl FnOnce() -> F,
    ) -> impl Future<Output = Result<T>>
    where
        T: Cacheable,
        F: Future<Output = Result<Loaded<T>, Cause>> + Send + 'static,
    {
        let make = || -> BoxedLoader { Box::pin(loader().map(|load| load.map(Loaded::untyped))) };
        DetachedCall::new(Call::new(self, key), make)
    }

    /// [`get_or_start`](Self::get_or_start) with a loader whose values have no type any more, and
    /// with a key that may be refused.
    #[cfg(feature = "macros")]
    pub(crate) fn get_or_start_boxed<K, T, L>(
        self,
        key: Result<K>,
        make: L,
    ) -> DetachedCall<'a, K, T, L>
    where
        K: AsRef<str>,
        T: Cacheable,
        L: FnOnce() -> BoxedLoader,
    {
        let call = match key {
            Ok(key) => Call::new(self, key),
            Err(refused) => Call::refused(refused),
        };
        DetachedCall::new(call, make)
    }

    /// The value of a call, if it needs no wait; otherwise the view for the call, which does not
    /// draw again.
    #[cfg(feature = "macros")]
    pub(crate) fn at_hand<T: Cacheable>(mut self, key: &str, runs: Runs) -> ControlFlow<T, Self> {
        // A call that is refused is refused on a hit, too.
        if runs == Runs::InCaller && self.outlives_callers() {
            return ControlFlow::Continue(self);
        }
        match self.cache.hit_now(OP, key, &self.options, &mut self.drawn) {
            AtHand::Hit(value) => ControlFlow::Break(value),
            AtHand::Missing | AtHand::Other => ControlFlow::Continue(self),
        }
    }

    /// The call with a loader that is a future which stays in the call.
    pub(crate) fn get_or_carry<T, F>(
        self,
        key: impl AsRef<str>,
        loader: impl FnOnce() -> F,
    ) -> impl Future<Output = Result<T>>
    where
        T: Cacheable,
        F: Future<Output = Result<Loaded<T>, Cause>>,
    {
        CarriedCall::new(Call::new(self, key), Carrying::Unstarted(loader))
    }

    /// [`get_or_carry`](Self::get_or_carry) of a future that the caller has pinned, with a key that
    /// may be refused.
    #[cfg(feature = "macros")]
    pub(crate) fn get_or_carry_pinned<T, F, K, R>(
        self,
        key: Result<&'a str>,
        load: Pinned<'a, F, K, R>,
    ) -> CarriedCall<'a, &'a str, T, Pinned<'a, F, K, R>> {
        let call = match key {
            Ok(key) => Call::new(self, key),
            Err(refused) => Call::refused(refused),
        };
        CarriedCall::new(call, load)
    }
}

/// A loader's future. The panic of the closure that was to make it goes on in the load, for all
/// callers that wait.
fn made<F: Future>(made: Result<F, Panic>) -> impl Future<Output = F::Output> {
    match made {
        Ok(loader) => Either::Left(loader),
        Err(panic) => Either::Right(lazy(|_| -> F::Output { resume_unwind(panic) })),
    }
}
