//! `add`: if absent, in one step.

use super::*;

pub(crate) async fn missing(f: &Fixture) -> Outcome {
    check_eq!(
        f.add("k", CacheValue::new("v"), Expiry::Default).await?,
        true,
        "add of a missing key"
    );
    check_eq!(f.text("k").await?.as_deref(), Some("v"), "what was added");
    Ok(())
}

pub(crate) async fn live(f: &Fixture) -> Outcome {
    check_eq!(f.add("k", CacheValue::new("first"), LONG).await?, true, "the first add");
    check_eq!(f.add("k", CacheValue::new("second"), LONG).await?, false, "the second add");
    check_eq!(f.text("k").await?.as_deref(), Some("first"), "what is there after two adds");
    f.put("set", "set").await?;
    check_eq!(f.add("set", CacheValue::new("added"), LONG).await?, false, "add over what was set");
    check_eq!(f.text("set").await?.as_deref(), Some("set"), "what is there after set and add");
    Ok(())
}

pub(crate) async fn refused_keeps_the_expiry(f: &Fixture) -> Outcome {
    f.put_for("short", "v", f.suite.short()).await?;
    f.add("short", CacheValue::new("longer"), Expiry::Never).await?;
    f.put_for("long", "v", LONG).await?;
    f.add("long", CacheValue::new("shorter"), f.suite.short().into()).await?;
    f.put_for("zero", "v", LONG).await?;
    check_eq!(
        f.add("zero", CacheValue::new("z"), Duration::ZERO.into()).await?,
        false,
        "add with no lifetime over a live key"
    );
    f.outlive_short().await?;
    check_eq!(
        f.text("long").await?.as_deref(),
        Some("v"),
        "the longer life after a refused add with a shorter one"
    );
    check_eq!(
        f.text("zero").await?.as_deref(),
        Some("v"),
        "the value after a refused add with no lifetime"
    );
    // The entry may have expired before the add, which then stored for ever. This is correct, too.
    let kept = f.text("short").await?;
    check!(kept.as_deref() != Some("v"), "a refused add made a short life longer");
    Ok(())
}

pub(crate) async fn after_remove(f: &Fixture) -> Outcome {
    f.put("k", "v").await?;
    f.remove("k").await?;
    check_eq!(f.add("k", CacheValue::new("again"), LONG).await?, true, "add of a removed key");
    check_eq!(f.text("k").await?.as_deref(), Some("again"), "what was added");
    Ok(())
}

pub(crate) async fn once_among_many(f: &Fixture) -> Outcome {
    for round in 0..3 {
        let added = f
            .at_once(64, move |f, number| async move {
                Ok(f.add(&format!("k{round}"), CacheValue::new(number), LONG)
                    .await?
                    .then_some(number))
            })
            .await?;
        let winners: Vec<_> = added.into_iter().flatten().collect();
        check_eq!(winners.len(), 1, "adds that say true, of 64 at once");
        check_eq!(
            f.read::<usize>(&format!("k{round}")).await?,
            Some(winners[0]),
            "the value of the one that did"
        );
    }
    Ok(())
}

pub(crate) async fn once_over_the_expired(f: &Fixture) -> Outcome {
    f.put_for("k", "old", f.suite.short()).await?;
    f.outlive_short().await?;
    let added = f
        .at_once(64, |f, number| async move {
            Ok(f.add("k", CacheValue::new(number), LONG).await?.then_some(number))
        })
        .await?;
    let winners: Vec<_> = added.into_iter().flatten().collect();
    check_eq!(winners.len(), 1, "adds over an expired key that say true, of 64 at once");
    check_eq!(f.read::<usize>("k").await?, Some(winners[0]), "the value of the one that did");
    Ok(())
}
