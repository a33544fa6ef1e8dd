//! The methods of the contract: reads look near first, writes void what is near, and all else is
//! the far store's.

use super::Tiered;
use super::core::Joining;
use super::reads::{FarRead, Start, Waited};
use crate::adapter::{
    AsyncCacheAdapter, Claim, ClaimedEntry, Entry, Follower, FoundOrClaimed, KeyCursor, KeyPage,
    NearEntry, Presence, StoreSize,
};
use crate::error::Result;
use crate::expiry::{Expiry, Lifetime};
use crate::key;
use crate::observers::EventSink;
use crate::stats::NearStats;
use crate::value::CacheValue;
use async_trait::async_trait;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

type Found = Result<Option<CacheValue>>;

impl<A: AsyncCacheAdapter> Tiered<A> {
    /// Reads a key that is not near.
    async fn read(&self, key: &str, mut joining: Joining) -> Found {
        loop {
            match self.level.begin(key, joining) {
                Start::Send(read) => {
                    if let Some(value) = self.near_by_now(key, joining) {
                        return Ok(Some(value));
                    }
                    read.count();
                    return read.end(self.far.get_near(key).await);
                }
                // Boxed: it has a timer, and most reads join no other.
                Start::Wait(joined) => match Box::pin(joined.answer()).await {
                    Waited::Answer(answer) => return answer,
                    Waited::Abandoned => {}
                    Waited::InVain => joining = Joining::No,
                },
            }
        }
    }

    /// What another caller's read may have brought since the look near: of many callers that miss at
    /// the same time, one asks the far store.
    fn near_by_now(&self, key: &str, joining: Joining) -> Option<CacheValue> {
        (joining == Joining::Allowed).then(|| self.level.get_again(key)).flatten()
    }

    /// Reads several keys that are not near: those that nobody else reads in one batch.
    async fn read_all(&self, keys: &[&str], joining: Joining) -> Result<Vec<Found>> {
        let mut found: Vec<Option<Found>> = keys.iter().map(|_| None).collect();
        let (mut sent, mut joined) = (Vec::new(), Vec::new());
        for (at, key) in keys.iter().enumerate() {
            match self.level.begin(key, joining) {
                Start::Send(read) => match self.near_by_now(key, joining) {
                    Some(value) => found[at] = Some(Ok(Some(value))),
                    None => sent.push((at, read)),
                },
                Start::Wait(waits) => joined.push((at, waits)),
            }
        }
        self.send_all(sent, &mut found).await?;
        for (at, waits) in joined {
            found[at] = Some(match waits.answer().await {
                Waited::Answer(answer) => answer,
                Waited::Abandoned => self.read(keys[at], joining).await,
                Waited::InVain => self.read(keys[at], Joining::No).await,
            });
        }
        Ok(found.into_iter().map(|found| found.unwrap_or(Ok(None))).collect())
    }

    async fn send_all(
        &self,
        sent: Vec<(usize, FarRead<'_>)>,
        found: &mut [Option<Found>],
    ) -> Result<()> {
        if sent.is_empty() {
            return Ok(());
        }
        sent.iter().for_each(|(_, read)| read.count());
        let keys: Vec<&str> = sent.iter().map(|(_, read)| read.key).collect();
        match self.far.get_many_near(&keys).await {
            Ok(answers) => {
                for ((at, read), answer) in sent.into_iter().zip(answers) {
                    found[at] = Some(read.end(answer));
                }
                Ok(())
            }
            Err(error) => {
                sent.into_iter().for_each(|(_, read)| drop(read.end(Err(error.clone()))));
                Err(error)
            }
        }
    }

    /// Reads several keys: what is near, and then the others.
    async fn find_all(&self, keys: &[&str]) -> Result<Vec<Found>> {
        key::check_all(keys.iter().copied())?;
        let near: Vec<_> = keys.iter().map(|key| self.level.get(key)).collect();
        let missing = keys.iter().zip(&near).filter(|(_, near)| near.is_none());
        let missing: Vec<&str> = missing.map(|(key, _)| *key).collect();
        let far = if missing.is_empty() {
            Vec::new()
        } else {
            self.read_all(&missing, Joining::Allowed).await?
        };
        let mut far = far.into_iter();
        let each = near.into_iter();
        Ok(each
            .map(|near| near.map_or_else(|| far.next().unwrap_or(Ok(None)), |it| Ok(Some(it))))
            .collect())
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<A: AsyncCacheAdapter> AsyncCacheAdapter for Tiered<A> {
    async fn get(&self, key: &str) -> Found {
        match self.level.get(key) {
            Some(value) => Ok(Some(value)),
            None => self.read(key, Joining::Allowed).await,
        }
    }

    async fn set(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<()> {
        let _write = self.level.write(key);
        self.far.set(key, value, expiry).await
    }

    async fn remove(&self, key: &str) -> Result<bool> {
        let _write = self.level.write(key);
        self.far.remove(key).await
    }

    async fn update_timeout(&self, key: &str, expiry: Expiry) -> Found {
        let _write = self.level.write(key);
        self.far.update_timeout(key, expiry).await
    }

    async fn clear(&self, prefix: &str) -> Result<()> {
        let _write = self.level.clear(prefix);
        self.far.clear(prefix).await
    }

    async fn add(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<bool> {
        let _write = self.level.write(key);
        self.far.add(key, value, expiry).await
    }

    async fn replace(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<bool> {
        let _write = self.level.write(key);
        self.far.replace(key, value, expiry).await
    }

    async fn incr(&self, key: &str, by: i64, expiry: Expiry) -> Result<i64> {
        let _write = self.level.write(key);
        self.far.incr(key, by, expiry).await
    }

    async fn take(&self, key: &str) -> Found {
        let _write = self.level.write(key);
        self.far.take(key).await
    }

    async fn expiry(&self, key: &str) -> Result<Option<Expiry>> {
        self.far.expiry(key).await
    }

    async fn contains(&self, key: &str) -> Result<bool> {
        self.far.contains(key).await
    }

    /// Asks the far store: verbs that are about to write decide by it.
    async fn presence(&self, key: &str) -> Result<Presence> {
        self.far.presence(key).await
    }

    async fn presence_many(&self, keys: &[&str]) -> Result<Vec<Result<Presence>>> {
        self.far.presence_many(keys).await
    }

    fn has_logical_ends(&self) -> bool {
        self.far.has_logical_ends()
    }

    async fn touch(&self, key: &str, expiry: Expiry) -> Result<bool> {
        let _write = self.level.write(key);
        self.far.touch(key, expiry).await
    }

    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Found>> {
        self.find_all(keys).await
    }

    async fn set_many(&self, entries: &[Entry<'_>]) -> Result<Vec<Result<()>>> {
        let _writes = self.level.write_all(entries.iter().map(|entry| entry.key));
        self.far.set_many(entries).await
    }

    async fn remove_many(&self, keys: &[&str]) -> Result<Vec<Result<bool>>> {
        let _writes = self.level.write_all(keys.iter().copied());
        self.far.remove_many(keys).await
    }

    async fn keys(&self, prefix: &str, after: Option<&KeyCursor>) -> Result<KeyPage> {
        self.far.keys(prefix, after).await
    }

    fn get_if_ready(&self, key: &str, look: &mut dyn FnMut(&CacheValue)) -> Poll<Result<()>> {
        if self.level.look(key, &mut *look) {
            return Poll::Ready(Ok(()));
        }
        self.far.get_if_ready(key, look)
    }

    /// For a near level before this one: what is near here has no source there.
    async fn get_near(&self, key: &str) -> Result<Option<NearEntry>> {
        self.far.get_near(key).await
    }

    async fn get_many_near(&self, keys: &[&str]) -> Result<Vec<Result<Option<NearEntry>>>> {
        self.far.get_many_near(keys).await
    }

    async fn get_far(&self, key: &str) -> Found {
        self.read(key, Joining::No).await
    }

    async fn get_many_far(&self, keys: &[&str]) -> Result<Vec<Found>> {
        key::check_all(keys.iter().copied())?;
        self.read_all(keys, Joining::No).await
    }

    fn get_unproven(&self, key: &str, stale_for: Duration) -> Option<CacheValue> {
        self.level.get_unproven(key, stale_for)
    }

    fn follow(&self, follower: Follower) -> bool {
        self.far.follow(follower)
    }

    fn near_stats(&self) -> Option<NearStats> {
        Some(self.level.stats())
    }

    fn enforces_claims(&self) -> bool {
        self.far.enforces_claims()
    }

    fn is_shared(&self) -> bool {
        self.far.is_shared()
    }

    async fn claim(&self, key: &str, lease: Option<Duration>) -> Result<Option<Claim>> {
        self.far.claim(key, lease).await
    }

    async fn set_claimed(
        &self,
        key: &str,
        value: CacheValue,
        expiry: Expiry,
        claim: &Claim,
    ) -> Result<bool> {
        let _write = self.level.write(key);
        self.far.set_claimed(key, value, expiry, claim).await
    }

    fn claim_if_ready(&self, key: &str) -> Poll<Result<Claim>> {
        self.far.claim_if_ready(key)
    }

    fn set_claimed_if_ready(
        &self,
        key: &str,
        value: &CacheValue,
        expiry: Expiry,
        claim: &Claim,
    ) -> Poll<Result<bool>> {
        let _write = self.level.write(key);
        self.far.set_claimed_if_ready(key, value, expiry, claim)
    }

    /// What is near or can be read is found, and only the others are claimed: their keys are read
    /// twice, and those that are found are near afterwards.
    async fn get_or_claim_many(&self, keys: &[&str]) -> Result<Vec<Result<FoundOrClaimed>>> {
        let found = self.find_all(keys).await?;
        let missing = keys.iter().zip(&found).filter(|(_, found)| matches!(found, Ok(None)));
        let missing: Vec<&str> = missing.map(|(key, _)| *key).collect();
        let claimed = if missing.is_empty() {
            Vec::new()
        } else {
            self.far.get_or_claim_many(&missing).await?
        };
        let mut claimed = claimed.into_iter();
        let answer = |found: Found| match found? {
            Some(value) => Ok(FoundOrClaimed::Found(value)),
            None => claimed.next().unwrap_or(Ok(FoundOrClaimed::Missing)),
        };
        Ok(found.into_iter().map(answer).collect())
    }

    async fn set_claimed_many(&self, entries: &[ClaimedEntry<'_>]) -> Result<Vec<Result<bool>>> {
        let _writes = self.level.write_all(entries.iter().map(|claimed| claimed.entry.key));
        self.far.set_claimed_many(entries).await
    }

    async fn release(&self, key: &str, claim: &Claim) -> Result<()> {
        self.far.release(key, claim).await
    }

    fn subscribe(&self, sink: EventSink) {
        self.level.subscribe(sink.clone());
        self.far.subscribe(sink);
    }

    async fn connect(&self) -> Result<()> {
        self.far.connect().await
    }

    async fn ping(&self) -> Result<()> {
        self.far.ping().await
    }

    async fn close(&self) -> Result<()> {
        let _write = self.level.clear("");
        self.far.close().await
    }

    async fn reconnect(&self) -> Result<()> {
        let _write = self.level.clear("");
        self.far.reconnect().await
    }

    /// The far adapter is built anew, and nothing is near.
    fn rebuild(&self) -> Result<Arc<dyn AsyncCacheAdapter>> {
        Ok(Arc::new(Tiered::assemble(self.far.rebuild()?, self.settings.clone())))
    }

    fn size(&self) -> StoreSize {
        self.far.size()
    }

    fn default_ttl(&self) -> Lifetime {
        self.far.default_ttl()
    }

    fn backend(&self) -> &str {
        self.far.backend()
    }
}
