//! A cache for async programs, in memory, redis, memcached or sqlite. The backend can be exchanged
//! while the cache is in use.
//!
//! ```
//! use larder::{Expiry, async_adapter_set, async_cached};
//! use std::time::Duration;
//!
//! #[tokio::main]
//! async fn main() -> larder::Result<()> {
//!     // There is nothing to set up: the global cache begins as a bounded cache in memory.
//!     async_cached().set("hello", "world").await?;
//!     let hello: Option<String> = async_cached().get("hello").await?;
//!     assert_eq!(hello.as_deref(), Some("world"));
//!
//!     // On a miss the future runs, once for all callers, and its value is stored.
//!     let minute = async_cached().ttl(Duration::from_secs(60));
//!     let user = minute.get_or_set_async("user:7", load_user(7)).await?;
//!     assert_eq!(user, "Ada");
//!
//!     async_cached().ttl(Expiry::Never).set("motto", "keep what is good").await?;
//!     assert_eq!(async_cached().incr("visits", 1).await?, 1);
//!
//!     // Another adapter, by name, URL or value. Calls in flight finish on the old one.
//!     async_adapter_set("memory:?max_entries=1000")?;
//!     assert_eq!(async_cached().get::<String>("hello").await?, None);
//!     Ok(())
//! }
//!
//! async fn load_user(id: u32) -> String {
//!     if id == 7 { "Ada".to_owned() } else { format!("user {id}") }
//! }
//! ```
//!
//! # Where things are
//!
//! | to | see |
//! |---|---|
//! | use the global cache | [`async_cached`], [`async_adapter_set`], [`async_adapter_get`] |
//! | have a separate cache | [`AsyncCacheWrapper`], its [`namespace`](AsyncCacheWrapper::namespace)s and its verbs |
//! | set when entries expire | [`ttl`](AsyncCacheWrapper::ttl), [`View`], [`Expiry`] |
//! | serve stale values when a loader fails, or refresh values before they expire | [`stale_for`](View::stale_for), [`refresh_ahead`](View::refresh_ahead) and the other options of [`View`]; [`Loaded`], [`WrapperBuilder`] |
//! | call a cache without `.await` | [`cached`](fn@cached), [`CacheWrapper`], and plain functions: [`get`], [`set`], [`get_or_set`], [`remove`], [`update_timeout`] |
//! | write one function for async and blocking callers | [`awaitable`], [`Awaitable`] |
//! | choose where values are kept | the adapters below, and [`IntoAdapter`] for names and URLs |
//! | choose how values become bytes | [`Codec`] |
//! | write your own adapter | [`AsyncCacheAdapter`]; [`CacheAdapter`] and [`Blocking`](struct@Blocking) for a store that blocks; [`CacheValue`], [`Entry`], [`Lifetime`], [`Claim`] |
//! | survive outages of a backend: retries, circuit breaker, write recovery | [`layers::Resilient`], which redis and memcached have if they are named by URL |
//! | send the calls of your own store in batches | [`layers::Batching`] |
//! | see what happens | [`Error`], [`ErrorKind`]; [`Event`] for facts that the result of a call does not show; [`Stats`] for counters and times |
//!
//! # What holds everywhere
//!
//! - Values are anything serde can write. A value that was set as one type can be read as another
//!   type, if serde can convert it.
//! - A miss is not an error. An entry is missing for every verb as soon as it has expired. By
//!   default it lives 300 s.
//! - Keys are any text except the empty one. `*`, `?` and `%` have no special meaning.
//! - [`get_or_set_async`](AsyncCacheWrapper::get_or_set_async) and similar methods run one loader
//!   per key, in a task of its own (single flight, request coalescing): a caller may be dropped,
//!   and the load goes on. When the backend is down they run the loader and return its value
//!   (fail-open).
//! - `add`, `replace`, `incr` and `take` are each one atomic step on every backend.
//! - Constructors do no I/O and need no runtime. Every wait on a backend has a deadline.
//! - No value, password or whole URL is part of an error.
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `memory` (default) | `AsyncMemoryCache`: in this process, bounded |
//! | `redis` | `AsyncRedisCache`: redis 6.2 or later, Valkey |
//! | `tls` | `rediss://` and `valkeys://`, by rustls; with `redis` |
//! | `memcached` | `AsyncMemcachedCache`: memcached 1.6 or later |
//! | `sqlite` | `AsyncSqliteCache`: a file; SQLite itself is compiled in |
//! | `tracing` | [`observe::tracing`](fn@observe::tracing), and spans around calls that wait and around loaders |
//! | `metrics` | [`observe::metrics`](fn@observe::metrics): counters and histograms for the `metrics` facade |
//! | `macros` | the attributes `cached`, `evicts` and `puts` for functions, see [`docs::macros`] |
//! | `testing` | `larder::testing`: the conformance suites for adapters |
//! | `test-util` | larder's clocks are tokio's, so that a test can pause them; for `dev-dependencies` |
//! | `full` | all adapters and `tls` |
//!
//! If a name or URL selects an adapter whose feature is off, the error says which feature to turn
//! on.
//!
//! # Further reading
//!
//! The guides in [`docs`], a page for each capability. In the repository:
//! [ARCHITECTURE.md](https://github.com/larder-rs/larder/blob/main/ARCHITECTURE.md), and the
//! [examples](https://github.com/larder-rs/larder/tree/main/examples), which begin with
//! `quickstart.rs`.

#![cfg_attr(docsrs, feature(doc_cfg))]
// With no adapter feature enabled, shared adapter code is unused.
#![cfg_attr(
    not(any(feature = "memory", feature = "redis", feature = "memcached", feature = "sqlite")),
    allow(dead_code, unused_imports)
)]

// First, so that the documentation of a cache begins with its verbs and not with `blocking`.
mod wrapper;

#[cfg(feature = "macros")]
#[doc(hidden)]
pub mod __private;
mod adapter;
mod adapters;
mod batching;
mod blocking;
mod bridge;
mod clock;
mod codec;
mod config;
#[cfg(any(feature = "memcached", feature = "redis"))]
mod decimal;
// Shown in the documentation, and compiled as doctests.
#[cfg(any(all(doc, not(doctest)), all(doctest, feature = "memory")))]
pub mod docs;
mod error;
mod event;
mod expiry;
mod global;
mod key;
pub mod layers;
mod meta;
#[cfg(any(feature = "metrics", feature = "tracing"))]
pub mod observe;
#[cfg(not(any(feature = "metrics", feature = "tracing")))]
mod observe;
mod observers;
mod options;
mod panics;
mod runtime;
#[cfg(feature = "redis")]
mod secret;
mod single_flight;
mod stats;
mod sync;
#[cfg(feature = "testing")]
pub mod testing;
mod type_probe;
mod url;
mod value;

/// The attribute for an `impl AsyncCacheAdapter`.
pub use async_trait::async_trait;

pub use adapter::{
    AskedAt, AsyncCacheAdapter, Claim, ClaimedEntry, Entry, Follower, FoundOrClaimed, KeyCursor,
    KeyPage, NearEntry, Presence, Source, SourceId, StoreSize,
};
#[cfg(feature = "memcached")]
pub use adapters::memcached::{AsyncMemcachedCache, MemcachedBuilder};
#[cfg(feature = "memory")]
pub use adapters::memory::{AsyncMemoryCache, MemoryBuilder};
pub use adapters::off::AsyncNullCache;
#[cfg(feature = "redis")]
pub use adapters::redis::{AsyncRedisCache, RedisBuilder};
#[cfg(feature = "sqlite")]
pub use adapters::sqlite::{AsyncSqliteCache, SqliteBuilder};
pub use blocking::{Awaitable, BlockingView, CacheWrapper, KeyIter, awaitable};
pub use bridge::{Blocking, CacheAdapter};
pub use codec::Codec;
pub use config::{CacheConfig, IntoAdapter};
pub use error::{Error, ErrorKind, Result};
pub use event::{Event, EventKind};
#[cfg(feature = "macros")]
pub use larder_macros::{cached, evicts, puts};

pub use expiry::{DEFAULT_TTL, Expiry, Lifetime};
pub use global::{
    adapter_get, adapter_set, async_adapter_get, async_adapter_set, async_cached, cached, get,
    get_or_set, remove, set, update_timeout,
};
pub use observers::{EventSink, EventSinks, Observation};
pub use stats::{NearStats, Stats, Times};
pub use value::CacheValue;
pub use wrapper::{
    AsyncCacheWrapper, BatchArgument, BatchItem, Cacheable, KeyAndArgument, KeyStream, Keys,
    Loaded, ManyKeys, NotAResult, OneKey, Tagged, View, WeakCache, WrapperBuilder,
};
