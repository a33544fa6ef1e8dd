//! A cache stampede: ten thousand keys that end together, ten thousand callers, and a source that
//! must not feel it.

use larder::{AsyncCacheWrapper, AsyncMemoryCache, WrapperBuilder};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, advance, sleep};

const KEYS: usize = 10_000;
/// How many questions at once the source can bear.
const BEARABLE: usize = 64;
const SECOND: Duration = Duration::from_secs(1);

/// What is asked when a key is missing. It notes how often for each, and how many ask at once.
#[derive(Clone)]
struct Source(Arc<Inner>);

struct Inner {
    /// Held inside the loader: who merely waits for one holds none.
    permits: Semaphore,
    asked: Vec<AtomicUsize>,
    now: AtomicUsize,
    most: AtomicUsize,
    is_away: bool,
}

impl Source {
    fn new(is_away: bool) -> Self {
        let asked = std::iter::repeat_with(AtomicUsize::default).take(KEYS).collect();
        let permits = Semaphore::new(BEARABLE);
        Self(Arc::new(Inner {
            permits,
            asked,
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            is_away,
        }))
    }

    async fn ask(self, key: usize) -> Result<u64, &'static str> {
        let inner = &self.0;
        let _permit = inner.permits.acquire().await.map_err(|_| "the source is closed")?;
        inner.asked[key].fetch_add(1, Ordering::SeqCst);
        inner.most.fetch_max(inner.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        sleep(Duration::from_millis(1)).await;
        inner.now.fetch_sub(1, Ordering::SeqCst);
        if inner.is_away { Err("the source is away") } else { Ok(new(key)) }
    }

    /// How often it was asked for each key.
    fn asked(&self) -> Vec<usize> {
        self.0.asked.iter().map(|asked| asked.load(Ordering::SeqCst)).collect()
    }

    fn asked_in_all(&self) -> usize {
        self.asked().into_iter().sum()
    }

    fn most_at_once(&self) -> usize {
        self.0.most.load(Ordering::SeqCst)
    }
}

/// What a key was worth, and what it is worth now.
fn old(key: usize) -> u64 {
    key as u64 * 10
}

fn new(key: usize) -> u64 {
    old(key) + 1
}

/// All keys, written at one moment for ten seconds.
async fn filled(options: impl FnOnce(WrapperBuilder) -> WrapperBuilder) -> AsyncCacheWrapper {
    let cache = options(AsyncCacheWrapper::builder(AsyncMemoryCache::new()).ttl(10 * SECOND))
        .build()
        .unwrap();
    cache.set_many((0..KEYS).map(|key| (key.to_string(), old(key)))).await.unwrap();
    cache
}

/// As many callers as keys, each of whom wants three keys at once, so that each key is wanted by
/// three. What they got for which key.
async fn all_callers(
    cache: &AsyncCacheWrapper,
    source: &Source,
) -> Vec<(usize, larder::Result<u64>)> {
    let mut callers = JoinSet::new();
    for caller in 0..KEYS {
        let (cache, source) = (cache.clone(), source.clone());
        callers.spawn(async move {
            let wanted = [caller, (caller + 1) % KEYS, caller * 7_919 % KEYS].map(|key| {
                let call = cache.try_get_or_set_async(key.to_string(), source.clone().ask(key));
                async move { (key, call.await) }
            });
            futures_util::future::join_all(wanted).await
        });
    }
    callers.join_all().await.into_iter().flatten().collect()
}

#[tokio::test(start_paused = true)]
async fn one_load_a_key_and_no_more_at_once_than_the_source_can_bear() {
    let cache = filled(|options| options).await;
    let source = Source::new(false);
    assert!(
        all_callers(&cache, &source)
            .await
            .into_iter()
            .all(|(key, answer)| answer.unwrap() == old(key)),
        "hits as yet"
    );
    assert_eq!(source.asked_in_all(), 0);
    advance(11 * SECOND).await;
    let begun = Instant::now();
    let answers = all_callers(&cache, &source).await;
    println!(
        "30,000 calls, {} loads, at most {} at once, {:?} by the clock",
        source.asked_in_all(),
        source.most_at_once(),
        begun.elapsed()
    );
    assert!(answers.into_iter().all(|(key, answer)| answer.unwrap() == new(key)));
    assert!(source.asked().into_iter().all(|asked| asked == 1), "one load a key");
    assert_eq!(source.most_at_once(), BEARABLE);
}

/// With a little jitter the same keys end over a stretch of time, and the loads with them.
#[tokio::test(start_paused = true)]
async fn jitter_spreads_what_was_written_together() {
    const STEPS: usize = 20;
    for (jitter, most) in [(0.0, KEYS), (0.5, KEYS / STEPS * 3 / 2)] {
        let cache = filled(|options| options.jitter(jitter)).await;
        let source = Source::new(false);
        advance(10 * SECOND).await;
        let mut loads = Vec::new();
        for _ in 0..=STEPS {
            let before = source.asked_in_all();
            let calls = (0..KEYS)
                .map(|key| cache.try_get_or_set_async(key.to_string(), source.clone().ask(key)));
            futures_util::future::try_join_all(calls).await.unwrap();
            loads.push(source.asked_in_all() - before);
            advance(SECOND / 4).await;
        }
        println!("jitter {jitter}: loads in each quarter of a second: {loads:?}");
        assert_eq!(loads.iter().sum::<usize>(), KEYS);
        assert!(loads.iter().all(|loads| *loads <= most), "{loads:?}");
    }
}

/// The source is away: everybody has the stale value, and a key is asked for once a throttle
/// window.
#[tokio::test(start_paused = true)]
async fn a_source_that_is_away_is_asked_once_a_key_and_everybody_is_served() {
    let cache = filled(|options| options.stale_for(3_600 * SECOND)).await;
    let source = Source::new(true);
    advance(11 * SECOND).await;
    for round in 0..3 {
        let answers = all_callers(&cache, &source).await;
        assert_eq!(answers.len(), 3 * KEYS);
        assert!(
            answers.into_iter().all(|(key, answer)| answer.unwrap() == old(key)),
            "stale values, all of them, in round {round}"
        );
    }
    assert!(source.asked().into_iter().all(|asked| asked == 1), "once a key");
    assert_eq!(source.most_at_once(), BEARABLE);
}

/// Issue 4: ten seconds without a source, under steady load.
#[tokio::test(start_paused = true)]
async fn ten_seconds_without_a_source_cost_it_one_question_a_window_and_key() {
    const WANTED: usize = 100;
    let window = 3 * SECOND;
    let cache = filled(|options| options.stale_for(3_600 * SECOND).throttle(window)).await;
    let source = Source::new(true);
    advance(11 * SECOND).await;
    let begun = Instant::now();
    let (mut calls, mut asked_at) = (0, vec![Vec::new(); WANTED]);
    while begun.elapsed() < 10 * SECOND {
        for (key, asked_at) in asked_at.iter_mut().enumerate() {
            let before = source.0.asked[key].load(Ordering::SeqCst);
            let call = || cache.try_get_or_set_async(key.to_string(), source.clone().ask(key));
            let answers = futures_util::future::join(call(), call()).await;
            assert_eq!(
                (answers.0.unwrap(), answers.1.unwrap()),
                (old(key), old(key)),
                "every call answers"
            );
            calls += 2;
            match source.0.asked[key].load(Ordering::SeqCst) - before {
                0 => {}
                asked => asked_at.extend(std::iter::repeat_n(begun.elapsed(), asked)),
            }
        }
        sleep(Duration::from_millis(50)).await;
    }
    println!("{calls} calls answered; the first key was asked for after {:?}", asked_at[0]);
    for asked_at in asked_at {
        assert!(asked_at.windows(2).all(|pair| pair[1] - pair[0] >= window), "{asked_at:?}");
        assert_eq!(
            asked_at.len(),
            4,
            "and it is asked again once the window is over: {asked_at:?}"
        );
    }
}
