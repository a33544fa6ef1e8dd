//! A service on a bad day: `cargo run --example bad_day --features full`.
//!
//! A few tasks read a slow source through a cache on redis. Meanwhile redis is frozen, continued,
//! killed and started again, and then the source fails. A table shows what the callers saw in each
//! second. No caller may see an error, and a source that is down may be asked at most once a second
//! for each key. The example starts a redis-server of its own, if one is installed.

use larder::AsyncCacheWrapper;
use std::error::Error;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::sleep;

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

const TASKS: u64 = 4;
const KEYS: u64 = 20;
const SECOND: Duration = Duration::from_secs(1);
const THROTTLE: Duration = SECOND;

#[tokio::main]
async fn main() -> Result<()> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    // Redis by URL has a breaker, retries and recovery; `op_timeout` is what a call to a frozen
    // server costs until the breaker opens.
    let url = format!("redis://127.0.0.1:{port}?op_timeout=500ms");
    let cache = match AsyncCacheWrapper::builder(url.as_str())
        .ttl(SECOND / 2)
        .stale_for(SECOND * 600)
        .throttle(THROTTLE)
        .build()
    {
        Ok(cache) => cache,
        Err(error) => {
            println!("Left out: {error}");
            return Ok(());
        }
    };
    let Some(mut redis) = Redis::start(port)? else {
        println!("Left out: redis-server is not installed");
        return Ok(());
    };
    until("redis answers", || async { cache.ping().await.is_ok() }).await?;

    println!(
        "{TASKS} tasks ask for {KEYS} keys, which expire after half a second and are kept as stale for ten minutes more.\n"
    );
    println!(
        "  {:<34}{:>7}{:>8}{:>12}{:>8}{:>8}",
        "", "calls", "failed", "worst call", "loads", "stale"
    );
    let day = Arc::new(Day::new(cache));
    let callers: Vec<_> =
        (0..TASKS).map(|task| tokio::spawn(call_until_done(day.clone(), task))).collect();

    day.seconds(2, "all is well").await;
    redis.signal("STOP")?;
    day.seconds(2, "redis is frozen").await;
    redis.signal("CONT")?;
    day.seconds(1, "redis is thawed").await;
    redis.0.kill()?;
    redis.0.wait()?;
    day.seconds(2, "redis is dead").await;
    redis = Redis::start(port)?.ok_or("redis-server is gone")?;
    day.seconds(1, "redis is back, and empty").await;
    until("all keys are there again", || day.is_warm()).await?;
    day.read_on("it fills");

    day.source_fails.store(true, Relaxed);
    sleep(SECOND / 2).await;
    day.read_on("the source fails");
    let down = day.seconds(3, "the source is away").await;
    day.source_fails.store(false, Relaxed);
    day.seconds(1, "the source is back").await;

    day.done.store(true, Relaxed);
    for caller in callers {
        caller.await?;
    }
    drop(redis);
    day.judge(down)
}

/// Asks, and asks again. Each value is a function of its key, so that a wrong one is seen.
async fn call_until_done(day: Arc<Day>, task: u64) {
    let mut step = task;
    while !day.done.load(Relaxed) {
        step += 1;
        let key = (step * 7) % KEYS;
        let (begun, source) = (Instant::now(), day.clone());
        let found = day
            .cache
            .try_get_or_set_async(format!("price:{key}"), async move { source.price(key).await })
            .await;
        day.note(
            begun.elapsed(),
            found.map_err(|error| error.to_string()).and_then(|price| check(price, key)),
        );
        sleep(Duration::from_millis(20)).await;
    }
}

fn check(price: u64, key: u64) -> Result<(), String> {
    if price == key * 100 { Ok(()) } else { Err(format!("key {key} gave another key's value")) }
}

/// What callers saw since it was last read.
#[derive(Clone, Copy, Default)]
struct Seen {
    calls: u64,
    failed: u64,
    worst: Duration,
}

/// The service, its source, and what is noted of both.
struct Day {
    cache: AsyncCacheWrapper,
    source_fails: AtomicBool,
    done: AtomicBool,
    loads: AtomicU64,
    /// Now, and all together.
    seen: Mutex<[Seen; 2]>,
    first_error: Mutex<Option<String>>,
    /// Loads and stale answers up to the last reading.
    read: Mutex<[u64; 2]>,
}

impl Day {
    fn new(cache: AsyncCacheWrapper) -> Self {
        let (source_fails, done) = (AtomicBool::new(false), AtomicBool::new(false));
        let (seen, first_error, read) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { cache, source_fails, done, loads: AtomicU64::new(0), seen, first_error, read }
    }

    /// The source: slow, and at times away.
    async fn price(&self, key: u64) -> Result<u64, &'static str> {
        self.loads.fetch_add(1, Relaxed);
        sleep(Duration::from_millis(5)).await;
        if self.source_fails.load(Relaxed) { Err("the source is away") } else { Ok(key * 100) }
    }

    fn note(&self, took: Duration, outcome: Result<(), String>) {
        for seen in &mut *lock(&self.seen) {
            seen.calls += 1;
            seen.failed += u64::from(outcome.is_err());
            seen.worst = seen.worst.max(took);
        }
        if let Err(error) = outcome {
            lock(&self.first_error).get_or_insert(error);
        }
    }

    /// Lets some seconds go by, with a line for each; how often the source was asked, and stale
    /// values were served.
    async fn seconds(&self, seconds: u32, what: &str) -> [u64; 2] {
        let mut sum = [0; 2];
        for _ in 0..seconds {
            sleep(SECOND).await;
            let second = self.read_on(what);
            sum = [sum[0] + second[0], sum[1] + second[1]];
        }
        sum
    }

    /// A line for what was seen since the last one.
    fn read_on(&self, what: &str) -> [u64; 2] {
        let Seen { calls, failed, worst } = std::mem::take(&mut lock(&self.seen)[0]);
        let now = [self.loads.load(Relaxed), self.cache.stats().stale_hits];
        let before = std::mem::replace(&mut *lock(&self.read), now);
        let [loads, stale] = [now[0] - before[0], now[1] - before[1]];
        let worst = format!("{:.1} ms", worst.as_secs_f64() * 1_000.0);
        println!("  {what:<34}{calls:>7}{failed:>8}{worst:>12}{loads:>8}{stale:>8}");
        [loads, stale]
    }

    /// Whether every key is in the cache, live or stale.
    async fn is_warm(&self) -> bool {
        for key in 0..KEYS {
            if !matches!(
                self.cache.allow_stale().get::<u64>(format!("price:{key}")).await,
                Ok(Some(_))
            ) {
                return false;
            }
        }
        true
    }

    /// What the table is to show.
    fn judge(&self, [loads, stale]: [u64; 2]) -> Result<()> {
        let [_, Seen { calls, failed, worst }] = *lock(&self.seen);
        if let Some(error) = &*lock(&self.first_error) {
            return Err(format!("{failed} of {calls} calls failed; the first: {error}").into());
        }
        // Three seconds, and the windows that begin and end in them.
        let most = KEYS * 5;
        if stale == 0 || loads > most {
            return Err(format!("without its source: {stale} stale answers, {loads} loads; at most {most} were expected").into());
        }
        println!(
            "\n{calls} calls, none failed, the longest took {:.0} ms.",
            worst.as_secs_f64() * 1_000.0
        );
        println!(
            "In three seconds without the source there were {loads} attempts to load, and {stale} stale answers."
        );
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for a condition, and not for ever.
async fn until<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) -> Result<()> {
    let begun = Instant::now();
    while !holds().await {
        if begun.elapsed() > SECOND * 30 {
            return Err(format!("waited in vain until {what}").into());
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// A redis-server of our own, stopped when dropped.
struct Redis(Child);

impl Redis {
    /// `None` where it is not installed.
    fn start(port: u16) -> Result<Option<Self>> {
        let mut command = Command::new("redis-server");
        command.args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]);
        match command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
            Ok(child) => Ok(Some(Self(child))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("redis-server could not be started: {error}").into()),
        }
    }

    fn signal(&self, signal: &str) -> Result<()> {
        let sent = Command::new("kill")
            .args([&format!("-{signal}"), &self.0.id().to_string()])
            .status()?;
        if sent.success() { Ok(()) } else { Err(format!("SIG{signal} could not be sent").into()) }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait()) {
            eprintln!("redis-server could not be stopped: {error}");
        }
    }
}
