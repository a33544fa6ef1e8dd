//! Large values beside 256 tasks that read small ones: how long the small reads take, and how many
//! large calls there are.

use super::{Filled, RAW};
use crate::figure::Unit;
use crate::goal::Goal;
use crate::line::{Contestant, Line};
use crate::remote::{KEYS, RUNTIME, TTL, key};
use crate::run::Run;
use bytes::Bytes;
use larder::async_cached;
use redis::aio::MultiplexedConnection;
use redis::cmd;
use std::future::Future;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const SMALL_TASKS: usize = 256;
const LARGE: &str = "large";
const ROUND: Duration = Duration::from_millis(500);
const ROUNDS: usize = 7;
const SIZES: [(&str, &str, usize); 2] = [("1m", "1 MiB", 1 << 20), ("16m", "16 MiB", 16 << 20)];
const NOTE: &str = "256 tasks read 100 bytes each, while one task writes and reads the large value in turn, on one connection.";

pub(super) fn run(run: &mut Run) {
    let id = |what: &str, size: &str| format!("redis/{what}-{size}");
    let mut ids = SIZES.iter().flat_map(|(size, ..)| [id("large", size), id("beside", size)]);
    if !ids.any(|id| run.wants(&id)) {
        return;
    }
    let Some(filled) = Filled::plain() else { return };
    for (name, size, bytes) in SIZES {
        let title = format!("redis GET 100 B beside values of {size}, 256 tasks, p99");
        let line = Line::new(id("beside", name), title, Unit::Millis)
            .goal(Goal::at_most(5.0))
            .rounds(ROUNDS)
            .note(NOTE);
        run.line(line, || contestants(&filled, bytes, |beside| beside.p99_millis()));
        let title = format!("redis SET and GET of {size} beside 256 small readers");
        let line = Line::new(id("large", name), title, Unit::PerSecond)
            .goal(Goal::at_least_times(0.9, RAW))
            .rounds(ROUNDS)
            .note(NOTE);
        run.line(line, || contestants(&filled, bytes, Beside::large_per_second));
    }
}

/// What both kinds of task came to in a round.
struct Beside {
    large: usize,
    elapsed: Duration,
    small: Vec<Duration>,
}

impl Beside {
    fn large_per_second(self) -> f64 {
        self.large as f64 / self.elapsed.as_secs_f64()
    }

    fn p99_millis(mut self) -> f64 {
        let at = self.small.len() * 99 / 100;
        self.small.select_nth_unstable(at).1.as_secs_f64() * 1e3
    }
}

fn contestants(
    filled: &Filled,
    bytes: usize,
    figure: fn(Beside) -> f64,
) -> Vec<Contestant<'static>> {
    let value = Bytes::from(vec![b'x'; bytes]);
    let raw = filled.raw.clone();
    let theirs = value.clone();
    vec![
        Contestant::round("larder, async_cached()", move || figure(through_larder(&value))),
        Contestant::round(RAW, move || figure(through_the_driver(&raw, &theirs))),
    ]
}

fn through_larder(value: &Bytes) -> Beside {
    let value = value.clone();
    beside(
        |number| async move {
            let found: Option<String> = async_cached().get(key(number)).await.expect("get");
            black_box(found.expect("it is there"));
        },
        move || {
            let value = value.clone();
            async move {
                async_cached().ttl(TTL).set(LARGE, value.clone()).await.expect("set");
                let found: Option<Bytes> = async_cached().get(LARGE).await.expect("get");
                assert_eq!(found.map(|found| found.len()), Some(value.len()));
            }
        },
    )
}

fn through_the_driver(raw: &MultiplexedConnection, value: &Bytes) -> Beside {
    let (small, large, value) = (raw.clone(), raw.clone(), value.clone());
    beside(
        move |number| {
            let mut raw = small.clone();
            async move {
                let found: Option<String> =
                    cmd("GET").arg(key(number)).query_async(&mut raw).await.expect("get");
                black_box(found.expect("it is there"));
            }
        },
        move || {
            let (mut raw, value) = (large.clone(), value.clone());
            async move {
                let millis = TTL.as_millis() as u64;
                cmd("SET")
                    .arg(LARGE)
                    .arg(&*value)
                    .arg("PX")
                    .arg(millis)
                    .exec_async(&mut raw)
                    .await
                    .expect("set");
                let found: Option<Vec<u8>> =
                    cmd("GET").arg(LARGE).query_async(&mut raw).await.expect("get");
                assert_eq!(found.map(|found| found.len()), Some(value.len()));
            }
        },
    )
}

/// A round in which `large` writes and reads, and `small` reads for one key after another.
fn beside<S, L>(
    small: impl Fn(usize) -> S + Clone + Send + 'static,
    large: impl Fn() -> L + Send + 'static,
) -> Beside
where
    S: Future<Output = ()> + Send + 'static,
    L: Future<Output = ()> + Send + 'static,
{
    let stop = Arc::new(AtomicBool::new(false));
    RUNTIME.block_on(async {
        let begun = Instant::now();
        let mut readers = JoinSet::new();
        for task in 0..SMALL_TASKS {
            let (stop, small) = (stop.clone(), small.clone());
            readers.spawn(async move {
                let (mut number, mut took) = (task * 7_919 % KEYS, Vec::new());
                while !stop.load(Ordering::Relaxed) {
                    let asked = Instant::now();
                    small(number).await;
                    took.push(asked.elapsed());
                    number = (number + 1) % KEYS;
                }
                took
            });
        }
        let writer = tokio::spawn(async move {
            let mut calls = 0;
            while begun.elapsed() < ROUND || calls == 0 {
                large().await;
                calls += 2;
            }
            (calls, begun.elapsed())
        });
        let (large, elapsed) = writer.await.expect("every large call is answered");
        stop.store(true, Ordering::Relaxed);
        let small = readers.join_all().await.into_iter().flatten().collect();
        Beside { large, elapsed, small }
    })
}
