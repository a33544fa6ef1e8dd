//! The adapter trait: what each operation asks of the engine.

use super::connection::database::Role::{Read, Write};
use super::keys::{From, Keys};
use super::presence::{Present, PresentMany};
use super::reads::Found;
use super::statements::{
    Add, CHUNK, CHUNK_BYTES, ExpiresAt, Increment, IncrementDecoded, Ping, PutMany, Remove,
    Replace, Stored, Take, Touch, Update,
};
use super::{AsyncSqliteCache, KIND, time};
use crate::adapter::{
    AsyncCacheAdapter, Claim, ClaimedEntry, Entry, Follower, FoundOrClaimed, KeyCursor, KeyPage,
    NearEntry, Presence, StoreSize, set_claimed_each,
};
use crate::error::{Error, ErrorKind, Result};
use crate::expiry::{Expiry, Lifetime};
use crate::key;
use crate::value::CacheValue;
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

#[async_trait]
impl AsyncCacheAdapter for AsyncSqliteCache {
    async fn get(&self, key: &str) -> Result<Option<CacheValue>> {
        self.named("get", key, async {
            let key = self.full(key)?;
            let found = self.engine.get(key.clone()).await?;
            Ok(found.map(|found| self.value(&key, found.value)))
        })
        .await
    }

    async fn get_near(&self, key: &str) -> Result<Option<NearEntry>> {
        self.named("get", key, async {
            let key = self.full(key)?;
            let near = self.near();
            let found = self.engine.get(key.clone()).await?;
            Ok(found.map(|Found { value, expires_at }| near(self.value(&key, value), expires_at)))
        })
        .await
    }

    async fn set(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<()> {
        self.named("set", key, async {
            let key = self.full(key)?;
            let lifetime = self.settings.resolve(expiry);
            let entry = self.entry(key, &value, lifetime).await?;
            if lifetime.is_zero() {
                self.engine.call(Write, self.removal(entry.key)).await.map(drop)
            } else {
                self.engine.put(entry).await
            }
        })
        .await
    }

    async fn remove(&self, key: &str) -> Result<bool> {
        self.named("remove", key, async {
            self.engine.call(Write, self.removal(self.full(key)?)).await
        })
        .await
    }

    async fn update_timeout(&self, key: &str, expiry: Expiry) -> Result<Option<CacheValue>> {
        self.named("update_timeout", key, async {
            let key = self.full(key)?;
            let update = Update {
                key: key.clone(),
                expires_at: time::deadline(self.settings.resolve(expiry)),
            };
            Ok(self.engine.call(Write, update).await?.map(|stored| self.value(&key, stored)))
        })
        .await
    }

    /// Incremental: the keys of the range are deleted in steps of a few milliseconds, so that other
    /// writers get their turn, in this process and in others. The space is given back in the
    /// background.
    async fn clear(&self, prefix: &str) -> Result<()> {
        let from = format!("{}{prefix}", self.settings.scope.prefix());
        let to = successor(&from);
        self.engine.clear(from, to).await.map_err(|error| self.name(error, "clear"))
    }

    async fn keys(&self, prefix: &str, after: Option<&KeyCursor>) -> Result<KeyPage> {
        let from = format!("{}{prefix}", self.settings.scope.prefix());
        let to = successor(&from);
        let from = match after {
            None => From::At(from),
            Some(cursor) => From::After(cursor.place().to_vec()),
        };
        let keys = Keys { from, to, judges: self.has_logical_ends() };
        let page = self.engine.call(Read, keys).await.map_err(|error| self.name(error, "keys"))?;
        let keys = page.keys.iter().map(|key| self.bare(key)).filter(|key| !key.is_empty());
        Ok(KeyPage::new(keys.map(str::to_owned).collect(), page.last.map(KeyCursor::new)))
    }

    async fn add(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<bool> {
        self.named("add", key, async {
            let entry = self.encode(self.full(key)?, &value, self.settings.resolve(expiry))?;
            self.engine.call(Write, Add(entry)).await
        })
        .await
    }

    async fn replace(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<bool> {
        self.named("replace", key, async {
            let entry = self.entry(self.full(key)?, &value, self.settings.resolve(expiry)).await?;
            self.engine.call(Write, Replace(entry)).await
        })
        .await
    }

    async fn incr(&self, key: &str, by: i64, expiry: Expiry) -> Result<i64> {
        self.named("incr", key, async {
            let expires_at = time::deadline(self.settings.resolve(expiry));
            let increment = || Ok::<_, Error>(Increment { key: self.full(key)?, by, expires_at });
            if let Some(sum) = self.engine.call(Write, increment()?).await? {
                return Ok(sum);
            }
            self.engine
                .call(
                    Write,
                    IncrementDecoded { increment: increment()?, codec: self.settings.codec },
                )
                .await?
        })
        .await
    }

    async fn take(&self, key: &str) -> Result<Option<CacheValue>> {
        self.named("take", key, async {
            let key = self.full(key)?;
            Ok(self
                .engine
                .call(Write, Take(key.clone()))
                .await?
                .map(|stored| self.value(&key, stored)))
        })
        .await
    }

    async fn expiry(&self, key: &str) -> Result<Option<Expiry>> {
        self.named("expiry", key, async {
            Ok(self.engine.call(Read, ExpiresAt(self.full(key)?)).await?.map(time::remaining))
        })
        .await
    }

    async fn contains(&self, key: &str) -> Result<bool> {
        self.named("contains", key, async {
            Ok(self.engine.call(Read, ExpiresAt(self.full(key)?)).await?.is_some())
        })
        .await
    }

    async fn presence(&self, key: &str) -> Result<Presence> {
        self.named("presence", key, async {
            let (key, codec) = (self.full(key)?, self.settings.codec);
            self.engine.call(Read, Present { key, codec }).await
        })
        .await
    }

    async fn presence_many(&self, keys: &[&str]) -> Result<Vec<Result<Presence>>> {
        let (full, codec) = (self.full_keys("presence_many", keys)?, self.settings.codec);
        let present = |keys| PresentMany { keys, codec };
        Ok(self.read_in_chunks("presence_many", &full, present).await)
    }

    fn has_logical_ends(&self) -> bool {
        self.settings.codec.has_logical_ends()
    }

    async fn touch(&self, key: &str, expiry: Expiry) -> Result<bool> {
        self.named("touch", key, async {
            let update = Update {
                key: self.full(key)?,
                expires_at: time::deadline(self.settings.resolve(expiry)),
            };
            self.engine.call(Write, Touch(update)).await
        })
        .await
    }

    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Result<Option<CacheValue>>>> {
        self.read_many(keys, |value, _| value).await
    }

    async fn get_many_near(&self, keys: &[&str]) -> Result<Vec<Result<Option<NearEntry>>>> {
        self.read_many(keys, self.near()).await
    }

    /// Always followed, as far as the file permits: what cannot be vouched for is near by age.
    fn follow(&self, follower: Follower) -> bool {
        self.following.begin(follower);
        true
    }

    async fn set_many(&self, entries: &[Entry<'_>]) -> Result<Vec<Result<()>>> {
        key::check_all(entries.iter().map(|entry| entry.key))
            .map_err(|error| self.name(error, "set_many"))?;
        let mut results = Vec::with_capacity(entries.len());
        let mut chunk = Chunk::default();
        for entry in entries {
            let (row, result) = self.row(entry)?;
            if row.as_ref().is_some_and(|row| !chunk.has_room_for(row)) {
                self.store(&mut chunk, &mut results).await;
            }
            chunk.places.extend(row.is_some().then_some(results.len()));
            chunk.bytes += row.as_ref().map_or(0, Stored::bytes);
            chunk.rows.extend(row);
            results.push(result.map_err(|error| self.name(error, "set_many").with_key(entry.key)));
        }
        self.store(&mut chunk, &mut results).await;
        Ok(results)
    }

    async fn remove_many(&self, keys: &[&str]) -> Result<Vec<Result<bool>>> {
        self.remove_batch(keys).await
    }

    fn enforces_claims(&self) -> bool {
        true
    }

    async fn claim(&self, key: &str, lease: Option<Duration>) -> Result<Option<Claim>> {
        self.named("claim", key, self.take_claim(key, lease)).await
    }

    async fn set_claimed(
        &self,
        key: &str,
        value: CacheValue,
        expiry: Expiry,
        claim: &Claim,
    ) -> Result<bool> {
        match claim.token() {
            Some(token) => {
                self.named("set_claimed", key, self.store_claimed(key, &value, expiry, token)).await
            }
            None => self.set(key, value, expiry).await.map(|()| true),
        }
    }

    /// One read, and one transaction that claims what is missing.
    async fn get_or_claim_many(&self, keys: &[&str]) -> Result<Vec<Result<FoundOrClaimed>>> {
        let found = self.get_many(keys).await?;
        let is_missing = |found: &Result<Option<CacheValue>>| matches!(found, Ok(None));
        let missing: Vec<&str> = keys
            .iter()
            .zip(&found)
            .filter(|(_, found)| is_missing(found))
            .map(|(key, _)| *key)
            .collect();
        let mut claims = self.take_claims(&missing).await.into_iter();
        let looked = found.into_iter().map(|found| match found? {
            Some(value) => Ok(FoundOrClaimed::Found(value)),
            None => match claims.next().transpose()?.flatten() {
                Some(claim) => Ok(FoundOrClaimed::Claimed(claim)),
                None => Ok(FoundOrClaimed::Missing),
            },
        });
        Ok(looked.collect())
    }

    async fn set_claimed_many(&self, entries: &[ClaimedEntry<'_>]) -> Result<Vec<Result<bool>>> {
        if entries.iter().any(|claimed| claimed.claim.token().is_none()) {
            return set_claimed_each(self, entries).await;
        }
        self.store_all_claimed(entries).await
    }

    async fn release(&self, key: &str, claim: &Claim) -> Result<()> {
        self.named("release", key, self.release_claim(key, claim)).await
    }

    async fn connect(&self) -> Result<()> {
        let opened = async {
            self.engine.call(Write, Ping).await?;
            self.engine.call(Read, Ping).await
        };
        opened.await.map_err(|error| self.name(error, "connect"))
    }

    async fn ping(&self) -> Result<()> {
        self.engine.call(Read, Ping).await.map_err(|error| self.name(error, "ping"))
    }

    /// A database in memory is kept: it ends with the adapter only.
    async fn close(&self) -> Result<()> {
        self.following.stop().await;
        self.engine.close().await.map_err(|error| self.name(error, "close"))
    }

    /// The new adapter uses the same file. A database in memory starts empty.
    fn rebuild(&self) -> Result<Arc<dyn AsyncCacheAdapter>> {
        Ok(Arc::new(self.builder.clone().build()?))
    }

    fn size(&self) -> StoreSize {
        self.engine.size()
    }

    fn default_ttl(&self) -> Lifetime {
        self.settings.default_ttl
    }

    fn backend(&self) -> &str {
        KIND
    }
}

/// Rows of a batch that are stored by one statement, with the positions of their results.
#[derive(Default)]
struct Chunk {
    rows: Vec<Stored>,
    places: Vec<usize>,
    bytes: usize,
}

impl Chunk {
    fn has_room_for(&self, row: &Stored) -> bool {
        self.rows.is_empty() || (self.rows.len() < CHUNK && self.bytes + row.bytes() <= CHUNK_BYTES)
    }
}

impl AsyncSqliteCache {
    async fn named<T>(
        &self,
        op: &'static str,
        key: &str,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        call.await.map_err(|error| self.name(error, op).with_key(key))
    }

    pub(super) fn full(&self, key: &str) -> Result<String> {
        Ok(self.settings.scope.key(key)?.into_owned())
    }

    pub(super) fn full_keys(&self, op: &'static str, keys: &[&str]) -> Result<Vec<String>> {
        key::check_all(keys.iter().copied()).map_err(|error| self.name(error, op))?;
        keys.iter().map(|key| self.full(key)).collect()
    }

    /// The key as the caller wrote it.
    pub(super) fn bare<'k>(&self, full: &'k str) -> &'k str {
        full.strip_prefix(self.settings.scope.prefix()).unwrap_or(full)
    }

    fn removal(&self, key: String) -> Remove {
        Remove { key, codec: self.settings.codec }
    }

    /// What a read makes of the values that it finds. Called before the read begins: a source that
    /// is opened meanwhile may not know of changes that the read has not seen.
    fn near(&self) -> impl Fn(CacheValue, Option<i64>) -> NearEntry + Send + use<> {
        let source = self.following.source(&self.engine, self.settings.scope.prefix());
        move |value, expires_at| {
            let entry = NearEntry::new(value, time::left(expires_at));
            if let Some(source) = source { entry.vouched_by(source) } else { entry }
        }
    }

    fn value(&self, key: &str, stored: Bytes) -> CacheValue {
        CacheValue::from_stored(key, stored, self.settings.codec)
    }

    pub(super) fn encode(
        &self,
        key: String,
        value: &CacheValue,
        lifetime: Lifetime,
    ) -> Result<Stored> {
        let value = value.to_stored(&key, self.settings.codec)?;
        if value.len() > self.max_value_bytes {
            let message = format!(
                "a value of {} bytes is over the limit of {}",
                value.len(),
                self.max_value_bytes
            );
            return Err(Error::new(ErrorKind::TooLarge).with_message(message));
        }
        Ok(Stored { key, value, expires_at: time::deadline(lifetime) })
    }

    /// Like [`encode`](Self::encode), for an operation that replaces the older value. A value that
    /// is too large removes the older one.
    async fn entry(&self, key: String, value: &CacheValue, lifetime: Lifetime) -> Result<Stored> {
        match self.encode(key.clone(), value, lifetime) {
            Err(error) if error.kind() == ErrorKind::TooLarge => {
                self.engine.call(Write, self.removal(key)).await?;
                Err(error)
            }
            other => other,
        }
    }

    /// The row that a batch stores for an entry. A value that is too large is stored as an expired
    /// row, which replaces the older value: a batch takes effect in order, so a removal must be
    /// part of it.
    fn row(&self, entry: &Entry<'_>) -> Result<(Option<Stored>, Result<()>)> {
        let key = self.full(entry.key)?;
        Ok(match self.encode(key.clone(), &entry.value, self.settings.resolve(entry.expiry)) {
            Ok(row) => (Some(row), Ok(())),
            Err(error) if error.kind() == ErrorKind::TooLarge => {
                (Some(Stored { key, value: Bytes::new(), expires_at: Some(0) }), Err(error))
            }
            Err(error) => (None, Err(error)),
        })
    }

    async fn store(&self, chunk: &mut Chunk, results: &mut [Result<()>]) {
        let Chunk { rows, places, .. } = std::mem::take(chunk);
        if rows.is_empty() {
            return;
        }
        let keys: HashMap<usize, String> = places
            .iter()
            .copied()
            .zip(rows.iter().map(|row| self.bare(&row.key).to_owned()))
            .collect();
        if let Err(error) = self.engine.call(Write, PutMany(rows)).await {
            for (place, key) in keys {
                results[place] = Err(self.name(error.clone(), "set_many").with_key(&key));
            }
        }
    }
}

/// The first text after all texts that begin with `prefix`, in the order of their bytes. `None` if
/// no text comes after them.
fn successor(prefix: &str) -> Option<String> {
    let mut text = prefix.to_owned();
    while let Some(last) = text.pop() {
        // Surrogates are no characters, so the range skips them.
        if let Some(next) = (last..=char::MAX).nth(1) {
            text.push(next);
            return Some(text);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::successor;

    #[test]
    fn the_successor_comes_after_everything_with_the_prefix_and_before_the_rest() {
        assert_eq!(successor("ab").as_deref(), Some("ac"));
        assert_eq!(successor("a\u{D7FF}").as_deref(), Some("a\u{E000}"));
        assert_eq!(successor("a\u{10FFFF}").as_deref(), Some("b"));
        assert_eq!(successor("\u{10FFFF}\u{10FFFF}"), None);
        assert_eq!(successor(""), None);
        assert_eq!(successor("a\u{7f}").as_deref(), Some("a\u{80}"));
    }
}
