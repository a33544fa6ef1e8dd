//! The memory adapter: `builder` reads the configuration, `store` has expiry and atomic steps,
//! `engine` the bounded map, `claims` the fencing of loads, `sweeper` the background sweep, `clock`
//! the time.

mod builder;
mod claims;
mod clock;
mod earliest_end;
mod engine;
pub(crate) mod near;
mod store;
mod sweeper;

pub use builder::MemoryBuilder;

use super::Settings;
use crate::adapter::{
    AsyncCacheAdapter, Claim, Entry, KeyCursor, KeyPage, NearEntry, Presence, StoreSize,
};
use crate::error::{Error, ErrorKind, Result};
use crate::expiry::{Expiry, Lifetime};
use crate::key;
use crate::observers::EventSink;
use crate::value::CacheValue;
use async_trait::async_trait;
use builder::Weigher;
use near::NearStore;
use std::fmt;
use std::sync::{Arc, LazyLock};
use std::task::Poll;
use std::time::Duration;
use store::{Bounds, Place, Store, Stored};
use sweeper::Sweeper;

const KIND: &str = "memory";

static SHARED: LazyLock<Arc<Shared>> =
    LazyLock::new(|| Arc::new(Shared::new(MemoryBuilder::default().bounds())));

/// A bounded cache in this process's memory.
///
/// It keeps the objects themselves: a `get` of the type that was `set` is a downcast and a clone,
/// so an `Arc<T>` costs a reference count. A `get` of another type uses the codec, as on every
/// backend. Entries beyond the bounds are evicted by S3-FIFO. A background sweep removes expired
/// entries that are not read. An expiry is never early, and at most one tick of the monotonic clock
/// late: 10 ms.
///
/// No code of a value's type runs under a lock: `Clone`, `Drop` and `Serialize` may be slow and may
/// use the cache. A panic in `Drop` is contained.
///
/// The store enforces claims: a loaded value is not stored if another wrapper, or a program that
/// uses the adapter directly, has written, removed or cleared the key during the load.
///
/// A value must be encodable although it is kept as an object: `set` checks this, and measures the
/// size of the value.
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

    /// Returns a handle on the process-wide store, as Python's memory cache is one.
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

    /// Returns a builder for bounds, expiry and all other settings.
    pub fn builder() -> MemoryBuilder {
        MemoryBuilder::default()
    }

    /// Builds the cache that a URL describes: `memory:` with any of the parameters `max_entries`,
    /// `max_bytes`, `max_value_bytes`, `encoded`, `shared`, `prefix`, `default_ttl` and `codec`.
    ///
    /// ```
    /// larder::AsyncMemoryCache::from_url("memory:?max_entries=10000&default_ttl=60")?;
    /// # Ok::<(), larder::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Config`](ErrorKind::Config) for any other URL.
    pub fn from_url(url: &str) -> Result<Self> {
        Ok(MemoryBuilder::from_url(url)?.build())
    }

    /// The number of entries, including expired ones that have not been swept.
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

    /// The value in the form that is kept, and the number of bytes that it counts for. Fails for a
    /// value that cannot be encoded, as on every backend.
    fn prepare(&self, key: &str, value: CacheValue) -> Result<(CacheValue, usize)> {
        // Refused as on every backend, although an object needs no header.
        if value.is_tagged() {
            value.check_form(key, self.settings.codec)?;
        }
        let value = if self.encoded { value.into_encoded(self.settings.codec)? } else { value };
        let bytes = value.footprint()?;
        let weigh = |weigher: &Weigher| weigher.weigh(key, &value);
        let bytes = self.weigher.as_ref().map_or(bytes, weigh);
        Ok((value, bytes))
    }

    fn lifetime(&self, expiry: Expiry) -> Lifetime {
        let lifetime = self.settings.resolve(expiry);
        if lifetime != Lifetime::Never {
            let Shared { store, sweeper } = &*self.shared;
            sweeper.start(store);
            if store.is_sweep_overdue() {
                sweeper.start_here(store);
            }
        }
        lifetime
    }

    fn store(&self) -> &Store {
        &self.shared.store
    }

    /// An empty store for a near level, with the bounds of this cache.
    pub(crate) fn near_store(&self) -> NearStore {
        NearStore::new(self.bounds)
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

/// The place that a cursor names: the number of a shard, then of a node in it.
fn place(after: Option<&KeyCursor>) -> Result<Place> {
    let Some(cursor) = after else { return Ok((0, 0)) };
    let numbers: Option<&[u8; 16]> = cursor.place().first_chunk();
    let numbers = numbers.map(|bytes| u128::from_be_bytes(*bytes));
    let place = numbers.map(|both| ((both >> 64) as usize, both as u64 as usize));
    place.ok_or_else(|| Error::config("the cursor is another adapter's").with_backend(KIND))
}

fn cursor(shard: usize, node: usize) -> KeyCursor {
    KeyCursor::new([shard, node].map(|number| (number as u64).to_be_bytes()).concat())
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

    async fn get_near(&self, key: &str) -> Result<Option<NearEntry>> {
        let key = self.settings.scope.key(key)?;
        Ok(self.store().get_near(&key))
    }

    async fn get_many_near(&self, keys: &[&str]) -> Result<Vec<Result<Option<NearEntry>>>> {
        key::check_all(keys.iter().copied())?;
        let near = |key: &&str| Ok(self.store().get_near(&self.settings.scope.key(key)?));
        Ok(keys.iter().map(near).collect())
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
            let value = if self.encoded {
                CacheValue::counter(new, self.settings.codec)
            } else {
                CacheValue::new(new)
            };
            let (value, bytes) = self.prepare(&scoped, value)?;
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

    async fn keys(&self, prefix: &str, after: Option<&KeyCursor>) -> Result<KeyPage> {
        let own = self.settings.scope.prefix();
        let (keys, next) = self.store().keys(own, prefix, place(after)?);
        Ok(KeyPage::new(keys, next.map(|(shard, node)| cursor(shard, node))))
    }

    async fn presence(&self, key: &str) -> Result<Presence> {
        let key = self.settings.scope.key(key)?;
        Ok(self.store().presence(&key))
    }

    async fn presence_many(&self, keys: &[&str]) -> Result<Vec<Result<Presence>>> {
        key::check_all(keys.iter().copied())?;
        let presence = |key: &&str| Ok(self.store().presence(&self.settings.scope.key(key)?));
        Ok(keys.iter().map(presence).collect())
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
        self.set_claimed_now(key, value, expiry, claim)
    }

    fn claim_if_ready(&self, key: &str) -> Poll<Result<Claim>> {
        let claim = self.settings.scope.key(key).map(|key| self.shared.store.claim(&key, None));
        Poll::Ready(claim.map(|claim| claim.unwrap_or_else(Claim::unguarded)))
    }

    fn set_claimed_if_ready(
        &self,
        key: &str,
        value: &CacheValue,
        expiry: Expiry,
        claim: &Claim,
    ) -> Poll<Result<bool>> {
        Poll::Ready(self.set_claimed_now(key, value.clone(), expiry, claim))
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

    fn size(&self) -> StoreSize {
        self.store().size()
    }

    fn default_ttl(&self) -> Lifetime {
        self.settings.default_ttl
    }

    fn backend(&self) -> &str {
        KIND
    }
}

impl AsyncMemoryCache {
    fn set_claimed_now(
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

    fn set_if(&self, live: bool, key: &str, value: CacheValue, expiry: Expiry) -> Result<bool> {
        let scoped = self.settings.scope.key(key)?;
        let (value, bytes) = self.prepare(&scoped, value)?;
        match self.store().set_if(live, &scoped, value, bytes, self.lifetime(expiry)) {
            Some(stored) => fits(key)(stored).map(|()| true),
            None => Ok(false),
        }
    }
}
