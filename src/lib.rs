//! larder

mod adapter;
mod adapters;
mod codec;
mod error;
mod expiry;
mod key;
mod layers;
mod runtime;
mod secret;
#[cfg(feature = "testing")]
pub mod testing;
mod url;
mod value;

pub use adapter::{AsyncCacheAdapter, Entry};
#[cfg(feature = "memcached")]
pub use adapters::memcached::{AsyncMemcachedCache, MemcachedBuilder};
#[cfg(feature = "memory")]
pub use adapters::memory::{AsyncMemoryCache, MemoryBuilder};
#[cfg(feature = "redis")]
pub use adapters::redis::{AsyncRedisCache, RedisBuilder};
#[cfg(feature = "sqlite")]
pub use adapters::sqlite::{AsyncSqliteCache, SqliteBuilder};
pub use codec::Codec;
pub use error::{Error, ErrorKind, Result};
pub use expiry::{DEFAULT_TTL, Expiry, Lifetime};
pub use value::CacheValue;
