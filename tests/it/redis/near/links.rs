//! Links that die unseen, writes that arrive late, and nodes that stand still.

use super::*;
use crate::support::Proxy;
use std::time::Instant;

const BOUND: Duration = Duration::from_millis(300);

/// A node behind a proxy, whose calls give up soon.
fn behind(proxy: &Proxy, server: &Redis, bound: Duration) -> AsyncCacheWrapper {
    let far = RedisBuilder::from_url(&proxy.url(server.url())).unwrap();
    let far = far.prefix("app:").op_timeout(Duration::from_millis(300)).build().unwrap();
    node_over(far, bound)
}

fn without_near(server: &Redis) -> AsyncCacheWrapper {
    AsyncCacheWrapper::new(on(server).prefix("app:").build().unwrap()).unwrap()
}

/// Nobody says that the connection is dead, and the server goes on to speak into it.
#[tokio::test]
async fn a_link_that_is_half_open_is_given_up_and_nothing_old_is_served_meanwhile() {
    let server = Redis::start();
    if !tells(&server) {
        return;
    }
    let (proxy, plain) = (Proxy::start(server.addr()), without_near(&server));
    let node = behind(&proxy, &server, BOUND);
    for round in 0..3 {
        let [old, new] = ["old", "new"].map(|word| format!("{word} {round}"));
        plain.set("k", old.clone()).await.unwrap();
        brought_near_again(&node, "k", &old).await;
        let lost = near(&node).lost_sources;
        proxy.keep_answers_after(b"app:k");
        assert!(node.view().skip_near().get::<String>("k").await.is_err());
        plain.set("k", new.clone()).await.unwrap();
        let written = Instant::now();
        eventually("the new value is read", PATIENT, async || {
            let begun = Instant::now();
            let Ok(found) = node.get::<String>("k").await else { return false };
            let is_new = found.as_ref() == Some(&new);
            assert!(is_new || begun < written + BOUND, "{found:?} is older than the bound");
            is_new
        })
        .await;
        brought_near_again(&node, "k", &new).await;
        assert!(near(&node).lost_sources > lost);
        proxy.release_kept();
    }
}

/// Nobody knows whether a write that timed out arrives, nor when.
#[tokio::test]
async fn a_write_that_times_out_leaves_nothing_near_and_is_seen_if_it_arrives() {
    let server = Redis::start();
    if !tells(&server) {
        return;
    }
    let (proxy, plain) = (Proxy::start(server.addr()), without_near(&server));
    let node = behind(&proxy, &server, FOR_LONG);
    for round in 0..5 {
        let old = format!("old {round}");
        plain.set("k", old.clone()).await.unwrap();
        brought_near_again(&node, "k", &old).await;
        proxy.keep_requests_from(b"late");
        assert!(node.set("k", format!("late {round}")).await.is_err());
        assert_eq!(is_near(&node, "k"), None);
        proxy.release_kept();
        eventually("near and far are the same", PATIENT, async || {
            let Ok(found) = node.get::<String>("k").await else { return false };
            found == plain.get::<String>("k").await.unwrap()
        })
        .await;
        // Whatever arrives from now on is told.
        server.command(&["SET", "app:k", "foreign"]);
        eventually("it is told", PATIENT, async || {
            is_near(&node, "k").is_none() && node.get::<String>("k").await.is_ok()
        })
        .await;
        assert_eq!(is_near(&node, "k"), None);
    }
}

/// Nothing of the process runs, and no clock of its own is needed to know that.
#[tokio::test]
async fn a_node_that_stood_still_reads_first_what_has_changed_meanwhile() {
    let server = Redis::start();
    let (proxy, plain) = (Proxy::start(server.addr()), without_near(&server));
    let node = behind(&proxy, &server, BOUND);
    for round in 0..3 {
        let [old, new] = ["old", "new"].map(|word| format!("{word} {round}"));
        plain.set("k", old.clone()).await.unwrap();
        brought_near_again(&node, "k", &old).await;
        // The link brings no news either.
        proxy.hold();
        server.command(&["DEL", "app:k"]);
        let (elsewhere, value) = (without_near(&server), new.clone());
        std::thread::spawn(move || elsewhere.blocking().set("k", value).unwrap()).join().unwrap();
        std::thread::sleep(BOUND);
        assert_eq!(is_near(&node, "k"), None);
        proxy.release();
        eventually("it is read", PATIENT, async || match node.get::<String>("k").await {
            Ok(found) => {
                assert_eq!(found.as_ref(), Some(&new));
                true
            }
            Err(_) => false,
        })
        .await;
    }
}
