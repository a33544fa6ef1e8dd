//! Expired entries are missing for every caller, also if the store still holds them.

use super::*;
use std::task::Poll;

/// Writes 1 under each key and waits until all have expired, without reading them.
async fn expire(f: &Fixture, keys: &[&str]) -> Outcome {
    for key in keys {
        f.put_for(key, 1, f.suite.short()).await?;
    }
    f.outlive_short().await
}

pub(crate) async fn missing_for_readers(f: &Fixture) -> Outcome {
    expire(f, &["get", "get_if_ready", "contains", "get_many", "expiry"]).await?;
    check!(
        !matches!(f.found_now("get_if_ready"), Poll::Ready(Ok(Some(_)))),
        "get_if_ready gives what has expired"
    );
    check!(f.get("get").await?.is_none(), "get gives what has expired");
    check_eq!(f.contains("contains").await?, false, "contains of what has expired");
    check_eq!(f.texts(&["get_many", "get"]).await?, [None, None], "get_many of what has expired");
    if f.offers(Verb::Expiry).await? {
        check_eq!(f.expiry("expiry").await?, None, "expiry of what has expired");
    }
    Ok(())
}

pub(crate) async fn remove_is_false(f: &Fixture) -> Outcome {
    expire(f, &["one", "many"]).await?;
    check_eq!(f.remove("one").await?, false, "remove of what has expired");
    let removed =
        f.remove_many(&["many"]).await?.into_iter().collect::<crate::error::Result<Vec<_>>>()?;
    check_eq!(removed, [false], "remove_many of what has expired");
    Ok(())
}

pub(crate) async fn touch_does_not_revive(f: &Fixture) -> Outcome {
    expire(f, &["touch", "never", "update"]).await?;
    check_eq!(f.touch("touch", LONG).await?, false, "touch of what has expired");
    check_eq!(
        f.touch("never", Expiry::Never).await?,
        false,
        "touch with never of what has expired"
    );
    check!(
        f.update_timeout("update", LONG).await?.is_none(),
        "update_timeout gives what has expired"
    );
    for key in ["touch", "never", "update"] {
        f.check_missing(key, "that was touched after it had expired").await?;
    }
    Ok(())
}

pub(crate) async fn add_succeeds(f: &Fixture) -> Outcome {
    expire(f, &["k"]).await?;
    check_eq!(f.add("k", CacheValue::new("new"), LONG).await?, true, "add over what has expired");
    check_eq!(f.text("k").await?.as_deref(), Some("new"), "what was added");
    Ok(())
}

pub(crate) async fn replace_is_false(f: &Fixture) -> Outcome {
    expire(f, &["k"]).await?;
    check_eq!(
        f.replace("k", CacheValue::new("new"), LONG).await?,
        false,
        "replace of what has expired"
    );
    f.check_missing("k", "after a replace that found it expired").await
}

pub(crate) async fn take_is_none(f: &Fixture) -> Outcome {
    expire(f, &["k"]).await?;
    check!(f.take("k").await?.is_none(), "take gives what has expired");
    Ok(())
}

pub(crate) async fn incr_starts_anew(f: &Fixture) -> Outcome {
    f.put_for("set", 41, f.suite.short()).await?;
    f.incr("counted", 41, f.suite.short().into()).await?;
    f.outlive_short().await?;
    for key in ["set", "counted"] {
        let from = Instant::now();
        check_eq!(f.incr(key, 2, LONG).await?, 2, "incr of a number that has expired");
        if f.offers(Verb::Expiry).await? {
            check_remaining(
                f,
                f.expiry(key).await?,
                Duration::from_secs(100),
                from,
                "the counter that started anew",
            )?;
        }
    }
    Ok(())
}

pub(crate) async fn set_succeeds(f: &Fixture) -> Outcome {
    expire(f, &["k", "many"]).await?;
    f.put("k", "new").await?;
    f.put_many(&[Entry::new("many", CacheValue::new("new"), LONG)]).await?;
    check_eq!(
        f.texts(&["k", "many"]).await?,
        [Some("new".into()), Some("new".into())],
        "what was set over what has expired"
    );
    Ok(())
}
