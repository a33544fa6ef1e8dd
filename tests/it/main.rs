//! Tests against real servers and real files, one module a subject.

#[cfg(feature = "memory")]
mod docs;
mod support;

#[cfg(feature = "memcached")]
mod memcached;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "sqlite")]
mod sqlite;
