//! The memory adapter: its bounds, its clock, what must be one step, and the conformance suite.

#![allow(clippy::unwrap_used, reason = "tests")]

mod atomic;
mod bounds;
#[cfg(feature = "test-util")]
mod clock;
mod two_wrappers;
mod user_code;
mod weights;

use larder::testing::{Suite, conformance};
use larder::{
    AsyncCacheAdapter, AsyncCacheWrapper, AsyncMemoryCache, CacheValue, Codec, Expiry, Result,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

conformance!(plain, AsyncMemoryCache::new());
conformance!(encoded, AsyncMemoryCache::builder().encoded().build());
conformance!(
    json,
    AsyncMemoryCache::builder().codec(Codec::Json).build(),
    Suite::new().codec(Codec::Json)
);
conformance!(
    raw,
    AsyncMemoryCache::builder().codec(Codec::Raw).build(),
    Suite::new().codec(Codec::Raw)
);
conformance!(
    prefix,
    AsyncMemoryCache::builder()
        .prefix("app*:")
        .default_ttl(std::time::Duration::from_secs(77))
        .build(),
    Suite::new().default_ttl(std::time::Duration::from_secs(77))
);

async fn put<T: Serialize + Send + Sync + 'static>(
    cache: &AsyncMemoryCache,
    key: &str,
    value: T,
    expiry: impl Into<Expiry>,
) -> Result<()> {
    cache.set(key, CacheValue::new(value), expiry.into()).await
}

async fn read<T: DeserializeOwned + Clone + 'static>(
    cache: &AsyncMemoryCache,
    key: &str,
) -> Option<T> {
    cache.get(key).await.unwrap().map(|value| value.decode().unwrap())
}

/// A cache of twenty entries.
fn small() -> AsyncCacheWrapper {
    AsyncCacheWrapper::new(AsyncMemoryCache::builder().max_entries(20).build()).unwrap()
}
