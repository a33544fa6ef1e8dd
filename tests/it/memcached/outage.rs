//! Servers that are killed or frozen, and recover.

use super::{PATIENT, on, percentile, put, server, text, through, value_of};
use crate::support::noise::noise;
use crate::support::{Memcached, Proxy, eventually};
use larder::{AsyncCacheAdapter, CacheValue, ErrorKind, IntoAdapter};
use std::time::{Duration, Instant};

/// A connection that was cut while idle fails no operation that may be sent twice; others first
/// check a connection that was idle.
#[tokio::test]
async fn a_connection_that_was_cut_is_replaced() {
    let server = Memcached::start();
    let proxy = Proxy::start(server.addr());
    let cache = through(&proxy).op_timeout(PATIENT).build().unwrap();
    put(&cache, "k", "v").await.unwrap();
    for round in 1..=5 {
        proxy.drop_all();
        assert_eq!(text(&cache, "k").await.unwrap().as_deref(), Some("v"));
        proxy.drop_all();
        put(&cache, "k", "v").await.unwrap();
        proxy.drop_all();
        assert_eq!(cache.incr("n", 1, larder::Expiry::Never).await.unwrap(), round);
        proxy.drop_all();
        assert!(!cache.remove("nothing").await.unwrap());
        proxy.drop_all();
        // The runtime is blocked, so the closed connection goes unnoticed.
        std::thread::sleep(Duration::from_millis(50));
        assert!(
            cache
                .add(&format!("a{round}"), CacheValue::new(1), larder::Expiry::Never)
                .await
                .unwrap()
        );
    }
    println!("25 times cut: no call failed");
}

/// One of three servers is killed: its share of the keys is lost at once, and no others.
#[tokio::test]
async fn a_dead_server_costs_its_share_and_no_more() {
    let servers: [Memcached; 3] = std::array::from_fn(|_| Memcached::start());
    let cache =
        on(&servers[0]).server(server(&servers[1])).server(server(&servers[2])).build().unwrap();
    let keys: Vec<String> = (0..300).map(|n| format!("k{n}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    for key in &keys {
        put(&cache, key, &value_of(key)).await.unwrap();
    }
    servers[1].kill();
    let mut took = Vec::new();
    let mut dead = 0;
    for key in &keys {
        let begun = Instant::now();
        match text(&cache, key).await {
            Ok(found) => assert_eq!(found, Some(value_of(key))),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable);
                dead += 1;
            }
        }
        took.push(begun.elapsed());
    }
    let found = cache.get_many(&keys).await.unwrap();
    assert_eq!(found.iter().filter(|found| found.is_err()).count(), dead);
    assert_eq!(found.iter().filter(|found| matches!(found, Ok(Some(_)))).count(), 300 - dead);
    assert_eq!(cache.clear("").await.unwrap_err().kind(), ErrorKind::Unavailable);
    let left = cache.get_many(&keys).await.unwrap();
    assert!(
        left.iter().all(|found| matches!(found, Ok(None) | Err(_))),
        "the others were cleared all the same"
    );
    took.sort();
    println!(
        "one server of three dead: {dead} of 300 keys unavailable, longest call {:?}",
        percentile(&took, 1.0)
    );
    assert!((50..150).contains(&dead), "{dead}");
    assert!(percentile(&took, 1.0) < noise());
    servers[1].restart();
    eventually("it is back", Duration::from_secs(1) + noise(), || async {
        cache.get_many(&keys).await.unwrap().iter().all(Result::is_ok)
    })
    .await;
}

/// From a URL, with the layer around the adapter: no server listens, and each error has the
/// system's message.
#[tokio::test]
async fn an_error_of_a_server_that_is_away_says_why() {
    let cache = "memcached://127.0.0.1:1?op_timeout=10s".into_adapter().unwrap();
    for round in 0..30 {
        let error = cache.get("k").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let mut words = vec![error.to_string()];
        let mut next = std::error::Error::source(&error);
        while let Some(source) = next {
            words.push(source.to_string());
            next = source.source();
        }
        assert!(words.iter().any(|words| words.contains("refused")), "{round}: {words:?}");
    }
}
