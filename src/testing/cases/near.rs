//! What a near level reads: values with the rest of their life, and reads from the store itself.

use super::*;
use crate::adapter::NearEntry;

/// When an entry was written.
struct Written {
    called: Instant,
    returned: Instant,
}

/// Writes a text under `key`.
async fn write(f: &Fixture, key: &str, expiry: impl Into<Expiry>) -> Outcome<Written> {
    let called = Instant::now();
    f.put_for(key, key.to_owned(), expiry).await?;
    Ok(Written { called, returned: Instant::now() })
}

/// Checks an answer of `get_near`, asked for at `asked`, about an entry with this lifetime: it may
/// be kept no longer than the entry lives, and nearly as long, if the store knows expiries.
fn check_left(
    f: &Fixture,
    entry: &NearEntry,
    ttl: Duration,
    (written, asked): (&Written, Instant),
    what: &str,
) -> Outcome {
    let Lifetime::For(left) = entry.left else {
        check!(false, "near, {what} of {ttl:?} may be kept for ever");
        return Ok(());
    };
    let passed = asked.duration_since(written.returned);
    check!(
        passed + left <= ttl + f.suite.tolerance(),
        "near, {what} of {ttl:?} may be kept for {left:?} after {passed:?}"
    );
    if f.suite.offers(Verb::Expiry) {
        let answer = Some(Expiry::After(left));
        check_remaining(f, answer, ttl, written.called, &format!("near, {what}"))?;
    }
    Ok(())
}

/// Checks that an answer of `get_near` is kept for ever, or not at all if the store cannot know.
fn check_for_ever(f: &Fixture, entry: &NearEntry, what: &str) -> Outcome {
    let is_unknown = !f.suite.offers(Verb::Expiry) && entry.left == Lifetime::For(Duration::ZERO);
    check!(
        entry.left == Lifetime::Never || is_unknown,
        "near, {what}: {:?} left of an entry that never expires",
        entry.left
    );
    Ok(())
}

/// The answer of `get_near` for a key that is live.
async fn near(f: &Fixture, key: &str) -> Outcome<NearEntry> {
    let entry = f.get_near(key).await?;
    entry.ok_or_else(|| Failure::new(format!("get_near of {key:?}: none"), Location::caller()))
}

/// What `get_near`, `get_many_near`, `get_far` and `get_many_far` say of a key, as text.
async fn all_ways(f: &Fixture, key: &str) -> Outcome<[Option<String>; 4]> {
    let near = |entry: Option<NearEntry>| entry.map(|entry| entry.value);
    let first = |answers: Vec<crate::error::Result<Option<CacheValue>>>| {
        answers.into_iter().next().unwrap_or(Ok(None))
    };
    let many_near = f.get_many_near(&[key]).await?.into_iter().map(|entry| entry.map(near));
    Ok([
        decoded(near(f.get_near(key).await?))?,
        decoded(first(many_near.collect())?)?,
        decoded(f.get_far(key).await?)?,
        decoded(first(f.get_many_far(&[key]).await?)?)?,
    ])
}

pub(crate) async fn agrees_with_get(f: &Fixture) -> Outcome {
    check_eq!(all_ways(f, "k").await?, [const { None }; 4], "what was never written");
    for text in ["first", "second"] {
        f.put("k", text).await?;
        let expected = [(); 4].map(|()| Some(text.to_owned()));
        check_eq!(all_ways(f, "k").await?, expected, "what was set");
    }
    f.remove("k").await?;
    check_eq!(all_ways(f, "k").await?, [const { None }; 4], "what was removed");
    let size = f.suite.max_value.map_or(300_000, |most| (most / 2).min(300_000));
    let large = "l".repeat(size);
    f.put("large", large.clone()).await?;
    for found in all_ways(f, "large").await? {
        check!(found.as_ref() == Some(&large), "a text of {size} bytes is not read as it was set");
    }
    Ok(())
}

pub(crate) async fn no_longer_than_it_lives(f: &Fixture) -> Outcome {
    for ttl in [Duration::from_secs(100), Duration::from_secs(10), 3 * DAY] {
        let written = write(f, "k", ttl).await?;
        let asked = Instant::now();
        check_left(f, &near(f, "k").await?, ttl, (&written, asked), "a set")?;
    }
    if let Lifetime::For(ttl) = f.suite.default_ttl {
        let written = write(f, "default", Expiry::Default).await?;
        let asked = Instant::now();
        check_left(f, &near(f, "default").await?, ttl, (&written, asked), "a set by default")?;
    }
    write(f, "never", Expiry::Never).await?;
    check_for_ever(f, &near(f, "never").await?, "a set")
}

pub(crate) async fn touch_counts(f: &Fixture) -> Outcome {
    write(f, "k", LONG).await?;
    for ttl in [Duration::from_secs(10), Duration::from_secs(1_000)] {
        let called = Instant::now();
        check_eq!(f.touch("k", ttl.into()).await?, true, "touch with {ttl:?}");
        let written = Written { called, returned: Instant::now() };
        let asked = Instant::now();
        check_left(f, &near(f, "k").await?, ttl, (&written, asked), "a touch")?;
    }
    check_eq!(f.touch("k", Expiry::Never).await?, true, "touch with no end");
    check_for_ever(f, &near(f, "k").await?, "a touch")
}

pub(crate) async fn nothing_after_the_end(f: &Fixture) -> Outcome {
    write(f, "k", f.suite.short()).await?;
    f.outlive_short().await?;
    check_eq!(all_ways(f, "k").await?, [const { None }; 4], "what has expired");
    write(f, "k", Duration::ZERO).await?;
    check_eq!(all_ways(f, "k").await?, [const { None }; 4], "what lives for no time");
    Ok(())
}

pub(crate) async fn batches_in_order(f: &Fixture) -> Outcome {
    let ten = write(f, "ten", Duration::from_secs(10)).await?;
    let hundred = write(f, "hundred", Duration::from_secs(100)).await?;
    write(f, "never", Expiry::Never).await?;
    let keys = ["hundred", "nothing", "ten", "never", "hundred"];
    let asked = Instant::now();
    let found = f.get_many_near(&keys).await?;
    check_eq!(found.len(), keys.len(), "answers of get_many_near");
    for (key, entry) in keys.into_iter().zip(found) {
        let entry = entry?;
        let text = decoded::<String>(entry.as_ref().map(|entry| entry.value.clone()))?;
        check_eq!(text.as_deref(), (key != "nothing").then_some(key), "get_many_near of {key:?}");
        let Some(entry) = entry else { continue };
        match key {
            "ten" => check_left(f, &entry, Duration::from_secs(10), (&ten, asked), key)?,
            "never" => check_for_ever(f, &entry, key)?,
            _ => check_left(f, &entry, Duration::from_secs(100), (&hundred, asked), key)?,
        }
    }
    let found = f.get_many_far(&keys).await?;
    let texts: Vec<Option<String>> =
        found.into_iter().map(|found| decoded(found?)).collect::<crate::error::Result<_>>()?;
    let expected = keys.map(|key| (key != "nothing").then(|| key.to_owned()));
    check_eq!(texts, expected, "answers of get_many_far");
    check!(f.get_many_near(&[]).await?.is_empty(), "get_many_near of no keys");
    Ok(())
}

pub(crate) async fn thousands_in_a_batch(f: &Fixture) -> Outcome {
    let keys: Vec<String> = (0..2_500).map(|number| format!("k{number}")).collect();
    let written = |number: usize| !number.is_multiple_of(5);
    let value = |number: usize| CacheValue::new(number);
    let entries: Vec<Entry<'_>> = (0..keys.len())
        .filter(|number| written(*number))
        .map(|number| Entry::new(&keys[number], value(number), LONG))
        .collect();
    f.put_many(&entries).await?;
    let names: Vec<&str> = keys.iter().map(String::as_str).collect();
    let found = f.get_many_near(&names).await?;
    check_eq!(found.len(), names.len(), "answers of get_many_near");
    for (number, entry) in found.into_iter().enumerate() {
        let found = decoded::<usize>(entry?.map(|entry| entry.value))?;
        check_eq!(found, written(number).then_some(number), "get_many_near of {}", names[number]);
    }
    Ok(())
}

pub(crate) async fn empty_is_invalid(f: &Fixture) -> Outcome {
    let invalid = ErrorKind::InvalidKey;
    check_kind!(f.get_near("").await, invalid, "get_near of the empty key");
    check_kind!(f.get_far("").await, invalid, "get_far of the empty key");
    check_kind!(f.get_many_near(&["k", ""]).await, invalid, "get_many_near with the empty key");
    check_kind!(f.get_many_far(&["k", ""]).await, invalid, "get_many_far with the empty key");
    Ok(())
}

pub(crate) async fn hostile_keys(f: &Fixture) -> Outcome {
    let keys = keys::hostile();
    for key in &keys {
        write(f, key, LONG).await?;
    }
    let names: Vec<&str> = keys.iter().map(AsRef::as_ref).collect();
    let together = f.get_many_near(&names).await?;
    check_eq!(together.len(), names.len(), "answers of get_many_near");
    for (key, entry) in names.into_iter().zip(together) {
        let alone = near(f, key).await?.value.decode::<String>()?;
        check_eq!(alone, key, "get_near of {key:?}");
        let found = decoded::<String>(entry?.map(|entry| entry.value))?;
        check_eq!(found.as_deref(), Some(key), "get_many_near of {key:?}");
    }
    Ok(())
}
