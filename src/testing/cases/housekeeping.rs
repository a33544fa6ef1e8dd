//! Housekeeping: what an adapter does beside a call, before or behind its answer, such as a note, the
//! end of a claim, or the removal of an older value. Where it fails, or has been done by somebody
//! else, the call keeps its own answer.

use super::*;
use crate::adapter::Claim;

const LEASE: Option<Duration> = Some(Duration::from_secs(600));

async fn claimed(f: &Fixture, key: &str, lease: Option<Duration>) -> Outcome<Claim> {
    let claim = f.claim(key, lease).await?;
    claim.ok_or_else(|| Failure::new(format_args!("no claim of {key:?}"), Location::caller()))
}

pub(crate) async fn done_by_others(f: &Fixture) -> Outcome {
    for lease in [None, LEASE] {
        // Whatever ends a claim before its holder gives it back, nothing is lost by that.
        let changes = ["set", "remove", "remove_many", "clear", "set_many", "close"];
        for key in changes {
            let claim = claimed(f, key, lease).await?;
            match key {
                "set" => f.put(key, "written").await?,
                "remove" => check_eq!(f.remove(key).await?, false, "remove of a claimed key"),
                "remove_many" => {
                    let removed = f.remove_many(&[key]).await?.swap_remove(0)?;
                    check_eq!(removed, false, "remove_many of a claimed key");
                }
                "clear" => f.clear(key).await?,
                "set_many" => {
                    f.put_many(&[Entry::new(key, CacheValue::new("written"), LONG)]).await?
                }
                _ => f.close().await?,
            }
            f.release(key, &claim).await?;
            f.release(key, &claim).await?;
            let written = key.starts_with("set").then(|| "written".to_owned());
            check_eq!(f.text(key).await?, written, "{key:?} after two releases of an old claim");
        }
        let [one, other] = [claimed(f, "two", None).await?, claimed(f, "two", None).await?];
        f.release("two", &other).await?;
        f.release("two", &one).await?;
        f.check_missing("two", "after the release of two claims").await?;
        f.clear("").await?;
    }
    too_large_over_nothing(f).await
}

/// There is no older value to remove.
async fn too_large_over_nothing(f: &Fixture) -> Outcome {
    let Some(limit) = f.suite.max_value else { return Ok(()) };
    let large = || CacheValue::new("l".repeat(limit + 1));
    check_kind!(f.set("large", large(), LONG).await, ErrorKind::TooLarge, "set over nothing");
    let entries =
        [Entry::new("large", large(), LONG), Entry::new("small", CacheValue::new(1), LONG)];
    let mut stored = f.set_many(&entries).await?;
    check_eq!(stored.pop().is_some_and(|small| small.is_ok()), true, "its companion");
    check_kind!(stored.swap_remove(0), ErrorKind::TooLarge, "set_many over nothing");
    let claim = claimed(f, "large", None).await?;
    let stored = f.set_claimed("large", large(), LONG, &claim).await;
    check_kind!(stored, ErrorKind::TooLarge, "set_claimed over nothing");
    f.check_missing("large", "after writes that were too large").await
}

pub(crate) async fn refused(f: &Fixture) -> Outcome {
    let keys = ["read", "removed", "removed by a batch", "taken", "part:1", "part:2", "rest"];
    for key in keys {
        f.put(key, "there").await?;
    }
    let claims = [("loading", None), ("leased", LEASE)];
    let mut held = Vec::new();
    for (key, lease) in claims {
        held.push(claimed(f, key, lease).await?);
    }
    {
        let _full = f.suite.full();
        check_eq!(f.text("read").await?.as_deref(), Some("there"), "get");
        check_eq!(
            f.texts(&["read", "nothing"]).await?,
            [Some("there".to_owned()), None],
            "get_many"
        );
        check_eq!(f.contains("read").await?, true, "contains");
        check_eq!(f.remove("removed").await?, true, "remove");
        let removed = f.remove_many(&["removed by a batch", "nothing"]).await?;
        let removed: Vec<bool> = removed.into_iter().collect::<crate::Result<_>>()?;
        check_eq!(removed, [true, false], "remove_many");
        if f.suite.offers(Verb::Take) {
            let taken: Option<String> = decoded(f.take("taken").await?)?;
            check_eq!(taken.as_deref(), Some("there"), "take");
        } else {
            f.remove("taken").await?;
        }
        for ((key, _), claim) in claims.iter().zip(&held) {
            f.release(key, claim).await?;
        }
        f.clear("part:").await?;
        for key in ["removed", "removed by a batch", "taken", "part:1", "part:2", "loading"] {
            f.check_missing(key, "in a full store").await?;
        }
        check_eq!(f.text("rest").await?.as_deref(), Some("there"), "beside what was cleared");
        f.clear("").await?;
        f.check_missing("rest", "after the clear of a full store").await?;
        check_eq!(f.remove("rest").await?, false, "remove after the clear");
    }
    f.put("read", "again").await?;
    check_eq!(f.text("read").await?.as_deref(), Some("again"), "a value after there is room again");
    let claim = claimed(f, "leased", LEASE).await?;
    Ok(f.release("leased", &claim).await?)
}
