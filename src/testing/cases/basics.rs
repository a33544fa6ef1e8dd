//! One key, one caller.

use super::*;

pub(crate) async fn get_after_set(f: &Fixture) -> Outcome {
    f.put("k", "v").await?;
    check_eq!(f.text("k").await?.as_deref(), Some("v"), "get after set");
    check_eq!(f.text("k").await?.as_deref(), Some("v"), "a second get");
    Ok(())
}

pub(crate) async fn get_missing(f: &Fixture) -> Outcome {
    f.check_missing("never written", "that was never written").await
}

pub(crate) async fn overwrite(f: &Fixture) -> Outcome {
    f.put("k", "a").await?;
    f.put("k", "b").await?;
    check_eq!(f.text("k").await?.as_deref(), Some("b"), "get after the second set");
    Ok(())
}

pub(crate) async fn overwrite_with_another_type(f: &Fixture) -> Outcome {
    f.put("k", "a rather long text that was there before").await?;
    f.put("k", 7u8).await?;
    check_eq!(f.read::<u8>("k").await?, Some(7), "a number over a text");
    f.put("k", "text").await?;
    check_eq!(f.text("k").await?.as_deref(), Some("text"), "a text over a number");
    Ok(())
}

pub(crate) async fn keys_are_independent(f: &Fixture) -> Outcome {
    for key in ["a", "b", "ab"] {
        f.put(key, key.to_owned()).await?;
    }
    check_eq!(f.remove("a").await?, true, "remove of a live key");
    f.put("b", "changed").await?;
    check_eq!(
        f.texts(&["a", "b", "ab"]).await?,
        [None, Some("changed".into()), Some("ab".into())],
        "the siblings"
    );
    Ok(())
}

pub(crate) async fn remove_live(f: &Fixture) -> Outcome {
    f.put("k", "v").await?;
    check_eq!(f.remove("k").await?, true, "remove of a live key");
    f.check_missing("k", "that was removed").await
}

pub(crate) async fn remove_missing(f: &Fixture) -> Outcome {
    check_eq!(f.remove("never written").await?, false, "remove of a missing key");
    Ok(())
}

pub(crate) async fn remove_twice(f: &Fixture) -> Outcome {
    f.put("k", "v").await?;
    f.remove("k").await?;
    check_eq!(f.remove("k").await?, false, "the second remove");
    Ok(())
}

pub(crate) async fn set_after_remove(f: &Fixture) -> Outcome {
    f.put_for("k", "a", f.suite.short()).await?;
    f.remove("k").await?;
    f.put("k", "b").await?;
    f.outlive_short().await?;
    check_eq!(
        f.text("k").await?.as_deref(),
        Some("b"),
        "the value set after the remove, when the first would have expired"
    );
    Ok(())
}

pub(crate) async fn contains_is_whether_live(f: &Fixture) -> Outcome {
    check_eq!(f.contains("k").await?, false, "contains before the set");
    f.put("k", "v").await?;
    check_eq!(f.contains("k").await?, true, "contains after the set");
    f.remove("k").await?;
    check_eq!(f.contains("k").await?, false, "contains after the remove");
    Ok(())
}

pub(crate) async fn replace_missing(f: &Fixture) -> Outcome {
    check_eq!(
        f.replace("k", CacheValue::new("v"), Expiry::Default).await?,
        false,
        "replace of a missing key"
    );
    f.check_missing("k", "after a replace that found nothing").await
}

pub(crate) async fn replace_live(f: &Fixture) -> Outcome {
    f.put("k", "a").await?;
    check_eq!(
        f.replace("k", CacheValue::new("b"), Expiry::Default).await?,
        true,
        "replace of a live key"
    );
    check_eq!(f.text("k").await?.as_deref(), Some("b"), "get after replace");
    Ok(())
}
