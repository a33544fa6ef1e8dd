//! Random chaos over all four backends: `scripts/soak [minutes]`, half a minute without it.
//!
//! It has a process of its own, so that memory, descriptors and threads belong to no other test.
#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

use crate::remote::{Remote, Setup};
use crate::support::alone::{alone, resident};
use crate::support::noise::noise;
use crate::support::{Memcached, Proxy, Redis, eventually};
use crate::trials::rng;
use larder::{AsyncCacheWrapper, AsyncMemoryCache, AsyncSqliteCache, ErrorKind, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const MINUTES: &str = "LARDER_SOAK_MINUTES";
const SHORT: Duration = Duration::from_secs(20);
const KEYS: u64 = 500;
const TASKS: u64 = 3;

#[test]
fn chaos() {
    alone("soak::chaos", || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(8)
            .enable_all()
            .build()
            .unwrap()
            .block_on(soak());
    });
}

fn lasting() -> Duration {
    std::env::var(MINUTES)
        .ok()
        .and_then(|minutes| minutes.parse().ok())
        .map_or(SHORT, |minutes: f64| Duration::from_secs_f64(minutes * 60.0))
}

/// What belongs to a key: short for most, and large for some.
fn value_of(key: u64) -> String {
    let len = if key.is_multiple_of(97) { 150_000 } else { (key as usize * 37) % 900 };
    format!("{key}:{}", "v".repeat(len))
}

/// What happened, over all tasks.
#[derive(Default)]
struct Tally {
    calls: AtomicU64,
    dropped: AtomicU64,
    hits: AtomicU64,
    errors: Mutex<BTreeMap<String, u64>>,
}

impl Tally {
    /// An answer that may be an error, of a kind that an outage explains.
    fn take<T>(&self, backend: &str, answer: Result<T>) -> Option<T> {
        match answer {
            Ok(answer) => Some(answer),
            Err(error) => {
                let fair = matches!(
                    error.kind(),
                    ErrorKind::Unavailable
                        | ErrorKind::Timeout
                        | ErrorKind::Backend
                        | ErrorKind::Decode
                );
                assert!(fair, "{backend}: {error:?}");
                *self
                    .errors
                    .lock()
                    .unwrap()
                    .entry(format!("{backend} {:?}", error.kind()))
                    .or_default() += 1;
                None
            }
        }
    }
}

/// One caller: any verb, any key, and now and then it goes away in the middle.
async fn work(
    name: &'static str,
    cache: AsyncCacheWrapper,
    mut random: fastrand::Rng,
    stop: Arc<AtomicBool>,
    tally: Arc<Tally>,
) {
    while !stop.load(Ordering::Relaxed) {
        let number = random.u64(..KEYS);
        let patience = if random.u8(..10) == 0 {
            Duration::from_micros(random.u64(..1_500))
        } else {
            Duration::from_secs(600)
        };
        let verb = random.u8(..12);
        tally.calls.fetch_add(1, Ordering::Relaxed);
        if tokio::time::timeout(patience, call(name, &cache, number, verb, &tally)).await.is_err() {
            assert!(patience < Duration::from_secs(600), "{name}: a call never ended");
            tally.dropped.fetch_add(1, Ordering::Relaxed);
        }
        tokio::time::sleep(Duration::from_millis(random.u64(..4))).await;
    }
}

async fn call(name: &str, cache: &AsyncCacheWrapper, number: u64, verb: u8, tally: &Tally) {
    let key = format!("k{number}");
    let right = |found: Option<String>| {
        if let Some(found) = found {
            assert!(
                found == value_of(number),
                "{name}: another key's value under {key}: {:.40}",
                found
            );
            tally.hits.fetch_add(1, Ordering::Relaxed);
        }
    };
    match verb {
        0 | 1 => drop(tally.take(name, cache.set(&key, value_of(number)).await)),
        2 => drop(tally.take(name, cache.remove(&key).await)),
        3 => drop(tally.take(name, cache.touch(&key, Duration::from_secs(60)).await)),
        4 => drop(tally.take(name, cache.incr(format!("count{number}"), 1).await)),
        5 => {
            let added = cache.ttl(Duration::from_millis(300)).add(&key, value_of(number)).await;
            let _added = tally.take(name, added);
        }
        6 => right(tally.take(name, cache.take::<String>(&key).await).flatten()),
        7 => {
            let other = (number + 1) % KEYS;
            if let Some(found) =
                tally.take(name, cache.get_many::<String, _>([&key, &format!("k{other}")]).await)
            {
                assert!(
                    found.len() == 2
                        && found[1].as_ref().is_none_or(|found| *found == value_of(other)),
                    "{name}: a batch in disorder"
                );
                right(found.into_iter().next().flatten());
            }
        }
        // Whatever happens to the backend, the caller has a value.
        8 | 9 => right(Some(
            cache.get_or_set_async(&key, async move { value_of(number) }).await.unwrap(),
        )),
        _ => right(tally.take(name, cache.get::<String>(&key).await).flatten()),
    }
}

/// A server, the faulty way to it, and the cache behind both.
struct Place<S> {
    server: S,
    proxy: Proxy,
    cache: AsyncCacheWrapper,
}

impl<S: Remote> Place<S> {
    fn new() -> Self {
        let server = S::start();
        let proxy = Proxy::start(server.addr());
        let cache =
            AsyncCacheWrapper::new(S::adapter(&proxy.url(server.url()), Setup::new())).unwrap();
        Self { server, proxy, cache }
    }

    async fn disturb(&self, random: &mut fastrand::Rng) -> &'static str {
        let pause = Duration::from_millis(random.u64(50..1_200));
        match random.u8(..8) {
            0 => {
                tokio::task::block_in_place(|| self.server.kill());
                tokio::time::sleep(pause).await;
                tokio::task::block_in_place(|| self.server.restart());
                "killed"
            }
            1 => {
                tokio::task::block_in_place(|| self.server.freeze());
                tokio::time::sleep(pause).await;
                tokio::task::block_in_place(|| self.server.thaw());
                "frozen"
            }
            2 => {
                self.proxy.hold();
                tokio::time::sleep(pause).await;
                self.proxy.release();
                "held"
            }
            3 => {
                tokio::task::block_in_place(|| self.proxy.drop_all());
                "cut"
            }
            4 => {
                self.proxy.slice(true);
                tokio::time::sleep(pause).await;
                self.proxy.slice(false);
                "sliced"
            }
            5 => {
                self.proxy.delay(
                    Duration::from_millis(random.u64(..40)),
                    Duration::from_millis(random.u64(..40)),
                );
                tokio::time::sleep(pause).await;
                self.proxy.delay(Duration::ZERO, Duration::ZERO);
                "slow"
            }
            6 => {
                self.proxy.duplicate_once();
                "doubled"
            }
            _ => {
                let _either = self.cache.close().await;
                "closed"
            }
        }
    }
}

async fn disturb_file(
    cache: &AsyncCacheWrapper,
    path: &Path,
    random: &mut fastrand::Rng,
) -> &'static str {
    match random.u8(..4) {
        0 => {
            let _either = fs::remove_file(path);
            "file deleted"
        }
        // A file that larder has not opened yet is another program's, and larder keeps off it: so
        // the database is there first, and then a call, which waits for it to be opened.
        1 if is_database(path) && cache.set("opened", "now").await.is_ok() => {
            let _either = fs::write(path, "this is no database, and never was one");
            "file overwritten"
        }
        1 => "file left",
        2 => {
            let _either = cache.close().await;
            "file closed"
        }
        _ => {
            let _either = cache.clear().await;
            "file cleared"
        }
    }
}

fn is_database(path: &Path) -> bool {
    fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"SQLite format 3\0"))
}

#[derive(Clone, Copy, Debug)]
struct Usage {
    kilobytes: u64,
    descriptors: usize,
    threads: usize,
}

fn usage() -> Usage {
    let count = |of: &str| fs::read_dir(format!("/proc/self/{of}")).unwrap().count();
    Usage { kilobytes: resident() / 1_024, descriptors: count("fd"), threads: count("task") }
}

async fn soak() {
    let (begun, lasting) = (Instant::now(), lasting());
    let mut random = rng("soak");
    let folder = tempfile::tempdir().unwrap();
    let file: PathBuf = folder.path().join("soak.db");
    let (redis, memcached) = (Place::<Redis>::new(), Place::<Memcached>::new());
    let memory = AsyncCacheWrapper::new(AsyncMemoryCache::new()).unwrap();
    let sqlite =
        AsyncCacheWrapper::new(AsyncSqliteCache::builder().path(&file).build().unwrap()).unwrap();
    // And one whose adapter is exchanged all the time, among those of the others.
    let exchanged = AsyncCacheWrapper::new("memory").unwrap();
    let caches = [
        ("memory", memory.clone()),
        ("redis", redis.cache.clone()),
        ("memcached", memcached.cache.clone()),
        ("sqlite", sqlite.clone()),
        ("exchanged", exchanged.clone()),
    ];
    let tally = Arc::new(Tally::default());
    let mut faults: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut first, mut last, mut rounds) = (None, usage(), 0u32);
    while rounds < 3 || begun.elapsed() < lasting {
        let stop = Arc::new(AtomicBool::new(false));
        let workers: Vec<_> = caches
            .iter()
            .flat_map(|(name, cache)| (0..TASKS).map(move |_| (*name, cache.clone())))
            .map(|(name, cache)| {
                tokio::spawn(work(name, cache, random.fork(), stop.clone(), tally.clone()))
            })
            .collect();
        let round = Instant::now();
        while round.elapsed() < Duration::from_secs(4) {
            let fault = match random.u8(..8) {
                0..3 => redis.disturb(&mut random).await,
                3..6 => memcached.disturb(&mut random).await,
                6 => disturb_file(&sqlite, &file, &mut random).await,
                _ => {
                    let from = &caches[random.usize(..4)].1;
                    exchanged.set_adapter(from.adapter().unwrap()).unwrap();
                    "exchanged"
                }
            };
            *faults.entry(fault).or_default() += 1;
            tokio::time::sleep(Duration::from_millis(random.u64(..200))).await;
        }
        stop.store(true, Ordering::Relaxed);
        for worker in workers {
            worker.await.expect("no panic and no wrong value");
        }
        let healing = Instant::now();
        for (name, cache) in &caches {
            eventually(
                &format!("{name} is well again"),
                Duration::from_secs(5) + noise(),
                || async {
                    let key = format!("k{}", KEYS + 1);
                    cache.set(&key, "well").await.is_ok()
                        && cache
                            .get::<String>(&key)
                            .await
                            .is_ok_and(|found| found.as_deref() == Some("well"))
                },
            )
            .await;
        }
        // What a fault has left behind has until now to go away.
        tokio::time::sleep(Duration::from_millis(500)).await;
        last = usage();
        rounds += 1;
        // The first rounds fill caches, pools and the allocator.
        if rounds == 2 {
            first = Some((Instant::now(), last));
        }
        println!(
            "soak, round {rounds}: {} calls, {} hits, {} dropped midway; well after {:?}; {last:?}",
            tally.calls.load(Ordering::Relaxed),
            tally.hits.load(Ordering::Relaxed),
            tally.dropped.load(Ordering::Relaxed),
            healing.elapsed()
        );
    }
    let (since, first) = first.unwrap();
    // A thread of tokio's pool that has nothing to do ends after ten seconds; what leaks never does.
    eventually("threads and descriptors are as few as before", Duration::from_secs(30), || {
        last = usage();
        let is_few =
            last.descriptors <= first.descriptors + 10 && last.threads <= first.threads + 2;
        std::future::ready(is_few)
    })
    .await;
    let hours = since.elapsed().as_secs_f64() / 3600.0;
    let growth = last.kilobytes as f64 - first.kilobytes as f64;
    println!("soak: faults {faults:?}");
    println!("soak: errors {:?}", tally.errors.lock().unwrap());
    println!(
        "soak: {:?}, {} calls, 0 wrong values, 0 panics; memory {growth:+} kB in {:?}, descriptors {} -> {}, threads {} -> {}",
        begun.elapsed(),
        tally.calls.load(Ordering::Relaxed),
        since.elapsed(),
        first.descriptors,
        last.descriptors,
        first.threads,
        last.threads
    );
    // In minutes, the allocator's pages outweigh any leak that an hour would show: the slope counts
    // in hours.
    let allowed = 32.0 * 1024.0 + 1024.0 * hours;
    assert!(growth <= allowed, "{growth} kB");
}
