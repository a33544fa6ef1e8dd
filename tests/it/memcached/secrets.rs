//! Endpoints, keys and values in debug output and errors.

use super::{on, prefix};
use crate::support::Memcached;
use larder::{AsyncCacheAdapter, AsyncMemcachedCache, CacheValue, Entry, Error, ErrorKind, Expiry};
use std::time::Duration;

const VALUE: &str = "a-value-that-no-log-may-show";

fn shown(error: &Error) -> String {
    let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    format!("{error} {error:?} {error:#?} {source}")
}

/// Searches every error that is easy to provoke.
#[tokio::test]
async fn no_error_repeats_a_value() {
    let (server, prefix) = (Memcached::start(), prefix());
    let cache = on(&server).prefix(&prefix).max_value_bytes(1 << 21).build().unwrap();
    let value = || CacheValue::new(VALUE);
    let large = || CacheValue::new(VALUE.repeat(50_000));
    server.set(&format!("{prefix}text"), 0, 0, VALUE.as_bytes());
    cache.set("ours", value(), Expiry::Never).await.unwrap();
    let small = on(&server).max_value_bytes(10).build().unwrap();
    let mut errors = vec![
        cache.incr("text", 1, Expiry::Default).await.unwrap_err(),
        cache.incr("ours", 1, Expiry::Default).await.unwrap_err(),
        cache.get("text").await.unwrap().unwrap().decode::<String>().unwrap_err(),
        cache.get("ours").await.unwrap().unwrap().decode::<u8>().unwrap_err(),
        cache.set("large", large(), Expiry::Default).await.unwrap_err(),
        cache
            .set_many(&[Entry::new("large", large(), Expiry::Default)])
            .await
            .unwrap()
            .remove(0)
            .unwrap_err(),
        small.set("k", value(), Expiry::Default).await.unwrap_err(),
    ];
    let hurried = on(&server).op_timeout(Duration::from_millis(250)).build().unwrap();
    server.freeze();
    errors.push(hurried.set("k", value(), Expiry::Default).await.unwrap_err());
    server.thaw();
    server.kill();
    errors.push(cache.set("k", value(), Expiry::Default).await.unwrap_err());
    errors.push(cache.clear("").await.unwrap_err());
    for error in &errors {
        assert!(!shown(error).contains(VALUE), "{error:?}");
        println!("{:?}: {error}", error.kind());
    }
    let long = "k".repeat(5_000);
    assert_eq!(cache.get(&long).await.unwrap_err().key().map(str::len), Some(128));
}

#[test]
fn neither_a_runtime_nor_a_server_is_needed_to_make_one() {
    let cache = AsyncMemcachedCache::new(
        "memcached://cache.invalid,other.invalid:7000?prefix=p:&op_timeout=1s",
    )
    .unwrap();
    let shown = format!("{cache:?}");
    assert!(
        shown.contains("cache.invalid:11211")
            && shown.contains("other.invalid:7000")
            && shown.contains("p:"),
        "{shown}"
    );
    let error = AsyncMemcachedCache::new("memcached://ann:hunter2@localhost").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}
