//! The right to store what a loader comes to, against what other processes do meanwhile; with a lease, the right to run it at all.

use super::fault::concerns_backend;
use super::slot::Slot;
use super::tell::About;
use super::{Cacheable, View};
use crate::runtime::Backoff;
use crate::{CacheValue, Claim, Expiry, Result, runtime};
use std::time::{Duration, Instant};

/// How often it is looked whether another process is done, to begin with and later on.
const BACKOFF: Backoff =
    Backoff::new(Duration::from_millis(2), Duration::from_millis(50)).growing_by(1.5);

/// How much longer than a lease its end is waited for: stores that count in whole seconds round up.
const SLACK: Duration = Duration::from_secs(2);

/// As close together a value is taken for the same one.
const SAME_MS: u64 = 5;

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
    /// knows it, and `seen` says when the value was made that is to be replaced, if there is one.
    pub(super) async fn ask<T: Cacheable>(
        &self,
        slot: &Slot,
        key: &str,
        scoped: &str,
        seen: Option<u64>,
    ) -> Result<Acquired> {
        if !slot.adapter.enforces_claims() {
            return Ok(Acquired::Granted(StoreRight::Free));
        }
        let asked = match self.options.lease_for() {
            Some(lease) => lease_or_value::<T>(slot, scoped, lease, seen).await,
            None => claim(slot, scoped, None)
                .await
                .map(|right| Acquired::Granted(right.unwrap_or(StoreRight::None))),
        };
        asked.or_else(|error| {
            let error = self.cache.failed(slot, About::new("claim", key), error);
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

/// Whether the value is another than the one that is to be computed again, which was `seen` to be made then.
fn is_news(value: &CacheValue, seen: Option<u64>) -> bool {
    // What is read twice may differ by a rounded millisecond.
    !value.is_stale() && seen.is_none_or(|seen| value.meta().created_ms().abs_diff(seen) > SAME_MS)
}

/// The lease, or what came of somebody else's. Whoever waits longer than for one lease goes on without.
async fn lease_or_value<T: Cacheable>(
    slot: &Slot,
    scoped: &str,
    lease: Duration,
    seen: Option<u64>,
) -> Result<Acquired> {
    let begun = Instant::now();
    let mut looks = 0;
    loop {
        let right = claim(slot, scoped, Some(lease)).await?;
        // The one before may have been done between our miss and our claim.
        let found = slot.adapter.get(scoped).await;
        match (right, found) {
            (right, Ok(Some(value))) if is_news(&value, seen) && value.decode::<T>().is_ok() => {
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
        runtime::pause(BACKOFF.pause(looks)).await;
        looks += 1;
    }
}
