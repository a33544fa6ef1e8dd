//! The contract for `Arc` and `Box` of an adapter.

use crate::adapter::{
    AsyncCacheAdapter, Claim, ClaimedEntry, Entry, Follower, FoundOrClaimed, KeyCursor, KeyPage,
    NearEntry, Presence, StoreSize,
};
use crate::error::Result;
use crate::expiry::{Expiry, Lifetime};
use crate::observers::EventSink;
use crate::stats::NearStats;
use crate::value::CacheValue;
use async_trait::async_trait;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

macro_rules! forward {
    ($pointer:ty) => {
        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<A: AsyncCacheAdapter + ?Sized> AsyncCacheAdapter for $pointer {
            // The hot methods return the inner future: an `async fn` would box it a second time.
            // The signatures are those that `async_trait` generates for the trait's `async fn`.
            fn get<'s, 'k, 'f>(&'s self, key: &'k str) -> BoxFuture<'f, Result<Option<CacheValue>>>
            where
                's: 'f,
                'k: 'f,
                Self: 'f,
            {
                (**self).get(key)
            }

            fn set<'s, 'k, 'f>(
                &'s self,
                key: &'k str,
                value: CacheValue,
                expiry: Expiry,
            ) -> BoxFuture<'f, Result<()>>
            where
                's: 'f,
                'k: 'f,
                Self: 'f,
            {
                (**self).set(key, value, expiry)
            }

            async fn remove(&self, key: &str) -> Result<bool> {
                (**self).remove(key).await
            }

            async fn update_timeout(
                &self,
                key: &str,
                expiry: Expiry,
            ) -> Result<Option<CacheValue>> {
                (**self).update_timeout(key, expiry).await
            }

            async fn clear(&self, prefix: &str) -> Result<()> {
                (**self).clear(prefix).await
            }

            async fn add(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<bool> {
                (**self).add(key, value, expiry).await
            }

            async fn replace(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<bool> {
                (**self).replace(key, value, expiry).await
            }

            async fn incr(&self, key: &str, by: i64, expiry: Expiry) -> Result<i64> {
                (**self).incr(key, by, expiry).await
            }

            async fn take(&self, key: &str) -> Result<Option<CacheValue>> {
                (**self).take(key).await
            }

            async fn expiry(&self, key: &str) -> Result<Option<Expiry>> {
                (**self).expiry(key).await
            }

            async fn keys(&self, prefix: &str, after: Option<&KeyCursor>) -> Result<KeyPage> {
                (**self).keys(prefix, after).await
            }

            async fn contains(&self, key: &str) -> Result<bool> {
                (**self).contains(key).await
            }

            async fn presence(&self, key: &str) -> Result<Presence> {
                (**self).presence(key).await
            }

            async fn presence_many(&self, keys: &[&str]) -> Result<Vec<Result<Presence>>> {
                (**self).presence_many(keys).await
            }

            fn has_logical_ends(&self) -> bool {
                (**self).has_logical_ends()
            }

            async fn touch(&self, key: &str, expiry: Expiry) -> Result<bool> {
                (**self).touch(key, expiry).await
            }

            async fn get_many(&self, keys: &[&str]) -> Result<Vec<Result<Option<CacheValue>>>> {
                (**self).get_many(keys).await
            }

            async fn set_many(&self, entries: &[Entry<'_>]) -> Result<Vec<Result<()>>> {
                (**self).set_many(entries).await
            }

            async fn remove_many(&self, keys: &[&str]) -> Result<Vec<Result<bool>>> {
                (**self).remove_many(keys).await
            }

            fn get_if_ready(
                &self,
                key: &str,
                look: &mut dyn FnMut(&CacheValue),
            ) -> Poll<Result<()>> {
                (**self).get_if_ready(key, look)
            }

            fn get_near<'s, 'k, 'f>(
                &'s self,
                key: &'k str,
            ) -> BoxFuture<'f, Result<Option<NearEntry>>>
            where
                's: 'f,
                'k: 'f,
                Self: 'f,
            {
                (**self).get_near(key)
            }

            async fn get_many_near(&self, keys: &[&str]) -> Result<Vec<Result<Option<NearEntry>>>> {
                (**self).get_many_near(keys).await
            }

            async fn get_far(&self, key: &str) -> Result<Option<CacheValue>> {
                (**self).get_far(key).await
            }

            async fn get_many_far(&self, keys: &[&str]) -> Result<Vec<Result<Option<CacheValue>>>> {
                (**self).get_many_far(keys).await
            }

            fn get_unproven(&self, key: &str, stale_for: Duration) -> Option<CacheValue> {
                (**self).get_unproven(key, stale_for)
            }

            fn follow(&self, follower: Follower) -> bool {
                (**self).follow(follower)
            }

            fn near_stats(&self) -> Option<NearStats> {
                (**self).near_stats()
            }

            fn enforces_claims(&self) -> bool {
                (**self).enforces_claims()
            }

            fn is_shared(&self) -> bool {
                (**self).is_shared()
            }

            async fn claim(&self, key: &str, lease: Option<Duration>) -> Result<Option<Claim>> {
                (**self).claim(key, lease).await
            }

            async fn set_claimed(
                &self,
                key: &str,
                value: CacheValue,
                expiry: Expiry,
                claim: &Claim,
            ) -> Result<bool> {
                (**self).set_claimed(key, value, expiry, claim).await
            }

            fn claim_if_ready(&self, key: &str) -> Poll<Result<Claim>> {
                (**self).claim_if_ready(key)
            }

            fn set_claimed_if_ready(
                &self,
                key: &str,
                value: &CacheValue,
                expiry: Expiry,
                claim: &Claim,
            ) -> Poll<Result<bool>> {
                (**self).set_claimed_if_ready(key, value, expiry, claim)
            }

            async fn get_or_claim_many(
                &self,
                keys: &[&str],
            ) -> Result<Vec<Result<FoundOrClaimed>>> {
                (**self).get_or_claim_many(keys).await
            }

            async fn set_claimed_many(
                &self,
                entries: &[ClaimedEntry<'_>],
            ) -> Result<Vec<Result<bool>>> {
                (**self).set_claimed_many(entries).await
            }

            async fn release(&self, key: &str, claim: &Claim) -> Result<()> {
                (**self).release(key, claim).await
            }

            fn subscribe(&self, sink: EventSink) {
                (**self).subscribe(sink);
            }

            async fn connect(&self) -> Result<()> {
                (**self).connect().await
            }

            async fn ping(&self) -> Result<()> {
                (**self).ping().await
            }

            async fn close(&self) -> Result<()> {
                (**self).close().await
            }

            async fn reconnect(&self) -> Result<()> {
                (**self).reconnect().await
            }

            fn rebuild(&self) -> Result<Arc<dyn AsyncCacheAdapter>> {
                (**self).rebuild()
            }

            fn size(&self) -> StoreSize {
                (**self).size()
            }

            fn default_ttl(&self) -> Lifetime {
                (**self).default_ttl()
            }

            fn backend(&self) -> &str {
                (**self).backend()
            }
        }
    };
}

forward!(Arc<A>);
forward!(Box<A>);
