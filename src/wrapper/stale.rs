//! Stale entries (kept beyond their logical expiry) and dead ones (of which a tag was removed) under
//! the verbs that do not read the value: for these verbs such an entry is missing.
//!
//! The store is asked on each call, because another process may have stored such an entry at any
//! time.

use super::attempts::{Attempts, TRIES};
use super::events::is_denied;
use super::slot::Slot;
use crate::adapter::{Claim, Presence};
use crate::codec::Tags;
use crate::error::{Error, ErrorKind, Result};
use crate::expiry::{Expiry, Lifetime};
use crate::options::{Options, ReadFrom, WritePlan};
use crate::value::CacheValue;
use std::time::Duration;

/// How many values with tags are read at once for the sake of their tags: they are in memory
/// together.
const VALUES_AT_ONCE: usize = 1_000;

/// What a verb that does not read the value finds under a key.
enum Standing {
    Missing,
    /// A tag of the entry was removed: missing also where stale values are allowed.
    Dead,
    Stale,
    Live,
    /// Live, with a stale window.
    Kept(Duration),
}

/// What is under a key, and the tags of a live entry that has some.
struct Seen {
    standing: Standing,
    tags: Option<Tags>,
}

impl Seen {
    fn untagged(standing: Standing) -> Self {
        Self { standing, tags: None }
    }
}

impl Slot {
    /// The expiry and metadata of a plain write.
    pub(super) fn plan_plain_write(&self, options: &Options) -> Result<WritePlan> {
        options.plan_plain_write(|| self.adapter.default_ttl())
    }

    /// Whether the entry is live; `None` for a store without logical ends, where the verb itself
    /// finds out.
    async fn seen(&self, key: &str) -> Result<Option<Seen>> {
        if !self.adapter.has_logical_ends() {
            return Ok(None);
        }
        let standing = match self.adapter.presence(key).await? {
            // Only the value names the tags.
            Presence::Tagged => return Box::pin(self.seen_by_value(key)).await.map(Some),
            presence => Standing::of(presence),
        };
        Ok(Some(Seen::untagged(standing)))
    }

    async fn seen_by_value(&self, key: &str) -> Result<Seen> {
        let Some(found) = self.adapter.get_far(key).await? else {
            return Ok(Seen::untagged(Standing::Missing));
        };
        if !self.is_current(&found, ReadFrom::Far).await? {
            return Ok(Seen::untagged(Standing::Dead));
        }
        let standing = Standing::of(Presence::by_end(found.meta()));
        Ok(Seen { standing, tags: found.tags().cloned() })
    }

    async fn standing(&self, key: &str) -> Result<Option<Standing>> {
        Ok(self.seen(key).await?.map(|seen| seen.standing))
    }

    /// Whether the entry is one of which a tag was removed.
    async fn is_dead(&self, key: &str) -> Result<bool> {
        Ok(matches!(self.standing(key).await?, Some(Standing::Dead)))
    }

    pub(super) async fn contains(&self, key: &str, options: &Options) -> Result<bool> {
        match self.standing(key).await? {
            None => self.adapter.contains(key).await,
            Some(Standing::Missing | Standing::Dead) => Ok(false),
            Some(Standing::Stale) => Ok(options.allow_stale),
            Some(Standing::Live | Standing::Kept(_)) => Ok(true),
        }
    }

    pub(super) async fn expiry(&self, key: &str) -> Result<Option<Expiry>> {
        let Some(kept) = self.adapter.expiry(key).await? else { return Ok(None) };
        Ok(match self.standing(key).await? {
            Some(Standing::Missing | Standing::Dead | Standing::Stale) => None,
            Some(Standing::Kept(left)) => Some(Expiry::After(left)),
            None | Some(Standing::Live) => Some(kept),
        })
    }

    pub(super) async fn take(&self, key: &str) -> Result<Option<CacheValue>> {
        let taken = self.adapter.take(key).await?.filter(|value| !value.is_stale());
        match taken {
            Some(value) if !self.is_current(&value, ReadFrom::Far).await? => Ok(None),
            taken => Ok(taken),
        }
    }

    /// Removes a key. Whether a tagged entry was live has to be asked before the removal, which
    /// costs a call of the adapter: only a process that has met tags asks.
    pub(super) async fn remove(&self, key: &str) -> Result<bool> {
        if !self.meets_tags() {
            return self.adapter.remove(key).await;
        }
        let is_dead = Box::pin(self.is_dead(key)).await;
        // The removal matters more than its answer, so it follows an error of the question, too.
        let removed = self.adapter.remove(key).await?;
        Ok(removed && !is_dead.unwrap_or(false))
    }

    /// [`remove`](Self::remove) of several keys.
    pub(super) async fn remove_many(&self, keys: &[&str]) -> Result<Vec<Result<bool>>> {
        if !self.meets_tags() {
            return self.adapter.remove_many(keys).await;
        }
        let dead = Box::pin(self.are_dead(keys)).await;
        let removed = self.adapter.remove_many(keys).await?;
        let answers = removed.into_iter().zip(dead);
        Ok(answers.map(|(live, is_dead)| Ok(live? && !is_dead)).collect())
    }

    /// Whether each key holds an entry of which a tag was removed: one call for all keys, and two
    /// more for the entries with tags. A key about which nothing is known counts as not dead.
    async fn are_dead(&self, keys: &[&str]) -> Vec<bool> {
        let mut dead = vec![false; keys.len()];
        if !self.adapter.has_logical_ends() {
            return dead;
        }
        let Ok(present) = self.adapter.presence_many(keys).await else { return dead };
        let tagged = present.into_iter().enumerate();
        let tagged: Vec<usize> = tagged
            .filter_map(|(at, present)| matches!(present, Ok(Presence::Tagged)).then_some(at))
            .collect();
        for places in tagged.chunks(VALUES_AT_ONCE) {
            let names: Vec<&str> = places.iter().map(|at| keys[*at]).collect();
            let Ok(found) = self.adapter.get_many_far(&names).await else { continue };
            let found = places.iter().zip(found);
            let (places, values): (Vec<usize>, Vec<CacheValue>) =
                found.filter_map(|(at, found)| Some((*at, found.ok()??))).unzip();
            let current = self.are_current(&values, ReadFrom::Far).await;
            for (at, is_current) in places.into_iter().zip(current) {
                dead[at] = matches!(is_current, Ok(false));
            }
        }
        dead
    }

    pub(super) async fn replace(
        &self,
        key: &str,
        value: CacheValue,
        plan: WritePlan,
    ) -> Result<bool> {
        match self.standing(key).await? {
            Some(Standing::Stale | Standing::Dead) => Ok(false),
            // The store decides: the live entry may have been removed since, and the store may not
            // support `replace`.
            _ => self.adapter.replace(key, value, plan.kept).await,
        }
    }

    /// `add` succeeds on a stale or dead entry: one of the callers that find the entry replaces it.
    pub(super) async fn add(&self, key: &str, value: CacheValue, plan: WritePlan) -> Result<bool> {
        let attempts = Attempts::begin();
        for tried in 1..=TRIES {
            if self.adapter.add(key, value.clone(), plan.kept).await? {
                return Ok(true);
            }
            match self.standing(key).await? {
                None | Some(Standing::Live | Standing::Kept(_)) => return Ok(false),
                Some(Standing::Missing) if attempts.are_enough(tried) => return Ok(false),
                Some(Standing::Missing) => continue,
                Some(Standing::Stale | Standing::Dead) => {}
            }
            match self.instead_of_missing(key, value.clone(), plan.kept).await? {
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
        match self.adapter.incr(key, by, expiry).await {
            // Perhaps because the entry has tags: if one of them was removed, the counter begins
            // anew.
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                Box::pin(self.incr_tagged(key, by, expiry, error)).await
            }
            sum => sum,
        }
    }

    /// [`incr`](Self::incr) after the adapter has refused it.
    async fn incr_tagged(&self, key: &str, by: i64, expiry: Expiry, refused: Error) -> Result<i64> {
        for _ in 0..TRIES {
            if !self.is_dead(key).await? {
                return Err(refused);
            }
            match self.instead_of_missing(key, CacheValue::new(by), expiry).await? {
                Instead::Stored => return Ok(by),
                Instead::Live | Instead::Changed => {}
            }
            match self.adapter.incr(key, by, expiry).await {
                Err(error) if error.kind() == ErrorKind::Unsupported => {}
                sum => return sum,
            }
        }
        Err(changed_all_the_time())
    }

    /// Replaces a stale or dead value, unless another caller does.
    async fn instead_of_missing(
        &self,
        key: &str,
        value: CacheValue,
        expiry: Expiry,
    ) -> Result<Instead> {
        let Some(claim) = self.adapter.claim(key, None).await? else { return Ok(Instead::Changed) };
        let found = match self.adapter.get_far(key).await? {
            None => return self.give_up(key, &claim, Instead::Changed).await,
            Some(found) if !found.is_stale() && self.is_current(&found, ReadFrom::Far).await? => {
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
        let seen = self.seen(key).await?;
        match seen.as_ref().map(|seen| &seen.standing) {
            Some(Standing::Missing | Standing::Dead | Standing::Stale) => Ok(None),
            Some(Standing::Kept(_)) => self.move_both_ends(key, expiry, options).await,
            None | Some(Standing::Live) => {
                self.prolong_for(seen, expiry).await?;
                self.adapter.update_timeout(key, expiry).await
            }
        }
    }

    /// [`update_timeout`](Self::update_timeout) without the value.
    pub(super) async fn touch(&self, key: &str, expiry: Expiry, options: &Options) -> Result<bool> {
        let seen = self.seen(key).await?;
        match seen.as_ref().map(|seen| &seen.standing) {
            Some(Standing::Missing | Standing::Dead | Standing::Stale) => Ok(false),
            Some(Standing::Kept(_)) => {
                Ok(self.move_both_ends(key, expiry, options).await?.is_some())
            }
            None | Some(Standing::Live) => {
                self.prolong_for(seen, expiry).await?;
                self.adapter.touch(key, expiry).await
            }
        }
    }

    /// Makes the records of an entry's tags live as long as the entry will.
    async fn prolong_for(&self, seen: Option<Seen>, expiry: Expiry) -> Result<()> {
        let Some(Seen { tags: Some(tags), .. }) = seen else { return Ok(()) };
        Box::pin(self.prolong(&tags, expiry.resolve(self.adapter.default_ttl()))).await
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
            if let Some(tags) = found.tags() {
                Box::pin(self.prolong(tags, plan.kept.resolve(self.adapter.default_ttl()))).await?;
            }
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
        Err(changed_all_the_time())
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
        if options.keeps_for().is_none() {
            match self.adapter.expiry(key).await {
                Ok(Some(Expiry::After(kept))) => {
                    let left = found.meta().remaining().unwrap_or_default();
                    options.stale_for(kept.saturating_sub(left));
                }
                Ok(_) => {}
                // Nobody can say how long the window is: the entry has none from now on.
                Err(error) if is_denied(&error) => {}
                Err(error) => return Err(error),
            }
        }
        let default: Lifetime = self.adapter.default_ttl();
        let cost = Duration::from_micros(found.meta().cost_us().into());
        Ok(options.plan_write(default, cost))
    }
}

impl Standing {
    /// That of an entry whose tags are what they were.
    fn of(presence: Presence) -> Self {
        match presence {
            Presence::Missing => Self::Missing,
            Presence::Stale => Self::Stale,
            Presence::Live | Presence::Tagged => Self::Live,
            Presence::Kept(left) => Self::Kept(left),
        }
    }
}

fn changed_all_the_time() -> Error {
    Error::new(ErrorKind::Backend).with_message("the entry is changed all the time")
}

/// The result of replacing a stale or dead value.
enum Instead {
    Stored,
    /// The entry is live.
    Live,
    /// Another caller changed the entry: check again.
    Changed,
}
