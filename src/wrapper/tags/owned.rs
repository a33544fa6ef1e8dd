//! The verbs of a cache with tags that write one key. Their futures own the cache, so that
//! `cache.tags([…]).set(…)` is a future like that of a view: it can be kept, joined with others, or
//! returned.

use super::Tagged;
use crate::error::Result;
use crate::wrapper::{AsyncCacheWrapper, Cacheable, Loaded, NotAResult};
use serde::Serialize;
use std::error::Error as StdError;
use std::future::Future;

macro_rules! owned {
    ($($verb:ident<$($generic:ident),*>($($argument:ident: $type:ty),*) -> $answer:ty
        where { $($bounds:tt)* })*) => {$(
        #[doc = concat!("See [`AsyncCacheWrapper::", stringify!($verb), "`].")]
        pub fn $verb<$($generic),*>(
            &self,
            $($argument: $type),*
        ) -> impl Future<Output = Result<$answer>> + use<$($generic),*>
        where
            $($bounds)*
        {
            let cache = AsyncCacheWrapper::clone(self);
            async move { cache.$verb($($argument),*).await }
        }
    )*};
}

/// # Writing one key
impl Tagged<AsyncCacheWrapper> {
    owned! {
        set<K, T>(key: K, value: T) -> () where {
            K: AsRef<str>, T: Serialize + Send + Sync + 'static,
        }
        add<K, T>(key: K, value: T) -> bool where {
            K: AsRef<str>, T: Serialize + Send + Sync + 'static,
        }
        replace<K, T>(key: K, value: T) -> bool where {
            K: AsRef<str>, T: Serialize + Send + Sync + 'static,
        }
        get_or_set<K, T, By>(key: K, value: T) -> T where {
            K: AsRef<str>, T: Cacheable + NotAResult<By>,
        }
        get_or_set_with<K, T, By, L>(key: K, loader: L) -> T where {
            K: AsRef<str>, T: Cacheable + NotAResult<By>, L: FnOnce(&str) -> T,
        }
        try_get_or_set_with<K, T, E, L>(key: K, loader: L) -> T where {
            K: AsRef<str>,
            T: Cacheable,
            E: Into<Box<dyn StdError + Send + Sync>>,
            L: FnOnce(&str) -> Result<T, E>,
        }
        get_or_set_async<K, T, By, F>(key: K, loader: F) -> T where {
            K: AsRef<str>, T: Cacheable + NotAResult<By>, F: Future<Output = T> + Send + 'static,
        }
        try_get_or_set_async<K, T, E, F>(key: K, loader: F) -> T where {
            K: AsRef<str>,
            T: Cacheable,
            E: Into<Box<dyn StdError + Send + Sync>>,
            F: Future<Output = Result<T, E>> + Send + 'static,
        }
        get_or_load<K, T, By, L, F>(key: K, loader: L) -> T where {
            K: AsRef<str>,
            T: Cacheable + NotAResult<By>,
            L: FnOnce() -> F,
            F: Future<Output = T> + Send + 'static,
        }
        try_get_or_load<K, T, E, L, F>(key: K, loader: L) -> T where {
            K: AsRef<str>,
            T: Cacheable,
            E: Into<Box<dyn StdError + Send + Sync>>,
            L: FnOnce() -> F,
            F: Future<Output = Result<T, E>> + Send + 'static,
        }
        get_or_load_here<K, T, By, L, F>(key: K, loader: L) -> T where {
            K: AsRef<str>,
            T: Cacheable + NotAResult<By>,
            L: FnOnce() -> F,
            F: Future<Output = T>,
        }
        try_get_or_load_here<K, T, E, L, F>(key: K, loader: L) -> T where {
            K: AsRef<str>,
            T: Cacheable,
            E: Into<Box<dyn StdError + Send + Sync>>,
            L: FnOnce() -> F,
            F: Future<Output = Result<T, E>>,
        }
        get_or_set_loaded_with<K, T, L>(key: K, loader: L) -> T where {
            K: AsRef<str>, T: Cacheable, L: FnOnce(&str) -> Loaded<T>,
        }
        get_or_set_loaded_async<K, T, F>(key: K, loader: F) -> T where {
            K: AsRef<str>, T: Cacheable, F: Future<Output = Loaded<T>> + Send + 'static,
        }
        try_get_or_set_loaded_async<K, T, E, F>(key: K, loader: F) -> T where {
            K: AsRef<str>,
            T: Cacheable,
            E: Into<Box<dyn StdError + Send + Sync>>,
            F: Future<Output = Result<Loaded<T>, E>> + Send + 'static,
        }
    }
}
