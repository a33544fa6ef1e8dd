//! Four processes that keep values of one SQLite file near, beside a writer and another program:
//! they are frozen and killed, their connections are cut, and the file is locked.

use super::PATIENCE;
use crate::claims::now;
use crate::sqlite::{Guarded, fresh_path, python};
use crate::support::eventually;
use crate::support::server::signal;
use crate::support::turns::turn;
use crate::support::values::soak;
use larder::layers::Tiered;
use larder::{AsyncCacheWrapper, AsyncMemoryCache, AsyncSqliteCache};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const BOUND: Duration = Duration::from_millis(100);
const KEYS: usize = 8;
const NODES: usize = 4;

/// What says to this test binary that it is a node, and on which file.
const NODE_PATH: &str = "LARDER_NODE_PATH";

/// The other program: it holds the lock of a writer, or keeps what a reader sees.
const HOLDER: &str = "
import random, sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
while True:
    db.execute(random.choice(['BEGIN', 'BEGIN IMMEDIATE']))
    db.execute('SELECT count(*) FROM larder_cache').fetchone()
    time.sleep(random.uniform(0.01, 0.4))
    db.execute('COMMIT')
    time.sleep(random.uniform(0, 0.4))
";

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap()
}

// ---- a node

#[test]
fn entry() {
    let Some(path) = std::env::var_os(NODE_PATH) else { return };
    // It ends with its parent.
    thread::spawn(|| {
        let _ = std::io::stdin().read_line(&mut String::new());
        std::process::exit(0);
    });
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(serve(&PathBuf::from(path)));
}

/// The latest read of a key that returned this number.
#[derive(Clone, Copy, Debug, Default)]
struct Read {
    key: usize,
    /// 0 if the key was missing.
    number: u64,
    begun: u64,
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).unwrap();
}

fn say_read(Read { key, number, begun }: Read) {
    say(&format!("read {key} {number} {begun}"));
}

/// Reads for ever, and now and then writes a key of its own, or opens its connections anew.
async fn serve(path: &Path) {
    let far = AsyncSqliteCache::builder().path(path).op_timeout(Duration::from_secs(2));
    let tiered = Tiered::builder(far.build().unwrap()).near(AsyncMemoryCache::new());
    let cache =
        AsyncCacheWrapper::new(tiered.near_bound(BOUND).near_ttl(PATIENCE).build()).unwrap();
    let mut latest = [const { None }; KEYS];
    for round in 1u64.. {
        let (key, begun) = (fastrand::usize(..KEYS), now());
        if let Ok(found) = cache.get::<u64>(&format!("k{key}")).await {
            let read = Read { key, number: found.unwrap_or(0), begun };
            report(&mut latest[key], read);
        }
        match fastrand::u16(..2_000) {
            0 => drop(cache.reconnect().await),
            1..20 => write_own(&cache, round).await,
            20..24 => {
                let near = cache.stats().near.unwrap();
                say(&format!("near {} {}", round, near.far_reads));
            }
            _ => {}
        }
        tokio::time::sleep(Duration::from_micros(fastrand::u64(..1_000))).await;
    }
}

/// Prints the last read before another number, and one in a while.
fn report(latest: &mut Option<(Read, Instant)>, read: Read) {
    match latest {
        Some((last, said)) if last.number == read.number => {
            *last = read;
            if said.elapsed() > BOUND / 2 {
                *said = Instant::now();
                say_read(read);
            }
        }
        _ => {
            if let Some((last, _)) = latest.replace((read, Instant::now())) {
                say_read(last);
            }
            say_read(read);
        }
    }
}

async fn write_own(cache: &AsyncCacheWrapper, round: u64) {
    let key = format!("own {}", std::process::id());
    if cache.set(&key, round).await.is_ok()
        && let Ok(found) = cache.get::<u64>(&key).await
        && found != Some(round)
    {
        say(&format!("wrong {found:?} of its own {round}"));
    }
}

// ---- the test

/// What the nodes have said.
#[derive(Debug, Default)]
struct Said {
    reads: Vec<(usize, Read)>,
    /// The reads of each process, and those of them that asked the file.
    near: Vec<(u64, u64)>,
    wrong: Vec<String>,
}

struct Node {
    number: usize,
    process: Guarded,
}

impl Node {
    fn start(number: usize, path: &Path, said: &Arc<Mutex<Said>>) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tiers::chaos::entry", "--nocapture"])
            .env(NODE_PATH, path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (lines, said) = (BufReader::new(child.stdout.take().unwrap()).lines(), said.clone());
        // It ends with the process.
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                listen(number, &line, &said);
            }
        });
        Self { number, process: Guarded(child) }
    }

    async fn freeze(&self) {
        signal("STOP", self.process.0.id());
        tokio::time::sleep(Duration::from_millis(fastrand::u64(20..1_500))).await;
        signal("CONT", self.process.0.id());
    }
}

fn listen(node: usize, line: &str, said: &Mutex<Said>) {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let numbers: Vec<u64> = rest.split(' ').map_while(|number| number.parse().ok()).collect();
    let mut said = crate::support::lock(said);
    // The last line of a process that was killed may be cut.
    match (word, &*numbers) {
        ("read", [key, number, begun]) if line.len() > 20 => {
            let read = Read { key: *key as usize, number: *number, begun: *begun };
            said.reads.push((node, read));
        }
        ("near", [all, far]) => said.near.push((*all, *far)),
        ("wrong", _) => said.wrong.push(rest.to_owned()),
        _ => {}
    }
}

/// The writes of each key in their order: the number, 0 for a removal, and when it had returned.
type Written = Vec<Vec<(u64, u64)>>;

async fn write(plain: AsyncCacheWrapper, is_over: Arc<AtomicBool>) -> Written {
    let mut written = vec![vec![(0, 0)]; KEYS];
    for number in 1.. {
        if is_over.load(Ordering::SeqCst) {
            break;
        }
        let key = fastrand::usize(..KEYS);
        let name = format!("k{key}");
        let made = match fastrand::u8(..8) {
            0 => {
                plain.remove(&name).await.unwrap();
                0
            }
            _ => {
                plain.set(&name, number).await.unwrap();
                number
            }
        };
        written[key].push((made, now()));
        tokio::time::sleep(Duration::from_millis(fastrand::u64(..30))).await;
    }
    written
}

async fn disturb(nodes: &mut [Node], path: &Path, said: &Arc<Mutex<Said>>, until: Instant) {
    while Instant::now() < until {
        let node = &mut nodes[fastrand::usize(..NODES)];
        match fastrand::u8(..4) {
            // The process that was before is killed by its drop.
            0 => *node = Node::start(node.number, path, said),
            _ => node.freeze().await,
        }
        tokio::time::sleep(Duration::from_millis(fastrand::u64(..300))).await;
    }
}

/// Whether a read that began then may return this number: what was there at that time or later, or
/// was superseded less than the bound before.
fn is_fresh(written: &[(u64, u64)], Read { number, begun, .. }: Read) -> bool {
    let old = written.iter().rposition(|(_, returned)| returned + nanos(BOUND) <= begun);
    written[old.unwrap_or(0)..].iter().any(|(made, _)| *made == number)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_served_by_four_processes_that_was_superseded_before_the_bound() {
    let _turn = turn();
    let path = fresh_path();
    let far = AsyncSqliteCache::builder().path(&path).op_timeout(PATIENCE);
    let plain = AsyncCacheWrapper::new(far.build().unwrap()).unwrap();
    plain.set("first", 1u64).await.unwrap();
    let said: Arc<Mutex<Said>> = Arc::default();
    let mut nodes: Vec<_> = (0..NODES).map(|number| Node::start(number, &path, &said)).collect();
    let holder = python(HOLDER, &[path.to_str().unwrap()]).spawn().unwrap();
    let holder = Guarded(holder);
    let is_over = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn(write(plain, is_over.clone()));
    let time = Duration::from_secs(if soak() { 300 } else { 5 });
    disturb(&mut nodes, &path, &said, Instant::now() + time).await;
    is_over.store(true, Ordering::SeqCst);
    let written = writing.await.unwrap();
    drop(holder);
    // Once all is quiet, all agree: every node has read each key a bound after the last write.
    let quiet = now() + nanos(BOUND);
    eventually("every node reads every key", PATIENCE, async || {
        let said = crate::support::lock(&said);
        let has_read = |node, key| {
            said.reads
                .iter()
                .rev()
                .any(|(of, read)| *of == node && read.key == key && read.begun > quiet)
        };
        (0..NODES).all(|node| (0..KEYS).all(|key| has_read(node, key)))
    })
    .await;
    drop(nodes);
    let said = crate::support::lock(&said);
    assert!(said.wrong.is_empty(), "{:?}", said.wrong);
    for (node, read) in &said.reads {
        let writes = &written[read.key];
        assert!(is_fresh(writes, *read), "node {node}: {read:?}, {writes:?}");
    }
    let writes: usize = written.iter().map(Vec::len).sum();
    let asked = |asked: &&(u64, u64)| asked.0 > 2 * asked.1;
    let near = said.near.iter().filter(asked).count();
    println!("{writes} writes, {} reads said, {near} times most were near", said.reads.len());
    assert!(near > 0, "{:?}", said.near);
}
