//! Names and URLs with a near level, and those that are wrong.

use crate::support::Redis;
use larder::{AsyncCacheWrapper, ErrorKind, IntoAdapter};

#[track_caller]
fn refused(url: &str, words: &[&str]) {
    let error = AsyncCacheWrapper::new(url).expect_err("it is refused");
    assert_eq!(error.kind(), ErrorKind::Config, "{url}: {error}");
    for word in words {
        assert!(error.to_string().contains(word), "{url}: no `{word}` in: {error}");
    }
}

const ALL: [&str; 3] = ["near_entries", "near_bound", "near_ttl"];

#[test]
fn what_has_no_near_level_or_two_is_refused() {
    refused("near+memory:", &["memory"]);
    refused("near+memory", &["memory"]);
    refused("NEAR+MEMORY:?max_entries=5", &["memory"]);
    refused("near+near+redis://127.0.0.1/", &["twice"]);
    refused("near+Near+sqlite:x.db", &["twice"]);
    refused("near+", &["there are"]);
    refused("near+oracle:", &["there are"]);
    refused("near+oracle", &["there are"]);
}

#[test]
fn wrong_settings_of_a_near_level_are_refused_and_the_right_ones_listed() {
    for setting in [
        "near_bound=never",
        "near_bound=19ms",
        "near_bound=0",
        "near_bound=-1",
        "near_ttl=0",
        "near_ttl=x",
        "near_entries=0",
        "near_entries=-1",
        "near_entries=many",
        "near_bonud=100ms",
        "near_=1",
    ] {
        for url in ["redis://127.0.0.1/", "memcached://127.0.0.1", "sqlite::memory:"] {
            refused(&format!("near+{url}?{setting}"), &ALL);
        }
    }
    refused("near+redis://127.0.0.1/?near_bound=1s&near_bound=2s", &["near_bound", "twice"]);
    refused("near+redis://127.0.0.1/?colour=red", &["colour"]);
}

#[test]
fn settings_of_a_near_level_without_one_are_refused() {
    for name in ALL {
        for url in ["redis://127.0.0.1/", "memcached://127.0.0.1", "sqlite::memory:", "memory:"] {
            refused(&format!("{url}?{name}=100"), &[name, "near+"]);
        }
    }
    refused("redis://127.0.0.1/?near_bonud=1", &["near_bonud"]);
}

#[tokio::test]
async fn a_near_level_stands_before_any_store_by_url_or_name() {
    for url in [
        "sqlite::memory:?op_timeout=60s",
        "NEAR+sqlite::memory:?near_bound=1s&near_ttl=5s&near_entries=1&op_timeout=60s",
    ] {
        let url = if url.contains("NEAR") { url.to_owned() } else { format!("near+{url}") };
        let cache = AsyncCacheWrapper::new(url).unwrap();
        assert!(cache.stats().near.is_some());
        cache.set("k", 5u8).await.unwrap();
        assert_eq!(cache.get::<u8>("k").await.unwrap(), Some(5));
        assert_eq!(cache.adapter().unwrap().backend(), "sqlite");
    }
    let cache = AsyncCacheWrapper::new(format!("near+{}", Redis::shared().url())).unwrap();
    assert_eq!(cache.adapter().unwrap().backend(), "redis");
    for name in ["near+redis", "Near+Memcached", "near+RedisCache"] {
        assert!(name.into_adapter().unwrap().near_stats().is_some(), "{name}");
    }
    assert!(AsyncCacheWrapper::new("sqlite::memory:").unwrap().stats().near.is_none());
}
