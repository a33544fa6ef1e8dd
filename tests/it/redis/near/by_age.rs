//! Servers that cannot tell, and connections that are not larder's own.

use super::*;
use larder::{Event, EventKind, Observation};
use std::sync::{Arc, Mutex};

/// Events with the text of their errors.
type Noted = Arc<Mutex<Vec<(EventKind, String)>>>;

/// The events about sources that have an error, or end one that had.
fn noted(node: &AsyncCacheWrapper) -> (Noted, Observation) {
    let events = Arc::new(Mutex::new(Vec::new()));
    let noting = events.clone();
    let observation = node.observe(move |event: &Event<'_>| {
        if matches!(event.kind, EventKind::NearLost | EventKind::NearBack) && event.op.is_some() {
            let why = event.error.map(ToString::to_string).unwrap_or_default();
            noting.lock().unwrap().push((event.kind, why));
        }
    });
    (events, observation)
}

/// Waits for the thread that emits them.
async fn are_emitted(events: &Noted, count: usize) {
    eventually("it is emitted", PATIENT, async || events.lock().unwrap().len() >= count).await;
}

/// What is near by age is as old as the bound allows, and no older.
async fn sees_changes_after_the_bound(node: &AsyncCacheWrapper, plain: &AsyncCacheWrapper) {
    for value in ["first", "second"] {
        plain.set("k", value).await.unwrap();
        tokio::time::sleep(BOUND).await;
        assert_eq!(node.get::<String>("k").await.unwrap().as_deref(), Some(value));
    }
    assert!(near(node).kept > 0, "{:?}", near(node));
}

const BOUND: Duration = Duration::from_millis(200);

#[tokio::test]
async fn without_the_right_values_are_near_by_age_and_one_event_says_so() {
    let server = Redis::start();
    if !tells(&server) {
        return;
    }
    let plain = AsyncCacheWrapper::new(on(&server).prefix("app:").build().unwrap()).unwrap();
    let (user, password) = server.user("-client|tracking");
    let far = on(&server).prefix("app:").user(user.clone()).password(password).build().unwrap();
    let node = node_over(far, BOUND);
    let (events, _observation) = noted(&node);
    for _ in 0..2 {
        sees_changes_after_the_bound(&node, &plain).await;
        are_emitted(&events, 1).await;
        let events = events.lock().unwrap().clone();
        let [(EventKind::NearLost, why)] = &events[..] else { panic!("{events:?}") };
        assert!(why.contains("may not run `CLIENT|TRACKING`"), "{why}");
        assert_eq!(tracked(&server).len(), 0);
        node.reconnect().await.unwrap();
    }
    // Once the user may, the next connection tells.
    server.command(&["ACL", "SETUSER", &user, "+@all"]);
    node.reconnect().await.unwrap();
    sees_changes_after_the_bound(&node, &plain).await;
    assert_ne!(tracked(&server).len(), 0);
    are_emitted(&events, 2).await;
    let kinds: Vec<_> = events.lock().unwrap().iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [EventKind::NearLost, EventKind::NearBack]);
}

/// A server that was given another name for `HELLO` does not say which it is.
#[tokio::test]
async fn a_server_that_does_not_say_its_version_is_by_age() {
    let server = Redis::start_with(&["--rename-command", "HELLO", "GREETINGS"]);
    let plain = AsyncCacheWrapper::new(on(&server).prefix("app:").build().unwrap()).unwrap();
    let node = node_over(on(&server).prefix("app:").build().unwrap(), BOUND);
    let (events, _observation) = noted(&node);
    sees_changes_after_the_bound(&node, &plain).await;
    are_emitted(&events, 1).await;
    let events = events.lock().unwrap();
    assert!(events.len() == 1 && events[0].1.contains("redis 7 or later"), "{events:?}");
    assert_eq!(tracked(&server).len(), 0);
}

#[tokio::test]
async fn without_the_right_to_ask_for_lives_nothing_is_near() {
    let server = Redis::start();
    let (user, password) = server.user("-pttl");
    let far = on(&server).user(user).password(password);
    let node = node(far);
    node.set("k", "value").await.unwrap();
    for _ in 0..3 {
        assert_eq!(node.get::<String>("k").await.unwrap().as_deref(), Some("value"));
        let found: Vec<Option<String>> = node.get_many(["k", "nothing"]).await.unwrap();
        assert_eq!(found, [Some("value".to_owned()), None]);
    }
    assert_eq!(near(&node).kept, 0);
}

#[tokio::test]
async fn without_the_right_to_read_keys_together_each_is_read_by_itself() {
    let server = Redis::start();
    let (user, password) = server.user("-mget");
    let node = node(on(&server).user(user).password(password));
    node.set_many([("a", "1"), ("b", "2")]).await.unwrap();
    for _ in 0..2 {
        let found: Vec<Option<String>> = node.get_many(["a", "nothing", "b"]).await.unwrap();
        assert_eq!(found, [Some("1".to_owned()), None, Some("2".to_owned())]);
    }
    assert_eq!(near(&node).kept, 2);
}

#[tokio::test]
async fn connections_of_a_pool_or_client_are_by_age() {
    let server = Redis::shared();
    let prefix = prefix();
    let plain = AsyncCacheWrapper::new(on(server).prefix(prefix.clone()).build().unwrap()).unwrap();
    let pool = deadpool_redis::Config::from_url(server.url());
    let pool = pool.create_pool(Some(deadpool_redis::Runtime::Tokio1)).unwrap();
    let client = deadpool_redis::redis::Client::open(server.url()).unwrap();
    for far in [AsyncRedisCache::builder().pool(pool), AsyncRedisCache::builder().client(client)] {
        let far = far.prefix(prefix.clone()).op_timeout(PATIENT).build().unwrap();
        let node = node_over(far, BOUND);
        let (events, _observation) = noted(&node);
        sees_changes_after_the_bound(&node, &plain).await;
        let events = events.lock().unwrap();
        assert_eq!(events.len(), 1, "{events:?}");
        assert!(events[0].1.contains("pool or client"), "{events:?}");
    }
}

/// Runs where the tests are given an older server; see `.ci/run`.
#[tokio::test]
async fn a_server_before_redis_7_is_by_age() {
    let server = Redis::start();
    if server.info("redis_version").starts_with("6.") {
        let plain = AsyncCacheWrapper::new(on(&server).prefix("app:").build().unwrap()).unwrap();
        let node = node_over(on(&server).prefix("app:").build().unwrap(), BOUND);
        let (events, _observation) = noted(&node);
        sees_changes_after_the_bound(&node, &plain).await;
        let events = events.lock().unwrap();
        assert!(events.len() == 1 && events[0].1.contains("redis 7 or later"), "{events:?}");
        assert_eq!(tracked(&server).len(), 0);
    } else {
        println!("skipped: this server tells");
    }
}

/// Another program's list cannot be read, near as far.
#[tokio::test]
async fn what_is_no_value_is_never_near() {
    let server = Redis::shared();
    let prefix = prefix();
    let node = node(on(server).prefix(prefix.clone()));
    server.command(&["RPUSH", &format!("{prefix}list"), "a"]);
    let plain = AsyncCacheWrapper::new(on(server).prefix(prefix.clone()).build().unwrap()).unwrap();
    for _ in 0..2 {
        let [near, far] = [&node, &plain].map(|cache| cache.get::<String>("list"));
        let kind = |found: larder::Result<Option<String>>| found.map_err(|error| error.kind());
        assert_eq!(kind(near.await), kind(far.await));
        let [near, far] = [&node, &plain].map(|cache| cache.get_many(["list"]));
        let kind = |found: larder::Result<Vec<Option<String>>>| found.map_err(|error| error.kind());
        assert_eq!(kind(near.await), kind(far.await));
    }
    assert_eq!(near(&node).kept, 0);
    server.command(&["DEL", &format!("{prefix}list")]);
}
