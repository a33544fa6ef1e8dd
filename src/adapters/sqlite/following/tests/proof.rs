//! A near level that serves by proof only, while others write: nothing that it serves is older than
//! its bound.

use super::level::{Hears, Level, Told, now};
use super::{PATIENT, folder, near, on, python, vouched};
use crate::adapter::{AsyncCacheAdapter, SourceId};
use crate::adapters::sqlite::AsyncSqliteCache;
use crate::expiry::Expiry;
use crate::runtime::lock;
use crate::value::CacheValue;
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How old a served value may be, in microseconds.
const BOUND: u64 = 100_000;

const KEYS: u64 = 12;

/// The smallest near level that keeps the rules, and what it checks them by.
#[derive(Default)]
struct Small {
    state: Mutex<State>,
    hits: AtomicU64,
    kept: AtomicU64,
}

#[derive(Default)]
struct State {
    near: HashMap<String, (u64, SourceId)>,
    /// How often each key, and all keys, may have changed: the tokens of reads.
    changes: HashMap<String, u64>,
    all: u64,
    /// Until when the open source vouches.
    until: HashMap<u64, u64>,
    /// The versions that were written, with the time at which the write had returned.
    written: HashMap<String, Vec<(u64, u64)>>,
    /// What was vouched for although a later version had been written.
    wrong: Vec<String>,
}

impl State {
    fn token(&self, key: &str) -> u64 {
        self.all + self.changes.get(key).copied().unwrap_or(0)
    }

    /// The newest version whose write had returned at `time`.
    fn returned_by(&self, key: &str, time: u64) -> u64 {
        let writes = self.written.get(key).map_or(&[][..], Vec::as_slice);
        let returned = writes.iter().filter(|(_, returned)| *returned <= time);
        returned.map(|(version, _)| *version).max().unwrap_or(0)
    }

    /// Notes what is near under `keys` although its source has vouched for it with a question that
    /// was sent after a later write had returned.
    fn check<'k>(&mut self, keys: impl Iterator<Item = &'k String>) {
        let wrong: Vec<String> = keys
            .filter_map(|key| {
                let (version, source) = self.near.get(key)?;
                let proven = self.until.get(&source.life)?.saturating_sub(BOUND);
                let least = self.returned_by(key, proven);
                (*version < least).then(|| format!("{key}: {version} near, {least} written"))
            })
            .collect();
        self.wrong.extend(wrong);
    }
}

impl Hears for Small {
    fn told(&self, told: &Told) {
        let mut state = lock(&self.state);
        match told {
            Told::Key(key) => {
                *state.changes.entry(key.clone()).or_default() += 1;
                state.near.remove(key);
            }
            Told::Below(prefix) => {
                state.all += 1;
                state.near.retain(|key, _| !key.starts_with(prefix.as_str()));
            }
            // One at a time is open here.
            Told::Ended => state.until.clear(),
        }
    }

    fn confirmed(&self, source: SourceId, asked_at: u64) {
        let mut state = lock(&self.state);
        state.until.insert(source.life, asked_at + BOUND);
        let keys: Vec<String> = state.near.keys().cloned().collect();
        state.check(keys.iter());
    }
}

impl Small {
    /// A read of a key: near if proven, and else far.
    async fn read(&self, level: &Level, cache: &AsyncSqliteCache, key: &str) {
        let begun = now();
        let token = {
            let state = lock(&self.state);
            if let Some((version, source)) = state.near.get(key) {
                let until = state.until.get(&source.life).copied().unwrap_or(0);
                if until < begun + BOUND / 2 {
                    level.want();
                }
                if until > begun {
                    let least = state.returned_by(key, begun.saturating_sub(BOUND));
                    assert!(*version >= least, "{key}: {version} is near, {least} was written");
                    self.hits.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            }
            state.token(key)
        };
        let Some(found) = cache.get_near(key).await.unwrap() else { return };
        let Some(source) = found.source else { return };
        let mut state = lock(&self.state);
        if state.token(key) == token && state.until.contains_key(&source.life) {
            let version = found.value.decode().unwrap();
            state.near.insert(key.to_owned(), (version, source));
            state.check(std::iter::once(&key.to_owned()));
            self.kept.fetch_add(1, Ordering::Relaxed);
        } else {
            state.near.remove(key);
        }
    }

    /// Writes the next version of a key that no other task writes.
    async fn write(&self, cache: &AsyncSqliteCache, key: &str, version: u64) {
        cache.set(key, CacheValue::new(version), Expiry::Never).await.unwrap();
        lock(&self.state).written.entry(key.to_owned()).or_default().push((version, now()));
    }
}

/// What makes the log incomplete, again and again, in a process that is not larder's.
async fn disturb(path: &Path, stop: &AtomicBool) {
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        let sql = [
            "VACUUM",
            "DELETE FROM larder_changes",
            "UPDATE larder_cache SET expires_at = NULL",
            "DROP TRIGGER IF EXISTS larder_changes_update",
        ][round % 4];
        let path = path.to_owned();
        tokio::task::spawn_blocking(move || python(&path, sql)).await.unwrap();
        round += 1;
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_near_is_older_than_the_bound_while_others_write() {
    let (_folder, path) = folder();
    let small = Arc::new(Small::default());
    let level = Level::heard_by(Some(small.clone()));
    let cache = Arc::new(on(&path).build().unwrap());
    assert!(cache.follow(level.follower()));
    vouched(&cache).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..3 {
        let (small, stop) = (small.clone(), stop.clone());
        let other = on(&path).build().unwrap();
        tasks.spawn(async move {
            let mut version = 0;
            while !stop.load(Ordering::Relaxed) {
                version += 1;
                let key = format!("k{}", 3 * fastrand::u64(..KEYS / 3) + writer);
                small.write(&other, &key, version).await;
                tokio::time::sleep(Duration::from_millis(fastrand::u64(..20))).await;
            }
        });
    }
    for _ in 0..4 {
        let (small, level, cache) = (small.clone(), level.clone(), cache.clone());
        let stop = stop.clone();
        tasks.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                small.read(&level, &cache, &format!("k{}", fastrand::u64(..KEYS))).await;
                tokio::task::yield_now().await;
            }
        });
    }
    let (noisy, watched) = (path.clone(), stop.clone());
    tasks.spawn(async move { disturb(&noisy, &watched).await });
    let until = Instant::now() + PATIENT;
    let lasting = Instant::now() + Duration::from_secs(3);
    while (Instant::now() < lasting || small.hits.load(Ordering::Relaxed) < 2_000)
        && Instant::now() < until
    {
        // A task that has panicked ends the test now.
        if let Ok(Some(ended)) =
            tokio::time::timeout(Duration::from_millis(20), tasks.join_next()).await
        {
            ended.unwrap();
        }
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    let (hits, kept) = (small.hits.load(Ordering::Relaxed), small.kept.load(Ordering::Relaxed));
    assert!(hits >= 2_000 && kept > 50, "{hits} hits, {kept} kept");
    let wrong = std::mem::take(&mut lock(&small.state).wrong);
    assert!(wrong.is_empty(), "{} times: {wrong:?}", wrong.len());
    assert!(near(&cache, "first").await.value.decode::<String>().is_ok());
}
