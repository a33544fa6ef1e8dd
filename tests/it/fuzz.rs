//! Servers that answer nonsense: whatever bytes come, a call is a right value, a miss or a typed
//! error, by its deadline. Bounded; `LARDER_SOAK_MINUTES` makes it longer. What comes out of
//! headers, values, keys and expiry is fuzzed in `codec`.
//!
//! In a process of its own, in which a panic in any task is seen.
#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

use crate::remote::{Cache, Remote, Setup, on_each};
use crate::support::alone::alone;
use crate::support::noise::noise;
use crate::trials::rng;
use larder::{AsyncCacheAdapter, CacheValue, Entry, Expiry};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const SHORT: Duration = Duration::from_secs(4);
const OP_TIMEOUT: Duration = Duration::from_millis(60);
const KEYS: usize = 40;
/// In megabytes.
const MOST_MEMORY: u64 = 512;

on_each!(blocking whatever_a_server_answers);

static PANICS: AtomicUsize = AtomicUsize::new(0);
static HITS: AtomicUsize = AtomicUsize::new(0);

/// So many right values have to be among the answers, or nothing was tried; it takes as long as it
/// takes.
const ENOUGH: usize = 20;
const LONGEST: Duration = Duration::from_secs(100);

fn whatever_a_server_answers<S: Remote>() {
    alone(&format!("fuzz::{}::whatever_a_server_answers", S::KIND), || {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.fetch_add(1, Ordering::SeqCst);
            hook(info);
        }));
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
            .block_on(fuzz::<S>());
    });
}

/// Words of either protocol, and what breaks readers of them.
const WORDS: [&[u8]; 40] = [
    b"HD\r\n",
    b"EN\r\n",
    b"NS\r\n",
    b"EX\r\n",
    b"NF\r\n",
    b"MN\r\n",
    b"VA 5 t-1\r\nhello\r\n",
    b"VA 5\r\nhel",
    b"VA -1\r\n",
    b"VA 18446744073709551615 f0\r\n",
    b"VA 1073741824 f1\r\n",
    b"VA 3\r\n123\r\n",
    b"ERROR\r\n",
    b"CLIENT_ERROR bad\r\n",
    b"SERVER_ERROR out of memory\r\n",
    b"STORED\r\n",
    b"END\r\n",
    b"VALUE k1 0 5\r\nhello\r\n",
    b"VALUE k1 0 4294967296\r\n",
    b"OK\r\n",
    b"+OK\r\n",
    b"+PONG\r\n",
    b"$-1\r\n",
    b"$5\r\nhello\r\n",
    b"$999999999999\r\n",
    b"$-2\r\n",
    b"*-1\r\n",
    b"*0\r\n",
    b"*2\r\n$-1\r\n",
    b"*1000000000\r\n",
    b":1\r\n",
    b":99999999999999999999\r\n",
    b"-ERR no\r\n",
    b"-MOVED 1 127.0.0.1:1\r\n",
    b"%2\r\n",
    b"_\r\n",
    b"\r\n",
    b"\n",
    b"\0\0\0\0",
    b"\xC1LD\x01\0\0\0\0",
];

/// A server between the real one and the cache, which garbles what goes back, or never asks at all.
async fn garbling(
    target: SocketAddr,
    on: Arc<AtomicBool>,
    mut random: fastrand::Rng,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            // An error is the end of a connection, on either side.
            tokio::spawn(garble(client, target, on.clone(), random.fork()));
        }
    });
    addr
}

async fn garble(
    mut client: TcpStream,
    target: SocketAddr,
    on: Arc<AtomicBool>,
    mut random: fastrand::Rng,
) -> io::Result<()> {
    let mut server = TcpStream::connect(target).await?;
    let alone = random.u8(..10) == 0;
    let (mut asked, mut answered) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    loop {
        tokio::select! {
            len = client.read(&mut asked) => match len? {
                0 => return Ok(()),
                _ if alone && on.load(Ordering::Relaxed) => client.write_all(&nonsense(&mut random)).await?,
                len => server.write_all(&asked[..len]).await?,
            },
            len = server.read(&mut answered) => {
                let len = len?;
                if len == 0 {
                    return Ok(());
                }
                let mut answer = answered[..len].to_vec();
                if on.load(Ordering::Relaxed) && random.u8(..20) == 0 {
                    answer = garbled(answer, &mut random);
                }
                client.write_all(&answer).await?;
            }
        }
    }
}

fn nonsense(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..random.usize(0..6) {
        match random.u8(..4) {
            0 => bytes.extend((0..random.usize(..40)).map(|_| random.u8(..))),
            _ => bytes.extend(WORDS[random.usize(..WORDS.len())]),
        }
    }
    bytes
}

fn garbled(mut answer: Vec<u8>, random: &mut fastrand::Rng) -> Vec<u8> {
    let at = random.usize(..answer.len());
    match random.u8(..7) {
        0 => answer[at] ^= 1 << random.u8(..8),
        1 => answer.truncate(at),
        2 => answer.extend_from_within(at..),
        3 => drop(answer.splice(at..at, nonsense(random))),
        4 => answer = nonsense(random),
        5 => drop(answer.remove(at)),
        _ => answer[at] = random.u8(..),
    }
    answer
}

fn value_of(key: usize) -> String {
    format!("value of {key}: {}", "x".repeat(key * 29))
}

async fn call(cache: &Cache, verb: u8, number: usize) -> (usize, bool) {
    let (key, other) = (format!("k{number}"), format!("k{}", (number + 1) % KEYS));
    let right = |number: usize, found: Option<CacheValue>| {
        // Unreadable, or of no such type: a typed error. What can be read is right.
        if let Some(Ok(found)) = found.map(|found| found.decode::<String>()) {
            assert_eq!(found, value_of(number), "another value");
            return 1;
        }
        0
    };
    let value = || CacheValue::new(value_of(number));
    let entries = || [Entry::new(&key, value(), Expiry::Default)];
    let done = match verb {
        0 => cache.set(&key, value(), Expiry::Default).await.map(|()| 0),
        1 => cache.remove(&key).await.map(|_| 0),
        2 => cache.add(&key, value(), Expiry::Default).await.map(|_| 0),
        3 => cache.incr("count", 1, Expiry::Default).await.map(|_| 0),
        4 => cache.touch(&key, Expiry::Default).await.map(|_| 0),
        5 => cache.expiry(&key).await.map(|_| 0),
        6 => cache.take(&key).await.map(|found| right(number, found)),
        7 => cache.set_many(&entries()).await.map(|_| 0),
        8 => cache.update_timeout(&key, Expiry::Default).await.map(|found| right(number, found)),
        9 => cache.clear("never:").await.map(|()| 0),
        10 => cache.ping().await.map(|()| 0),
        11 | 12 => cache.get_many(&[&key, &other]).await.map(|found| {
            assert_eq!(found.len(), 2);
            let each = found.into_iter().zip([number, (number + 1) % KEYS]);
            each.map(|(found, number)| found.map_or(0, |found| right(number, found))).sum()
        }),
        _ => cache.get(&key).await.map(|found| right(number, found)),
    };
    (done.as_ref().map_or(0, |hits| *hits), done.is_ok())
}

async fn fuzz<S: Remote>() {
    let lasting =
        std::env::var("LARDER_SOAK_MINUTES").ok().and_then(|minutes| minutes.parse().ok());
    let lasting = lasting.map_or(SHORT, |minutes: f64| Duration::from_secs_f64(minutes * 60.0));
    let mut random = rng(S::KIND);
    let server = S::start();
    let on = Arc::new(AtomicBool::new(true));
    let way = garbling(server.addr(), on.clone(), random.fork()).await;
    let url = server.url().replace(&server.addr().to_string(), &way.to_string());
    let cache = S::adapter(&url, Setup::new().op_timeout(OP_TIMEOUT).pool_size(2));
    let begun = Instant::now();
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let (cache, mut random) = (cache.clone(), random.fork());
            tokio::spawn(async move {
                let (mut calls, mut good, mut longest) = (0, 0, Duration::ZERO);
                while begun.elapsed() < lasting
                    || (HITS.load(Ordering::Relaxed) < ENOUGH && begun.elapsed() < LONGEST)
                {
                    let asked = Instant::now();
                    let (found, went_well) =
                        call(&cache, random.u8(..20), random.usize(..KEYS)).await;
                    longest = longest.max(asked.elapsed());
                    HITS.fetch_add(found, Ordering::Relaxed);
                    (calls, good) = (calls + 1, good + usize::from(went_well));
                    if !went_well {
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                }
                (calls, good, longest)
            })
        })
        .collect();
    let (mut calls, mut good, mut longest) = (0, 0, Duration::ZERO);
    for caller in callers {
        let its = caller.await.expect("no panic and no wrong value");
        (calls, good, longest) = (calls + its.0, good + its.1, longest.max(its.2));
    }
    let hits = HITS.load(Ordering::Relaxed);
    // Once it answers as it should, all is well again.
    on.store(false, Ordering::Relaxed);
    let well = || async { call(&cache, 0, 1).await.1 && call(&cache, 20, 1).await == (1, true) };
    crate::support::eventually(
        "the server is understood again",
        Duration::from_secs(10) + noise(),
        well,
    )
    .await;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| {
        line.strip_prefix("VmHWM:")?.trim().trim_end_matches(" kB").parse::<u64>().ok()
    });
    let peak = peak.unwrap_or_default() / 1024;
    println!(
        "{}: {calls} calls to a server that garbles, {good} went well, {hits} right values, 0 wrong, longest {longest:?}, peak {peak} MB",
        S::KIND
    );
    assert_eq!(PANICS.load(Ordering::SeqCst), 0);
    assert!(hits >= ENOUGH && good < calls, "{hits} hits, {good} of {calls}");
    assert!(longest <= OP_TIMEOUT + noise(), "{longest:?}");
    assert!(peak <= MOST_MEMORY, "{peak} MB");
}
