//! The right to store a loader's value although other processes may write the key during the load
//! (a fencing token). With a lease, also the exclusive right to run the loader.

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

/// The pauses between checks whether another process has finished.
const BACKOFF: Backoff =
    Backoff::new(Duration::from_millis(2), Duration::from_millis(50)).growing_by(1.5);

/// A process waits for the end of a lease this much longer than the lease itself, because stores
/// that count whole seconds round up.
const SLACK: Duration = Duration::from_secs(2);

/// Two creation times that differ by no more than this belong to the same value.
const SAME_MS: u64 = 5;

/// Which value a load replaces.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Replaced {
    /// The creation time of the value that was read, if any.
    pub(super) seen: Option<u64>,
    /// A forced refresh accepts only a value whose computation began after this time.
    since: Option<u64>,
}

impl Replaced {
    /// Which value is replaced by a call that begins now with these options.
    pub(super) fn by(options: &Options) -> Self {
        Self { seen: None, since: options.force_refresh.then(clock::now_ms) }
    }

    /// Whether `value` is a different value from the one that was read, and new enough.
    fn is_replaced_by(self, value: &CacheValue) -> bool {
        // Two reads of the same value may differ by rounding to milliseconds.
        self.seen.is_none_or(|seen| value.meta().created_ms().abs_diff(seen) > SAME_MS)
            && self.is_before(value)
    }

    /// Whether the computation of `value` began after the forced refresh began. In doubt, `false`.
    pub(super) fn is_before(self, value: &CacheValue) -> bool {
        let cost = u64::from(value.meta().cost_us()).div_ceil(1_000);
        self.since.is_none_or(|since| value.meta().created_ms().saturating_sub(cost) > since)
    }
}

/// What a load may do with its value.
#[derive(Debug)]
pub(super) enum StoreRight {
    /// Store it: no other process writes to this store.
    Free,
    /// Store it if the key was not written, removed or cleared since the claim.
    Claimed { claim: Claim, leased: bool },
    /// Do not store it.
    None,
}

/// The result of acquiring the right.
pub(super) enum Acquired {
    Granted(StoreRight),
    /// Another process has computed the value in the meantime.
    Computed(CacheValue),
}

impl StoreRight {
    /// Stores a value, as far as the right allows.
    pub(super) async fn store(
        &self,
        slot: &Slot,
        key: &str,
        value: CacheValue,
        expiry: Expiry,
    ) -> Result<()> {
        match self {
            Self::Free => slot.adapter.set(key, value, expiry).await,
            // If the claim has ended, the other process's write stands: not an error.
            Self::Claimed { claim, .. } => {
                slot.adapter.set_claimed(key, value, expiry, claim).await.map(drop)
            }
            Self::None => Ok(()),
        }
    }

    /// Gives the right back unused. Errors are ignored, because a claim ends by itself.
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
    /// Acquires the right to compute a key. `key` is the caller's key, `scoped` has the prefix of
    /// the namespace.
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

/// Whether another process has computed the value already. A value whose `Clone` or `Deserialize`
/// panics does not count: a panic here would lose the claim.
fn is_news<T: Cacheable>(value: &CacheValue, replaced: Replaced) -> bool {
    let decodes = || value.decode::<T>().is_ok();
    !value.is_stale()
        && replaced.is_replaced_by(value)
        && catch_unwind(AssertUnwindSafe(decodes)).unwrap_or(false)
}

/// Acquires the lease, or returns the value that the holder of the lease stored. After waiting for
/// longer than one lease, goes on without a lease.
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
        // Read again after the claim. The previous holder may have stored its value and released
        // the lease between our miss and our claim.
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
