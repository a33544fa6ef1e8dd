//! Lifetimes mean what they say.

use super::{PATIENT, on, prefix, put, shared};
use crate::support::Redis;
use crate::support::noise::lateness;
use larder::{AsyncCacheAdapter, CacheValue, Expiry};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn short_lives_last_as_long_as_they_should() {
    let cache = shared();
    let mut lives = JoinSet::new();
    for (n, millis) in [0u64, 1, 500, 1_000, 1_900].into_iter().enumerate() {
        let cache = cache.clone();
        lives.spawn(async move {
            let (key, life) = (format!("k{n}"), Duration::from_millis(millis));
            let begun = Instant::now();
            cache.set(&key, CacheValue::new(1), Expiry::After(life)).await.unwrap();
            let written = Instant::now();
            // Gone at the earliest `life` after the call began, at the latest `life` after it
            // returned.
            let mut last_seen = None;
            while cache.contains(&key).await.unwrap() {
                last_seen = Some(Instant::now());
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            let gone = Instant::now();
            println!(
                "a life of {life:?}: seen until {:?}, gone at {:?}",
                last_seen.map(|seen| seen - begun),
                gone - begun
            );
            assert!(gone - begun >= life, "{life:?} was cut short: {:?}", gone - begun);
            assert!(
                gone - written <= life + Duration::from_millis(1_100) + lateness(),
                "{life:?} went on: {:?}",
                gone - written
            );
        });
    }
    lives.join_all().await;
}

#[tokio::test]
async fn long_lives_are_neither_for_ever_nor_over() {
    let server = Redis::shared();
    let prefix = prefix();
    let cache = on(server).prefix(&prefix).op_timeout(PATIENT).build().unwrap();
    for (life, expected) in [
        (30 * DAY, Some(30 * DAY)),
        (30 * DAY + Duration::from_secs(1), Some(30 * DAY + Duration::from_secs(1))),
        (3650 * DAY, Some(3650 * DAY)),
        (Duration::MAX, None),
    ] {
        let begun = Instant::now();
        cache.set("k", CacheValue::new(1), Expiry::After(life)).await.unwrap();
        let left = server.int(&["PTTL", &format!("{prefix}k")]);
        println!("a life of {life:?}: PTTL {left}");
        match expected {
            None => assert_eq!(left, -1),
            Some(life) => {
                let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap();
                assert!(
                    (millis(life) - millis(begun.elapsed()) - 10..=millis(life)).contains(&left),
                    "{left}"
                );
            }
        }
        assert!(cache.update_timeout("k", Expiry::After(life)).await.unwrap().is_some());
        assert_eq!(server.int(&["PTTL", &format!("{prefix}k")]) == -1, expected.is_none());
        assert!(cache.touch("k", Expiry::After(life)).await.unwrap());
        assert_eq!(cache.expiry("k").await.unwrap() == Some(Expiry::Never), expected.is_none());
    }
}

#[tokio::test]
async fn a_counter_keeps_its_expiry_whatever_it_was_made_by() {
    let server = Redis::shared();
    let prefix = prefix();
    let cache = on(server).prefix(&prefix).build().unwrap();
    cache.set("framed", CacheValue::new(41), Expiry::After(DAY)).await.unwrap();
    assert_eq!(cache.incr("framed", 1, Expiry::Never).await.unwrap(), 42);
    assert_eq!(cache.incr("framed", 1, Expiry::Never).await.unwrap(), 43);
    assert!(server.int(&["PTTL", &format!("{prefix}framed")]) > 86_000_000);
    assert_eq!(
        server.text(&["GET", &format!("{prefix}framed")]),
        "43",
        "header-free, so that INCRBY works on it"
    );
    assert_eq!(server.int(&["INCR", &format!("{prefix}framed")]), 44);
    assert_eq!(cache.get("framed").await.unwrap().unwrap().decode::<i64>().unwrap(), 44);

    assert_eq!(cache.incr("fresh", 5, Expiry::After(DAY)).await.unwrap(), 5);
    assert!(server.int(&["PTTL", &format!("{prefix}fresh")]) > 86_000_000);
    assert_eq!(cache.incr("none", 5, Expiry::After(Duration::ZERO)).await.unwrap(), 5);
    assert!(!cache.contains("none").await.unwrap());
}

/// A server forgets scripts when it restarts, and by `SCRIPT FLUSH`.
#[tokio::test]
async fn scripts_are_sent_again() {
    let server = Redis::start();
    let cache = on(&server).build().unwrap();
    for n in 1..=3 {
        assert_eq!(cache.incr("n", 1, Expiry::Never).await.unwrap(), n);
        server.text(&["SCRIPT", "FLUSH"]);
    }
    put(&cache, "x", "not a number").await.unwrap();
    assert_eq!(
        cache.incr("x", 1, Expiry::Never).await.unwrap_err().kind(),
        larder::ErrorKind::NotANumber
    );
}

/// A counter of many writers, which begins as a value with a header.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_increment_is_lost() {
    let cache = shared();
    for round in 0..5 {
        let key = format!("n{round}");
        cache.set(&key, CacheValue::new(1000u32), Expiry::Never).await.unwrap();
        let mut writers = JoinSet::new();
        for _ in 0..32 {
            let (cache, key) = (cache.clone(), key.clone());
            writers.spawn(async move {
                for _ in 0..10 {
                    cache.incr(&key, 1, Expiry::Never).await.unwrap();
                }
            });
        }
        writers.join_all().await;
        assert_eq!(cache.get(&key).await.unwrap().unwrap().decode::<i64>().unwrap(), 1320);
    }
}
