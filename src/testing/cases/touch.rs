//! `touch` and `update_timeout`.

use super::*;

/// Gives `key` a new expiry with one of the two verbs, and returns whether it was live.
async fn renew(f: &Fixture, verb: &str, key: &str, expiry: Expiry) -> Outcome<bool> {
    match verb {
        "touch" => Ok(f.touch(key, expiry).await?),
        _ => Ok(f.update_timeout(key, expiry).await?.is_some()),
    }
}

const VERBS: [&str; 2] = ["touch", "update_timeout"];

pub(crate) async fn lengthens(f: &Fixture) -> Outcome {
    for verb in VERBS {
        // Repeat until the touch comes in time, because a busy machine may be late for the short
        // lifetime.
        let mut renewed = false;
        for _ in 0..50 {
            f.put_for(verb, "v", f.suite.short()).await?;
            renewed = renew(f, verb, verb, LONG).await?;
            if renewed {
                break;
            }
        }
        check!(renewed, "{verb} of a live key is false");
    }
    f.outlive_short().await?;
    for verb in VERBS {
        check_eq!(f.text(verb).await?.as_deref(), Some("v"), "what {verb} gave a longer life");
    }
    Ok(())
}

pub(crate) async fn shortens(f: &Fixture) -> Outcome {
    for verb in VERBS {
        f.put_for(verb, "v", LONG).await?;
        check_eq!(
            renew(f, verb, verb, f.suite.short().into()).await?,
            true,
            "{verb} of a live key"
        );
        let from_never = format!("{verb} from never");
        f.put_for(&from_never, "v", Expiry::Never).await?;
        check_eq!(
            renew(f, verb, &from_never, f.suite.short().into()).await?,
            true,
            "{verb} of a key that never expires"
        );
    }
    f.outlive_short().await?;
    for verb in VERBS {
        f.check_missing(verb, "that was given a shorter life").await?;
        f.check_missing(
            &format!("{verb} from never"),
            "that was to live for ever and then was not",
        )
        .await?;
    }
    Ok(())
}

pub(crate) async fn to_never(f: &Fixture) -> Outcome {
    for (verb, expiry) in VERBS.into_iter().zip([Expiry::Never, Duration::MAX.into()]) {
        f.put_for(verb, "v", LONG).await?;
        check_eq!(renew(f, verb, verb, expiry).await?, true, "{verb} with {expiry:?}");
        check_eq!(f.text(verb).await?.as_deref(), Some("v"), "what {verb} gave eternal life");
        if f.offers(Verb::Expiry).await? {
            check_eq!(
                f.expiry(verb).await?,
                Some(Expiry::Never),
                "expiry after {verb} with {expiry:?}"
            );
        }
    }
    Ok(())
}

pub(crate) async fn to_zero(f: &Fixture) -> Outcome {
    for verb in VERBS {
        for expiry in [Expiry::from(Duration::ZERO), SystemTime::UNIX_EPOCH.into()] {
            f.put(verb, "v").await?;
            check_eq!(
                renew(f, verb, verb, expiry).await?,
                true,
                "{verb} of a live key with {expiry:?}"
            );
            f.check_missing(verb, &format!("after {verb} with {expiry:?}")).await?;
        }
    }
    Ok(())
}

pub(crate) async fn to_the_default(f: &Fixture) -> Outcome {
    for verb in VERBS {
        f.put_for(verb, "v", Duration::from_secs(10)).await?;
        let from = Instant::now();
        check_eq!(renew(f, verb, verb, Expiry::Default).await?, true, "{verb} with the default");
        match f.suite.default_ttl {
            Lifetime::For(ttl) => check_remaining(
                f,
                f.expiry(verb).await?,
                ttl,
                from,
                &format!("what {verb} renewed by default"),
            )?,
            Lifetime::Never => check_eq!(
                f.expiry(verb).await?,
                Some(Expiry::Never),
                "what {verb} renewed by default"
            ),
        }
    }
    Ok(())
}

pub(crate) async fn far(f: &Fixture) -> Outcome {
    for verb in VERBS {
        for ttl in [30 * DAY, 30 * DAY + Duration::from_secs(1), 3_650 * DAY] {
            let from = Instant::now();
            f.put(verb, "v").await?;
            check_eq!(renew(f, verb, verb, ttl.into()).await?, true, "{verb} with {ttl:?}");
            check_eq!(
                f.text(verb).await?.as_deref(),
                Some("v"),
                "what {verb} renewed with {ttl:?}"
            );
            if f.offers(Verb::Expiry).await? {
                check_remaining(
                    f,
                    f.expiry(verb).await?,
                    ttl,
                    from,
                    &format!("what {verb} renewed with {ttl:?}"),
                )?;
            }
        }
    }
    Ok(())
}

pub(crate) async fn missing(f: &Fixture) -> Outcome {
    for verb in VERBS {
        for expiry in [LONG, Expiry::Never, Expiry::Default, Duration::ZERO.into()] {
            check_eq!(
                renew(f, verb, "never written", expiry).await?,
                false,
                "{verb} of a missing key with {expiry:?}"
            );
            f.check_missing("never written", &format!("after {verb}")).await?;
        }
    }
    Ok(())
}

pub(crate) async fn gives_the_value(f: &Fixture) -> Outcome {
    f.put("k", "v").await?;
    check_eq!(
        decoded::<String>(f.update_timeout("k", LONG).await?)?.as_deref(),
        Some("v"),
        "what update_timeout gives"
    );
    Ok(())
}

pub(crate) async fn keeps_the_value(f: &Fixture) -> Outcome {
    for verb in VERBS {
        f.put(verb, verb).await?;
        renew(f, verb, verb, LONG).await?;
        renew(f, verb, verb, Expiry::Never).await?;
        check_eq!(f.text(verb).await?.as_deref(), Some(verb), "the value after {verb}");
    }
    Ok(())
}
