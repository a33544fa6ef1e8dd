//! A write that timed out must not take effect after a later removal.

use super::CODECS;
use super::{on, patient, prefix};
use crate::remote::order::{LATER, TOGETHER, dropped_before, remove_all, write_by};
use crate::remote::{Cache, PATIENT};
use crate::support::turns::turn;
use crate::support::{Memcached, Proxy, eventually, holds_within};
use larder::{AsyncCacheAdapter, AsyncMemcachedCache, CacheValue, Entry, ErrorKind, Expiry};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A proxy that can hold back the bytes of older connections while newer ones are served.
struct Reordering {
    addr: SocketAddr,
    /// Connections with a lower number wait.
    kept: watch::Sender<usize>,
    accepted: Arc<AtomicUsize>,
}

impl Reordering {
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

async fn pass(
    client: TcpStream,
    target: SocketAddr,
    number: usize,
    mut keeping: watch::Receiver<usize>,
) -> io::Result<()> {
    let (mut from_server, mut to_server) = TcpStream::connect(target).await?.into_split();
    let (mut from_client, mut to_client) = client.into_split();
    let answers =
        tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    let mut chunk = vec![0; 16 * 1024];
    loop {
        // Bytes that were read are passed on, however late, even if the client has closed the
        // connection.
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

/// The connection is abandoned, the removal is acknowledged over another one, and then the write
/// arrives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_from_a_connection_that_was_given_up() {
    let _turn = turn();
    let server = Memcached::start();
    let way = Reordering::start(server.addr()).await;
    let prefix = prefix();
    let witness = patient(on(&server).prefix(&prefix));
    let builder =
        AsyncMemcachedCache::builder().server(way.addr.to_string()).prefix(&prefix).pool_size(1);
    let cache: Cache = Arc::new(builder.op_timeout(Duration::from_millis(50)).build().unwrap());
    let (mut arrived, mut old) = (0, 0);
    for round in 0..200 {
        let keys: Vec<String> = (0..TOGETHER).map(|n| format!("k{round}-{n}")).collect();
        let entries: Vec<Entry<'_>> =
            keys.iter().map(|key| Entry::new(key, CacheValue::new("old"), Expiry::Never)).collect();
        while cache.set("warm", CacheValue::new(1), Expiry::Never).await.is_err() {}
        way.keep_back();
        let stored = cache.set_many(&entries).await.unwrap();
        if !stored
            .iter()
            .all(|stored| matches!(stored, Err(error) if error.kind() == ErrorKind::Timeout))
        {
            // On a busy machine the connection was lost before, and the writes went over a new one.
            way.release();
            continue;
        }
        remove_all(&cache, round).await;
        way.release();
        let late =
            || keys.iter().filter(|key| server.get(&format!("{prefix}{key}")).is_some()).count();
        // On a busy machine the proxy may have held back the read of the clear log, and no write
        // was sent.
        holds_within(Duration::from_millis(500), || late() == TOGETHER);
        arrived += late();
        for key in &keys {
            for cache in [&*cache, &witness as &dyn AsyncCacheAdapter] {
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

/// What a clear sends: the log of clears.
const LOG: &[u8] = b"ms ~r";

/// Every verb that writes, after a clear that was dropped with its last command in flight.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clear_without_a_caller_lands_before_later_writes() {
    for codec in CODECS {
        for verb in LATER {
            let server = Memcached::start();
            let proxy = Proxy::start(server.addr());
            let builder = AsyncMemcachedCache::builder().server(proxy.addr().to_string());
            let builder = builder.prefix(prefix()).codec(codec).pool_size(4);
            let cache = builder.op_timeout(PATIENT).build().unwrap();
            cache.set("k", CacheValue::new(1), Expiry::Never).await.unwrap();
            let clearing = cache.clone();
            let clear = async move { clearing.clear("").await.unwrap() };
            let cleared = server.stat("cas_hits");
            dropped_before(&proxy, LOG, clear, write_by(&cache, verb)).await;
            eventually("the clear arrives", PATIENT, async || server.stat("cas_hits") > cleared)
                .await;
            assert!(cache.contains("k").await.unwrap(), "{codec}, {verb}");
        }
    }
}

/// The clear's connection is given up, a write is acknowledged, and then the clear arrives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clear_from_a_connection_that_was_given_up_undoes_no_later_write() {
    for codec in CODECS {
        let server = Memcached::start();
        let proxy = Proxy::start(server.addr());
        let builder = AsyncMemcachedCache::builder().server(proxy.addr().to_string());
        let builder = builder.prefix(prefix()).codec(codec).pool_size(4);
        let cache = builder.op_timeout(Duration::from_millis(100)).build().unwrap();
        eventually("the log is there", PATIENT, async || {
            cache.set("k", CacheValue::new(1), Expiry::Never).await.is_ok()
        })
        .await;
        proxy.keep_requests_from(LOG);
        cache.clear("").await.unwrap_err();
        assert!(proxy.sent() > 0);
        eventually("a write is acknowledged", PATIENT, async || {
            cache.set("k", CacheValue::new(2), Expiry::Never).await.is_ok()
        })
        .await;
        let before = server.stat("cas_badval") + server.stat("cas_hits");
        proxy.release_kept();
        eventually("the clear arrives", PATIENT, async || {
            server.stat("cas_badval") + server.stat("cas_hits") > before
        })
        .await;
        eventually("the connection answers", PATIENT, async || cache.ping().await.is_ok()).await;
        let found = cache.get("k").await.unwrap().map(|value| value.decode::<i64>().unwrap());
        assert_eq!(found, Some(2), "{codec}");
    }
}
