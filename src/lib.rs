//! larder

mod adapter;
mod adapters;
mod blocking;
mod bridge;
mod codec;
mod config;
mod error;
mod event;
mod expiry;
mod flight;
mod global;
mod key;
mod layers;
mod options;
mod runtime;
mod secret;
#[cfg(feature = "testing")]
pub mod testing;
mod url;
mod value;
mod wrapper;

pub use adapter::{AsyncCacheAdapter, Entry};
#[cfg(feature = "memcached")]
pub use adapters::memcached::{AsyncMemcachedCache, MemcachedBuilder};
#[cfg(feature = "memory")]
pub use adapters::memory::{AsyncMemoryCache, MemoryBuilder};
#[cfg(feature = "redis")]
pub use adapters::redis::{AsyncRedisCache, RedisBuilder};
#[cfg(feature = "sqlite")]
pub use adapters::sqlite::{AsyncSqliteCache, SqliteBuilder};
pub use blocking::{Awaitable, BlockingView, CacheWrapper, awaitable};
pub use bridge::{Blocking, CacheAdapter};
pub use codec::Codec;
pub use config::IntoAdapter;
pub use error::{Error, ErrorKind, Result};
pub use event::{Event, EventKind};
pub use expiry::{DEFAULT_TTL, Expiry, Lifetime};
pub use global::{
    adapter_get, adapter_set, async_adapter_get, async_adapter_set, async_cached, cached, get, get_or_set, remove, set, update_timeout,
};
pub use value::CacheValue;
pub use wrapper::{AsyncCacheWrapper, Cacheable, Keys, View};
