//! The cache that people call: typed verbs over an adapter that can be exchanged at any moment.
//!
//! - `mod`, `builder`, `options`, `verbs`, `view`: the public methods; `view` implements the verbs
//! - `read`, `hit`, `ready_or_boxed`: the read path
//! - `call`, `events`: calls of the adapter, and the events that they emit
//! - `get_or_set`, `fencing`: loads, and the right to store their values
//! - `idle`, `renewals`: hits that renew the expiry of their entry
//! - `value_type`: what code that is not generic knows of the type of values
//! - `stale`: stale entries under verbs that do not read the value
//! - `tags`: entries that are removed together
//! - `walk`: the keys as a stream
//! - `slot`, `adapter`, `weak`: what a wrapper holds, and how it is exchanged

// The documentation shows the methods of a cache in the order of these modules, the methods in this
// file last.
mod verbs;

mod options;

mod adapter;
mod attempts;

mod builder;
mod call;
mod events;
mod fencing;
mod get_or_set;
mod hit;
mod idle;
mod keys;
mod loaded;
mod max_batch;
mod not_a_result;
mod read;
mod ready_or_boxed;
mod renewals;
mod slot;
mod stale;
pub(crate) mod tags;
mod value_type;
mod view;
mod walk;
mod weak;

pub use builder::WrapperBuilder;
pub use get_or_set::{BatchArgument, BatchItem, Cacheable, KeyAndArgument};
#[cfg(feature = "macros")]
pub(crate) use get_or_set::{BoxedLoader, Cause, DetachedCall, LoadResult, Pinned, Runs};
pub use keys::{Keys, ManyKeys, OneKey};
pub use loaded::Loaded;
pub use not_a_result::NotAResult;
pub(crate) use slot::{Core, Origin};
pub use tags::Tagged;
#[cfg(feature = "macros")]
pub(crate) use tags::{CallTags, TaggedWrite};
pub use view::View;
pub use walk::KeyStream;
pub use weak::WeakCache;

use crate::config::{IntoAdapter, from_environment};
use crate::error::Result;
use crate::event::Event;
use crate::key::Scope;
use crate::observers::Observation;
use crate::options::Options;
use crate::stats::Stats;
use max_batch::MaxBatch;
use std::sync::Arc;
use tags::TagNames;

/// A cache over an adapter that can be exchanged while it is in use.
///
/// Cheap to clone: clones share the adapter and follow swaps. [`async_cached`](crate::async_cached)
/// is the global one.
///
/// # Swapping
///
/// A call takes one snapshot of the adapter when it is first polled. Calls that began before a swap
/// finish on the old adapter. Calls that begin after the swap has returned use the new adapter. No
/// call fails because of a swap.
///
/// # Cancel safety
///
/// Every future here may be dropped at any point: no lock stays held and no connection is left half
/// read. Whether a dropped write took effect is not known. If a `get_or_set*` or `get_or_load` is
/// dropped, its loader goes on, and the value is stored. The verbs that end in `_here` are the
/// exception: their loader ends with the call.
///
/// # Errors
///
/// All verbs: [`InvalidKey`](crate::ErrorKind::InvalidKey) for an empty key,
/// [`Unavailable`](crate::ErrorKind::Unavailable) and [`Timeout`](crate::ErrorKind::Timeout) when
/// the backend is away or slow, [`Config`](crate::ErrorKind::Config) when the environment names an
/// unknown adapter.
///
/// # Example
///
/// ```
/// use larder::AsyncCacheWrapper;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
/// let cache = AsyncCacheWrapper::new("memory")?;
///
/// // On a miss the future runs, once for all callers, and its value is stored.
/// let user = cache.get_or_set_async("user:7", load_user(7)).await?;
/// assert_eq!(user, "Ada");
/// assert_eq!(cache.get::<String>("user:7").await?.as_deref(), Some("Ada"));
/// # Ok(()) }
///
/// async fn load_user(id: u32) -> String {
///     if id == 7 { "Ada".to_owned() } else { format!("user {id}") }
/// }
/// ```
#[derive(Clone, Debug)]
pub struct AsyncCacheWrapper {
    pub(crate) core: Arc<Core>,
    pub(crate) scope: Scope,
    pub(crate) options: Options,
    pub(crate) max_batch: MaxBatch,
    /// The tags of what is written.
    pub(in crate::wrapper) tags: TagNames,
}

/// # Construction, namespaces, observers
impl AsyncCacheWrapper {
    /// A new cache over an alias, class name, URL, adapter or `Arc<dyn AsyncCacheAdapter>`. Does no
    /// I/O.
    ///
    /// A URL may also give options; options that are set in code win.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// let url = "memory:?stale_for=1h&jitter=0.1&default_ttl=5m";
    /// let rates = larder::AsyncCacheWrapper::new(url)?;
    /// rates.set("eur", 1.08).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) for an unknown name or URL; the message lists the known
    /// ones.
    pub fn new(adapter: impl IntoAdapter) -> Result<Self> {
        Ok(Self::over(Core::new(adapter.into_opened()?)))
    }

    /// A new cache, configured by the environment: the adapter and the options that `LARDER_URL`
    /// names, or that one of the Python names `PRIVEX_ASYNC_CACHE_ADAPTER` and
    /// `PRIVEX_CACHE_ADAPTER` names; memory if none of them is set. Does no I/O.
    ///
    /// ```
    /// let cache = larder::AsyncCacheWrapper::from_env()?;
    /// # Ok::<(), larder::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config), naming the variable, for an unknown adapter or option.
    pub fn from_env() -> Result<Self> {
        Ok(Self::over(Core::new(from_environment()?)))
    }

    /// Builds a cache with options of its own for all its calls, see [`WrapperBuilder`].
    pub fn builder(adapter: impl IntoAdapter) -> WrapperBuilder {
        WrapperBuilder::new(adapter)
    }

    pub(crate) fn over(core: Core) -> Self {
        Self {
            core: Arc::new(core),
            scope: Scope::default(),
            options: Options::default(),
            max_batch: MaxBatch::default(),
            tags: TagNames::default(),
        }
    }

    /// A part of this cache, with keys of its own and a `clear` of its own. It uses the same
    /// adapter, also after a swap.
    ///
    /// Keys of the namespace `users` are this cache's keys that begin with `users:`, so
    /// `namespace("users").get("7")` and `get("users:7")` are the same entry. `:`, `%` and NUL are
    /// escaped in names and not in keys. The keys of `namespace("a:b")` begin with `a%3Ab:`, so no
    /// name or key reaches into the namespace of another name, or to the records of tags.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// let cache = larder::AsyncCacheWrapper::new("memory")?;
    /// let users = cache.namespace("users");
    /// users.set("7", "Ada").await?;
    /// cache.set("usersAbc", 1).await?;
    /// users.clear().await?;
    /// assert!(!cache.contains("users:7").await?);
    /// assert!(cache.contains("usersAbc").await?);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn namespace(&self, name: impl AsRef<str>) -> Self {
        Self { scope: self.scope.nested(name.as_ref()), ..self.clone() }
    }

    /// Calls `observer` with every [`Event`] of this cache, its clones and namespaces, until it is
    /// [stopped](Observation::stop).
    ///
    /// The observer runs inside the calls, in the order of each call's events. A slow observer
    /// makes every call slower, so it should hand slow work to a task. No lock is held while it
    /// runs. A panic in it is contained and changes nothing.
    ///
    /// [`NearLost`](crate::EventKind::NearLost) and [`NearBack`](crate::EventKind::NearBack) belong
    /// to no call: a thread of their own passes them on.
    ///
    /// The observer may use this cache and others. Events of its own calls, and of their loaders,
    /// are counted but passed to no observer, so that observers do not trigger each other. Work
    /// that it hands to a task or thread of its own emits events as usual: a task that uses the
    /// cache for each event of the cache never ends.
    ///
    /// An observer that holds a clone of its cache keeps the cache and its adapter alive for ever.
    /// [`downgrade`](Self::downgrade) returns a handle that does not:
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// let cache = larder::AsyncCacheWrapper::new("memory")?;
    /// let weak = cache.downgrade();
    /// cache.observe(move |event| {
    ///     if let Some(cache) = weak.upgrade() {
    ///         let _counted = cache.blocking().incr(format!("events {:?}", event.kind), 1);
    ///     }
    /// });
    /// cache.get_or("k", 0u8).await?;
    /// assert_eq!(cache.get::<u64>("events Miss").await?, Some(1));
    /// # Ok(()) }
    /// ```
    pub fn observe(&self, observer: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Observation {
        self.core.observe(observer)
    }

    /// A handle on this cache, its namespace and its options. The handle does not keep the cache
    /// alive.
    #[must_use]
    pub fn downgrade(&self) -> WeakCache {
        WeakCache::new(self)
    }

    /// The counters and times of this cache, its clones and namespaces, which are always on, and the
    /// size of the store, as far as its adapter knows.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// let cache = larder::AsyncCacheWrapper::new("memory")?;
    /// cache.set("k", 1u8).await?;
    /// cache.get_many::<u8, _>(["k", "nope"]).await?;
    /// let stats = cache.stats();
    /// assert_eq!((stats.sets, stats.hits, stats.misses), (1, 1, 1));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn stats(&self) -> Stats {
        let stats = self.core.observers().counters.snapshot();
        let of_store = |slot: &slot::Slot| (slot.adapter.size(), slot.adapter.near_stats());
        let (size, near) = self.core.look(of_store).unwrap_or_default();
        Stats { entries: size.entries, bytes: size.bytes, near, ..stats }
    }

    /// Sets the gauges `larder_entries` and `larder_bytes` of the facade `metrics` to the present
    /// size of the store, and those of its near level, with `cache` as a label, as
    /// [`observe::metrics`](crate::observe::metrics) has it. Does nothing where the adapter does
    /// not know the size. A change of the size is no event for an observer, so a program
    /// calls this method where it answers a scrape, or from time to time.
    ///
    /// ```
    /// # fn main() -> larder::Result<()> {
    /// let cache = larder::AsyncCacheWrapper::new("memory")?;
    /// cache.observe(larder::observe::metrics("users"));
    /// cache.record_size("users"); // before each scrape
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "metrics")]
    pub fn record_size(&self, cache: impl Into<Arc<str>>) {
        let cache = cache.into();
        self.core.look(|slot| {
            crate::observe::record_size(cache, slot.adapter.backend(), &self.stats());
        });
    }

    /// Sets whether spans and events of `tracing` show the first 128 bytes of each key, for this
    /// cache, its clones and namespaces. Off by default.
    #[cfg(feature = "tracing")]
    pub fn trace_keys(&self, show: bool) {
        self.core.observers().shows_keys.store(show, std::sync::atomic::Ordering::Relaxed);
    }
}
