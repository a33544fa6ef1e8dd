//! Adapters over stores that block.

mod turn;

use crate::adapter::{
    AsyncCacheAdapter, Claim, ClaimedEntry, Entry, Follower, FoundOrClaimed, KeyCursor, KeyPage,
    NearEntry, Presence, StoreSize, get_or_claim_each, many_near_by_expiry, near_by_expiry,
    set_claimed_each, unsupported,
};
use crate::error::{Error, ErrorKind, Result};
use crate::expiry::{Expiry, Lifetime};
use crate::observers::EventSink;
use crate::stats::NearStats;
use crate::value::CacheValue;
use crate::{key, runtime};
use async_trait::async_trait;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use turn::{Abandoned, Turn};

/// [`AsyncCacheAdapter`] for a store that blocks: the same methods and the same contract, as plain
/// functions.
///
/// [`Blocking`](struct@Blocking) turns such a store into an adapter.
///
/// ```
/// use larder::{AsyncCacheWrapper, Blocking, CacheAdapter, CacheValue, Expiry, Result};
///
/// /// Keeps nothing.
/// struct Nothing;
///
/// impl CacheAdapter for Nothing {
///     fn get(&self, _key: &str) -> Result<Option<CacheValue>> {
///         Ok(None)
///     }
///     fn set(&self, _key: &str, _value: CacheValue, _expiry: Expiry) -> Result<()> {
///         Ok(())
///     }
///     fn remove(&self, _key: &str) -> Result<bool> {
///         Ok(false)
///     }
///     fn update_timeout(&self, _key: &str, _expiry: Expiry) -> Result<Option<CacheValue>> {
///         Ok(None)
///     }
///     fn clear(&self, _prefix: &str) -> Result<()> {
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
/// let cache = AsyncCacheWrapper::new(Blocking(Nothing))?;
/// assert_eq!(cache.get_or_set("k", 5u8).await?, 5);
/// assert_eq!(cache.get::<u8>("k").await?, None);
/// # Ok(()) }
/// ```
pub trait CacheAdapter: Send + Sync + 'static {
    /// See [`AsyncCacheAdapter::get`].
    fn get(&self, key: &str) -> Result<Option<CacheValue>>;

    /// See [`AsyncCacheAdapter::set`].
    fn set(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<()>;

    /// See [`AsyncCacheAdapter::remove`].
    fn remove(&self, key: &str) -> Result<bool>;

    /// See [`AsyncCacheAdapter::update_timeout`].
    fn update_timeout(&self, key: &str, expiry: Expiry) -> Result<Option<CacheValue>>;

    /// See [`AsyncCacheAdapter::clear`].
    fn clear(&self, prefix: &str) -> Result<()>;

    /// See [`AsyncCacheAdapter::add`].
    fn add(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<bool> {
        let _ = (value, expiry);
        Err(unsupported("add", key))
    }

    /// See [`AsyncCacheAdapter::replace`].
    fn replace(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<bool> {
        let _ = (value, expiry);
        Err(unsupported("replace", key))
    }

    /// See [`AsyncCacheAdapter::incr`].
    fn incr(&self, key: &str, by: i64, expiry: Expiry) -> Result<i64> {
        let _ = (by, expiry);
        Err(unsupported("incr", key))
    }

    /// See [`AsyncCacheAdapter::take`].
    fn take(&self, key: &str) -> Result<Option<CacheValue>> {
        Err(unsupported("take", key))
    }

    /// See [`AsyncCacheAdapter::expiry`].
    fn expiry(&self, key: &str) -> Result<Option<Expiry>> {
        Err(unsupported("expiry", key))
    }

    /// See [`AsyncCacheAdapter::contains`].
    fn contains(&self, key: &str) -> Result<bool> {
        Ok(self.get(key)?.is_some())
    }

    /// See [`AsyncCacheAdapter::presence`].
    fn presence(&self, key: &str) -> Result<Presence> {
        Ok(Presence::of_found(self.get(key)?.as_ref()))
    }

    /// See [`AsyncCacheAdapter::presence_many`].
    fn presence_many(&self, keys: &[&str]) -> Result<Vec<Result<Presence>>> {
        let found = self.get_many(keys)?.into_iter();
        Ok(found.map(|found| Ok(Presence::of_found(found?.as_ref()))).collect())
    }

    /// See [`AsyncCacheAdapter::has_logical_ends`].
    fn has_logical_ends(&self) -> bool {
        true
    }

    /// See [`AsyncCacheAdapter::touch`].
    fn touch(&self, key: &str, expiry: Expiry) -> Result<bool> {
        Ok(self.update_timeout(key, expiry)?.is_some())
    }

    /// See [`AsyncCacheAdapter::get_many`].
    fn get_many(&self, keys: &[&str]) -> Result<Vec<Result<Option<CacheValue>>>> {
        key::check_all(keys.iter().copied())?;
        Ok(keys.iter().map(|key| self.get(key)).collect())
    }

    /// See [`AsyncCacheAdapter::set_many`].
    fn set_many(&self, entries: &[Entry<'_>]) -> Result<Vec<Result<()>>> {
        key::check_all(entries.iter().map(|entry| entry.key))?;
        Ok(entries
            .iter()
            .map(|Entry { key, value, expiry }| self.set(key, value.clone(), *expiry))
            .collect())
    }

    /// See [`AsyncCacheAdapter::remove_many`].
    fn remove_many(&self, keys: &[&str]) -> Result<Vec<Result<bool>>> {
        key::check_all(keys.iter().copied())?;
        Ok(keys.iter().map(|key| self.remove(key)).collect())
    }

    /// See [`AsyncCacheAdapter::keys`].
    fn keys(&self, prefix: &str, after: Option<&KeyCursor>) -> Result<KeyPage> {
        let _ = (prefix, after);
        Err(Error::new(ErrorKind::Unsupported).with_op("keys"))
    }

    /// See [`AsyncCacheAdapter::enforces_claims`].
    fn enforces_claims(&self) -> bool {
        false
    }

    /// See [`AsyncCacheAdapter::is_shared`].
    fn is_shared(&self) -> bool {
        self.enforces_claims()
    }

    /// See [`AsyncCacheAdapter::claim`].
    fn claim(&self, key: &str, lease: Option<Duration>) -> Result<Option<Claim>> {
        let _ = lease;
        key::check(key)?;
        Ok(Some(Claim::unguarded()))
    }

    /// See [`AsyncCacheAdapter::set_claimed`].
    fn set_claimed(
        &self,
        key: &str,
        value: CacheValue,
        expiry: Expiry,
        claim: &Claim,
    ) -> Result<bool> {
        let _ = claim;
        self.set(key, value, expiry)?;
        Ok(true)
    }

    /// See [`AsyncCacheAdapter::release`].
    fn release(&self, key: &str, claim: &Claim) -> Result<()> {
        let _ = claim;
        key::check(key)
    }

    /// See [`AsyncCacheAdapter::subscribe`].
    fn subscribe(&self, sink: EventSink) {
        let _ = sink;
    }

    /// See [`AsyncCacheAdapter::connect`].
    fn connect(&self) -> Result<()> {
        Ok(())
    }

    /// See [`AsyncCacheAdapter::ping`].
    fn ping(&self) -> Result<()> {
        Ok(())
    }

    /// See [`AsyncCacheAdapter::close`].
    fn close(&self) -> Result<()> {
        Ok(())
    }

    /// See [`AsyncCacheAdapter::reconnect`].
    fn reconnect(&self) -> Result<()> {
        self.close()?;
        self.connect()
    }

    /// See [`AsyncCacheAdapter::rebuild`].
    fn rebuild(&self) -> Result<Arc<dyn AsyncCacheAdapter>> {
        Err(Error::new(ErrorKind::Unsupported).with_op("rebuild"))
    }

    /// See [`AsyncCacheAdapter::size`].
    fn size(&self) -> StoreSize {
        StoreSize::default()
    }

    /// See [`AsyncCacheAdapter::default_ttl`].
    fn default_ttl(&self) -> Lifetime {
        Lifetime::default()
    }

    /// See [`AsyncCacheAdapter::backend`].
    fn backend(&self) -> &str {
        std::any::type_name::<Self>()
    }
}

/// An adapter over a store that blocks. Each call runs on a thread of the runtime's blocking pool,
/// so no worker is held up.
///
/// # Cancel safety
///
/// A dropped call that has not begun on its thread never runs. A dropped call that has begun goes
/// on, and later calls wait for its end, because it must not change a key after they did.
#[derive(Debug)]
pub struct Blocking<S> {
    store: Arc<S>,
    abandoned: Arc<Abandoned>,
}

/// Turns a store that blocks into an adapter. See [`CacheAdapter`].
#[expect(non_snake_case, reason = "`Blocking(store)` reads as the constructor it is")]
pub fn Blocking<S: CacheAdapter>(store: S) -> Blocking<S> {
    Blocking { store: Arc::new(store), abandoned: Arc::default() }
}

impl<S> Clone for Blocking<S> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), abandoned: self.abandoned.clone() }
    }
}

impl<S: CacheAdapter> Blocking<S> {
    async fn run<R: Send + 'static>(
        &self,
        call: impl FnOnce(&S) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        // A later call would race with a dropped one that still runs on its thread.
        self.abandoned.wait_for_none().await;
        let (store, turn) = (self.store.clone(), Turn::new(&self.abandoned));
        let on_thread = turn.state.clone();
        let ran = runtime::spawn_blocking(move || on_thread.run(|| call(&store))).await;
        match ran {
            Ok(Some(result)) => result,
            Err(gone) if gone.is_panic() => {
                Err(Error::new(ErrorKind::Backend).with_message("the store panicked"))
            }
            Ok(None) | Err(_) => {
                Err(Error::new(ErrorKind::Unavailable).with_message("the runtime is shutting down"))
            }
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: CacheAdapter> AsyncCacheAdapter for Blocking<S> {
    async fn get(&self, key: &str) -> Result<Option<CacheValue>> {
        let key = key.to_owned();
        self.run(move |store| store.get(&key)).await
    }

    async fn set(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<()> {
        let key = key.to_owned();
        self.run(move |store| store.set(&key, value, expiry)).await
    }

    async fn remove(&self, key: &str) -> Result<bool> {
        let key = key.to_owned();
        self.run(move |store| store.remove(&key)).await
    }

    async fn update_timeout(&self, key: &str, expiry: Expiry) -> Result<Option<CacheValue>> {
        let key = key.to_owned();
        self.run(move |store| store.update_timeout(&key, expiry)).await
    }

    async fn clear(&self, prefix: &str) -> Result<()> {
        let prefix = prefix.to_owned();
        self.run(move |store| store.clear(&prefix)).await
    }

    async fn add(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<bool> {
        let key = key.to_owned();
        self.run(move |store| store.add(&key, value, expiry)).await
    }

    async fn replace(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<bool> {
        let key = key.to_owned();
        self.run(move |store| store.replace(&key, value, expiry)).await
    }

    async fn incr(&self, key: &str, by: i64, expiry: Expiry) -> Result<i64> {
        let key = key.to_owned();
        self.run(move |store| store.incr(&key, by, expiry)).await
    }

    async fn take(&self, key: &str) -> Result<Option<CacheValue>> {
        let key = key.to_owned();
        self.run(move |store| store.take(&key)).await
    }

    async fn expiry(&self, key: &str) -> Result<Option<Expiry>> {
        let key = key.to_owned();
        self.run(move |store| store.expiry(&key)).await
    }

    async fn contains(&self, key: &str) -> Result<bool> {
        let key = key.to_owned();
        self.run(move |store| store.contains(&key)).await
    }

    async fn presence(&self, key: &str) -> Result<Presence> {
        let key = key.to_owned();
        self.run(move |store| store.presence(&key)).await
    }

    async fn presence_many(&self, keys: &[&str]) -> Result<Vec<Result<Presence>>> {
        let keys = owned(keys);
        self.run(move |store| store.presence_many(&borrowed(&keys))).await
    }

    fn has_logical_ends(&self) -> bool {
        self.store.has_logical_ends()
    }

    async fn touch(&self, key: &str, expiry: Expiry) -> Result<bool> {
        let key = key.to_owned();
        self.run(move |store| store.touch(&key, expiry)).await
    }

    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Result<Option<CacheValue>>>> {
        let keys = owned(keys);
        self.run(move |store| store.get_many(&borrowed(&keys))).await
    }

    async fn set_many(&self, entries: &[Entry<'_>]) -> Result<Vec<Result<()>>> {
        let entries: Vec<_> = entries
            .iter()
            .map(|entry| (entry.key.to_owned(), entry.value.clone(), entry.expiry))
            .collect();
        let run = move |store: &S| {
            let entries: Vec<_> = entries
                .iter()
                .map(|(key, value, expiry)| Entry::new(key, value.clone(), *expiry))
                .collect();
            store.set_many(&entries)
        };
        self.run(run).await
    }

    async fn remove_many(&self, keys: &[&str]) -> Result<Vec<Result<bool>>> {
        let keys = owned(keys);
        self.run(move |store| store.remove_many(&borrowed(&keys))).await
    }

    async fn keys(&self, prefix: &str, after: Option<&KeyCursor>) -> Result<KeyPage> {
        let (prefix, after) = (prefix.to_owned(), after.cloned());
        self.run(move |store| store.keys(&prefix, after.as_ref())).await
    }

    fn get_if_ready(&self, _key: &str, _look: &mut dyn FnMut(&CacheValue)) -> Poll<Result<()>> {
        Poll::Pending
    }

    async fn get_near(&self, key: &str) -> Result<Option<NearEntry>> {
        near_by_expiry(self, key).await
    }

    async fn get_many_near(&self, keys: &[&str]) -> Result<Vec<Result<Option<NearEntry>>>> {
        many_near_by_expiry(self, keys).await
    }

    async fn get_far(&self, key: &str) -> Result<Option<CacheValue>> {
        self.get(key).await
    }

    async fn get_many_far(&self, keys: &[&str]) -> Result<Vec<Result<Option<CacheValue>>>> {
        self.get_many(keys).await
    }

    /// A blocking store has no near level.
    fn get_unproven(&self, _key: &str, _stale_for: Duration) -> Option<CacheValue> {
        None
    }

    /// A blocking store has no stream that could tell.
    fn follow(&self, _follower: Follower) -> bool {
        false
    }

    fn near_stats(&self) -> Option<NearStats> {
        None
    }

    fn enforces_claims(&self) -> bool {
        self.store.enforces_claims()
    }

    fn is_shared(&self) -> bool {
        self.store.is_shared()
    }

    async fn claim(&self, key: &str, lease: Option<Duration>) -> Result<Option<Claim>> {
        let key = key.to_owned();
        self.run(move |store| store.claim(&key, lease)).await
    }

    async fn set_claimed(
        &self,
        key: &str,
        value: CacheValue,
        expiry: Expiry,
        claim: &Claim,
    ) -> Result<bool> {
        let (key, claim) = (key.to_owned(), claim.clone());
        self.run(move |store| store.set_claimed(&key, value, expiry, &claim)).await
    }

    fn claim_if_ready(&self, _key: &str) -> Poll<Result<Claim>> {
        Poll::Pending
    }

    fn set_claimed_if_ready(
        &self,
        _key: &str,
        _value: &CacheValue,
        _expiry: Expiry,
        _claim: &Claim,
    ) -> Poll<Result<bool>> {
        Poll::Pending
    }

    async fn get_or_claim_many(&self, keys: &[&str]) -> Result<Vec<Result<FoundOrClaimed>>> {
        get_or_claim_each(self, keys).await
    }

    async fn set_claimed_many(&self, entries: &[ClaimedEntry<'_>]) -> Result<Vec<Result<bool>>> {
        set_claimed_each(self, entries).await
    }

    async fn release(&self, key: &str, claim: &Claim) -> Result<()> {
        let (key, claim) = (key.to_owned(), claim.clone());
        self.run(move |store| store.release(&key, &claim)).await
    }

    fn subscribe(&self, sink: EventSink) {
        self.store.subscribe(sink);
    }

    async fn connect(&self) -> Result<()> {
        self.run(S::connect).await
    }

    async fn ping(&self) -> Result<()> {
        self.run(S::ping).await
    }

    async fn close(&self) -> Result<()> {
        self.run(S::close).await
    }

    async fn reconnect(&self) -> Result<()> {
        self.run(S::reconnect).await
    }

    fn rebuild(&self) -> Result<Arc<dyn AsyncCacheAdapter>> {
        self.store.rebuild()
    }

    fn size(&self) -> StoreSize {
        self.store.size()
    }

    fn default_ttl(&self) -> Lifetime {
        self.store.default_ttl()
    }

    fn backend(&self) -> &str {
        self.store.backend()
    }
}

fn owned(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|&key| key.to_owned()).collect()
}

fn borrowed(keys: &[String]) -> Vec<&str> {
    keys.iter().map(String::as_str).collect()
}
