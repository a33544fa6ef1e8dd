//! Any text is a key; the empty one is not.

use super::*;
use std::collections::BTreeSet;

/// White space, control characters and line breaks.
const WHITE_SPACE: &[&str] = &[
    " ",
    "  ",
    "a",
    "a ",
    " a",
    "a b",
    "a  b",
    "\t",
    "\u{7f}",
    "\r\n",
    "a\r\nb",
    "get a\r\nset b 0 0 1\r\n1\r\n",
    "a\n",
];

/// Quotes and backslashes.
const QUOTES: &[&str] = &["'", "\"", "`", "\\", "\\\\", "a'b", "a\"b", "a\\b", "';--", "\\n"];

/// Characters of patterns, and keys that they match.
const PATTERNS: &[&str] =
    &["*", "?", "[", "]", "[a]", "[^a]", "%", "_", "a*", "a?", "a%", "a_", "ab", "aXb"];

/// Punctuation and separators.
const PUNCTUATION: &[&str] = &[
    "a.b", "{a}", "{", "}", "(", ")", "/", "//", "../a", "@", "#", "$", "&", "=", "+", "-", "--",
    "~", "^", "|", ":", "::", ":a", "a:", "a:b", "a::b", ";", ",", ".", "<", ">",
];

/// Numbers and words that a format may read as something else.
const WORDS: &[&str] = &[
    "0",
    "00",
    "1",
    "-1",
    "007",
    "1.0",
    "1e3",
    "123",
    "true",
    "null",
    "NULL",
    "nil",
    "NaN",
    "undefined",
    "key",
    "Key",
    "KEY",
    "kEy",
];

/// Letters that differ by case, composition or width only, and invisible characters.
const LETTERS: &[&str] = &[
    "清",
    "É",
    "é",
    "e\u{301}",
    "E\u{301}",
    "ß",
    "ss",
    "SS",
    "ﬁ",
    "fi",
    "İ",
    "i",
    "I",
    "ı",
    "\u{feff}a",
    "a\u{200d}",
    "\u{200b}",
    "\u{202e}a",
    "👩‍👩‍👧",
    "👩",
    "Ａ",
];

/// Escape sequences.
const ESCAPES: &[&str] = &["%20", "%2520", "%00", "\\u0000", "\\0", "&amp;"];

/// Names that a store may keep for itself.
const NAMES: &[&str] = &[
    "larder",
    "larder:a",
    "_larder",
    "__larder__",
    "__larder__:generation",
    "larder:meta",
    "larder:gen",
    "lock",
    "lock:a",
    "a:lock",
    "generation",
    "version",
    "schema_version",
    "meta",
    "prefix",
    "sqlite_master",
    "rowid",
    "entries",
    "stats",
];

/// Text that looks like an encoded key, and characters at the edges.
const ENCODED: &[&str] = &[
    "version\r\n",
    "noreply",
    "b64:YQ==",
    "YQ==",
    "YQ",
    "sha256:a",
    "h:a",
    "x:a",
    "hash",
    "key\u{0}",
    "\u{0}",
    "\u{0}a",
    "a\u{0}",
    "a\u{0}b",
    "\u{ffff}",
    "\u{10ffff}",
];

/// Keys that some stores mistake for commands or patterns, or confuse with each other.
pub(in crate::testing) fn hostile() -> Vec<String> {
    let lists =
        [WHITE_SPACE, QUOTES, PATTERNS, PUNCTUATION, WORDS, LETTERS, ESCAPES, NAMES, ENCODED];
    let mut keys: BTreeSet<String> = lists.concat().into_iter().map(str::to_owned).collect();
    keys.extend(
        (0..32u8)
            .chain([127])
            .flat_map(|code| [format!("{}", code as char), format!("a{}b", code as char)]),
    );
    let longs = [100, 200, 249, 250, 251, 255, 256, 1_000, 2_000].map(|length| "l".repeat(length));
    keys.extend(longs);
    keys.extend(["x", "y", " ", "\0"].map(|end| format!("{}{end}", "same ".repeat(400))));
    keys.extend([83, 84, 85].map(|count| "清".repeat(count)));
    keys.extend(["a", "b"].map(|begin| format!("{begin}{}", "z".repeat(300))));
    keys.into_iter().collect()
}

pub(crate) async fn hostile_round_trip(f: &Fixture) -> Outcome {
    let keys = hostile();
    for (number, key) in keys.iter().enumerate() {
        f.put(key, number)
            .await
            .map_err(|error| Failure::from(error).prefixed(format_args!("set of {key:?}")))?;
        check_eq!(f.read::<usize>(key).await?, Some(number), "get of {key:?}");
    }
    for (number, key) in keys.iter().enumerate() {
        check_eq!(
            f.read::<usize>(key).await?,
            Some(number),
            "get of {key:?} after the other keys were set"
        );
    }
    Ok(())
}

pub(crate) async fn hostile_do_not_collide(f: &Fixture) -> Outcome {
    let keys = hostile();
    for (number, key) in keys.iter().enumerate() {
        f.put(key, number).await?;
    }
    for key in keys.iter().step_by(2) {
        check_eq!(f.remove(key).await?, true, "remove of {key:?}");
    }
    for (number, key) in keys.iter().enumerate() {
        let expected = (number % 2 == 1).then_some(number);
        check_eq!(
            f.read::<usize>(key).await?,
            expected,
            "get of {key:?} after every second key was removed"
        );
        check_eq!(f.contains(key).await?, expected.is_some(), "contains of {key:?}");
    }
    Ok(())
}

pub(crate) async fn hostile_in_batches(f: &Fixture) -> Outcome {
    let keys = hostile();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let entries: Vec<_> = keys
        .iter()
        .map(|key| Entry::new(key, CacheValue::new((*key).to_owned()), Expiry::Default))
        .collect();
    f.put_many(&entries).await?;
    let found = f.texts(&keys).await?;
    check_eq!(found.len(), keys.len(), "results of get_many");
    for (key, found) in keys.iter().zip(&found) {
        check_eq!(found.as_deref(), Some(*key), "get_many of {key:?}");
    }
    for (key, removed) in keys.iter().zip(f.remove_many(&keys).await?) {
        check_eq!(removed?, true, "remove_many of {key:?}");
    }
    check_eq!(f.texts(&keys).await?.iter().flatten().count(), 0, "what is left after remove_many");
    Ok(())
}

pub(crate) async fn hostile_with_every_verb(f: &Fixture) -> Outcome {
    for key in
        ["a b", "a\r\nb", "\0", "*", "%", "'", "清", &"l".repeat(251), &"清".repeat(84), "null"]
    {
        if f.offers(Verb::Add).await? {
            check_eq!(f.add(key, CacheValue::new("added"), LONG).await?, true, "add under {key:?}");
        }
        f.put(key, 41).await?;
        if f.offers(Verb::Incr).await? {
            check_eq!(f.incr(key, 1, LONG).await?, 42, "incr under {key:?}");
        }
        if f.offers(Verb::Replace).await? {
            check_eq!(
                f.replace(key, CacheValue::new(7), LONG).await?,
                true,
                "replace under {key:?}"
            );
        }
        check_eq!(f.touch(key, Expiry::Never).await?, true, "touch under {key:?}");
        check!(
            f.update_timeout(key, LONG).await?.is_some(),
            "update_timeout under {key:?} found nothing"
        );
        if f.offers(Verb::Expiry).await? {
            check!(
                matches!(f.expiry(key).await?, Some(Expiry::After(_))),
                "expiry under {key:?}: {:?}",
                f.expiry(key).await?
            );
        }
        if f.offers(Verb::Take).await? {
            check!(f.take(key).await?.is_some(), "take under {key:?} found nothing");
            check_eq!(f.remove(key).await?, false, "remove under {key:?} after take");
        }
    }
    Ok(())
}

pub(crate) async fn matched_literally(f: &Fixture) -> Outcome {
    for key in ["ab", "a", "abc", "Ab"] {
        f.put(key, key.to_owned()).await?;
    }
    for pattern in ["a*", "a?", "[a]", "a%", "a_", "*", "%", "[a]b", "a\\b", "\\a", ".*", "AB", "A"]
    {
        f.check_missing(pattern, "that is nobody's").await?;
        check_eq!(f.remove(pattern).await?, false, "remove of {pattern:?}");
        check_eq!(
            f.remove_many(&[pattern])
                .await?
                .into_iter()
                .collect::<crate::error::Result<Vec<_>>>()?,
            [false],
            "remove_many of {pattern:?}"
        );
        check_eq!(f.touch(pattern, Duration::ZERO.into()).await?, false, "touch of {pattern:?}");
        if f.offers(Verb::Take).await? {
            check!(f.take(pattern).await?.is_none(), "take of {pattern:?} found something");
        }
    }
    let kept = f.texts(&["ab", "a", "abc", "Ab"]).await?;
    check_eq!(kept.iter().flatten().count(), 4, "keys left of 4");
    Ok(())
}

pub(crate) async fn random_round_trip(f: &Fixture) -> Outcome {
    let seed = model::seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let keys: BTreeSet<String> = (0..300)
        .map(|_| {
            let length =
                if random.u8(..10) == 0 { random.usize(200..600) } else { random.usize(1..20) };
            (0..length)
                .map(|_| if random.bool() { random.char('\0'..='\u{7f}') } else { random.char(..) })
                .collect()
        })
        .collect();
    for key in &keys {
        f.put(key, key.clone())
            .await
            .map_err(|error| Failure::from(error).prefixed(format_args!("seed {seed}")))?;
    }
    for key in &keys {
        check_eq!(f.text(key).await?.as_ref(), Some(key), "seed {seed}: get of {key:?}");
    }
    Ok(())
}

pub(crate) async fn values_that_look_like_commands(f: &Fixture) -> Outcome {
    f.put("canary", "alive").await?;
    let command = "\r\nEND\r\nflush_all\r\nset canary 0 0 4\r\ndead\r\n*1\r\n$8\r\nFLUSHALL\r\n'; DELETE FROM entries; --";
    for key in [
        "plain",
        "a b",
        "a\r\nb",
        &"l".repeat(300),
        "\0",
        "'; DELETE FROM entries; --",
        "x\r\nflush_all\r\ny",
    ] {
        f.put(key, command).await?;
        check_eq!(f.text(key).await?.as_deref(), Some(command), "get of {key:?}");
        check_eq!(f.text("canary").await?.as_deref(), Some("alive"), "the canary after {key:?}");
    }
    Ok(())
}

pub(crate) async fn empty_is_invalid(f: &Fixture) -> Outcome {
    f.put("canary", "alive").await?;
    let one = || CacheValue::new(1);
    check_kind!(f.get("").await, ErrorKind::InvalidKey, "get of the empty key");
    check_kind!(f.set("", one(), LONG).await, ErrorKind::InvalidKey, "set of the empty key");
    check_kind!(f.remove("").await, ErrorKind::InvalidKey, "remove of the empty key");
    check_kind!(f.contains("").await, ErrorKind::InvalidKey, "contains of the empty key");
    check_kind!(f.touch("", LONG).await, ErrorKind::InvalidKey, "touch of the empty key");
    check_kind!(
        f.update_timeout("", LONG).await,
        ErrorKind::InvalidKey,
        "update_timeout of the empty key"
    );
    if f.offers(Verb::Add).await? {
        check_kind!(f.add("", one(), LONG).await, ErrorKind::InvalidKey, "add of the empty key");
    }
    if f.offers(Verb::Replace).await? {
        check_kind!(
            f.replace("", one(), LONG).await,
            ErrorKind::InvalidKey,
            "replace of the empty key"
        );
    }
    if f.offers(Verb::Incr).await? {
        check_kind!(f.incr("", 1, LONG).await, ErrorKind::InvalidKey, "incr of the empty key");
    }
    if f.offers(Verb::Take).await? {
        check_kind!(f.take("").await, ErrorKind::InvalidKey, "take of the empty key");
    }
    if f.offers(Verb::Expiry).await? {
        check_kind!(f.expiry("").await, ErrorKind::InvalidKey, "expiry of the empty key");
    }
    if let std::task::Poll::Ready(answer) = f.found_now("") {
        check_kind!(answer, ErrorKind::InvalidKey, "get_if_ready of the empty key");
    }
    check_eq!(f.text("canary").await?.as_deref(), Some("alive"), "another key afterwards");
    Ok(())
}

pub(crate) async fn batches_check_before_they_change(f: &Fixture) -> Outcome {
    f.put("ok", "old").await?;
    for (first, second) in [("ok", ""), ("", "ok")] {
        let entry = |key| Entry::new(key, CacheValue::new("new"), Expiry::Default);
        check_kind!(
            f.set_many(&[entry(first), entry(second)]).await,
            ErrorKind::InvalidKey,
            "set_many with an empty key"
        );
        check_eq!(
            f.text("ok").await?.as_deref(),
            Some("old"),
            "the companion's value after the refused set_many"
        );
        check_kind!(
            f.remove_many(&[first, second]).await,
            ErrorKind::InvalidKey,
            "remove_many with an empty key"
        );
        check_eq!(
            f.text("ok").await?.as_deref(),
            Some("old"),
            "the companion's value after the refused remove_many"
        );
        check_kind!(
            f.get_many(&[first, second]).await,
            ErrorKind::InvalidKey,
            "get_many with an empty key"
        );
    }
    Ok(())
}
