//! Several processes on one store: who computes, and what a removal in one of them is worth in
//! another.

// clippy allows it in `#[test]`s, and not in the functions that they share.
#![allow(clippy::unwrap_used)]

mod child;

use crate::support::noise::noise;
use crate::support::{Memcached, Redis};
use crate::trials::within;
use larder::{AsyncCacheWrapper, ErrorKind, Loaded};
use std::fmt::Debug;
use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;
use tokio::task::JoinSet;

const KEY: &str = "cold";
/// How long a caller waits that has a limit.
const LIMIT: Duration = Duration::from_millis(30);
/// For what is sure to happen, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);
/// Few enough that removals and loads meet.
const KEYS: u64 = 32;

fn key(number: u64) -> String {
    format!("k{}", number % KEYS)
}

/// The same clock in all processes, in nanoseconds.
pub(crate) fn now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos())
        .unwrap()
}

fn soak(short: u64, long: u64) -> u64 {
    if std::env::var_os("LARDER_SOAK").is_some() { long } else { short }
}

/// A store that several processes can reach.
pub(crate) struct Shared {
    url: String,
    _dir: Option<TempDir>,
}

impl Shared {
    /// The store that the wrappers of this process share.
    #[cfg(feature = "memory")]
    pub(crate) fn memory() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { url: format!("memory:?shared=true&prefix=m{number}:"), _dir: None }
    }

    pub(crate) fn redis() -> Self {
        Self::at(Redis::shared().url(), None)
    }

    pub(crate) fn memcached() -> Self {
        Self::at(Memcached::shared().url(), None)
    }

    pub(crate) fn sqlite() -> Self {
        let dir = crate::support::server::dir();
        Self::at(&format!("sqlite:{}", dir.path().join("cache.db").display()), Some(dir))
    }

    /// With a prefix of its own, and patience for a machine that is busy.
    fn at(url: &str, dir: Option<TempDir>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let (parameter, number) =
            (if url.contains('?') { '&' } else { '?' }, NEXT.fetch_add(1, Ordering::Relaxed));
        let url =
            format!("{url}{parameter}prefix=c{}-{number}:&op_timeout=60s", std::process::id());
        Self { url, _dir: dir }
    }

    pub(crate) fn cache(&self) -> AsyncCacheWrapper {
        AsyncCacheWrapper::new(self.url.as_str()).unwrap()
    }

    /// A cache whose URL has these parameters, too.
    pub(crate) fn with(&self, parameters: &str) -> AsyncCacheWrapper {
        AsyncCacheWrapper::new(format!("{}&{parameters}", self.url)).unwrap()
    }

    /// A cache with a near level, whose URL has these parameters, too.
    pub(crate) fn near(&self, parameters: &str) -> AsyncCacheWrapper {
        AsyncCacheWrapper::new(format!("near+{}&{parameters}", self.url)).unwrap()
    }

    /// `number` is a lease in milliseconds, or how many loads are enough.
    fn process(&self, role: &str, number: u64) -> Process {
        Process::start(role, &self.url, number)
    }
}

/// This test binary in another role. Killed when it is dropped.
struct Process {
    child: Child,
    word: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(role: &str, url: &str, number: u64) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "claims::child::entry", "--nocapture"])
            .env("LARDER_CLAIMS_CHILD", role)
            .env("LARDER_CLAIMS_URL", url)
            .env("LARDER_CLAIMS_NUMBER", number.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { word: child.stdin.take(), child, lines }
    }

    /// What follows `word`, once the process says it; `None` if it ends before that.
    fn listen(&mut self, word: &str) -> Option<String> {
        // The test harness does not end its line.
        self.lines.by_ref().find_map(|line| Some(line.ok()?.split_once(word)?.1.trim().to_owned()))
    }

    fn hear(&mut self, word: &str) -> String {
        self.listen(word)
            .unwrap_or_else(|| panic!("the other process ended without saying {word:?}"))
    }

    fn go(&mut self) {
        self.word.take().unwrap().write_all(b"go\n").unwrap();
    }

    /// How often it ran its loader, what it got, and what a deadline has to be forgiven there.
    fn done(mut self) -> Done {
        let said = self.hear("done ");
        println!("process {}: {said}", self.child.id());
        let mut numbers = said.split(' ').map_while(|number| number.parse().ok());
        let [runs, value, noise] = std::array::from_fn(|_| numbers.next().unwrap());
        assert!(self.child.wait().unwrap().success());
        Done { runs, value, noise: Duration::from_millis(noise) }
    }
}

/// What a process says in the end.
#[derive(Debug)]
struct Done {
    runs: u64,
    value: u64,
    noise: Duration,
}

impl Done {
    /// Checks that the processes ran one loader in all, and got its value.
    fn check_one_run(done: &[Self]) {
        assert_eq!(done.iter().map(|done| done.runs).sum::<u64>(), 1, "{done:?}");
        assert!(done.iter().all(|one| one.value == done[0].value), "{done:?}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Single flight between processes: 4 × 250 tasks, one run.
fn one_run_for_all(shared: &Shared) {
    let mut processes: Vec<_> = (0..4).map(|_| shared.process("many", 60_000)).collect();
    for process in &mut processes {
        process.hear("ready");
    }
    processes.iter_mut().for_each(Process::go);
    let done: Vec<_> = processes.into_iter().map(Process::done).collect();
    println!("4 processes, 250 tasks each: {done:?}");
    Done::check_one_run(&done);
}

/// One more run, when the lease has ended.
fn a_killed_holder_costs_one_lease(shared: &Shared) {
    let lease = Duration::from_secs(2);
    let mut others: Vec<_> =
        (0..2).map(|_| shared.process("many", lease.as_millis() as u64)).collect();
    others.iter_mut().for_each(|process| drop(process.hear("ready")));
    let before = Instant::now();
    let mut holder = shared.process("hold", lease.as_millis() as u64);
    holder.hear("loading");
    let held = Instant::now();
    others.iter_mut().for_each(Process::go);
    // By the signal that cannot be handled.
    holder.child.kill().unwrap();
    let done: Vec<_> = others.into_iter().map(Process::done).collect();
    // The 300 ms are the others' own run.
    assert!(
        before.elapsed() >= lease,
        "nobody takes over what is still held: {:?}",
        before.elapsed()
    );
    let waited = held.elapsed().saturating_sub(Duration::from_millis(300));
    println!(
        "a holder killed under a lease of {lease:?}: the others were done {waited:?} later; {done:?}"
    );
    Done::check_one_run(&done);
    // One process loads, the other waits for it, and this one for both: their delays add up.
    let late = done.iter().map(|done| done.noise).sum::<Duration>() + noise();
    assert!(
        waited <= lease * 2 + late,
        "{waited:?}, {late:?} of them because the machine was busy"
    );
}

/// Instances that know nothing of each other.
async fn two_instances_run_once(shared: &Shared) {
    let runs = Arc::new(AtomicU64::new(0));
    for round in 0..5 {
        let mut calls = JoinSet::new();
        for number in 0..2 {
            let (cache, runs) = (shared.cache().with_lease(Duration::from_secs(30)), runs.clone());
            calls.spawn(async move {
                let loader = async move {
                    runs.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    number
                };
                cache.get_or_set_async(format!("{KEY}{round}"), loader).await.unwrap()
            });
        }
        let values = calls.join_all().await;
        assert_eq!(values[0], values[1]);
        assert_eq!(runs.load(Ordering::SeqCst), round + 1);
    }
    // A closure is a loader like others; a value that is stored is not computed again.
    let cache = shared.cache().with_lease(Duration::from_secs(30));
    assert_eq!(cache.get_or_set_with("closure", |_| 1).await.unwrap(), 1);
    assert_eq!(
        shared
            .cache()
            .with_lease(Duration::from_secs(30))
            .get_or_set_with("closure", |_| 2)
            .await
            .unwrap(),
        1
    );
}

/// A loader that fails leaves the key to others at once; one that asks for its own key does not
/// wait for itself.
async fn a_lease_is_given_back(shared: &Shared) {
    let lease = Duration::from_secs(600);
    let (one, other) = (shared.cache().with_lease(lease), shared.cache().with_lease(lease));
    let failed = one.try_get_or_set_async("failing", async { Err::<u64, _>("no") }).await;
    assert!(failed.is_err());
    assert_eq!(other.get_or_set_async("failing", async { 1u64 }).await.unwrap(), 1);
    let inner = one.clone();
    let nested = one.get_or_set_async("nested", async move {
        inner.get_or_set_async("nested", async { 2u64 }).await.unwrap() + 1
    });
    assert_eq!(nested.await.unwrap(), 3);
    // A write comes before the end of the load, whose right to store is given back.
    let writer = one.clone();
    let removed = one.get_or_set_async("removed", async move {
        writer.remove("removed").await.unwrap();
        3u64
    });
    assert_eq!(removed.await.unwrap(), 3);
    assert_eq!(other.get::<u64>("removed").await.unwrap(), None);
    assert_eq!(other.get_or_set_async("removed", async { 4u64 }).await.unwrap(), 4);
}

/// A call whose time limit passes while another process has the lease, alive or killed, is a typed
/// error, and its loader does not run.
async fn time_limits_count_beside_a_holder(shared: &Shared) {
    let mut holder = shared.process("hold", 600_000);
    holder.hear("loading");
    limited_calls_end(shared).await;
    // By the signal that cannot be handled: its lease stays.
    holder.child.kill().unwrap();
    limited_calls_end(shared).await;
}

async fn limited_calls_end(shared: &Shared) {
    let cache = shared.cache().with_lease(Duration::from_secs(600));
    let (blocking, view) = (cache.blocking(), cache.hard_timeout(LIMIT));
    let ok = Ok::<u64, &str>;
    let none_ran = |_: Vec<String>| async { [(KEY.to_owned(), 1u64)] };
    ends("a value", view.get_or_set(KEY, 1)).await;
    ends("a closure", view.get_or_set_with(KEY, |_| 1)).await;
    ends("a closure that may fail", view.try_get_or_set_with(KEY, |_| ok(1))).await;
    ends("a closure that decides", view.get_or_set_loaded_with(KEY, |_| Loaded::new(1))).await;
    ends("a future", view.get_or_set_async(KEY, async { 1 })).await;
    ends("a future that may fail", view.try_get_or_set_async(KEY, async move { ok(1) })).await;
    ends("a future that is made", view.get_or_load(KEY, || async { 1 })).await;
    ends("a future in its caller", view.get_or_load_here(KEY, || async { 1 })).await;
    ends("several keys", view.get_or_set_many_async([KEY], none_ran)).await;
    let on_a_thread = tokio::task::spawn_blocking(move || {
        let view = blocking.hard_timeout(LIMIT);
        is_late("a value", view.get_or_set(KEY, 1));
        is_late("a closure", view.get_or_set_with(KEY, |_| 1));
        is_late("a closure that may fail", view.try_get_or_set_with(KEY, |_| ok(1)));
        is_late("a future", view.get_or_set_async(KEY, async { 1 }));
        is_late("a future in its caller", view.get_or_load_here(KEY, || async { 1 }));
        is_late("several keys", view.get_or_set_many_async([KEY], none_ran));
    });
    within(PATIENCE, "the blocking face", on_a_thread).await.unwrap();
    assert_eq!(cache.get::<u64>(KEY).await.unwrap(), None);
}

async fn ends<T: Debug>(what: &str, call: impl Future<Output = larder::Result<T>>) {
    is_late(what, within(PATIENCE, what, call).await);
}

fn is_late<T: Debug>(what: &str, answer: larder::Result<T>) {
    let late = answer.unwrap_err();
    assert_eq!((late.kind(), late.key()), (ErrorKind::Timeout, Some(KEY)), "{what}");
}

/// A removal against loads, between processes: what was loaded before a removal is not there after
/// it. A value is the time at which its load began, so whatever is read after a removal must not be
/// older than that.
async fn removals_win(shared: &Shared, trials: u64) {
    let mut loader = shared.process("load", trials);
    loader.hear("loading");
    let cache = shared.cache();
    let (begun, enough) = (Instant::now(), Arc::new(AtomicBool::new(false)));
    let mut tasks = JoinSet::new();
    for task in 0..4 {
        let (cache, enough) = (cache.clone(), enough.clone());
        tasks.spawn(async move {
            let (mut all, mut live, mut stale, mut seen) = (0, 0, 0, 0);
            while all < trials / 4 || !enough.load(Ordering::Relaxed) {
                let key = key(task * KEYS / 4 + all);
                let removed_at = now();
                live += u64::from(cache.remove(&key).await.unwrap());
                let found: Option<u64> = cache.get(&key).await.unwrap();
                all += 1;
                seen += u64::from(found.is_some());
                stale += u64::from(found.is_some_and(|loaded_at| loaded_at < removed_at));
            }
            [all, live, stale, seen]
        });
    }
    let listening = tokio::task::spawn_blocking(move || {
        let heard = loader.listen("enough");
        enough.store(true, Ordering::Relaxed);
        heard.map(|_| loader)
    });
    let [all, live, stale, seen] = tasks
        .join_all()
        .await
        .into_iter()
        .fold([0; 4], |sum, task| [0, 1, 2, 3].map(|at| sum[at] + task[at]));
    let mut loader = listening.await.unwrap().expect("the loads go on until there are enough");
    loader.go();
    let loads = loader.done().runs;
    let took = begun.elapsed();
    println!(
        "{all} removals, {live} of live values, against {loads} loads in {took:?}: {seen} reads found a value, {stale} a removed one"
    );
    assert_eq!(stale, 0);
    assert!(
        all >= trials && loads >= trials && live > 0,
        "{all} removals, {live} of live values, {loads} loads"
    );
}

macro_rules! each_store {
    ($($store:ident, $short:literal, $long:literal;)*) => {$(
        mod $store {
            use super::*;

            #[test]
            fn four_processes_run_once() {
                one_run_for_all(&Shared::$store());
            }

            #[test]
            fn a_holder_that_is_killed_delays_others_by_its_lease() {
                a_killed_holder_costs_one_lease(&Shared::$store());
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_hard_timeout_ends_each_verbs_wait_for_another_process() {
                time_limits_count_beside_a_holder(&Shared::$store()).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn two_instances() {
                two_instances_run_once(&Shared::$store()).await;
            }

            #[tokio::test]
            async fn what_is_not_stored_is_given_back() {
                a_lease_is_given_back(&Shared::$store()).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn removals_against_loads_of_another_process() {
                removals_win(&Shared::$store(), soak($short, $long)).await;
            }
        }
    )*};
}

each_store! {
    redis, 3_000, 100_000;
    memcached, 1_500, 100_000;
    sqlite, 1_000, 100_000;
}
