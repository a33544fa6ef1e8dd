//! Nodes behind links that hold, cut and slice, beside writers, and a server that stands still and
//! closes connections.

use super::*;
use crate::support::Proxy;
use crate::support::values::soak;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

const BOUND: Duration = Duration::from_millis(100);
const KEYS: usize = 8;

/// The writes of each key that have returned: the number that was written, and when.
type Written = Arc<[Mutex<Vec<(u64, Instant)>>; KEYS]>;

/// The newest number whose write had returned `BOUND` before `begun`.
fn superseded(written: &Written, key: usize, begun: Instant) -> u64 {
    let written = written[key].lock().unwrap();
    let old = written.iter().rev().find(|(_, returned)| *returned + BOUND <= begun);
    old.map_or(0, |(number, _)| *number)
}

async fn write(plain: AsyncCacheWrapper, written: Written, is_over: Arc<AtomicBool>) {
    let mut number = 0;
    while !is_over.load(Ordering::SeqCst) {
        number += 1;
        let key = fastrand::usize(..KEYS);
        plain.set(&format!("k{key}"), number).await.unwrap();
        written[key].lock().unwrap().push((number, Instant::now()));
        tokio::time::sleep(Duration::from_millis(fastrand::u64(..30))).await;
    }
}

/// Returns how many reads were answered.
async fn read(node: AsyncCacheWrapper, written: Written, is_over: Arc<AtomicBool>) -> u64 {
    let mut answered = 0;
    while !is_over.load(Ordering::SeqCst) {
        let key = fastrand::usize(..KEYS);
        let begun = Instant::now();
        if let Ok(found) = node.get::<u64>(&format!("k{key}")).await {
            let oldest = superseded(&written, key, begun);
            let found = found.unwrap_or(0);
            assert!(found >= oldest, "{found} of k{key}, where {oldest} was {BOUND:?} old");
            answered += 1;
        }
        tokio::task::yield_now().await;
    }
    answered
}

async fn disturb(proxies: &[Proxy], server: &Redis, until: Instant) {
    while Instant::now() < until {
        let proxy = &proxies[fastrand::usize(..proxies.len())];
        match fastrand::u8(..7) {
            0 => proxy.drop_all(),
            1 | 2 => {
                proxy.hold();
                tokio::time::sleep(Duration::from_millis(fastrand::u64(10..300))).await;
                proxy.release();
            }
            3 => {
                proxy.slice(true);
                tokio::time::sleep(Duration::from_millis(fastrand::u64(10..200))).await;
                proxy.slice(false);
            }
            4 => {
                let delay = Duration::from_millis(fastrand::u64(..60));
                proxy.delay(delay / 2, delay / 2);
            }
            5 => {
                server.freeze();
                tokio::time::sleep(Duration::from_millis(fastrand::u64(10..400))).await;
                server.thaw();
            }
            _ => {
                if let Some(id) = fastrand::choice(tracked(server)) {
                    server.command(&["CLIENT", "KILL", "ID", &id]);
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(fastrand::u64(..100))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_served_that_was_superseded_longer_ago_than_the_bound() {
    let (links, lasting) = if soak() { (40, 300) } else { (4, 4) };
    let server = Redis::start();
    let proxies: Vec<Proxy> = (0..links).map(|_| Proxy::start(server.addr())).collect();
    let (written, is_over): (Written, _) = (Arc::default(), Arc::new(AtomicBool::new(false)));
    let plain = AsyncCacheWrapper::new(on(&server).prefix("app:").build().unwrap()).unwrap();
    let nodes: Vec<AsyncCacheWrapper> = proxies
        .iter()
        .map(|proxy| {
            let far = RedisBuilder::from_url(&proxy.url(server.url())).unwrap();
            let far = far.prefix("app:").op_timeout(Duration::from_millis(250)).build().unwrap();
            node_over(far, BOUND)
        })
        .collect();
    let writer = tokio::spawn(write(plain.clone(), written.clone(), is_over.clone()));
    let readers: Vec<_> = nodes
        .iter()
        .map(|node| tokio::spawn(read(node.clone(), written.clone(), is_over.clone())))
        .collect();
    disturb(&proxies, &server, Instant::now() + Duration::from_secs(lasting)).await;
    is_over.store(true, Ordering::SeqCst);
    writer.await.unwrap();
    for reader in readers {
        assert!(reader.await.unwrap() > 0);
    }
    for proxy in &proxies {
        proxy.delay(Duration::ZERO, Duration::ZERO);
    }
    // Once all is quiet, all agree.
    for node in &nodes {
        println!("{:?}", near(node));
        for key in (0..KEYS).map(|key| format!("k{key}")) {
            let truth: Option<u64> = plain.get(&key).await.unwrap();
            eventually(
                "all nodes agree",
                PATIENT,
                async || matches!(node.get::<u64>(&key).await, Ok(found) if found == truth),
            )
            .await;
        }
    }
}
