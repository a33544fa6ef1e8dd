//! The right to store a loader's value although other processes may write the key during the load
//! (a fencing token). With a lease, also the exclusive right to run the loader.

use super::View;
use super::events::{CallInfo, concerns_backend};
use super::slot::Slot;
use super::value_type::ValueType;
use crate::adapter::Claim;
use crate::error::Result;
use crate::expiry::Expiry;
use crate::options::{Options, ReadFrom};
use crate::runtime::Backoff;
use crate::value::CacheValue;
use crate::{clock, runtime};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
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
pub(super) enum StoreRight {
    /// Store it: no other process writes to this store.
    Free,
    /// Store it if the key was not written, removed or cleared since the claim.
    Claimed(Claim),
    /// The same, and no other process loads the key meanwhile.
    Leased(Lease),
    /// Do not store it.
    None,
}

/// A leased claim. It keeps other processes waiting, so a lease that is dropped unused, because a
/// caller went away in the middle of a call, is given back in a task.
pub(super) struct Lease {
    slot: Arc<Slot>,
    scoped: String,
    /// `None` once the claim was used or given back.
    claim: Option<Claim>,
}

impl Lease {
    async fn give_back(&mut self) {
        if let Some(claim) = &self.claim {
            // An error is ignored, because a lease ends by itself.
            let _ = self.slot.adapter.release(&self.scoped, claim).await;
        }
        self.claim = None;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // A thread that is ending can start no task: then the lease ends by itself.
        if let Some(claim) = self.claim.take()
            && !runtime::is_gone()
        {
            let (slot, scoped) = (self.slot.clone(), std::mem::take(&mut self.scoped));
            runtime::spawn(async move {
                let _ = slot.adapter.release(&scoped, &claim).await;
            });
        }
    }
}

/// The result of acquiring the right, or more than the right.
pub(super) enum Acquired<R = StoreRight> {
    Granted(R),
    /// Another process has computed the value in the meantime.
    Computed(CacheValue),
}

impl StoreRight {
    /// Stores a value, as far as the right allows. A store that succeeds uses up the right.
    pub(super) async fn store(
        &mut self,
        slot: &Slot,
        key: &str,
        value: CacheValue,
        expiry: Expiry,
    ) -> Result<()> {
        match self {
            Self::Free => slot.adapter.set(key, value, expiry).await,
            // If the claim has ended, the other process's write stands: not an error.
            Self::Claimed(claim) => {
                slot.adapter.set_claimed(key, value, expiry, claim).await.map(drop)
            }
            Self::Leased(lease) => {
                if let Some(claim) = &lease.claim {
                    slot.adapter.set_claimed(key, value, expiry, claim).await?;
                }
                lease.claim = None;
                Ok(())
            }
            Self::None => Ok(()),
        }
    }

    /// Gives the right back unused. Errors are ignored, because a claim ends by itself.
    pub(super) async fn give_up(mut self, slot: &Slot, key: &str) {
        match &mut self {
            Self::Claimed(claim) => {
                let _ = slot.adapter.release(key, claim).await;
            }
            Self::Leased(lease) => lease.give_back().await,
            Self::Free | Self::None => {}
        }
    }

    /// Drops the right without a word to the store: it is unavailable, and the claim ends by
    /// itself.
    pub(super) fn forget(self) {
        if let Self::Leased(mut lease) = self {
            lease.claim = None;
        }
    }

    pub(super) fn is_leased(&self) -> bool {
        matches!(self, Self::Leased(_))
    }
}

impl View<'_> {
    /// Acquires the right to compute a key. `key` is the caller's key, `scoped` has the prefix of
    /// the namespace.
    pub(super) async fn ask(
        &self,
        slot: &Arc<Slot>,
        key: &str,
        scoped: &str,
        replaced: Replaced,
        of: ValueType,
    ) -> Result<Acquired> {
        let begun = Instant::now();
        let mut looks = 0;
        loop {
            let asked = self.ask_once(slot, key, scoped, (replaced, of), begun).await?;
            if let Some(acquired) = asked {
                return Ok(acquired);
            }
            runtime::background_sleep(lease_pause(looks)).await;
            looks += 1;
        }
    }

    /// [`ask`](Self::ask) without waiting for another process: `None` while that process has the
    /// lease. A call that has waited since `begun`, for longer than a lease, goes on without one.
    pub(super) async fn ask_once(
        &self,
        slot: &Arc<Slot>,
        key: &str,
        scoped: &str,
        (replaced, of): (Replaced, ValueType),
        begun: Instant,
    ) -> Result<Option<Acquired>> {
        if !slot.adapter.enforces_claims() {
            return Ok(Some(Acquired::Granted(StoreRight::Free)));
        }
        let asked = match self.options.lease_for() {
            Some(lease) => {
                let news = (replaced, of);
                lease_or_value(slot, scoped, lease, news, begun, &self.options).await
            }
            None => unleased(slot, scoped).await.map(Some),
        };
        asked.or_else(|error| {
            let error = self.cache.failed(slot, CallInfo::new("claim", key), error);
            if self.options.fail_open && concerns_backend(&error) {
                Ok(Some(Acquired::Granted(StoreRight::None)))
            } else {
                Err(error)
            }
        })
    }
}

/// The pause before a caller asks again for a lease that another process has.
pub(super) fn lease_pause(looks: u32) -> Duration {
    BACKOFF.pause(looks)
}

async fn unleased(slot: &Arc<Slot>, scoped: &str) -> Result<Acquired> {
    let claim = slot.adapter.claim(scoped, None).await?;
    Ok(Acquired::Granted(claim.map_or(StoreRight::None, StoreRight::Claimed)))
}

/// Asks for a lease in a task. The answer to a caller that went away would otherwise be lost, and
/// the lease with it; the task gives it back.
async fn take_lease(slot: &Arc<Slot>, scoped: &str, lease: Duration) -> Result<Option<Lease>> {
    let (slot, scoped) = (slot.clone(), scoped.to_owned());
    let asking = async move {
        let claim = slot.adapter.claim(&scoped, Some(lease)).await?;
        Ok(claim.map(|claim| Lease { slot, scoped, claim: Some(claim) }))
    };
    if runtime::is_gone() {
        return asking.await;
    }
    runtime::spawn(asking).await.unwrap_or_else(|_| Err(runtime::stopped()))
}

/// Whether another process has computed the value already. A value whose `Clone` or `Deserialize`
/// panics does not count: a panic here would lose the claim.
fn is_news(value: &CacheValue, replaced: Replaced, of: ValueType) -> bool {
    let decodes = || of.decodes(value);
    !value.is_stale()
        && replaced.is_replaced_by(value)
        && catch_unwind(AssertUnwindSafe(decodes)).unwrap_or(false)
}

/// Acquires the lease, or returns the value that the holder of the lease stored; `None` while
/// another process has the lease.
async fn lease_or_value(
    slot: &Arc<Slot>,
    scoped: &str,
    lease: Duration,
    (replaced, of): (Replaced, ValueType),
    begun: Instant,
    options: &Options,
) -> Result<Option<Acquired>> {
    let right = take_lease(slot, scoped, lease).await?.map(StoreRight::Leased);
    // Read again after the claim. The previous holder may have stored its value and released the
    // lease between our miss and our claim.
    let found =
        slot.read(scoped, ReadFrom::Far).await.map(|found| found.map(|it| options.read(it)));
    match (right, found) {
        (right, Ok(Some(value))) if is_news(&value, replaced, of) => {
            if let Some(right) = right {
                right.give_up(slot, scoped).await;
            }
            Ok(Some(Acquired::Computed(value)))
        }
        (Some(right), Err(error)) => {
            right.give_up(slot, scoped).await;
            Err(error)
        }
        (None, Err(error)) => Err(error),
        (Some(right), Ok(_)) => Ok(Some(Acquired::Granted(right))),
        (None, Ok(_)) if begun.elapsed() >= lease.saturating_add(SLACK) || runtime::is_gone() => {
            unleased(slot, scoped).await.map(Some)
        }
        (None, Ok(_)) => Ok(None),
    }
}
