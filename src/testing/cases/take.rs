//! `take`: value and removal in one step.

use super::*;

pub(crate) async fn live(f: &Fixture) -> Outcome {
    f.put("k", "v").await?;
    check_eq!(decoded::<String>(f.take("k").await?)?.as_deref(), Some("v"), "take of a live key");
    f.check_missing("k", "that was taken").await?;
    check!(f.take("k").await?.is_none(), "a second take found something");
    Ok(())
}

pub(crate) async fn missing(f: &Fixture) -> Outcome {
    check!(f.take("never written").await?.is_none(), "take of a missing key found something");
    Ok(())
}

pub(crate) async fn set_afterwards(f: &Fixture) -> Outcome {
    f.put("k", "first").await?;
    f.take("k").await?;
    f.put("k", "second").await?;
    check_eq!(
        decoded::<String>(f.take("k").await?)?.as_deref(),
        Some("second"),
        "what was set after a take"
    );
    Ok(())
}

pub(crate) async fn once_among_many(f: &Fixture) -> Outcome {
    for _ in 0..3 {
        f.put("k", "v").await?;
        let taken = f.at_once(64, |f, _| async move { Ok(f.take("k").await?.is_some()) }).await?;
        check_eq!(
            taken.into_iter().filter(|taken| *taken).count(),
            1,
            "takes that found the value, of 64 at once"
        );
    }
    Ok(())
}
