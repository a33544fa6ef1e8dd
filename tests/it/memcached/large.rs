//! Values around the limit, and big ones beside small ones.

use super::{PATIENT, on, patient, percentile, put, text};
use crate::support::Memcached;
use crate::support::noise::lateness;
use crate::support::turns::turn;
use larder::{AsyncCacheAdapter, CacheValue, Codec, Entry, ErrorKind, Expiry};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The server's own limit, with a higher one in larder.
#[tokio::test]
async fn the_servers_limit_is_recognised() {
    let cache =
        on(Memcached::shared()).max_value_bytes(100 << 20).op_timeout(PATIENT).build().unwrap();
    put(&cache, "k", "older").await.unwrap();
    put(&cache, "m", "older").await.unwrap();
    let large = || CacheValue::new("x".repeat(2 << 20));
    let error = cache.set("k", large(), Expiry::Default).await.unwrap_err();
    println!("{error}");
    assert_eq!((error.kind(), error.key()), (ErrorKind::TooLarge, Some("k")));
    assert_eq!(text(&cache, "k").await.unwrap(), None, "the older value is not served");
    let entry = |key, value| Entry::new(key, value, Expiry::Default);
    let keys: Vec<String> = (0..40).map(|n| format!("k{n}")).collect();
    let mut entries: Vec<Entry<'_>> =
        keys.iter().map(|key| entry(key, CacheValue::new(key.clone()))).collect();
    entries.push(entry("m", large()));
    let stored = cache.set_many(&entries).await.unwrap();
    assert!(stored[..40].iter().all(Result::is_ok), "{stored:?}");
    assert_eq!(stored[40].as_ref().unwrap_err().kind(), ErrorKind::TooLarge);
    for key in &keys {
        assert_eq!(text(&cache, key).await.unwrap().as_ref(), Some(key));
    }
    assert_eq!(text(&cache, "m").await.unwrap(), None);
}

/// The largest allowed value fits, with the longest key and any header.
#[tokio::test]
async fn the_default_limit_is_what_a_server_takes() {
    let cache =
        on(Memcached::shared()).prefix("").codec(Codec::Raw).op_timeout(PATIENT).build().unwrap();
    let key = "k".repeat(250);
    let limit = (1 << 20) - 512;
    put(&cache, &key, &"x".repeat(limit)).await.unwrap();
    assert_eq!(text(&cache, &key).await.unwrap().map(|value| value.len()), Some(limit));
    assert_eq!(
        put(&cache, &key, &"x".repeat(limit + 1)).await.unwrap_err().kind(),
        ErrorKind::TooLarge
    );
    assert_eq!(text(&cache, &key).await.unwrap(), None);
    let server = Memcached::start_with(&["-I", "4m"]);
    let cache = on(&server).max_value_bytes(3 << 20).op_timeout(PATIENT).build().unwrap();
    put(&cache, "k", &"x".repeat(2 << 20)).await.unwrap();
    assert_eq!(text(&cache, "k").await.unwrap().map(|value| value.len()), Some(2 << 20));
}

/// Whether a value is live stands beside it, so removals take no time to transfer values. Under JSON
/// there is no place for it: such flags are types to other clients.
#[tokio::test]
async fn a_removal_of_large_values_reads_none_of_them() {
    let server = Memcached::start();
    for codec in [Codec::MessagePack, Codec::Raw] {
        let cache = patient(on(&server).codec(codec));
        let keys: Vec<String> = (0..32).map(|n| format!("k{n}")).collect();
        for key in &keys {
            put(&cache, key, &"x".repeat(200_000)).await.unwrap();
        }
        let (one, many) = keys.split_first().unwrap();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let before = server.stat("bytes_written");
        assert!(cache.remove(one).await.unwrap());
        let removed = cache.remove_many(&many).await.unwrap();
        let sent = server.stat("bytes_written") - before;
        assert!(removed.iter().all(|removed| matches!(removed, Ok(true))), "{removed:?}");
        assert!(sent < 100_000, "{codec}: {sent} bytes of {}", 32 * 200_000);
    }
}

/// A value of 64 MiB is refused before it is sent; small values beside it do not wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_values_do_not_wait_for_huge_ones() {
    let _turn = turn();
    let cache = on(Memcached::shared()).codec(Codec::Raw).op_timeout(PATIENT).build().unwrap();
    put(&cache, "k", "small").await.unwrap();
    let (go, ahead) = (Arc::new(AtomicBool::new(true)), cache.clone());
    let huge = {
        let go = go.clone();
        tokio::spawn(async move {
            let stored = CacheValue::new("b".repeat(64 << 20));
            for _ in 0..3 {
                assert_eq!(
                    ahead.set("huge", stored.clone(), Expiry::Default).await.unwrap_err().kind(),
                    ErrorKind::TooLarge
                );
            }
            go.store(false, Ordering::Relaxed);
        })
    };
    let mut took = Vec::new();
    while go.load(Ordering::Relaxed) {
        let begun = Instant::now();
        assert_eq!(text(&cache, "k").await.unwrap().as_deref(), Some("small"));
        took.push(begun.elapsed());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    huge.await.unwrap();
    took.sort();
    println!(
        "small reads beside 64 MiB: {}, p50 {:?}, p95 {:?}, longest {:?}",
        took.len(),
        percentile(&took, 0.5),
        percentile(&took, 0.95),
        percentile(&took, 1.0)
    );
    assert!(
        percentile(&took, 0.95) <= Duration::from_millis(20) + lateness(),
        "{:?}",
        percentile(&took, 0.95)
    );
}
