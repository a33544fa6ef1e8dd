//! `incr`.

use super::*;
use std::collections::BTreeMap;

/// Checks that every verb that reads returns `expected` for the counter.
async fn stands_at(f: &Fixture, key: &str, expected: i64) -> Outcome {
    check_eq!(f.read::<i64>(key).await?, Some(expected), "get of the counter");
    let [found] = &f.get_many(&[key]).await?[..] else {
        return Err(Failure::new("get_many of one key gives not one result", Location::caller()));
    };
    check_eq!(decoded::<i64>(found.clone()?)?, Some(expected), "get_many of the counter");
    Ok(())
}

pub(crate) async fn counts(f: &Fixture) -> Outcome {
    f.put("k", 41i64).await?;
    for (by, sum) in [(1, 42), (10, 52), (-10, 42), (0, 42), (-42, 0), (-1, -1)] {
        check_eq!(f.incr("k", by, LONG).await?, sum, "incr by {by}");
        stands_at(f, "k", sum).await?;
    }
    Ok(())
}

pub(crate) async fn starts_from_zero(f: &Fixture) -> Outcome {
    for (key, by) in [
        ("one", 1),
        ("five", 5),
        ("minus", -3),
        ("zero", 0),
        ("most", i64::MAX),
        ("least", i64::MIN),
    ] {
        check_eq!(f.incr(key, by, LONG).await?, by, "incr of a missing key by {by}");
        stands_at(f, key, by).await?;
    }
    Ok(())
}

pub(crate) async fn goes_below_zero(f: &Fixture) -> Outcome {
    f.put("k", 1).await?;
    check_eq!(f.incr("k", -3, LONG).await?, -2, "1 by -3");
    check_eq!(f.incr("k", -3, LONG).await?, -5, "-2 by -3");
    check_eq!(f.incr("k", 10, LONG).await?, 5, "-5 by 10");
    stands_at(f, "k", 5).await
}

pub(crate) async fn changes_its_width(f: &Fixture) -> Outcome {
    for (from, by) in [
        (10, -1),
        (100, -1),
        (1_000, -991),
        (9, 1),
        (-10, 1),
        (99, 1),
        (-1, 2),
        (1 << 32, -(1 << 32)),
        (i64::MAX - 1, 1),
    ] {
        f.put("k", from).await?;
        check_eq!(f.incr("k", by, LONG).await?, from + by, "{from} by {by}");
        stands_at(f, "k", from + by).await?;
    }
    Ok(())
}

pub(crate) async fn missing_gets_the_expiry(f: &Fixture) -> Outcome {
    f.incr("short", 1, f.suite.short().into()).await?;
    let from = Instant::now();
    f.incr("long", 1, LONG).await?;
    f.incr("default", 1, Expiry::Default).await?;
    f.incr("never", 1, Expiry::Never).await?;
    check_eq!(
        f.incr("zero", 7, Duration::ZERO.into()).await?,
        7,
        "incr of a missing key with no lifetime"
    );
    f.check_missing("zero", "that started with no lifetime").await?;
    f.outlive_short().await?;
    f.check_missing("short", "that started with a short life").await?;
    stands_at(f, "never", 1).await?;
    if f.offers(Verb::Expiry).await? {
        check_remaining(f, f.expiry("long").await?, Duration::from_secs(100), from, "the counter")?;
        check_eq!(
            f.expiry("never").await?,
            Some(Expiry::Never),
            "expiry of the counter that never expires"
        );
        if let Lifetime::For(ttl) = f.suite.default_ttl {
            check_remaining(
                f,
                f.expiry("default").await?,
                ttl,
                from,
                "the counter that was given no expiry",
            )?;
        }
    }
    Ok(())
}

pub(crate) async fn live_keeps_its_expiry(f: &Fixture) -> Outcome {
    let short = f.suite.short();
    f.put_for("set", 1, Expiry::Never).await?;
    f.incr("counted", 1, Expiry::Never).await?;
    for key in ["set", "counted"] {
        f.incr(key, 1, short.into()).await?;
        f.incr(key, 1, Duration::ZERO.into()).await?;
    }
    for key in ["set short", "counted short"] {
        // Repeat until both calls come in time, because a busy machine may be late for the short
        // lifetime.
        for _ in 0..50 {
            if key == "set short" {
                f.put_for(key, 10, short).await?
            } else {
                f.remove(key).await.map(drop)?
            }
            if key != "set short" {
                f.incr(key, 10, short.into()).await?;
            }
            if f.incr(key, 1, Expiry::Never).await? == 11 {
                break;
            }
        }
    }
    f.outlive_short().await?;
    for key in ["set", "counted"] {
        stands_at(f, key, 3).await?;
    }
    for key in ["set short", "counted short"] {
        f.check_missing(key, "that a later incr could not make live longer").await?;
    }
    Ok(())
}

/// Checks that `incr` refuses the value and leaves it unchanged.
async fn refused<T>(f: &Fixture, key: &str, value: T) -> Outcome
where
    T: Serialize + DeserializeOwned + Clone + PartialEq + Debug + Send + Sync + 'static,
{
    if exact(f, key, value.clone()).await? {
        check_kind!(f.incr(key, 1, LONG).await, ErrorKind::NotANumber, "incr of {value:?}");
        check_eq!(f.read::<T>(key).await?, Some(value), "the value after the refused incr");
    }
    Ok(())
}

pub(crate) async fn not_a_number(f: &Fixture) -> Outcome {
    refused(f, "text", "hello".to_owned()).await?;
    refused(f, "empty", String::new()).await?;
    refused(f, "blank", " ".to_owned()).await?;
    refused(f, "float", 4.5).await?;
    refused(f, "too big", u64::MAX).await?;
    if f.suite.codec == Codec::Raw {
        return Ok(());
    }
    refused(f, "null", ()).await?;
    refused(f, "none", None::<i64>).await?;
    refused(f, "bool", true).await?;
    refused(f, "list", vec![1]).await?;
    refused(f, "map", BTreeMap::from([("a".to_owned(), 1)])).await?;
    refused(f, "digits", "41".to_owned()).await
}

pub(crate) async fn overflow(f: &Fixture) -> Outcome {
    for (from, by) in [
        (i64::MAX, 1),
        (i64::MIN, -1),
        (1, i64::MAX),
        (-1, i64::MIN),
        (i64::MAX, i64::MAX),
        (i64::MIN, i64::MIN),
    ] {
        f.put("set", from).await?;
        f.remove("counted").await?;
        f.incr("counted", from, LONG).await?;
        for key in ["set", "counted"] {
            check_kind!(f.incr(key, by, LONG).await, ErrorKind::Overflow, "{from} by {by}");
            stands_at(f, key, from).await?;
        }
    }
    f.put("k", i64::MAX).await?;
    check_eq!(f.incr("k", i64::MIN, LONG).await?, -1, "the largest by the smallest");
    Ok(())
}

pub(crate) async fn reads_as_any_integer(f: &Fixture) -> Outcome {
    for sum in 1..=5i64 {
        f.incr("k", 1, LONG).await?;
        check_eq!(f.read::<i64>("k").await?, Some(sum), "as an i64");
        check_eq!(f.read::<u8>("k").await?, Some(sum as u8), "as a u8");
        check_eq!(f.read::<i32>("k").await?, Some(sum as i32), "as an i32");
        check_eq!(f.read::<Option<u64>>("k").await?, Some(Some(sum as u64)), "as an Option<u64>");
    }
    f.incr("k", -10, LONG).await?;
    check_kind!(f.read::<u8>("k").await, ErrorKind::Decode, "-5 as a u8");
    Ok(())
}

pub(crate) async fn counts_on_from_any_integer(f: &Fixture) -> Outcome {
    f.put("u8", 41u8).await?;
    f.put("i8", 41i8).await?;
    f.put("u16", 41u16).await?;
    f.put("i32", 41i32).await?;
    f.put("u64", 41u64).await?;
    f.put("usize", 41usize).await?;
    f.put("some", Some(41)).await?;
    for key in ["u8", "i8", "u16", "i32", "u64", "usize", "some"] {
        check_eq!(f.incr(key, 1, LONG).await?, 42, "incr after a set of a {key}");
        stands_at(f, key, 42).await?;
    }
    f.put("full", 255u8).await?;
    check_eq!(f.incr("full", 1, LONG).await?, 256, "incr past the range of the type that was set");
    Ok(())
}

pub(crate) async fn is_a_value_like_others(f: &Fixture) -> Outcome {
    f.incr("k", 7, LONG).await?;
    check_eq!(f.contains("k").await?, true, "contains of a counter");
    check_eq!(
        decoded::<i64>(f.update_timeout("k", LONG).await?)?,
        Some(7),
        "update_timeout of a counter"
    );
    if f.offers(Verb::Add).await? {
        check_eq!(f.add("k", CacheValue::new(1), LONG).await?, false, "add over a counter");
    }
    f.put("k", 20).await?;
    check_eq!(f.incr("k", 1, LONG).await?, 21, "incr after a set over the counter");
    if f.offers(Verb::Take).await? {
        check_eq!(decoded::<i64>(f.take("k").await?)?, Some(21), "take of a counter");
        check_eq!(f.incr("k", 1, LONG).await?, 1, "incr after a take");
    }
    check_eq!(f.remove("k").await?, true, "remove of a counter");
    check_eq!(f.incr("k", 3, LONG).await?, 3, "incr after a remove");
    f.put("k", "text").await?;
    check_eq!(f.text("k").await?.as_deref(), Some("text"), "a text over a counter");
    Ok(())
}

pub(crate) async fn exact_among_many(f: &Fixture) -> Outcome {
    const EACH: usize = 5;
    f.put("set", 100).await?;
    let sums = f
        .at_once(64, |f, _| async move {
            let mut sums = Vec::new();
            for _ in 0..EACH {
                sums.push(f.incr("k", 1, LONG).await?);
                f.incr("set", -1, LONG).await?;
            }
            Ok(sums)
        })
        .await?;
    let mut sums: Vec<i64> = sums.into_iter().flatten().collect();
    sums.sort_unstable();
    check_eq!(sums, (1..=64 * EACH as i64).collect::<Vec<_>>(), "the sums that 64 tasks saw");
    stands_at(f, "k", 64 * EACH as i64).await?;
    stands_at(f, "set", 100 - 64 * EACH as i64).await
}

pub(crate) async fn exact_over_the_expired(f: &Fixture) -> Outcome {
    f.incr("k", 1_000, f.suite.short().into()).await?;
    f.outlive_short().await?;
    let mut sums = f.at_once(64, |f, _| async move { Ok(f.incr("k", 1, LONG).await?) }).await?;
    sums.sort_unstable();
    check_eq!(
        sums,
        (1..=64).collect::<Vec<i64>>(),
        "the sums that 64 tasks saw over an expired counter"
    );
    stands_at(f, "k", 64).await
}
