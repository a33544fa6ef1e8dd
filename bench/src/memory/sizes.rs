//! What an entry costs, and how that and a hit's time change as the cache grows.

use super::{Hour, TTL, ready};
use crate::figure::Unit;
use crate::goal::Goal;
use crate::line::{Contestant, Line};
use crate::run::Run;
use larder::{AsyncCacheWrapper, AsyncMemoryCache};
use std::time::Instant;

const MILLION: usize = 1_000_000;
const VALUE: usize = 64;

type Value = [u64; VALUE / 8];

pub(crate) fn run(run: &mut Run) {
    run.line(
        Line::new("memory/bytes", "bytes an entry beyond key and value, 1M entries", Unit::Bytes)
            .goal(Goal::at_most(100.0))
            .rounds(1)
            .note("Bytes asked of the allocator and not given back, less the key's text and the value's 64 bytes."),
        || sized(MILLION, bytes),
    );
    let points = [1e3, 1e4, 1e5, 1e6, 1e7];
    let points = if run.settings.quick { &points[..3] } else { &points[..] };
    run.curve(
        Line::new(
            "memory/bytes-by-size",
            "bytes an entry beyond key and value, as the cache grows",
            Unit::Bytes,
        )
        .rounds(1),
        "entries",
        points,
        |count| sized(count as usize, bytes),
    );
    run.curve(
        Line::new("memory/time-by-size", "a hit on a random key, as the cache grows", Unit::Nanos)
            .note("Beyond what the CPU's caches hold, a hit waits for memory: the table, the node, the key, and the value."),
        "entries",
        points,
        |count| sized(count as usize, |name, make, count| hits(name, make(), count)),
    );
}

/// A cache with so many entries.
trait Filled {
    fn get(&self, key: &str) -> bool;
}

type Make = fn(usize) -> Box<dyn Filled>;

fn sized<'a>(
    count: usize,
    contestant: impl Fn(&str, Box<dyn Fn() -> Box<dyn Filled>>, usize) -> Contestant<'a>,
) -> Vec<Contestant<'a>> {
    let all: [(&str, Make); 3] = [
        ("larder", larder),
        ("quick_cache + deadline", quick),
        ("moka::sync (per-entry expiry)", moka),
    ];
    // Three times ten million entries would not fit into most machines.
    let some = if count > MILLION { 2 } else { 3 };
    all.into_iter()
        .take(some)
        .map(|(name, make)| contestant(name, Box::new(move || make(count)), count))
        .collect()
}

fn key(at: usize) -> String {
    format!("some/key/{at}")
}

fn bytes<'a>(name: &str, make: Box<dyn Fn() -> Box<dyn Filled>>, count: usize) -> Contestant<'a> {
    let own: usize = (0..count).map(|at| key(at).len() + VALUE).sum();
    Contestant::round(name, move || {
        let mut filled = None;
        let counted = allocation_counter::measure(|| filled = Some(make()));
        drop(filled);
        (counted.bytes_current - own as i64) as f64 / count as f64
    })
}

fn hits<'a>(name: &str, filled: Box<dyn Filled>, count: usize) -> Contestant<'a> {
    let keys: Vec<String> = (0..(1 << 18)).map(|_| key(fastrand::usize(..count))).collect();
    let mut next = 0;
    Contestant::work(name, move || {
        next = (next + 1) % keys.len();
        filled.get(&keys[next])
    })
}

struct Larder(AsyncCacheWrapper);

fn larder(count: usize) -> Box<dyn Filled> {
    // A half more, for keys are not spread evenly over the shards.
    let adapter = AsyncMemoryCache::builder()
        .max_entries(count as u64 * 3 / 2 + 100)
        .max_bytes(1 << 40)
        .build();
    let cache = AsyncCacheWrapper::new(adapter).expect("memory");
    for at in 0..count {
        ready(cache.ttl(TTL).set(key(at), [at as u64; VALUE / 8])).expect("stored");
    }
    Box::new(Larder(cache))
}

impl Filled for Larder {
    fn get(&self, key: &str) -> bool {
        ready(self.0.get::<Value>(key)).is_ok_and(|found| found.is_some())
    }
}

struct Quick(quick_cache::sync::Cache<Box<str>, (Value, Instant)>);

fn quick(count: usize) -> Box<dyn Filled> {
    let cache = quick_cache::sync::Cache::new(count * 3 / 2 + 100);
    for at in 0..count {
        cache.insert(key(at).into(), ([at as u64; VALUE / 8], Instant::now() + TTL));
    }
    Box::new(Quick(cache))
}

impl Filled for Quick {
    fn get(&self, key: &str) -> bool {
        self.0.get(key).is_some_and(|(_, deadline)| deadline > Instant::now())
    }
}

struct Moka(moka::sync::Cache<String, Value>);

fn moka(count: usize) -> Box<dyn Filled> {
    let cache =
        moka::sync::Cache::builder().max_capacity(count as u64 * 2).expire_after(Hour).build();
    for at in 0..count {
        cache.insert(key(at), [at as u64; VALUE / 8]);
    }
    cache.run_pending_tasks();
    Box::new(Moka(cache))
}

impl Filled for Moka {
    fn get(&self, key: &str) -> bool {
        self.0.get(key).is_some()
    }
}
