//! Single flight under random schedules. One thread and a paused clock, so that a seed is a
//! schedule: who takes how many steps before what, how many the store takes for it, and who is
//! dropped after how many.

use crate::trials::{rng, trials};
use futures_util::future::select;
use larder::{AsyncCacheAdapter, AsyncCacheWrapper, CacheValue, ErrorKind, EventKind, Expiry};
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::Poll;
use std::time::Duration;
use tokio::task::JoinSet;

const KEYS: [&str; 2] = ["a", "b"];

/// Yields to the tasks that are ready, that many times.
fn steps(mut count: u8) -> impl Future<Output = ()> {
    poll_fn(move |context| {
        if count == 0 {
            return Poll::Ready(());
        }
        count -= 1;
        context.waker().wake_by_ref();
        Poll::Pending
    })
}

/// A store that takes a few steps before it does what it is emitted, and a few after.
struct Stepping {
    entries: Mutex<HashMap<String, CacheValue>>,
    random: Mutex<fastrand::Rng>,
}

impl Stepping {
    fn adapter(random: fastrand::Rng) -> Arc<dyn AsyncCacheAdapter> {
        Arc::new(Self { entries: Mutex::default(), random: Mutex::new(random) })
    }

    async fn around<R>(
        &self,
        call: impl FnOnce(&mut HashMap<String, CacheValue>) -> R,
    ) -> larder::Result<R> {
        let (before, after) = {
            let mut random = self.random.lock().unwrap();
            (random.u8(..3), random.u8(..3))
        };
        steps(before).await;
        let answer = call(&mut self.entries.lock().unwrap());
        steps(after).await;
        Ok(answer)
    }
}

#[async_trait::async_trait]
impl AsyncCacheAdapter for Stepping {
    async fn get(&self, key: &str) -> larder::Result<Option<CacheValue>> {
        self.around(|entries| entries.get(key).cloned()).await
    }

    async fn set(&self, key: &str, value: CacheValue, _: Expiry) -> larder::Result<()> {
        self.around(|entries| drop(entries.insert(key.to_owned(), value))).await
    }

    async fn remove(&self, key: &str) -> larder::Result<bool> {
        self.around(|entries| entries.remove(key).is_some()).await
    }

    async fn update_timeout(&self, key: &str, _: Expiry) -> larder::Result<Option<CacheValue>> {
        self.get(key).await
    }

    async fn clear(&self, prefix: &str) -> larder::Result<()> {
        self.around(|entries| entries.retain(|key, _| !key.starts_with(prefix))).await
    }
}

/// What happens in a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weather {
    /// Callers come and go; loaders succeed, fail and panic.
    Calm,
    /// And the keys are written, removed and cleared, and the adapter exchanged.
    Busy,
    /// Callers come and go; loaders ask for their own key and for each other's.
    Tangled,
}

/// One key's source.
#[derive(Default)]
struct Source {
    /// What the value is now; a write makes it one more.
    version: AtomicU64,
    /// The newest version whose write is over.
    written: AtomicU64,
    running: AtomicU64,
    succeeded: AtomicU64,
    failed: AtomicU64,
}

/// What was emitted in a schedule. By an observer: the counters' own snapshot is too dear for so
/// many schedules.
#[derive(Default)]
struct Emitted {
    outcomes: AtomicU64,
    loads: AtomicU64,
    load_errors: AtomicU64,
}

impl Emitted {
    fn of(cache: &AsyncCacheWrapper) -> Arc<Self> {
        let emitted = Arc::new(Self::default());
        let counting = emitted.clone();
        cache.observe(move |event| {
            let counter = match event.kind {
                EventKind::Hit | EventKind::Miss | EventKind::StaleHit => &counting.outcomes,
                EventKind::Load => &counting.loads,
                EventKind::LoadError => &counting.load_errors,
                _ => return,
            };
            counter.fetch_add(1, Ordering::SeqCst);
        });
        emitted
    }

    /// The loads that were emitted, and those that failed.
    fn loads(&self) -> (u64, u64) {
        (self.loads.load(Ordering::SeqCst), self.load_errors.load(Ordering::SeqCst))
    }

    fn forget(&self) {
        for counter in [&self.outcomes, &self.loads, &self.load_errors] {
            counter.store(0, Ordering::SeqCst);
        }
    }
}

/// One schedule's world.
struct World {
    weather: Weather,
    cache: AsyncCacheWrapper,
    emitted: Arc<Emitted>,
    sources: [Source; 2],
    /// Writes come one after another, because otherwise it would not be known which is the newest.
    writes: tokio::sync::Mutex<()>,
    /// Adapters that were taken out.
    old: Mutex<Vec<Weak<dyn AsyncCacheAdapter>>>,
    asked: AtomicU64,
    answered: AtomicU64,
    /// What must not be: a panic in a loader would only be another error.
    wrong: Mutex<Vec<String>>,
}

/// A value says which key it belongs to.
fn value(key: usize, version: u64) -> u64 {
    version * 2 + key as u64
}

impl World {
    /// The cache is that of the schedule before, with another adapter and so with flights of its
    /// own.
    fn new(
        weather: Weather,
        cache: &AsyncCacheWrapper,
        emitted: &Arc<Emitted>,
        random: &mut fastrand::Rng,
    ) -> Arc<Self> {
        cache.set_adapter(Stepping::adapter(random.fork())).unwrap();
        emitted.forget();
        Arc::new(Self {
            weather,
            cache: cache.clone(),
            emitted: emitted.clone(),
            sources: Default::default(),
            writes: Default::default(),
            old: Mutex::default(),
            asked: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            wrong: Mutex::default(),
        })
    }

    fn must(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.wrong.lock().unwrap().push(what());
        }
    }

    fn loads_alone(&self, key: usize) {
        let running = self.sources[key].running.fetch_add(1, Ordering::SeqCst);
        self.must(running == 0 || self.weather != Weather::Calm, || {
            format!("two loads of {} at once", KEYS[key])
        });
    }

    /// The loader: it asks its source when it begins.
    async fn load(
        self: Arc<Self>,
        key: usize,
        mut random: fastrand::Rng,
        depth: u8,
    ) -> Result<u64, &'static str> {
        let source = &self.sources[key];
        self.loads_alone(key);
        let version = source.version.load(Ordering::SeqCst);
        steps(random.u8(..6)).await;
        if self.weather == Weather::Tangled && depth < 3 && random.bool() {
            self.clone().call(random.usize(..2), random.fork(), depth + 1).await;
        }
        source.running.fetch_sub(1, Ordering::SeqCst);
        let fate = if self.weather == Weather::Tangled { 7 } else { random.u8(..8) };
        if fate < 2 {
            source.failed.fetch_add(1, Ordering::SeqCst);
            // By the way that prints nothing.
            return if fate == 0 {
                Err("on purpose")
            } else {
                std::panic::resume_unwind(Box::new("on purpose"))
            };
        }
        source.succeeded.fetch_add(1, Ordering::SeqCst);
        Ok(value(key, version))
    }

    /// The same as a closure, which has no steps to take.
    fn load_now(&self, key: usize) -> u64 {
        let source = &self.sources[key];
        self.loads_alone(key);
        source.running.fetch_sub(1, Ordering::SeqCst);
        source.succeeded.fetch_add(1, Ordering::SeqCst);
        value(key, source.version.load(Ordering::SeqCst))
    }

    /// A call, and what must hold of its answer.
    fn call(
        self: Arc<Self>,
        key: usize,
        mut random: fastrand::Rng,
        depth: u8,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let source = &self.sources[key];
            let written = source.written.load(Ordering::SeqCst);
            self.asked.fetch_add(1, Ordering::SeqCst);
            let answer = if random.u8(..6) == 0 {
                self.cache.get_or_set_with(KEYS[key], |_| self.load_now(key)).await
            } else {
                self.cache
                    .try_get_or_set_async(KEYS[key], self.clone().load(key, random.fork(), depth))
                    .await
            };
            self.answered.fetch_add(1, Ordering::SeqCst);
            match answer {
                Ok(got) => {
                    self.must(got % 2 == key as u64, || {
                        format!("{got} is another key's than {}'s", KEYS[key])
                    });
                    self.must(got / 2 >= written, || {
                        format!(
                            "{got} of {} is older than the write {written} before the call",
                            KEYS[key]
                        )
                    });
                }
                Err(error) => {
                    let failed = source.failed.load(Ordering::SeqCst) > 0
                        && matches!(error.kind(), ErrorKind::Load | ErrorKind::Panic);
                    self.must(failed, || format!("no load has failed: {error}"));
                }
            }
        })
    }

    /// A write, and then what it replaced must not be there.
    async fn write(self: Arc<Self>, key: usize, mut random: fastrand::Rng) {
        let _turn = self.writes.lock().await;
        let source = &self.sources[key];
        let version = source.version.fetch_add(1, Ordering::SeqCst) + 1;
        match random.u8(..6) {
            0 | 1 => drop(self.cache.remove(KEYS[key]).await.unwrap()),
            2 => self.cache.set(KEYS[key], value(key, version)).await.unwrap(),
            3 => drop(self.cache.remove(KEYS).await.unwrap()),
            4 => self.cache.clear().await.unwrap(),
            _ => {
                let old = self.cache.swap_adapter(Stepping::adapter(random.fork())).unwrap();
                self.old.lock().unwrap().push(Arc::downgrade(&old));
            }
        }
        source.written.store(version, Ordering::SeqCst);
        self.asked.fetch_add(1, Ordering::SeqCst);
        let found: Option<u64> = self.cache.get(KEYS[key]).await.unwrap();
        self.answered.fetch_add(1, Ordering::SeqCst);
        self.must(found.is_none_or(|found| found / 2 >= version), || {
            format!("{found:?} after the write {version}")
        });
    }

    /// What must hold when everybody has gone.
    async fn end(self: Arc<Self>) {
        for key in 0..KEYS.len() {
            self.clone().call(key, fastrand::Rng::with_seed(0), 3).await;
        }
        let sum = |of: fn(&Source) -> &AtomicU64| {
            self.sources.iter().map(|source| of(source).load(Ordering::SeqCst)).sum::<u64>()
        };
        let runs = || (sum(|source| &source.succeeded), sum(|source| &source.failed));
        // Loads that no caller waits for.
        let mut patience = 1_000;
        while patience > 0
            && (sum(|source| &source.running) > 0
                || patience > 980
                || self.emitted.loads() != runs())
        {
            steps(1).await;
            patience -= 1;
        }
        let (emitted, runs) = (self.emitted.loads(), runs());
        self.must(emitted == runs, || {
            format!("{runs:?} loads that succeeded and failed, emitted as {emitted:?}")
        });
        let (asked, answered) =
            (self.asked.load(Ordering::SeqCst), self.answered.load(Ordering::SeqCst));
        let outcomes = self.emitted.outcomes.load(Ordering::SeqCst);
        self.must((answered..=asked).contains(&outcomes), || {
            format!("{outcomes} outcomes of {asked} calls, {answered} answered")
        });
        for (key, source) in KEYS.iter().zip(&self.sources) {
            let (succeeded, written) =
                (source.succeeded.load(Ordering::SeqCst), source.written.load(Ordering::SeqCst));
            self.must(succeeded <= 1 || self.weather != Weather::Calm, || {
                format!("{succeeded} loads of {key} that succeeded")
            });
            let found: Option<u64> = self.cache.get(key).await.unwrap();
            self.must(found.is_none_or(|found| found / 2 >= written), || {
                format!("{found:?} of {key} at last, after the write {written}")
            });
            self.must(found.is_some() || self.weather != Weather::Calm || succeeded == 0, || {
                format!("{key} was loaded and is not there")
            });
        }
        let kept = self.old.lock().unwrap().iter().filter(|old| old.upgrade().is_some()).count();
        self.must(kept == 0, || format!("{kept} adapters that were taken out are still there"));
    }
}

/// One schedule: a few callers and writers, who begin one after another or at once, some of whom
/// are dropped on the way.
async fn schedule(seed: u64, cache: &AsyncCacheWrapper, emitted: &Arc<Emitted>) {
    let mut random = fastrand::Rng::with_seed(seed);
    let weather = [Weather::Calm, Weather::Calm, Weather::Busy, Weather::Busy, Weather::Tangled]
        [random.usize(..5)];
    let world = World::new(weather, cache, emitted, &mut random);
    let mut actors = JoinSet::new();
    for _ in 0..random.u8(2..7) {
        let (first, patience) = (random.u8(..10), random.bool().then(|| random.u8(..16)));
        let (key, own) = (usize::from(random.u8(..4) == 0), random.fork());
        let acts: Pin<Box<dyn Future<Output = ()> + Send>> = match weather {
            Weather::Busy if random.u8(..3) == 0 => Box::pin(world.clone().write(key, own)),
            _ => world.clone().call(key, own, 0),
        };
        actors.spawn(async move {
            steps(first).await;
            match patience {
                Some(patience) => drop(select(acts, pin!(steps(patience))).await),
                None => acts.await,
            }
        });
    }
    while let Some(acted) = actors.join_next().await {
        acted.unwrap();
    }
    world.clone().end().await;
    let wrong = world.wrong.lock().unwrap().join("; ");
    assert!(wrong.is_empty(), "{weather:?}, schedule {seed}: {wrong}");
}

#[tokio::test(start_paused = true)]
async fn single_flight_holds_under_every_schedule() {
    let mut seeds = rng("single_flight_holds_under_every_schedule");
    let cache = super::fresh();
    let emitted = Emitted::of(&cache);
    for _ in 0..trials(10_000, 100_000) {
        let seed = seeds.u64(..);
        // Nothing here takes any time: the clock goes on only if everybody waits, and then for
        // ever.
        let ended =
            tokio::time::timeout(Duration::from_secs(3_600), schedule(seed, &cache, &emitted))
                .await;
        assert!(ended.is_ok(), "schedule {seed}: a caller hangs");
    }
}
