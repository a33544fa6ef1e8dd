//! Stale entries (kept beyond their logical expiry) under the verbs that do not read the value: for
//! these verbs a stale entry is missing.
//!
//! The store is asked on each call, because another process may have stored a stale entry at any
//! time.

use super::slot::Slot;
use crate::adapter::{Claim, Presence};
use crate::error::{Error, ErrorKind, Result};
use crate::expiry::{Expiry, Lifetime};
use crate::options::{Options, WritePlan};
use crate::value::CacheValue;
use std::time::Duration;

/// How often a step is tried again because the entry changed in between.
const TRIES: usize = 16;

impl Slot {
    /// The expiry and metadata of a plain write.
    pub(super) fn plan_plain_write(&self, options: &Options) -> Result<WritePlan> {
        options.plan_plain_write(|| self.adapter.default_ttl())
    }

    /// Whether the entry is live or stale; `None` for a store without logical ends, where the verb
    /// itself finds out.
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
            // The store decides: the live entry may have been removed since, and the store may not
            // support `replace`.
            _ => self.adapter.replace(key, value, plan.kept).await,
        }
    }

    /// `add` succeeds on a stale entry: one of the callers that find the entry replaces it.
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
        // Other callers store and remove the key without end. Report that the key exists.
        Ok(false)
    }

    pub(super) async fn incr(&self, key: &str, by: i64, options: &Options) -> Result<i64> {
        let expiry = options.counter_expiry(|| self.adapter.default_ttl())?;
        self.adapter.incr(key, by, expiry).await
    }

    /// Replaces a stale value, unless another caller does.
    async fn instead_of_stale(
        &self,
        key: &str,
        value: CacheValue,
        expiry: Expiry,
    ) -> Result<Instead> {
        let Some(claim) = self.adapter.claim(key, None).await? else { return Ok(Instead::Changed) };
        let found = match self.adapter.get_far(key).await? {
            None => return self.give_up(key, &claim, Instead::Changed).await,
            Some(found) if !found.is_stale() => {
                return self.give_up(key, &claim, Instead::Live).await;
            }
            Some(found) => found,
        };
        // Without enforced claims all callers share this handle, so a compare-and-swap on it elects
        // one replacer.
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

    /// Gives a live entry another expiry. Moves the logical and the physical end.
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

    /// Moves the logical end, which is part of the value, together with the physical one. The claim
    /// makes the two steps atomic: a write in between ends the claim, and the loop begins again.
    async fn move_both_ends(
        &self,
        key: &str,
        expiry: Expiry,
        options: &Options,
    ) -> Result<Option<CacheValue>> {
        for _ in 0..TRIES {
            let Some(claim) = self.adapter.claim(key, None).await? else { continue };
            let found = match self.adapter.get_far(key).await? {
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

    /// The expiry and metadata of an entry that gets another expiry. Its stale window is the
    /// call's, or stays as it was if the call has none.
    async fn plan_renewal(
        &self,
        key: &str,
        found: &CacheValue,
        expiry: Expiry,
        options: &Options,
    ) -> Result<WritePlan> {
        let mut options = *options;
        options.expiry = expiry.into();
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

/// The result of replacing a stale value.
enum Instead {
    Stored,
    /// The entry is live.
    Live,
    /// Another caller changed the entry: check again.
    Changed,
}
