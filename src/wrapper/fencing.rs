//! The right to store what a loader comes to, against what other processes do meanwhile; with a lease, the right to run it at all.

use super::events::{CallInfo, concerns_backend};
use super::slot::Slot;
use super::{Cacheable, View};
use crate::adapter::Claim;
use crate::error::Result;
use crate::expiry::Expiry;
use crate::options::Options;
use crate::runtime::Backoff;
use crate::value::CacheValue;
use crate::{clock, runtime};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// How often it is looked whether another process is done, to begin with and later on.
const BACKOFF: Backoff =
    Backoff::new(Duration::from_millis(2), Duration::from_millis(50)).growing_by(1.5);

/// How much longer than a lease its end is waited for: stores that count in whole seconds round up.
const SLACK: Duration = Duration::from_secs(2);

/// As close together a value is taken for the same one.
const SAME_MS: u64 = 5;

/// What a load is to replace.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Replaced {
    /// When the value was made that was read, if there was one.
    pub(super) seen: Option<u64>,
    /// A forced refresh takes only what another process began to compute after this.
    since: Option<u64>,
}

impl Replaced {
    /// By a call with these options, which begins now.
    pub(super) fn by(options: &Options) -> Self {
        Self { seen: None, since: options.force_refresh.then(clock::now_ms) }
    }

    /// Whether a value is another one, and new enough.
    fn is_replaced_by(self, value: &CacheValue) -> bool {
        // What is read twice may differ by a rounded millisecond.
        self.seen.is_none_or(|seen| value.meta().created_ms().abs_diff(seen) > SAME_MS)
            && self.is_before(value)
    }

    /// Whether the computation of a value began after a forced refresh did; in doubt it did not.
    pub(super) fn is_before(self, value: &CacheValue) -> bool {
        let cost = u64::from(value.meta().cost_us()).div_ceil(1_000);
        self.since.is_none_or(|since| value.meta().created_ms().saturating_sub(cost) > since)
    }
}

/// What a run may do with its value.
#[derive(Debug)]
pub(super) enum StoreRight {
    /// Store it: nobody else writes there.
    Free,
    /// Store it if nothing has happened to the key since.
    Claimed { claim: Claim, leased: bool },
    /// Not store it.
    None,
}

/// What asking for the right comes to.
pub(super) enum Acquired {
    Granted(StoreRight),
    /// Another process has computed the value meanwhile.
    Computed(CacheValue),
}

impl StoreRight {
    /// Stores a value; whether it was, or need not be.
    pub(super) async fn store(
        &self,
        slot: &Slot,
        key: &str,
        value: CacheValue,
        expiry: Expiry,
    ) -> Result<()> {
        match self {
            Self::Free => slot.adapter.set(key, value, expiry).await,
            // What somebody else did meanwhile stands.
            Self::Claimed { claim, .. } => {
                slot.adapter.set_claimed(key, value, expiry, claim).await.map(drop)
            }
            Self::None => Ok(()),
        }
    }

    /// Gives it back unused. Should that fail, it ends by itself.
    pub(super) async fn give_up(&self, slot: &Slot, key: &str) {
        if let Self::Claimed { claim, .. } = self {
            let _ = slot.adapter.release(key, claim).await;
        }
    }

    pub(super) fn is_leased(&self) -> bool {
        matches!(self, Self::Claimed { leased: true, .. })
    }
}

impl View<'_> {
    /// Asks for the right to compute a key; `key` is as the caller wrote it, `scoped` as the adapter
    /// knows it.
    pub(super) async fn ask<T: Cacheable>(
        &self,
        slot: &Slot,
        key: &str,
        scoped: &str,
        replaced: Replaced,
    ) -> Result<Acquired> {
        if !slot.adapter.enforces_claims() {
            return Ok(Acquired::Granted(StoreRight::Free));
        }
        let asked = match self.options.lease_for() {
            Some(lease) => lease_or_value::<T>(slot, scoped, lease, replaced).await,
            None => claim(slot, scoped, None)
                .await
                .map(|right| Acquired::Granted(right.unwrap_or(StoreRight::None))),
        };
        asked.or_else(|error| {
            let error = self.cache.failed(slot, CallInfo::new("claim", key), error);
            if self.options.fail_open && concerns_backend(&error) {
                Ok(Acquired::Granted(StoreRight::None))
            } else {
                Err(error)
            }
        })
    }
}

async fn claim(slot: &Slot, scoped: &str, lease: Option<Duration>) -> Result<Option<StoreRight>> {
    let claim = slot.adapter.claim(scoped, lease).await?;
    Ok(claim.map(|claim| StoreRight::Claimed { claim, leased: lease.is_some() }))
}

/// Whether another process has computed what this one was about to. A value whose `Clone` or
/// `Deserialize` panics is none: the claim that is held meanwhile must not be lost.
fn is_news<T: Cacheable>(value: &CacheValue, replaced: Replaced) -> bool {
    let decodes = || value.decode::<T>().is_ok();
    !value.is_stale()
        && replaced.is_replaced_by(value)
        && catch_unwind(AssertUnwindSafe(decodes)).unwrap_or(false)
}

/// The lease, or what came of somebody else's. Whoever waits longer than for one lease goes on without.
async fn lease_or_value<T: Cacheable>(
    slot: &Slot,
    scoped: &str,
    lease: Duration,
    replaced: Replaced,
) -> Result<Acquired> {
    let begun = Instant::now();
    let mut looks = 0;
    loop {
        let right = claim(slot, scoped, Some(lease)).await?;
        // The one before may have been done between our miss and our claim.
        let found = slot.adapter.get(scoped).await;
        match (right, found) {
            (right, Ok(Some(value))) if is_news::<T>(&value, replaced) => {
                if let Some(right) = right {
                    right.give_up(slot, scoped).await;
                }
                return Ok(Acquired::Computed(value));
            }
            (Some(right), Err(error)) => {
                right.give_up(slot, scoped).await;
                return Err(error);
            }
            (None, Err(error)) => return Err(error),
            (Some(right), Ok(_)) => return Ok(Acquired::Granted(right)),
            (None, Ok(_)) => {}
        }
        if begun.elapsed() >= lease.saturating_add(SLACK) || runtime::is_gone() {
            return Ok(Acquired::Granted(
                claim(slot, scoped, None).await?.unwrap_or(StoreRight::None),
            ));
        }
        runtime::background_sleep(BACKOFF.pause(looks)).await;
        looks += 1;
    }
}
