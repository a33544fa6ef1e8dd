//! Values past their logical end: `get` returns them, and they are missing for verbs that do not
//! see the value.

use super::*;
use crate::adapter::Presence;
use crate::clock;
use crate::meta::Meta;

const MINUTE: Duration = Duration::from_secs(60);

/// Stores a value whose logical end is `end_ms` milliseconds away, and which the store keeps for a
/// minute. Returns `None` if the store cannot record a logical end, and then checks that
/// `has_logical_ends` is false.
pub(super) async fn keep(f: &Fixture, key: &str, value: u64, end_ms: i64) -> Outcome<Option<()>> {
    let mut meta = Meta::default();
    meta.end_at(clock::now_ms().saturating_add_signed(end_ms));
    meta.keep_stale();
    match f.set(key, CacheValue::known(value, meta), Expiry::After(MINUTE)).await {
        Err(error) if error.kind() == ErrorKind::Unsupported => return Ok(None),
        set => set?,
    }
    if f.has_logical_ends() {
        return Ok(Some(()));
    }
    let is_noted = f.get(key).await?.is_some_and(|value| value.is_stale());
    check!(!is_noted, "it notes logical ends, and says that it has none");
    Ok(None)
}

pub(crate) async fn is_read(f: &Fixture) -> Outcome {
    let Some(()) = keep(f, "k", 5, -1_000).await? else { return Ok(()) };
    let value = f.get("k").await?;
    check!(value.is_some_and(|value| value.is_stale()), "get gives the value, which is stale");
    Ok(())
}

pub(crate) async fn presence_of_each(f: &Fixture) -> Outcome {
    check_eq!(f.presence("none").await?, Presence::Missing, "of a missing key");
    f.put("plain", 5u64).await?;
    check_eq!(f.presence("plain").await?, Presence::Live, "of a value without a logical end");
    f.put("empty", "").await?;
    check_eq!(f.presence("empty").await?, Presence::Live, "of an empty value");
    let Some(()) = keep(f, "stale", 5, -1_000).await? else { return Ok(()) };
    check_eq!(f.presence("stale").await?, Presence::Stale, "of a value past its logical end");
    keep(f, "kept", 5, 30_000).await?;
    let presence = f.presence("kept").await?;
    let is_right = matches!(presence, Presence::Kept(left) if left <= MINUTE / 2);
    check!(is_right, "of a value before its logical end: {presence:?}");
    Ok(())
}

pub(crate) async fn remove_is_false(f: &Fixture) -> Outcome {
    let Some(()) = keep(f, "k", 5, -1_000).await? else { return Ok(()) };
    check!(!f.remove("k").await?, "remove of a stale value is true");
    check!(f.get("k").await?.is_none(), "remove leaves a stale value");
    for (key, end) in [("stale", -1_000), ("kept", 30_000)] {
        keep(f, key, 5, end).await?;
    }
    f.put("plain", 5u64).await?;
    let removed = f.remove_many(&["stale", "kept", "none", "plain"]).await?;
    let removed = removed.into_iter().collect::<crate::error::Result<Vec<_>>>()?;
    check_eq!(removed, [false, true, false, true], "remove_many of stale, kept, none and plain");
    check!(f.get("stale").await?.is_none(), "remove_many leaves a stale value");
    keep(f, "kept", 5, 30_000).await?;
    check!(f.remove("kept").await?, "remove of a value before its logical end is false");
    Ok(())
}

pub(crate) async fn incr_starts_anew(f: &Fixture) -> Outcome {
    let Some(()) = keep(f, "k", 5, -1_000).await? else { return Ok(()) };
    check_eq!(f.incr("k", 2, Expiry::Never).await?, 2, "incr of a stale number");
    check_eq!(f.incr("k", 2, Expiry::Default).await?, 4, "and once more");
    check_eq!(f.presence("k").await?, Presence::Live, "the counter has no logical end");
    if f.offers(Verb::Expiry).await? {
        check_eq!(f.expiry("k").await?, Some(Expiry::Never), "the counter's expiry is its own");
    }
    keep(f, "kept", 5, 30_000).await?;
    check_eq!(f.incr("kept", 2, Expiry::Default).await?, 7, "before the logical end");
    Ok(())
}
