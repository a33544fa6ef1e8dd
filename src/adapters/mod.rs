//! The adapters. No adapter uses another.

#[cfg(any(feature = "redis", feature = "memcached"))]
pub(crate) mod given_up;
pub(crate) mod off;
mod settings;

#[cfg(any(feature = "memory", feature = "sqlite"))]
pub(crate) use settings::read_table;
#[cfg(any(feature = "redis", feature = "memcached"))]
pub(crate) use settings::{Remote, read_remote_table, read_remote_url};
pub(crate) use settings::{Settings, read_url, refuse_options};

#[cfg(feature = "memcached")]
pub(crate) mod memcached;
#[cfg(feature = "memory")]
pub(crate) mod memory;
#[cfg(feature = "redis")]
pub(crate) mod redis;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;
