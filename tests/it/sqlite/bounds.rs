//! Bounds on files, values, keys and batches.

use super::damage::wait_for;
use super::{
    Guarded, PATIENT, another_process, fresh, fresh_path, get, on, python_says, set, shared, soak,
};
use crate::support::eventually;
use crate::support::noise::{lateness, noise};
use larder::{AsyncCacheAdapter, CacheValue, Codec, Entry, ErrorKind, Expiry};
use std::fs;
use std::io::{BufReader, Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}

fn rows(path: &Path) -> u64 {
    let script = "import sqlite3,sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT count(*) \
                  FROM larder_cache').fetchone()[0])";
    python_says(script, &[path.to_str().unwrap()]).parse().unwrap()
}

#[tokio::test]
async fn the_file_stays_below_its_bound_after_churn_of_ten_times_its_size() {
    for (what, ttl) in [("mortal", Some(60)), ("immortal", None), ("mixed", Some(0))] {
        let path = fresh_path();
        let bound = 2 << 20;
        let cache =
            on(&path).codec(Codec::Raw).max_bytes(bound).op_timeout(PATIENT).build().unwrap();
        let log = path.with_extension("db-wal");
        let (mut written, mut largest, mut longest, mut n) = (0, 0, 0, 0_u64);
        while written < bound * soak(10, 50) {
            let size = 200 + (n * 7_919) % 12_000;
            let expiry = match ttl {
                None => Expiry::Never,
                Some(0) if n % 3 == 0 => Expiry::Never,
                Some(0) => Duration::from_secs(30 + (n * 31) % 1_000).into(),
                Some(ttl) => Duration::from_secs(ttl).into(),
            };
            let value = CacheValue::new("x".repeat(usize::try_from(size).unwrap()));
            cache.set(&format!("k{n}"), value, expiry).await.unwrap();
            assert!(n % 50 != 0 || cache.contains(&format!("k{n}")).await.unwrap());
            (written, largest, longest, n) =
                (written + size, largest.max(length(&path)), longest.max(length(&log)), n + 1);
        }
        cache.close().await.unwrap();
        let kept = rows(&path);
        println!(
            "sqlite: {what}: {written} bytes through a bound of {bound}: file at most {largest}, \
             log at most {longest}, {kept} of {n} rows kept"
        );
        assert!(largest <= bound, "{largest}");
        assert!(longest <= 17 << 20, "{longest}");
        assert!(kept > 100, "{kept}");
    }
}

#[tokio::test]
async fn a_file_that_is_over_a_new_bound_shrinks_to_it() {
    let path = fresh_path();
    let cache = on(&path).build().unwrap();
    for n in 0..600 {
        set(&cache, &format!("k{n}"), &"x".repeat(10_000)).await.unwrap();
    }
    cache.close().await.unwrap();
    let before = length(&path);
    let bound = 2 << 20;
    let cache = on(&path).max_bytes(bound).build().unwrap();
    eventually("the file shrinks", Duration::from_secs(60), async || {
        cache.purge_expired().await.unwrap();
        length(&path) <= bound
    })
    .await;
    cache.close().await.unwrap();
    assert!(length(&path) <= bound, "{}", length(&path));
    println!(
        "sqlite: a file of {before} bytes under a new bound of {bound}: {} bytes, {} rows",
        length(&path),
        rows(&path)
    );
    assert!(rows(&path) > 20);
}

#[tokio::test]
async fn what_is_cleared_and_what_has_expired_gives_its_space_back() {
    let path = fresh_path();
    let cache = on(&path).build().unwrap();
    let value = CacheValue::new("x".repeat(10_000));
    for n in 0..600 {
        cache
            .set(
                &format!("k{n}"),
                value.clone(),
                Duration::from_millis(if n % 2 == 0 { 600_000 } else { 1 }).into(),
            )
            .await
            .unwrap();
    }
    let before = length(&path).max(length(&path.with_extension("db-wal")));
    tokio::time::sleep(Duration::from_millis(5)).await;
    // The background sweep may have removed some of them first.
    assert!(cache.purge_expired().await.unwrap() <= 300);
    assert_eq!(cache.purge_expired().await.unwrap(), 0);
    assert_eq!(rows(&path), 300);
    cache.clear("").await.unwrap();
    eventually("the space is given back", PATIENT, async || length(&path) < 2_000_000).await;
    cache.close().await.unwrap();
    println!("sqlite: {before} bytes before the purge and the clear, {} after", length(&path));
    assert!(before > 4_000_000 && length(&path) < 2_000_000);
    assert_eq!(rows(&path), 0);
}

/// Cleared keys are gone when the call returns, and each step of the call has the deadline.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_clear_answers_for_the_removal_and_keeps_others_waiting_for_moments() {
    for (rows_stored, size) in [(soak(60_000, 500_000), 10), (soak(150, 700), 1_500_000)] {
        let path = fresh_path();
        let filling = on(&path).max_value_bytes(2_000_000).codec(Codec::Raw).build().unwrap();
        let value = CacheValue::new("x".repeat(size));
        let keys: Vec<String> = (0..rows_stored).map(|n| format!("k{n}")).collect();
        for some in keys.chunks(2_000) {
            let entries: Vec<_> =
                some.iter().map(|key| Entry::new(key, value.clone(), Expiry::Never)).collect();
            assert!(filling.set_many(&entries).await.unwrap().iter().all(Result::is_ok));
        }
        filling.close().await.unwrap();
        let before = length(&path);
        let mut process = another_process("write_beside", &path);
        process.stdin(Stdio::piped());
        let mut beside = Guarded(process.spawn().unwrap());
        let mut said = BufReader::new(beside.0.stdout.take().unwrap());
        wait_for(&mut said, "writing");
        let deadline = Duration::from_millis(500) + noise();
        let cache = on(&path).op_timeout(deadline).build().unwrap();
        let began = Instant::now();
        cache.clear("k").await.unwrap();
        let cleared = began.elapsed();
        assert_eq!(rows(&path), 1);
        eventually("the space is given back", PATIENT, async || length(&path) < before / 2).await;
        let given_back = began.elapsed();
        beside.0.stdin.take().unwrap().write_all(b"stop\n").unwrap();
        let mut report = String::new();
        said.read_to_string(&mut report).unwrap();
        assert!(beside.0.wait().unwrap().success(), "{report}");
        println!(
            "sqlite: {rows_stored} rows of {size} bytes cleared in {cleared:?}, space given back \
             after {given_back:?}; {}",
            report.lines().next().unwrap_or_default()
        );
    }
}

#[tokio::test]
async fn expired_rows_are_swept_in_the_background() {
    let path = fresh_path();
    let cache = on(&path).purge_every(Duration::from_millis(50)).build().unwrap();
    for n in 0..1_200 {
        cache
            .set(&format!("k{n}"), CacheValue::new(n), Duration::from_millis(20).into())
            .await
            .unwrap();
    }
    set(&cache, "kept", "v").await.unwrap();
    eventually("the rows go", Duration::from_secs(60), async || rows(&path) == 1).await;
    assert_eq!(get(&cache, "kept").await.unwrap().as_deref(), Some("v"));
}

#[tokio::test]
async fn values_over_the_limit_are_refused_before_sqlite_and_the_older_one_is_gone() {
    let limit = 1 << 20;
    let cache = on(&fresh_path()).codec(Codec::Raw).max_value_bytes(limit).build().unwrap();
    for (size, fits) in [(limit - 1, true), (limit, true), (limit + 1, false), (64 << 20, false)] {
        set(&cache, "k", "older").await.unwrap();
        let value = CacheValue::new("x".repeat(size));
        let result = cache.set("k", value.clone(), Expiry::Never).await;
        assert_eq!(result.is_ok(), fits, "{size}");
        if let Err(error) = result {
            assert_eq!(error.kind(), ErrorKind::TooLarge);
            assert!(!cache.contains("k").await.unwrap());
            set(&cache, "k", "older").await.unwrap();
            assert_eq!(
                cache.replace("k", value.clone(), Expiry::Never).await.unwrap_err().kind(),
                ErrorKind::TooLarge
            );
            assert!(!cache.contains("k").await.unwrap());
            set(&cache, "k", "older").await.unwrap();
            let batch = [
                Entry::new("a", CacheValue::new("1"), Expiry::Never),
                Entry::new("k", value, Expiry::Never),
            ];
            let results = cache.set_many(&batch).await.unwrap();
            assert!(results[0].is_ok());
            assert_eq!(results[1].as_ref().unwrap_err().kind(), ErrorKind::TooLarge);
            assert!(!cache.contains("k").await.unwrap() && cache.contains("a").await.unwrap());
        }
        set(&cache, "next", "right").await.unwrap();
        assert_eq!(get(&cache, "next").await.unwrap().as_deref(), Some("right"));
    }
    let small = on(&fresh_path()).max_bytes(1 << 20).build().unwrap();
    assert_eq!(
        small
            .set("k", CacheValue::new("x".repeat(300_000)), Expiry::Never)
            .await
            .unwrap_err()
            .kind(),
        ErrorKind::TooLarge
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_reads_beside_large_values_do_not_wait_for_them() {
    let cache = shared(on(&fresh_path()).op_timeout(PATIENT).build().unwrap());
    set(&cache, "small", "v").await.unwrap();
    let large = CacheValue::new("x".repeat(15 << 20));
    let writing = tokio::spawn({
        let cache = cache.clone();
        async move {
            for n in 0..4 {
                cache.set(&format!("large{n}"), large.clone(), Expiry::Never).await.unwrap();
            }
        }
    });
    let mut reads = Vec::new();
    while !writing.is_finished() {
        let began = Instant::now();
        assert_eq!(get(&cache, "small").await.unwrap().as_deref(), Some("v"));
        reads.push(began.elapsed());
    }
    writing.await.unwrap();
    reads.sort_unstable();
    println!(
        "sqlite: {} small reads beside 15 MiB writes: median {:?}, 98th {:?}",
        reads.len(),
        reads[reads.len() / 2],
        reads[reads.len() - 1 - reads.len() / 50]
    );
    assert!(reads[reads.len() / 2] <= Duration::from_millis(20) + lateness());
}

#[tokio::test]
async fn clearing_one_namespace_removes_exactly_its_own() {
    let path = fresh_path();
    let names = [
        "a",
        "a_",
        "a%",
        "a*",
        "a?",
        "[a]",
        "a\\",
        "aa",
        "A",
        "a\u{10FFFF}",
        "ü",
        "a\0",
        "清",
        "a'",
        "",
    ];
    let spaces: Vec<_> =
        names.iter().map(|name| on(&path).prefix(format!("{name}:")).build().unwrap()).collect();
    let count = soak(40, 100);
    let keys: Vec<String> = (0..count).map(|n| format!("{n}%_*")).collect();
    for space in &spaces {
        let entries: Vec<_> =
            keys.iter().map(|key| Entry::new(key, CacheValue::new(1), Expiry::Never)).collect();
        assert!(space.set_many(&entries).await.unwrap().iter().all(Result::is_ok));
    }
    for (cleared, space) in spaces.iter().enumerate() {
        assert_eq!(rows(&path), ((names.len() - cleared) * keys.len()) as u64);
        space.clear("").await.unwrap();
        assert_eq!(
            rows(&path),
            ((names.len() - cleared - 1) * keys.len()) as u64,
            "{:?}",
            names[cleared]
        );
        for (other, space) in spaces.iter().enumerate() {
            assert_eq!(
                space.contains("1%_*").await.unwrap(),
                other > cleared,
                "{:?} after {:?}",
                names[other],
                names[cleared]
            );
        }
    }
}

#[tokio::test]
async fn hostile_keys_are_text() {
    let path = fresh_path();
    let cache = on(&path).build().unwrap();
    set(&cache, "canary", "alive").await.unwrap();
    let long = "k".repeat(1 << 20);
    let mut keys: Vec<String> = [
        "'; DROP TABLE larder_cache; --",
        "\"",
        "''",
        "\0",
        "a\0",
        "a\0b",
        "\r\n",
        "%",
        "_",
        "*",
        "?1",
        ":key",
        "$1",
        "NULL",
        "a\u{0}\u{0}",
        " ",
        "a ",
        " a",
        "A",
        "a",
        "\u{feff}",
        "é",
        "e\u{301}",
        "清",
        "\u{10FFFF}",
        "\u{7f}",
        "1",
        "1.0",
        "01",
        "x'41'",
        "-- ",
        "/*",
        &long,
    ]
    .map(str::to_owned)
    .to_vec();
    let seed = 20_261_119_u64;
    let mut state = seed;
    for _ in 0..soak(2_000, 100_000) {
        let key: String = (0..1 + state % 12)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                char::from_u32(u32::try_from(state >> 43).unwrap() % 0x300).unwrap_or('x')
            })
            .collect();
        keys.push(key);
    }
    keys.sort();
    keys.dedup();
    let entries: Vec<_> = keys
        .iter()
        .map(|key| Entry::new(key, CacheValue::new(key.clone()), Expiry::Never))
        .collect();
    assert!(cache.set_many(&entries).await.unwrap().iter().all(Result::is_ok));
    assert_eq!(rows(&path), keys.len() as u64 + 1);
    for key in keys.iter().take(60) {
        assert_eq!(get(&cache, key).await.unwrap().as_ref(), Some(key));
    }
    let names: Vec<&str> = keys.iter().map(String::as_str).collect();
    for (key, found) in keys.iter().zip(cache.get_many(&names).await.unwrap()) {
        assert_eq!(found.unwrap().unwrap().decode::<String>().unwrap(), *key);
    }
    assert!(cache.remove_many(&names).await.unwrap().into_iter().all(|removed| removed.unwrap()));
    println!(
        "sqlite: {} hostile and random keys (seed {seed}): all round, all removed, canary {:?}",
        keys.len(),
        get(&cache, "canary").await.unwrap()
    );
    assert_eq!(rows(&path), 1);
    for error in [
        cache.get("").await.map(drop),
        set(&cache, "", "v").await,
        cache.get_many(&["a", ""]).await.map(drop),
        cache.remove_many(&["canary", ""]).await.map(drop),
    ] {
        assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidKey);
    }
    assert!(cache.contains("canary").await.unwrap());
}

#[tokio::test]
async fn batches_of_ten_thousand() {
    let cache = fresh();
    let keys: Vec<String> = (0..10_000).map(|n| format!("k{n}")).collect();
    let names: Vec<&str> = keys.iter().map(String::as_str).collect();
    let entries: Vec<_> = keys
        .iter()
        .map(|key| Entry::new(key, CacheValue::new(key.clone()), Expiry::Never))
        .collect();
    let began = Instant::now();
    assert!(cache.set_many(&entries).await.unwrap().iter().all(Result::is_ok));
    let stored = began.elapsed();
    let began = Instant::now();
    for (key, found) in keys.iter().zip(cache.get_many(&names).await.unwrap()) {
        assert_eq!(found.unwrap().unwrap().decode::<String>().unwrap(), *key);
    }
    let read = began.elapsed();
    let began = Instant::now();
    cache.clear("k1").await.unwrap();
    let cleared = began.elapsed();
    let left = cache
        .remove_many(&names)
        .await
        .unwrap()
        .into_iter()
        .filter(|removed| *removed.as_ref().unwrap())
        .count();
    println!(
        "sqlite: 10,000 keys: set_many {stored:?}, get_many {read:?}, clear of 1,111 {cleared:?}"
    );
    assert_eq!(left, 10_000 - 1_111);
}

#[tokio::test]
async fn expiry_means_the_same_however_long_it_is() {
    let cache = fresh();
    for (ttl, lives) in [(0, 0), (1, 1), (60, 60), (350, 350)] {
        let before = Instant::now();
        cache.set("k", CacheValue::new(1), Duration::from_millis(ttl).into()).await.unwrap();
        let (after, mut last_seen) = (Instant::now(), None);
        // Measures when the last call that found the key began, as a call may take its time.
        let gone = loop {
            let asked = after.elapsed();
            if !cache.contains("k").await.unwrap() {
                break before.elapsed();
            }
            last_seen = Some(asked);
            tokio::task::yield_now().await;
        };
        println!(
            "sqlite: {ttl} ms: last seen by a call begun after {last_seen:?}, gone after {gone:?}"
        );
        assert!(gone >= Duration::from_millis(lives), "{ttl} ms: {gone:?}");
        assert!(
            last_seen.unwrap_or_default() <= Duration::from_millis(lives + 20) + lateness(),
            "{ttl} ms: {last_seen:?}"
        );
    }
    let day = Duration::from_secs(86_400);
    for ttl in [30 * day, 30 * day + Duration::from_secs(1), 3_650 * day] {
        cache.set("k", CacheValue::new(1), ttl.into()).await.unwrap();
        let Some(Expiry::After(left)) = cache.expiry("k").await.unwrap() else {
            panic!("{ttl:?} is not for ever")
        };
        assert!(left <= ttl && left > ttl - Duration::from_secs(2), "{left:?} of {ttl:?}");
    }
    cache.set("k", CacheValue::new(1), Duration::MAX.into()).await.unwrap();
    assert_eq!(cache.expiry("k").await.unwrap(), Some(Expiry::Never));
}

#[tokio::test]
async fn neither_values_nor_long_keys_are_printed() {
    let path = fresh_path();
    let cache = on(&path).max_value_bytes(1_000).build().unwrap();
    let secret = "the value that no log may show";
    let key = "k".repeat(500);
    let mut printed = format!("{cache:?}");
    set(&cache, "n", secret).await.unwrap();
    let errors = [
        cache.incr("n", 1, Expiry::Never).await.map(drop),
        set(&cache, &key, &secret.repeat(100)).await,
        cache.get("n").await.and_then(|value| value.unwrap().decode::<Vec<u64>>().map(drop)),
    ];
    for error in errors {
        let error = error.unwrap_err();
        let mut cause: Option<&dyn std::error::Error> = Some(&error);
        while let Some(at) = cause {
            printed += &format!("\n{at} {at:?}");
            cause = at.source();
        }
    }
    python_says(
        "import sqlite3,sys; d=sqlite3.connect(sys.argv[1]); d.execute('CREATE TRIGGER t BEFORE \
         INSERT ON larder_cache BEGIN SELECT RAISE(ABORT, \"no\"); END'); d.commit()",
        &[path.to_str().unwrap()],
    );
    let error = set(&cache, "k", secret).await.unwrap_err();
    printed += &format!("\n{error} {error:?}");
    assert_eq!(error.kind(), ErrorKind::Backend);
    println!("{printed}");
    assert!(!printed.contains("no log may show") && !printed.contains(&"k".repeat(129)));
}
