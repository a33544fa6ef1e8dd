//! Lifetimes are kept, in whole seconds.

use super::{on, patient, prefix, put, shared, text};
use crate::support::Memcached;
use crate::support::noise::lateness;
use larder::{AsyncCacheAdapter, CacheValue, ErrorKind, Expiry};
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
            // Rounded up to whole seconds, never to none.
            let rounded = Duration::from_secs(millis.div_ceil(1_000));
            let begun = Instant::now();
            cache.set(&key, CacheValue::new(1), Expiry::After(life)).await.unwrap();
            let written = Instant::now();
            while cache.contains(&key).await.unwrap() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let gone = Instant::now();
            println!("a life of {life:?}: gone at {:?}", gone - begun);
            assert!(gone - begun >= life, "{life:?} was cut short: {:?}", gone - begun);
            // The server's clock ticks once a second, and late on a busy machine.
            assert!(
                gone - written <= rounded + Duration::from_millis(1_100) + lateness(),
                "{life:?} went on: {:?}",
                gone - written
            );
        });
    }
    lives.join_all().await;
}

#[tokio::test]
async fn long_lives_are_neither_for_ever_nor_over() {
    let cache = shared();
    let end =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap() + 3_650 * DAY;
    let beyond = end.as_secs() > i32::MAX as u64;
    let second = Duration::from_secs(1);
    for (life, never) in [
        (30 * DAY - second, false),
        (30 * DAY, false),
        (30 * DAY + second, false),
        (31 * DAY, false),
        (3_650 * DAY, beyond),
        (Duration::MAX, true),
    ] {
        let mut begun = Instant::now();
        cache.set("k", CacheValue::new(1), Expiry::After(life)).await.unwrap();
        for how in ["set", "touch", "update_timeout"] {
            if how != "set" {
                begun = Instant::now();
            }
            match how {
                "touch" => assert!(cache.touch("k", Expiry::After(life)).await.unwrap()),
                "update_timeout" => {
                    assert!(cache.update_timeout("k", Expiry::After(life)).await.unwrap().is_some())
                }
                _ => {}
            }
            match cache.expiry("k").await.unwrap() {
                Some(Expiry::After(left)) => {
                    // Its clock ticks once a second, and late on a busy machine.
                    let least = life - begun.elapsed() - second - lateness();
                    assert!(
                        !never && (least..=life + second).contains(&left),
                        "{how}, {life:?}: {left:?}"
                    )
                }
                other => {
                    assert!(never && other == Some(Expiry::Never), "{how}, {life:?}: {other:?}")
                }
            }
        }
        println!("a life of {life:?}: {:?}", cache.expiry("k").await.unwrap());
    }
}

/// Counters that are incremented all the time do not live longer: the end is kept, not the
/// remaining time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_counter_expires_when_it_should() {
    let cache = shared();
    let begun = Instant::now();
    cache
        .set("n", CacheValue::new(-1_000_000), Expiry::After(Duration::from_secs(3)))
        .await
        .unwrap();
    let mut count = 0u64;
    // A counter that has expired begins at zero.
    while cache.incr("n", -1, Expiry::Never).await.unwrap() < -1_000 {
        count += 1;
        assert!(
            begun.elapsed() < Duration::from_secs(6) + lateness(),
            "{count} increments made it live on"
        );
    }
    println!("a life of 3 s, {count} increments: gone after {:?}", begun.elapsed());
    assert!(begun.elapsed() >= Duration::from_secs(3) && count > 100, "{count}");

    cache.set("long", CacheValue::new(5), Expiry::After(DAY)).await.unwrap();
    for _ in 0..100 {
        cache.incr("long", 1, Expiry::Never).await.unwrap();
    }
    let left = cache.expiry("long").await.unwrap();
    assert!(
        matches!(left, Some(Expiry::After(left)) if left <= DAY && left > DAY - Duration::from_secs(60)),
        "{left:?}"
    );
    cache.set("ever", CacheValue::new(5), Expiry::Never).await.unwrap();
    cache.incr("ever", -10, Expiry::After(DAY)).await.unwrap();
    assert_eq!(cache.expiry("ever").await.unwrap(), Some(Expiry::Never));
}

/// How other programs read larder's counters, and larder theirs.
#[tokio::test]
async fn counters_are_shared_with_other_programs() {
    let (server, prefix) = (Memcached::shared(), prefix());
    let cache = on(server).prefix(&prefix).build().unwrap();
    cache.set("n", CacheValue::new(41u32), Expiry::Never).await.unwrap();
    assert_eq!(cache.incr("n", 1, Expiry::Never).await.unwrap(), 42);
    assert_eq!(server.command(&format!("incr {prefix}n 58")), "100");
    assert_eq!(server.command(&format!("decr {prefix}n 1")), "99");
    assert_eq!(
        server.get(&format!("{prefix}n")).unwrap(),
        b"99 ",
        "the server pads what gets shorter"
    );
    assert_eq!(cache.get("n").await.unwrap().unwrap().decode::<i64>().unwrap(), 99);
    assert_eq!(cache.incr("n", -200, Expiry::Never).await.unwrap(), -101);
    assert_eq!(
        cache.incr("n", i64::MIN, Expiry::Never).await.unwrap_err().kind(),
        ErrorKind::Overflow
    );
    assert_eq!(cache.get("n").await.unwrap().unwrap().decode::<i64>().unwrap(), -101);
    put(&cache, "x", "not a number").await.unwrap();
    assert_eq!(cache.incr("x", 1, Expiry::Never).await.unwrap_err().kind(), ErrorKind::NotANumber);
    assert_eq!(text(&cache, "x").await.unwrap().as_deref(), Some("not a number"));
    assert_eq!(cache.incr("none", 5, Expiry::After(Duration::ZERO)).await.unwrap(), 5);
    assert!(!cache.contains("none").await.unwrap());
}

/// 64 writers over two instances, as of two processes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_increment_is_lost() {
    let prefix = prefix();
    let instances = [0, 1].map(|_| patient(on(Memcached::shared()).prefix(&prefix)));
    let mut writers = JoinSet::new();
    for n in 0..64 {
        let cache = instances[n % 2].clone();
        writers.spawn(async move {
            for _ in 0..20 {
                cache.incr("n", if n % 4 == 0 { -1 } else { 1 }, Expiry::Never).await.unwrap();
            }
        });
    }
    writers.join_all().await;
    assert_eq!(instances[0].incr("n", 0, Expiry::Never).await.unwrap(), 64 * 20 / 2);
}
