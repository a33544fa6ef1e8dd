//! Nodes behind links that hold, cut and slice, beside writers, and a server that stands still and
//! closes connections. The long form has a thousand nodes behind forty links.

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

/// Whether the chaos is over.
type Over = Arc<AtomicBool>;

/// How much is done, and for how long.
#[derive(Clone, Copy)]
struct Scale {
    links: usize,
    nodes_of_each: usize,
    lasting: Duration,
    /// The longest pause between two writes, and between two reads of a node.
    writes: Duration,
    reads: Duration,
}

impl Scale {
    fn of_run() -> Self {
        let (ms, s) = (Duration::from_millis, Duration::from_secs);
        if soak() {
            Self { links: 40, nodes_of_each: 25, lasting: s(300), writes: ms(500), reads: ms(200) }
        } else {
            Self { links: 4, nodes_of_each: 3, lasting: s(4), writes: ms(30), reads: ms(2) }
        }
    }
}

/// A pause up to this long.
async fn pause(longest: Duration) {
    tokio::time::sleep(longest.mul_f64(fastrand::f64())).await;
}

/// How long ago the number had been superseded that a read has found which began at that time.
fn age(written: &Written, key: usize, found: u64, begun: Instant) -> Duration {
    let written = written[key].lock().unwrap();
    // A number that is not there yet is of a write that has not returned.
    let next = written.iter().rev().take_while(|(number, _)| *number > found).last();
    next.map_or(Duration::ZERO, |(_, returned)| begun.saturating_duration_since(*returned))
}

async fn write(plain: AsyncCacheWrapper, written: Written, longest: Duration, is_over: Over) {
    let mut number = 0;
    while !is_over.load(Ordering::SeqCst) {
        number += 1;
        let key = fastrand::usize(..KEYS);
        plain.set(&format!("k{key}"), number).await.unwrap();
        written[key].lock().unwrap().push((number, Instant::now()));
        pause(longest).await;
    }
}

/// Returns how many reads were answered, and how long ago the oldest answer had been superseded.
async fn read(
    node: AsyncCacheWrapper,
    written: Written,
    longest: Duration,
    is_over: Over,
) -> (u64, Duration) {
    let (mut answered, mut oldest) = (0, Duration::ZERO);
    while !is_over.load(Ordering::SeqCst) {
        let key = fastrand::usize(..KEYS);
        let begun = Instant::now();
        if let Ok(found) = node.get::<u64>(&format!("k{key}")).await {
            let found = found.unwrap_or(0);
            let age = age(&written, key, found, begun);
            assert!(age < BOUND, "{found} of k{key} was superseded {age:?} ago");
            (answered, oldest) = (answered + 1, age.max(oldest));
        }
        pause(longest).await;
    }
    (answered, oldest)
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

/// A node with one connection for reads of single keys.
fn node_behind(proxy: &Proxy, server: &Redis) -> AsyncCacheWrapper {
    let far = RedisBuilder::from_url(&proxy.url(server.url())).unwrap();
    let far = far.prefix("app:").pool_size(1).op_timeout(Duration::from_millis(250));
    node_over(far.build().unwrap(), BOUND)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_served_that_was_superseded_longer_ago_than_the_bound() {
    let Scale { links, nodes_of_each, lasting, writes, reads } = Scale::of_run();
    let server = Redis::start();
    let proxies: Vec<Proxy> = (0..links).map(|_| Proxy::start(server.addr())).collect();
    let (written, is_over): (Written, _) = (Arc::default(), Over::default());
    let plain = AsyncCacheWrapper::new(on(&server).prefix("app:").build().unwrap()).unwrap();
    let behind =
        |proxy| (0..nodes_of_each).map(|_| node_behind(proxy, &server)).collect::<Vec<_>>();
    let nodes: Vec<AsyncCacheWrapper> = proxies.iter().flat_map(behind).collect();
    let writer = tokio::spawn(write(plain.clone(), written.clone(), writes, is_over.clone()));
    let readers: Vec<_> = nodes
        .iter()
        .map(|node| tokio::spawn(read(node.clone(), written.clone(), reads, is_over.clone())))
        .collect();
    disturb(&proxies, &server, Instant::now() + lasting).await;
    is_over.store(true, Ordering::SeqCst);
    writer.await.unwrap();
    let (mut answers, mut oldest) = (0, Duration::ZERO);
    for reader in readers {
        let (answered, age) = reader.await.unwrap();
        assert!(answered > 0);
        (answers, oldest) = (answers + answered, age.max(oldest));
    }
    for proxy in &proxies {
        proxy.delay(Duration::ZERO, Duration::ZERO);
    }
    let asked: u64 = nodes.iter().map(|node| near(node).far_reads).sum();
    let lost: u64 = nodes.iter().map(|node| near(node).lost_sources).sum();
    println!(
        "{} nodes: {answers} answers, {asked} far reads, {lost} sources lost, the oldest {oldest:?}",
        nodes.len()
    );
    // A bound after the last write all agree, over whatever link they have by then.
    tokio::time::sleep(BOUND).await;
    for (key, written) in written.iter().enumerate() {
        let truth = written.lock().unwrap().last().map(|(number, _)| *number);
        for node in &nodes {
            eventually("the node is answered", PATIENT, async || {
                let answer = node.get::<u64>(&format!("k{key}")).await;
                answer.is_ok_and(|found| {
                    assert_eq!(found, truth, "k{key}");
                    true
                })
            })
            .await;
        }
    }
}
