//! The adapter trait: what each operation asks of a lane.

use super::connection::command::Command;
use super::connection::{Stored, Want, Write};
use super::errors::{BACKEND, about};
use super::fencing::{self, ClaimToken, ClaimedWrite};
use super::judging::Found;
use super::ops::{Count, Each};
use super::ttl::{self, Ttl};
use super::{AsyncMemcachedCache, builder::Config};
use crate::adapter::{AsyncCacheAdapter, Claim, Entry, NearEntry};
use crate::codec::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::expiry::{Expiry, Lifetime};
use crate::value::CacheValue;
use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;

#[async_trait]
impl AsyncCacheAdapter for AsyncMemcachedCache {
    async fn get(&self, key: &str) -> Result<Option<CacheValue>> {
        Ok(self.fetch("get", key, Want::Value).await?.map(|found| found.value))
    }

    async fn set(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<()> {
        crate::key::check(key).map_err(|error| about(error, "set", key))?;
        let stored = self.encode("set", key, &value).await?;
        let Some(ttl) = self.ttl(expiry) else {
            return self.delete("set", key).await.map(drop);
        };
        let answer = self
            .ask_about("set", key, |key, reply| {
                Command::Store(vec![Write { key, stored, ttl }], reply)
            })
            .await?;
        only(answer).map_err(|error| about(error, "set", key))
    }

    async fn remove(&self, key: &str) -> Result<bool> {
        self.delete("remove", key).await
    }

    async fn update_timeout(&self, key: &str, expiry: Expiry) -> Result<Option<CacheValue>> {
        let found = match self.ttl(expiry) {
            Some(ttl) => {
                self.ask_about("update_timeout", key, |key, reply| {
                    Command::Touch(key, ttl, Want::Value, reply)
                })
                .await?
            }
            None => self.ask_about("update_timeout", key, Command::Take).await?,
        };
        Ok(found.map(|found| found.value))
    }

    async fn clear(&self, prefix: &str) -> Result<()> {
        self.clear_prefix(prefix).await
    }

    async fn add(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<bool> {
        crate::key::check(key).map_err(|error| about(error, "add", key))?;
        let stored = self.stored(key, &value).map_err(|error| about(error, "add", key))?;
        match self.ttl(expiry) {
            Some(ttl) => {
                self.ask_about("add", key, |key, reply| {
                    Command::Add(Write { key, stored, ttl }, reply)
                })
                .await
            }
            None => Ok(self.fetch("add", key, Want::Meta).await?.is_none()),
        }
    }

    async fn replace(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<bool> {
        crate::key::check(key).map_err(|error| about(error, "replace", key))?;
        let stored = self.encode("replace", key, &value).await?;
        match self.ttl(expiry) {
            Some(ttl) => {
                self.ask_about("replace", key, |key, reply| {
                    Command::Replace(Write { key, stored, ttl }, reply)
                })
                .await
            }
            None => self.delete("replace", key).await,
        }
    }

    async fn incr(&self, key: &str, by: i64, expiry: Expiry) -> Result<i64> {
        let ttl = self.ttl(expiry);
        self.ask_about("incr", key, |key, reply| Command::Count(Count { key, by, ttl }, reply))
            .await
    }

    async fn take(&self, key: &str) -> Result<Option<CacheValue>> {
        Ok(self.ask_about("take", key, Command::Take).await?.map(|found| found.value))
    }

    async fn expiry(&self, key: &str) -> Result<Option<Expiry>> {
        Ok(self.fetch("expiry", key, Want::Meta).await?.map(|found| ttl::expiry(found.remaining)))
    }

    async fn contains(&self, key: &str) -> Result<bool> {
        Ok(self.fetch("contains", key, Want::Meta).await?.is_some())
    }

    fn has_logical_ends(&self) -> bool {
        self.inner.config.settings.codec.has_logical_ends()
    }

    async fn touch(&self, key: &str, expiry: Expiry) -> Result<bool> {
        match self.ttl(expiry) {
            Some(ttl) => Ok(self
                .ask_about("touch", key, |key, reply| Command::Touch(key, ttl, Want::Meta, reply))
                .await?
                .is_some()),
            None => self.delete("touch", key).await,
        }
    }

    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Result<Option<CacheValue>>>> {
        self.fetch_batch(keys, |found| found.value).await
    }

    /// The server says with the value how long it still keeps it. It tells nobody of changes, so
    /// nobody vouches for the value.
    async fn get_near(&self, key: &str) -> Result<Option<NearEntry>> {
        Ok(self.fetch("get", key, Want::Value).await?.map(Found::near))
    }

    async fn get_many_near(&self, keys: &[&str]) -> Result<Vec<Result<Option<NearEntry>>>> {
        self.fetch_batch(keys, Found::near).await
    }

    async fn set_many(&self, entries: &[Entry<'_>]) -> Result<Vec<Result<()>>> {
        self.store_batch(entries).await
    }

    async fn remove_many(&self, keys: &[&str]) -> Result<Vec<Result<bool>>> {
        self.remove_batch(keys).await
    }

    /// Not under the codecs that other programs read.
    fn enforces_claims(&self) -> bool {
        self.inner.config.settings.codec == Codec::MessagePack
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn claim(&self, key: &str, lease: Option<Duration>) -> Result<Option<Claim>> {
        self.take_claim(key, lease).await
    }

    async fn set_claimed(
        &self,
        key: &str,
        value: CacheValue,
        expiry: Expiry,
        claim: &Claim,
    ) -> Result<bool> {
        match claim.token() {
            Some(token) => self.store_claimed(key, &value, expiry, token).await,
            None => self.set(key, value, expiry).await.map(|()| true),
        }
    }

    async fn release(&self, key: &str, claim: &Claim) -> Result<()> {
        self.release_claim(key, claim).await
    }

    async fn connect(&self) -> Result<()> {
        self.ask_all("connect", Command::Ping).await
    }

    async fn ping(&self) -> Result<()> {
        self.ask_all("ping", Command::Ping).await
    }

    async fn close(&self) -> Result<()> {
        // Each lane, with its connection, ends when it has answered the commands that it has begun.
        self.inner.homes.clear();
        self.inner.servers.iter().for_each(|server| server.availability.open());
        Ok(())
    }

    fn rebuild(&self) -> Result<Arc<dyn AsyncCacheAdapter>> {
        Ok(Arc::new(Self::from_config(self.inner.config.clone())))
    }

    fn default_ttl(&self) -> Lifetime {
        self.inner.config.settings.default_ttl
    }

    fn backend(&self) -> &str {
        BACKEND
    }
}

impl AsyncMemcachedCache {
    async fn fetch(&self, op: &'static str, key: &str, want: Want) -> Result<Option<Found>> {
        let found =
            self.ask_about(op, key, |wire, reply| Command::Fetch(vec![wire], want, reply)).await?;
        only(found).map_err(|error| about(error, op, key))
    }

    async fn delete(&self, op: &'static str, key: &str) -> Result<bool> {
        let removed =
            self.ask_about(op, key, |wire, reply| Command::Remove(vec![wire], reply)).await?;
        only(removed).map_err(|error| about(error, op, key))
    }

    /// Encodes a value. A value that is too large is an error, and the older value is removed.
    async fn encode(&self, op: &'static str, key: &str, value: &CacheValue) -> Result<Stored> {
        match self.stored(key, value) {
            Err(error) if error.kind() == ErrorKind::TooLarge => {
                self.delete(op, key).await?;
                Err(about(error, op, key))
            }
            stored => stored.map_err(|error| about(error, op, key)),
        }
    }

    fn stored(&self, key: &str, value: &CacheValue) -> Result<Stored> {
        self.stored_under(&self.inner.config.settings.scope.key(key)?, value)
    }

    /// [`stored`](Self::stored), for a key that includes its prefix.
    pub(super) fn stored_under(&self, text: &str, value: &CacheValue) -> Result<Stored> {
        let Config { settings, max_value_bytes, .. } = &self.inner.config;
        let bytes = value.to_stored(text, settings.codec)?;
        if bytes.len() > *max_value_bytes {
            let message = format!(
                "the value is too large: {} bytes as stored, the limit is {max_value_bytes}",
                bytes.len()
            );
            return Err(Error::new(ErrorKind::TooLarge).with_message(message));
        }
        Ok(Stored { bytes, may_be_stale: value.meta().has_stale_window() })
    }

    /// The lifetime for the server; `None` for a lifetime of zero.
    pub(super) fn ttl(&self, expiry: Expiry) -> Option<Ttl> {
        Ttl::new(self.inner.config.settings.resolve(expiry))
    }

    async fn take_claim(&self, key: &str, wanted: Option<Duration>) -> Result<Option<Claim>> {
        if !self.enforces_claims() {
            return crate::key::check(key)
                .map(|()| Some(Claim::unguarded()))
                .map_err(|error| about(error, "claim", key));
        }
        let lease = fencing::lease(wanted);
        let token =
            self.ask_about("claim", key, |key, reply| Command::Claim(key, lease, reply)).await?;
        Ok(token.map(ClaimToken::to_claim))
    }

    async fn store_claimed(
        &self,
        key: &str,
        value: &CacheValue,
        expiry: Expiry,
        claim: &[u8],
    ) -> Result<bool> {
        crate::key::check(key).map_err(|error| about(error, "set_claimed", key))?;
        let Some(token) = ClaimToken::read(claim) else { return Ok(false) };
        let (value, refused) = match self.stored(key, value) {
            Ok(stored) => (self.ttl(expiry).map(|ttl| (stored, ttl)), None),
            // The old value is removed, unless another caller has replaced it meanwhile.
            Err(error) if error.kind() == ErrorKind::TooLarge => (None, Some(error)),
            Err(error) => return Err(about(error, "set_claimed", key)),
        };
        let stored = self
            .ask_about("set_claimed", key, |key, reply| {
                Command::SetClaimed(ClaimedWrite { key, value, token }, reply)
            })
            .await?;
        refused.map_or(Ok(stored), |error| Err(about(error, "set_claimed", key)))
    }

    async fn release_claim(&self, key: &str, claim: &Claim) -> Result<()> {
        crate::key::check(key).map_err(|error| about(error, "release", key))?;
        match claim.token().and_then(ClaimToken::read) {
            Some(token) => {
                self.ask_about("release", key, |key, reply| Command::Release(key, token, reply))
                    .await
            }
            None => Ok(()),
        }
    }
}

fn only<T>(each: Each<T>) -> Result<T> {
    let missing = || Err(Error::new(ErrorKind::Backend).with_message("the key got no result"));
    each.into_iter().next().unwrap_or_else(missing)
}
