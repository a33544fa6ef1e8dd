//! Tests against real servers and real files, one module a subject.

mod arrows;
#[cfg(all(feature = "memory", feature = "testing"))]
mod bridge;
#[cfg(all(feature = "memory", feature = "testing"))]
mod codec;
mod dependencies;
#[cfg(feature = "memory")]
mod docs;
#[cfg(all(feature = "memory", feature = "redis", feature = "memcached", feature = "testing"))]
mod fuzz;
#[cfg(all(feature = "memory", feature = "testing"))]
mod layers;
#[cfg(all(feature = "memory", feature = "testing"))]
mod memory;
#[cfg(all(feature = "memory", feature = "memcached", feature = "sqlite"))]
mod near;
#[cfg(all(feature = "memory", feature = "metrics", feature = "tracing", feature = "testing"))]
mod observe;
mod off;
#[cfg(all(feature = "redis", feature = "memcached"))]
mod remote;
#[cfg(all(feature = "memory", feature = "testing"))]
mod resilient;
#[cfg(all(
    feature = "memory",
    feature = "redis",
    feature = "memcached",
    feature = "sqlite",
    feature = "testing",
    target_os = "linux"
))]
mod soak;
mod support;
#[cfg(all(feature = "memory", feature = "testing"))]
mod trials;
#[cfg(all(feature = "memory", feature = "testing"))]
mod wrapper;

#[cfg(feature = "memcached")]
mod memcached;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "sqlite")]
mod sqlite;

#[cfg(all(feature = "redis", feature = "memcached", feature = "sqlite"))]
mod interop;
#[cfg(all(feature = "memory", feature = "redis", feature = "memcached", feature = "sqlite"))]
mod swap;

#[cfg(all(feature = "redis", feature = "memcached", feature = "sqlite"))]
mod claims;
#[cfg(all(
    feature = "memory",
    feature = "testing",
    feature = "redis",
    feature = "memcached",
    feature = "sqlite"
))]
mod everywhere;
#[cfg(all(
    feature = "macros",
    feature = "memory",
    feature = "testing",
    feature = "redis",
    feature = "memcached",
    feature = "sqlite"
))]
mod macros;
#[cfg(all(
    feature = "memory",
    feature = "testing",
    feature = "redis",
    feature = "memcached",
    feature = "sqlite"
))]
mod tags;
#[cfg(all(
    feature = "memory",
    feature = "testing",
    feature = "redis",
    feature = "memcached",
    feature = "sqlite"
))]
mod tiers;
