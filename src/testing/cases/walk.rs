//! `keys`: a walk through the live keys that begin with the prefix, taken literally.

use super::keys::hostile;
use super::stale::keep;
use super::*;
use std::collections::BTreeSet;

/// More pages than any walk of a case has.
const MOST_PAGES: usize = 100_000;

/// Walks to the end, and returns the keys. A key may come twice.
async fn walk(f: &Fixture, prefix: &str) -> Outcome<BTreeSet<String>> {
    let (mut keys, mut after) = (BTreeSet::new(), None);
    for _ in 0..MOST_PAGES {
        let page = f.keys(prefix, after.as_ref()).await?;
        keys.extend(page.keys);
        after = page.next;
        if after.is_none() {
            return Ok(keys);
        }
    }
    check!(false, "a walk below {prefix:?} has no end");
    Ok(keys)
}

/// Checks that a walk gives the keys that begin with `prefix`, and no others.
async fn check_walk(f: &Fixture, keys: &[&str], prefix: &str) -> Outcome {
    let expected: BTreeSet<&str> =
        keys.iter().copied().filter(|key| key.starts_with(prefix)).collect();
    let found = walk(f, prefix).await?;
    let found: BTreeSet<&str> = found.iter().map(String::as_str).collect();
    let (more, less) = (&found - &expected, &expected - &found);
    check!(
        more.is_empty() && less.is_empty(),
        "keys below {prefix:?}: there are also {more:?}, and {less:?} are missing"
    );
    Ok(())
}

async fn fill(f: &Fixture, keys: &[&str]) -> Outcome {
    let entries: Vec<Entry<'_>> =
        keys.iter().map(|key| Entry::new(key, CacheValue::new(5), LONG)).collect();
    f.put_many(&entries).await
}

pub(crate) async fn everything(f: &Fixture) -> Outcome {
    check_walk(f, &[], "").await?;
    let keys = ["a", "b:c", "%", "a b", "清", "user:7"];
    fill(f, &keys).await?;
    f.put_for("never", 1, Expiry::Never).await?;
    f.put("zero bytes", "").await?;
    f.put("null", None::<u8>).await.or_else(|error| match error.kind() {
        ErrorKind::Encode => Ok(()),
        _ => Err(error),
    })?;
    let mut all = [&keys[..], &["never", "zero bytes"]].concat();
    if f.contains("null").await? {
        all.push("null");
    }
    if f.suite.offers(Verb::Incr) {
        f.incr("count", 1, LONG).await?;
        all.push("count");
    }
    check_walk(f, &all, "").await?;
    check_walk(f, &all, "nobody:").await?;
    f.clear("").await?;
    check_walk(f, &[], "").await
}

pub(crate) async fn by_prefix(f: &Fixture) -> Outcome {
    let keys = [
        "users:",
        "users:1",
        "users:posts:1",
        "users",
        "usersAbc",
        "user",
        "user:1",
        "xusers:1",
        ":users:1",
        "users;1",
        "Users:1",
        "É:1",
        "é:1",
        "e\u{301}:1",
    ];
    fill(f, &keys).await?;
    for prefix in ["users:", "user", "us", "users:posts:", "Users:", "é:", "É", "u", ":"] {
        check_walk(f, &keys, prefix).await?;
    }
    Ok(())
}

pub(crate) async fn patterns_are_text(f: &Fixture) -> Outcome {
    let keys = [
        "a*b",
        "a*",
        "aXb",
        "a?b",
        "a?",
        "ab",
        "a[b]",
        "a[b",
        "a[^b]",
        "a]",
        "a\\b",
        "a\\",
        "a\\*",
        "a%b",
        "a%",
        "a_b",
        "a_",
        "a\0b",
        "a\0",
        "a{b}",
        "a'b",
        "a\"b",
        "a\u{10ffff}b",
        "a\u{d7ff}b",
        "\u{10ffff}\u{10ffff}",
        "\u{10ffff}a",
        "a\nb",
        "清*",
        "清楚",
        "**",
        "%%",
    ];
    fill(f, &keys).await?;
    let prefixes = [
        "a*",
        "*",
        "?",
        "a?",
        "a[",
        "a[b]",
        "a[b",
        "[",
        "]",
        "a\\",
        "\\",
        "a%",
        "%",
        "a_",
        "_",
        "a\0",
        "\0",
        "a{",
        "a'",
        "a\"",
        "a\u{10ffff}",
        "\u{10ffff}",
        "\u{10ffff}\u{10ffff}",
        "a\u{d7ff}",
        "a\n",
        "清",
        "清*",
        "**",
        "a",
        "%%",
    ];
    for prefix in prefixes {
        check_walk(f, &keys, prefix).await?;
    }
    Ok(())
}

pub(crate) async fn hostile_keys(f: &Fixture) -> Outcome {
    let keys = hostile();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    fill(f, &keys).await?;
    check_walk(f, &keys, "").await?;
    for prefix in keys.iter().filter(|key| key.chars().count() <= 2) {
        check_walk(f, &keys, prefix).await?;
    }
    Ok(())
}

pub(crate) async fn only_what_is_live(f: &Fixture) -> Outcome {
    fill(f, &["stays", "removed", "zero"]).await?;
    f.put_for("short", 1, f.suite.short()).await?;
    f.remove("removed").await?;
    f.put_for("zero", 1, Duration::ZERO).await?;
    f.outlive_short().await?;
    check_walk(f, &["stays"], "").await?;
    if keep(f, "stale", 5, -1_000).await?.is_some() {
        keep(f, "kept", 5, 50_000).await?;
        check_walk(f, &["stays", "kept"], "").await?;
    }
    Ok(())
}

pub(crate) async fn no_claims(f: &Fixture) -> Outcome {
    fill(f, &["stays"]).await?;
    let missing = f.claim("missing", None).await?;
    let leased = f.claim("leased", Some(Duration::from_secs(60))).await?;
    let live = f.claim("stays", None).await?;
    check_walk(f, &["stays"], "").await?;
    for (key, claim) in [("missing", missing), ("leased", leased), ("stays", live)] {
        if let Some(claim) = claim {
            f.release(key, &claim).await?;
        }
    }
    check_walk(f, &["stays"], "").await
}

pub(crate) async fn thousands(f: &Fixture) -> Outcome {
    let keys: Vec<String> = (0..6_000)
        .map(|number| format!("{}:{number}", if number % 3 == 0 { "few" } else { "many" }))
        .collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    for keys in keys.chunks(1_000) {
        fill(f, keys).await?;
    }
    for prefix in ["", "few:", "many:1", "many:1999", "more:"] {
        check_walk(f, &keys, prefix).await?;
    }
    Ok(())
}

pub(crate) async fn amid_writes(f: &Fixture) -> Outcome {
    let names: Vec<String> = (0..1_500).map(|number| format!("stays:{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    fill(f, &names).await?;
    let walks = f
        .at_once(4, |f, task| async move {
            if task == 0 {
                return walk(&f, "stays:").await;
            }
            for number in 0..300 {
                let key = format!("comes and goes:{task}:{number}");
                f.put(&key, number).await?;
                f.put(&format!("stays:{number}"), task).await?;
                f.touch(&format!("stays:{}", number + 400), LONG).await?;
                f.remove(&key).await?;
            }
            Ok(BTreeSet::new())
        })
        .await?;
    let expected: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let missing: Vec<_> = expected.difference(&walks[0]).collect();
    check!(missing.is_empty(), "live for the whole walk, and not in it: {missing:?}");
    Ok(())
}
