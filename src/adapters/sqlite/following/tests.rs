//! The log of changed keys on real files, told to a near level of the tests' own.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

mod level;
mod others;
mod proof;

use super::Stream;
use crate::adapter::{AsyncCacheAdapter, ClaimedEntry, Entry, NearEntry};
use crate::adapters::sqlite::{AsyncSqliteCache, SqliteBuilder};
use crate::expiry::Expiry;
use crate::value::CacheValue;
use level::{Level, Told};
use others::{log_length, python};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The patience of tests, for a machine that runs all other tests at the same time.
const PATIENT: Duration = Duration::from_secs(60);

fn on(path: &Path) -> SqliteBuilder {
    AsyncSqliteCache::builder().path(path).op_timeout(PATIENT)
}

fn folder() -> (TempDir, PathBuf) {
    let folder = TempDir::with_prefix("larder-follow-").unwrap();
    let path = folder.path().join("cache.db");
    (folder, path)
}

async fn set(cache: &AsyncSqliteCache, key: &str, value: &str) {
    cache.set(key, CacheValue::new(value.to_owned()), Expiry::Never).await.unwrap();
}

async fn near(cache: &AsyncSqliteCache, key: &str) -> NearEntry {
    cache.get_near(key).await.unwrap().unwrap_or_else(|| panic!("{key} is there"))
}

/// Waits for what is sure to come.
async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + PATIENT;
    while !is_so().await {
        assert!(Instant::now() < until, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A cache with a near level that a source vouches to.
async fn followed(cache: &AsyncSqliteCache) -> Arc<Level> {
    let level = Level::in_front_of(cache);
    set(cache, "first", "v").await;
    vouched(cache).await;
    level
}

/// Reads until a source vouches for it.
async fn vouched(cache: &AsyncSqliteCache) {
    set(cache, "first", "v").await;
    eventually("a source vouches", async || near(cache, "first").await.source.is_some()).await;
}

/// Checks that a change that has been made is told before the next proof.
async fn is_told(level: &Level, key: &str, what: &str) {
    let told = level.until_proven().await;
    let is_meant = |told: &Told| match told {
        Told::Key(told) => told == key,
        Told::Below(prefix) => key.starts_with(prefix.as_str()),
        Told::Ended => false,
    };
    assert!(told.iter().any(is_meant), "{what}: {told:?}");
}

#[tokio::test]
async fn each_verb_of_another_adapter_is_told_before_the_next_proof() {
    let (_folder, path) = folder();
    let [cache, other] = [(); 2].map(|()| on(&path).prefix("p:").build().unwrap());
    let level = followed(&cache).await;
    let value = || CacheValue::new("new".to_owned());
    let minute = Expiry::After(Duration::from_secs(60));
    for verb in [
        "set",
        "remove",
        "update_timeout",
        "clear",
        "add",
        "replace",
        "incr",
        "take",
        "touch",
        "set_many",
        "remove_many",
        "set_claimed",
        "set_claimed_many",
        "set for no time",
    ] {
        let key = format!("k of {verb}");
        cache.set(&key, CacheValue::new(1_i64), minute).await.unwrap();
        if verb == "add" {
            cache.remove(&key).await.unwrap();
        }
        level.until_proven().await;
        let entry = Entry::new(&key, value(), minute);
        match verb {
            "set" => other.set(&key, value(), minute).await.unwrap(),
            "set for no time" => {
                other.set(&key, value(), Expiry::After(Duration::ZERO)).await.unwrap();
            }
            "remove" => assert!(other.remove(&key).await.unwrap()),
            "update_timeout" => drop(other.update_timeout(&key, minute).await.unwrap()),
            "clear" => other.clear(&key).await.unwrap(),
            "add" => assert!(other.add(&key, value(), minute).await.unwrap()),
            "replace" => assert!(other.replace(&key, value(), minute).await.unwrap()),
            "incr" => assert_eq!(other.incr(&key, 1, minute).await.unwrap(), 2),
            "take" => assert!(other.take(&key).await.unwrap().is_some()),
            "touch" => assert!(other.touch(&key, minute).await.unwrap()),
            "set_many" => other.set_many(&[entry]).await.unwrap().remove(0).unwrap(),
            "remove_many" => {
                assert!(other.remove_many(&[&key]).await.unwrap().remove(0).unwrap());
            }
            _ => {
                let claim = other.claim(&key, None).await.unwrap().unwrap();
                let stored = if verb == "set_claimed" {
                    other.set_claimed(&key, value(), minute, &claim).await
                } else {
                    let claimed = ClaimedEntry::new(entry, &claim);
                    other.set_claimed_many(&[claimed]).await.unwrap().remove(0)
                };
                assert!(stored.unwrap());
            }
        }
        is_told(&level, &key, verb).await;
    }
}

#[tokio::test]
async fn housekeeping_and_claims_are_not_logged() {
    let (_folder, path) = folder();
    let cache = on(&path).build().unwrap();
    let level = followed(&cache).await;
    let moment = Expiry::After(Duration::from_millis(1));
    for n in 0..50 {
        cache.set(&format!("over {n}"), CacheValue::new(n), moment).await.unwrap();
    }
    eventually("it expires", async || !cache.contains("over 49").await.unwrap()).await;
    level.until_proven().await;
    let before = log_length(&path);
    // A removal of the row, and a placeholder in its place.
    let expired = cache.claim("over 0", None).await.unwrap().unwrap();
    let missing = cache.claim("missing", None).await.unwrap().unwrap();
    let shared = cache.claim("missing", None).await.unwrap().unwrap();
    let leased = cache.claim("leased", Some(Duration::from_secs(9))).await.unwrap().unwrap();
    for (key, claim) in
        [("over 0", expired), ("missing", missing), ("missing", shared), ("leased", leased)]
    {
        cache.release(key, &claim).await.unwrap();
    }
    // The background sweep may have removed some before.
    cache.purge_expired().await.unwrap();
    assert_eq!(log_length(&path), before);
    let told = level.until_proven().await;
    assert!(told.is_empty(), "{told:?}");
}

#[tokio::test]
async fn nothing_is_read_from_the_log_before_the_near_level_wants_it() {
    let (_folder, path) = folder();
    let [cache, other] = [(); 2].map(|()| on(&path).build().unwrap());
    let level = followed(&cache).await;
    let proofs = level.proofs();
    for n in 0..200 {
        set(&other, &format!("k{n}"), "v").await;
        near(&cache, &format!("k{n}")).await;
    }
    assert_eq!(level.proofs(), proofs);
    let told = level.until_proven().await;
    assert!((0..200).all(|n| told.contains(&Told::Key(format!("k{n}")))), "{told:?}");
}

#[tokio::test]
async fn a_log_that_was_overrun_ends_the_source() {
    let (_folder, path) = folder();
    let [cache, other] = [(); 2].map(|()| on(&path).build().unwrap());
    let level = followed(&cache).await;
    let entries: Vec<String> = (0..5_000).map(|n| format!("k{n}")).collect();
    let entries: Vec<Entry<'_>> =
        entries.iter().map(|key| Entry::new(key, CacheValue::new(1), Expiry::Never)).collect();
    other.set_many(&entries).await.unwrap();
    let length = log_length(&path).unwrap();
    assert!((4_096..=4_096 + 64).contains(&length), "{length}");
    assert_eq!(level.until_proven().await, [Told::Ended]);
    // The next source begins where the log is now.
    vouched(&cache).await;
    set(&other, "k1", "new").await;
    is_told(&level, "k1", "after the overrun").await;
    // All that fits into the log is told, key by key.
    for entries in entries[..4_000].chunks(500) {
        other.set_many(entries).await.unwrap();
    }
    let told = level.until_proven().await;
    assert!(told.contains(&Told::Key("k0".into())) && !told.contains(&Told::Ended), "{told:?}");
}

#[tokio::test]
async fn long_keys_are_told_by_their_beginnings() {
    let (_folder, path) = folder();
    let [cache, other] = [(); 2].map(|()| on(&path).prefix("p:").build().unwrap());
    let level = followed(&cache).await;
    let long = "清é\0".repeat(1_000);
    set(&other, &long, "v").await;
    assert_eq!(near(&cache, &long).await.value.decode::<String>().unwrap(), "v");
    is_told(&level, &long, "a long key").await;
    level.until_proven().await;
    for n in 0..100 {
        set(&other, &format!("{n}{long}"), "v").await;
    }
    assert_eq!(level.until_proven().await, [Told::Below(String::new())]);
}

#[tokio::test]
async fn a_file_in_memory_is_followed_as_well() {
    let cache = AsyncSqliteCache::in_memory();
    let level = followed(&cache).await;
    set(&cache, "k", "v").await;
    is_told(&level, "k", "in memory").await;
}

#[tokio::test]
async fn a_clone_follows_for_nobody_and_a_second_near_level_takes_the_place_of_the_first() {
    let (_folder, path) = folder();
    let cache = on(&path).build().unwrap();
    let first = followed(&cache).await;
    let clone = cache.clone();
    assert!(near(&clone, "first").await.source.is_none());
    let second = followed(&cache).await;
    eventually("the first source ends", async || first.open() == 0).await;
    set(&clone, "k", "v").await;
    is_told(&second, "k", "by a clone").await;
    assert!(near(&clone, "first").await.source.is_none());
}

#[tokio::test]
async fn the_source_ends_with_the_adapter_and_with_its_connections() {
    let (_folder, path) = folder();
    let cache = on(&path).build().unwrap();
    let level = followed(&cache).await;
    cache.close().await.unwrap();
    assert_eq!(level.open(), 0);
    assert!(!path.with_extension("db-wal").exists(), "nobody has the file open");
    vouched(&cache).await;
    assert_eq!(level.open(), 1);
    drop(cache);
    eventually("the source ends", async || level.open() == 0).await;
    eventually("the file is closed", async || !path.with_extension("db-wal").exists()).await;
}

#[tokio::test]
async fn a_near_level_that_is_gone_is_polled_for_no_more() {
    let (_folder, path) = folder();
    let cache = on(&path).build().unwrap();
    let level = followed(&cache).await;
    let watch = Arc::downgrade(&level);
    drop(level);
    // Neither the task nor the adapter keeps it.
    assert!(watch.upgrade().is_none());
    // A second one is followed all the same.
    let level = followed(&cache).await;
    set(&cache, "k", "v").await;
    is_told(&level, "k", "to the second").await;
}

#[tokio::test]
async fn a_small_file_is_not_followed() {
    let (_folder, path) = folder();
    let cache = on(&path).max_bytes(1 << 20).build().unwrap();
    set(&cache, "k", "v").await;
    let level = Level::alone();
    assert!(Stream::open(cache.engine.clone(), &level.follower()).await.is_err());
    assert_eq!((level.open(), log_length(&path)), (0, None), "no log is made");
}
