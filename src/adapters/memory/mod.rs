//! Values kept in this process.

mod builder;
mod claims;
mod clock;
mod engine;
mod store;
mod sweeper;

pub use builder::MemoryBuilder;

use super::Settings;
use crate::adapter::{AsyncCacheAdapter, Claim, Entry, Presence};
use crate::error::{Error, ErrorKind, Result};
use crate::expiry::{Expiry, Lifetime};
use crate::key;
use crate::observers::EventSink;
use crate::value::CacheValue;
use async_trait::async_trait;
use builder::Weigher;
use claims::Release;
use std::fmt;
use std::sync::{Arc, LazyLock};
use std::task::Poll;
use std::time::Duration;
use store::{Bounds, Store, Stored};
use sweeper::Sweeper;

const KIND: &str = "memory";

static SHARED: LazyLock<Arc<Shared>> =
    LazyLock::new(|| Arc::new(Shared::new(MemoryBuilder::default().bounds())));

/// A bounded cache in this process's memory.
///
/// It keeps the objects themselves: a `get` of the type that was `set` is a downcast and a clone,
/// so an `Arc<T>` costs a reference count, and any other type goes through the codec as on every
/// backend. Entries beyond the bounds are evicted, the least worth keeping first (S3-FIFO); expired
/// ones that nobody reads are given back by a background sweep. An expiry is never early, and late
/// by a tick of the monotonic clock at most, 10 ms.
///
/// No code of a value's type runs under a lock: `Clone`, `Drop` and `Serialize` may take their time
/// and may use the cache. A `Drop` that panics is contained.
///
/// Loads are guarded in the store: a loaded value is not stored over a write, a removal or a
/// `clear` that another wrapper, or a holder of the adapter, made in between.
///
/// A value has to be encodable although it is kept as an object: that is checked, and its size
/// measured, when it is set.
///
/// Clones share the store; two adapters share nothing, unless both are
/// [`shared`](AsyncMemoryCache::shared).
///
/// ```
/// use larder::{AsyncCacheWrapper, AsyncMemoryCache};
///
/// let small = AsyncMemoryCache::builder().max_entries(10_000).build();
/// let cache = AsyncCacheWrapper::new(small)?;
/// # Ok::<(), larder::Error>(())
/// ```
#[derive(Clone)]
pub struct AsyncMemoryCache {
    shared: Arc<Shared>,
    settings: Settings,
    weigher: Option<Weigher>,
    encoded: bool,
    bounds: Bounds,
}

struct Shared {
    store: Arc<Store>,
    sweeper: Sweeper,
}

impl Shared {
    fn new(bounds: Bounds) -> Self {
        Self { store: Arc::new(Store::new(bounds)), sweeper: Sweeper::default() }
    }
}

impl AsyncMemoryCache {
    /// A cache with the default bounds: 100,000 entries and 128 MiB.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// The process-wide store, the same for everybody who asks: what Python's memory cache is.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// use larder::{AsyncCacheWrapper, AsyncMemoryCache};
    ///
    /// let one = AsyncCacheWrapper::new(AsyncMemoryCache::shared())?;
    /// let other = AsyncCacheWrapper::new(AsyncMemoryCache::shared())?;
    /// one.set("k", 1u8).await?;
    /// assert_eq!(other.get::<u8>("k").await?, Some(1));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn shared() -> Self {
        Self::builder().shared().build()
    }

    /// Bounds, expiry and the rest, before it is built.
    pub fn builder() -> MemoryBuilder {
        MemoryBuilder::default()
    }

    /// From `memory:` with any of `max_entries`, `max_bytes`, `max_value_bytes`, `encoded`,
    /// `shared`, `prefix`, `default_ttl` and `codec`.
    ///
    /// ```
    /// larder::AsyncMemoryCache::from_url("memory:?max_entries=10000&default_ttl=60")?;
    /// # Ok::<(), larder::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Config`](ErrorKind::Config) for anything else.
    pub fn from_url(url: &str) -> Result<Self> {
        Ok(MemoryBuilder::from_url(url)?.build())
    }

    /// How many entries there are, expired ones that have not been swept included.
    #[must_use]
    pub fn entry_count(&self) -> usize {
        self.shared.store.len()
    }

    fn build(builder: MemoryBuilder) -> Self {
        let bounds = builder.bounds();
        let shared =
            if builder.is_shared() { SHARED.clone() } else { Arc::new(Shared::new(bounds)) };
        let (settings, weigher, encoded) = builder.into_parts();
        Self { shared, settings, weigher, encoded, bounds }
    }

    /// The value as it is kept, and how many bytes it counts for. Fails for what cannot be encoded,
    /// as it would on any backend.
    fn prepare(&self, key: &str, value: CacheValue) -> Result<(CacheValue, usize)> {
        let value = if self.encoded { value.into_encoded(self.settings.codec)? } else { value };
        let bytes = value.footprint()?;
        let weigh = |weigher: &Weigher| weigher.weigh(key, &value);
        let bytes = self.weigher.as_ref().map_or(bytes, weigh);
        Ok((value, bytes))
    }

    fn lifetime(&self, expiry: Expiry) -> Lifetime {
        let lifetime = self.settings.resolve(expiry);
        if lifetime != Lifetime::Never {
            self.shared.sweeper.start(&self.shared.store);
        }
        lifetime
    }

    fn store(&self) -> &Store {
        &self.shared.store
    }
}

impl Default for AsyncMemoryCache {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for AsyncMemoryCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncMemoryCache")
            .field("entries", &self.entry_count())
            .field("bounds", &self.bounds)
            .finish_non_exhaustive()
    }
}

fn too_large(key: &str) -> Error {
    Error::new(ErrorKind::TooLarge).with_backend(KIND).with_key(key)
}

fn fits(key: &str) -> impl Fn(Stored) -> Result<()> {
    move |stored| match stored {
        Stored::Yes => Ok(()),
        Stored::TooLarge => Err(too_large(key)),
    }
}

#[async_trait]
impl AsyncCacheAdapter for AsyncMemoryCache {
    async fn get(&self, key: &str) -> Result<Option<CacheValue>> {
        let key = self.settings.scope.key(key)?;
        Ok(self.store().get(&key))
    }

    async fn set(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<()> {
        let scoped = self.settings.scope.key(key)?;
        let (value, bytes) = self.prepare(&scoped, value)?;
        fits(key)(self.store().set(&scoped, value, bytes, self.lifetime(expiry)))
    }

    async fn remove(&self, key: &str) -> Result<bool> {
        let key = self.settings.scope.key(key)?;
        Ok(self.store().take(&key).is_some_and(|value| !value.is_stale()))
    }

    async fn update_timeout(&self, key: &str, expiry: Expiry) -> Result<Option<CacheValue>> {
        let key = self.settings.scope.key(key)?;
        Ok(self.store().touch(&key, self.lifetime(expiry)))
    }

    async fn clear(&self, prefix: &str) -> Result<()> {
        self.store().clear(&format!("{}{prefix}", self.settings.scope.prefix()));
        Ok(())
    }

    async fn add(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<bool> {
        self.set_if(false, key, value, expiry)
    }

    async fn replace(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<bool> {
        self.set_if(true, key, value, expiry)
    }

    async fn incr(&self, key: &str, by: i64, expiry: Expiry) -> Result<i64> {
        let scoped = self.settings.scope.key(key)?;
        let sum = self.store().change(&scoped, self.lifetime(expiry), |found| {
            let old = found.map_or(Ok(0), CacheValue::as_counter)?;
            let new = old.checked_add(by).ok_or_else(|| Error::new(ErrorKind::Overflow))?;
            let (value, bytes) = self.prepare(&scoped, CacheValue::new(new))?;
            Ok((value, bytes, new))
        })?;
        sum.ok_or_else(|| too_large(key))
    }

    async fn take(&self, key: &str) -> Result<Option<CacheValue>> {
        let key = self.settings.scope.key(key)?;
        Ok(self.store().take(&key))
    }

    async fn expiry(&self, key: &str) -> Result<Option<Expiry>> {
        let key = self.settings.scope.key(key)?;
        Ok(self.store().left(&key).map(Expiry::from))
    }

    async fn contains(&self, key: &str) -> Result<bool> {
        let key = self.settings.scope.key(key)?;
        Ok(self.store().contains(&key))
    }

    async fn presence(&self, key: &str) -> Result<Presence> {
        let key = self.settings.scope.key(key)?;
        Ok(self.store().presence(&key))
    }

    /// All values are encoded before any is stored.
    async fn set_many(&self, entries: &[Entry<'_>]) -> Result<Vec<Result<()>>> {
        key::check_all(entries.iter().map(|entry| entry.key))?;
        let prepare = |entry: &Entry<'_>| {
            self.prepare(&self.settings.scope.key(entry.key)?, entry.value.clone())
        };
        let prepared: Vec<_> = entries.iter().map(prepare).collect();
        let store = |(entry, prepared): (&Entry<'_>, Result<(CacheValue, usize)>)| {
            let (value, bytes) = prepared?;
            let scoped = self.settings.scope.key(entry.key)?;
            fits(entry.key)(self.store().set(&scoped, value, bytes, self.lifetime(entry.expiry)))
        };
        Ok(entries.iter().zip(prepared).map(store).collect())
    }

    fn enforces_claims(&self) -> bool {
        true
    }

    fn is_shared(&self) -> bool {
        false
    }

    async fn claim(&self, key: &str, lease: Option<Duration>) -> Result<Option<Claim>> {
        let key = self.settings.scope.key(key)?;
        Ok(self.shared.store.claim(&key, lease))
    }

    async fn set_claimed(
        &self,
        key: &str,
        value: CacheValue,
        expiry: Expiry,
        claim: &Claim,
    ) -> Result<bool> {
        let scoped = self.settings.scope.key(key)?;
        let (value, bytes) = self.prepare(&scoped, value)?;
        let lifetime = self.lifetime(expiry);
        match self.store().set_claimed(&scoped, value, bytes, lifetime, claim) {
            Some(stored) => fits(key)(stored).map(|()| true),
            None => Ok(false),
        }
    }

    async fn release(&self, key: &str, claim: &Claim) -> Result<()> {
        let key = self.settings.scope.key(key)?;
        self.store().release(&key, claims::number(claim));
        Ok(())
    }

    fn get_if_ready(&self, key: &str, look: &mut dyn FnMut(&CacheValue)) -> Poll<Result<()>> {
        let key = self.settings.scope.key(key)?;
        self.store().look(&key, look);
        Poll::Ready(Ok(()))
    }

    fn subscribe(&self, sink: EventSink) {
        self.store().sinks.add(sink);
    }

    /// A new, empty store with the same bounds; a shared one stays the shared one.
    fn rebuild(&self) -> Result<Arc<dyn AsyncCacheAdapter>> {
        let shared = if Arc::ptr_eq(&self.shared, &SHARED) {
            self.shared.clone()
        } else {
            Arc::new(Shared::new(self.bounds))
        };
        Ok(Arc::new(Self { shared, ..self.clone() }))
    }

    fn default_ttl(&self) -> Lifetime {
        self.settings.default_ttl
    }

    fn backend(&self) -> &str {
        KIND
    }
}

impl AsyncMemoryCache {
    fn set_if(&self, live: bool, key: &str, value: CacheValue, expiry: Expiry) -> Result<bool> {
        let scoped = self.settings.scope.key(key)?;
        let (value, bytes) = self.prepare(&scoped, value)?;
        match self.store().set_if(live, &scoped, value, bytes, self.lifetime(expiry)) {
            Some(stored) => fits(key)(stored).map(|()| true),
            None => Ok(false),
        }
    }
}
