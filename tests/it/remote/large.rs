//! Values around the limit.

use super::{Remote, Setup, on_each, put, text};
use larder::{CacheValue, Codec, Entry, ErrorKind, Expiry};

on_each!(async the_limit_is_exact_and_the_older_value_goes, an_encode_error_leaves_the_older_value);

const LIMIT: usize = 300_000;

async fn the_limit_is_exact_and_the_older_value_goes<S: Remote>() {
    // Raw has no header, so that the limit is the value's own length.
    let cache = S::shared().cache(Setup::patient().codec(Codec::Raw).max_value_bytes(LIMIT));
    for (len, fits) in [(LIMIT - 1, true), (LIMIT, true), (LIMIT + 1, false), (64 << 20, false)] {
        put(&cache, "k", "older").await.unwrap();
        let value = "x".repeat(len);
        match cache.set("k", CacheValue::new(value.clone()), Expiry::Default).await {
            Ok(()) => {
                assert!(fits, "{len}");
                assert_eq!(text(&cache, "k").await.unwrap(), Some(value));
            }
            Err(error) => {
                assert!(!fits, "{len}: {error}");
                assert_eq!(error.kind(), ErrorKind::TooLarge);
                assert_eq!(text(&cache, "k").await.unwrap(), None, "the older value is not served");
            }
        }
        put(&cache, "next", "v").await.unwrap();
        assert_eq!(text(&cache, "next").await.unwrap().as_deref(), Some("v"));
    }

    put(&cache, "k", "older").await.unwrap();
    let large = || CacheValue::new("x".repeat(LIMIT + 1));
    assert_eq!(
        cache.add("k", large(), Expiry::Default).await.unwrap_err().kind(),
        ErrorKind::TooLarge
    );
    assert_eq!(
        text(&cache, "k").await.unwrap().as_deref(),
        Some("older"),
        "an add replaces nothing"
    );
    let stored = cache
        .set_many(&[
            Entry::new("a", CacheValue::new("1"), Expiry::Default),
            Entry::new("k", large(), Expiry::Default),
        ])
        .await
        .unwrap();
    assert!(stored[0].is_ok());
    assert_eq!(stored[1].as_ref().unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(text(&cache, "k").await.unwrap(), None);
    assert_eq!(text(&cache, "a").await.unwrap().as_deref(), Some("1"));
}

/// What cannot be encoded is refused before anything changes.
async fn an_encode_error_leaves_the_older_value<S: Remote>() {
    let cache = S::shared().cache(Setup::patient());
    put(&cache, "k", "older").await.unwrap();
    let error = cache.set("k", CacheValue::new(Some(())), Expiry::Default).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.key(), error.op()),
        (ErrorKind::Encode, Some("k"), Some("set"))
    );
    assert_eq!(text(&cache, "k").await.unwrap().as_deref(), Some("older"));
}
