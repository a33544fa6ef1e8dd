//! Servers behind a socket, and a file: larder beside the very drivers it is made of.

mod folder;
mod memcached;
mod near;
mod redis;
mod server;
mod sqlite;

use crate::figure::Unit;
use crate::line::{Contestant, Line};
use crate::machine::cpu_time;
use crate::run::Run;
use larder::async_cached;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

const KEYS: usize = 1_000;
const TTL: Duration = Duration::from_secs(60);
/// How long the tasks of a round go on.
const ROUND: Duration = Duration::from_millis(100);
const ROUNDS: usize = 11;
const TASKS: [f64; 7] = [1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0, 4_096.0];
/// Of the curves over the number of tasks.
const MANY_TASKS: &str = "Thousands of tasks, and what they wait for, are megabytes to go through between one answer and the next: beyond a \
                     thousand a call takes longer again, over the bare driver too where it keeps up with so many.";
const BATCHES: [f64; 5] = [1.0, 10.0, 100.0, 1_000.0, 10_000.0];
/// Of the curves over the size of a batch.
const BATCH: &str = "The driver alone hands over bytes; of a value the header and the checksums are read, and it is decoded by its type. Of \
                     10,000 keys 1,000 are there.";
/// No more entries than there are keys: later lines read each of them.
const SET_BATCHES: [f64; 4] = [1.0, 10.0, 100.0, 1_000.0];
/// Patience that no busy machine exhausts: what is measured is speed.
const PATIENCE: &str = "op_timeout=30s";

/// As most servers have them: two workers, as small services have.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("the operating system gives threads")
});

pub(crate) fn run(run: &mut Run) {
    redis::run(run);
    memcached::run(run);
    sqlite::run(run);
    near::run(run);
}

fn value() -> String {
    "x".repeat(100)
}

fn key(number: usize) -> String {
    format!("some/key/{number}")
}

/// Runs the same for every key, in a task.
fn for_each_key<F: Future<Output = ()> + Send + 'static>(
    work: impl Fn(usize) -> F + Send + 'static,
) {
    RUNTIME.block_on(async {
        let filling = RUNTIME.spawn(async move {
            for number in 0..KEYS {
                work(number).await;
            }
        });
        filling.await.expect("the keys are there");
    });
}

/// What the tasks of a round came to.
struct Done {
    calls: u64,
    elapsed: Duration,
    /// Of the whole process.
    cpu: Duration,
}

impl Done {
    fn per_second(&self) -> f64 {
        self.calls as f64 / self.elapsed.as_secs_f64()
    }

    fn cpu_micros(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.calls as f64
    }
}

/// Runs `tasks` tasks for a round, each of which calls for one key after another.
fn round<C, F>(tasks: usize, call: C) -> Done
where
    C: Fn(usize) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    RUNTIME.block_on(async {
        let (begun, cpu) = (Instant::now(), cpu_time());
        let mut callers = JoinSet::new();
        for task in 0..tasks {
            let (stop, done, call) = (stop.clone(), done.clone(), call.clone());
            callers.spawn(async move {
                let (mut number, mut calls) = (task * 7_919 % KEYS, 0);
                while !stop.load(Ordering::Relaxed) {
                    call(number).await;
                    number = (number + 1) % KEYS;
                    calls += 1;
                }
                done.fetch_add(calls, Ordering::Relaxed);
            });
        }
        tokio::time::sleep(ROUND).await;
        stop.store(true, Ordering::Relaxed);
        callers.join_all().await;
        Done {
            calls: done.load(Ordering::Relaxed),
            elapsed: begun.elapsed(),
            cpu: cpu_time() - cpu,
        }
    })
}

/// How many calls a second `tasks` tasks come to.
fn rate<C, F>(tasks: usize, call: C) -> f64
where
    C: Fn(usize) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    round(tasks, call).per_second()
}

/// larder's part of a curve over the size of a batch. Keys beyond those that there are, are
/// missing.
fn get_many(count: usize) -> Contestant<'static> {
    let keys: Vec<String> = (0..count).map(key).collect();
    let ours = async move || {
        async_cached()
            .get_many::<String, _>(&keys)
            .await
            .expect("get_many")
            .iter()
            .flatten()
            .count()
    };
    batch("larder, get_many", count, ours)
}

/// larder's part of a curve over the size of a batch that is written.
fn set_many(count: usize) -> Contestant<'static> {
    let keys: Vec<String> = (0..count).map(key).collect();
    batch("larder, set_many", count, async move || {
        let entries = keys.iter().map(|key| (key, value()));
        async_cached().ttl(TTL * 60).set_many(entries).await.expect("set_many");
        count
    })
}

/// The curves of a store over the size of a batch that is read, and of one that is written, beside
/// what its driver does.
fn batch_curves(run: &mut Run, store: &str, theirs: [&dyn Fn(usize) -> Contestant<'static>; 2]) {
    let [get, set] = batch_ids(store);
    let title = format!("{store}, keys a second in one get_many, as it grows");
    let line = Line::new(get, title, Unit::PerSecond).note(BATCH);
    run.curve(line, "keys", &BATCHES, |keys| {
        vec![get_many(keys as usize), theirs[0](keys as usize)]
    });
    let title = format!("{store}, entries a second in one set_many, as it grows");
    run.curve(Line::new(set, title, Unit::PerSecond), "entries", &SET_BATCHES, |entries| {
        vec![set_many(entries as usize), theirs[1](entries as usize)]
    });
}

fn batch_ids(store: &str) -> [String; 2] {
    ["batch", "set-batch"].map(|curve| format!("{store}/{curve}"))
}

/// How many keys a second: `call` asks for `count`, and says how many were there.
fn batch(
    name: &str,
    count: usize,
    mut call: impl AsyncFnMut() -> usize + 'static,
) -> Contestant<'static> {
    let calls = (20_000 / count).clamp(4, 200);
    let round = move || {
        let begun = Instant::now();
        for _ in 0..calls {
            assert_eq!(RUNTIME.block_on(call()), count.min(KEYS));
        }
        (calls * count) as f64 / begun.elapsed().as_secs_f64()
    };
    Contestant::round(name, round)
}

/// How many microseconds a call takes, one after another.
fn micros(mut call: impl FnMut()) -> f64 {
    const CALLS: u32 = 200;
    let begun = Instant::now();
    for _ in 0..CALLS {
        call();
    }
    begun.elapsed().as_secs_f64() * 1e6 / f64::from(CALLS)
}
