//! The operations on one key.

use super::commands::{self, Command, Condition, Ttl, unclaim};
use super::errors::{BACKEND, Code, Failure};
use super::in_place;
use super::lane::Lane;
use super::scripts;
use super::staging::Staged;
use super::{Lanes, Shared};
use crate::codec;
use crate::error::{Error, Result};
use crate::expiry::{Expiry, Lifetime};
use crate::value::CacheValue;
use bytes::Bytes;
use compact_str::CompactString;
use std::sync::Arc;
use tokio::time::Instant;

/// One call: its key, its connections and its deadline.
pub(super) struct Call<'c> {
    pub(super) cache: &'c Shared,
    pub(super) lanes: Arc<Lanes>,
    pub(super) op: &'static str,
    /// The key without the prefix, as the caller wrote it.
    pub(super) key: &'c str,
    /// The key with the prefix, as the server knows it.
    pub(super) full: CompactString,
    pub(super) deadline: Instant,
}

/// `None` for a lifetime of zero.
pub(super) fn ttl(lifetime: Lifetime) -> Option<Ttl> {
    match lifetime.as_millis_ceil() {
        Some(0) => None,
        Some(millis) => Some(Ttl::Millis(millis)),
        None => Some(Ttl::Never),
    }
}

impl Call<'_> {
    /// The lane of this key. All changes of the key use it, so the server executes them in the
    /// order of the calls.
    pub(super) fn lane(&self) -> &Arc<Lane> {
        self.lanes.of(|| self.hash())
    }

    /// Computed only where it is asked for: with one lane, and without large values, no call needs it.
    fn hash(&self) -> u32 {
        codec::key_hash(&self.full)
    }

    /// Whether the value was large when it was last read or written.
    fn is_bulky(&self) -> bool {
        !self.cache.bulky.is_empty() && self.cache.bulky.contains(self.hash())
    }

    /// The lane for a read. A large answer must not delay others, so a key with a large value is
    /// read on the lane for large values. The order of reads does not matter.
    pub(super) fn reading_lane(&self) -> &Arc<Lane> {
        if self.is_bulky() { &self.lanes.bulk } else { self.lane() }
    }

    pub(super) async fn run<T>(&self, make: impl Fn() -> Command<T>) -> Result<T> {
        self.lane().run(make, self.deadline).await.map_err(|failure| self.failed(failure))
    }

    pub(super) fn failed(&self, failure: Failure) -> Error {
        self.named(failure.error)
    }

    pub(super) fn named(&self, error: Error) -> Error {
        error.with_backend(BACKEND).with_op(self.op).with_key(self.key)
    }

    pub(super) fn ttl(&self, expiry: Expiry) -> Option<Ttl> {
        ttl(self.cache.config.settings.resolve(expiry))
    }

    pub(super) fn value(&self, stored: Bytes) -> CacheValue {
        self.note_size(stored.len());
        CacheValue::from_stored(&self.full, stored, self.cache.config.settings.codec)
    }

    pub(super) fn note_size(&self, len: usize) {
        let is_bulky = len > self.cache.config.big_value_bytes;
        if is_bulky || !self.cache.bulky.is_empty() {
            self.cache.bulky.note(self.hash(), is_bulky);
        }
    }

    pub(super) async fn get(&self) -> Result<Option<CacheValue>> {
        let lane = self.reading_lane();
        let read = || lane.get(&self.full, self.deadline);
        let failed = |failure| self.failed(failure);
        let stored = match read().await {
            Ok(stored) => stored,
            Err(failure) if failure.code == Code::WrongType => {
                return Ok(Some(CacheValue::foreign()));
            }
            Err(failure) => return Err(failed(failure)),
        };
        let Some(stored) = stored else { return Ok(None) };
        let value = self.value(stored);
        // The value belongs to another key. Either another program has copied it, or the connection
        // is desynchronized and must be replaced.
        if value.is_misdirected() && Box::pin(lane.verify(self.deadline)).await.is_err() {
            return Ok(Box::pin(read()).await.map_err(failed)?.map(|stored| self.value(stored)));
        }
        Ok(Some(value))
    }

    /// Waits, before a write, for removals that were given up on the lane for large values: one of
    /// them may concern this key.
    pub(super) async fn outlast_removals(&self) -> Result<()> {
        let outlasted = self.lanes.bulk.outlast_removals(self.deadline).await;
        outlasted.map_err(|failure| self.failed(failure))
    }

    /// Stores a value if the condition holds. Returns whether it held.
    pub(super) async fn store(
        &self,
        value: &CacheValue,
        expiry: Expiry,
        condition: Condition,
    ) -> Result<bool> {
        self.outlast_removals().await?;
        let config = &self.cache.config;
        let stored = value
            .to_stored(&self.full, config.settings.codec)
            .map_err(|error| self.named(error))?;
        let Some(ttl) = self.ttl(expiry) else {
            return Box::pin(self.store_nothing(condition)).await;
        };
        if stored.len() > config.max_value_bytes {
            return Err(Box::pin(self.refuse_too_large(condition)).await?);
        }
        self.note_size(stored.len());
        let outcome = if stored.len() > config.big_value_bytes {
            Box::pin(self.store_big(stored, ttl, condition)).await
        } else {
            self.store_plain(&stored, ttl, condition).await
        };
        match outcome {
            Ok(done) => Ok(done),
            Err(failure) => Err(Box::pin(self.refused_write(failure, condition)).await),
        }
    }

    async fn store_plain(
        &self,
        stored: &[u8],
        ttl: Ttl,
        condition: Condition,
    ) -> Result<bool, Failure> {
        if ttl.is_brief() {
            let set = || commands::set(&self.full, stored, ttl, condition);
            Box::pin(self.run_unclaimed(self.lane(), set)).await
        } else {
            let set = in_place::set(&self.full, stored, ttl, condition);
            self.lane().run_again(&set, self.deadline).await
        }
    }

    /// The error of a write that failed. If the server refused the value, the older value is
    /// removed, so that it is not served any more.
    pub(super) async fn refused_write(&self, failure: Failure, condition: Condition) -> Error {
        let is_refused = matches!(failure.code, Code::OutOfMemory | Code::TooLarge);
        if !is_refused || condition == Condition::Missing {
            return self.failed(failure);
        }
        match self.discard().await {
            Ok(()) => self.failed(failure),
            // The older value may still be there. `with_refused_write` makes the resilience layer
            // repeat the write.
            Err(_) => self.failed(failure).with_refused_write(),
        }
    }

    /// A write with a lifetime of zero.
    async fn store_nothing(&self, condition: Condition) -> Result<bool> {
        match condition {
            Condition::None => {
                self.discard().await.map(|()| true).map_err(|failure| self.failed(failure))
            }
            Condition::Missing => self.contains().await.map(|live| !live),
            Condition::Live => self.remove().await,
        }
    }

    /// Stores a large value. The bytes are sent over the lane for large values under a temporary
    /// key, and the lane of the key only renames them. Without scripts the bytes are sent over the
    /// lane of the key.
    pub(super) async fn store_big(
        &self,
        stored: Bytes,
        ttl: Ttl,
        condition: Condition,
    ) -> Result<bool, Failure> {
        if !self.cache.refusals.refuses_scripts() {
            let staged = self.stage(stored.clone()).await?;
            let install = scripts::install(staged.name(), &self.full, ttl, condition);
            if let Some(done) = self.try_invoke(&install).await? {
                staged.take_over();
                return Ok(done);
            }
        }
        self.store_plain(&stored, ttl, condition).await
    }

    /// Stores bytes under a temporary key, over the lane for large values.
    pub(super) async fn stage(&self, stored: Bytes) -> Result<Staged, Failure> {
        let config = &self.cache.config;
        let prefix = config.settings.scope.prefix();
        Staged::store(&self.lanes.bulk, prefix, stored, config.op_timeout, self.deadline).await
    }

    /// Removes the older value, so that it is not served any more, and returns the error of a value
    /// that is too large. If the removal fails, returns the error of the removal: the older value
    /// may still be there.
    pub(super) async fn refuse_too_large(&self, condition: Condition) -> Result<Error> {
        if condition != Condition::Missing {
            self.discard().await.map_err(|failure| self.failed(failure))?;
        }
        Ok(self.too_large())
    }

    pub(super) async fn remove(&self) -> Result<bool> {
        if !self.cache.config.settings.codec.has_logical_ends() {
            return self
                .run_unclaimed(self.lane(), || commands::remove(&self.full))
                .await
                .map_err(|failure| self.failed(failure));
        }
        let (look, removal) = (commands::is_stale(&self.full), commands::remove(&self.full));
        let batch = [look, unclaim(&self.full), removal];
        let answers = self.lane().run_all(&batch, self.deadline).await;
        let answers = <[Result<bool, Failure>; 3]>::try_from(
            answers.map_err(|failure| self.failed(failure))?,
        );
        let Ok([was_stale, unclaimed, removed]) = answers else {
            return Err(self.failed(Failure::desynchronized()));
        };
        unclaimed.map_err(|failure| self.failed(failure))?;
        // If the server refuses to read the head (the key holds a list, or the user may not read
        // it), the key is removed all the same.
        Ok(removed.map_err(|failure| self.failed(failure))? && !was_stale.unwrap_or(false))
    }

    pub(super) async fn contains(&self) -> Result<bool> {
        match self.lane().run(|| commands::contains(&self.full), self.deadline).await {
            Err(failure) if failure.is_refusal() => self.get().await.map(|found| found.is_some()),
            outcome => outcome.map_err(|failure| self.failed(failure)),
        }
    }

    pub(super) async fn expiry(&self) -> Result<Option<Expiry>> {
        let left = self.run(|| commands::time_left(&self.full)).await?;
        Ok(left.map(|left| left.map_or(Expiry::Never, Expiry::After)))
    }

    pub(super) async fn take(&self) -> Result<Option<CacheValue>> {
        let lane = self.reading_lane();
        let taken = async {
            let is_elsewhere = !Arc::ptr_eq(lane, self.lane());
            if is_elsewhere {
                // A write that timed out on the lane of the key must not take effect after this
                // removal.
                self.lane().settle(self.deadline).await?;
            }
            let watched = is_elsewhere.then(|| lane.watch_removal());
            let taken = self.run_unclaimed(lane, || commands::take(&self.full)).await?;
            if let Some(watched) = watched {
                watched.answered();
            }
            Ok::<_, Failure>(taken)
        };
        match taken.await {
            // The caller whose removal succeeds has taken the value.
            Err(failure) if failure.code == Code::WrongType => {
                Ok(self.remove().await?.then(CacheValue::foreign))
            }
            taken => {
                let taken = taken.map_err(|failure| self.failed(failure))?;
                Ok(taken.map(|stored| self.value(stored)))
            }
        }
    }

    pub(super) async fn touch(&self, expiry: Expiry) -> Result<bool> {
        self.outlast_removals().await?;
        match self.ttl(expiry) {
            None => self.remove().await,
            Some(ttl @ Ttl::Millis(millis)) => {
                let expire = || commands::expire(&self.full, millis);
                let answer = if ttl.is_brief() {
                    self.run_unclaimed(self.lane(), expire).await
                } else {
                    self.lane().run(expire, self.deadline).await
                };
                answer.map_err(|failure| self.failed(failure))
            }
            Some(Ttl::Never) => self.persist().await,
        }
    }

    async fn persist(&self) -> Result<bool> {
        let failed = |failure| self.failed(failure);
        let batch = [commands::persist(&self.full), commands::contains(&self.full)];
        let answers = self.lane().run_all(&batch, self.deadline).await.map_err(failed)?;
        let mut answers = answers.into_iter();
        let had_expiry = answers.next().unwrap_or(Ok(false)).map_err(failed)?;
        match answers.next().unwrap_or(Ok(false)) {
            Err(failure) if failure.is_refusal() => Ok(had_expiry || self.contains().await?),
            live => live.map_err(failed),
        }
    }

    pub(super) async fn update_timeout(&self, expiry: Expiry) -> Result<Option<CacheValue>> {
        let Some(ttl) = self.ttl(expiry) else { return self.take().await };
        self.outlast_removals().await?;
        if self.is_bulky() {
            return self.touch_and_get(expiry).await;
        }
        let renew = || commands::get_and_expire(&self.full, ttl);
        let renewed = if ttl.is_brief() {
            self.run_unclaimed(self.lane(), renew).await
        } else {
            self.lane().run(renew, self.deadline).await
        };
        match renewed {
            Err(failure) if failure.code == Code::WrongType || failure.is_refusal() => {
                Box::pin(self.touch_and_get(expiry)).await
            }
            renewed => {
                let stored = renewed.map_err(|failure| self.failed(failure))?;
                Ok(stored.map(|stored| self.value(stored)))
            }
        }
    }

    /// Changes the expiry on the lane of the key, and reads the value, if it is large, on the lane
    /// for large values.
    async fn touch_and_get(&self, expiry: Expiry) -> Result<Option<CacheValue>> {
        if self.touch(expiry).await? { self.get().await } else { Ok(None) }
    }
}
