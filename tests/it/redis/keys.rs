//! Keys and values of any bytes.

use super::{PATIENT, on, prefix, put, shared, soak, text, value_of};
use crate::support::Redis;
use larder::{AsyncCacheAdapter, CacheValue, Entry, ErrorKind, Expiry};
use std::collections::HashSet;

fn hostile() -> Vec<String> {
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
        "*1\r\n$8\r\nFLUSHALL\r\n",
        "\r\nFLUSHALL\r\n",
        "\r\nSET canary dead\r\n",
        "$4\r\nPING\r\n",
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
    (0..len).map(|_| if fastrand::bool() { fastrand::char('\0'..='\u{7f}') } else { fastrand::char(..) }).collect()
}

#[tokio::test]
async fn hostile_keys_are_text() {
    let cache = shared();
    put(&cache, "canary", "alive").await.unwrap();
    let keys = hostile();
    for key in &keys {
        put(&cache, key, &value_of(key)).await.unwrap();
    }
    for key in &keys {
        assert_eq!(text(&cache, key).await.unwrap(), Some(value_of(key)), "{key:?}");
        assert_eq!(text(&cache, "canary").await.unwrap().as_deref(), Some("alive"), "after {key:?}");
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
#[tokio::test]
async fn random_keys_and_values_come_back() {
    let cache = shared();
    put(&cache, "canary", "alive").await.unwrap();
    let rounds = if soak() { 1_000 } else { 10 };
    let mut count = 0;
    for _ in 0..rounds {
        let keys: HashSet<String> = (0..1_000).map(|_| random_text(40)).collect();
        let pairs: Vec<(String, Vec<u8>)> = keys
            .into_iter()
            .map(|key| {
                let mut value: Vec<u8> = (0..fastrand::usize(0..60)).map(|_| fastrand::u8(..)).collect();
                if fastrand::u8(..) < 64 {
                    value.extend(b"\r\n*1\r\n$8\r\nFLUSHALL\r\n");
                }
                (key, value)
            })
            .collect();
        let entries: Vec<Entry<'_>> =
            pairs.iter().map(|(key, value)| Entry::new(key, CacheValue::new(value.clone()), Expiry::Default)).collect();
        assert!(cache.set_many(&entries).await.unwrap().iter().all(Result::is_ok));
        let keys: Vec<&str> = pairs.iter().map(|(key, _)| key.as_str()).collect();
        for ((key, value), found) in pairs.iter().zip(cache.get_many(&keys).await.unwrap()) {
            assert_eq!(&found.unwrap().unwrap().decode::<Vec<u8>>().unwrap(), value, "{key:?}");
        }
        assert!(cache.remove_many(&keys).await.unwrap().into_iter().all(|removed| removed.unwrap()));
        assert_eq!(text(&cache, "canary").await.unwrap().as_deref(), Some("alive"));
        count += pairs.len();
    }
    println!("{count} random keys with random values: all came back, the canary lives");
}

#[tokio::test]
async fn clearing_one_of_a_hundred_prefixes_takes_its_own_only() {
    let server = Redis::start();
    let names: Vec<String> = (0..100)
        .map(|n| match n % 10 {
            0 => format!("n{n}*"),
            1 => format!("n{n}?"),
            2 => format!("[n{n}]"),
            3 => format!("n{n}\\"),
            4 => format!("n{n}%"),
            5 => format!("n{n}_"),
            6 => format!("[a-z]{n}"),
            7 => format!("*{n}"),
            8 => format!("\\*{n}["),
            _ => format!("^{n}]\r\n"),
        })
        .collect();
    let cache = on(&server).prefix("").op_timeout(super::PATIENT).build().unwrap();
    let keys: Vec<String> = names.iter().flat_map(|name| (0..100).map(move |key| format!("{name}:{key}"))).collect();
    let entries: Vec<Entry<'_>> = keys.iter().map(|key| Entry::new(key, CacheValue::new(1), Expiry::Never)).collect();
    assert!(cache.set_many(&entries).await.unwrap().iter().all(Result::is_ok));
    assert_eq!(server.int(&["DBSIZE"]), 10_000);
    for (cleared, name) in names.iter().enumerate() {
        cache.clear(&format!("{name}:")).await.unwrap();
        assert_eq!(server.int(&["DBSIZE"]), 10_000 - 100 * (i64::try_from(cleared).unwrap() + 1), "{name:?}");
    }
    println!("100 prefixes of 100 keys: each clear removed exactly its own");
    assert_eq!(cache.clear("").await.unwrap_err().kind(), ErrorKind::Unsupported, "it would empty the whole database");
}

#[tokio::test]
async fn clear_goes_through_a_million_foreign_keys() {
    let server = Redis::start();
    let foreign: i64 = if soak() { 1_000_000 } else { 200_000 };
    server.text(&["EVAL", &format!("for n = 1, {foreign} do redis.call('SET', 'foreign:' .. n, '') end return 'OK'"), "0"]);
    let cache = on(&server).prefix("mine:").op_timeout(PATIENT).build().unwrap();
    let keys: Vec<String> = (0..5_000).map(|n| n.to_string()).collect();
    let entries: Vec<Entry<'_>> = keys.iter().map(|key| Entry::new(key, CacheValue::new(1), Expiry::Never)).collect();
    assert!(cache.set_many(&entries).await.unwrap().iter().all(Result::is_ok));
    let begun = std::time::Instant::now();
    cache.clear("").await.unwrap();
    println!("clear of 5,000 keys among {foreign}: {:?}", begun.elapsed());
    assert_eq!(server.int(&["DBSIZE"]), foreign);
}

#[tokio::test]
async fn a_batch_of_ten_thousand_is_split() {
    let server = Redis::start();
    let cache = on(&server).op_timeout(super::PATIENT).build().unwrap();
    let keys: Vec<String> = (0..10_000).map(|n| format!("k{n}")).collect();
    let entries: Vec<Entry<'_>> = keys.iter().map(|key| Entry::new(key, CacheValue::new(value_of(key)), Expiry::Default)).collect();
    assert_eq!(cache.set_many(&entries).await.unwrap().into_iter().filter(Result::is_ok).count(), 10_000);
    let calls = |command: &str| -> usize {
        let stats = server.text(&["INFO", "commandstats"]);
        let line = stats.lines().find(|line| line.starts_with(&format!("cmdstat_{command}:"))).map(str::to_owned);
        line.map_or(0, |line| line.split(['=', ',']).nth(1).unwrap().parse().unwrap())
    };
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    for (key, found) in keys.iter().zip(cache.get_many(&keys).await.unwrap()) {
        assert_eq!(found.unwrap().unwrap().decode::<String>().unwrap(), value_of(key));
    }
    println!("10,000 keys: {} MGET, {} SET", calls("mget"), calls("set"));
    assert_eq!(calls("mget"), 10);
    assert_eq!(cache.remove_many(&keys).await.unwrap().into_iter().filter(|removed| matches!(removed, Ok(true))).count(), 10_000);
    assert_eq!(cache.remove_many(&keys).await.unwrap().into_iter().filter(|removed| matches!(removed, Ok(false))).count(), 10_000);

    let before = (calls("mget"), calls("set"), calls("unlink"));
    assert!(cache.get_many(&[]).await.unwrap().is_empty());
    assert!(cache.set_many(&[]).await.unwrap().is_empty());
    assert!(cache.remove_many(&[]).await.unwrap().is_empty());
    assert_eq!((calls("mget"), calls("set"), calls("unlink")), before);
}

/// Two adapters on one server see each other's keys only where their prefixes say so.
#[tokio::test]
async fn prefixes_keep_apart() {
    let (a, b) = (prefix(), prefix());
    let a = on(Redis::shared()).prefix(a).build().unwrap();
    let b = on(Redis::shared()).prefix(b).build().unwrap();
    put(&a, "k", "a").await.unwrap();
    put(&b, "k", "b").await.unwrap();
    a.clear("").await.unwrap();
    assert_eq!(text(&a, "k").await.unwrap(), None);
    assert_eq!(text(&b, "k").await.unwrap().as_deref(), Some("b"));
}
