//! `clear`: removes the keys that begin with the prefix, taken literally, and no others.

use super::*;
use std::collections::BTreeMap;

/// Writes each key as its own value.
async fn fill(f: &Fixture, keys: &[&str]) -> Outcome {
    for (number, key) in keys.iter().enumerate() {
        f.put_for(key, (*key).to_owned(), if number % 2 == 0 { Expiry::Never } else { LONG })
            .await?;
    }
    Ok(())
}

/// Checks that the keys that do not begin with `prefix` are left, and the others are missing.
async fn check_cleared(f: &Fixture, keys: &[&str], prefix: &str) -> Outcome {
    for (key, found) in keys.iter().zip(f.texts(keys).await?) {
        check_eq!(
            found.as_deref(),
            (!key.starts_with(prefix)).then_some(*key),
            "get of {key:?} after clear({prefix:?})"
        );
    }
    Ok(())
}

async fn clears(f: &Fixture, keys: &[&str], prefix: &str) -> Outcome {
    fill(f, keys).await?;
    f.clear(prefix).await?;
    check_cleared(f, keys, prefix).await
}

pub(crate) async fn everything(f: &Fixture) -> Outcome {
    clears(f, &["a", "b:c", "%", "a b", "清", &"l".repeat(300)], "").await?;
    f.check_missing("a", "after clear").await
}

pub(crate) async fn nothing(f: &Fixture) -> Outcome {
    f.clear("").await?;
    f.clear("").await?;
    f.clear("nobody:").await?;
    f.put("k", "v").await?;
    f.clear("nobody:").await?;
    check_eq!(f.text("k").await?.as_deref(), Some("v"), "what stands under no such prefix");
    Ok(())
}

pub(crate) async fn immortal_and_counters(f: &Fixture) -> Outcome {
    f.put_for("a:never", 1, Expiry::Never).await?;
    f.put_for("a:touched", 1, LONG).await?;
    f.touch("a:touched", Expiry::Never).await?;
    f.put_many(&[Entry::new("a:many", CacheValue::new(1), Expiry::Never)]).await?;
    if f.suite.offers(Verb::Incr) {
        f.incr("a:count", 1, Expiry::Never).await?;
    }
    if f.suite.offers(Verb::Add) {
        f.add("a:added", CacheValue::new(1), Expiry::Never).await?;
    }
    f.clear("a:").await?;
    for key in ["a:never", "a:touched", "a:many", "a:count", "a:added"] {
        f.check_missing(key, "after clear").await?;
    }
    Ok(())
}

pub(crate) async fn sees_missing_with_every_verb(f: &Fixture) -> Outcome {
    let keys =
        ["a:remove", "a:many", "a:touch", "a:update", "a:take", "a:add", "a:replace", "a:incr"];
    for key in keys {
        f.put_for(key, 5, Expiry::Never).await?;
    }
    f.clear("a:").await?;
    check_eq!(f.remove("a:remove").await?, false, "remove after clear");
    check_eq!(
        f.remove_many(&["a:many"]).await?.into_iter().collect::<crate::error::Result<Vec<_>>>()?,
        [false],
        "remove_many after clear"
    );
    check_eq!(f.touch("a:touch", LONG).await?, false, "touch after clear");
    check!(
        f.update_timeout("a:update", LONG).await?.is_none(),
        "update_timeout gives what was cleared"
    );
    if f.offers(Verb::Take).await? {
        check!(f.take("a:take").await?.is_none(), "take gives what was cleared");
    }
    if f.offers(Verb::Replace).await? {
        check_eq!(
            f.replace("a:replace", CacheValue::new(1), LONG).await?,
            false,
            "replace after clear"
        );
    }
    if f.offers(Verb::Add).await? {
        check_eq!(f.add("a:add", CacheValue::new(1), LONG).await?, true, "add after clear");
    }
    if f.offers(Verb::Incr).await? {
        check_eq!(f.incr("a:incr", 2, LONG).await?, 2, "incr after clear");
    }
    Ok(())
}

pub(crate) async fn set_works_afterwards(f: &Fixture) -> Outcome {
    for prefix in ["a:", ""] {
        for round in 0..3 {
            fill(f, &["a:k", "a:l"]).await?;
            f.clear(prefix).await?;
            f.put("a:k", round).await?;
            check_eq!(
                f.read::<i32>("a:k").await?,
                Some(round),
                "what was set after clear({prefix:?})"
            );
            f.check_missing("a:l", "that was cleared").await?;
        }
    }
    Ok(())
}

pub(crate) async fn siblings_stay(f: &Fixture) -> Outcome {
    clears(
        f,
        &[
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
        ],
        "users:",
    )
    .await
}

pub(crate) async fn case_matters(f: &Fixture) -> Outcome {
    clears(f, &["users:1", "Users:1", "USERS:1", "usErs:1", "é:1", "É:1"], "users:").await?;
    clears(f, &["é:1", "É:1", "e\u{301}:1"], "é:").await
}

pub(crate) async fn nested(f: &Fixture) -> Outcome {
    let keys = ["users:a", "users:posts:a", "users:posts:b", "users:posts", "posts:a"];
    clears(f, &keys, "users:posts:").await?;
    clears(f, &keys, "users:").await
}

pub(crate) async fn patterns_are_text(f: &Fixture) -> Outcome {
    for odd in [
        "*", "?", "[a-z]", "[", "]", "\\", "\\*", "%", "_", "^", "{a,b}", ".", ".*", "$", "'",
        "\"", "a*", "*a", "a%", "%%", "a_",
    ] {
        let prefix = format!("{odd}:");
        let mine = [prefix.clone(), format!("{prefix}k"), format!("{prefix}{odd}")];
        let mut keys: Vec<&str> = vec![
            "a:k", "ab:k", "b:k", "aa:k", ":k", "a", "xy:k", "*:", "?:k", "%:k", "_:k", "\\\\:k",
            "\\:k", "a.:k",
        ];
        keys.extend(mine.iter().map(String::as_str));
        clears(f, &keys, &prefix).await?;
        f.clear("").await?;
    }
    Ok(())
}

pub(crate) async fn odd_prefixes(f: &Fixture) -> Outcome {
    let long = format!("{}:", "l".repeat(400));
    let (inside, beside) = (format!("{long}k"), format!("{}k", &long[1..]));
    clears(f, &[&inside, &beside, "l:k"], &long).await?;
    for prefix in ["a b:", "\r\n:", "\0:", "清:", "👩‍👩‍👧:", " :", "\u{7f}:", "::"] {
        let inside = format!("{prefix}k");
        clears(f, &[&inside, "a:k", "k", ":k", "a", "清k"], prefix).await?;
    }
    Ok(())
}

pub(crate) async fn any_beginning(f: &Fixture) -> Outcome {
    let keys = ["us", "user", "users:1", "u", "abus", "Us"];
    clears(f, &keys, "us").await?;
    clears(f, &keys, "users:1").await?;
    clears(f, &["a%b", "axb", "a%", "a"], "a%").await?;
    clears(f, &["a_b", "axb", "a_", "a"], "a_").await?;
    clears(f, &["a*b", "axb", "a*", "a"], "a*").await?;
    clears(f, &["清水", "清", "水"], "清").await
}

pub(crate) async fn thousands(f: &Fixture) -> Outcome {
    let names: Vec<String> = (0..3_000)
        .map(|number| format!("{}:{number}", if number % 3 == 0 { "keep" } else { "drop" }))
        .collect();
    let entries: Vec<_> =
        names.iter().map(|name| Entry::new(name, CacheValue::new(1), Expiry::Never)).collect();
    f.put_many(&entries).await?;
    f.clear("drop:").await?;
    let keys: Vec<&str> = names.iter().map(String::as_str).collect();
    for (key, found) in keys.iter().zip(f.get_many(&keys).await?) {
        check_eq!(
            found?.is_some(),
            key.starts_with("keep"),
            "get of {key:?} after clear(\"drop:\"): found"
        );
    }
    Ok(())
}

pub(crate) async fn beside_others(f: &Fixture) -> Outcome {
    const TASKS: usize = 16;
    let (replaces, counts) = (f.offers(Verb::Replace).await?, f.offers(Verb::Incr).await?);
    for _ in 0..20 {
        let keys: Vec<String> = (0..TASKS).map(|task| format!("a:{task}")).collect();
        let entries: Vec<Entry<'_>> =
            keys.iter().map(|key| Entry::new(key, CacheValue::new(5), Expiry::Never)).collect();
        f.put_many(&entries).await?;
        let sums = f
            .at_once(TASKS, |f, task| async move {
                let key = format!("a:{task}");
                match task % 4 {
                    _ if task == TASKS / 2 => f.clear("a:").await?,
                    1 if replaces => drop(f.replace(&key, CacheValue::new(7), LONG).await?),
                    2 if counts => return Ok(Some((key.clone(), f.incr(&key, 1, LONG).await?))),
                    3 => drop(f.update_timeout(&key, LONG).await?),
                    _ => drop(f.touch(&key, LONG).await?),
                }
                Ok(None)
            })
            .await?;
        let sums: BTreeMap<String, i64> = sums.into_iter().flatten().collect();
        for key in &keys {
            match (sums.get(key), f.read::<i64>(key).await?) {
                // The counter was counted again after the clear had passed it.
                (Some(1), None | Some(1)) | (Some(6), None) | (None, None) => {}
                (sum, left) => check_eq!(
                    left,
                    None,
                    "{key}, whose sum was {sum:?}, after a clear at the same time"
                ),
            }
        }
    }
    Ok(())
}
