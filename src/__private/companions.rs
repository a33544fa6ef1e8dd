//! The futures of what stands beside an async function under `#[cached]`.
//!
//! They own what they need: their types depend on those of the value and the error, and not on the
//! function. So a program compiles them once for all functions with these types, and what is
//! generated for each function is a call. The cache is asked when they are polled.

use super::errors::LoadFailure;
use super::key::KeyBuf;
use super::loads::{detached, try_detached};
use crate::error::{Error, Result};
use crate::wrapper::{AsyncCacheWrapper, Cacheable, NotAResult, View};
use futures_util::future::BoxFuture;

/// Removes the entry under the key; whether there was one.
#[must_use]
pub fn invalidate(cache: &AsyncCacheWrapper, key: KeyBuf) -> BoxFuture<'static, Result<bool>> {
    let cache = cache.clone();
    Box::pin(async move { cache.remove(key.into_key()).await })
}

/// The entry under the key.
#[must_use]
pub fn peek<T: Cacheable>(view: View<'_>, key: &KeyBuf) -> BoxFuture<'static, Result<Option<T>>> {
    let (cache, key) = (view.into_cache(), key.owned());
    Box::pin(async move { cache.get(key?).await })
}

/// Stores a value.
#[must_use]
pub fn store<T: Cacheable>(
    view: View<'_>,
    key: &KeyBuf,
    value: T,
) -> BoxFuture<'static, Result<()>> {
    let (cache, key) = (view.into_cache(), key.owned());
    Box::pin(async move { cache.set(key?, value).await })
}

/// A call of a function that may fail, which runs it in any case.
#[must_use]
pub fn try_refresh<T, E>(
    view: View<'_>,
    key: KeyBuf,
    load: BoxFuture<'static, Result<T, E>>,
    keep: impl FnOnce(&T) -> bool + Send + 'static,
    error: impl FnOnce(Error) -> E + Send + 'static,
) -> BoxFuture<'static, Result<T, E>>
where
    T: Cacheable,
    E: LoadFailure + 'static,
{
    let cache = view.force_refresh().into_cache();
    Box::pin(async move {
        try_detached(cache.view(), &key, |load| load, load, keep).await.map_err(error)
    })
}

/// [`try_refresh`] for a function that cannot fail.
#[must_use]
pub fn refresh<T, By>(
    view: View<'_>,
    key: KeyBuf,
    load: BoxFuture<'static, T>,
    keep: impl FnOnce(&T) -> bool + Send + 'static,
) -> BoxFuture<'static, T>
where
    T: Cacheable + NotAResult<By>,
{
    let cache = view.force_refresh().into_cache();
    Box::pin(async move { detached(cache.view(), &key, |load| load, load, keep).await })
}
