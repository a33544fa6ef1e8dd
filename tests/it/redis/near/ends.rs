//! Near levels that go while their adapter stays, and two of them before one adapter.

use super::*;
use larder::{AsyncCacheAdapter, CacheValue, Expiry};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The numbers of all clients.
fn connected(server: &Redis) -> Vec<String> {
    server.clients().iter().filter_map(|line| id(line)).collect()
}

#[tokio::test]
async fn a_tier_that_is_dropped_has_the_server_track_nothing_more() {
    let server = Redis::start();
    if !tells(&server) {
        return;
    }
    let far = Arc::new(on(&server).prefix("app:").build().unwrap());
    far.set("k", CacheValue::new(1), Expiry::Never).await.unwrap();
    let node = {
        let tiered = Tiered::builder(far.clone()).near_bound(FOR_LONG).build();
        AsyncCacheWrapper::new(tiered).unwrap()
    };
    assert_eq!(node.get::<u64>("k").await.unwrap(), Some(1));
    let told = tracked(&server);
    assert!(!told.is_empty());
    drop(node);
    eventually("nothing is tracked", PATIENT, async || tracked(&server).is_empty()).await;
    // Over the same connections the adapter goes on.
    assert_eq!(far.get_near("k").await.unwrap().unwrap().source, None);
    let connected = connected(&server);
    assert!(told.iter().all(|id| connected.contains(id)), "{told:?} of {connected:?}");
    far.reconnect().await.unwrap();
    assert_eq!(far.get_near("k").await.unwrap().unwrap().source, None);
    assert!(tracked(&server).is_empty(), "nobody would hear it");
}

#[tokio::test]
async fn of_two_near_levels_the_older_keeps_values_by_age() {
    let server = Redis::start();
    if !tells(&server) {
        return;
    }
    const BOUND: Duration = Duration::from_millis(300);
    let far = on(&server).prefix("app:").build().unwrap();
    let plain = AsyncCacheWrapper::new(on(&server).prefix("app:").build().unwrap()).unwrap();
    plain.set("k", "old").await.unwrap();
    let (older, newer) = (node_over(far.clone(), BOUND), node_over(far, BOUND));
    brought_near(&newer, "k", "old").await;
    brought_near(&older, "k", "old").await;
    plain.set("k", "new").await.unwrap();
    tokio::time::sleep(BOUND).await;
    for node in [&older, &newer] {
        assert_eq!(node.get::<String>("k").await.unwrap().as_deref(), Some("new"));
    }
    // The newer one is told as before.
    brought_near(&newer, "k", "new").await;
    plain.set("k", "newer").await.unwrap();
    eventually("it is told", PATIENT, async || {
        newer.get::<String>("k").await.unwrap().as_deref() == Some("newer")
    })
    .await;
    assert_eq!(near(&newer).lost_sources, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swap_under_load_closes_the_connections_of_both_levels() {
    let server = Redis::start();
    let before = server.clients().len();
    let url = format!("near+{}?prefix=app:&op_timeout=60s", server.url());
    let node = AsyncCacheWrapper::new(url.as_str()).unwrap();
    node.set("k", "value").await.unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let (node, is_over) = (node.clone(), is_over.clone());
            tokio::spawn(async move {
                while !is_over.load(Ordering::SeqCst) {
                    node.get::<String>("k").await.expect("no call fails");
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for _ in 0..5 {
        node.swap_adapter(url.as_str()).unwrap();
        eventually("it is near again", PATIENT, async || {
            node.get::<String>("k").await.unwrap().as_deref() == Some("value")
                && near(&node).kept > 0
        })
        .await;
    }
    node.swap_adapter("memory").unwrap();
    is_over.store(true, Ordering::SeqCst);
    for caller in callers {
        caller.await.unwrap();
    }
    eventually("nobody is connected", PATIENT, async || server.clients().len() == before).await;
}
