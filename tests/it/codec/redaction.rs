//! No value and no password is ever printed.

use larder::testing::{Fault, FaultyAdapter, Verb};
use larder::{
    AsyncCacheAdapter, AsyncCacheWrapper, AsyncMemoryCache, CacheValue, Codec, Entry, Error,
    Expiry, IntoAdapter, awaitable,
};
use serde::{Deserialize, Serialize};
use std::error::Error as StdError;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

const CANARY: &str = "hunter2-canary";

fn clean(what: &str, text: &str) {
    assert!(!text.contains("hunter2") && !text.contains("canary"), "{what} shows a secret: {text}");
}

fn clean_debug(what: &str, value: &impl Debug) {
    clean(what, &format!("{value:?}"));
    clean(what, &format!("{value:#?}"));
}

fn clean_error(what: &str, e: &Error) {
    clean_debug(what, e);
    let mut cause: Option<&(dyn StdError + 'static)> = Some(e);
    while let Some(e) = cause {
        clean(what, &format!("{e} {e:?}"));
        cause = e.source();
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Choice {
    #[serde(rename = "one")]
    One,
}

#[tokio::test]
async fn errors_of_every_verb() {
    for url in ["memory:", "memory:?encoded=true", "memory:?codec=json", "memory:?codec=raw"] {
        let cache = AsyncCacheWrapper::new(url).unwrap();
        cache.set("k", CANARY).await.unwrap();
        clean_error("get", &cache.get::<u64>("k").await.unwrap_err());
        clean_error("get", &cache.get::<Choice>("k").await.unwrap_err());
        clean_error("get", &cache.get::<char>("k").await.unwrap_err());
        clean_error("get", &cache.get::<std::net::IpAddr>("k").await.unwrap_err());
        clean_error(
            "get",
            &cache.get::<std::collections::HashMap<String, u8>>("k").await.unwrap_err(),
        );
        clean_error("get_many", &cache.get_many::<u64, _>(["k"]).await.unwrap_err());
        clean_error(
            "update_timeout",
            &cache.update_timeout::<u64>("k", Expiry::Never).await.unwrap_err(),
        );
        clean_error("incr", &cache.incr("k", 1).await.unwrap_err());
        clean_error("take", &cache.take::<u64>("k").await.unwrap_err());
        if let Err(e) = cache.set("k", (CANARY, Some(None::<u8>))).await {
            clean_error("set", &e);
        }
        if let Err(e) =
            cache.set("k", std::collections::BTreeMap::from([(vec![CANARY], f64::NAN)])).await
        {
            clean_error("set", &e);
        }
    }
    let small =
        AsyncCacheWrapper::new(AsyncMemoryCache::builder().max_bytes(1_000).max_entries(1).build())
            .unwrap();
    clean_error("set", &small.set("k", CANARY.repeat(1_000)).await.unwrap_err());
}

#[tokio::test]
async fn unreadable_bytes_and_events() {
    let emitted = Arc::new(Mutex::new(String::new()));
    let heard = emitted.clone();
    let adapter = Arc::new(FaultyAdapter::new(AsyncMemoryCache::new()));
    let cache = AsyncCacheWrapper::new(adapter.clone() as Arc<dyn AsyncCacheAdapter>).unwrap();
    cache.observe(move |event| heard.lock().unwrap().push_str(&format!("{event:?} {event:#?}")));
    cache.set("k", CANARY).await.unwrap();
    cache.get_or_set("k", 1u64).await.unwrap();
    adapter.put(Verb::Get, Fault::Corrupt);
    cache.get_or_set("k", CANARY.to_owned()).await.unwrap();
    adapter.put(Verb::Get, Fault::Fail(larder::ErrorKind::Timeout));
    cache.get_or_set("k", CANARY.to_owned()).await.unwrap();
    cache.swap_adapter("memory").unwrap();
    clean("events", &emitted.lock().unwrap());
    assert!(
        emitted.lock().unwrap().contains("DecodeError")
            && emitted.lock().unwrap().contains("BackendError")
    );

    for codec in [Codec::MessagePack, Codec::Json, Codec::Raw] {
        let value = CacheValue::from_stored("k", CANARY.into(), codec);
        clean_debug("CacheValue", &value);
        value.decode::<u64>().map_err(|e| clean_error("decode", &e)).unwrap_err();
        if let Err(e) = value.to_stored("k", Codec::Json) {
            clean_error("to_stored", &e);
        }
    }
}

#[tokio::test]
async fn debug_of_public_types() {
    let memory = AsyncMemoryCache::new();
    let cache = AsyncCacheWrapper::new(memory.clone()).unwrap();
    cache.set("k", CANARY).await.unwrap();
    let value = CacheValue::new(CANARY);
    clean_debug("CacheValue", &value);
    clean_debug("CacheValue", &value.clone().into_encoded(Codec::Json).unwrap());
    clean_debug("Entry", &Entry::new("k", value, Expiry::Never));
    clean_debug("AsyncMemoryCache", &memory);
    clean_debug("MemoryBuilder", &AsyncMemoryCache::builder());
    clean_debug("AsyncCacheWrapper", &cache);
    clean_debug("View", &cache.ttl(Expiry::Never));
    clean_debug("CacheWrapper", &cache.blocking());
    clean_debug("BlockingView", &cache.blocking().view());
    clean_debug("adapter", &cache.adapter().unwrap());
    clean_debug("FaultyAdapter", &FaultyAdapter::new(memory));
    clean_debug("Awaitable", &awaitable(std::future::ready(())));
}

#[test]
fn passwords_in_urls() {
    let urls = [
        "redis://:hunter2-canary@127.0.0.1:99999/2",
        "redis://user:hunter2-canary@127.0.0.1:6379/notanumber",
        "redis://user:hunter2-canary@",
        "redis://:hunter2-canary@h/0?nonsense=1",
        "redis://h/0?password=hunter2-canary",
        "redis:hunter2-canary",
        "rediss://:hunter2-canary@[::1",
        "foo://:hunter2-canary@h",
        "://:hunter2-canary@h",
        ":hunter2-canary@h",
        "hunter2-canary@h:6379",
        "user:hunter2-canary@h:6379",
        "//user:hunter2-canary@h:6379",
        " redis://:hunter2-canary@h",
        "memory://:hunter2-canary@h",
        "memory:hunter2-canary",
        "memory:?max_entries=hunter2-canary",
        "memory:?codec=hunter2-canary",
        "memory:?default_ttl=hunter2-canary",
        "memory:?prefix=hunter2-canary&nonsense=hunter2-canary",
        "memcached://user:hunter2-canary@h:1",
        "sqlite://user:hunter2-canary@h/%FF",
    ];
    for url in urls {
        // Some are in order where their backend is compiled in; those must keep it to themselves
        // all the same.
        match url.into_adapter() {
            Ok(adapter) => clean_debug(url, &adapter),
            Err(e) => clean_error(url, &e),
        }
    }
}

#[test]
fn keys_are_cut() {
    for key in ["k".repeat(10_000), "清".repeat(1_000), "é".repeat(200)] {
        let e = Error::new(larder::ErrorKind::NotFound).with_key(&key);
        let shown = e.key().unwrap();
        assert!(shown.len() <= 128 && shown.len() > 124 && key.starts_with(shown));
        assert!(e.to_string().len() < 200 && format!("{e:?}").len() < 300);
    }
    let hostile = Error::new(larder::ErrorKind::NotFound).with_key("a\r\nb\0\u{1b}[31m`");
    assert!(
        !hostile.to_string().contains(['\r', '\n', '\0', '\u{1b}']),
        "a key must not write lines of its own into a log"
    );
}

/// Fails to be written, and says what it holds.
#[derive(Clone)]
struct Telltale;

impl Serialize for Telltale {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom(format!("cannot write {CANARY}")))
    }
}

#[tokio::test]
async fn what_a_serialize_says_is_in_the_source_only() {
    for url in ["memory:", "memory:?encoded=true", "memory:?codec=json", "memory:?codec=raw"] {
        let cache = AsyncCacheWrapper::new(url).unwrap();
        for e in [
            cache.set("k", Telltale).await.unwrap_err(),
            cache.set("k", vec![Telltale]).await.unwrap_err(),
            cache.set_many([("k", Telltale)]).await.unwrap_err(),
            cache.add("k", Telltale).await.unwrap_err(),
        ] {
            assert_eq!(e.kind(), larder::ErrorKind::Encode);
            clean_debug("Error", &e);
            clean("Error", &format!("{e} {e:#}"));
            assert!(e.source().is_some(), "for who asks");
        }
    }
}

#[tokio::test]
async fn what_a_loader_or_a_panic_says_is_cut_and_named_as_such() {
    let cache = AsyncCacheWrapper::new("memory").unwrap();
    let emitted = Arc::new(Mutex::new(String::new()));
    let heard = emitted.clone();
    cache.observe(move |event| heard.lock().unwrap().push_str(&format!("{event:?}")));
    let long = format!("it failed {}{CANARY}", ".".repeat(300));
    let panicking = long.clone();
    let panicked = cache
        .get_or_set_async("k", async move { if true { panic!("{panicking}") } else { 0u8 } })
        .await
        .unwrap_err();
    let failing = long.clone();
    let failed =
        cache.try_get_or_set_async("k", async move { Err::<u8, _>(failing) }).await.unwrap_err();
    for e in [panicked, failed] {
        for shown in [format!("{e:?}"), format!("{e:#}"), emitted.lock().unwrap().clone()] {
            clean("Error", &shown);
            assert!(shown.contains("the program's own words: \"it failed"), "{shown}");
        }
        clean("Error", &e.to_string());
        assert!(e.source().is_some_and(|source| source.to_string() == long), "whole for who asks");
    }
}
