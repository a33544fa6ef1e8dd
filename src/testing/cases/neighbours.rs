//! Two adapters from two evaluations of the expression.

use super::*;

pub(crate) async fn share_nothing(f: &Fixture) -> Outcome {
    let other = f.neighbour()?;
    f.put("k", "mine").await?;
    other.check_missing("k", "that the neighbour set").await?;
    check_eq!(other.remove("k").await?, false, "remove of a key that the neighbour set");
    check_eq!(
        other.touch("k", Duration::ZERO.into()).await?,
        false,
        "touch of a key that the neighbour set"
    );
    if f.offers(Verb::Incr).await? {
        check_eq!(f.incr("count", 5, LONG).await?, 5, "a counter");
        check_eq!(
            other.incr("count", 1, LONG).await?,
            1,
            "the neighbour's counter of the same name"
        );
    }
    other.put("k", "theirs").await?;
    check_eq!(
        f.text("k").await?.as_deref(),
        Some("mine"),
        "the value after the neighbour set the same key"
    );
    check_eq!(other.text("k").await?.as_deref(), Some("theirs"), "the neighbour's value");
    Ok(())
}

pub(crate) async fn clear_stays_at_home(f: &Fixture) -> Outcome {
    let other = f.neighbour()?;
    for prefix in ["", "a:"] {
        for key in ["a:k", "k", "清"] {
            f.put_for(key, "mine", Expiry::Never).await?;
            other.put_for(key, "theirs", Expiry::Never).await?;
        }
        f.clear(prefix).await?;
        f.check_missing("a:k", "that was cleared").await?;
        let kept = other.texts(&["a:k", "k", "清"]).await?;
        check_eq!(
            kept.iter().flatten().count(),
            3,
            "keys left of the neighbour's 3 after clear({prefix:?})"
        );
    }
    Ok(())
}
