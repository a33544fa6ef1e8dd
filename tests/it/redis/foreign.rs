//! What other programs write, and what they read.

use super::{on, prefix, put, text};
use crate::support::Redis;
use larder::{AsyncCacheAdapter, AsyncRedisCache, CacheValue, Codec, ErrorKind, Expiry};

fn with(codec: Codec) -> (&'static Redis, AsyncRedisCache, String) {
    let (server, prefix) = (Redis::shared(), prefix());
    (server, on(server).prefix(&prefix).codec(codec).build().unwrap(), prefix)
}

#[tokio::test]
async fn raw_is_what_others_see() {
    let (server, cache, prefix) = with(Codec::Raw);
    put(&cache, "text", "wörld").await.unwrap();
    assert_eq!(server.text(&["GET", &format!("{prefix}text")]), "wörld");
    cache.set("number", CacheValue::new(42), Expiry::Default).await.unwrap();
    assert_eq!(server.int(&["INCR", &format!("{prefix}number")]), 43);
    assert_eq!(cache.incr("number", 1, Expiry::Default).await.unwrap(), 44);
    server.text(&["SET", &format!("{prefix}theirs"), "hello"]);
    assert_eq!(text(&cache, "theirs").await.unwrap().as_deref(), Some("hello"));
}

#[tokio::test]
async fn json_is_what_others_see() {
    let (server, cache, prefix) = with(Codec::Json);
    cache.set("list", CacheValue::new(vec![1, 2, 3]), Expiry::Default).await.unwrap();
    assert_eq!(server.text(&["GET", &format!("{prefix}list")]), "[1,2,3]");
    server.text(&["SET", &format!("{prefix}theirs"), r#"{"a": [true, null]}"#]);
    let theirs = cache.get("theirs").await.unwrap().unwrap();
    assert_eq!(
        theirs.decode::<std::collections::HashMap<String, (bool, Option<i32>)>>().unwrap()["a"],
        (true, None)
    );
    server.text(&["SET", &format!("{prefix}n"), "41"]);
    assert_eq!(cache.incr("n", 1, Expiry::Default).await.unwrap(), 42);
    assert_eq!(server.text(&["GET", &format!("{prefix}n")]), "42");
}

#[tokio::test]
async fn foreign_and_corrupt_bytes_are_unreadable_and_heal() {
    let (server, cache, prefix) = with(Codec::MessagePack);
    let name = format!("{prefix}k");
    put(&cache, "k", "value").await.unwrap();
    let whole = server.command(&["GET", &name]).bytes().unwrap().to_vec();
    let mut broken: Vec<Vec<u8>> =
        vec![b"hello".to_vec(), Vec::new(), b"\xc1LD".to_vec(), vec![0xff; 100]];
    broken.extend((1..whole.len()).step_by(7).map(|len| whole[..len].to_vec()));
    broken.extend((0..whole.len()).map(|at| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        bytes
    }));
    for bytes in &broken {
        server.text(&[b"SET".as_slice(), name.as_bytes(), bytes]);
        let found = cache.get("k").await.unwrap().unwrap();
        assert!(found.is_unreadable(), "{bytes:?}");
        assert_eq!(found.decode::<String>().unwrap_err().kind(), ErrorKind::Decode);
        assert_eq!(
            cache.incr("k", 1, Expiry::Never).await.unwrap_err().kind(),
            ErrorKind::NotANumber
        );
        put(&cache, "k", "value").await.unwrap();
        assert_eq!(text(&cache, "k").await.unwrap().as_deref(), Some("value"));
    }
    println!("{} broken values: unreadable, and healed by the next write", broken.len());
}

/// A value that another program copied to another key is a miss there, and costs no connection.
#[tokio::test]
async fn a_copied_value_is_not_the_other_keys() {
    let server = Redis::start();
    let cache = on(&server).prefix("p:").build().unwrap();
    put(&cache, "a", "a's").await.unwrap();
    server.int(&["COPY", "p:a", "p:b"]);
    let before: usize = server.info("total_connections_received").parse().unwrap();
    for _ in 0..10 {
        assert!(cache.get("b").await.unwrap().unwrap().is_misdirected());
        let found = cache.get_many(&["a", "b"]).await.unwrap();
        assert!(found[1].as_ref().unwrap().as_ref().unwrap().is_misdirected());
        assert_eq!(text(&cache, "a").await.unwrap().as_deref(), Some("a's"));
    }
    let connections = server.info("total_connections_received").parse::<usize>().unwrap() - before;
    assert!(connections <= 1, "{connections}: at most the second lane");
}

/// As bytes that cannot be read: a miss for a cache, and no error.
#[tokio::test]
async fn other_types_are_unreadable_and_can_be_overwritten() {
    let (server, cache, prefix) = with(Codec::MessagePack);
    let name = format!("{prefix}list");
    server.int(&["LPUSH", &name, "an element that no message may repeat"]);
    let found = cache.get("list").await.unwrap().unwrap();
    assert!(found.is_unreadable() && !format!("{found:?}").contains("element"), "{found:?}");
    let error = found.decode::<String>().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode);
    assert!(cache.update_timeout("list", Expiry::Never).await.unwrap().unwrap().is_unreadable());
    let error = cache.incr("list", 1, Expiry::Never).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.key(), error.backend()),
        (ErrorKind::NotANumber, Some("list"), Some("redis"))
    );
    assert!(cache.contains("list").await.unwrap());
    put(&cache, "list", "now a value").await.unwrap();
    assert_eq!(text(&cache, "list").await.unwrap().as_deref(), Some("now a value"));
    server.text(&["DEL", &name]);
    server.int(&["LPUSH", &name, "x"]);
    assert!(cache.take("list").await.unwrap().unwrap().is_unreadable());
    assert!(!cache.contains("list").await.unwrap());
    server.int(&["LPUSH", &name, "x"]);
    assert!(cache.remove("list").await.unwrap());
}

/// `get` beside a batch that has one key of another type: the others are not failed by it.
#[tokio::test]
async fn one_bad_key_does_not_fail_its_companions() {
    let (server, cache, prefix) = with(Codec::MessagePack);
    server.int(&["LPUSH", &format!("{prefix}list"), "x"]);
    put(&cache, "k", "v").await.unwrap();
    let found = cache.get_many(&["k", "list"]).await.unwrap();
    assert_eq!(found[0].as_ref().unwrap().as_ref().unwrap().decode::<String>().unwrap(), "v");
    let removed = cache.remove_many(&["k", "list", "nothing"]).await.unwrap();
    assert!(matches!(removed[..], [Ok(true), Ok(true), Ok(false)]), "{removed:?}");
}
