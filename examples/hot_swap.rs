//! The adapter exchanged under load: `cargo run --example hot_swap --features full`.
//!
//! Eight tasks read, load and write all the time while the global cache walks from memory to
//! sqlite, to redis, to memcached and back. A table at the end shows what each phase saw. The
//! example starts redis-server and memcached on free ports if they are installed, and stops them;
//! it prints what it has to leave out.

use larder::{AsyncCacheAdapter, AsyncCacheWrapper, async_adapter_set, async_cached};
use std::error::Error;
use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::sleep;

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

const TASKS: u64 = 8;
const KEYS: u64 = 1_000;
const PHASE: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> Result<()> {
    let scratch = Scratch::new()?;
    let stages = stages(&scratch).await?;
    let journal = Arc::new(Journal::new(stages.len()));

    println!(
        "\n{TASKS} tasks call the cache without a pause. Every {PHASE:?} the cache gets another adapter."
    );
    async_adapter_set(stages[0].adapter.clone())?;
    let tasks: Vec<_> =
        (0..TASKS).map(|seed| tokio::spawn(call_until_done(journal.clone(), seed))).collect();
    for (number, stage) in stages.iter().enumerate() {
        async_adapter_set(stage.adapter.clone())?;
        journal.phase.store(number, Ordering::Relaxed);
        sleep(PHASE).await;
    }
    journal.done.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await?;
    }

    let failed = journal.print(&stages);
    for stage in &stages {
        stage.adapter.close().await?;
    }
    if failed > 0 {
        return Err(format!("{failed} calls failed").into());
    }
    println!("\nSwaps: {}. Failed calls: 0.", stages.len() - 1);
    Ok(())
}

/// A task of the load: loads, reads, writes and removes. Every value is a function of its key, so a
/// wrong one is seen.
async fn call_until_done(journal: Arc<Journal>, seed: u64) {
    let cache = async_cached().namespace("hot_swap");
    let mut step = seed;
    while !journal.done.load(Ordering::Relaxed) {
        step += 1;
        let key = (seed * 7_919 + step * 31) % KEYS;
        let phase = journal.phase.load(Ordering::Relaxed);
        let begun = Instant::now();
        let outcome = call(&cache, key, step).await;
        journal.note(phase, begun.elapsed(), outcome);
        // A hit in memory never waits, so the loop has to let others run.
        tokio::task::yield_now().await;
    }
}

async fn call(cache: &AsyncCacheWrapper, key: u64, step: u64) -> Result<()> {
    let name = key.to_string();
    let found = match step % 10 {
        0 => cache.set(&name, value(key)).await.map(|()| None)?,
        1 => cache.remove(&name).await.map(|_| None)?,
        2..6 => Some(cache.get_or_set_async(&name, async move { value(key) }).await?),
        _ => cache.get::<String>(&name).await?,
    };
    match found {
        Some(found) if found != value(key) => {
            Err(format!("key {key} gave another key's value").into())
        }
        _ => Ok(()),
    }
}

fn value(key: u64) -> String {
    format!("the value of {key}")
}

/// What the tasks saw, by phase.
struct Journal {
    phase: AtomicUsize,
    done: AtomicBool,
    phases: Vec<Phase>,
}

#[derive(Default)]
struct Phase {
    calls: AtomicU64,
    failed: AtomicU64,
    worst_us: AtomicU64,
    first_error: Mutex<Option<String>>,
}

impl Journal {
    fn new(phases: usize) -> Self {
        let phases = std::iter::repeat_with(Phase::default).take(phases).collect();
        Self { phase: AtomicUsize::new(0), done: AtomicBool::new(false), phases }
    }

    fn note(&self, phase: usize, took: Duration, outcome: Result<()>) {
        let phase = &self.phases[phase];
        phase.calls.fetch_add(1, Ordering::Relaxed);
        phase
            .worst_us
            .fetch_max(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        if let Err(error) = outcome {
            phase.failed.fetch_add(1, Ordering::Relaxed);
            phase
                .first_error
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert(error.to_string());
        }
    }

    /// Prints the table; how many calls failed.
    fn print(&self, stages: &[Stage]) -> u64 {
        println!("\n  {:<28}{:>10}{:>10}{:>14}", "adapter", "calls", "failed", "worst call");
        let mut all_failed = 0;
        for (Phase { calls, failed, worst_us, first_error }, stage) in
            self.phases.iter().zip(stages)
        {
            let worst = format!("{:.1} ms", worst_us.load(Ordering::Relaxed) as f64 / 1_000.0);
            let failed = failed.load(Ordering::Relaxed);
            println!(
                "  {:<28}{:>10}{:>10}{:>14}",
                stage.name,
                calls.load(Ordering::Relaxed),
                failed,
                worst
            );
            if let Some(error) = &*first_error.lock().unwrap_or_else(PoisonError::into_inner) {
                println!("    the first failure: {error}");
            }
            all_failed += failed;
        }
        all_failed
    }
}

/// An adapter of the walk, and the server behind it.
struct Stage {
    name: &'static str,
    adapter: Arc<dyn AsyncCacheAdapter>,
    _server: Option<Server>,
}

/// The adapters that can be had here, ready for use.
async fn stages(scratch: &Scratch) -> Result<Vec<Stage>> {
    let mut stages = vec![Stage::open("memory", "memory:", None)?];
    let sqlite = format!("sqlite:{}", scratch.0.join("cache.db").display());
    // Longer deadlines than the adapters' own, for machines that are busy with other things.
    match Stage::open("sqlite", &format!("{sqlite}?op_timeout=5s"), None) {
        Ok(stage) => stages.push(stage),
        Err(error) => println!("Left out: {error}"),
    }
    for (name, program) in [("redis", "redis-server"), ("memcached", "memcached")] {
        match Stage::start(name, program, scratch).await? {
            Ok(stage) => stages.push(stage),
            Err(why) => println!("Left out: {why}"),
        }
    }
    stages.push(Stage::open("memory", "memory:", None)?);
    Ok(stages)
}

impl Stage {
    fn open(name: &'static str, url: &str, server: Option<Server>) -> larder::Result<Self> {
        let adapter = AsyncCacheWrapper::new(url)?.adapter()?;
        Ok(Self { name, adapter, _server: server })
    }

    /// Starts a server and waits until it answers; why not, where it cannot be had.
    async fn start(
        name: &'static str,
        program: &str,
        scratch: &Scratch,
    ) -> Result<Result<Self, String>> {
        let port = free_port()?;
        let url = format!("{name}://127.0.0.1:{port}?op_timeout=5s");
        // Asked for before the server is: without the feature there is no use in starting it.
        if let Err(error) = Self::open(name, &url, None) {
            return Ok(Err(error.to_string()));
        }
        let server = match Server::start(program, port, &scratch.0)? {
            Some(server) => server,
            None => return Ok(Err(format!("{program} is not installed"))),
        };
        let stage = Self::open(name, &url, Some(server))?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while let Err(error) = stage.adapter.ping().await {
            if Instant::now() > deadline {
                return Err(format!("{program} was started and does not answer: {error}").into());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(Ok(stage))
    }
}

/// A server of our own, stopped when dropped.
struct Server(Child);

impl Server {
    /// `None` where the program is not installed.
    fn start(program: &str, port: u16, folder: &Path) -> Result<Option<Self>> {
        let mut command = Command::new(program);
        let port = port.to_string();
        match program {
            "redis-server" => command.args([
                "--port",
                &port,
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
            ]),
            // As root, memcached runs only if it gets the name of another user.
            _ => command.args(["-p", &port, "-l", "127.0.0.1", "-U", "0", "-u", "nobody"]),
        };
        match command
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
        {
            Ok(child) => Ok(Some(Self(child))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("{program} could not be started: {error}").into()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let stopped = self.0.kill().and_then(|()| self.0.wait());
        if let Err(error) = stopped {
            eprintln!("a server could not be stopped: {error}");
        }
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A folder of our own, removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("larder-hot-swap-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{} could not be removed: {error}", self.0.display());
        }
    }
}
