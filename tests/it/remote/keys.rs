//! Keys and values of any bytes.

use super::{Remote, Setup, on_each, put, soak, text, value_of};
use crate::redis::keys::ten_thousand_at_once;
use larder::{CacheValue, Entry, ErrorKind, Expiry};
use std::collections::HashSet;

on_each!(async hostile_keys_are_text, random_keys_and_values_come_back, a_batch_of_ten_thousand_is_split, prefixes_keep_apart);

fn hostile<S: Remote>() -> Vec<String> {
    let mut keys: Vec<String> = [
        " ",
        "\t",
        "\n",
        "\r\n",
        "\0",
        "\u{7f}",
        "\u{1b}[31m",
        "a b",
        "a\0b",
        "a\r\nb",
        "*",
        "?",
        "[",
        "]",
        "[a-z]",
        "\\",
        "\\*",
        "%",
        "_",
        "^",
        "{",
        "}",
        "{tag}",
        "(",
        ")",
        "/",
        "@",
        ":",
        "::",
        "'",
        "\"",
        "`",
        ";",
        "--",
        "0",
        "-1",
        "007",
        "1e9",
        "null",
        "true",
        "NaN",
        "$6",
        "+OK",
        "-ERR",
        ":1",
        "é",
        "e\u{301}",
        "清",
        "🦀",
        "\u{202e}",
        "\u{feff}",
        "\u{0}larder:staged:",
        "canary ",
        "Canary",
    ]
    .map(str::to_owned)
    .to_vec();
    keys.extend(S::COMMANDS.iter().map(ToString::to_string));
    keys.extend([
        "清".repeat(84),
        "k".repeat(250),
        "k".repeat(251),
        "k".repeat(100_000),
        format!("{}x", "y".repeat(2000)),
        format!("{}z", "y".repeat(2000)),
    ]);
    keys
}

fn random_text(longest: usize) -> String {
    let len = fastrand::usize(1..=longest);
    (0..len)
        .map(
            |_| if fastrand::bool() { fastrand::char('\0'..='\u{7f}') } else { fastrand::char(..) },
        )
        .collect()
}

async fn hostile_keys_are_text<S: Remote>() {
    let cache = S::shared().cache(Setup::patient());
    put(&cache, "canary", "alive").await.unwrap();
    let keys = hostile::<S>();
    for key in &keys {
        put(&cache, key, &value_of(key)).await.unwrap();
    }
    for key in &keys {
        assert_eq!(text(&cache, key).await.unwrap(), Some(value_of(key)), "{key:?}");
        assert_eq!(
            text(&cache, "canary").await.unwrap().as_deref(),
            Some("alive"),
            "after {key:?}"
        );
    }
    let all: Vec<&str> = keys.iter().map(String::as_str).collect();
    for (key, found) in keys.iter().zip(cache.get_many(&all).await.unwrap()) {
        assert_eq!(found.unwrap().unwrap().decode::<String>().unwrap(), value_of(key));
    }
    for key in &keys {
        assert!(cache.remove(key).await.unwrap(), "{key:?}");
        assert!(!cache.contains(key).await.unwrap(), "{key:?}");
    }
    assert_eq!(text(&cache, "canary").await.unwrap().as_deref(), Some("alive"));
    println!("{} hostile keys: all came back, the canary lives", keys.len());

    assert_eq!(cache.get("").await.unwrap_err().kind(), ErrorKind::InvalidKey);
    put(&cache, "kept", "v").await.unwrap();
    assert_eq!(cache.remove_many(&["kept", ""]).await.unwrap_err().kind(), ErrorKind::InvalidKey);
    assert!(cache.contains("kept").await.unwrap(), "a batch with a bad key changes nothing");
}

/// Random keys and random values, CRLF and commands among them, in batches.
async fn random_keys_and_values_come_back<S: Remote>() {
    let cache = S::shared().cache(Setup::patient());
    put(&cache, "canary", "alive").await.unwrap();
    let rounds = if soak() { 1_000 } else { 20 };
    let mut count = 0;
    for _ in 0..rounds {
        let keys: HashSet<String> = (0..1_000).map(|_| random_text(40)).collect();
        let pairs: Vec<(String, Vec<u8>)> = keys
            .into_iter()
            .map(|key| {
                let mut value: Vec<u8> =
                    (0..fastrand::usize(0..60)).map(|_| fastrand::u8(..)).collect();
                if fastrand::u8(..) < 64 {
                    value.extend(fastrand::choice(S::COMMANDS).expect("there are some").bytes());
                }
                (key, value)
            })
            .collect();
        let entries: Vec<Entry<'_>> = pairs
            .iter()
            .map(|(key, value)| Entry::new(key, CacheValue::new(value.clone()), Expiry::Default))
            .collect();
        assert!(cache.set_many(&entries).await.unwrap().iter().all(Result::is_ok));
        let keys: Vec<&str> = pairs.iter().map(|(key, _)| key.as_str()).collect();
        for ((key, value), found) in pairs.iter().zip(cache.get_many(&keys).await.unwrap()) {
            assert_eq!(&found.unwrap().unwrap().decode::<Vec<u8>>().unwrap(), value, "{key:?}");
        }
        assert!(
            cache.remove_many(&keys).await.unwrap().into_iter().all(|removed| removed.unwrap())
        );
        assert_eq!(text(&cache, "canary").await.unwrap().as_deref(), Some("alive"));
        count += pairs.len();
    }
    println!("{count} random keys with random values: all came back, the canary lives");
}

async fn a_batch_of_ten_thousand_is_split<S: Remote>() {
    ten_thousand_at_once(&S::shared().cache(Setup::patient())).await;
}

/// Two adapters on one server see each other's keys only where their prefixes say so.
async fn prefixes_keep_apart<S: Remote>() {
    let [a, b] = [(); 2].map(|()| S::shared().cache(Setup::patient()));
    put(&a, "k", "a").await.unwrap();
    put(&b, "k", "b").await.unwrap();
    a.clear("").await.unwrap();
    assert_eq!(text(&a, "k").await.unwrap(), None);
    assert_eq!(text(&b, "k").await.unwrap().as_deref(), Some("b"));
}
