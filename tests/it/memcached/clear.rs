//! Clearing, which only records a prefix: every instance must see the clear, and no other value may
//! be lost.

use super::{on, patient, prefix, put, text};
use crate::support::noise::noise;
use crate::support::{Memcached, eventually};
use larder::{AsyncCacheAdapter, AsyncMemcachedCache, CacheValue, Codec, Entry, Expiry};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Two instances with one prefix, as of two processes.
fn twins(server: &Memcached) -> [AsyncMemcachedCache; 2] {
    let prefix = prefix();
    [0, 1].map(|_| patient(on(server).prefix(&prefix)))
}

#[tokio::test]
async fn clearing_one_of_a_hundred_prefixes_takes_its_own_only() {
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
            8 => format!("{}{n}", "long".repeat(70)),
            _ => format!("^{n}]\r\n"),
        })
        .collect();
    let cache = patient(on(Memcached::shared()));
    let keys: Vec<String> =
        names.iter().flat_map(|name| (0..100).map(move |key| format!("{name}:{key}"))).collect();
    let entries: Vec<Entry<'_>> =
        keys.iter().map(|key| Entry::new(key, CacheValue::new(1), Expiry::Never)).collect();
    assert!(cache.set_many(&entries).await.unwrap().iter().all(Result::is_ok));
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    for (at, name) in names.iter().enumerate() {
        cache.clear(&format!("{name}:")).await.unwrap();
        if at % 10 == 9 {
            let live: Vec<bool> = cache
                .get_many(&keys)
                .await
                .unwrap()
                .into_iter()
                .map(|found| found.unwrap().is_some())
                .collect();
            let expected: Vec<bool> = (0..keys.len()).map(|key| key / 100 > at).collect();
            assert_eq!(live, expected, "after {name:?}");
        }
    }
    println!("100 prefixes of 100 keys: each clear took exactly its own");
}

#[tokio::test]
async fn other_keys_of_the_server_stay() {
    let server = Memcached::start();
    for n in 0..10_000 {
        assert_eq!(server.set(&format!("foreign:{n}"), 0, 0, b"theirs"), "STORED");
    }
    let cache = patient(on(&server).prefix("mine:"));
    let neighbour = patient(on(&server).prefix("mine"));
    put(&neighbour, "-not", "kept").await.unwrap();
    for n in 0..100 {
        put(&cache, &n.to_string(), "v").await.unwrap();
    }
    let begun = Instant::now();
    cache.clear("").await.unwrap();
    println!("clear of 100 keys among 10,000: {:?}", begun.elapsed());
    for n in 0..100 {
        assert_eq!(text(&cache, &n.to_string()).await.unwrap(), None);
    }
    assert_eq!(text(&neighbour, "-not").await.unwrap().as_deref(), Some("kept"));
    for n in (0..10_000).step_by(7) {
        assert_eq!(server.get(&format!("foreign:{n}")).as_deref(), Some(&b"theirs"[..]));
    }
}

/// A value that one process clears is neither visible to another one nor brought back by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clear_is_seen_by_every_instance() {
    let [a, b] = twins(Memcached::shared());
    for round in 0..50 {
        put(&b, "x:k", "old").await.unwrap();
        put(&b, "y:k", "kept").await.unwrap();
        a.clear("x:").await.unwrap();
        assert_eq!(text(&b, "x:k").await.unwrap(), None, "round {round}");
        assert_eq!(text(&b, "y:k").await.unwrap().as_deref(), Some("kept"), "round {round}");
        put(&b, "x:k", "new").await.unwrap();
        assert_eq!(text(&a, "x:k").await.unwrap().as_deref(), Some("new"), "round {round}");
        assert_eq!(text(&b, "x:k").await.unwrap().as_deref(), Some("new"), "round {round}");
    }
}

/// A cleared key that is still on the server is a miss for every operation.
#[tokio::test]
async fn every_verb_takes_a_cleared_value_for_missing() {
    let [a, b] = twins(Memcached::shared());
    let keys = [
        "get", "contains", "expiry", "remove", "touch", "update", "take", "replace", "add", "incr",
        "many",
    ];
    for key in keys {
        a.set(key, CacheValue::new(7), Expiry::Never).await.unwrap();
    }
    b.clear("").await.unwrap();
    assert!(a.get("get").await.unwrap().is_none());
    assert!(!a.contains("contains").await.unwrap());
    assert!(a.expiry("expiry").await.unwrap().is_none());
    assert!(!a.remove("remove").await.unwrap());
    assert!(!a.touch("touch", Expiry::Never).await.unwrap());
    assert!(!a.contains("touch").await.unwrap());
    assert!(a.update_timeout("update", Expiry::Never).await.unwrap().is_none());
    assert!(a.take("take").await.unwrap().is_none());
    assert!(!a.replace("replace", CacheValue::new(8), Expiry::Never).await.unwrap());
    assert!(a.add("add", CacheValue::new(9), Expiry::Never).await.unwrap());
    assert_eq!(a.get("add").await.unwrap().unwrap().decode::<i32>().unwrap(), 9);
    assert_eq!(a.incr("incr", 3, Expiry::Never).await.unwrap(), 3);
    assert!(matches!(a.remove_many(&["many", "add"]).await.unwrap()[..], [Ok(false), Ok(true)]));
}

/// Concurrent adds over a cleared value: exactly one of them succeeds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_add_wins_over_a_cleared_value() {
    let twins = twins(Memcached::shared());
    for round in 0..20 {
        let key = format!("k{round}");
        put(&twins[0], &key, "old").await.unwrap();
        twins[1].clear("").await.unwrap();
        let mut adds = JoinSet::new();
        for n in 0..16 {
            let (cache, key) = (twins[n % 2].clone(), key.clone());
            adds.spawn(
                async move { cache.add(&key, CacheValue::new(n), Expiry::Never).await.unwrap() },
            );
        }
        assert_eq!(adds.join_all().await.into_iter().filter(|won| *won).count(), 1);
    }
}

/// Writers and clears of two instances at the same time: values from before a clear are gone after
/// it, and values from after it are present.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clears_and_writes_at_once() {
    let [a, b] = twins(Memcached::shared());
    let until = Instant::now() + Duration::from_secs(2);
    let clearing = {
        let a = a.clone();
        tokio::spawn(async move {
            let mut clears = 0;
            while Instant::now() < until {
                a.clear("x:").await.unwrap();
                clears += 1;
            }
            clears
        })
    };
    let mut writes = 0;
    while Instant::now() < until {
        put(&b, "y", "v").await.unwrap();
        assert_eq!(text(&b, "y").await.unwrap().as_deref(), Some("v"), "not under the prefix");
        put(&b, "x:k", "v").await.unwrap();
        writes += 2;
    }
    println!("{writes} writes beside {} clears of another instance", clearing.await.unwrap());
    a.clear("x:").await.unwrap();
    assert_eq!(text(&b, "x:k").await.unwrap(), None);
    assert_eq!(text(&b, "y").await.unwrap().as_deref(), Some("v"));
}

/// The clear log is evicted: each value is a miss once, and then caching works again.
#[tokio::test]
async fn a_registry_that_was_evicted_is_made_anew() {
    let server = Memcached::start();
    let [a, b] = twins(&server);
    put(&a, "x:k", "cleared").await.unwrap();
    put(&a, "k", "old").await.unwrap();
    a.clear("x:").await.unwrap();
    let registry = server.keys().into_iter().find(|key| key.starts_with("~r")).expect("a registry");
    assert_eq!(server.command(&format!("delete {registry}")), "DELETED");
    eventually("the loss is noticed", Duration::from_secs(1) + noise(), || async {
        text(&a, "k").await.unwrap().is_none()
    })
    .await;
    for cache in [&a, &b] {
        assert_eq!(text(cache, "x:k").await.unwrap(), None, "what was cleared does not come back");
        assert!(!cache.remove("k").await.unwrap());
    }
    put(&a, "k", "new").await.unwrap();
    eventually("both see the new value", Duration::from_secs(1) + noise(), || async {
        text(&b, "k").await.unwrap().as_deref() == Some("new")
    })
    .await;
    // Another program's value is in its place.
    assert_eq!(server.set(&registry, 0, 0, b"not a registry"), "STORED");
    eventually("the damage is noticed", Duration::from_secs(1) + noise(), || async {
        text(&a, "k").await.unwrap().is_none()
    })
    .await;
    eventually("by the other one too", Duration::from_secs(1) + noise(), || async {
        text(&b, "k").await.unwrap().is_none()
    })
    .await;
    put(&b, "k", "newer").await.unwrap();
    eventually("both see the newer value", Duration::from_secs(1) + noise(), || async {
        text(&a, "k").await.unwrap().as_deref() == Some("newer")
    })
    .await;
}

/// Values of other programs, with their own flags, can be read and cleared.
#[tokio::test]
async fn values_of_other_programs_are_read_and_cleared() {
    let (server, prefix) = (Memcached::shared(), prefix());
    let cache = on(server).prefix(&prefix).codec(Codec::Raw).build().unwrap();
    for flags in [0, 1, 16, 65_535] {
        let name = format!("{prefix}k{flags}");
        let key = format!("k{flags}");
        assert_eq!(server.set(&name, flags, 0, b"theirs"), "STORED");
        assert_eq!(text(&cache, &key).await.unwrap().as_deref(), Some("theirs"), "flags {flags}");
        cache.clear("").await.unwrap();
        assert_eq!(text(&cache, &key).await.unwrap(), None, "flags {flags}");
        assert_eq!(server.set(&name, flags, 0, b"again"), "STORED");
        assert_eq!(text(&cache, &key).await.unwrap().as_deref(), Some("again"), "flags {flags}");
        put(&cache, &key, "ours").await.unwrap();
        assert_eq!(server.get(&name).as_deref(), Some(&b"ours"[..]));
    }
}
