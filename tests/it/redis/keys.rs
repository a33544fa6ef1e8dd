//! Keys and values of any bytes.

use super::together::calls;
use super::{PATIENT, on, soak, value_of};
use crate::support::Redis;
use larder::{AsyncCacheAdapter, CacheValue, Entry, ErrorKind, Expiry};

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
    let keys: Vec<String> =
        names.iter().flat_map(|name| (0..100).map(move |key| format!("{name}:{key}"))).collect();
    let entries: Vec<Entry<'_>> =
        keys.iter().map(|key| Entry::new(key, CacheValue::new(1), Expiry::Never)).collect();
    assert!(cache.set_many(&entries).await.unwrap().iter().all(Result::is_ok));
    assert_eq!(server.int(&["DBSIZE"]), 10_000);
    for (cleared, name) in names.iter().enumerate() {
        cache.clear(&format!("{name}:")).await.unwrap();
        assert_eq!(
            server.int(&["DBSIZE"]),
            10_000 - 100 * (i64::try_from(cleared).unwrap() + 1),
            "{name:?}"
        );
    }
    println!("100 prefixes of 100 keys: each clear removed exactly its own");
    assert_eq!(
        cache.clear("").await.unwrap_err().kind(),
        ErrorKind::Unsupported,
        "it would empty the whole database"
    );
}

#[tokio::test]
async fn clear_goes_through_a_million_foreign_keys() {
    let server = Redis::start();
    let foreign: i64 = if soak() { 1_000_000 } else { 200_000 };
    server.text(&[
        "EVAL",
        &format!("for n = 1, {foreign} do redis.call('SET', 'foreign:' .. n, '') end return 'OK'"),
        "0",
    ]);
    let cache = on(&server).prefix("mine:").op_timeout(PATIENT).build().unwrap();
    let keys: Vec<String> = (0..5_000).map(|n| n.to_string()).collect();
    let entries: Vec<Entry<'_>> =
        keys.iter().map(|key| Entry::new(key, CacheValue::new(1), Expiry::Never)).collect();
    assert!(cache.set_many(&entries).await.unwrap().iter().all(Result::is_ok));
    let begun = std::time::Instant::now();
    cache.clear("").await.unwrap();
    println!("clear of 5,000 keys among {foreign}: {:?}", begun.elapsed());
    assert_eq!(server.int(&["DBSIZE"]), foreign);
}

/// Stores, reads and removes 10,000 keys with a call each; then removes them again, and asks for
/// none.
pub(crate) async fn ten_thousand_at_once(cache: &impl AsyncCacheAdapter) {
    let keys: Vec<String> = (0..10_000).map(|n| format!("k{n}")).collect();
    let entries: Vec<Entry<'_>> = keys
        .iter()
        .map(|key| Entry::new(key, CacheValue::new(value_of(key)), Expiry::Default))
        .collect();
    assert_eq!(
        cache.set_many(&entries).await.unwrap().into_iter().filter(Result::is_ok).count(),
        10_000
    );
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let begun = std::time::Instant::now();
    for (key, found) in keys.iter().zip(cache.get_many(&keys).await.unwrap()) {
        assert_eq!(found.unwrap().unwrap().decode::<String>().unwrap(), value_of(key));
    }
    println!("10,000 keys read in {:?}", begun.elapsed());
    for is_there in [true, false] {
        assert_eq!(
            cache
                .remove_many(&keys)
                .await
                .unwrap()
                .into_iter()
                .filter(|removed| matches!(removed, Ok(removed) if *removed == is_there))
                .count(),
            10_000
        );
    }
    assert!(cache.get_many(&[]).await.unwrap().is_empty());
    assert!(cache.set_many(&[]).await.unwrap().is_empty());
    assert!(cache.remove_many(&[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_batch_is_split_into_thousands_and_none_asks_nothing() {
    let server = Redis::start();
    let cache = on(&server).op_timeout(PATIENT).build().unwrap();
    ten_thousand_at_once(&cache).await;
    println!("10,000 keys: {} MGET, {} SET", calls(&server, "mget"), calls(&server, "set"));
    assert_eq!(calls(&server, "mget"), 10);

    let asked = || ["mget", "set", "unlink"].map(|command| calls(&server, command));
    let before = asked();
    assert!(cache.get_many(&[]).await.unwrap().is_empty());
    assert!(cache.set_many(&[]).await.unwrap().is_empty());
    assert!(cache.remove_many(&[]).await.unwrap().is_empty());
    assert_eq!(asked(), before);
}

/// What other programs keep below the prefix can be read, and so it is there; a key that is no
/// UTF-8 cannot be asked for.
#[tokio::test]
async fn keys_of_others_below_the_prefix_are_listed_if_they_can_be_asked_for() {
    let server = Redis::start();
    let cache = on(&server).prefix("p*:").op_timeout(PATIENT).build().unwrap();
    super::put(&cache, "k", "mine").await.unwrap();
    server.text(&["SET", "p*:theirs", "1"]);
    server.text(&["SET", "pX:k", "1"]);
    server.text(&["SET", "p*:", "1"]);
    server.int(&["RPUSH", "p*:list", "1"]);
    server.text(&["EVAL", r"redis.call('SET', 'p*:\255\254', '1') return 'OK'", "0"]);
    for suffix in ["k\0larder:claim", "\0larder:clears", "k\0larder:counter"] {
        server.text(&["SET", &format!("p*:{suffix}"), "1"]);
    }
    let page = cache.keys("", None).await.unwrap();
    assert_eq!((page.keys, page.next), (["k", "list", "theirs"].map(str::to_owned).into(), None));

    let whole = on(&server).prefix("").op_timeout(PATIENT).build().unwrap();
    let page = whole.keys("p", None).await.unwrap();
    assert_eq!(page.keys, ["p*:", "p*:k", "p*:list", "p*:theirs", "pX:k"]);
}
