//! Servers that are killed, frozen, and come back.

use super::{PATIENT, on, put, text};
use crate::support::Redis;
use larder::AsyncCacheAdapter;
use std::time::Duration;

/// What was cut behind our back fails nothing; before what must not be sent twice, a connection
/// that was idle is asked.
#[tokio::test]
async fn a_connection_that_was_cut_is_replaced() {
    let server = Redis::start();
    let cache = on(&server).op_timeout(PATIENT).build().unwrap();
    put(&cache, "k", "v").await.unwrap();
    for round in 1..=5 {
        server.text(&["CLIENT", "KILL", "TYPE", "normal"]);
        assert_eq!(text(&cache, "k").await.unwrap().as_deref(), Some("v"));
        server.text(&["CLIENT", "KILL", "TYPE", "normal"]);
        put(&cache, "k", "v").await.unwrap();
        server.text(&["CLIENT", "KILL", "TYPE", "normal"]);
        // The runtime stands still, so that nothing could notice.
        std::thread::sleep(Duration::from_millis(120));
        assert_eq!(cache.incr("n", 1, larder::Expiry::Never).await.unwrap(), round);
        server.text(&["CLIENT", "KILL", "TYPE", "normal"]);
        std::thread::sleep(Duration::from_millis(120));
        assert!(!cache.remove("nothing").await.unwrap());
    }
    println!("20 connections cut: no call failed");
}

/// A command that must not be sent twice is not sent over a connection whose end the operating
/// system knows, also if the connection answered just before.
#[tokio::test]
async fn a_connection_that_has_just_been_closed_is_not_used() {
    let server = Redis::start();
    let cache = on(&server).op_timeout(PATIENT).build().unwrap();
    let mut sum = 0;
    for round in 0..50 {
        assert!(cache.contains("k").await.is_ok());
        // The runtime stands still meanwhile, so that only the system knows.
        server.text(&["CLIENT", "KILL", "TYPE", "normal"]);
        sum += 1;
        let key = format!("k{round}");
        match round % 4 {
            0 => assert!(
                cache.add(&key, larder::CacheValue::new(1), larder::Expiry::Never).await.unwrap()
            ),
            1 => assert_eq!(cache.incr("n", 1, larder::Expiry::Never).await.unwrap(), sum / 4 + 1),
            2 => assert!(cache.take("nothing").await.unwrap().is_none()),
            _ => assert!(cache.remove_many(&["a", "b"]).await.unwrap().iter().all(Result::is_ok)),
        }
    }
}
