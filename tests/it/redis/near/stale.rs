//! A server that is away: what is near is served until its proof ends; then loaders run, and where
//! they fail, too, what was near is served as stale.

use super::*;
use larder::{ErrorKind, EventKind, View};
use std::future::pending;
use std::sync::{Arc, Mutex};

const HOUR: Duration = Duration::from_secs(3_600);
const A_MOMENT: Duration = Duration::from_millis(500);

async fn away() -> Result<String, &'static str> {
    Err("the source is away")
}

/// A call that finds no help in its loader.
async fn stale(view: View<'_>, key: &str) -> larder::Result<String> {
    view.throttle(Duration::ZERO).try_get_or_set_async(key, away()).await
}

/// The kinds of events from now on.
fn kinds(node: &AsyncCacheWrapper) -> Arc<Mutex<Vec<EventKind>>> {
    let kinds = Arc::<Mutex<Vec<EventKind>>>::default();
    let noting = kinds.clone();
    node.observe(move |event| noting.lock().unwrap().push(event.kind));
    kinds
}

/// A node whose server has been killed, with "value" near under "k", "other" and "tagged". Its
/// values are proven by the server for long, or by their age for a moment where the server tells
/// nothing.
async fn bereft(server: &Redis) -> AsyncCacheWrapper {
    let bound = if tells(server) { FOR_LONG } else { A_MOMENT };
    bereft_over(on(server), server, bound).await
}

async fn bereft_over(far: RedisBuilder, server: &Redis, bound: Duration) -> AsyncCacheWrapper {
    let node = node_over(far.build().unwrap(), bound);
    node.tags(["t"]).set("tagged", "value").await.unwrap();
    for key in ["k", "other"] {
        node.set(key, "value").await.unwrap();
    }
    for key in ["k", "other", "tagged"] {
        brought_near(&node, key, "value").await;
    }
    server.kill();
    eventually("nothing is proven any more", PATIENT, async || {
        ["k", "other", "tagged"].iter().all(|key| is_near(&node, key).is_none())
    })
    .await;
    node
}

#[tokio::test]
async fn what_was_near_is_stale_while_the_server_and_the_loader_are_away() {
    let server = Redis::start();
    let tells = tells(&server);
    let node = bereft(&server).await;
    assert_eq!(near(&node).lost_sources > 0, tells);
    for _ in 0..3 {
        let kinds = kinds(&node);
        assert_eq!(stale(node.stale_for(HOUR), "k").await.unwrap(), "value");
        let served = |kind: &&EventKind| {
            matches!(kind, EventKind::Hit | EventKind::StaleHit | EventKind::Miss)
        };
        let kinds: Vec<_> = kinds.lock().unwrap().iter().filter(served).copied().collect();
        assert_eq!(kinds, [EventKind::StaleHit]);
    }
    // Plain reads never get it, and neither does a call that asks for nothing stale.
    assert!(node.get::<String>("k").await.is_err());
    assert!(node.view().allow_stale().get::<String>("k").await.is_err());
    assert!(node.get_many::<String, _>(["k", "other"]).await.is_err());
    assert_eq!(stale(node.view(), "k").await.unwrap_err().kind(), ErrorKind::Load);
    let forced = node.stale_for(HOUR).force_refresh();
    assert_eq!(stale(forced, "k").await.unwrap_err().kind(), ErrorKind::Load);
    // What was never near is not there.
    assert_eq!(stale(node.stale_for(HOUR), "new").await.unwrap_err().kind(), ErrorKind::Load);
}

#[tokio::test]
async fn a_value_that_is_near_by_age_is_stale_as_well() {
    let server = Redis::start();
    let mut far = on(&server);
    if tells(&server) {
        let (user, password) = server.user("-client|tracking");
        far = far.user(user).password(password);
    }
    let node = bereft_over(far, &server, A_MOMENT).await;
    assert_eq!(near(&node).lost_sources, 0);
    assert_eq!(stale(node.stale_for(HOUR), "k").await.unwrap(), "value");
}

#[tokio::test]
async fn a_loader_comes_before_what_was_near() {
    let server = Redis::start();
    let node = bereft(&server).await;
    let loaded = node.stale_for(HOUR).get_or_set_async("k", async { "loaded".to_owned() });
    assert_eq!(loaded.await.unwrap(), "loaded");
    // It was not stored, so the next call loads as well, or has what was near.
    assert_eq!(stale(node.stale_for(HOUR), "k").await.unwrap(), "value");
}

/// Two limits for a loader that never ends.
#[tokio::test]
async fn what_was_near_stands_in_for_a_loader_that_is_late() {
    const SOON: Duration = Duration::from_millis(10);
    let server = Redis::start();
    let node = bereft(&server).await;
    for view in [node.view().soft_timeout(SOON), node.view().hard_timeout(SOON)] {
        let late = |key| view.stale_for(HOUR).get_or_set_async(key, pending::<String>());
        assert_eq!(late("k").await.unwrap(), "value");
    }
    for key in ["new", "tagged"] {
        let hard = node.stale_for(HOUR).hard_timeout(SOON);
        let late = hard.get_or_set_async(key, pending::<String>()).await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::Timeout, "{key}");
    }
    let fresh_only = node.view().hard_timeout(SOON).get_or_set_async("k", pending::<String>());
    assert_eq!(fresh_only.await.unwrap_err().kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn several_keys_are_stale_at_once() {
    let server = Redis::start();
    let node = bereft(&server).await;
    let load = |missing: Vec<String>| async move {
        assert_eq!(missing, ["k", "other"]);
        Err::<Vec<(String, String)>, _>("the source is away")
    };
    let many = node.stale_for(HOUR).try_get_or_set_many_async(["k", "other"], load).await.unwrap();
    assert_eq!(many, [Some("value".to_owned()), Some("value".to_owned())]);
    assert_eq!(node.stats().stale_hits, 2);
}

/// Nobody knows whether its tag was removed.
#[tokio::test]
async fn an_entry_with_tags_is_not_stale() {
    let server = Redis::start();
    let node = bereft(&server).await;
    let error = stale(node.stale_for(HOUR), "tagged").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Load);
}

/// Nobody knows whether the write has arrived.
#[tokio::test]
async fn what_this_process_has_written_or_removed_is_not_stale() {
    let server = Redis::start();
    let node = bereft(&server).await;
    assert!(node.set("k", "new").await.is_err());
    assert!(node.remove("other").await.is_err());
    for key in ["k", "other"] {
        let error = stale(node.stale_for(HOUR), key).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Load, "{key}");
    }
}

#[tokio::test]
async fn nothing_is_stale_for_longer_than_it_may_be() {
    let server = Redis::start();
    let node = bereft_over(on(&server), &server, Duration::from_millis(100)).await;
    let briefly = Duration::from_millis(300);
    eventually("it is too old", PATIENT, async || {
        stale(node.stale_for(briefly), "k").await.is_err()
    })
    .await;
    let error = stale(node.stale_for(briefly), "k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Load);
    assert_eq!(stale(node.stale_for(HOUR), "k").await.unwrap(), "value", "for others it is not");
}

/// The breaker is open: near to the bound, then the loader, else stale. The server comes back.
#[tokio::test]
async fn behind_an_open_breaker_a_near_value_is_fresh_to_the_bound_and_then_stale() {
    let server = Redis::start();
    let url = format!("{}?prefix=app:&op_timeout=300ms&near_bound=1s", server.url());
    let node = AsyncCacheWrapper::new(format!("near+{url}&stale_for=1h&throttle=0")).unwrap();
    eventually("it is set", PATIENT, async || node.set("k", "value").await.is_ok()).await;
    brought_near_again(&node, "k", "value").await;
    let kinds = kinds(&node);
    server.freeze();
    eventually("the breaker opens", PATIENT, async || {
        let _failed = node.get::<String>("not near").await;
        kinds.lock().unwrap().contains(&EventKind::BreakerOpen)
    })
    .await;
    eventually("its proof ends", PATIENT, async || {
        // Behind an open breaker an error is there at once.
        !matches!(node.get::<String>("k").now_or_never(), Some(Ok(_)))
    })
    .await;
    let before = node.stats();
    assert_eq!(node.try_get_or_set_async("k", away()).await.unwrap(), "value");
    assert_eq!(node.stats().stale_hits, before.stale_hits + 1);
    assert_eq!(node.stats().hits, before.hits);
    let loaded = node.get_or_set_async("k", async { "loaded".to_owned() });
    assert_eq!(loaded.await.unwrap(), "loaded");
    assert!(node.get::<String>("k").await.is_err());
    server.thaw();
    eventually(
        "the server is asked again",
        PATIENT,
        async || matches!(node.get::<String>("k").await, Ok(Some(value)) if value == "value"),
    )
    .await;
}
