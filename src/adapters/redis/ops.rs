//! What a call on one key does.

use super::commands::{self, Command, Condition, Counted, Invocation, KEEP_TTL, Ttl};
use super::errors::{BACKEND, Code, Failure, Fate};
use super::fencing::unclaim;
use super::lane::Lane;
use super::{Lanes, Shared};
use crate::adapter::Presence;
use crate::runtime::spawn_background;
use crate::{CacheValue, Error, ErrorKind, Expiry, Lifetime, Result};
use bytes::Bytes;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Stands after the prefix in the names of values that are on their way. No user's key begins so by chance, and a random part
/// follows.
const STAGED: &str = "\0larder:staged:";
/// How long a staged value stays if nobody comes back for it.
const STAGED_TTL: Duration = Duration::from_secs(30);

/// One call: on what, over which connections, and until when.
pub(super) struct Call<'c> {
    pub(super) cache: &'c Shared,
    pub(super) lanes: Arc<Lanes>,
    pub(super) op: &'static str,
    /// As the caller wrote it.
    pub(super) key: &'c str,
    /// As the server knows it.
    pub(super) full: Cow<'c, str>,
    pub(super) hash: u32,
    pub(super) deadline: Instant,
}

/// Zero is `None`.
pub(super) fn ttl(lifetime: Lifetime) -> Option<Ttl> {
    match lifetime.as_millis_ceil() {
        Some(0) => None,
        Some(millis) => Some(Ttl::Millis(millis)),
        None => Some(Ttl::Never),
    }
}

impl Call<'_> {
    /// The lane of this key: what changes it is executed in the order in which it was called.
    pub(super) fn lane(&self) -> &Arc<Lane> {
        self.lanes.of(self.hash)
    }

    /// Where to read: an answer that is known to be big must not be in the way of others. The order of reads is nobody's concern.
    fn reading_lane(&self) -> &Arc<Lane> {
        if self.cache.bulky.contains(self.hash) { &self.lanes.bulk } else { self.lane() }
    }

    pub(super) async fn run<T>(&self, make: impl Fn() -> Command<T>) -> Result<T> {
        self.lane().run(make, self.deadline).await.map_err(|failure| self.failed(failure))
    }

    pub(super) async fn invoke<T>(&self, script: &Invocation<T>) -> Result<T> {
        self.lane().invoke(script, self.deadline).await.map_err(|failure| self.failed(failure))
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

    fn value(&self, stored: Bytes) -> CacheValue {
        self.note_size(stored.len());
        CacheValue::from_stored(&self.full, stored, self.cache.config.settings.codec)
    }

    pub(super) fn note_size(&self, len: usize) {
        self.cache.bulky.note(self.hash, len > self.cache.config.big_value_bytes);
    }

    pub(super) async fn get(&self) -> Result<Option<CacheValue>> {
        let lane = self.reading_lane();
        let read = || lane.get(&self.full, self.deadline);
        let failed = |failure| self.failed(failure);
        let Some(stored) = read().await.map_err(failed)? else { return Ok(None) };
        let value = self.value(stored);
        // Another key's value: copied there by somebody, or the answers are out of step, and then only a new connection can tell.
        if value.is_misdirected() && Box::pin(lane.verify(self.deadline)).await.is_err() {
            return Ok(Box::pin(read()).await.map_err(failed)?.map(|stored| self.value(stored)));
        }
        Ok(Some(value))
    }

    /// Writes if the condition holds; whether it did.
    pub(super) async fn store(
        &self,
        value: &CacheValue,
        expiry: Expiry,
        condition: Condition,
    ) -> Result<bool> {
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
        if stored.len() > config.big_value_bytes {
            self.note_size(stored.len());
            return Box::pin(self.store_big(stored, ttl, condition)).await;
        }
        let set = || commands::set(&self.full, &stored, ttl, condition);
        let outcome = if ttl.is_brief() {
            self.run_unclaimed(self.lane(), set).await
        } else {
            self.lane().run(set, self.deadline).await
        };
        if let Err(Failure { code: Code::OutOfMemory, .. }) = outcome
            && condition != Condition::Missing
        {
            // The server would go on to serve the older value. It is removed where that works; the write has failed either way.
            let _ = Box::pin(self.discard()).await;
        }
        let stored_now = outcome.map_err(|failure| self.failed(failure))?;
        self.note_size(stored.len());
        Ok(stored_now)
    }

    /// A write whose lifetime is zero.
    async fn store_nothing(&self, condition: Condition) -> Result<bool> {
        match condition {
            Condition::None => self.discard().await.map(|()| true),
            Condition::Missing => {
                self.run(|| commands::contains(&self.full)).await.map(|live| !live)
            }
            Condition::Live => self.remove().await,
        }
    }

    /// The bytes go over the lane for big values, under another name; the key's own lane then only renames, in its turn.
    pub(super) async fn store_big(
        &self,
        stored: Bytes,
        ttl: Ttl,
        condition: Condition,
    ) -> Result<bool> {
        let staged = self.stage(stored).await?;
        self.invoke(&commands::install(&staged, &self.full, ttl, condition)).await
    }

    /// Stores bytes under a name of their own, over the lane for big values; which name.
    pub(super) async fn stage(&self, stored: Bytes) -> Result<String> {
        let config = &self.cache.config;
        let staged =
            format!("{}{STAGED}{:032x}", config.settings.scope.prefix(), fastrand::u128(..));
        let until = Lifetime::from(config.op_timeout.saturating_add(STAGED_TTL)).as_millis_ceil();
        let (bulk, name, deadline) = (self.lanes.bulk.clone(), staged.clone(), self.deadline);
        // Putting the command together takes the thread for a while as well.
        let staging = spawn_background(async move {
            let until = until.map_or(Ttl::Never, Ttl::Millis);
            bulk.run(|| commands::set(&name, &stored, until, Condition::None), deadline).await
        });
        let outcome = staging.await.unwrap_or_else(|_| {
            Err(Failure::new(ErrorKind::Unavailable, "the driver panicked", Fate::Keep))
        });
        outcome.map_err(|failure| self.failed(failure))?;
        Ok(staged)
    }

    /// Removes what the value was to replace, so that it is not served any more; then the error. If that fails, it is the error:
    /// the older value may still be there.
    pub(super) async fn refuse_too_large(&self, condition: Condition) -> Result<Error> {
        if condition != Condition::Missing {
            self.discard().await?;
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
            return Err(self.failed(Failure::out_of_step()));
        };
        unclaimed.map_err(|failure| self.failed(failure))?;
        // A look that the server refuses (a list, a user who may not) hinders no removal.
        Ok(removed.map_err(|failure| self.failed(failure))? && !was_stale.unwrap_or(false))
    }

    pub(super) async fn presence(&self) -> Result<Presence> {
        let batch = [commands::exists(&self.full), commands::head(&self.full)];
        let answers = self.lane().run_all(&batch, self.deadline).await;
        let answers = <[Result<Presence, Failure>; 2]>::try_from(
            answers.map_err(|failure| self.failed(failure))?,
        );
        let Ok([exists, end]) = answers else {
            return Err(self.failed(Failure::out_of_step()));
        };
        match (exists.map_err(|failure| self.failed(failure))?, end) {
            (Presence::Missing, _) => Ok(Presence::Missing),
            (_, Ok(end)) => Ok(end),
            // A user who may read, but not in part.
            (_, Err(failure)) if failure.code == Code::NotPermitted => {
                Ok(self.get().await?.as_ref().map_or(Presence::Missing, Presence::of))
            }
            // What is no text has no logical end.
            (live, Err(_)) => Ok(live),
        }
    }

    pub(super) async fn contains(&self) -> Result<bool> {
        self.run(|| commands::contains(&self.full)).await
    }

    pub(super) async fn expiry(&self) -> Result<Option<Expiry>> {
        let left = self.run(|| commands::time_left(&self.full)).await?;
        Ok(left.map(|left| left.map_or(Expiry::Never, Expiry::After)))
    }

    pub(super) async fn take(&self) -> Result<Option<CacheValue>> {
        let lane = self.reading_lane();
        let taken = async {
            if Arc::ptr_eq(lane, &self.lanes.bulk) {
                // A write that timed out on the key's own lane must not land after this removal.
                self.lane().settle(self.deadline).await?;
            }
            self.run_unclaimed(lane, || commands::take(&self.full)).await
        };
        let taken = taken.await.map_err(|failure| self.failed(failure))?;
        Ok(taken.map(|stored| self.value(stored)))
    }

    pub(super) async fn touch(&self, expiry: Expiry) -> Result<bool> {
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
            Some(Ttl::Never) => {
                let batch = [commands::persist(&self.full), commands::contains(&self.full)];
                let mut answers = self
                    .lane()
                    .run_all(&batch, self.deadline)
                    .await
                    .map_err(|failure| self.failed(failure))?;
                answers.pop().unwrap_or(Ok(false)).map_err(|failure| self.failed(failure))
            }
        }
    }

    pub(super) async fn update_timeout(&self, expiry: Expiry) -> Result<Option<CacheValue>> {
        let Some(ttl) = self.ttl(expiry) else { return self.take().await };
        if self.cache.bulky.contains(self.hash) {
            // The expiry changes in its turn, the value comes over the lane for big ones.
            return if self.touch(expiry).await? { self.get().await } else { Ok(None) };
        }
        let renew = || commands::get_and_expire(&self.full, ttl);
        let renewed = if ttl.is_brief() {
            self.run_unclaimed(self.lane(), renew).await
        } else {
            self.lane().run(renew, self.deadline).await
        };
        let stored = renewed.map_err(|failure| self.failed(failure))?;
        Ok(stored.map(|stored| self.value(stored)))
    }

    pub(super) async fn increase(&self, by: i64, expiry: Expiry) -> Result<i64> {
        let ttl = self.ttl(expiry);
        let overflow = || self.named(Error::new(ErrorKind::Overflow));
        loop {
            match self.invoke(&commands::increase(&self.full, by, ttl)).await? {
                Counted::Sum(sum) => return Ok(sum),
                Counted::Overflow => return Err(overflow()),
                Counted::NotANumber => return Err(self.named(Error::new(ErrorKind::NotANumber))),
                Counted::Other(old) => {
                    let before = self.value(old.clone());
                    let (sum, ttl) = if before.is_stale() {
                        (by, commands::counter_ttl(ttl))
                    } else {
                        let number = before.as_counter().map_err(|error| self.named(error))?;
                        (number.checked_add(by).ok_or_else(overflow)?, KEEP_TTL.to_owned())
                    };
                    if self.invoke(&commands::exchange(&self.full, &old, sum, &ttl)).await? {
                        return Ok(sum);
                    }
                    // Somebody else changed it meanwhile; the deadline ends this.
                }
            }
        }
    }
}
