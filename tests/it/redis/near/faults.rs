//! Connections that break, stand still or end, and servers that go away.

use super::*;
use crate::support::Proxy;
use std::time::Instant;

/// A plain cache, which tells what there is.
fn plain(server: &Redis) -> AsyncCacheWrapper {
    AsyncCacheWrapper::new(on(server).prefix("app:").build().unwrap()).unwrap()
}

/// Nobody tells a node of what changes while it has no connection: what its connections had vouched
/// for went with them.
#[tokio::test]
async fn a_connection_that_the_server_closes_takes_along_what_it_vouched_for() {
    let server = Redis::start();
    if !tells(&server) {
        return;
    }
    let (node, plain) = (node(on(&server).prefix("app:")), plain(&server));
    for round in 0..20 {
        let value = format!("value {round}");
        plain.set("k", value.clone()).await.unwrap();
        brought_near(&node, "k", &value).await;
        let lost = near(&node).lost_sources;
        for id in tracked(&server) {
            server.command(&["CLIENT", "KILL", "ID", &id]);
        }
        server.command(&["DEL", "app:k"]);
        eventually("its source is lost", PATIENT, async || near(&node).lost_sources > lost).await;
        assert_eq!(is_near(&node, "k"), None);
        eventually("there is another connection", PATIENT, async || {
            matches!(node.get::<String>("k").await, Ok(None))
        })
        .await;
    }
}

#[tokio::test]
async fn a_server_that_is_killed_leaves_nothing_near() {
    let server = Redis::start();
    if !tells(&server) {
        return;
    }
    let (node, plain) = (node(on(&server).prefix("app:")), plain(&server));
    plain.set("k", "old").await.unwrap();
    brought_near(&node, "k", "old").await;
    server.kill();
    eventually("its source is lost", PATIENT, async || near(&node).lost_sources > 0).await;
    assert_eq!(is_near(&node, "k"), None);
    assert!(node.get::<String>("k").await.is_err());
    server.restart();
    eventually("the server is back", PATIENT, async || plain.set("k", "new").await.is_ok()).await;
    eventually(
        "the node is back",
        PATIENT,
        async || matches!(node.get::<String>("k").await, Ok(Some(value)) if value == "new"),
    )
    .await;
    brought_near(&node, "k", "new").await;
}

/// The link stands still for less than the bound, for longer, and is well again: nothing is thrown
/// away.
#[tokio::test]
async fn a_link_that_stands_still_lets_proofs_end_after_the_bound_and_no_value() {
    let server = Redis::start();
    if !tells(&server) {
        return;
    }
    let (proxy, bound) = (Proxy::start(server.addr()), Duration::from_secs(3));
    let far = RedisBuilder::from_url(&proxy.url(server.url())).unwrap();
    let far = far.prefix("app:").pool_size(1).op_timeout(PATIENT).build().unwrap();
    let node = node_over(far, bound);
    node.set("k", "value").await.unwrap();
    brought_near(&node, "k", "value").await;
    // Proven for the whole bound from now on.
    node.view().skip_near().get::<String>("k").await.unwrap();
    proxy.hold();
    let (held, before) = (Instant::now(), near(&node));
    while held.elapsed() < bound / 3 {
        assert_eq!(is_near(&node, "k").as_deref(), Some("value"), "after {:?}", held.elapsed());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(near(&node), before, "nothing was asked, and nothing was lost");
    tokio::time::sleep_until((held + bound).into()).await;
    assert_eq!(is_near(&node, "k"), None, "whatever was asked before the hold proves no more");
    assert!(near(&node).late_proofs > before.late_proofs);
    proxy.release();
    eventually("it is near again", PATIENT, async || is_near(&node, "k").is_some()).await;
    let after = near(&node);
    assert_eq!(
        (after.kept, after.forgotten, after.lost_sources),
        (before.kept, before.forgotten, before.lost_sources),
        "without having been read"
    );
}

/// What changed while the server could say nothing is told before anything is proven again.
#[tokio::test]
async fn a_link_that_stands_still_tells_late_and_serves_nothing_meanwhile() {
    let server = Redis::start();
    if !tells(&server) {
        return;
    }
    let (proxy, plain) = (Proxy::start(server.addr()), plain(&server));
    let bound = Duration::from_millis(300);
    let far = RedisBuilder::from_url(&proxy.url(server.url())).unwrap();
    let node = node_over(far.prefix("app:").op_timeout(PATIENT).build().unwrap(), bound);
    for round in 0..5 {
        let value = format!("value {round}");
        plain.set("k", value.clone()).await.unwrap();
        brought_near(&node, "k", &value).await;
        proxy.hold();
        plain.set("k", "changed").await.unwrap();
        tokio::time::sleep(bound).await;
        assert_eq!(is_near(&node, "k"), None, "it is not proven any more");
        proxy.release();
        assert_eq!(node.get::<String>("k").await.unwrap().as_deref(), Some("changed"));
    }
}

#[tokio::test]
async fn a_server_that_is_frozen_is_trusted_for_the_bound_and_no_longer() {
    let server = Redis::start();
    if !tells(&server) {
        return;
    }
    let far = on(&server).prefix("app:").op_timeout(Duration::from_millis(200)).build().unwrap();
    let node = node_over(far, Duration::from_millis(300));
    node.set("k", "value").await.unwrap();
    eventually("it is near", PATIENT, async || {
        node.get::<String>("k").await.is_ok() && is_near(&node, "k").is_some()
    })
    .await;
    server.freeze();
    eventually("its proof has ended", PATIENT, async || is_near(&node, "k").is_none()).await;
    assert!(node.get::<String>("k").await.is_err());
    server.thaw();
    eventually(
        "the server answers",
        PATIENT,
        async || matches!(node.get::<String>("k").await, Ok(Some(value)) if value == "value"),
    )
    .await;
    eventually("it is near again", PATIENT, async || {
        node.get::<String>("k").await.is_ok() && is_near(&node, "k").is_some()
    })
    .await;
}

/// The connections of a runtime end with it, and nobody hears any more what they are told.
#[test]
fn a_runtime_that_ends_takes_along_what_its_connections_vouched_for() {
    let server = Redis::start();
    if !tells(&server) {
        return;
    }
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let (home, other) = (runtime().unwrap(), runtime().unwrap());
    let (node, plain) = (node(on(&server).prefix("app:")), plain(&server));
    other.block_on(plain.set("k", "old")).unwrap();
    home.block_on(brought_near(&node, "k", "old"));
    other.block_on(async { assert_eq!(is_near(&node, "k").as_deref(), Some("old")) });
    home.shutdown_background();
    other.block_on(async {
        plain.set("k", "new").await.unwrap();
        eventually("the new value is seen", PATIENT, async || {
            node.get::<String>("k").await.unwrap().as_deref() == Some("new")
        })
        .await;
        brought_near(&node, "k", "new").await;
    });
    assert!(near(&node).lost_sources > 0);
}

#[tokio::test]
async fn a_cache_that_is_closed_serves_nothing_near() {
    let server = Redis::start();
    if !tells(&server) {
        return;
    }
    let (node, plain) = (node(on(&server).prefix("app:")), plain(&server));
    plain.set("k", "old").await.unwrap();
    brought_near(&node, "k", "old").await;
    node.close().await.unwrap();
    eventually("its connections are", PATIENT, async || tracked(&server).is_empty()).await;
    plain.set("k", "new").await.unwrap();
    assert_eq!(node.get::<String>("k").await.unwrap().as_deref(), Some("new"));
    brought_near(&node, "k", "new").await;
}
