//! Observers of what happens to sources.

use super::*;
use larder::{EventKind, Result};
use std::sync::{Arc, Mutex};

/// It is told while calls of the cache wait for the connection that the event is about.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observer_of_a_lost_source_may_use_the_cache() {
    let server = Redis::start();
    if !tells(&server) {
        return;
    }
    let node = node(on(&server).prefix("app:"));
    let used: Arc<Mutex<Vec<Result<()>>>> = Arc::default();
    let (noting, blocking) = (used.clone(), node.blocking());
    let observation = node.observe(move |event| {
        if matches!(event.kind, EventKind::NearLost | EventKind::NearBack) {
            let found = blocking.get::<String>("k").map(drop);
            noting.lock().unwrap().push(found);
        }
    });
    node.set("k", "value").await.unwrap();
    for round in 1..=3 {
        brought_near(&node, "k", "value").await;
        for id in tracked(&server) {
            server.command(&["CLIENT", "KILL", "ID", &id]);
        }
        // For a lost source, and for the one that takes its place.
        eventually("both are told", PATIENT, async || used.lock().unwrap().len() >= 2 * round)
            .await;
    }
    observation.stop();
    let timeouts = used.lock().unwrap().iter().flat_map(|used| used.as_ref().err()).count();
    assert!(used.lock().unwrap().iter().all(|used| used.as_ref().is_ok()), "{timeouts} failed");
}

/// A server that cannot tell at all says so while the connection is opened.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observer_of_a_server_that_tells_nothing_may_use_the_cache() {
    let server = Redis::start_with(&["--rename-command", "HELLO", "GREETINGS"]);
    let node = node_over(on(&server).build().unwrap(), Duration::from_millis(200));
    let (sender, seen) = std::sync::mpsc::channel();
    let blocking = node.blocking();
    node.observe(move |event| {
        if event.kind == EventKind::NearLost {
            let _receiver_is_there = sender.send(blocking.set("seen", 1u8));
        }
    });
    node.set("k", "value").await.unwrap();
    let written = tokio::task::spawn_blocking(move || seen.recv_timeout(PATIENT)).await.unwrap();
    written.expect("the observer is told").unwrap();
    assert_eq!(node.get::<u8>("seen").await.unwrap(), Some(1));
}
