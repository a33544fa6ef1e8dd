//! Many tasks at the same time.

use super::*;

pub(crate) async fn keys_of_their_own(f: &Fixture) -> Outcome {
    f.at_once(32, |f, task| async move {
        for round in 0..20 {
            let (key, other) = (format!("{task} of many"), format!("{task} and {round}"));
            f.put(&key, format!("{task} {round}")).await?;
            f.put_many(&[Entry::new(&other, CacheValue::new(other.clone()), LONG)]).await?;
            check_eq!(
                f.text(&key).await?,
                Some(format!("{task} {round}")),
                "the key of task {task}"
            );
            check_eq!(
                f.texts(&[&other, &key]).await?,
                [Some(other.clone()), Some(format!("{task} {round}"))],
                "both keys of task {task}"
            );
            check_eq!(f.remove(&other).await?, true, "remove by task {task}");
        }
        Ok(())
    })
    .await
    .map(drop)
}

pub(crate) async fn values_are_whole(f: &Fixture) -> Outcome {
    let whole = |task: usize| format!("{task},").repeat(500);
    f.put("shared", whole(0)).await?;
    f.at_once(16, move |f, task| async move {
        for _ in 0..20 {
            if task % 2 == 0 {
                f.put("shared", whole(task)).await?;
            } else {
                let found = f.text("shared").await?;
                check!(
                    (0..16).any(|task| found == Some(whole(task))),
                    "a reader sees none of the writes, or parts of two"
                );
            }
        }
        Ok(())
    })
    .await
    .map(drop)
}

pub(crate) async fn one_removal_among_many(f: &Fixture) -> Outcome {
    for _ in 0..3 {
        f.put("k", "v").await?;
        let removed = f.at_once(32, |f, _| async move { Ok(f.remove("k").await?) }).await?;
        check_eq!(
            removed.into_iter().filter(|removed| *removed).count(),
            1,
            "removes that say true, of 32 at once"
        );
    }
    Ok(())
}
