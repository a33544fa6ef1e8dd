//! Passwords and values are never printed.

use super::{PATIENT, put, text};
use crate::support::Redis;
use larder::{
    AsyncCacheAdapter, AsyncRedisCache, CacheValue, Error, ErrorKind, Expiry, RedisBuilder,
};

const PASSWORD: &str = "hunter2-p@ss:w%rd";
const ENCODED: &str = "hunter2-p%40ss%3Aw%25rd";
const VALUE: &str = "a-value-that-nobody-may-read";

fn shown(error: &Error) -> String {
    let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    format!("{error} {error:?} {error:#?} {source}")
}

fn url(server: &Redis, login: &str) -> String {
    format!("redis://{login}@{}", server.addr())
}

#[tokio::test]
async fn a_password_lets_in_and_is_not_shown() {
    let server = Redis::start_with(&["--requirepass", PASSWORD]);
    server.text(&["ACL", "SETUSER", "ann", "on", &format!(">{PASSWORD}"), "~*", "+@all"]);
    for login in [format!(":{ENCODED}"), format!("ann:{ENCODED}"), format!("default:{ENCODED}")] {
        for resp3 in [false, true] {
            let cache = RedisBuilder::from_url(&url(&server, &login))
                .unwrap()
                .op_timeout(PATIENT)
                .resp3(resp3)
                .build()
                .unwrap();
            put(&cache, "k", VALUE).await.unwrap();
            assert_eq!(text(&cache, "k").await.unwrap().as_deref(), Some(VALUE));
            assert!(!format!("{cache:?} {cache:#?}").contains("hunter2"));
        }
    }
    let builder = RedisBuilder::from_url(&url(&server, &format!(":{ENCODED}"))).unwrap();
    assert!(!format!("{builder:?} {builder:#?}").contains("hunter2"));
}

#[tokio::test]
async fn a_wrong_password_is_a_typed_error_without_it() {
    let server = Redis::start_with(&["--requirepass", PASSWORD]);
    for login in [":hunter2-wrong", "ann:hunter2-wrong", ""] {
        for resp3 in [false, true] {
            let url = if login.is_empty() {
                format!("redis://{}", server.addr())
            } else {
                url(&server, login)
            };
            let cache = RedisBuilder::from_url(&url)
                .unwrap()
                .op_timeout(PATIENT)
                .resp3(resp3)
                .build()
                .unwrap();
            let error = cache.set("k", CacheValue::new(VALUE), Expiry::Default).await.unwrap_err();
            println!("{error}");
            assert_eq!(
                (error.kind(), error.backend(), error.key()),
                (ErrorKind::Backend, Some("redis"), Some("k"))
            );
            assert!(!shown(&error).contains("hunter2") && !shown(&error).contains(VALUE));
        }
    }
}

/// Every error that can be had without much ado, searched.
#[tokio::test]
async fn no_error_repeats_a_value() {
    let server = Redis::start_with(&["--requirepass", PASSWORD]);
    server.text(&[
        "ACL",
        "SETUSER",
        "reader",
        "on",
        &format!(">{PASSWORD}"),
        "~*",
        "+@read",
        "+ping",
        "+client",
    ]);
    let login = format!("reader:{ENCODED}");
    let cache = RedisBuilder::from_url(&url(&server, &login))
        .unwrap()
        .op_timeout(PATIENT)
        .prefix("")
        .build()
        .unwrap();
    server.text(&["SET", "text", VALUE]);
    server.int(&["LPUSH", "list", VALUE]);
    let value = || CacheValue::new(VALUE);
    let mut errors = vec![
        cache.set("k", value(), Expiry::Default).await.unwrap_err(),
        cache.add("k", value(), Expiry::Default).await.unwrap_err(),
        cache.incr("text", 1, Expiry::Default).await.unwrap_err(),
        cache.take("text").await.unwrap_err(),
        cache.get("list").await.unwrap().unwrap().decode::<String>().unwrap_err(),
        cache.get("text").await.unwrap().unwrap().decode::<u8>().unwrap_err(),
        cache.clear("").await.unwrap_err(),
        cache
            .set_many(&[larder::Entry::new("k", value(), Expiry::Default)])
            .await
            .unwrap()
            .remove(0)
            .unwrap_err(),
    ];
    let open = RedisBuilder::from_url(&url(&server, &format!(":{ENCODED}")))
        .unwrap()
        .op_timeout(PATIENT)
        .prefix("")
        .max_value_bytes(10)
        .build()
        .unwrap();
    errors.push(open.incr("text", 1, Expiry::Default).await.unwrap_err());
    errors.push(open.incr("list", 1, Expiry::Default).await.unwrap_err());
    errors.push(open.set("k", value(), Expiry::Default).await.unwrap_err());
    server.kill();
    errors.push(open.set("k", value(), Expiry::Default).await.unwrap_err());
    for error in &errors {
        let shown = shown(error);
        assert!(!shown.contains(VALUE) && !shown.contains("hunter2"), "{shown}");
        println!("{:?}: {error}", error.kind());
    }
    let long = "k".repeat(5_000);
    assert_eq!(open.get(&long).await.unwrap_err().key().map(str::len), Some(128));
}

#[test]
fn what_cannot_be_is_refused_at_once() {
    let refused = |url: &str| AsyncRedisCache::new(url).unwrap_err();
    for (url, says) in [
        ("redis://:hunter2@localhost?op_timeuot=1s", "op_timeuot"),
        ("redis://:hunter2@localhost?op_timeout=0", "op_timeout"),
        ("redis://:hunter2@localhost?pool_size=0", "pool_size"),
        ("redis://:hunter2@localhost?pool_size=65", "pool_size"),
        ("redis://:hunter2@localhost?pool_size=two", "pool_size"),
        ("redis://:hunter2@localhost?max_value_bytes=536870913", "max_value_bytes"),
        ("redis://:hunter2@localhost?codec=xml", "codec"),
        ("redis://:hunter2@localhost?resp3=maybe", "resp3"),
        ("redis://:hunter2@localhost?prefix=a&prefix=b", "prefix"),
        ("redis://:hunter2@localhost?ca_cert=/ca.pem", "ca_cert"),
        ("rdis://:hunter2@localhost", "rdis"),
        ("localhost", "scheme"),
    ] {
        let error = refused(url);
        assert_eq!(error.kind(), ErrorKind::Config, "{url}");
        assert!(error.to_string().contains(says), "{error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
    #[cfg(not(feature = "tls"))]
    assert!(refused("rediss://localhost").to_string().contains("`tls`"));
    // Neither a runtime nor a server is needed to make one.
    let cache =
        AsyncRedisCache::new("redis://:hunter2@cache.invalid:7000/3?prefix=p:&op_timeout=1s")
            .unwrap();
    let shown = format!("{cache:?}");
    assert!(
        shown.contains("redis://cache.invalid:7000/3")
            && shown.contains("p:")
            && !shown.contains("hunter2"),
        "{shown}"
    );
}
