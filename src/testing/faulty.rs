//! An adapter that fails on demand.

use super::Verb;
use crate::adapter::{
    AsyncCacheAdapter, Claim, ClaimedEntry, Entry, Follower, FoundOrClaimed, KeyCursor, KeyPage,
    NearEntry, Presence, StoreSize, get_or_claim_each, set_claimed_each,
};
use crate::codec::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::expiry::{Expiry, Lifetime};
use crate::observers::EventSink;
use crate::runtime::lock;
use crate::stats::NearStats;
use crate::value::CacheValue;
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

/// The faults that a [`FaultyAdapter`] can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The call fails with an error of this kind and changes nothing.
    Fail(ErrorKind),
    /// The call fails and changes nothing, as on a store that answers but accepts no writes for
    /// now: see [`is_refused_write`](Error::is_refused_write).
    Refuse,
    /// The call takes effect and then fails with an error of this kind, as if its answer were lost.
    FailAfter(ErrorKind),
    /// The call takes this much longer.
    Delay(Duration),
    /// The call never answers.
    Hang,
    /// The values that the call returns are damaged. Verbs without values work normally.
    Corrupt,
}

/// Wraps an adapter and makes some of its verbs fail, hang, or answer late or with damaged values:
/// for tests of code that uses a cache.
///
/// Each verb works until a [`Fault`] is put on it, and again after [`heal`](FaultyAdapter::heal).
/// Both work at run time, through any clone of an `Arc` of the adapter. All calls are counted, also
/// those that fail. An adapter from [`rebuild`](AsyncCacheAdapter::rebuild) has the same faults and
/// counters. While there is a fault on [`Verb::Get`],
/// [`get_if_ready`](AsyncCacheAdapter::get_if_ready) returns `Pending`.
///
/// # Cancel safety
///
/// A dropped call is counted, and uses up a fault that was put on the next calls.
///
/// ```
/// use larder::testing::{Fault, FaultyAdapter, Verb};
/// use larder::{AsyncCacheAdapter, ErrorKind};
/// # #[cfg(feature = "memory")]
/// # fn main() -> larder::Result<()> {
/// # tokio::runtime::Runtime::new().expect("a runtime").block_on(async {
/// use larder::AsyncMemoryCache;
///
/// let faulty = FaultyAdapter::new(AsyncMemoryCache::new());
///
/// faulty.put_next(Verb::Get, 1, Fault::Fail(ErrorKind::Unavailable));
/// assert_eq!(faulty.get("k").await.unwrap_err().kind(), ErrorKind::Unavailable);
/// assert!(faulty.get("k").await?.is_none());
/// assert_eq!(faulty.calls(Verb::Get), 2);
///
/// faulty.put_on_all(Fault::Fail(ErrorKind::Timeout)); // the store is away …
/// assert!(faulty.ping().await.is_err());
/// faulty.heal_all(); // … and back
/// faulty.ping().await
/// # }) }
/// # #[cfg(not(feature = "memory"))]
/// # fn main() {}
/// ```
pub struct FaultyAdapter<A> {
    inner: A,
    enforces_claims: bool,
    board: Arc<Mutex<Board>>,
}

#[derive(Debug, Default)]
struct Board {
    faults: HashMap<Verb, Planned>,
    calls: HashMap<Verb, u64>,
}

#[derive(Clone, Copy, Debug)]
struct Planned {
    fault: Fault,
    /// The number of further calls with this fault; `None` means all.
    left: Option<u64>,
}

impl<A> FaultyAdapter<A> {
    /// Wraps `inner`, without faults.
    pub fn new(inner: A) -> Self {
        Self { inner, enforces_claims: true, board: Arc::default() }
    }

    /// The same adapter without claims, like a simple adapter of your own: a load is stored by
    /// [`Verb::Set`], and only the cache orders loads and removals.
    ///
    /// ```
    /// # #[cfg(feature = "memory")] {
    /// use larder::testing::FaultyAdapter;
    /// use larder::{AsyncCacheAdapter, AsyncMemoryCache};
    ///
    /// let adapter = FaultyAdapter::new(AsyncMemoryCache::new()).without_claims();
    /// assert!(!adapter.enforces_claims());
    /// # }
    /// ```
    #[must_use]
    pub fn without_claims(mut self) -> Self {
        self.enforces_claims = false;
        self
    }

    /// Puts a fault on every further call of `verb`. It replaces an earlier fault.
    pub fn put(&self, verb: Verb, fault: Fault) {
        lock(&self.board).faults.insert(verb, Planned { fault, left: None });
    }

    /// Puts a fault on the next `calls` calls of `verb`. It replaces an earlier fault.
    pub fn put_next(&self, verb: Verb, calls: u64, fault: Fault) {
        lock(&self.board).faults.insert(verb, Planned { fault, left: Some(calls) });
    }

    /// [`put`](FaultyAdapter::put) for every verb.
    pub fn put_on_all(&self, fault: Fault) {
        Verb::ALL.iter().for_each(|verb| self.put(*verb, fault));
    }

    /// Removes the fault of `verb`. Calls that hang go on hanging.
    pub fn heal(&self, verb: Verb) {
        lock(&self.board).faults.remove(&verb);
    }

    /// [`heal`](FaultyAdapter::heal) for every verb.
    pub fn heal_all(&self) {
        lock(&self.board).faults.clear();
    }

    /// How often `verb` was called.
    #[must_use]
    pub fn calls(&self, verb: Verb) -> u64 {
        lock(&self.board).calls.get(&verb).copied().unwrap_or_default()
    }

    /// How often any verb was called.
    #[must_use]
    pub fn all_calls(&self) -> u64 {
        lock(&self.board).calls.values().sum()
    }

    /// Resets the counters of calls.
    pub fn reset_calls(&self) {
        lock(&self.board).calls.clear();
    }

    /// The adapter inside, which has no faults.
    pub fn inner(&self) -> &A {
        &self.inner
    }

    /// Counts a call, and returns its fault.
    fn called(&self, verb: Verb) -> Option<Fault> {
        let mut board = lock(&self.board);
        *board.calls.entry(verb).or_default() += 1;
        let planned = board.faults.get_mut(&verb)?;
        match &mut planned.left {
            None => Some(planned.fault),
            Some(0) => None,
            Some(left) => {
                *left -= 1;
                Some(planned.fault)
            }
        }
    }

    /// Whether the next call of `verb` has a fault.
    fn faulty(&self, verb: Verb) -> bool {
        lock(&self.board).faults.get(&verb).is_some_and(|planned| planned.left != Some(0))
    }
}

impl<A: AsyncCacheAdapter> FaultyAdapter<A> {
    /// Makes a call with its fault. Also returns whether its values are to be damaged.
    async fn run<T>(&self, verb: Verb, call: impl Future<Output = Result<T>>) -> Result<(T, bool)> {
        let fault = self.called(verb);
        match fault {
            Some(Fault::Fail(kind)) => return Err(self.error(verb, kind)),
            Some(Fault::Refuse) => {
                return Err(self.error(verb, ErrorKind::Backend).with_refused_write());
            }
            Some(Fault::Hang) => std::future::pending::<()>().await,
            Some(Fault::Delay(delay)) => tokio::time::sleep(delay).await,
            _ => {}
        }
        let answer = call.await?;
        match fault {
            Some(Fault::FailAfter(kind)) => Err(self.error(verb, kind)),
            _ => Ok((answer, fault == Some(Fault::Corrupt))),
        }
    }

    async fn run_plain<T>(&self, verb: Verb, call: impl Future<Output = Result<T>>) -> Result<T> {
        Ok(self.run(verb, call).await?.0)
    }

    async fn run_value(
        &self,
        verb: Verb,
        key: &str,
        call: impl Future<Output = Result<Option<CacheValue>>>,
    ) -> Result<Option<CacheValue>> {
        let (found, damage) = self.run(verb, call).await?;
        Ok(if damage { found.map(|_| damaged(key)) } else { found })
    }

    /// A read of several keys, which has the faults of [`Verb::GetMany`].
    async fn run_values<T>(
        &self,
        keys: &[&str],
        call: impl Future<Output = Result<Vec<Result<Option<T>>>>>,
        value_of: impl Fn(&mut T) -> &mut CacheValue,
    ) -> Result<Vec<Result<Option<T>>>> {
        let (mut found, damage) = self.run(Verb::GetMany, call).await?;
        if damage {
            for (key, found) in keys.iter().zip(&mut found) {
                if let Ok(Some(found)) = found {
                    *value_of(found) = damaged(key);
                }
            }
        }
        Ok(found)
    }

    fn error(&self, verb: Verb, kind: ErrorKind) -> Error {
        Error::new(kind).with_backend(self.inner.backend().to_owned()).with_op(verb.name())
    }
}

/// A value of stored bytes that no codec can read.
fn damaged(key: &str) -> CacheValue {
    CacheValue::from_stored(
        key,
        Bytes::from_static(b"\xC1LD\x01 damaged by FaultyAdapter"),
        Codec::MessagePack,
    )
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<A: AsyncCacheAdapter> AsyncCacheAdapter for FaultyAdapter<A> {
    async fn get(&self, key: &str) -> Result<Option<CacheValue>> {
        self.run_value(Verb::Get, key, self.inner.get(key)).await
    }

    async fn set(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<()> {
        self.run_plain(Verb::Set, self.inner.set(key, value, expiry)).await
    }

    async fn remove(&self, key: &str) -> Result<bool> {
        self.run_plain(Verb::Remove, self.inner.remove(key)).await
    }

    async fn update_timeout(&self, key: &str, expiry: Expiry) -> Result<Option<CacheValue>> {
        self.run_value(Verb::UpdateTimeout, key, self.inner.update_timeout(key, expiry)).await
    }

    async fn clear(&self, prefix: &str) -> Result<()> {
        self.run_plain(Verb::Clear, self.inner.clear(prefix)).await
    }

    async fn add(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<bool> {
        self.run_plain(Verb::Add, self.inner.add(key, value, expiry)).await
    }

    async fn replace(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<bool> {
        self.run_plain(Verb::Replace, self.inner.replace(key, value, expiry)).await
    }

    async fn incr(&self, key: &str, by: i64, expiry: Expiry) -> Result<i64> {
        self.run_plain(Verb::Incr, self.inner.incr(key, by, expiry)).await
    }

    async fn take(&self, key: &str) -> Result<Option<CacheValue>> {
        self.run_value(Verb::Take, key, self.inner.take(key)).await
    }

    async fn expiry(&self, key: &str) -> Result<Option<Expiry>> {
        self.run_plain(Verb::Expiry, self.inner.expiry(key)).await
    }

    async fn contains(&self, key: &str) -> Result<bool> {
        self.run_plain(Verb::Contains, self.inner.contains(key)).await
    }

    /// Counted as [`Verb::Contains`], and has its faults.
    async fn presence(&self, key: &str) -> Result<Presence> {
        self.run_plain(Verb::Contains, self.inner.presence(key)).await
    }

    /// As [`presence`](AsyncCacheAdapter::presence).
    async fn presence_many(&self, keys: &[&str]) -> Result<Vec<Result<Presence>>> {
        self.run_plain(Verb::Contains, self.inner.presence_many(keys)).await
    }

    fn has_logical_ends(&self) -> bool {
        self.inner.has_logical_ends()
    }

    async fn touch(&self, key: &str, expiry: Expiry) -> Result<bool> {
        self.run_plain(Verb::Touch, self.inner.touch(key, expiry)).await
    }

    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Result<Option<CacheValue>>>> {
        self.run_values(keys, self.inner.get_many(keys), |value| value).await
    }

    async fn set_many(&self, entries: &[Entry<'_>]) -> Result<Vec<Result<()>>> {
        self.run_plain(Verb::SetMany, self.inner.set_many(entries)).await
    }

    async fn remove_many(&self, keys: &[&str]) -> Result<Vec<Result<bool>>> {
        self.run_plain(Verb::RemoveMany, self.inner.remove_many(keys)).await
    }

    async fn keys(&self, prefix: &str, after: Option<&KeyCursor>) -> Result<KeyPage> {
        self.run_plain(Verb::Keys, self.inner.keys(prefix, after)).await
    }

    fn get_if_ready(&self, key: &str, look: &mut dyn FnMut(&CacheValue)) -> Poll<Result<()>> {
        if self.faulty(Verb::Get) {
            return Poll::Pending;
        }
        let answer = self.inner.get_if_ready(key, look);
        if answer.is_ready() {
            self.called(Verb::Get);
        }
        answer
    }

    /// Counted as [`Verb::Get`], and has its faults.
    async fn get_near(&self, key: &str) -> Result<Option<NearEntry>> {
        let (mut found, damage) = self.run(Verb::Get, self.inner.get_near(key)).await?;
        if let Some(entry) = found.as_mut().filter(|_| damage) {
            entry.value = damaged(key);
        }
        Ok(found)
    }

    /// Counted as [`Verb::GetMany`], and has its faults.
    async fn get_many_near(&self, keys: &[&str]) -> Result<Vec<Result<Option<NearEntry>>>> {
        self.run_values(keys, self.inner.get_many_near(keys), |entry| &mut entry.value).await
    }

    /// Counted as [`Verb::Get`], and has its faults.
    async fn get_far(&self, key: &str) -> Result<Option<CacheValue>> {
        self.run_value(Verb::Get, key, self.inner.get_far(key)).await
    }

    /// Counted as [`Verb::GetMany`], and has its faults.
    async fn get_many_far(&self, keys: &[&str]) -> Result<Vec<Result<Option<CacheValue>>>> {
        self.run_values(keys, self.inner.get_many_far(keys), |value| value).await
    }

    fn get_unproven(&self, key: &str, stale_for: Duration) -> Option<CacheValue> {
        self.inner.get_unproven(key, stale_for)
    }

    fn follow(&self, follower: Follower) -> bool {
        self.inner.follow(follower)
    }

    fn near_stats(&self) -> Option<NearStats> {
        self.inner.near_stats()
    }

    fn enforces_claims(&self) -> bool {
        self.enforces_claims && self.inner.enforces_claims()
    }

    fn is_shared(&self) -> bool {
        self.inner.is_shared()
    }

    async fn claim(&self, key: &str, lease: Option<Duration>) -> Result<Option<Claim>> {
        self.run_plain(Verb::Claim, async {
            if self.enforces_claims {
                return self.inner.claim(key, lease).await;
            }
            crate::key::check(key)?;
            Ok(Some(Claim::unguarded()))
        })
        .await
    }

    async fn set_claimed(
        &self,
        key: &str,
        value: CacheValue,
        expiry: Expiry,
        claim: &Claim,
    ) -> Result<bool> {
        self.run_plain(Verb::SetClaimed, async {
            if self.enforces_claims {
                return self.inner.set_claimed(key, value, expiry, claim).await;
            }
            self.inner.set(key, value, expiry).await.map(|()| true)
        })
        .await
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

    /// Counted as [`Verb::GetMany`] and [`Verb::Claim`], and has their faults.
    async fn get_or_claim_many(&self, keys: &[&str]) -> Result<Vec<Result<FoundOrClaimed>>> {
        get_or_claim_each(self, keys).await
    }

    /// Counted as [`Verb::SetClaimed`], once for each entry, and has its faults.
    async fn set_claimed_many(&self, entries: &[ClaimedEntry<'_>]) -> Result<Vec<Result<bool>>> {
        set_claimed_each(self, entries).await
    }

    async fn release(&self, key: &str, claim: &Claim) -> Result<()> {
        self.run_plain(Verb::Release, async {
            if self.enforces_claims {
                return self.inner.release(key, claim).await;
            }
            crate::key::check(key)
        })
        .await
    }

    fn subscribe(&self, sink: EventSink) {
        self.inner.subscribe(sink);
    }

    async fn connect(&self) -> Result<()> {
        self.run_plain(Verb::Connect, self.inner.connect()).await
    }

    async fn ping(&self) -> Result<()> {
        self.run_plain(Verb::Ping, self.inner.ping()).await
    }

    async fn close(&self) -> Result<()> {
        self.run_plain(Verb::Close, self.inner.close()).await
    }

    async fn reconnect(&self) -> Result<()> {
        self.run_plain(Verb::Reconnect, self.inner.reconnect()).await
    }

    /// A rebuild is no future, so [`Fault::Delay`] and [`Fault::Hang`] do not apply.
    fn rebuild(&self) -> Result<Arc<dyn AsyncCacheAdapter>> {
        let fault = self.called(Verb::Rebuild);
        if let Some(Fault::Fail(kind) | Fault::FailAfter(kind)) = fault {
            return Err(self.error(Verb::Rebuild, kind));
        }
        Ok(Arc::new(FaultyAdapter {
            inner: self.inner.rebuild()?,
            enforces_claims: self.enforces_claims,
            board: self.board.clone(),
        }))
    }

    fn size(&self) -> StoreSize {
        self.inner.size()
    }

    fn default_ttl(&self) -> Lifetime {
        self.inner.default_ttl()
    }

    fn backend(&self) -> &str {
        self.inner.backend()
    }
}

impl<A: AsyncCacheAdapter> fmt::Debug for FaultyAdapter<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyAdapter")
            .field("inner", &self.inner.backend())
            .field("board", &*lock(&self.board))
            .finish()
    }
}
