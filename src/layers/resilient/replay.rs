//! Replays one noted write, unless another process has written a newer value.

use super::journal::{Noted, Write};
use crate::adapter::{AsyncCacheAdapter, Claim};
use crate::error::{ErrorKind, Result};
use crate::expiry::Expiry;
use crate::value::CacheValue;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// A stored value survives a replayed removal only if it is newer by this much: the clocks of two
/// machines differ, and an unnecessary removal costs one load.
const DOUBT: Duration = Duration::from_secs(1);

/// By how much the times of creation of two values are sure to differ if they tell which is newer: a
/// header counts milliseconds, and translating a time between clocks rounds it once more.
const RESOLUTION: Duration = Duration::from_millis(2);

/// Writes the note of a key, unless another process has written a newer value.
pub(super) async fn replay(inner: &impl AsyncCacheAdapter, noted: &Noted) -> Result<()> {
    let key = &*noted.key;
    let (value, expiry) = match &noted.write {
        Write::Remove => return remove(inner, key, noted.at).await,
        Write::Set { value, until: None } => (value, Expiry::Never),
        Write::Set { value, until: Some(until) } => {
            match until.checked_duration_since(Instant::now()) {
                Some(left) if !left.is_zero() => (value, Expiry::After(left)),
                // The value has expired. It would have replaced the stored value, so the stored
                // value is removed.
                _ => return remove(inner, key, noted.at).await,
            }
        }
    };
    // No other process writes to the store, and every caller in this process waits for the replay:
    // no claim is needed.
    if !inner.enforces_claims() || !inner.is_shared() {
        return replay_unguarded(inner, key, value, expiry).await;
    }
    let Some(claim) = inner.claim(key, None).await? else {
        return remove(inner, key, noted.at).await;
    };
    let Some(there) = inner.get_far(key).await? else {
        return inner.set_claimed(key, value.clone(), expiry, &claim).await.map(drop);
    };
    let ours = value.created().unwrap_or(noted.at);
    match there.created() {
        Some(theirs) if theirs + RESOLUTION < ours => {
            inner.set_claimed(key, value.clone(), expiry, &claim).await.map(drop)
        }
        Some(theirs) if ours + RESOLUTION < theirs => release(inner, key, &claim).await,
        // It is not known which of the two is newer: remove the key, because a miss is never wrong.
        _ => {
            release(inner, key, &claim).await?;
            inner.remove(key).await.map(drop)
        }
    }
}

/// Writes a value to a store without enforced claims.
async fn replay_unguarded(
    inner: &impl AsyncCacheAdapter,
    key: &str,
    value: &CacheValue,
    expiry: Expiry,
) -> Result<()> {
    if !inner.is_shared() {
        // No other process writes to this store, and all callers in this process wait for the
        // replay.
        return inner.set(key, value.clone(), expiry).await;
    }
    // Another process may have written the stored value before or after this one: remove the key,
    // because a miss is never wrong.
    match inner.add(key, value.clone(), expiry).await {
        Ok(true) => Ok(()),
        Ok(false) => inner.remove(key).await.map(drop),
        Err(error) if error.kind() == ErrorKind::Unsupported => inner.remove(key).await.map(drop),
        Err(error) => Err(error),
    }
}

async fn remove(inner: &impl AsyncCacheAdapter, key: &str, at: SystemTime) -> Result<()> {
    let created = inner.get_far(key).await?.and_then(|there| there.created());
    if created.is_some_and(|created| created > at + DOUBT) {
        return Ok(());
    }
    inner.remove(key).await.map(drop)
}

async fn release(inner: &impl AsyncCacheAdapter, key: &str, claim: &Claim) -> Result<()> {
    inner.release(key, claim).await
}
