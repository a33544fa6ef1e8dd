//! The cases, one module for each section. The table has the name and the description of each case.

pub(super) mod add;
pub(super) mod basics;
pub(super) mod batches;
pub(super) mod claims;
pub(super) mod clear;
pub(super) mod counters;
pub(super) mod expired;
pub(super) mod expiry;
pub(super) mod housekeeping;
pub(super) mod keys;
mod later;
pub(super) mod lifecycle;
pub(super) mod limits;
pub(super) mod model;
pub(super) mod near;
pub(super) mod neighbours;
pub(super) mod nulls;
pub(super) mod stale;
pub(super) mod tags;
pub(super) mod take;
pub(super) mod tasks;
pub(super) mod touch;
pub(super) mod user_code;
pub(super) mod values;
pub(super) mod walk;

use super::Verb;
use super::harness::{Failure, Fixture, Outcome, check, check_eq, check_kind, decoded};
use crate::adapter::Entry;
use crate::codec::Codec;
use crate::error::ErrorKind;
use crate::expiry::{Expiry, Lifetime};
use crate::value::CacheValue;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::panic::Location;
use std::time::{Duration, Instant, SystemTime};

const DAY: Duration = Duration::from_secs(86_400);
const LONG: Expiry = Expiry::After(Duration::from_secs(100));

/// Checks that `value` is read back equal, and returns whether it was stored: the plain codecs may
/// refuse a value that they cannot represent.
async fn exact<T>(f: &Fixture, key: &str, value: T) -> Outcome<bool>
where
    T: Serialize + DeserializeOwned + Clone + PartialEq + Debug + Send + Sync + 'static,
{
    match f.put(key, value.clone()).await {
        Err(refused)
            if refused.kind() == ErrorKind::Encode && f.suite.codec != Codec::MessagePack =>
        {
            return Ok(false);
        }
        stored => stored?,
    }
    check_eq!(
        f.read::<T>(key).await?,
        Some(value),
        "a {} under {key:?}",
        std::any::type_name::<T>()
    );
    Ok(true)
}

/// Checks an answer of `expiry` for an entry that was written between `from` and now with the
/// lifetime `ttl`.
fn check_remaining(
    f: &Fixture,
    answer: Option<Expiry>,
    ttl: Duration,
    from: Instant,
    what: &str,
) -> Outcome {
    // A timer that counts seconds may lag on a busy machine, and catch up afterwards.
    let made_up = if f.suite.whole_seconds { Duration::from_secs(3) } else { Duration::ZERO };
    let (slack, passed) = (f.suite.tolerance() + made_up, from.elapsed());
    match answer {
        Some(Expiry::After(left)) => {
            check!(left <= ttl + slack, "expiry of {what}: {left:?} left of {ttl:?}");
            check!(
                left + passed + slack >= ttl,
                "expiry of {what}: {left:?} left of {ttl:?} after {passed:?}"
            );
        }
        other => check!(false, "expiry of {what}: {other:?}, expected a remainder of {ttl:?}"),
    }
    Ok(())
}
