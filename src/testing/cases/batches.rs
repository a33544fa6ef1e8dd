//! `get_many`, `set_many`, `remove_many`: one result for each, in the order asked.

use super::*;

const MANY: usize = 10_000;

fn entry(
    key: &str,
    value: impl Serialize + Send + Sync + 'static,
    expiry: impl Into<Expiry>,
) -> Entry<'_> {
    Entry::new(key, CacheValue::new(value), expiry.into())
}

async fn removed(f: &Fixture, keys: &[&str]) -> crate::error::Result<Vec<bool>> {
    f.remove_many(keys).await?.into_iter().collect()
}

pub(crate) async fn get_in_order(f: &Fixture) -> Outcome {
    for key in ["a", "b", "c", "10", "9"] {
        f.put(key, key.to_owned()).await?;
    }
    let keys = ["c", "missing", "9", "a", "10", "missing too", "b"];
    let expected: Vec<_> =
        keys.iter().map(|key| (!key.starts_with("missing")).then(|| (*key).to_owned())).collect();
    check_eq!(f.texts(&keys).await?, expected, "get_many of {keys:?}");
    check_eq!(f.texts(&["x", "y"]).await?, [None, None], "get_many of what is missing");
    check_eq!(f.texts(&["a"]).await?, [Some("a".to_owned())], "get_many of one key");
    Ok(())
}

pub(crate) async fn set_all(f: &Fixture) -> Outcome {
    f.put("b", "older").await?;
    f.put_many(&[
        entry("a", "1", LONG),
        entry("b", "2", Expiry::Never),
        entry("c", 3, Expiry::Default),
    ])
    .await?;
    check_eq!(
        f.texts(&["a", "b"]).await?,
        [Some("1".into()), Some("2".into())],
        "what set_many stored"
    );
    check_eq!(f.read::<i64>("c").await?, Some(3), "the number that set_many stored");
    Ok(())
}

pub(crate) async fn remove_answers_for_each(f: &Fixture) -> Outcome {
    for key in ["a", "b", "c"] {
        f.put(key, 1).await?;
    }
    check_eq!(
        removed(f, &["x", "a", "y", "c"]).await?,
        [false, true, false, true],
        "remove_many of x a y c where a b c are live"
    );
    check_eq!(removed(f, &["a", "b"]).await?, [false, true], "remove_many of a b afterwards");
    f.check_missing("b", "that was removed").await
}

pub(crate) async fn duplicates(f: &Fixture) -> Outcome {
    f.put_many(&[entry("a", "first", LONG), entry("b", "b", LONG), entry("a", "last", LONG)])
        .await?;
    let (a, b) = (Some("last".to_owned()), Some("b".to_owned()));
    check_eq!(
        f.texts(&["a", "b", "a", "a"]).await?,
        [a.clone(), b, a.clone(), a],
        "get_many with a key asked for thrice"
    );
    let gone = removed(f, &["a", "b", "a"]).await?;
    check!(gone.len() == 3 && gone[0] && gone[1], "remove_many with a key given twice: {gone:?}");
    check_eq!(f.texts(&["a", "b"]).await?, [None, None], "what is left");
    Ok(())
}

pub(crate) async fn duplicates_that_expire_or_fail(f: &Fixture) -> Outcome {
    let gone = Duration::ZERO;
    f.put_many(&[
        entry("a", 1, gone),
        entry("b", 2, LONG),
        entry("a", 3, LONG),
        entry("b", 4, gone),
    ])
    .await?;
    check_eq!(
        f.read::<i64>("a").await?,
        Some(3),
        "what was written after a write that left nothing"
    );
    f.check_missing("b", "whose last write left nothing").await?;
    let stored = f.set_many(&[entry("a", 5, LONG), entry("a", values::Unwritable, LONG)]).await?;
    let [first, second] = &stored[..] else {
        return Err(Failure::new("set_many of two gives not two results", Location::caller()));
    };
    check!(first.is_ok(), "an entry before one of the same key that cannot be encoded: {first:?}");
    check_kind!(
        second.as_ref().map_err(Clone::clone),
        ErrorKind::Encode,
        "the entry that cannot be encoded"
    );
    check_eq!(f.read::<i64>("a").await?, Some(5), "the last value that could be written");
    Ok(())
}

pub(crate) async fn nothing(f: &Fixture) -> Outcome {
    f.put("k", "v").await?;
    check_eq!(f.get_many(&[]).await?.len(), 0, "get_many of no keys");
    check_eq!(f.set_many(&[]).await?.len(), 0, "set_many of no entries");
    check_eq!(f.remove_many(&[]).await?.len(), 0, "remove_many of no keys");
    check_eq!(f.text("k").await?.as_deref(), Some("v"), "what was there");
    Ok(())
}

pub(crate) async fn each_its_own_expiry(f: &Fixture) -> Outcome {
    let short = f.suite.short();
    f.put("zero", "older").await?;
    let from = Instant::now();
    f.put_many(&[
        entry("long", "v", LONG),
        entry("short", "v", short),
        entry("zero", "v", Duration::ZERO),
        entry("never", "v", Expiry::Never),
        entry("past", "v", SystemTime::UNIX_EPOCH),
        entry("month", "v", 31 * DAY),
    ])
    .await?;
    f.check_missing("zero", "that was given no lifetime in a batch").await?;
    f.check_missing("past", "that expired before it was written").await?;
    f.outlive_short().await?;
    f.check_missing("short", "that was given a short life in a batch").await?;
    let kept = f.texts(&["long", "never", "month"]).await?;
    check_eq!(kept.iter().flatten().count(), 3, "what is left of the three that live on");
    if f.offers(Verb::Expiry).await? {
        check_eq!(
            f.expiry("never").await?,
            Some(Expiry::Never),
            "expiry of the one that never does"
        );
        check_remaining(f, f.expiry("month").await?, 31 * DAY, from, "a month")?;
        check_remaining(
            f,
            f.expiry("long").await?,
            Duration::from_secs(100),
            from,
            "the long one",
        )?;
    }
    Ok(())
}

pub(crate) async fn a_thousand_in_time(f: &Fixture) -> Outcome {
    /// This limit excludes a wait for each single key. It is no test of speed.
    const IN_TIME: Duration = Duration::from_secs(30);
    async fn timely<T>(call: impl Future<Output = crate::Result<Vec<T>>>) -> Outcome<Vec<T>> {
        let late = |_| Failure::new("a batch of 1,000 keys does not answer", Location::caller());
        let answers = tokio::time::timeout(IN_TIME, call).await.map_err(late)??;
        check_eq!(answers.len(), 1_000, "results of a batch of 1,000 keys");
        Ok(answers)
    }
    let names: Vec<String> = (0..1_000).map(|number| format!("in time {number}")).collect();
    let keys: Vec<&str> = names.iter().map(String::as_str).collect();
    let entries: Vec<_> = names.iter().map(|name| entry(name, name.clone(), LONG)).collect();
    for stored in timely(f.set_many(&entries)).await? {
        stored?;
    }
    for (name, found) in names.iter().zip(timely(f.get_many(&keys)).await?) {
        check_eq!(decoded::<String>(found?)?.as_ref(), Some(name), "get_many of {name:?}");
    }
    for (name, gone) in names.iter().zip(timely(f.remove_many(&keys)).await?) {
        check_eq!(gone?, true, "remove_many of {name:?}");
    }
    Ok(())
}

pub(crate) async fn ten_thousand(f: &Fixture) -> Outcome {
    let names: Vec<String> = (0..MANY).map(|number| format!("key {number}")).collect();
    let written = names.iter().enumerate().filter(|(number, _)| number % 3 != 0);
    let entries: Vec<_> = written.map(|(number, name)| entry(name, number, LONG)).collect();
    f.put_many(&entries).await?;
    let keys: Vec<&str> = names.iter().map(String::as_str).collect();
    let found = f.get_many(&keys).await?;
    check_eq!(found.len(), MANY, "results of get_many");
    for (number, found) in found.into_iter().enumerate() {
        check_eq!(
            decoded::<usize>(found?)?,
            (number % 3 != 0).then_some(number),
            "get_many of the key {number}"
        );
    }
    let gone = removed(f, &keys).await?;
    check_eq!(gone.len(), MANY, "results of remove_many");
    for (number, gone) in gone.into_iter().enumerate() {
        check_eq!(gone, number % 3 != 0, "remove_many of the key {number}");
    }
    check!(
        f.get_many(&keys).await?.into_iter().all(|found| matches!(found, Ok(None))),
        "something is left after remove_many"
    );
    Ok(())
}
