//! Servers that change their part, expire much at once, or encrypt.

use super::*;
use crate::support::Proxy;
use crate::support::values::soak;
use larder::{AsyncCacheAdapter, CacheValue, Expiry};
use std::time::SystemTime;

/// A master that becomes a replica has other data from then on.
#[tokio::test]
async fn a_master_that_is_demoted_tells_that_everything_may_have_changed() {
    let server = Redis::start();
    if !tells(&server) {
        return;
    }
    let master = Redis::start_with(&["--repl-diskless-sync-delay", "0"]);
    let plain =
        |server| AsyncCacheWrapper::new(on(server).prefix("app:").build().unwrap()).unwrap();
    plain(&server).set("k", "old").await.unwrap();
    plain(&server).set("only here", "old").await.unwrap();
    plain(&master).set("k", "of the new master").await.unwrap();
    let node = node(on(&server).prefix("app:"));
    brought_near(&node, "k", "old").await;
    brought_near(&node, "only here", "old").await;
    server.text(&["REPLICAOF", "127.0.0.1", &master.addr().port().to_string()]);
    let read = async |key: &str| node.get::<String>(key).await.ok().flatten();
    eventually("the other master's data is read", PATIENT, async || {
        read("k").await.as_deref() == Some("of the new master")
    })
    .await;
    assert_eq!(node.get::<String>("only here").await.unwrap(), None);
    // And what comes by replication is told.
    plain(&master).set("k", "changed").await.unwrap();
    eventually("it is told", PATIENT, async || read("k").await.as_deref() == Some("changed")).await;
}

/// A replica takes the place of a master that has died. It never heard of the last write.
#[tokio::test]
async fn after_a_failover_that_lost_a_write_all_nodes_have_what_the_new_master_has() {
    let master = Redis::start();
    if !tells(&master) {
        return;
    }
    let replica = master.start_replica();
    let proxies = [(); 2].map(|()| Proxy::start(master.addr()));
    let nodes = proxies.each_ref().map(|proxy| {
        let far = RedisBuilder::from_url(&proxy.url(master.url())).unwrap();
        node(far.prefix("app:").op_timeout(PATIENT))
    });
    let plain =
        |server| AsyncCacheWrapper::new(on(server).prefix("app:").build().unwrap()).unwrap();
    plain(&master).set("k", "old").await.unwrap();
    eventually("it is replicated", PATIENT, async || replica.int(&["EXISTS", "app:k"]) == 1).await;
    replica.text(&["REPLICAOF", "NO", "ONE"]);
    plain(&master).set("k", "lost").await.unwrap();
    for node in &nodes {
        brought_near(node, "k", "lost").await;
    }
    for proxy in &proxies {
        proxy.lead_to(replica.addr());
    }
    master.kill();
    for node in &nodes {
        eventually("its source is lost", PATIENT, async || near(node).lost_sources > 0).await;
        eventually("the new master is asked", PATIENT, async || {
            let Ok(found) = node.get::<String>("k").await else { return false };
            assert_eq!(found.as_deref(), Some("old"), "what was lost is served");
            true
        })
        .await;
        brought_near_again(node, "k", "old").await;
    }
    plain(&replica).set("k", "new").await.unwrap();
    for node in &nodes {
        eventually("the change is seen", PATIENT, async || {
            node.get::<String>("k").await.unwrap().as_deref() == Some("new")
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_expire_at_once_are_served_no_longer_and_hold_up_nobody() {
    let server = Redis::start();
    if !tells(&server) {
        return;
    }
    let (count, life) = if soak() { (100_000, 60) } else { (10_000, 10) };
    let builder = || on(&server).prefix("app:");
    let (node, plain) =
        (node(builder()), AsyncCacheWrapper::new(builder().build().unwrap()).unwrap());
    plain.ttl(Expiry::Never).set("lasting", 0u64).await.unwrap();
    let end = SystemTime::now() + Duration::from_secs(life);
    let keys: Vec<String> = (0..count).map(|number| format!("k{number}")).collect();
    for keys in keys.chunks(5_000) {
        plain.ttl(Expiry::At(end)).set_many(keys.iter().map(|key| (key, 1u64))).await.unwrap();
        let found: Vec<Option<u64>> = node.get_many(keys).await.unwrap();
        assert!(found.iter().all(Option::is_some) || SystemTime::now() >= end);
    }
    assert!(near(&node).kept > 0);
    let rest = end.duration_since(SystemTime::now()).unwrap_or_default();
    tokio::time::sleep(rest).await;
    // While the server tells of one after the other, a change of another key is told as well.
    for number in 1..20u64 {
        plain.ttl(Expiry::Never).set("lasting", number).await.unwrap();
        eventually("it is told", PATIENT, async || {
            node.get::<u64>("lasting").await.unwrap() == Some(number)
        })
        .await;
    }
    for keys in keys.chunks(5_000) {
        // A server that was late to hear of a write lets its entry live longer.
        let there: Vec<Option<u64>> = plain.get_many(keys).await.unwrap();
        // The clock of a hit has ticks of 10 ms.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let found: Vec<Option<u64>> = node.get_many(keys).await.unwrap();
        let mut each = there.iter().zip(&found);
        assert!(
            each.all(|(there, found)| there.is_some() || found.is_none()),
            "something is served that has expired"
        );
    }
    eventually("all have expired", PATIENT, async || {
        server.info("expired_keys").parse::<usize>().unwrap() >= count
    })
    .await;
    assert_eq!(near(&node).lost_sources, 0);
    assert_eq!(node.get::<u64>("lasting").await.unwrap(), Some(19));
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn an_encrypted_connection_tells() {
    let Some(server) = crate::redis::tls::server() else { return };
    if !tells(&server) {
        return;
    }
    let url = format!("{}?ca_cert={}", server.url(), server.ca_path().display());
    let builder = || RedisBuilder::from_url(&url).unwrap().prefix("app:").op_timeout(PATIENT);
    let (node, plain) = (node(builder()), builder().build().unwrap());
    for text in ["first", "second", "third"] {
        plain.set("k", CacheValue::new(text.to_owned()), Expiry::Never).await.unwrap();
        brought_near(&node, "k", text).await;
    }
    plain.remove("k").await.unwrap();
    eventually("the removal is told", PATIENT, async || {
        node.get::<String>("k").await.unwrap().is_none()
    })
    .await;
    assert_eq!((near(&node).lost_sources, tracked(&server).is_empty()), (0, false));
    plain.set("k", CacheValue::new("fourth".to_owned()), Expiry::Never).await.unwrap();
    brought_near(&node, "k", "fourth").await;
    for id in tracked(&server) {
        server.command(&["CLIENT", "KILL", "ID", &id]);
    }
    eventually("its source is lost", PATIENT, async || near(&node).lost_sources > 0).await;
    assert_eq!(is_near(&node, "k"), None);
}
