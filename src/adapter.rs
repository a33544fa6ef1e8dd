//! The contract between a cache and the stores behind it.

mod claim;
#[cfg(feature = "memory")]
mod counted;
mod entry;
mod near;
mod size;
mod walk;

pub use claim::Claim;
#[cfg(feature = "memory")]
pub(crate) use counted::{CountedToken, CountsClaims};
pub use entry::{ClaimedEntry, Entry, FoundOrClaimed};
pub use near::{AskedAt, Follower, NearEntry, Source, SourceId};
#[cfg(any(feature = "memory", feature = "testing"))]
pub(crate) use near::{OpensSources, Vouches};
#[cfg(any(
    feature = "testing",
    all(test, feature = "memory", any(feature = "redis", feature = "sqlite"))
))]
pub(crate) use near::{Recorder, Records};
pub(crate) use near::{many_near_by_expiry, near_by_expiry};
pub use size::StoreSize;
pub use walk::{KeyCursor, KeyPage};

use crate::error::{Error, ErrorKind, Result};
use crate::expiry::{Expiry, Lifetime};
use crate::meta::Meta;
use crate::observers::EventSink;
use crate::stats::NearStats;
use crate::value::CacheValue;
use async_trait::async_trait;
use futures_util::future::join_all;
use std::fmt;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// The state of a key in a store: see [`presence`](AsyncCacheAdapter::presence).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Nothing.
    Missing,
    /// A live entry without a stale window.
    Live,
    /// A live entry with this time until its logical expiry, after which it is kept as stale.
    Kept(Duration),
    /// A stale entry: past its logical expiry, and missing for every verb of a cache.
    Stale,
    /// An entry with tags, also past its logical expiry: the cache reads it, because only its value
    /// names them.
    Tagged,
}

impl Presence {
    /// The presence of an entry with this value.
    ///
    /// ```
    /// use larder::{CacheValue, Presence};
    ///
    /// assert_eq!(Presence::of(&CacheValue::new(5u8)), Presence::Live);
    /// ```
    #[must_use]
    pub fn of(value: &CacheValue) -> Self {
        Self::by(value.meta())
    }

    /// The presence of a key under which a read has found this.
    pub(crate) fn of_found(found: Option<&CacheValue>) -> Self {
        found.map_or(Self::Missing, Self::of)
    }

    pub(crate) fn by(meta: &Meta) -> Self {
        if meta.is_tagged() { Self::Tagged } else { Self::by_end(meta) }
    }

    /// The presence of an entry, whatever its tags.
    pub(crate) fn by_end(meta: &Meta) -> Self {
        if !meta.has_stale_window() || meta.expires_ms() == u64::MAX {
            return Self::Live;
        }
        meta.remaining().map_or(Self::Stale, Self::Kept)
    }
}

/// A store that keeps values it does not understand.
///
/// Implement the five required methods; `larder::testing::conformance!` tests whether they keep the
/// contract below. A method with a default is either correct on any store, only slower than the
/// store's own way ([`touch`](AsyncCacheAdapter::touch), [`get_many`](AsyncCacheAdapter::get_many),
/// …), or returns [`ErrorKind::Unsupported`], because nothing built from the required methods would
/// be atomic ([`add`](AsyncCacheAdapter::add), [`incr`](AsyncCacheAdapter::incr), …).
///
/// # The contract
///
/// **Keys** are any non-empty text of any length; `*`, `%` and the like are text. The empty key is
/// [`ErrorKind::InvalidKey`] on every method, and in a batch all keys are checked before anything
/// is changed.
///
/// **Expiry.** An adapter resolves an [`Expiry`] with [`Expiry::resolve`], handing in its own
/// default. An entry whose deadline is reached is missing for every method. A lifetime of zero
/// makes a write succeed and leaves the key missing.
///
/// **Logical ends.** A value that [`is_stale`](CacheValue::is_stale) is past its logical end.
/// `get`, `get_many`, `take` and `update_timeout` give it like any other, and the cache judges it.
/// `remove` and `remove_many` remove it and answer that it was not live, and for `incr` it is
/// missing.
///
/// **Values** are opaque: keep the [`CacheValue`], or keep its [`to_stored`](CacheValue::to_stored)
/// bytes. A value that cannot be encoded is [`ErrorKind::Encode`] and leaves the older one
/// untouched; one that is over the store's limit is [`ErrorKind::TooLarge`], and the older one is
/// no longer served.
///
/// **Errors.** A miss is not an error. A store that is away is [`ErrorKind::Unavailable`], one that
/// does not answer in time [`ErrorKind::Timeout`]; every wait on a network has a deadline.
///
/// **Cancel safety.** A dropped future leaves no lock held and no connection half read; whether its
/// write took effect is not known.
///
/// **Constructors** do no I/O, spawn nothing and need no runtime.
///
/// # Example
///
/// `examples/custom_adapter.rs` is a complete adapter.
#[async_trait]
pub trait AsyncCacheAdapter: Send + Sync + 'static {
    /// The live value under `key`.
    async fn get(&self, key: &str) -> Result<Option<CacheValue>>;

    /// Stores `value` under `key`, and replaces any older value.
    async fn set(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<()>;

    /// Removes `key`. Returns whether it was live; a value past its logical end is not live.
    async fn remove(&self, key: &str) -> Result<bool>;

    /// Gives a live entry a new expiry, counted from now, and returns its value; `None` if the key
    /// is not live.
    async fn update_timeout(&self, key: &str, expiry: Expiry) -> Result<Option<CacheValue>>;

    /// Removes every key of this adapter that begins with `prefix`; with the empty prefix, all of
    /// its keys. Other keys in the store are not touched.
    async fn clear(&self, prefix: &str) -> Result<()>;

    /// Stores `value` if `key` is missing, in one atomic step. Returns whether it was stored.
    async fn add(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<bool> {
        let _ = (value, expiry);
        Err(unsupported("add", key))
    }

    /// Stores `value` if `key` is live, in one atomic step. Returns whether it was stored.
    async fn replace(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<bool> {
        let _ = (value, expiry);
        Err(unsupported("replace", key))
    }

    /// Adds `by` to the integer under `key` in one atomic step and returns the sum. A missing key
    /// counts as 0 and gets `expiry`; a live key keeps its own expiry. A number past its logical
    /// end counts as missing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotANumber`] and [`ErrorKind::Overflow`]; the value is unchanged.
    async fn incr(&self, key: &str, by: i64, expiry: Expiry) -> Result<i64> {
        let _ = (by, expiry);
        Err(unsupported("incr", key))
    }

    /// Removes `key` and returns its value if it was live, in one atomic step.
    async fn take(&self, key: &str) -> Result<Option<CacheValue>> {
        Err(unsupported("take", key))
    }

    /// How long `key` still lives: [`Expiry::Never`] or [`Expiry::After`]; `None` if it is missing.
    async fn expiry(&self, key: &str) -> Result<Option<Expiry>> {
        Err(unsupported("expiry", key))
    }

    /// Whether `key` is live.
    async fn contains(&self, key: &str) -> Result<bool> {
        Ok(self.get(key).await?.is_some())
    }

    /// Whether `key` is live, and on which side of its logical end. The default reads the value.
    async fn presence(&self, key: &str) -> Result<Presence> {
        Ok(Presence::of_found(self.get(key).await?.as_ref()))
    }

    /// [`presence`](AsyncCacheAdapter::presence) of several keys. Returns one result for each key, in
    /// the order of `keys`. A key that fails does not make the others fail. The default reads the
    /// values with [`get_many`](AsyncCacheAdapter::get_many).
    async fn presence_many(&self, keys: &[&str]) -> Result<Vec<Result<Presence>>> {
        let found = self.get_many(keys).await?.into_iter();
        Ok(found.map(|found| Ok(Presence::of_found(found?.as_ref()))).collect())
    }

    /// Whether values in this store can have a logical end. If `false`, because the store cannot
    /// record it, the cache does not ask for the [`presence`](AsyncCacheAdapter::presence) of a key
    /// before verbs that do not see the value.
    fn has_logical_ends(&self) -> bool {
        true
    }

    /// Gives a live entry a new expiry, counted from now. Returns whether the key was live.
    async fn touch(&self, key: &str, expiry: Expiry) -> Result<bool> {
        Ok(self.update_timeout(key, expiry).await?.is_some())
    }

    /// Reads several keys. Returns one result for each key, in the order of `keys`. A key that
    /// fails does not make the others fail.
    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Result<Option<CacheValue>>>> {
        crate::key::check_all(keys.iter().copied())?;
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            found.push(self.get(key).await);
        }
        Ok(found)
    }

    /// Stores several entries. Returns one result for each entry, in the order of `entries`. An
    /// entry that fails does not make the others fail.
    async fn set_many(&self, entries: &[Entry<'_>]) -> Result<Vec<Result<()>>> {
        crate::key::check_all(entries.iter().map(|entry| entry.key))?;
        let mut stored = Vec::with_capacity(entries.len());
        for Entry { key, value, expiry } in entries {
            stored.push(self.set(key, value.clone(), *expiry).await);
        }
        Ok(stored)
    }

    /// Removes several keys. Returns for each key, in the order of `keys`, whether it was live. A
    /// key that fails does not make the others fail.
    async fn remove_many(&self, keys: &[&str]) -> Result<Vec<Result<bool>>> {
        crate::key::check_all(keys.iter().copied())?;
        let mut removed = Vec::with_capacity(keys.len());
        for key in keys {
            removed.push(self.remove(key).await);
        }
        Ok(removed)
    }

    /// Some of the live keys that begin with `prefix`, from the beginning or from where an earlier
    /// page said that the next one begins. The order is the store's. With the empty prefix, all
    /// keys of this adapter.
    ///
    /// A key that is live during the whole walk is in at least one page. A key that is written or
    /// removed meanwhile may be there or not, and a key may come twice. Keys of the store's own
    /// records, and of entries past their expiry or logical end, are not there. A page is short, so
    /// that no step of the walk takes long.
    async fn keys(&self, prefix: &str, after: Option<&KeyCursor>) -> Result<KeyPage> {
        let _ = (prefix, after);
        Err(Error::new(ErrorKind::Unsupported).with_op("keys"))
    }

    /// The answer of [`get`](AsyncCacheAdapter::get) if it needs no wait; otherwise `Pending`. If
    /// there is a value, `look` is called once with a reference to it. The cache calls this method
    /// first, so that a hit in memory costs neither a boxed future nor a reference count.
    ///
    /// `look` is short and does not use the cache, because it may run under a lock.
    fn get_if_ready(&self, key: &str, look: &mut dyn FnMut(&CacheValue)) -> Poll<Result<()>> {
        let _ = (key, look);
        Poll::Pending
    }

    /// [`get`](AsyncCacheAdapter::get) with the rest of the entry's life, and the source that vouches
    /// for the value: what a near level ([`layers::Tiered`](crate::layers::Tiered)) needs to keep the
    /// answer. The default asks for the [`expiry`](AsyncCacheAdapter::expiry) too, and nothing is
    /// kept near where that is `Unsupported`.
    async fn get_near(&self, key: &str) -> Result<Option<NearEntry>> {
        near_by_expiry(self, key).await
    }

    /// [`get_near`](AsyncCacheAdapter::get_near) for several keys. Returns one result for each key,
    /// in the order of `keys`. A key that fails does not make the others fail.
    async fn get_many_near(&self, keys: &[&str]) -> Result<Vec<Result<Option<NearEntry>>>> {
        many_near_by_expiry(self, keys).await
    }

    /// [`get`](AsyncCacheAdapter::get) from the store itself: the answer is not older than the call.
    /// A layer that keeps values near asks the store behind. A cache reads so where it is about to
    /// write.
    async fn get_far(&self, key: &str) -> Result<Option<CacheValue>> {
        self.get(key).await
    }

    /// [`get_far`](AsyncCacheAdapter::get_far) for several keys, as
    /// [`get_many`](AsyncCacheAdapter::get_many) reads them.
    async fn get_many_far(&self, keys: &[&str]) -> Result<Vec<Result<Option<CacheValue>>>> {
        self.get_many(keys).await
    }

    /// A value that a near level still has under `key`, if it was proven to be fresh less than
    /// `stale_for` ago, and nothing has said since that it changed. Asks nobody. A `get_or_set*` with
    /// [`stale_for`](crate::View::stale_for) takes the value as stale if the store fails, and serves
    /// it if the loader fails, too. The default has none.
    fn get_unproven(&self, key: &str, stale_for: Duration) -> Option<CacheValue> {
        let _ = (key, stale_for);
        None
    }

    /// Called by a near level in front of this adapter. An adapter that can tell of changes keeps
    /// the follower, opens a [`Source`] for each stream that tells, and returns `true`. The default
    /// returns `false`: its values are near by age. `larder::testing::near_conformance!` tests
    /// whether an adapter tells in time.
    fn follow(&self, follower: Follower) -> bool {
        let _ = follower;
        false
    }

    /// What the near level has done; `None` for an adapter without one.
    fn near_stats(&self) -> Option<NearStats> {
        None
    }

    /// Whether this adapter's claims detect changes by others: other processes, or other users of
    /// the same store in this process. If `false` (the default), the cache skips `claim` and calls
    /// `set`.
    fn enforces_claims(&self) -> bool {
        false
    }

    /// Whether other processes may write to this store. This differs from
    /// [`enforces_claims`](AsyncCacheAdapter::enforces_claims): a shared store may be unable to
    /// enforce claims, and then a late write must not replace a newer value. The default is the
    /// answer of `enforces_claims`.
    ///
    /// ```
    /// use larder::AsyncCacheAdapter;
    ///
    /// # #[cfg(feature = "memcached")] fn main() -> larder::Result<()> {
    /// let cache = larder::AsyncMemcachedCache::builder().codec(larder::Codec::Json).build()?;
    /// assert!(cache.is_shared() && !cache.enforces_claims());
    /// # Ok(()) }
    /// # #[cfg(not(feature = "memcached"))] fn main() {}
    /// ```
    fn is_shared(&self) -> bool {
        self.enforces_claims()
    }

    /// Called before the value of a key is computed, so that changes by others during the
    /// computation are detected. With a `lease` the claim is exclusive for at most that long:
    /// `None` while another caller has it. Without a lease a claim is always given. The caller
    /// keeps the claim until it is used or released, because a store may end a claim when its last
    /// handle is dropped.
    ///
    /// The default is for a store that no other process writes to.
    async fn claim(&self, key: &str, lease: Option<Duration>) -> Result<Option<Claim>> {
        let _ = lease;
        crate::key::check(key)?;
        Ok(Some(Claim::unguarded()))
    }

    /// [`set`](AsyncCacheAdapter::set), unless the key was written, removed or cleared since the
    /// claim, by any process; returns whether the value was stored. Ends the claim. A value whose
    /// lease has passed to another caller is not stored.
    async fn set_claimed(
        &self,
        key: &str,
        value: CacheValue,
        expiry: Expiry,
        claim: &Claim,
    ) -> Result<bool> {
        let _ = claim;
        self.set(key, value, expiry).await?;
        Ok(true)
    }

    /// The answer of [`claim`](AsyncCacheAdapter::claim) without a lease if it needs no wait;
    /// otherwise `Pending`, and nothing is claimed. A load that is ready at once is stored without
    /// a boxed future, if the adapter answers here and in
    /// [`set_claimed_if_ready`](AsyncCacheAdapter::set_claimed_if_ready).
    fn claim_if_ready(&self, key: &str) -> Poll<Result<Claim>> {
        let _ = key;
        Poll::Pending
    }

    /// The answer of [`set_claimed`](AsyncCacheAdapter::set_claimed) if it needs no wait; otherwise
    /// `Pending`, and nothing has changed.
    fn set_claimed_if_ready(
        &self,
        key: &str,
        value: &CacheValue,
        expiry: Expiry,
        claim: &Claim,
    ) -> Poll<Result<bool>> {
        let _ = (key, value, expiry, claim);
        Poll::Pending
    }

    /// Reads several keys, and claims those that are missing, without leases. Returns one result for
    /// each key, in the order of `keys`; a key that fails does not make the others fail. A claim is
    /// made after its key was read, so a value may have been stored in between. The default reads
    /// with [`get_many`](AsyncCacheAdapter::get_many), and then makes the claims at the same time.
    async fn get_or_claim_many(&self, keys: &[&str]) -> Result<Vec<Result<FoundOrClaimed>>> {
        get_or_claim_each(self, keys).await
    }

    /// [`set_claimed`](AsyncCacheAdapter::set_claimed) of several entries. Returns one result for
    /// each entry, in the order of `entries`; an entry that fails does not make the others fail. The
    /// default stores each by itself, at the same time.
    async fn set_claimed_many(&self, entries: &[ClaimedEntry<'_>]) -> Result<Vec<Result<bool>>> {
        set_claimed_each(self, entries).await
    }

    /// Gives up a claim that will not be used, so that others need not wait for the end of its
    /// lease.
    async fn release(&self, key: &str, claim: &Claim) -> Result<()> {
        let _ = claim;
        crate::key::check(key)
    }

    /// Called when a cache begins to use the adapter. An adapter that emits events (an eviction, a
    /// circuit breaker that opens) keeps the sink for as long as the adapter lives.
    fn subscribe(&self, sink: EventSink) {
        let _ = sink;
    }

    /// Opens the connections. Without this call they are opened on first use. Idempotent.
    async fn connect(&self) -> Result<()> {
        Ok(())
    }

    /// Checks that the store answers.
    async fn ping(&self) -> Result<()> {
        Ok(())
    }

    /// Closes the connections. Idempotent; the next call opens new ones.
    async fn close(&self) -> Result<()> {
        Ok(())
    }

    /// [`close`](AsyncCacheAdapter::close), then [`connect`](AsyncCacheAdapter::connect).
    async fn reconnect(&self) -> Result<()> {
        self.close().await?;
        self.connect().await
    }

    /// A new adapter of the same kind and configuration, with connections of its own.
    fn rebuild(&self) -> Result<Arc<dyn AsyncCacheAdapter>> {
        Err(Error::new(ErrorKind::Unsupported)
            .with_backend(self.backend().to_owned())
            .with_op("rebuild"))
    }

    /// How large the store is, as far as the adapter knows now. Asks nobody and never waits; a
    /// number that would cost a call, or count the entries of others, is left out.
    fn size(&self) -> StoreSize {
        StoreSize::default()
    }

    /// The expiry that this adapter uses for [`Expiry::Default`].
    fn default_ttl(&self) -> Lifetime {
        Lifetime::default()
    }

    /// The name that errors and events use, such as `redis`.
    fn backend(&self) -> &str {
        std::any::type_name::<Self>()
    }
}

/// [`get_or_claim_many`](AsyncCacheAdapter::get_or_claim_many) by the verbs for one key.
pub(crate) async fn get_or_claim_each<A: AsyncCacheAdapter + ?Sized>(
    adapter: &A,
    keys: &[&str],
) -> Result<Vec<Result<FoundOrClaimed>>> {
    let found = adapter.get_many(keys).await?;
    let claims = keys.iter().zip(&found).filter_map(|(key, found)| {
        let is_missing = adapter.enforces_claims() && matches!(found, Ok(None));
        is_missing.then(|| adapter.claim(key, None))
    });
    let mut claims = join_all(claims).await.into_iter();
    let looked = found.into_iter().map(|found| match found? {
        Some(value) => Ok(FoundOrClaimed::Found(value)),
        None => match claims.next().transpose()?.flatten() {
            Some(claim) => Ok(FoundOrClaimed::Claimed(claim)),
            None => Ok(FoundOrClaimed::Missing),
        },
    });
    Ok(looked.collect())
}

/// [`set_claimed_many`](AsyncCacheAdapter::set_claimed_many) by the verb for one key.
pub(crate) async fn set_claimed_each<A: AsyncCacheAdapter + ?Sized>(
    adapter: &A,
    entries: &[ClaimedEntry<'_>],
) -> Result<Vec<Result<bool>>> {
    crate::key::check_all(entries.iter().map(|claimed| claimed.entry.key))?;
    let stored = entries.iter().map(|ClaimedEntry { entry, claim }| {
        adapter.set_claimed(entry.key, entry.value.clone(), entry.expiry, claim)
    });
    Ok(join_all(stored).await)
}

/// The longest life of a claim, and of a lease.
#[cfg(any(feature = "redis", feature = "memcached", feature = "sqlite"))]
pub(crate) const LONGEST_CLAIM: Duration = Duration::from_secs(3_600);

/// A lease in milliseconds, as shared stores count it; 0 means no lease.
#[cfg(any(feature = "redis", feature = "sqlite"))]
pub(crate) fn lease_millis(lease: Option<Duration>) -> u64 {
    let lease = lease.unwrap_or_default().min(LONGEST_CLAIM);
    u64::try_from(lease.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// The error of a verb for which no default implementation is correct.
pub(crate) fn unsupported(op: &'static str, key: &str) -> Error {
    Error::new(ErrorKind::Unsupported).with_op(op).with_key(key)
}

impl fmt::Debug for dyn AsyncCacheAdapter + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AsyncCacheAdapter({})", self.backend())
    }
}
