//! Claims: a change of a key by any caller during a load ends the claim of the load. If the adapter
//! does not enforce claims ([`enforces_claims`](crate::AsyncCacheAdapter::enforces_claims)), every
//! claim is given and holds.

mod at_once;
mod batches;
mod leases;

pub(crate) use at_once::*;
pub(crate) use batches::*;
pub(crate) use leases::*;

use super::*;
use crate::adapter::Claim;

const LEASE: Option<Duration> = Some(Duration::from_secs(100));

/// Takes a claim that no other claim excludes.
async fn claimed(f: &Fixture, key: &str, lease: Option<Duration>) -> Outcome<Claim> {
    f.claim(key, lease).await?.ok_or_else(|| {
        Failure::new(
            format_args!("a claim of {key:?} is refused, although there is no other"),
            Location::caller(),
        )
    })
}

async fn set_claimed(f: &Fixture, key: &str, value: &'static str, claim: &Claim) -> Outcome<bool> {
    Ok(f.set_claimed(key, CacheValue::new(value), LONG, claim).await?)
}

/// Checks that `set_claimed` is refused, and changes nothing.
async fn check_refused(
    f: &Fixture,
    key: &str,
    claim: &Claim,
    left: Option<&str>,
    why: &str,
) -> Outcome {
    check_eq!(set_claimed(f, key, "late", claim).await?, false, "set_claimed of {key:?} {why}");
    check_eq!(f.text(key).await?.as_deref(), left, "{key:?} {why}, after set_claimed");
    Ok(())
}

pub(crate) async fn set_claimed_stores(f: &Fixture) -> Outcome {
    for (key, lease) in [("k", None), ("leased", LEASE)] {
        let claim = claimed(f, key, lease).await?;
        f.check_missing(key, "that is claimed").await?;
        let from = Instant::now();
        check_eq!(set_claimed(f, key, "v", &claim).await?, true, "set_claimed of {key:?}");
        check_eq!(
            f.text(key).await?.as_deref(),
            Some("v"),
            "the value of {key:?} after set_claimed"
        );
        if f.suite.offers(Verb::Expiry) {
            check_remaining(
                f,
                f.expiry(key).await?,
                Duration::from_secs(100),
                from,
                "the value of set_claimed",
            )?;
        }
        check_eq!(f.remove(key).await?, true, "remove after set_claimed");
    }
    Ok(())
}

pub(crate) async fn set_claimed_for_ever_and_for_nothing(f: &Fixture) -> Outcome {
    let claim = claimed(f, "never", None).await?;
    check_eq!(
        f.set_claimed("never", CacheValue::new("v"), Expiry::Never, &claim).await?,
        true,
        "set_claimed for ever"
    );
    if f.suite.offers(Verb::Expiry) {
        check_eq!(
            f.expiry("never").await?,
            Some(Expiry::Never),
            "expiry after set_claimed for ever"
        );
    }
    let claim = claimed(f, "never", None).await?;
    check_eq!(
        f.set_claimed("never", CacheValue::new("v"), Duration::ZERO.into(), &claim).await?,
        true,
        "set_claimed with a lifetime of zero"
    );
    f.check_missing("never", "after set_claimed with a lifetime of zero").await
}

pub(crate) async fn set_claimed_replaces(f: &Fixture) -> Outcome {
    for (key, lease) in [("k", None), ("leased", LEASE)] {
        f.put(key, "old").await?;
        let claim = claimed(f, key, lease).await?;
        check_eq!(
            f.text(key).await?.as_deref(),
            Some("old"),
            "a value that is about to be replaced"
        );
        check_eq!(set_claimed(f, key, "new", &claim).await?, true, "set_claimed of a live {key:?}");
        check_eq!(
            f.text(key).await?.as_deref(),
            Some("new"),
            "the value of {key:?} after set_claimed"
        );
    }
    Ok(())
}

pub(crate) async fn unwritable(f: &Fixture) -> Outcome {
    f.put("k", "old").await?;
    let claim = claimed(f, "k", None).await?;
    let unwritable = CacheValue::new(std::collections::HashMap::from([(vec![1u8], f64::NAN)]));
    match f.set_claimed("k", unwritable, LONG, &claim).await {
        Err(error) if error.kind() == ErrorKind::Encode => {
            check_eq!(f.text("k").await?.as_deref(), Some("old"), "the older value")
        }
        Err(error) => check!(false, "set_claimed of an odd value: {error:?}"),
        // This codec can represent the value.
        Ok(stored) => check_eq!(stored, true, "set_claimed of an odd value"),
    }
    f.release("k", &claim).await?;
    Ok(())
}

pub(crate) async fn writes_win(f: &Fixture) -> Outcome {
    if !f.enforces_claims() {
        return Ok(());
    }
    for (number, lease) in [None, LEASE].into_iter().enumerate() {
        let key = |name: &str| format!("{name}{number}");
        let claim = claimed(f, &key("set"), lease).await?;
        f.put(&key("set"), "theirs").await?;
        check_refused(f, &key("set"), &claim, Some("theirs"), "that was set").await?;
        let claim = claimed(f, &key("many"), lease).await?;
        f.put_many(&[Entry::new(&key("many"), CacheValue::new("theirs"), LONG)]).await?;
        check_refused(f, &key("many"), &claim, Some("theirs"), "that was set in a batch").await?;
        if f.offers(Verb::Add).await? {
            let claim = claimed(f, &key("add"), lease).await?;
            check_eq!(
                f.add(&key("add"), CacheValue::new("theirs"), LONG).await?,
                true,
                "add over a claimed key"
            );
            check_refused(f, &key("add"), &claim, Some("theirs"), "that was added").await?;
        }
        if f.offers(Verb::Incr).await? {
            let claim = claimed(f, &key("incr"), lease).await?;
            check_eq!(f.incr(&key("incr"), 7, LONG).await?, 7, "incr of a claimed key");
            check_eq!(
                set_claimed(f, &key("incr"), "late", &claim).await?,
                false,
                "set_claimed of a counter"
            );
            check_eq!(f.read::<i64>(&key("incr")).await?, Some(7), "the count after set_claimed");
        }
    }
    Ok(())
}

pub(crate) async fn removals_win(f: &Fixture) -> Outcome {
    if !f.enforces_claims() {
        return Ok(());
    }
    for (number, lease) in [None, LEASE].into_iter().enumerate() {
        // The key is missing, so there is nothing to remove. The removal still ends the claim.
        let key = |name: &str| format!("a:{name}{number}");
        let claim = claimed(f, &key("remove"), lease).await?;
        check_eq!(f.remove(&key("remove")).await?, false, "remove of a claimed key");
        check_refused(f, &key("remove"), &claim, None, "that was removed").await?;
        let claim = claimed(f, &key("many"), lease).await?;
        let removed = f
            .remove_many(&["other", &key("many")])
            .await?
            .into_iter()
            .collect::<crate::error::Result<Vec<_>>>()?;
        check_eq!(removed, [false, false], "remove_many of a claimed key");
        check_refused(f, &key("many"), &claim, None, "that was removed in a batch").await?;
        if f.offers(Verb::Take).await? {
            let claim = claimed(f, &key("take"), lease).await?;
            check!(f.take(&key("take")).await?.is_none(), "take of a claimed key gives a value");
            check_refused(f, &key("take"), &claim, None, "that was taken").await?;
        }
        let claim = claimed(f, &key("zero"), lease).await?;
        f.put_for(&key("zero"), "v", Duration::ZERO).await?;
        check_refused(f, &key("zero"), &claim, None, "that was set with a lifetime of zero")
            .await?;
        let claim = claimed(f, &key("both"), lease).await?;
        f.put(&key("both"), "theirs").await?;
        f.remove(&key("both")).await?;
        check_refused(f, &key("both"), &claim, None, "that was set and removed").await?;
        for prefix in ["a:", ""] {
            let (claim, other) = (
                claimed(f, &key("clear"), lease).await?,
                claimed(f, &format!("b:{number}"), lease).await?,
            );
            f.clear(prefix).await?;
            check_refused(f, &key("clear"), &claim, None, "that was cleared").await?;
            check_eq!(
                set_claimed(f, &format!("b:{number}"), "v", &other).await?,
                prefix == "a:",
                "set_claimed of another key after clear({prefix:?})"
            );
            f.remove(&format!("b:{number}")).await?;
        }
    }
    Ok(())
}

pub(crate) async fn what_comes_and_goes_wins(f: &Fixture) -> Outcome {
    if !f.enforces_claims() {
        return Ok(());
    }
    let (set, many) = (claimed(f, "set", None).await?, claimed(f, "many", None).await?);
    f.put_for("set", "theirs", f.suite.short()).await?;
    f.put_many(&[Entry::new("many", CacheValue::new("theirs"), f.suite.short().into())]).await?;
    let touched = claimed(f, "touched", None).await?;
    f.put("touched", "theirs").await?;
    f.touch("touched", f.suite.short().into()).await?;
    f.outlive_short().await?;
    check_refused(f, "set", &set, None, "that was set, and expired").await?;
    check_refused(f, "many", &many, None, "that was set in a batch, and expired").await?;
    check_refused(f, "touched", &touched, None, "that was set, touched, and expired").await
}

pub(crate) async fn a_refresh_that_comes_late(f: &Fixture) -> Outcome {
    if !f.enforces_claims() {
        return Ok(());
    }
    for (number, lease) in [None, LEASE].into_iter().enumerate() {
        let key = |name: &str| format!("a:{name}{number}");
        for name in ["set", "remove", "both", "clear"] {
            f.put(&key(name), "old").await?;
        }
        let claim = claimed(f, &key("set"), lease).await?;
        f.put(&key("set"), "theirs").await?;
        check_refused(f, &key("set"), &claim, Some("theirs"), "that was set").await?;
        let claim = claimed(f, &key("remove"), lease).await?;
        check_eq!(f.remove(&key("remove")).await?, true, "remove of a live key that is claimed");
        check_refused(f, &key("remove"), &claim, None, "that was removed").await?;
        let claim = claimed(f, &key("both"), lease).await?;
        f.remove(&key("both")).await?;
        f.put(&key("both"), "old").await?;
        check_refused(
            f,
            &key("both"),
            &claim,
            Some("old"),
            "that was removed, and set to the same",
        )
        .await?;
        let claim = claimed(f, &key("clear"), lease).await?;
        f.clear("a:").await?;
        check_refused(f, &key("clear"), &claim, None, "that was cleared").await?;
    }
    Ok(())
}

/// A claim is a miss for every verb that reads, and does not hinder writes.
pub(crate) async fn missing_for_every_verb(f: &Fixture) -> Outcome {
    for lease in [None, LEASE] {
        for key in ["remove", "many", "touch", "update", "take", "add", "replace", "incr", "set"] {
            drop(claimed(f, key, lease).await?);
            f.check_missing(key, "that is claimed").await?;
        }
        check_eq!(f.remove("remove").await?, false, "remove of a claimed key");
        check_eq!(
            f.remove_many(&["many"])
                .await?
                .into_iter()
                .collect::<crate::error::Result<Vec<_>>>()?,
            [false],
            "remove_many of a claimed key"
        );
        for expiry in [LONG, Expiry::Never] {
            check_eq!(f.touch("touch", expiry).await?, false, "touch of a claimed key");
            check!(
                f.update_timeout("update", expiry).await?.is_none(),
                "update_timeout of a claimed key gives a value"
            );
        }
        if f.offers(Verb::Take).await? {
            check!(f.take("take").await?.is_none(), "take of a claimed key gives a value");
        }
        if f.offers(Verb::Replace).await? {
            check_eq!(
                f.replace("replace", CacheValue::new(1), LONG).await?,
                false,
                "replace of a claimed key"
            );
        }
        if f.offers(Verb::Add).await? {
            check_eq!(
                f.add("add", CacheValue::new("v"), LONG).await?,
                true,
                "add over a claimed key"
            );
            check_eq!(
                f.text("add").await?.as_deref(),
                Some("v"),
                "the value that was added over a claim"
            );
        }
        if f.offers(Verb::Incr).await? {
            check_eq!(f.incr("incr", 2, LONG).await?, 2, "incr of a claimed key");
        }
        f.put("set", "v").await?;
        check_eq!(
            f.text("set").await?.as_deref(),
            Some("v"),
            "the value that was set over a claim"
        );
        f.clear("").await?;
        for key in ["touch", "add", "incr", "set"] {
            f.check_missing(key, "that was claimed and cleared").await?;
        }
    }
    Ok(())
}

pub(crate) async fn the_first_set_claimed_wins(f: &Fixture) -> Outcome {
    if !f.enforces_claims() {
        return Ok(());
    }
    let (first, second) = (claimed(f, "k", None).await?, claimed(f, "k", None).await?);
    check_eq!(set_claimed(f, "k", "first", &second).await?, true, "the first set_claimed of two");
    check_refused(f, "k", &first, Some("first"), "after the first set_claimed").await?;
    f.put("live", "old").await?;
    let (first, second) = (claimed(f, "live", None).await?, claimed(f, "live", None).await?);
    check_eq!(
        set_claimed(f, "live", "first", &first).await?,
        true,
        "the first set_claimed of two, over a value"
    );
    check_refused(f, "live", &second, Some("first"), "after the first set_claimed").await?;
    let stored = f.at_once(16, |f, _| async move {
        let claim = claimed(&f, "many", None).await?;
        set_claimed(&f, "many", "v", &claim).await
    });
    let stored = stored.await?.into_iter().filter(|stored| *stored).count();
    // A claim that is made after one `set_claimed` is for that value, and can be used as well.
    check!((1..=16).contains(&stored), "{stored} of 16 set_claimed at once are true");
    check_eq!(f.text("many").await?.as_deref(), Some("v"), "the value of set_claimed");
    Ok(())
}

pub(crate) async fn set_claimed_ends_its_claim(f: &Fixture) -> Outcome {
    if !f.enforces_claims() {
        return Ok(());
    }
    let claim = claimed(f, "k", LEASE).await?;
    check_eq!(set_claimed(f, "k", "v", &claim).await?, true, "set_claimed");
    check_refused(f, "k", &claim, Some("v"), "after set_claimed with the same claim").await?;
    f.remove("k").await?;
    check_refused(f, "k", &claim, None, "after set_claimed with the same claim, and a removal")
        .await?;
    drop(claimed(f, "k", LEASE).await?);
    Ok(())
}

pub(crate) async fn hostile_keys(f: &Fixture) -> Outcome {
    let long = "l".repeat(400);
    let keys = [
        "a b",
        "a  b",
        "\r\n",
        "清",
        "*",
        "%",
        "'",
        "\0",
        "~",
        "~c",
        "k",
        "k\u{fffd}claim",
        "k:claim",
        "claim",
        "cleared",
        &long,
        &long[1..],
    ];
    let mut claims = Vec::new();
    for key in keys {
        claims.push(claimed(f, key, LEASE).await?);
    }
    for (key, claim) in keys.iter().zip(&claims).step_by(2) {
        f.check_missing(key, "that is claimed").await?;
        f.release(key, claim).await?;
    }
    for (number, (key, claim)) in keys.iter().zip(&claims).enumerate() {
        if number % 2 == 1 {
            check_eq!(
                f.set_claimed(key, CacheValue::new(number), LONG, claim).await?,
                true,
                "set_claimed of {key:?}"
            );
        }
    }
    for (number, key) in keys.iter().enumerate() {
        check_eq!(
            f.read::<usize>(key).await?,
            (number % 2 == 1).then_some(number),
            "{key:?}, of which every second was stored"
        );
    }
    for answer in [
        f.claim("", None).await.map(drop),
        f.set_claimed("", CacheValue::new(1), LONG, &claims[0]).await.map(drop),
        f.release("", &claims[0]).await,
    ] {
        check_kind!(answer, ErrorKind::InvalidKey, "the empty key");
    }
    Ok(())
}

pub(crate) async fn large(f: &Fixture) -> Outcome {
    for size in [1 << 10, 300 << 10] {
        let claim = claimed(f, "k", None).await?;
        check_eq!(
            f.set_claimed("k", CacheValue::new("x".repeat(size)), LONG, &claim).await?,
            true,
            "set_claimed with {size} bytes"
        );
        check_eq!(
            f.text("k").await?.map(|text| text.len()),
            Some(size),
            "bytes of the stored value"
        );
        if f.enforces_claims() {
            let (refresh, cold) = (claimed(f, "k", None).await?, claimed(f, "other", None).await?);
            f.remove("k").await?;
            f.remove("other").await?;
            for (key, claim) in [("k", &refresh), ("other", &cold)] {
                check_eq!(
                    f.set_claimed(key, CacheValue::new("x".repeat(size)), LONG, claim).await?,
                    false,
                    "set_claimed of a removed key with {size} bytes"
                );
                f.check_missing(key, "that was removed").await?;
            }
        }
    }
    let Some(limit) = f.suite.max_value else { return Ok(()) };
    f.put("k", "old").await?;
    let claim = claimed(f, "k", None).await?;
    let refused = f.set_claimed("k", CacheValue::new("x".repeat(limit + 1)), LONG, &claim).await;
    check_kind!(refused, ErrorKind::TooLarge, "set_claimed with more than the limit of {limit}");
    f.check_missing("k", "after set_claimed of a value over the limit").await
}

pub(crate) async fn between_instances(f: &Fixture) -> Outcome {
    if !f.enforces_claims() {
        return Ok(());
    }
    let other = f.with(f.rebuild()?);
    f.put("shared?", 1).await?;
    if other.get("shared?").await?.is_none() {
        // A database in memory belongs to one adapter.
        return Ok(());
    }
    for lease in [None, LEASE] {
        let claim = claimed(f, "k", lease).await?;
        if lease.is_some() {
            check_eq!(other.claim("k", lease).await?, None, "a lease that another instance has");
        }
        other.remove("k").await?;
        check_refused(f, "k", &claim, None, "that another instance removed").await?;
        let claim = claimed(f, "k", lease).await?;
        other.put("k", "theirs").await?;
        check_refused(f, "k", &claim, Some("theirs"), "that another instance set").await?;
        let claim = claimed(f, "k", lease).await?;
        other.clear("").await?;
        check_refused(f, "k", &claim, None, "that another instance cleared").await?;
        let claim = claimed(f, "k", lease).await?;
        check_eq!(set_claimed(f, "k", "v", &claim).await?, true, "set_claimed");
        check_eq!(
            other.text("k").await?.as_deref(),
            Some("v"),
            "the value that the other instance reads"
        );
        other.remove("k").await?;
    }
    Ok(())
}
