//! Servers that refuse many commands.

use super::{CODECS, on, patient, prefix, put, text, through};
use crate::support::memcached::{AWKWARD, FEW_CONNECTIONS, SMALL_ITEMS};
use crate::support::{Memcached, Proxy, eventually};
use futures_util::future::join_all;
use larder::{
    AsyncCacheAdapter, AsyncCacheWrapper, AsyncMemcachedCache, CacheValue, Codec, Entry, Error,
    ErrorKind, Expiry, Result,
};
use std::error::Error as _;
use std::time::Duration;

#[tokio::test]
async fn every_verb_works_where_it_is_not_refused() {
    for args in AWKWARD {
        let server = Memcached::start_with(args);
        for codec in CODECS {
            let cache = patient(on(&server).codec(codec).pool_size(1));
            every_verb(&cache).await.unwrap_or_else(|error| panic!("{args:?}, {codec}: {error}"));
        }
    }
}

async fn every_verb(cache: &AsyncMemcachedCache) -> Result<()> {
    let value = || CacheValue::new("v".to_owned());
    let minute = Expiry::After(Duration::from_secs(60));
    cache.connect().await?;
    cache.ping().await?;
    put(cache, "k", "v").await?;
    assert_eq!(text(cache, "k").await?.as_deref(), Some("v"));
    assert!(cache.add("a", value(), minute).await? && !cache.add("a", value(), minute).await?);
    assert!(cache.replace("a", value(), minute).await? && cache.contains("a").await?);
    assert_eq!(cache.incr("n", 41, minute).await? + cache.incr("n", 1, minute).await?, 83);
    assert!(cache.touch("k", minute).await? && cache.expiry("k").await?.is_some());
    assert!(cache.update_timeout("k", minute).await?.is_some());
    assert!(cache.take("a").await?.is_some());
    let entries = [Entry::new("x", value(), minute), Entry::new("y", value(), minute)];
    assert!(cache.set_many(&entries).await?.iter().all(Result::is_ok));
    let found = cache.get_many(&["x", "y", "z"]).await?;
    assert!(matches!(found[..], [Ok(Some(_)), Ok(Some(_)), Ok(None)]));
    assert!(matches!(cache.remove_many(&["x", "z"]).await?[..], [Ok(true), Ok(false)]));
    assert!(cache.remove("y").await?);
    let wrapper = AsyncCacheWrapper::new(cache.clone())?;
    assert_eq!(wrapper.get_or_set_async("loaded", async { 7 }).await?, 7);
    assert_eq!(wrapper.get::<i32>("loaded").await?, Some(7));
    cache.clear("").await?;
    assert_eq!(text(cache, "k").await?, None);
    Ok(())
}

/// Fills a server that evicts nothing, until it has no memory for items of `size` bytes, and
/// returns its error.
async fn fill(cache: &AsyncMemcachedCache, size: usize) -> Error {
    for n in 0.. {
        if let Err(error) = put(cache, &format!("fill-{size}-{n}"), &"x".repeat(size)).await {
            return error;
        }
    }
    unreachable!("memory ends")
}

/// A write that a full server refuses is an error with the server's message, and the older value is
/// not served.
#[tokio::test]
async fn a_server_without_memory_serves_no_older_value() {
    for codec in CODECS {
        let server = Memcached::start_with(&["-m", "8", "-M"]);
        let cache = patient(on(&server).codec(codec));
        for key in ["set", "set_many", "replace", "kept"] {
            put(&cache, key, "older").await.unwrap();
        }
        for size in [100_000, 5_000] {
            let error = fill(&cache, size).await;
            assert_eq!(error.kind(), ErrorKind::Backend, "{error:?}");
            assert!(error.to_string().contains("out of memory"), "{error}");
        }
        let large = || CacheValue::new("y".repeat(100_000));
        cache.set("set", large(), Expiry::Default).await.unwrap_err();
        let entries = [
            Entry::new("set_many", large(), Expiry::Default),
            Entry::new("kept", CacheValue::new("newer".to_owned()), Expiry::Default),
        ];
        let stored = cache.set_many(&entries).await.unwrap();
        assert!(stored[0].as_ref().is_err_and(|error| error.kind() == ErrorKind::Backend));
        cache.replace("replace", large(), Expiry::Default).await.unwrap_err();
        for key in ["set", "set_many", "replace"] {
            assert_eq!(text(&cache, key).await.unwrap(), None, "{codec}, {key}");
        }
        if stored[1].is_ok() {
            assert_eq!(text(&cache, "kept").await.unwrap().as_deref(), Some("newer"));
        }
        // The record of the clear is a write, too.
        cache.clear("").await.unwrap();
        assert_eq!(text(&cache, "fill-100000-0").await.unwrap(), None, "{codec}");
        assert!(
            cache.remove_many(&["fill-100000-1", "kept"]).await.unwrap().iter().all(Result::is_ok)
        );
    }
}

/// Every size around the server's limit is stored completely, or refused with the older value
/// removed.
#[tokio::test]
async fn values_around_a_small_limit_are_whole_or_gone() {
    let server = Memcached::start_with(SMALL_ITEMS);
    for codec in CODECS {
        let cache = patient(on(&server).codec(codec));
        let (mut stored, mut refused) = (0, 0);
        for size in (7_600..8_400).step_by(20) {
            let value = "x".repeat(size);
            put(&cache, "one", "older").await.unwrap();
            put(&cache, "many", "older").await.unwrap();
            let entries = [
                Entry::new("many", CacheValue::new(value.clone()), Expiry::Default),
                Entry::new("beside", CacheValue::new("small".to_owned()), Expiry::Default),
            ];
            let many = cache.set_many(&entries).await.unwrap();
            assert!(many[1].is_ok(), "{many:?}");
            for (key, outcome) in
                [("one", put(&cache, "one", &value).await), ("many", many[0].clone())]
            {
                let found = text(&cache, key).await.unwrap();
                match outcome {
                    Ok(()) => assert_eq!(found.as_ref(), Some(&value), "{codec}, {size}"),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::TooLarge, "{error:?}");
                        assert_eq!(found, None, "{codec}, {size}");
                    }
                }
                if found.is_some() { stored += 1 } else { refused += 1 }
            }
        }
        println!("{codec}: {stored} stored, {refused} refused");
        assert!(stored > 0 && refused > 0);
    }
}

/// A value that the server refuses among many is found in few round trips.
#[tokio::test]
async fn one_value_that_is_too_large_costs_its_companions_little() {
    let server = Memcached::start_with(SMALL_ITEMS);
    let proxy = Proxy::start(server.addr());
    let cache = patient(through(&proxy));
    let keys: Vec<String> = (0..2_000).map(|n| format!("k{n}")).collect();
    for large in [0, 777, 1_999] {
        let value = |at| if at == large { "x".repeat(9_000) } else { format!("v{at}") };
        let entries: Vec<Entry<'_>> = keys
            .iter()
            .enumerate()
            .map(|(at, key)| Entry::new(key, CacheValue::new(value(at)), Expiry::Default))
            .collect();
        let before = proxy.pieces();
        let stored = cache.set_many(&entries).await.unwrap();
        let asked = proxy.pieces() - before;
        for (at, stored) in stored.into_iter().enumerate() {
            let kind = stored.map_err(|error| error.kind());
            let expected = if at == large { Err(ErrorKind::TooLarge) } else { Ok(()) };
            assert_eq!(kind, expected, "{at}");
        }
        println!("{asked} pieces for one of 2,000 that is too large");
        assert!(asked < 500, "{asked} pieces");
        assert_eq!(text(&cache, &keys[large]).await.unwrap(), None);
        assert_eq!(text(&cache, &keys[500]).await.unwrap().as_deref(), Some("v500"));
    }
}

/// More prefixes than an item of that size can hold.
#[tokio::test]
async fn clears_go_on_where_the_clear_log_would_be_too_large() {
    let server = Memcached::start_with(SMALL_ITEMS);
    let cache = patient(on(&server));
    for round in 0..24 {
        let prefixes: Vec<String> = (0..16).map(|n| format!("p{round}-{n}:")).collect();
        for prefix in &prefixes {
            put(&cache, &format!("{prefix}k"), "old").await.unwrap();
        }
        let cleared = join_all(prefixes.iter().map(|prefix| cache.clear(prefix))).await;
        assert!(cleared.iter().all(Result::is_ok), "{cleared:?}");
        put(&cache, "recent", "kept").await.unwrap();
        for prefix in &prefixes {
            assert_eq!(text(&cache, &format!("{prefix}k")).await.unwrap(), None);
        }
        assert_eq!(text(&cache, "recent").await.unwrap().as_deref(), Some("kept"));
    }
    assert_eq!(text(&cache, "p0-0:k").await.unwrap(), None);
}

/// An error with its sources.
fn chain(error: &Error) -> String {
    let mut words = vec![error.to_string()];
    let mut next = error.source();
    while let Some(source) = next {
        words.push(source.to_string());
        next = source.source();
    }
    words.join(": ")
}

/// One connection too many is an error that gives the reason, until another connection closes.
#[tokio::test]
async fn a_caller_that_finds_no_free_connection_gets_that_error() {
    let server = Memcached::start_with(FEW_CONNECTIONS);
    let prefix = prefix();
    let caches: Vec<AsyncMemcachedCache> = (0..12)
        .map(|_| patient(on(&server).prefix(&prefix).pool_size(1).codec(Codec::Raw)))
        .collect();
    let mut refused = Vec::new();
    for cache in &caches {
        match put(cache, "k", "v").await {
            Ok(()) => assert_eq!(text(cache, "k").await.unwrap().as_deref(), Some("v")),
            Err(error) => refused.push((cache, error)),
        }
    }
    let (last, error) = refused.pop().expect("seven are fewer than twelve");
    println!("{} of 12 refused: {}", refused.len() + 1, chain(&error));
    let again = put(last, "k", "v").await.unwrap_err();
    for error in [error, again] {
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(chain(&error).contains("without free connections"), "{}", chain(&error));
    }
    for cache in &caches {
        cache.close().await.unwrap();
    }
    eventually("there is room again", super::PATIENT, || async {
        put(last, "k", "v").await.is_ok()
    })
    .await;
}
