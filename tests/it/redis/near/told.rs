//! What the server tells, while all is well.

use super::*;
use larder::Expiry;

/// What another client may do to the key `k` (with the key `other` beside it), and the value of `k`
/// afterwards, if it is text that does not depend on larder.
const CHANGES: [(&str, &[&str]); 20] = [
    ("set", &["SET", "{k}", "x"]),
    ("setrange", &["SETRANGE", "{k}", "0", "x"]),
    ("append", &["APPEND", "{k}", "x"]),
    ("del", &["DEL", "{k}"]),
    ("unlink", &["UNLINK", "{k}"]),
    ("getdel", &["GETDEL", "{k}"]),
    ("expire", &["EXPIRE", "{k}", "100"]),
    ("expire at once", &["PEXPIRE", "{k}", "0"]),
    ("persist", &["PERSIST", "{k}"]),
    ("getex", &["GETEX", "{k}", "EX", "100"]),
    ("rename away", &["RENAME", "{k}", "{other}"]),
    ("rename over", &["RENAME", "{other}", "{k}"]),
    ("copy over", &["COPY", "{other}", "{k}", "REPLACE"]),
    ("move", &["MOVE", "{k}", "3"]),
    ("a script with the key", &["EVAL", "redis.call('SET', KEYS[1], 'x')", "1", "{k}"]),
    ("a script without the key", &["EVAL", "redis.call('DEL', ARGV[1])", "0", "{k}"]),
    ("list", &["EVAL", "redis.call('DEL', KEYS[1]) redis.call('LPUSH', KEYS[1], 'x')", "1", "{k}"]),
    ("flushdb", &["FLUSHDB"]),
    ("flushall", &["FLUSHALL"]),
    ("flushall in the background", &["FLUSHALL", "ASYNC"]),
];

#[tokio::test]
async fn whatever_another_client_does_is_told() {
    let server = Redis::start();
    if !tells(&server) {
        return;
    }
    for prefix in ["app:", "", "a*[b]?\\ é\0:"] {
        let builder = || on(&server).prefix(prefix);
        let (node, plain) =
            (node(builder()), AsyncCacheWrapper::new(builder().build().unwrap()).unwrap());
        for (round, (name, command)) in CHANGES.into_iter().enumerate() {
            let value = format!("value {round}");
            plain.ttl(FOR_LONG).set("k", value.clone()).await.unwrap();
            plain.set("other", "other").await.unwrap();
            brought_near(&node, "k", &value).await;
            let before = near(&node);
            let word = |word: &&str| {
                word.replace("{k}", &format!("{prefix}k"))
                    .replace("{other}", &format!("{prefix}other"))
            };
            server.command(&command.iter().map(word).collect::<Vec<_>>());
            eventually(&format!("{name} is told under {prefix:?}"), PATIENT, async || {
                near(&node).forgotten > before.forgotten
            })
            .await;
            assert_eq!(is_near(&node, "k"), None, "{name}");
            let found = |found: larder::Result<Option<String>>| found.map_err(|error| error.kind());
            let truth = found(plain.get("k").await);
            assert_eq!(found(node.get("k").await), truth, "{name} under {prefix:?}");
            assert_eq!(near(&node).lost_sources, 0);
            server.command(&["DEL", &format!("{prefix}k")]);
        }
    }
}

type Act = fn(AsyncCacheWrapper) -> futures_util::future::BoxFuture<'static, ()>;

#[tokio::test]
async fn whatever_another_node_does_is_told() {
    let server = Redis::shared();
    if !tells(server) {
        return;
    }
    let (prefix, changes): (_, [(&str, Act); 10]) = (
        prefix(),
        [
            ("set", |node| Box::pin(async move { node.set("k", "new").await.unwrap() })),
            ("set_many", |node| {
                Box::pin(async move { node.set_many([("k", "new")]).await.unwrap() })
            }),
            ("remove", |node| Box::pin(async move { assert!(node.remove("k").await.unwrap()) })),
            ("remove_many", |node| {
                Box::pin(async move { assert!(node.remove_many(["k"]).await.unwrap()) })
            }),
            ("clear", |node| Box::pin(async move { node.clear().await.unwrap() })),
            ("take", |node| {
                Box::pin(async move { assert!(node.take::<String>("k").await.unwrap().is_some()) })
            }),
            ("replace", |node| {
                Box::pin(async move { assert!(node.replace("k", "new").await.unwrap()) })
            }),
            ("touch", |node| {
                Box::pin(async move { assert!(node.touch("k", FOR_LONG).await.unwrap()) })
            }),
            ("a load", |node| {
                Box::pin(async move {
                    let forced = node.view().force_refresh();
                    assert_eq!(forced.get_or_set("k", "new".to_owned()).await.unwrap(), "new");
                })
            }),
            ("a large value", |node| {
                Box::pin(async move { node.set("k", "x".repeat(300_000)).await.unwrap() })
            }),
        ],
    );
    let [reader, writer] = [(); 2].map(|()| node(on(server).prefix(prefix.clone())));
    for (round, (name, change)) in changes.into_iter().enumerate() {
        let value = format!("value {round}");
        writer.set("k", value.clone()).await.unwrap();
        brought_near(&reader, "k", &value).await;
        let before = near(&reader);
        change(writer.clone()).await;
        eventually(&format!("{name} is told"), PATIENT, async || {
            near(&reader).forgotten > before.forgotten
        })
        .await;
        let [read, written] = [&reader, &writer].map(|node| node.get::<String>("k"));
        assert_eq!(read.await.unwrap(), written.await.unwrap(), "{name}");
    }
    writer.set("n", 1u64).await.unwrap();
    assert_eq!(reader.get::<u64>("n").await.unwrap(), Some(1));
    assert_eq!(writer.incr("n", 4).await.unwrap(), 5);
    eventually("incr is told", PATIENT, async || reader.get::<u64>("n").await.unwrap() == Some(5))
        .await;
}

#[tokio::test]
async fn what_expires_or_is_evicted_is_told() {
    let server = Redis::start();
    if !tells(&server) {
        return;
    }
    let builder = || on(&server).prefix("app:");
    let (node, plain) =
        (node(builder()), AsyncCacheWrapper::new(builder().build().unwrap()).unwrap());
    plain.ttl(Duration::from_millis(400)).set("brief", "value").await.unwrap();
    node.get::<String>("brief").await.unwrap();
    let gone = async || plain.get::<String>("brief").await.unwrap().is_none();
    eventually("it has expired", PATIENT, gone).await;
    assert_eq!(node.get::<String>("brief").await.unwrap(), None);

    let keys: Vec<String> = (0..300).map(|number| format!("k{number}")).collect();
    for key in &keys {
        plain.ttl(Expiry::Never).set(key, "x".repeat(10_000)).await.unwrap();
    }
    for key in &keys {
        node.get::<String>(key).await.unwrap();
    }
    let before = near(&node);
    server.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-random"]);
    server.command(&["CONFIG", "SET", "maxmemory", "3mb"]);
    eventually("some are evicted", PATIENT, async || server.info("evicted_keys") != "0").await;
    server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    let evicted: u64 = server.info("evicted_keys").parse().unwrap();
    eventually("all that were evicted are told", PATIENT, async || {
        near(&node).forgotten >= before.forgotten + evicted
    })
    .await;
    for key in &keys {
        let found: Option<String> = node.get(key).await.unwrap();
        assert_eq!(found, plain.get(key).await.unwrap(), "{key}");
    }
}

/// A server that cannot remember all that was read tells that a key may have changed instead.
#[tokio::test]
async fn keys_that_the_server_stops_tracking_are_not_near() {
    let server = Redis::start_with(&["--tracking-table-max-keys", "10"]);
    if !tells(&server) {
        return;
    }
    let builder = || on(&server).prefix("app:");
    let (node, plain) =
        (node(builder()), AsyncCacheWrapper::new(builder().build().unwrap()).unwrap());
    let keys: Vec<String> = (0..100).map(|number| format!("k{number}")).collect();
    plain.set_many(keys.iter().map(|key| (key, "old"))).await.unwrap();
    for key in &keys {
        assert_eq!(node.get::<String>(key).await.unwrap().as_deref(), Some("old"));
    }
    plain.set_many(keys.iter().map(|key| (key, "new"))).await.unwrap();
    for key in &keys {
        eventually("the new value is seen", PATIENT, async || {
            node.get::<String>(key).await.unwrap().as_deref() == Some("new")
        })
        .await;
    }
}

/// Reads of many keys go over another connection than reads of one.
#[tokio::test]
async fn each_connection_tells_of_what_was_read_over_it() {
    let server = Redis::start();
    if !tells(&server) {
        return;
    }
    let builder = || on(&server).prefix("app:").pool_size(3);
    let (node, plain) =
        (node(builder()), AsyncCacheWrapper::new(builder().build().unwrap()).unwrap());
    let keys: Vec<String> = (0..300).map(|number| format!("k{number}")).collect();
    for value in ["old", "new"] {
        plain.set_many(keys.iter().map(|key| (key, value))).await.unwrap();
        eventually(&format!("each is {value}, and near"), PATIENT, async || {
            let found: Vec<Option<String>> = node.get_many(&keys).await.unwrap();
            assert!(found.iter().all(Option::is_some));
            keys.iter().all(|key| is_near(&node, key).as_deref() == Some(value))
        })
        .await;
    }
    for key in &keys[..20] {
        plain.set(key, "newer").await.unwrap();
        eventually("one by one", PATIENT, async || {
            node.get::<String>(key).await.unwrap().as_deref() == Some("newer")
        })
        .await;
        brought_near(&node, key, "newer").await;
    }
    assert_eq!(tracked(&server).len(), 4, "three lanes, and the one for batches");
    assert_eq!(near(&node).lost_sources, 0);
}

#[tokio::test]
async fn the_keys_of_another_prefix_stay_near() {
    let server = Redis::shared();
    if !tells(server) {
        return;
    }
    let (first, second) = (prefix(), prefix());
    let node = node(on(server).prefix(first.clone()));
    for key in ["k", "last"] {
        node.set(key, "value").await.unwrap();
        brought_near(&node, key, "value").await;
    }
    let before = near(&node);
    for key in [format!("{second}k"), "k".to_owned(), format!("{first}{first}k"), first.clone()] {
        server.command(&["SET", &key, "x", "EX", "60"]);
    }
    // What was told before this has been heard.
    server.command(&["DEL", &format!("{first}last")]);
    eventually("the last is told", PATIENT, async || near(&node).forgotten > before.forgotten)
        .await;
    assert_eq!(is_near(&node, "k").as_deref(), Some("value"));
    assert_eq!(near(&node).forgotten, before.forgotten + 1);
}

#[tokio::test]
async fn connections_that_were_open_before_are_replaced_by_some_that_tell() {
    let server = Redis::start();
    if !tells(&server) {
        return;
    }
    let far = on(&server).prefix("app:").build().unwrap();
    let plain = AsyncCacheWrapper::new(far.clone()).unwrap();
    plain.set("k", "old").await.unwrap();
    let node = node_over(far.clone(), FOR_LONG);
    brought_near(&node, "k", "old").await;
    server.command(&["DEL", "app:k"]);
    eventually("it is told", PATIENT, async || is_near(&node, "k").is_none()).await;

    // Of two near levels before one adapter, the older serves what nobody tells it by age.
    let older = node_over(far.clone(), Duration::from_millis(300));
    let newer = node_over(far, FOR_LONG);
    plain.set("k", "new").await.unwrap();
    brought_near(&newer, "k", "new").await;
    assert_eq!(older.get::<String>("k").await.unwrap().as_deref(), Some("new"));
    assert_eq!(node.get::<String>("k").await.unwrap().as_deref(), Some("new"));
    plain.set("k", "newer").await.unwrap();
    for node in [&older, &newer] {
        eventually("both see it", PATIENT, async || {
            node.get::<String>("k").await.unwrap().as_deref() == Some("newer")
        })
        .await;
    }
}

#[tokio::test]
async fn a_server_is_asked_for_proof_while_values_are_read_near_and_not_before() {
    let server = Redis::start();
    if !tells(&server) {
        return;
    }
    let far = on(&server).prefix("app:").build().unwrap();
    let node = node_over(far, Duration::from_millis(200));
    node.set("k", "value").await.unwrap();
    let before = calls(&server, "ping");
    eventually("proofs are renewed", PATIENT, async || {
        node.get::<String>("k").await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        calls(&server, "ping") > before + 3
    })
    .await;
    // The last one may be on its way.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let asked = calls(&server, "ping");
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(calls(&server, "ping"), asked, "an idle node asks nothing");
}
