//! Entries that are kept beyond their logical end, under the verbs that do not see the value: for these they are missing.
//!
//! Only a cache that has met such an entry, or is told to keep them, pays for looking first.

use super::slot::Slot;
use crate::options::{Options, Term};
use crate::{CacheValue, Claim, Error, ErrorKind, Expiry, Lifetime, Result};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often a step is tried again because the entry changed meanwhile.
const TRIES: usize = 16;

impl Slot {
    /// Whether the value is past its logical end. One branch for values that have none that binds.
    #[inline]
    pub(super) fn is_stale(&self, value: &CacheValue) -> bool {
        value.meta().is_kept() && self.is_kept_stale(value)
    }

    #[cold]
    fn is_kept_stale(&self, value: &CacheValue) -> bool {
        self.note_kept();
        value.is_stale()
    }

    /// This cache has entries that may be stale.
    pub(super) fn note_kept(&self) {
        self.keeps_stale.store(true, Ordering::Relaxed);
    }

    fn may_be_stale(&self, options: &Options) -> bool {
        self.keeps_stale.load(Ordering::Relaxed) || options.keeps_for().is_some()
    }

    /// The term of a plain write.
    pub(super) fn plain_term(&self, options: &Options) -> Result<Term> {
        let term = options.plain_term(|| self.adapter.default_ttl())?;
        if term.meta.is_kept() {
            self.note_kept();
        }
        Ok(term)
    }

    /// Whether `key` is there, but for no verb.
    async fn holds_stale(&self, key: &str, options: &Options) -> Result<bool> {
        if !self.may_be_stale(options) {
            return Ok(false);
        }
        Ok(self.adapter.get(key).await?.is_some_and(|value| value.is_stale()))
    }

    pub(super) async fn contains(&self, key: &str, options: &Options) -> Result<bool> {
        if !self.may_be_stale(options) {
            return self.adapter.contains(key).await;
        }
        Ok(self
            .adapter
            .get(key)
            .await?
            .is_some_and(|value| options.allow_stale || !value.is_stale()))
    }

    pub(super) async fn expiry(&self, key: &str, options: &Options) -> Result<Option<Expiry>> {
        if self.may_be_stale(options) {
            let Some(value) = self.adapter.get(key).await? else { return Ok(None) };
            if value.meta().is_kept() && value.meta().expires_ms() != u64::MAX {
                return Ok(value.remaining().map(Expiry::After));
            }
        }
        self.adapter.expiry(key).await
    }

    pub(super) async fn remove(&self, key: &str, options: &Options) -> Result<bool> {
        let was_stale = self.holds_stale(key, options).await?;
        Ok(self.adapter.remove(key).await? && !was_stale)
    }

    pub(super) async fn remove_many(
        &self,
        keys: &[&str],
        options: &Options,
    ) -> Result<Vec<Result<bool>>> {
        if !self.may_be_stale(options) {
            return self.adapter.remove_many(keys).await;
        }
        let found = self.adapter.get_many(keys).await?;
        let was_stale = found
            .into_iter()
            .map(|found| found.is_ok_and(|found| found.is_some_and(|value| value.is_stale())));
        let removed = self.adapter.remove_many(keys).await?;
        Ok(removed
            .into_iter()
            .zip(was_stale)
            .map(|(removed, was_stale)| removed.map(|live| live && !was_stale))
            .collect())
    }

    pub(super) async fn take(&self, key: &str) -> Result<Option<CacheValue>> {
        Ok(self.adapter.take(key).await?.filter(|value| !self.is_stale(value)))
    }

    pub(super) async fn replace(
        &self,
        key: &str,
        value: CacheValue,
        term: Term,
        options: &Options,
    ) -> Result<bool> {
        if self.holds_stale(key, options).await? {
            return Ok(false);
        }
        self.adapter.replace(key, value, term.kept).await
    }

    /// A stale entry is no obstacle to `add`: one of those who find it puts theirs in its place.
    pub(super) async fn add(
        &self,
        key: &str,
        value: CacheValue,
        term: Term,
        options: &Options,
    ) -> Result<bool> {
        for _ in 0..TRIES {
            if self.adapter.add(key, value.clone(), term.kept).await? {
                return Ok(true);
            }
            if !self.may_be_stale(options) {
                return Ok(false);
            }
            match self.instead_of_stale(key, value.clone(), term.kept).await? {
                Instead::Stored => return Ok(true),
                Instead::Live => return Ok(false),
                Instead::Changed => {}
            }
        }
        // Somebody else stores and removes it all the time.
        Ok(false)
    }

    /// A stale counter counts as missing.
    pub(super) async fn incr(&self, key: &str, by: i64, options: &Options) -> Result<i64> {
        let expiry = options.counter_expiry(|| self.adapter.default_ttl())?;
        if self.holds_stale(key, options).await? {
            for _ in 0..TRIES {
                match self.instead_of_stale(key, CacheValue::new(by), expiry).await? {
                    Instead::Stored => return Ok(by),
                    Instead::Live => break,
                    Instead::Changed => {}
                }
            }
        }
        self.adapter.incr(key, by, expiry).await
    }

    /// Puts a value in the place of one that is stale, if nobody else does.
    async fn instead_of_stale(
        &self,
        key: &str,
        value: CacheValue,
        expiry: Expiry,
    ) -> Result<Instead> {
        let Some(claim) = self.adapter.claim(key, None).await? else { return Ok(Instead::Changed) };
        let found = match self.adapter.get(key).await? {
            None => return self.give_up(key, &claim, Instead::Changed).await,
            Some(found) if !found.is_stale() => {
                return self.give_up(key, &claim, Instead::Live).await;
            }
            Some(found) => found,
        };
        // Where claims guard nothing the value is the one that everybody here sees, and only one buries it.
        if !self.adapter.enforces_claims() && !found.bury() {
            return Ok(Instead::Changed);
        }
        Ok(if self.adapter.set_claimed(key, value, expiry, &claim).await? {
            Instead::Stored
        } else {
            Instead::Changed
        })
    }

    async fn give_up<R>(&self, key: &str, claim: &Claim, answer: R) -> Result<R> {
        self.adapter.release(key, claim).await?;
        Ok(answer)
    }

    /// Gives a live entry another expiry; both its ends move.
    pub(super) async fn update_timeout(
        &self,
        key: &str,
        expiry: Expiry,
        options: &Options,
    ) -> Result<Option<CacheValue>> {
        if !self.may_be_stale(options) {
            return self.adapter.update_timeout(key, expiry).await;
        }
        for _ in 0..TRIES {
            let Some(claim) = self.adapter.claim(key, None).await? else { continue };
            let found = match self.adapter.get(key).await? {
                Some(found) if !found.is_stale() => found,
                _ => return self.give_up(key, &claim, None).await,
            };
            if !found.meta().is_kept() {
                self.adapter.release(key, &claim).await?;
                return self.adapter.update_timeout(key, expiry).await;
            }
            let term = self.renewed_term(key, &found, expiry, options).await?;
            if !self.adapter.enforces_claims() {
                let Some(found) = self.adapter.update_timeout(key, term.kept).await? else {
                    return Ok(None);
                };
                found.move_end(if term.meta.expires_ms() == 0 {
                    u64::MAX
                } else {
                    term.meta.expires_ms()
                });
                return Ok(Some(found));
            }
            if self.adapter.set_claimed(key, found.renewed(term.meta), term.kept, &claim).await? {
                return Ok(Some(found));
            }
        }
        Err(Error::new(ErrorKind::Backend).with_message("the entry is changed all the time"))
    }

    pub(super) async fn touch(&self, key: &str, expiry: Expiry, options: &Options) -> Result<bool> {
        if self.may_be_stale(options) {
            return Ok(self.update_timeout(key, expiry, options).await?.is_some());
        }
        self.adapter.touch(key, expiry).await
    }

    /// The term of an entry that gets another expiry: kept as much longer as the call says, or as it was.
    async fn renewed_term(
        &self,
        key: &str,
        found: &CacheValue,
        expiry: Expiry,
        options: &Options,
    ) -> Result<Term> {
        let mut options = *options;
        options.expiry = expiry;
        if options.keeps_for().is_none()
            && let Some(Expiry::After(kept)) = self.adapter.expiry(key).await?
        {
            options.stale_for(kept.saturating_sub(found.remaining().unwrap_or_default()));
        }
        let default: Lifetime = self.adapter.default_ttl();
        let cost = Duration::from_micros(found.meta().cost_us().into());
        Ok(options.term(default, cost))
    }
}

/// What became of a value that was to replace a stale one.
enum Instead {
    Stored,
    /// There is a live one.
    Live,
    /// Somebody else was there meanwhile: look again.
    Changed,
}
