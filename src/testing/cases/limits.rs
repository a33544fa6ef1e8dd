//! Large values.

use super::*;

const MEGABYTE: usize = 1_000_000;

fn large(bytes: usize) -> String {
    let mut text = "0123456789".repeat(bytes / 10 + 1);
    text.truncate(bytes);
    text
}

/// Sets this number of bytes over a small value, and returns whether the store accepted them. If
/// not, the small value must be removed.
async fn fits(f: &Fixture, bytes: usize) -> Outcome<bool> {
    let key = format!("{bytes} bytes");
    f.put(&key, "small").await?;
    let fitted = match f.put(&key, large(bytes)).await {
        Ok(()) => {
            check!(
                f.text(&key).await? == Some(large(bytes)),
                "a value of {bytes} bytes does not come back as it was"
            );
            true
        }
        Err(refused) => {
            check!(refused.kind() == ErrorKind::TooLarge, "a value of {bytes} bytes: {refused:?}");
            check_eq!(f.text(&key).await?, None, "the older value after TooLarge");
            false
        }
    };
    f.put("next", bytes).await?;
    check_eq!(
        f.read::<usize>("next").await?,
        Some(bytes),
        "the operation after a value of {bytes} bytes"
    );
    f.put(&key, "small again").await?;
    check_eq!(
        f.text(&key).await?.as_deref(),
        Some("small again"),
        "a small value after one of {bytes} bytes"
    );
    Ok(fitted)
}

pub(crate) async fn sizes(f: &Fixture) -> Outcome {
    for bytes in [
        0, 1, 31, 32, 127, 128, 255, 256, 1_023, 1_024, 4_095, 4_096, 4_097, 65_535, 65_536,
        65_537, 200_000,
    ] {
        if f.suite.max_value.is_none_or(|most| bytes * 2 <= most) {
            check_eq!(fits(f, bytes).await?, true, "a value of {bytes} bytes is stored");
        }
    }
    Ok(())
}

pub(crate) async fn one_megabyte(f: &Fixture) -> Outcome {
    fits(f, MEGABYTE).await?;
    fits(f, 1 << 20).await.map(drop)
}

pub(crate) async fn eight_megabytes(f: &Fixture) -> Outcome {
    fits(f, 8 * MEGABYTE).await.map(drop)
}

pub(crate) async fn the_stores_own(f: &Fixture) -> Outcome {
    let Some(most) = f.suite.max_value else { return Ok(()) };
    check_eq!(fits(f, most / 2).await?, true, "a value of half the limit is stored");
    check_eq!(fits(f, most + 1).await?, false, "a value over the limit is stored");
    for near in [most - most / 16, most - 100, most - 50, most - 1, most] {
        fits(f, near).await?;
    }
    Ok(())
}

pub(crate) async fn in_a_batch(f: &Fixture) -> Outcome {
    f.put("large", "small").await?;
    let bytes = f.suite.max_value.map_or(4 * MEGABYTE, |most| most + 1);
    let entry = |key, value: String| Entry::new(key, CacheValue::new(value), Expiry::Default);
    let stored = f
        .set_many(&[entry("a", "a".into()), entry("large", large(bytes)), entry("c", "c".into())])
        .await?;
    let [a, middle, c] = &stored[..] else {
        return Err(Failure::new("set_many of three gives not three results", Location::caller()));
    };
    check!(a.is_ok() && c.is_ok(), "the companions of a large value: {a:?}, {c:?}");
    check_eq!(
        f.texts(&["a", "c"]).await?,
        [Some("a".into()), Some("c".into())],
        "the companions of a large value"
    );
    match middle {
        Ok(()) => check!(
            f.text("large").await? == Some(large(bytes)),
            "a value of {bytes} bytes does not come back as it was"
        ),
        Err(refused) => {
            check!(refused.kind() == ErrorKind::TooLarge, "a value of {bytes} bytes: {refused:?}");
            check_eq!(f.text("large").await?, None, "the older value after TooLarge");
        }
    }
    Ok(())
}

/// Finds the largest text that the store accepts, by trying; `None` if it accepts eight megabytes.
async fn largest(f: &Fixture, key: &str) -> Outcome<Option<usize>> {
    let (mut stored, mut refused) = (0, f.suite.max_value.map_or(8 * MEGABYTE, |most| most + 1));
    if takes(f.put(key, large(refused)).await)? {
        return Ok(None);
    }
    while refused - stored > 1 {
        let middle = stored.midpoint(refused);
        if takes(f.put(key, large(middle)).await)? { stored = middle } else { refused = middle }
    }
    Ok(Some(stored))
}

/// Whether a value was stored; only `TooLarge` is allowed as an error.
fn takes(answer: crate::Result<()>) -> Outcome<bool> {
    match answer {
        Err(refused) if refused.kind() == ErrorKind::TooLarge => Ok(false),
        answer => Ok(answer.map(|()| true)?),
    }
}

pub(crate) async fn at_the_edge(f: &Fixture) -> Outcome {
    const KEY: &str = "edge";
    let Some(most) = largest(f, KEY).await? else { return Ok(()) };
    for bytes in [most - 1, most, most + 1] {
        let value = || CacheValue::new(large(bytes));
        let mut answers = Vec::new();
        f.put(KEY, "older").await?;
        answers.push((Verb::Set, f.set(KEY, value(), LONG).await, f.text(KEY).await?));
        if f.suite.offers(Verb::Replace) {
            f.put(KEY, "older").await?;
            let answer = f.replace(KEY, value(), LONG).await.map(drop);
            answers.push((Verb::Replace, answer, f.text(KEY).await?));
        }
        if f.suite.offers(Verb::Add) {
            f.remove(KEY).await?;
            let answer = f.add(KEY, value(), LONG).await.map(drop);
            answers.push((Verb::Add, answer, f.text(KEY).await?));
        }
        f.put(KEY, "older").await?;
        let stored = f.set_many(&[Entry::new(KEY, value(), LONG)]).await?.pop();
        answers.push((Verb::SetMany, stored.unwrap_or(Ok(())), f.text(KEY).await?));
        f.put(KEY, "older").await?;
        if let Some(claim) = f.claim(KEY, None).await? {
            let answer = f.set_claimed(KEY, value(), LONG, &claim).await.map(drop);
            answers.push((Verb::SetClaimed, answer, f.text(KEY).await?));
        }
        for (verb, answer, found) in answers {
            let taken = takes(answer).map_err(|failure| failure.prefixed(verb))?;
            check_eq!(taken, bytes <= most, "{verb} of {bytes} bytes, where set takes {most}");
            check!(found == taken.then(|| large(bytes)), "what is there after {verb} of {bytes}");
        }
    }
    Ok(())
}
