//! The lifetime of entries, for each verb that writes.

use super::*;

/// The verbs that write, each with a key of its own. `replace` finds an older value.
const WRITERS: [&str; 4] = ["set", "add", "replace", "set_many"];

/// Writes with `verb` under the key of that name. Returns `None` if the store does not support the
/// verb.
async fn write(f: &Fixture, verb: &str, expiry: Expiry) -> Outcome<Option<bool>> {
    let value = CacheValue::new(verb.to_owned());
    Ok(Some(match verb {
        "set" => f.set(verb, value, expiry).await.map(|()| true)?,
        "add" if f.offers(Verb::Add).await? => {
            f.remove(verb).await?;
            f.add(verb, value, expiry).await?
        }
        "replace" if f.offers(Verb::Replace).await? => {
            f.put_for(verb, "older", Expiry::Never).await?;
            f.replace(verb, value, expiry).await?
        }
        "set_many" => f.put_many(&[Entry::new(verb, value, expiry)]).await.map(|()| true)?,
        _ => return Ok(None),
    }))
}

/// Checks that entries written with `ttl` live as long as they should and no longer.
async fn lives(f: &Fixture, ttl: Duration) -> Outcome {
    // A store that counts seconds by a timer may miss some on a busy machine: one good run in three
    // is enough.
    if f.suite.whole_seconds
        && (lives_once(f, ttl).await.is_ok() || lives_once(f, ttl).await.is_ok())
    {
        return Ok(());
    }
    lives_once(f, ttl).await
}

async fn lives_once(f: &Fixture, ttl: Duration) -> Outcome {
    // A store that cuts its clock to whole milliseconds is at most one millisecond early.
    const GRAIN: Duration = Duration::from_millis(2);
    let mut alive = Vec::new();
    for verb in WRITERS {
        let called = Instant::now();
        if let Some(wrote) = write(f, verb, ttl.into()).await? {
            check!(wrote, "{verb} with {ttl:?} says it wrote nothing");
            alive.push((verb, called, Instant::now()));
        }
    }
    while !alive.is_empty() {
        for (verb, called, returned) in std::mem::take(&mut alive) {
            let asked = returned.elapsed();
            if f.get(verb).await?.is_some() {
                check!(
                    asked < f.suite.gone_after(ttl),
                    "what {verb} wrote with {ttl:?} is there after {asked:?}"
                );
                alive.push((verb, called, returned));
            } else {
                check!(
                    called.elapsed() + GRAIN >= ttl,
                    "what {verb} wrote with {ttl:?} is gone after {:?}",
                    called.elapsed()
                );
            }
        }
        tokio::time::sleep((ttl / 20).clamp(Duration::from_millis(2), Duration::from_millis(40)))
            .await;
    }
    Ok(())
}

pub(crate) async fn one_millisecond(f: &Fixture) -> Outcome {
    lives(f, Duration::from_millis(1)).await
}

pub(crate) async fn half_a_second(f: &Fixture) -> Outcome {
    lives(f, Duration::from_millis(500)).await
}

pub(crate) async fn one_second(f: &Fixture) -> Outcome {
    lives(f, Duration::from_secs(1)).await
}

pub(crate) async fn nearly_two_seconds(f: &Fixture) -> Outcome {
    lives(f, Duration::from_millis(1_900)).await
}

/// Checks that a write with `expiry` succeeds and that the key is missing afterwards.
async fn leaves_nothing(f: &Fixture, expiry: Expiry) -> Outcome {
    for verb in WRITERS {
        f.put(verb, "older").await?;
        if let Some(wrote) = write(f, verb, expiry).await? {
            check!(wrote, "{verb} with {expiry:?} says it wrote nothing");
            f.check_missing(verb, &format!("after {verb} with {expiry:?}")).await?;
            check_eq!(f.remove(verb).await?, false, "remove after {verb} with {expiry:?}");
        }
    }
    Ok(())
}

pub(crate) async fn zero(f: &Fixture) -> Outcome {
    leaves_nothing(f, Duration::ZERO.into()).await
}

pub(crate) async fn in_the_past(f: &Fixture) -> Outcome {
    leaves_nothing(f, SystemTime::UNIX_EPOCH.into()).await?;
    leaves_nothing(f, (SystemTime::now() - 100 * DAY).into()).await?;
    leaves_nothing(f, (SystemTime::now() - Duration::from_millis(1)).into()).await
}

pub(crate) async fn zero_does_not_stick(f: &Fixture) -> Outcome {
    f.put_for("k", "gone", Duration::ZERO).await?;
    f.put("k", "here").await?;
    check_eq!(f.text("k").await?.as_deref(), Some("here"), "a set after one with no lifetime");
    Ok(())
}

pub(crate) async fn at_a_time(f: &Fixture) -> Outcome {
    let ttl = f.suite.short();
    f.put_for("soon", "v", SystemTime::now() + ttl).await?;
    let from = Instant::now();
    f.put_for("late", "v", SystemTime::now() + Duration::from_secs(100)).await?;
    let written = Instant::now();
    tokio::time::sleep(f.suite.gone_after(ttl)).await;
    f.check_missing("soon", &format!("{:?} after a write until {ttl:?} later", written.elapsed()))
        .await?;
    check_eq!(f.text("late").await?.as_deref(), Some("v"), "what lives until a time that is far");
    if f.offers(Verb::Expiry).await? {
        check_remaining(
            f,
            f.expiry("late").await?,
            Duration::from_secs(100),
            from,
            "what lives until a time",
        )?;
    }
    Ok(())
}

pub(crate) async fn far(f: &Fixture) -> Outcome {
    let rows = [
        30 * DAY - Duration::from_secs(1),
        30 * DAY,
        30 * DAY + Duration::from_secs(1),
        31 * DAY,
        Duration::from_millis(100_200),
        3_650 * DAY,
    ];
    for ttl in rows {
        for verb in WRITERS {
            let from = Instant::now();
            if write(f, verb, ttl.into()).await?.is_none() {
                continue;
            }
            check_eq!(f.text(verb).await?.as_deref(), Some(verb), "what {verb} wrote with {ttl:?}");
            if f.offers(Verb::Expiry).await? {
                check_remaining(
                    f,
                    f.expiry(verb).await?,
                    ttl,
                    from,
                    &format!("what {verb} wrote with {ttl:?}"),
                )?;
            }
        }
    }
    Ok(())
}

pub(crate) async fn for_ever(f: &Fixture) -> Outcome {
    for expiry in [
        Expiry::Never,
        Duration::MAX.into(),
        Duration::from_secs(u64::MAX).into(),
        (1_000 * 365 * DAY).into(),
    ] {
        for verb in WRITERS {
            if write(f, verb, expiry).await?.is_none() {
                continue;
            }
            check_eq!(
                f.text(verb).await?.as_deref(),
                Some(verb),
                "what {verb} wrote with {expiry:?}"
            );
            if f.offers(Verb::Expiry).await? {
                check_eq!(
                    f.expiry(verb).await?,
                    Some(Expiry::Never),
                    "expiry of what {verb} wrote with {expiry:?}"
                );
            }
        }
    }
    Ok(())
}

pub(crate) async fn centuries(f: &Fixture) -> Outcome {
    let years = |count: u32| 365 * count * DAY;
    for expiry in [
        years(70).into(),
        years(100).into(),
        years(900).into(),
        Expiry::At(SystemTime::now() + years(500)),
    ] {
        for verb in WRITERS {
            if write(f, verb, expiry).await?.is_none() {
                continue;
            }
            check_eq!(
                f.text(verb).await?.as_deref(),
                Some(verb),
                "what {verb} wrote with {expiry:?}"
            );
            check_eq!(f.touch(verb, expiry).await?, true, "touch with {expiry:?}");
            check_eq!(
                f.text(verb).await?.as_deref(),
                Some(verb),
                "what was touched with {expiry:?}"
            );
            if f.offers(Verb::Expiry).await? {
                let left = f.expiry(verb).await?;
                let long = matches!(left, Some(Expiry::Never))
                    || matches!(left, Some(Expiry::After(left)) if left > years(10));
                check!(long, "expiry of what {verb} wrote with {expiry:?}: {left:?}");
            }
        }
    }
    Ok(())
}

pub(crate) async fn default(f: &Fixture) -> Outcome {
    for verb in WRITERS {
        let from = Instant::now();
        if write(f, verb, Expiry::Default).await?.is_none() {
            continue;
        }
        match f.suite.default_ttl {
            Lifetime::For(ttl) => check_remaining(
                f,
                f.expiry(verb).await?,
                ttl,
                from,
                &format!("what {verb} wrote by default"),
            )?,
            Lifetime::Never => check_eq!(
                f.expiry(verb).await?,
                Some(Expiry::Never),
                "expiry of what {verb} wrote by default"
            ),
        }
    }
    Ok(())
}

pub(crate) async fn each_write_starts_anew(f: &Fixture) -> Outcome {
    for verb in ["set", "replace", "set_many"] {
        f.put_for(verb, "older", f.suite.short()).await?;
        if verb == "replace" && f.offers(Verb::Replace).await? {
            // `replace` finds nothing if the entry has expired before, as it may on a busy machine.
            for _ in 0..100 {
                if f.replace(verb, CacheValue::new("replace"), LONG).await? {
                    break;
                }
                f.put_for(verb, "older", f.suite.short()).await?;
            }
        } else {
            write(f, if verb == "replace" { "set" } else { verb }, LONG).await?;
        }
    }
    f.put_for("shorter", "older", Expiry::Never).await?;
    f.put_for("shorter", "newer", f.suite.short()).await?;
    f.outlive_short().await?;
    for verb in ["set", "set_many"] {
        check_eq!(
            f.text(verb).await?.as_deref(),
            Some(verb),
            "what {verb} gave a longer life, when the older would have expired"
        );
    }
    if f.suite.offers(Verb::Replace) {
        check_eq!(
            f.text("replace").await?.as_deref(),
            Some("replace"),
            "what replace gave a longer life"
        );
    }
    f.check_missing("shorter", "whose second set gave it a shorter life").await
}

pub(crate) async fn set_without_one_is_the_default(f: &Fixture) -> Outcome {
    f.put_for("k", "v", Duration::from_secs(10)).await?;
    let from = Instant::now();
    f.put("k", "v").await?;
    match f.suite.default_ttl {
        Lifetime::For(ttl) => {
            check_remaining(f, f.expiry("k").await?, ttl, from, "what was set again by default")
        }
        Lifetime::Never => {
            check_eq!(f.expiry("k").await?, Some(Expiry::Never), "what was set again by default");
            Ok(())
        }
    }
}

pub(crate) async fn remaining(f: &Fixture) -> Outcome {
    check_eq!(f.expiry("never written").await?, None, "expiry of a missing key");
    let from = Instant::now();
    f.put_for("ten", "v", Duration::from_secs(10)).await?;
    f.put_for("never", "v", Expiry::Never).await?;
    check_remaining(f, f.expiry("ten").await?, Duration::from_secs(10), from, "ten seconds")?;
    check_eq!(f.expiry("never").await?, Some(Expiry::Never), "expiry of what never expires");
    let written = Instant::now();
    tokio::time::sleep(f.suite.tolerance() * 3).await;
    let passed = written.elapsed();
    let left = f.expiry("ten").await?;
    check_remaining(f, left, Duration::from_secs(10), from, "ten seconds, later")?;
    let counted = matches!(left, Some(Expiry::After(left)) if left + passed <= Duration::from_secs(10) + f.suite.tolerance() * 2);
    check!(counted, "expiry of ten seconds after {passed:?}: {left:?}, which is no remainder");
    Ok(())
}

pub(crate) async fn reading_does_not_lengthen(f: &Fixture) -> Outcome {
    f.put_for("k", "v", f.suite.short()).await?;
    let written = Instant::now();
    while written.elapsed() < f.suite.gone_after(f.suite.short()) {
        f.get("k").await?;
        f.contains("k").await?;
        f.get_many(&["k"]).await?;
        tokio::time::sleep(f.suite.short() / 6).await;
    }
    f.check_missing("k", "that was read all its life").await
}
