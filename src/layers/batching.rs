//! The batching layer: calls of an adapter that wait are sent as batches.

use crate::adapter::{
    AsyncCacheAdapter, Claim, ClaimedEntry, Entry, Follower, FoundOrClaimed, KeyCursor, KeyPage,
    NearEntry, Presence, StoreSize,
};
use crate::batching::{BatchLeader, Batchable, Batcher, Limits};
use crate::error::{Error, Result};
use crate::expiry::{Expiry, Lifetime};
use crate::observers::EventSink;
use crate::runtime::PerRuntime;
use crate::stats::NearStats;
use crate::value::CacheValue;
use crate::{key, runtime};
use async_trait::async_trait;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

const BATCH_ABOVE: usize = 32;
const MAX_BATCH: usize = 256;
const MAX_BATCH_BYTES: usize = 1 << 20;

/// Sends the calls of an adapter in batches when there are many (micro-batching): calls that come
/// while others are in flight become one [`get_many`](AsyncCacheAdapter::get_many) or
/// [`set_many`](AsyncCacheAdapter::set_many).
///
/// While few calls are in flight each is sent by itself, at once. Batching begins with one call
/// more than [`batch_above`](Batching::batch_above), and ends when a batch has been answered and no
/// call waits. There is no timer. larder's own redis, memcached and sqlite adapters do the same
/// within their connections and do not need this layer. Use it for an adapter whose `get_many` and
/// `set_many` cost about as much as one call.
///
/// A key that fails does not make the others in its batch fail: each call has its own answer. If a
/// batch is refused as a whole, or the adapter panics in it, each call is sent by itself. The
/// operations on a key keep their order within a runtime, also if their callers have given up.
///
/// # Deadlines
///
/// The layer has no deadline of its own: a call waits for as long as the adapter takes for the
/// batch before it. To stop waiting, drop the future.
///
/// # Cancel safety
///
/// A call that is dropped while it waits is removed from the queue. A call that is dropped while it
/// is in flight does not affect the others in its batch.
///
/// # Example
///
/// ```
/// use larder::layers::Batching;
/// use larder::{AsyncCacheWrapper, AsyncMemoryCache};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
/// let batching = Batching::new(AsyncMemoryCache::new()).batch_above(8);
/// let cache = AsyncCacheWrapper::new(batching)?;
/// cache.set("hello", "world").await?;
/// assert_eq!(cache.get::<String>("hello").await?.as_deref(), Some("world"));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Batching<A> {
    adapter: Arc<A>,
    batch_above: usize,
    limits: Limits,
    batchers: PerRuntime<Batcher<Waiting>>,
}

impl<A: AsyncCacheAdapter> Batching<A> {
    /// Puts the layer around `adapter`.
    #[must_use]
    pub fn new(adapter: A) -> Self {
        Self::around(
            Arc::new(adapter),
            BATCH_ABOVE,
            Limits { entries: MAX_BATCH, bytes: MAX_BATCH_BYTES },
        )
    }

    fn around(adapter: Arc<A>, batch_above: usize, limits: Limits) -> Self {
        Self { adapter, batch_above, limits, batchers: PerRuntime::new() }
    }

    /// Sets how many calls are sent directly at the same time, before others wait for a batch.
    /// Default 32.
    #[must_use]
    pub fn batch_above(self, calls: usize) -> Self {
        Self::around(self.adapter, calls, self.limits)
    }

    /// Sets the most calls in a batch. Default 256; 0 and 1 turn batching off.
    #[must_use]
    pub fn max_batch(self, calls: usize) -> Self {
        let limits = Limits { entries: calls.max(1), ..self.limits };
        Self::around(self.adapter, self.batch_above, limits)
    }

    /// Sets the most bytes of keys and encoded values in a batch. Default 1 MiB. A larger value is
    /// sent by itself.
    #[must_use]
    pub fn max_batch_bytes(self, bytes: usize) -> Self {
        let limits = Limits { bytes, ..self.limits };
        Self::around(self.adapter, self.batch_above, limits)
    }

    /// The adapter inside.
    pub fn inner(&self) -> &A {
        &self.adapter
    }

    /// The batcher of the current runtime; `None` outside a runtime, where each call is sent by
    /// itself.
    fn batcher(&self) -> Option<Arc<Batcher<Waiting>>> {
        let home = Handle::try_current().ok()?;
        Some(
            self.batchers.get_or_insert_with(&home, || Batcher::new(self.batch_above, self.limits)),
        )
    }

    fn wait(&self, batcher: &Arc<Batcher<Waiting>>, waiting: Waiting) {
        if let Some(lead) = batcher.wait(waiting) {
            runtime::spawn(send_all(self.adapter.clone(), lead));
        }
    }

    /// Runs a call that is sent by itself, after the calls before it: an earlier call about its key
    /// may still be in flight although its caller has given up.
    async fn in_turn<T>(&self, key: Option<&str>, call: impl Future<Output = T>) -> T {
        let Some(batcher) = self.batcher() else { return call.await };
        let _pass = match batcher.pass() {
            Some(pass) => Some(pass),
            None => {
                let (reply, turn) = oneshot::channel();
                self.wait(&batcher, Waiting::Turn { key: key.map(hash), reply });
                // If the leader is lost, no call is in flight any more.
                let _ = turn.await;
                None
            }
        };
        call.await
    }
}

/// A call that waits. With the answer `None` its caller sends the call by itself.
#[derive(Debug)]
enum Waiting {
    Get {
        key: String,
        reply: oneshot::Sender<Option<Result<Option<CacheValue>>>>,
    },
    Set {
        key: String,
        value: CacheValue,
        expiry: Expiry,
        bytes: usize,
        reply: oneshot::Sender<Option<Result<()>>>,
    },
    Turn {
        key: Option<u64>,
        reply: oneshot::Sender<()>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Get,
    Set,
}

impl Batchable for Waiting {
    type Kind = Kind;

    fn kind(&self) -> Option<Kind> {
        match self {
            Self::Get { .. } => Some(Kind::Get),
            Self::Set { .. } => Some(Kind::Set),
            Self::Turn { .. } => None,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Get { key, .. } => key.len(),
            Self::Set { bytes, .. } => *bytes,
            Self::Turn { .. } => 0,
        }
    }

    fn is_over(&mut self, _: Instant) -> bool {
        match self {
            Self::Get { reply, .. } => reply.is_closed(),
            Self::Set { reply, .. } => reply.is_closed(),
            Self::Turn { reply, .. } => reply.is_closed(),
        }
    }

    fn keys(&self) -> impl Iterator<Item = u64> {
        match self {
            Self::Get { key, .. } | Self::Set { key, .. } => Some(hash(key)),
            Self::Turn { key, .. } => *key,
        }
        .into_iter()
    }
}

fn hash(key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

async fn send_all<A: AsyncCacheAdapter>(adapter: Arc<A>, mut lead: BatchLeader<Waiting>) {
    while let Some(batch) = lead.next() {
        send(&*adapter, batch).await;
    }
}

async fn send(adapter: &impl AsyncCacheAdapter, batch: Vec<Waiting>) {
    let (mut keys, mut readers) = (Vec::new(), Vec::new());
    let (mut writes, mut writers) = (Vec::new(), Vec::new());
    for waiting in batch {
        match waiting {
            Waiting::Get { key, reply } => {
                keys.push(key);
                readers.push(reply);
            }
            Waiting::Set { key, value, expiry, reply, .. } => {
                writes.push((key, value, expiry));
                writers.push(reply);
            }
            Waiting::Turn { reply, .. } => {
                // A caller that has given up needs no turn.
                let _ = reply.send(());
            }
        }
    }
    if !keys.is_empty() {
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        share(adapter.get_many(&keys).await, readers, "get");
    }
    if !writes.is_empty() {
        let entries: Vec<Entry<'_>> = writes
            .iter()
            .map(|(key, value, expiry)| Entry::new(key, value.clone(), *expiry))
            .collect();
        share(adapter.set_many(&entries).await, writers, "set");
    }
}

/// Gives each call its own answer. If the batch as a whole failed with an error that is not
/// retryable, each call is sent by itself.
fn share<T>(
    results: Result<Vec<Result<T>>>,
    replies: Vec<oneshot::Sender<Option<Result<T>>>>,
    op: &'static str,
) {
    let (mut results, failed) = match results {
        Ok(results) => (results.into_iter(), None),
        Err(error) => (Vec::new().into_iter(), Some(error).filter(Error::is_retryable)),
    };
    for reply in replies {
        let result = results.next().or_else(|| failed.clone().map(|error| Err(error.with_op(op))));
        // A caller that has given up needs no answer.
        let _ = reply.send(result);
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<A: AsyncCacheAdapter> AsyncCacheAdapter for Batching<A> {
    async fn get(&self, key: &str) -> Result<Option<CacheValue>> {
        key::check(key)?;
        let Some(batcher) = self.batcher() else { return self.adapter.get(key).await };
        let Some(_pass) = batcher.pass() else {
            let (reply, answer) = oneshot::channel();
            self.wait(&batcher, Waiting::Get { key: key.to_owned(), reply });
            return match answer.await {
                Ok(Some(answer)) => answer.map_err(|error| error.with_key(key)),
                Ok(None) | Err(_) => self.adapter.get(key).await,
            };
        };
        self.adapter.get(key).await
    }

    async fn set(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<()> {
        key::check(key)?;
        let Some(batcher) = self.batcher() else {
            return self.adapter.set(key, value, expiry).await;
        };
        let Some(_pass) = batcher.pass() else {
            let bytes = key.len() + value.encoded_len(crate::codec::Codec::MessagePack)?;
            let (reply, answer) = oneshot::channel();
            self.wait(
                &batcher,
                Waiting::Set { key: key.to_owned(), value: value.clone(), expiry, bytes, reply },
            );
            return match answer.await {
                Ok(Some(answer)) => answer.map_err(|error| error.with_key(key)),
                Ok(None) | Err(_) => self.adapter.set(key, value, expiry).await,
            };
        };
        self.adapter.set(key, value, expiry).await
    }

    async fn remove(&self, key: &str) -> Result<bool> {
        self.in_turn(Some(key), self.adapter.remove(key)).await
    }

    async fn update_timeout(&self, key: &str, expiry: Expiry) -> Result<Option<CacheValue>> {
        self.in_turn(Some(key), self.adapter.update_timeout(key, expiry)).await
    }

    async fn clear(&self, prefix: &str) -> Result<()> {
        self.in_turn(None, self.adapter.clear(prefix)).await
    }

    async fn add(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<bool> {
        self.in_turn(Some(key), self.adapter.add(key, value, expiry)).await
    }

    async fn replace(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<bool> {
        self.in_turn(Some(key), self.adapter.replace(key, value, expiry)).await
    }

    async fn incr(&self, key: &str, by: i64, expiry: Expiry) -> Result<i64> {
        self.in_turn(Some(key), self.adapter.incr(key, by, expiry)).await
    }

    async fn take(&self, key: &str) -> Result<Option<CacheValue>> {
        self.in_turn(Some(key), self.adapter.take(key)).await
    }

    async fn expiry(&self, key: &str) -> Result<Option<Expiry>> {
        self.in_turn(Some(key), self.adapter.expiry(key)).await
    }

    async fn contains(&self, key: &str) -> Result<bool> {
        self.in_turn(Some(key), self.adapter.contains(key)).await
    }

    async fn keys(&self, prefix: &str, after: Option<&KeyCursor>) -> Result<KeyPage> {
        self.in_turn(None, self.adapter.keys(prefix, after)).await
    }

    async fn presence(&self, key: &str) -> Result<Presence> {
        self.in_turn(Some(key), self.adapter.presence(key)).await
    }

    async fn presence_many(&self, keys: &[&str]) -> Result<Vec<Result<Presence>>> {
        self.in_turn(None, self.adapter.presence_many(keys)).await
    }

    fn has_logical_ends(&self) -> bool {
        self.adapter.has_logical_ends()
    }

    async fn touch(&self, key: &str, expiry: Expiry) -> Result<bool> {
        self.in_turn(Some(key), self.adapter.touch(key, expiry)).await
    }

    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Result<Option<CacheValue>>>> {
        self.in_turn(None, self.adapter.get_many(keys)).await
    }

    async fn set_many(&self, entries: &[Entry<'_>]) -> Result<Vec<Result<()>>> {
        self.in_turn(None, self.adapter.set_many(entries)).await
    }

    async fn remove_many(&self, keys: &[&str]) -> Result<Vec<Result<bool>>> {
        self.in_turn(None, self.adapter.remove_many(keys)).await
    }

    fn get_if_ready(&self, key: &str, look: &mut dyn FnMut(&CacheValue)) -> Poll<Result<()>> {
        self.adapter.get_if_ready(key, look)
    }

    async fn get_near(&self, key: &str) -> Result<Option<NearEntry>> {
        self.in_turn(Some(key), self.adapter.get_near(key)).await
    }

    async fn get_many_near(&self, keys: &[&str]) -> Result<Vec<Result<Option<NearEntry>>>> {
        self.in_turn(None, self.adapter.get_many_near(keys)).await
    }

    async fn get_far(&self, key: &str) -> Result<Option<CacheValue>> {
        self.in_turn(Some(key), self.adapter.get_far(key)).await
    }

    async fn get_many_far(&self, keys: &[&str]) -> Result<Vec<Result<Option<CacheValue>>>> {
        self.in_turn(None, self.adapter.get_many_far(keys)).await
    }

    fn get_unproven(&self, key: &str, stale_for: Duration) -> Option<CacheValue> {
        self.adapter.get_unproven(key, stale_for)
    }

    fn follow(&self, follower: Follower) -> bool {
        self.adapter.follow(follower)
    }

    fn near_stats(&self) -> Option<NearStats> {
        self.adapter.near_stats()
    }

    fn enforces_claims(&self) -> bool {
        self.adapter.enforces_claims()
    }

    fn is_shared(&self) -> bool {
        self.adapter.is_shared()
    }

    async fn claim(&self, key: &str, lease: Option<Duration>) -> Result<Option<Claim>> {
        self.in_turn(Some(key), self.adapter.claim(key, lease)).await
    }

    async fn set_claimed(
        &self,
        key: &str,
        value: CacheValue,
        expiry: Expiry,
        claim: &Claim,
    ) -> Result<bool> {
        self.in_turn(Some(key), self.adapter.set_claimed(key, value, expiry, claim)).await
    }

    /// Pending: a load waits its turn in the queue.
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
        self.in_turn(None, self.adapter.get_or_claim_many(keys)).await
    }

    async fn set_claimed_many(&self, entries: &[ClaimedEntry<'_>]) -> Result<Vec<Result<bool>>> {
        self.in_turn(None, self.adapter.set_claimed_many(entries)).await
    }

    async fn release(&self, key: &str, claim: &Claim) -> Result<()> {
        self.in_turn(Some(key), self.adapter.release(key, claim)).await
    }

    fn subscribe(&self, sink: EventSink) {
        self.adapter.subscribe(sink);
    }

    async fn connect(&self) -> Result<()> {
        self.adapter.connect().await
    }

    async fn ping(&self) -> Result<()> {
        self.adapter.ping().await
    }

    async fn close(&self) -> Result<()> {
        self.adapter.close().await
    }

    async fn reconnect(&self) -> Result<()> {
        self.adapter.reconnect().await
    }

    fn rebuild(&self) -> Result<Arc<dyn AsyncCacheAdapter>> {
        Ok(Arc::new(Batching::around(
            Arc::new(self.adapter.rebuild()?),
            self.batch_above,
            self.limits,
        )))
    }

    fn size(&self) -> StoreSize {
        self.adapter.size()
    }

    fn default_ttl(&self) -> Lifetime {
        self.adapter.default_ttl()
    }

    fn backend(&self) -> &str {
        self.adapter.backend()
    }
}
