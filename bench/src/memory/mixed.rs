//! Reads and writes together, on two workers with 64 tasks, in a cache that holds a tenth of the
//! keys.

use super::{Hour, TTL, Zipf, keys};
use crate::figure::Unit;
use crate::goal::Goal;
use crate::line::{Contestant, Line};
use crate::machine::cpu_time;
use crate::run::Run;
use larder::{AsyncCacheWrapper, AsyncMemoryCache};
use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

const KEYS: usize = 100_000;
const CAPACITY: usize = KEYS / 10;
const TASKS: usize = 64;
const EACH: usize = 8_000;

pub(crate) fn run(run: &mut Run) {
    if !run.wants("memory/mixed-cpu") && !run.wants("memory/mixed-hits") {
        return;
    }
    let hits: [Rc<Cell<f64>>; 3] = Default::default();
    let note = "95 % reads, a read that misses writes; 5 % writes; Zipf 0.99 over 100k keys; 2 workers, 64 tasks. CPU time of the whole process.";
    run.line(
        Line::new(
            "memory/mixed-cpu",
            "memory 95/5, per-entry expiry, capacity 10 % of the keys",
            Unit::Nanos,
        )
        .goal(Goal::at_most_times(1.25, "quick_cache + deadline"))
        .rounds(9)
        .note(note),
        || contestants(&hits),
    );
    run.line(
        Line::new("memory/mixed-hits", "hit ratio of memory 95/5", Unit::Percent)
            .goal(Goal::at_least(79.9))
            .rounds(3)
            .note(note),
        || {
            let measured = contestants(&hits);
            measured
                .into_iter()
                .zip(&hits)
                .map(|(contestant, hits)| {
                    let (mut task, hits) = (contestant.task, hits.clone());
                    Contestant::round(contestant.name, move || {
                        if let crate::line::Task::Round(round) = &mut task {
                            round();
                        }
                        hits.get()
                    })
                })
                .collect()
        },
    );
}

/// Reads `key`, or writes it: whether it was there.
trait Cache: Clone + Send + 'static {
    fn read(&self, key: &str) -> impl Future<Output = bool> + Send;
    fn write(&self, key: &str) -> impl Future<Output = ()> + Send;
}

#[derive(Clone)]
struct Larder(AsyncCacheWrapper);

impl Cache for Larder {
    async fn read(&self, key: &str) -> bool {
        self.0.get::<Arc<u64>>(key).await.expect("an answer").is_some()
    }

    async fn write(&self, key: &str) {
        self.0.ttl(TTL).set(key, Arc::new(1u64)).await.expect("stored");
    }
}

type Kept = (Arc<u64>, Instant);

#[derive(Clone)]
struct Quick(Arc<quick_cache::sync::Cache<String, Kept>>);

impl Cache for Quick {
    async fn read(&self, key: &str) -> bool {
        self.0.get(key).is_some_and(|(_, deadline)| deadline > Instant::now())
    }

    async fn write(&self, key: &str) {
        self.0.insert(key.to_owned(), (Arc::new(1), Instant::now() + TTL));
    }
}

#[derive(Clone)]
struct Moka(moka::future::Cache<String, Arc<u64>>);

impl Cache for Moka {
    async fn read(&self, key: &str) -> bool {
        self.0.get(key).await.is_some()
    }

    async fn write(&self, key: &str) {
        self.0.insert(key.to_owned(), Arc::new(1)).await;
    }
}

fn contestants<'a>(hits: &[Rc<Cell<f64>>; 3]) -> Vec<Contestant<'a>> {
    let zipf = Zipf::new(KEYS, 0.99);
    let keys: Arc<Vec<String>> = Arc::new(keys(KEYS));
    let orders: Arc<Vec<Vec<u32>>> =
        Arc::new((0..TASKS).map(|_| (0..EACH).map(|_| zipf.next() as u32).collect()).collect());
    let larder =
        AsyncCacheWrapper::new(AsyncMemoryCache::builder().max_entries(CAPACITY as u64).build())
            .expect("memory");
    let moka =
        moka::future::Cache::builder().max_capacity(CAPACITY as u64).expire_after(Hour).build();
    let [a, b, c] = hits;
    vec![
        mix("larder", Larder(larder), &keys, &orders, a),
        mix(
            "quick_cache + deadline",
            Quick(Arc::new(quick_cache::sync::Cache::new(CAPACITY))),
            &keys,
            &orders,
            b,
        ),
        mix("moka::future (per-entry expiry)", Moka(moka), &keys, &orders, c),
    ]
}

fn mix<'a>(
    name: &str,
    cache: impl Cache,
    keys: &Arc<Vec<String>>,
    orders: &Arc<Vec<Vec<u32>>>,
    hits: &Rc<Cell<f64>>,
) -> Contestant<'a> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let (keys, orders, hits) = (keys.clone(), orders.clone(), hits.clone());
    let round = move || {
        let begun = cpu_time();
        let (found, asked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let task = |at: usize| {
            let (cache, keys, orders, found, asked) =
                (cache.clone(), keys.clone(), orders.clone(), found.clone(), asked.clone());
            async move {
                let (mut hits, mut reads) = (0, 0);
                for (turn, key) in orders[at].iter().enumerate() {
                    let key = &keys[*key as usize];
                    if turn % 20 == 0 {
                        cache.write(key).await;
                        continue;
                    }
                    reads += 1;
                    if cache.read(key).await {
                        hits += 1;
                    } else {
                        cache.write(key).await;
                    }
                    if turn % 64 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
                found.fetch_add(hits, Ordering::Relaxed);
                asked.fetch_add(reads, Ordering::Relaxed);
            }
        };
        runtime.block_on(async {
            let tasks: Vec<_> = (0..TASKS).map(|at| tokio::spawn(task(at))).collect();
            for task in tasks {
                task.await.expect("done");
            }
        });
        hits.set(
            100.0 * found.load(Ordering::Relaxed) as f64 / asked.load(Ordering::Relaxed) as f64,
        );
        (cpu_time() - begun).as_nanos() as f64 / (TASKS * EACH) as f64
    };
    // The first round fills the cache.
    round();
    Contestant::round(name, round)
}
