//! A write that timed out must not land after a later removal.

use super::{Cache, PATIENT, Remote, Setup, on_each};
use crate::support::turns::turn;
use crate::support::{Proxy, eventually};
use larder::{AsyncCacheAdapter, CacheValue, Entry, ErrorKind, Expiry};
use std::time::Duration;
use tokio::task::JoinSet;

pub(crate) const PATIENCE: Duration = Duration::from_millis(25);
pub(crate) const TOGETHER: usize = 50;
/// How long a call may take to reach the server where nothing holds it back.
pub(crate) const PROMPT: Duration = Duration::from_millis(500);
const ROUNDS: usize = 20;
/// On a busy machine a connection may be gone, so that a call fails at once instead of by a
/// timeout. Such rounds prove nothing and are run again.
const MOST_ROUNDS: usize = 10 * ROUNDS;

on_each!(async a_write_that_timed_out_does_not_come_back, nor_over_a_slow_path, nor_after_a_clear);

/// Begins writes that cannot arrive; returns how many timed out.
async fn write_into_nothing(cache: &Cache, round: usize) -> usize {
    let mut writes = JoinSet::new();
    for n in 0..TOGETHER {
        let (cache, key) = (cache.clone(), format!("k{round}-{n}"));
        writes.spawn(async move { cache.set(&key, CacheValue::new("old"), Expiry::Never).await });
    }
    let outcomes = writes.join_all().await;
    outcomes
        .into_iter()
        .filter(|outcome| matches!(outcome, Err(error) if error.kind() == ErrorKind::Timeout))
        .count()
}

/// Until writes get through.
async fn warm_up(cache: &Cache) {
    while cache.set("warm", CacheValue::new("up"), Expiry::Never).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Removes, again and again until each removal is acknowledged.
pub(crate) async fn remove_all(cache: &Cache, round: usize) {
    let mut removals = JoinSet::new();
    for n in 0..TOGETHER {
        let (cache, key) = (cache.clone(), format!("k{round}-{n}"));
        removals.spawn(async move {
            while cache.remove(&key).await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
    }
    removals.join_all().await;
}

/// How many of the rounds' keys are there.
async fn live(witness: &Cache, rounds: std::ops::Range<usize>) -> usize {
    let mut live = 0;
    for (round, n) in rounds.flat_map(|round| (0..TOGETHER).map(move |n| (round, n))) {
        live += usize::from(witness.contains(&format!("k{round}-{n}")).await.unwrap());
    }
    live
}

/// Writes that a proxy holds until they timed out, and their removal. `witness` is another instance
/// over the same keys, with patience.
pub(crate) async fn race(cache: &Cache, proxy: &Proxy, witness: &Cache, what: &str) {
    let (mut timed_out, mut rounds) = (0, 0);
    while timed_out < TOGETHER * ROUNDS * 9 / 10 && rounds < MOST_ROUNDS {
        warm_up(cache).await;
        proxy.hold();
        timed_out += write_into_nothing(cache, rounds).await;
        if rounds % 2 == 1 {
            // Long enough that connections are thrown away with the writes in flight.
            for _ in 0..3 {
                write_into_nothing(cache, rounds).await;
            }
        }
        proxy.release();
        remove_all(cache, rounds).await;
        rounds += 1;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let returned = live(witness, 0..rounds).await;
    println!(
        "{what}: {timed_out} writes timed out in {rounds} rounds and were removed, {returned} old values 1 s later"
    );
    assert_eq!(returned, 0);
    assert!(timed_out >= TOGETHER * ROUNDS * 9 / 10, "{timed_out}");
}

async fn a_write_that_timed_out_does_not_come_back<S: Remote>() {
    let _turn = turn();
    let server = S::start();
    let proxy = Proxy::start(server.addr());
    let setup = Setup::patient();
    let witness = server.cache(setup.clone());
    race(
        &S::adapter(&proxy.url(server.url()), setup.op_timeout(PATIENCE)),
        &proxy,
        &witness,
        S::KIND,
    )
    .await;
}

/// The same over a path that delays bytes for longer than any caller waits: each write times out,
/// and each removal is acknowledged.
async fn nor_over_a_slow_path<S: Remote>() {
    let _turn = turn();
    let server = S::start();
    let proxy = Proxy::start(server.addr());
    let setup = Setup::patient();
    let witness = server.cache(setup.clone());
    let cache = S::adapter(&proxy.url(server.url()), setup.op_timeout(Duration::from_millis(50)));
    let (mut timed_out, mut rounds) = (0, 0);
    while timed_out < TOGETHER && rounds < MOST_ROUNDS {
        warm_up(&cache).await;
        proxy.delay(Duration::from_millis(60), Duration::ZERO);
        timed_out += write_into_nothing(&cache, rounds).await;
        proxy.delay(Duration::ZERO, Duration::ZERO);
        remove_all(&cache, rounds).await;
        rounds += 1;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let returned = live(&witness, 0..rounds).await;
    println!(
        "{}: {timed_out} writes timed out over a slow path in {rounds} rounds, {returned} old values",
        S::KIND
    );
    assert_eq!(returned, 0);
    assert!(timed_out >= TOGETHER, "{timed_out}");
}

/// The same for `clear`, which goes over a lane of its own.
async fn nor_after_a_clear<S: Remote>() {
    let _turn = turn();
    let server = S::start();
    let proxy = Proxy::start(server.addr());
    let setup = Setup::patient();
    let witness = server.cache(setup.clone());
    let cache = S::adapter(&proxy.url(server.url()), setup.op_timeout(Duration::from_millis(100)));
    let (mut timed_out, mut rounds, mut left) = (0, 0, 0);
    while timed_out < TOGETHER && rounds < MOST_ROUNDS {
        warm_up(&cache).await;
        proxy.hold();
        timed_out += write_into_nothing(&cache, rounds).await;
        // Freed slowly: without care the clear would come first.
        proxy.delay(Duration::from_millis(20), Duration::ZERO);
        proxy.release();
        while cache.clear("").await.is_err() {}
        tokio::time::sleep(Duration::from_millis(500)).await;
        proxy.delay(Duration::ZERO, Duration::ZERO);
        left += live(&witness, rounds..rounds + 1).await;
        rounds += 1;
    }
    println!(
        "{}: {timed_out} writes timed out in {rounds} rounds, {left} of them there half a second after a clear",
        S::KIND
    );
    assert_eq!(left, 0);
    assert!(timed_out >= TOGETHER, "{timed_out}");
}

/// The verbs after which a live key `k` is there, whether or not it was before; `incr` needs a
/// number.
pub(crate) const LATER: [&str; 6] = ["set", "set_many", "add", "incr", "set_claimed", "replace"];

/// Writes the key `k` by a verb, until the key is there.
pub(crate) fn write_by<A: AsyncCacheAdapter + Clone>(
    cache: &A,
    verb: &'static str,
) -> impl Future<Output = ()> + Send + use<A> {
    let cache = cache.clone();
    async move {
        let value = || CacheValue::new("later");
        match verb {
            "set" => cache.set("k", value(), Expiry::Never).await.unwrap(),
            "set_many" => {
                let entries = [Entry::new("k", value(), Expiry::Never)];
                cache.set_many(&entries).await.unwrap().remove(0).unwrap();
            }
            "add" => {
                // `false` while the older value is still there.
                if !cache.add("k", value(), Expiry::Never).await.unwrap() {
                    cache.set("k", value(), Expiry::Never).await.unwrap();
                }
            }
            "incr" => drop(cache.incr("k", 1, Expiry::Never).await.unwrap()),
            "set_claimed" => {
                let claim = cache.claim("k", None).await.unwrap().unwrap();
                if !cache.set_claimed("k", value(), Expiry::Never, &claim).await.unwrap() {
                    cache.set("k", value(), Expiry::Never).await.unwrap();
                }
            }
            _ => {
                if !cache.replace("k", value(), Expiry::Never).await.unwrap() {
                    cache.set("k", value(), Expiry::Never).await.unwrap();
                }
            }
        }
    }
}

/// Drops a call whose request, which contains `word`, a proxy keeps; then makes a later one, and
/// lets both arrive. Out of its turn the later one is executed at once, and in its turn not before
/// the first one.
pub(crate) async fn dropped_before(
    proxy: &Proxy,
    word: &'static [u8],
    dropped: impl Future<Output = ()> + Send + 'static,
    later: impl Future<Output = ()> + Send + 'static,
) {
    proxy.keep_requests_from(word);
    let dropped = tokio::spawn(dropped);
    eventually("the call is on its way", PATIENT, async || proxy.sent() > 0).await;
    dropped.abort();
    assert!(dropped.await.unwrap_err().is_cancelled());
    let mut later = tokio::spawn(later);
    let done = tokio::time::timeout(PROMPT, &mut later).await;
    proxy.release_kept();
    match done {
        Ok(done) => done.unwrap(),
        Err(_) => later.await.unwrap(),
    }
}
