//! A write that timed out must not land after a later removal.

use super::{on, patient, prefix, through};
use crate::support::{Memcached, Proxy, holds_within};
use larder::{AsyncCacheAdapter, AsyncMemcachedCache, CacheValue, Entry, ErrorKind, Expiry};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

const PATIENCE: Duration = Duration::from_millis(25);
const TOGETHER: usize = 50;
const ROUNDS: usize = 20;
/// A busy machine may find its connections gone and be told so at once, in place of a timeout. Such rounds prove nothing and are
/// run again.
const MOST_ROUNDS: usize = 10 * ROUNDS;

/// Begins writes that cannot arrive; returns how many timed out.
async fn write_into_nothing(cache: &AsyncMemcachedCache, round: usize, value: &str) -> usize {
    let mut writes = JoinSet::new();
    for n in 0..TOGETHER {
        let (cache, key, value) = (cache.clone(), format!("k{round}-{n}"), value.to_owned());
        writes.spawn(async move { cache.set(&key, CacheValue::new(value), Expiry::Never).await });
    }
    let outcomes = writes.join_all().await;
    outcomes.into_iter().filter(|outcome| matches!(outcome, Err(error) if error.kind() == ErrorKind::Timeout)).count()
}

/// Until writes get through.
async fn warm_up(cache: &AsyncMemcachedCache) {
    while cache.set("warm", CacheValue::new("up"), Expiry::Never).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Removes, again and again until each removal is acknowledged.
async fn remove_all(cache: &AsyncMemcachedCache, round: usize) {
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

/// Long enough that connections are thrown away with the writes under way, in every other round.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_timed_out_does_not_come_back() {
    let server = Memcached::start();
    let proxy = Proxy::start(server.addr());
    let prefix = prefix();
    // Another instance, as of another process, and with more patience.
    let witness = patient(on(&server).prefix(&prefix));
    let cache = through(&proxy).prefix(&prefix).op_timeout(PATIENCE).build().unwrap();
    let (mut timed_out, mut rounds) = (0, 0);
    while timed_out < TOGETHER * ROUNDS * 9 / 10 && rounds < MOST_ROUNDS {
        warm_up(&cache).await;
        proxy.hold();
        timed_out += write_into_nothing(&cache, rounds, "old").await;
        if rounds % 2 == 1 {
            for _ in 0..3 {
                write_into_nothing(&cache, rounds, "old").await;
            }
        }
        proxy.release();
        remove_all(&cache, rounds).await;
        rounds += 1;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let keys: Vec<String> = (0..rounds).flat_map(|round| (0..TOGETHER).map(move |n| format!("k{round}-{n}"))).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let found = witness.get_many(&keys).await.unwrap();
    let returned = found.into_iter().filter(|found| found.as_ref().unwrap().is_some()).count();
    println!("{timed_out} writes timed out in {rounds} rounds and were removed, {returned} old values 1 s later");
    assert_eq!(returned, 0);
    assert!(timed_out >= TOGETHER * ROUNDS * 9 / 10, "{timed_out}");
}

/// The same over a path that holds bytes for longer than anybody waits, without a hold: each write times out, each removal is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_over_a_slow_path() {
    let server = Memcached::start();
    let proxy = Proxy::start(server.addr());
    let prefix = prefix();
    let witness = patient(on(&server).prefix(&prefix));
    let cache = through(&proxy).prefix(&prefix).op_timeout(Duration::from_millis(50)).build().unwrap();
    let (mut timed_out, mut rounds) = (0, 0);
    while timed_out < TOGETHER && rounds < MOST_ROUNDS {
        warm_up(&cache).await;
        proxy.delay(Duration::from_millis(60), Duration::ZERO);
        timed_out += write_into_nothing(&cache, rounds, "old").await;
        proxy.delay(Duration::ZERO, Duration::ZERO);
        remove_all(&cache, rounds).await;
        rounds += 1;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    for (round, n) in (0..rounds).flat_map(|round| (0..TOGETHER).map(move |n| (round, n))) {
        assert!(!witness.contains(&format!("k{round}-{n}")).await.unwrap());
    }
    println!("{timed_out} writes timed out over a slow path in {rounds} rounds, 0 old values");
    assert!(timed_out >= TOGETHER, "{timed_out}");
}

/// The same for `clear`, which goes over one lane only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_after_a_clear() {
    let server = Memcached::start();
    let proxy = Proxy::start(server.addr());
    let prefix = prefix();
    let witness = patient(on(&server).prefix(&prefix));
    let cache = through(&proxy).prefix(&prefix).op_timeout(Duration::from_millis(100)).build().unwrap();
    let (mut timed_out, mut rounds, mut left) = (0, 0, 0);
    while timed_out < TOGETHER && rounds < MOST_ROUNDS {
        warm_up(&cache).await;
        proxy.hold();
        timed_out += write_into_nothing(&cache, rounds, "old").await;
        // Freed slowly: without care the clear would overtake.
        proxy.delay(Duration::from_millis(20), Duration::ZERO);
        proxy.release();
        while cache.clear("").await.is_err() {}
        tokio::time::sleep(Duration::from_millis(500)).await;
        proxy.delay(Duration::ZERO, Duration::ZERO);
        for n in 0..TOGETHER {
            left += usize::from(witness.contains(&format!("k{rounds}-{n}")).await.unwrap());
        }
        rounds += 1;
    }
    println!("{timed_out} writes timed out, {left} of them there half a second after a clear");
    assert_eq!(left, 0);
    assert!(timed_out >= TOGETHER, "{timed_out}");
}

/// A way to the server on which what the older connections carry can be kept back, while newer ones are served.
struct Overtaking {
    addr: SocketAddr,
    /// Connections with a lower number wait.
    kept: watch::Sender<usize>,
    accepted: Arc<AtomicUsize>,
}

impl Overtaking {
    async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (kept, keeping) = watch::channel(0);
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let number = count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(pass(client, target, number, keeping.clone()));
            }
        });
        Self { addr, kept, accepted }
    }

    fn keep_back(&self) {
        self.kept.send_replace(self.accepted.load(Ordering::SeqCst));
    }

    fn release(&self) {
        self.kept.send_replace(0);
    }
}

async fn pass(client: TcpStream, target: SocketAddr, number: usize, mut keeping: watch::Receiver<usize>) -> io::Result<()> {
    let (mut from_server, mut to_server) = TcpStream::connect(target).await?.into_split();
    let (mut from_client, mut to_client) = client.into_split();
    let answers = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    let mut chunk = vec![0; 16 * 1024];
    loop {
        // What was read is passed on, however late, and also if the client is gone by then.
        let len = from_client.read(&mut chunk).await.unwrap_or(0);
        let _ = keeping.wait_for(|kept| number >= *kept).await;
        if len == 0 {
            break;
        }
        to_server.write_all(&chunk[..len]).await?;
    }
    drop(to_server);
    let _ = answers.await;
    Ok(())
}

/// The connection was given up, the removal was acknowledged over another one, and then the write arrives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_from_a_connection_that_was_given_up() {
    let server = Memcached::start();
    let way = Overtaking::start(server.addr()).await;
    let prefix = prefix();
    let witness = patient(on(&server).prefix(&prefix));
    let builder = AsyncMemcachedCache::builder().server(way.addr.to_string()).prefix(&prefix).pool_size(1);
    let cache = builder.op_timeout(Duration::from_millis(50)).build().unwrap();
    let (mut arrived, mut old) = (0, 0);
    for round in 0..20 {
        let keys: Vec<String> = (0..TOGETHER).map(|n| format!("k{round}-{n}")).collect();
        let entries: Vec<Entry<'_>> = keys.iter().map(|key| Entry::new(key, CacheValue::new("old"), Expiry::Never)).collect();
        while cache.set("warm", CacheValue::new(1), Expiry::Never).await.is_err() {}
        way.keep_back();
        let stored = cache.set_many(&entries).await.unwrap();
        assert!(stored.iter().all(|stored| matches!(stored, Err(error) if error.kind() == ErrorKind::Timeout)), "{stored:?}");
        remove_all(&cache, round).await;
        way.release();
        let late = || keys.iter().filter(|key| server.get(&format!("{prefix}{key}")).is_some()).count();
        // On a busy machine it may be the question for the registry that was kept back, and no write was sent.
        holds_within(Duration::from_millis(500), || late() == TOGETHER);
        arrived += late();
        for key in &keys {
            for cache in [&cache, &witness] {
                while let Err(error) = cache.get(key).await {
                    assert!(error.is_retryable(), "{error:?}");
                }
                old += usize::from(cache.contains(key).await.is_ok_and(|live| live));
            }
        }
        if arrived > 0 {
            break;
        }
    }
    println!("{arrived} writes arrived after their removal, {old} of them served");
    assert!(arrived > 0);
    assert_eq!(old, 0);
}
