//! Entries that are kept beyond their logical end, under the verbs that do not see the value: for these they are missing.
//!
//! The store is asked each time, in the call itself or before it: what one process has met says nothing of what another has stored.

use super::slot::Slot;
use crate::adapter::{Claim, Presence};
use crate::error::{Error, ErrorKind, Result};
use crate::expiry::{Expiry, Lifetime};
use crate::options::{Options, WritePlan};
use crate::value::CacheValue;
use std::time::Duration;

/// How often a step is tried again because the entry changed meanwhile.
const TRIES: usize = 16;

impl Slot {
    /// The term of a plain write.
    pub(super) fn plan_plain_write(&self, options: &Options) -> Result<WritePlan> {
        options.plan_plain_write(|| self.adapter.default_ttl())
    }

    /// What is under `key`; `None` where nothing has a logical end, and the verb itself will tell.
    async fn presence(&self, key: &str) -> Result<Option<Presence>> {
        if !self.adapter.has_logical_ends() {
            return Ok(None);
        }
        self.adapter.presence(key).await.map(Some)
    }

    pub(super) async fn contains(&self, key: &str, options: &Options) -> Result<bool> {
        match self.presence(key).await? {
            None => self.adapter.contains(key).await,
            Some(Presence::Missing) => Ok(false),
            Some(Presence::Stale) => Ok(options.allow_stale),
            Some(Presence::Live | Presence::Kept(_)) => Ok(true),
        }
    }

    pub(super) async fn expiry(&self, key: &str) -> Result<Option<Expiry>> {
        let Some(kept) = self.adapter.expiry(key).await? else { return Ok(None) };
        Ok(match self.presence(key).await? {
            Some(Presence::Missing | Presence::Stale) => None,
            Some(Presence::Kept(left)) => Some(Expiry::After(left)),
            None | Some(Presence::Live) => Some(kept),
        })
    }

    pub(super) async fn take(&self, key: &str) -> Result<Option<CacheValue>> {
        Ok(self.adapter.take(key).await?.filter(|value| !value.is_stale()))
    }

    pub(super) async fn replace(
        &self,
        key: &str,
        value: CacheValue,
        plan: WritePlan,
    ) -> Result<bool> {
        match self.presence(key).await? {
            Some(Presence::Stale) => Ok(false),
            // What is live may be gone by now, and a store may have no `replace`: it is for the store to say.
            _ => self.adapter.replace(key, value, plan.kept).await,
        }
    }

    /// A stale entry is no obstacle to `add`: one of those who find it puts theirs in its place.
    pub(super) async fn add(&self, key: &str, value: CacheValue, plan: WritePlan) -> Result<bool> {
        for _ in 0..TRIES {
            if self.adapter.add(key, value.clone(), plan.kept).await? {
                return Ok(true);
            }
            match self.presence(key).await? {
                None | Some(Presence::Live | Presence::Kept(_)) => return Ok(false),
                Some(Presence::Missing) => continue,
                Some(Presence::Stale) => {}
            }
            match self.instead_of_stale(key, value.clone(), plan.kept).await? {
                Instead::Stored => return Ok(true),
                Instead::Live => return Ok(false),
                Instead::Changed => {}
            }
        }
        // Somebody else stores and removes it all the time.
        Ok(false)
    }

    pub(super) async fn incr(&self, key: &str, by: i64, options: &Options) -> Result<i64> {
        let expiry = options.counter_expiry(|| self.adapter.default_ttl())?;
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
        if !self.adapter.enforces_claims() && !found.claim_replacement() {
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
        match self.presence(key).await? {
            Some(Presence::Missing | Presence::Stale) => Ok(None),
            Some(Presence::Kept(_)) => self.move_both_ends(key, expiry, options).await,
            None | Some(Presence::Live) => self.adapter.update_timeout(key, expiry).await,
        }
    }

    /// [`update_timeout`](Self::update_timeout) without the value.
    pub(super) async fn touch(&self, key: &str, expiry: Expiry, options: &Options) -> Result<bool> {
        match self.presence(key).await? {
            Some(Presence::Missing | Presence::Stale) => Ok(false),
            Some(Presence::Kept(_)) => {
                Ok(self.move_both_ends(key, expiry, options).await?.is_some())
            }
            None | Some(Presence::Live) => self.adapter.touch(key, expiry).await,
        }
    }

    /// Moves the logical end, which is noted in the value, together with the physical one.
    async fn move_both_ends(
        &self,
        key: &str,
        expiry: Expiry,
        options: &Options,
    ) -> Result<Option<CacheValue>> {
        for _ in 0..TRIES {
            let Some(claim) = self.adapter.claim(key, None).await? else { continue };
            let found = match self.adapter.get(key).await? {
                Some(found) if !found.is_stale() => found,
                _ => return self.give_up(key, &claim, None).await,
            };
            if !found.meta().has_stale_window() {
                self.adapter.release(key, &claim).await?;
                return self.adapter.update_timeout(key, expiry).await;
            }
            let plan = self.plan_renewal(key, &found, expiry, options).await?;
            if !self.adapter.enforces_claims() {
                let Some(found) = self.adapter.update_timeout(key, plan.kept).await? else {
                    return Ok(None);
                };
                found.move_end(if plan.meta.expires_ms() == 0 {
                    u64::MAX
                } else {
                    plan.meta.expires_ms()
                });
                return Ok(Some(found));
            }
            if self.adapter.set_claimed(key, found.renewed(plan.meta), plan.kept, &claim).await? {
                return Ok(Some(found));
            }
        }
        Err(Error::new(ErrorKind::Backend).with_message("the entry is changed all the time"))
    }

    /// The term of an entry that gets another expiry: kept as much longer as the call says, or as it was.
    async fn plan_renewal(
        &self,
        key: &str,
        found: &CacheValue,
        expiry: Expiry,
        options: &Options,
    ) -> Result<WritePlan> {
        let mut options = *options;
        options.expiry = expiry;
        if options.keeps_for().is_none()
            && let Some(Expiry::After(kept)) = self.adapter.expiry(key).await?
        {
            options.stale_for(kept.saturating_sub(found.meta().remaining().unwrap_or_default()));
        }
        let default: Lifetime = self.adapter.default_ttl();
        let cost = Duration::from_micros(found.meta().cost_us().into());
        Ok(options.plan_write(default, cost))
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
