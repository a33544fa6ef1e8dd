//! A fleet with values near: `cargo run --example fleet --features full`.
//!
//! Four processes read and write twenty items under `near+redis:`, and one removes all of them by a
//! tag. Meanwhile redis is frozen, continued, killed and started again. A table shows in each second
//! what was answered, how much of that near, and how old the oldest answer was: how long before the
//! read began it had been superseded. It may be no older than the near bound, whatever happens. In
//! the end all processes agree. The example starts a redis-server of its own, if one is installed.

use larder::AsyncCacheWrapper;
use std::error::Error;
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

const NODES: u64 = 4;
const ITEMS: u64 = 20;
const BOUND: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
/// How long a node pauses between two writes: each item is written four times a second.
const BETWEEN_WRITES: Duration = Duration::from_millis(50);

fn main() -> Result<()> {
    match std::env::var("LARDER_FLEET_NODE") {
        Ok(number) => node(number.parse()?),
        Err(_) => fleet(),
    }
}

// ---- the fleet

fn fleet() -> Result<()> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let Some(mut redis) = Redis::start(port)? else {
        println!("Left out: redis-server is not installed");
        return Ok(());
    };
    let ledger = std::env::temp_dir().join(format!("larder-fleet-{}", std::process::id()));
    let ledger = Removed(ledger);
    Ledger::create(&ledger.0)?;
    let url = format!("near+redis://127.0.0.1:{port}?op_timeout=250ms&near_bound=100ms");
    if let Err(error) = AsyncCacheWrapper::new(url.as_str()) {
        println!("Left out: {error}");
        return Ok(());
    }
    let mut nodes = Vec::new();
    for number in 0..NODES {
        nodes.push(Node::start(number, &url, &ledger.0)?);
    }
    println!(
        "{NODES} processes share {ITEMS} items. A value may be near for {BOUND:?} unproven.\n"
    );
    println!(
        "  {:<28}{:>9}{:>9}{:>10}{:>12}{:>8}",
        "", "answered", "near", "far reads", "oldest", "failed"
    );
    let mut table = Table { nodes: &mut nodes, oldest: 0, near: 0, failed: 0 };
    table.seconds(2, "all is well")?;
    table.nodes[0].ask("sweep")?;
    table.seconds(1, "all removed, by their tag")?;
    redis.signal("STOP")?;
    table.seconds(1, "redis is frozen")?;
    redis.signal("CONT")?;
    table.seconds(1, "redis is thawed")?;
    redis.0.kill()?;
    redis.0.wait()?;
    table.seconds(1, "redis is dead")?;
    redis = Redis::start(port)?.ok_or("redis-server is gone")?;
    table.seconds(2, "redis is back, and empty")?;
    let Table { oldest, near, failed, .. } = table;

    for node in &mut nodes {
        node.ask("quiet")?;
    }
    std::thread::sleep(2 * BOUND);
    let mut all = Vec::new();
    for node in &mut nodes {
        all.push(node.ask("all")?);
    }
    drop(redis);
    let oldest = Duration::from_nanos(oldest);
    println!("\nThe oldest answer was superseded {oldest:.1?} before its read began.");
    println!(
        "In the end all processes read the same: {}",
        all.windows(2).all(|two| two[0] == two[1])
    );
    assert!(oldest <= BOUND, "an answer was older than the bound");
    assert!(all.iter().all(|values| *values == all[0]), "they differ: {all:#?}");
    assert!(near > 0, "nothing was near");
    assert_eq!(failed, 0, "a read failed");
    Ok(())
}

/// What the nodes report, a line a second.
struct Table<'a> {
    nodes: &'a mut Vec<Node>,
    oldest: u64,
    near: u64,
    failed: u64,
}

impl Table<'_> {
    fn seconds(&mut self, count: u32, what: &str) -> Result<()> {
        for second in 0..count {
            std::thread::sleep(SECOND);
            let mut sum = [0; 4];
            for node in self.nodes.iter_mut() {
                let line = node.ask("report")?;
                let figures: Vec<u64> =
                    line.split(' ').map(str::parse).collect::<Result<_, _>>()?;
                let [answered, far, oldest, failed] = figures[..] else {
                    return Err(format!("a report is {line:?}").into());
                };
                sum[0] += answered;
                sum[1] += far;
                sum[2] = oldest.max(sum[2]);
                sum[3] += failed;
            }
            let [answered, far, oldest, failed] = sum;
            // A read of an item with tags may be several far reads: this is the least.
            let near = answered.saturating_sub(far);
            let what = if second == 0 { what } else { "" };
            let oldest_ms = oldest as f64 / 1e6;
            println!("  {what:<28}{answered:>9}{near:>9}{far:>10}{oldest_ms:>9.1} ms{failed:>8}");
            self.oldest = self.oldest.max(oldest);
            self.near += near;
            self.failed += failed;
        }
        Ok(())
    }
}

/// This program again, in the role of a node. Killed when it is dropped.
struct Node {
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Node {
    fn start(number: u64, url: &str, ledger: &Path) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .env("LARDER_FLEET_NODE", number.to_string())
            .env("LARDER_FLEET_URL", url)
            .env("LARDER_FLEET_LEDGER", ledger)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let asks = child.stdin.take().ok_or("no stdin")?;
        let answers = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        Ok(Self { child, asks, answers })
    }

    fn ask(&mut self, what: &str) -> Result<String> {
        writeln!(self.asks, "{what}")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It has ended already, or ends now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A file that is removed when this is dropped.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

struct Redis(Child);

impl Redis {
    /// `None` if it is not installed.
    fn start(port: u16) -> Result<Option<Self>> {
        let port = port.to_string();
        let started = Command::new("redis-server")
            .args(["--port", &port, "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn();
        match started {
            Ok(child) => Ok(Some(Self(child))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn signal(&self, signal: &str) -> Result<()> {
        let done =
            Command::new("kill").args([format!("-{signal}"), self.0.id().to_string()]).status()?;
        done.success().then_some(()).ok_or_else(|| "kill failed".into())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It has ended already, or ends now.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

// ---- what the nodes share beside redis

/// The database, and what is known of the writes: for each item its version there, the latest
/// version whose write to the cache has returned, and when that was.
struct Ledger(Mutex<File>);

impl Ledger {
    fn create(path: &Path) -> io::Result<()> {
        std::fs::write(path, vec![0; (ITEMS * 24) as usize])
    }

    fn open(path: &str) -> io::Result<Self> {
        Ok(Self(Mutex::new(File::options().read(true).write(true).open(path)?)))
    }

    fn version(&self, item: u64) -> io::Result<u64> {
        self.read(item * 24).map(u64::from_le_bytes)
    }

    fn set_version(&self, item: u64, version: u64) -> io::Result<()> {
        self.write(item * 24, &version.to_le_bytes())
    }

    /// The latest version whose write has returned, and when.
    fn returned(&self, item: u64) -> io::Result<(u64, u64)> {
        let both = self.read(item * 24 + 8).map(u128::from_le_bytes)?;
        Ok((both as u64, (both >> 64) as u64))
    }

    fn set_returned(&self, item: u64, version: u64) -> io::Result<()> {
        let both = u128::from(version) | u128::from(now()) << 64;
        self.write(item * 24 + 8, &both.to_le_bytes())
    }

    fn at(&self, place: u64) -> io::Result<MutexGuard<'_, File>> {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(place))?;
        Ok(file)
    }

    fn read<const N: usize>(&self, place: u64) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.at(place)?.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn write(&self, place: u64, bytes: &[u8]) -> io::Result<()> {
        self.at(place)?.write_all(bytes)
    }
}

/// Nanoseconds since 1970: the processes are on one machine, and compare them.
fn now() -> u64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

// ---- a node

struct Work {
    number: u64,
    cache: AsyncCacheWrapper,
    ledger: Ledger,
    writes: AtomicBool,
    answered: AtomicU64,
    failed: AtomicU64,
    oldest: AtomicU64,
    far_reads: AtomicU64,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn node(number: u64) -> Result<()> {
    let cache = AsyncCacheWrapper::new(std::env::var("LARDER_FLEET_URL")?)?;
    let ledger = Ledger::open(&std::env::var("LARDER_FLEET_LEDGER")?)?;
    let work = Arc::new(Work {
        number,
        cache,
        ledger,
        writes: AtomicBool::new(true),
        answered: AtomicU64::new(0),
        failed: AtomicU64::new(0),
        oldest: AtomicU64::new(0),
        far_reads: AtomicU64::new(0),
    });
    let writer = work.clone();
    tokio::spawn(async move { writer.write_on().await.expect("the ledger is there") });
    for first in 0..2 {
        let reader = work.clone();
        tokio::spawn(async move { reader.read_on(first).await.expect("the ledger is there") });
    }
    let (asks, mut asked) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if asks.send(line).is_err() {
                break;
            }
        }
    });
    while let Some(ask) = asked.recv().await {
        println!("{}", work.answer(&ask).await?);
    }
    Ok(())
}

impl Work {
    async fn answer(&self, ask: &str) -> Result<String> {
        Ok(match ask {
            "report" => {
                let far = self.cache.stats().near.map_or(0, |near| near.far_reads);
                let (answered, oldest) =
                    (self.answered.swap(0, Relaxed), self.oldest.swap(0, Relaxed));
                let before = self.far_reads.swap(far, Relaxed);
                format!("{answered} {} {oldest} {}", far - before, self.failed.swap(0, Relaxed))
            }
            "sweep" => {
                self.cache.remove_tags(["all"]).await?;
                "removed".to_owned()
            }
            "quiet" => {
                self.writes.store(false, Relaxed);
                "quiet".to_owned()
            }
            _ => {
                let mut values = Vec::new();
                for item in 0..ITEMS {
                    values.push(self.read(item).await?.to_string());
                }
                values.join(" ")
            }
        })
    }

    async fn read(&self, item: u64) -> larder::Result<u64> {
        let load = async || self.ledger.version(item);
        let cache = self.cache.tags(["all".to_owned(), format!("item:{item}")]);
        cache.try_get_or_load_here(format!("value:{item}"), load).await
    }

    async fn read_on(&self, first: u64) -> Result<()> {
        let mut item = first * 7;
        loop {
            item = (item + 1) % ITEMS;
            // First what has returned, then the read: so it began later.
            let (latest, returned) = self.ledger.returned(item)?;
            let begun = now();
            match self.read(item).await {
                Ok(version) => {
                    self.answered.fetch_add(1, Relaxed);
                    if version < latest {
                        self.oldest.fetch_max(begun.saturating_sub(returned), Relaxed);
                    }
                }
                Err(_) => {
                    self.failed.fetch_add(1, Relaxed);
                }
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Writes the items of this node: first in the database, then in the cache, now by `set` and now
    /// by the removal of a tag. A write that fails has not returned.
    async fn write_on(&self) -> Result<()> {
        let mut step = 0;
        while self.writes.load(Relaxed) {
            step += 1;
            let item = (step % (ITEMS / NODES)) * NODES + self.number;
            let version = self.ledger.version(item)? + 1;
            self.ledger.set_version(item, version)?;
            let tag = format!("item:{item}");
            let written = if step % 2 == 0 {
                let cache = self.cache.tags(["all".to_owned(), tag]);
                cache.set(format!("value:{item}"), version).await
            } else {
                self.cache.remove_tags([tag]).await
            };
            if written.is_ok() {
                self.ledger.set_returned(item, version)?;
            }
            let next = Instant::now() + BETWEEN_WRITES;
            tokio::time::sleep_until(next.into()).await;
        }
        Ok(())
    }
}
