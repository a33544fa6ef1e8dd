//! The adapter trait, verb by verb.

use super::AsyncRedisCache;
use super::commands::Condition;
use super::connection::source::Source;
use super::errors::BACKEND;
use crate::adapter::{
    AsyncCacheAdapter, Claim, ClaimedEntry, Entry, Follower, FoundOrClaimed, KeyCursor, KeyPage,
    NearEntry, Presence,
};
use crate::error::{Error, Result};
use crate::expiry::{Expiry, Lifetime};
use crate::observers::EventSink;
use crate::value::CacheValue;
use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;

#[async_trait]
impl AsyncCacheAdapter for AsyncRedisCache {
    async fn get(&self, key: &str) -> Result<Option<CacheValue>> {
        self.call("get", key)?.get().await
    }

    async fn set(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<()> {
        self.call("set", key)?.store(&value, expiry, Condition::None).await.map(drop)
    }

    async fn remove(&self, key: &str) -> Result<bool> {
        self.call("remove", key)?.remove().await
    }

    async fn update_timeout(&self, key: &str, expiry: Expiry) -> Result<Option<CacheValue>> {
        self.call("update_timeout", key)?.update_timeout(expiry).await
    }

    async fn clear(&self, prefix: &str) -> Result<()> {
        self.clear_prefix(prefix)
            .await
            .map_err(|error| error.with_backend(BACKEND).with_op("clear"))
    }

    async fn add(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<bool> {
        self.call("add", key)?.store(&value, expiry, Condition::Missing).await
    }

    async fn replace(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<bool> {
        self.call("replace", key)?.store(&value, expiry, Condition::Live).await
    }

    async fn incr(&self, key: &str, by: i64, expiry: Expiry) -> Result<i64> {
        self.call("incr", key)?.increase(by, expiry).await
    }

    async fn take(&self, key: &str) -> Result<Option<CacheValue>> {
        self.call("take", key)?.take().await
    }

    async fn expiry(&self, key: &str) -> Result<Option<Expiry>> {
        self.call("expiry", key)?.expiry().await
    }

    async fn contains(&self, key: &str) -> Result<bool> {
        self.call("contains", key)?.contains().await
    }

    async fn keys(&self, prefix: &str, after: Option<&KeyCursor>) -> Result<KeyPage> {
        self.page_of_keys(prefix, after).await
    }

    async fn presence(&self, key: &str) -> Result<Presence> {
        self.call("presence", key)?.presence().await
    }

    async fn presence_many(&self, keys: &[&str]) -> Result<Vec<Result<Presence>>> {
        let named = |error: Error| error.with_backend(BACKEND).with_op("presence_many");
        self.presence_batch(keys).await.map_err(named)
    }

    fn has_logical_ends(&self) -> bool {
        self.shared.config.settings.codec.has_logical_ends()
    }

    async fn touch(&self, key: &str, expiry: Expiry) -> Result<bool> {
        self.call("touch", key)?.touch(expiry).await
    }

    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Result<Option<CacheValue>>>> {
        self.get_batch(keys).await.map_err(|error| error.with_backend(BACKEND).with_op("get_many"))
    }

    async fn set_many(&self, entries: &[Entry<'_>]) -> Result<Vec<Result<()>>> {
        self.set_batch(entries)
            .await
            .map_err(|error| error.with_backend(BACKEND).with_op("set_many"))
    }

    async fn remove_many(&self, keys: &[&str]) -> Result<Vec<Result<bool>>> {
        self.remove_batch(keys)
            .await
            .map_err(|error| error.with_backend(BACKEND).with_op("remove_many"))
    }

    async fn get_near(&self, key: &str) -> Result<Option<NearEntry>> {
        self.call("get_near", key)?.get_near().await
    }

    async fn get_many_near(&self, keys: &[&str]) -> Result<Vec<Result<Option<NearEntry>>>> {
        let named = |error: Error| error.with_backend(BACKEND).with_op("get_many_near");
        self.get_near_batch(keys).await.map_err(named)
    }

    /// Connections that are open are replaced by others, over which the server tells of changes.
    fn follow(&self, follower: Follower) -> bool {
        self.shared.following.set(follower);
        // A call from now on opens connections that tell. Calls in flight finish on their own.
        self.disconnect();
        matches!(self.shared.source, Source::Endpoint(_))
    }

    fn enforces_claims(&self) -> bool {
        true
    }

    async fn claim(&self, key: &str, lease: Option<Duration>) -> Result<Option<Claim>> {
        self.call("claim", key)?.claim(lease).await
    }

    async fn set_claimed(
        &self,
        key: &str,
        value: CacheValue,
        expiry: Expiry,
        claim: &Claim,
    ) -> Result<bool> {
        self.call("set_claimed", key)?.set_claimed(&value, expiry, claim).await
    }

    async fn get_or_claim_many(&self, keys: &[&str]) -> Result<Vec<Result<FoundOrClaimed>>> {
        let named = |error: Error| error.with_backend(BACKEND).with_op("get_or_claim_many");
        self.get_or_claim_batch(keys).await.map_err(named)
    }

    async fn set_claimed_many(&self, entries: &[ClaimedEntry<'_>]) -> Result<Vec<Result<bool>>> {
        let named = |error: Error| error.with_backend(BACKEND).with_op("set_claimed_many");
        self.set_claimed_batch(entries).await.map_err(named)
    }

    async fn release(&self, key: &str, claim: &Claim) -> Result<()> {
        self.call("release", key)?.release(claim).await
    }

    fn subscribe(&self, sink: EventSink) {
        self.shared.sinks.add(sink);
    }

    async fn connect(&self) -> Result<()> {
        let lanes = self.lanes()?;
        self.ping_all("connect", lanes.lanes.iter()).await
    }

    async fn ping(&self) -> Result<()> {
        let lanes = self.lanes()?;
        self.ping_all("ping", lanes.lanes.iter().take(1)).await
    }

    /// Drops the connections of all runtimes. Calls in flight finish on their connections.
    async fn close(&self) -> Result<()> {
        self.disconnect();
        Ok(())
    }

    fn rebuild(&self) -> Result<Arc<dyn AsyncCacheAdapter>> {
        Ok(Arc::new(Self::assemble(self.shared.config.clone(), self.shared.source.clone())))
    }

    fn default_ttl(&self) -> Lifetime {
        self.shared.config.settings.default_ttl
    }

    fn backend(&self) -> &str {
        BACKEND
    }
}
