//! Servers that answer and take something not, or not now.

use super::{PATIENT, on, prefix, put, text};
use crate::support::noise::{excuses, watch};
use crate::support::{Redis, eventually};
use larder::{
    AsyncCacheAdapter, AsyncCacheWrapper, AsyncRedisCache, CacheValue, Codec, Entry, Error,
    ErrorKind, Expiry, Result,
};
use std::error::Error as _;
use std::time::{Duration, Instant, SystemTime};

const MINUTES: Expiry = Expiry::After(Duration::from_secs(600));

fn value(text: &str) -> CacheValue {
    CacheValue::new(text.to_owned())
}

/// A server that evicts nothing, and a cache that has a value under `k`, `a` and `b`.
async fn full() -> (Redis, AsyncRedisCache) {
    let server = Redis::start_with(&["--maxmemory-policy", "noeviction"]);
    let cache = on(&server).build().unwrap();
    for key in ["k", "a", "b"] {
        put(&cache, key, "older").await.unwrap();
    }
    server.text(&["CONFIG", "SET", "maxmemory", "1"]);
    (server, cache)
}

#[tokio::test]
async fn a_full_server_can_be_cleared() {
    let (_server, cache) = full().await;
    cache.clear("").await.unwrap();
    for key in ["k", "a", "b"] {
        assert_eq!(text(&cache, key).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_full_server_serves_no_older_value_after_a_batch_was_refused() {
    let (server, cache) = full().await;
    let entries = ["k", "a"]
        .map(|key| Entry::new(key, value("newer"), Expiry::After(Duration::from_secs(9))));
    let big = Entry::new("b", value(&"b".repeat(300_000)), MINUTES);
    let entries = [&entries[..], &[big]].concat();
    for stored in cache.set_many(&entries).await.unwrap() {
        assert_eq!(stored.unwrap_err().kind(), ErrorKind::Backend);
    }
    for key in ["k", "a", "b"] {
        assert_eq!(text(&cache, key).await.unwrap(), None, "{key}");
    }
    server.text(&["CONFIG", "SET", "maxmemory", "0"]);
    assert!(cache.set_many(&entries).await.unwrap().iter().all(Result::is_ok));
}

/// `force_refresh`, too, leaves nothing older behind, and loads are stored as soon as there is
/// room.
#[tokio::test]
async fn a_full_server_serves_no_older_value_after_a_load() {
    let (server, adapter) = full().await;
    let cache = AsyncCacheWrapper::new(adapter.clone()).unwrap();
    let load = |value: &'static str| async move { value.to_owned() };
    let found: String =
        cache.view().force_refresh().get_or_set_async("k", load("newer")).await.unwrap();
    assert_eq!(found, "newer");
    assert_eq!(text(&adapter, "k").await.unwrap(), None);
    server.text(&["CONFIG", "SET", "maxmemory", "0"]);
    let _: String = cache.get_or_set_async("k", load("newest")).await.unwrap();
    assert_eq!(text(&adapter, "k").await.unwrap().as_deref(), Some("newest"));
}

/// The server says so and closes the connection, in the middle of the value.
#[tokio::test]
async fn a_value_that_is_longer_than_the_server_takes_is_too_large() {
    let server = Redis::start_with(&["--proto-max-bulk-len", "1mb"]);
    let cache = on(&server).codec(Codec::Raw).build().unwrap();
    let own_lane = on(&server).codec(Codec::Raw).big_value_bytes(64 << 20).build().unwrap();
    for cache in [cache, own_lane] {
        for size in [(1 << 20) + 1, 3 << 20, 20 << 20] {
            let large = || value(&"l".repeat(size));
            let is_too_large = |error: Error| {
                assert_eq!(error.kind(), ErrorKind::TooLarge, "{error:?}");
            };
            for key in ["set", "set_many", "claimed", "replace", "add"] {
                put(&cache, key, "older").await.unwrap();
            }
            is_too_large(cache.set("set", large(), MINUTES).await.unwrap_err());
            let entries = [
                Entry::new("set_many", large(), MINUTES),
                Entry::new("beside", value("small"), MINUTES),
            ];
            let mut stored = cache.set_many(&entries).await.unwrap();
            assert!(stored.pop().unwrap().is_ok(), "its companion");
            is_too_large(stored.pop().unwrap().unwrap_err());
            is_too_large(cache.replace("replace", large(), MINUTES).await.unwrap_err());
            is_too_large(cache.add("new", large(), MINUTES).await.unwrap_err());
            let claim = cache.claim("claimed", None).await.unwrap().unwrap();
            is_too_large(cache.set_claimed("claimed", large(), MINUTES, &claim).await.unwrap_err());
            for key in ["set", "set_many", "replace", "claimed", "new"] {
                assert_eq!(text(&cache, key).await.unwrap(), None, "{key}, {size} bytes");
            }
            assert_eq!(text(&cache, "add").await.unwrap().as_deref(), Some("older"));
            assert_eq!(text(&cache, "beside").await.unwrap().as_deref(), Some("small"));
        }
        cache.set("k", value(&"l".repeat(1 << 20)), MINUTES).await.unwrap();
    }
}

/// Whether a script may write what a command may not.
#[derive(PartialEq, Eq)]
enum Scripts {
    Refused,
    Permitted,
}

/// Every write is refused with an error that says why, and every read works.
async fn writes_are_refused(server: &Redis, scripts: Scripts, refuse: impl FnOnce()) {
    let cache = on(server).build().unwrap();
    put(&cache, "k", "older").await.unwrap();
    refuse();
    let big = "b".repeat(300_000);
    let entries = [Entry::new("k", value("newer"), MINUTES), Entry::new("l", value(&big), MINUTES)];
    let batch = cache.set_many(&entries).await.unwrap().into_iter().map(Result::unwrap_err);
    let mut errors: Vec<Error> = batch.collect();
    errors.extend(cache.remove_many(&["k"]).await.unwrap().into_iter().map(Result::unwrap_err));
    errors.extend([
        put(&cache, "k", "newer").await.unwrap_err(),
        put(&cache, "k", &big).await.unwrap_err(),
        cache.add("n", value("newer"), MINUTES).await.unwrap_err(),
        cache.remove("k").await.unwrap_err(),
        cache.take("k").await.unwrap_err(),
        cache.touch("k", MINUTES).await.unwrap_err(),
        cache.clear("").await.unwrap_err(),
    ]);
    if scripts == Scripts::Refused {
        errors.push(cache.incr("n", 1, MINUTES).await.unwrap_err());
        errors.push(cache.claim("k", None).await.unwrap_err());
    }
    for error in errors {
        assert!(error.is_refused_write(), "{error:?}");
    }
    assert_eq!(text(&cache, "k").await.unwrap().as_deref(), Some("older"));
    assert!(cache.contains("k").await.unwrap());
    cache.ping().await.unwrap();
}

#[tokio::test]
async fn a_server_that_cannot_save_says_so() {
    let server = Redis::start();
    writes_are_refused(&server, Scripts::Refused, || server.cannot_save()).await;
}

#[tokio::test]
async fn a_server_that_lacks_replicas_says_so() {
    let server = Redis::start();
    let need = || {
        server.text(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    };
    // Before version 7 scripts are not asked for how many replicas there are.
    let scripts = if server.info("redis_version").starts_with("6.") {
        Scripts::Permitted
    } else {
        Scripts::Refused
    };
    writes_are_refused(&server, scripts, need).await;
}

#[tokio::test]
async fn a_replica_says_so() {
    let server = Redis::start();
    let follow = || {
        // Of a primary that is away: it keeps what it holds, and goes on reading.
        server.text(&["REPLICAOF", "127.0.0.1", "1"]);
    };
    writes_are_refused(&server, Scripts::Refused, follow).await;
}

/// Milliseconds since 1970.
fn millis() -> u128 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis()
}

/// What a cache does that was given a URL, on a server that goes on reading.
async fn reads_go_on_and_writes_are_made_up_for(
    server: &Redis,
    refuse: impl FnOnce(),
    permit: impl FnOnce(),
) {
    let separator = if server.url().contains('?') { '&' } else { '?' };
    let url = format!("{}{separator}prefix={}&op_timeout=10s", server.url(), prefix());
    let cache = AsyncCacheWrapper::new(url.as_str()).unwrap();
    for key in ["read", "removed", "replaced"] {
        cache.set(key, "older").await.unwrap();
    }
    // A header counts milliseconds: of two values that are closer it is not known which is newer.
    let written = millis();
    eventually("milliseconds have passed", PATIENT, async || millis() > written + 4).await;
    refuse();
    assert!(cache.remove("removed").await.unwrap_err().is_refused_write());
    assert!(cache.set("replaced", "newer").await.unwrap_err().is_refused_write());
    for n in 0..100 {
        assert!(cache.set(format!("n{n}"), n).await.is_err());
        assert_eq!(cache.get::<String>("read").await.unwrap().as_deref(), Some("older"), "{n}");
    }
    permit();
    eventually("what was refused is made up for", PATIENT, async || {
        matches!(cache.get::<String>("removed").await, Ok(None))
            && matches!(cache.get::<String>("replaced").await, Ok(Some(found)) if found == "newer")
    })
    .await;
}

#[tokio::test]
async fn what_a_server_cannot_save_is_made_up_for() {
    let server = Redis::start();
    reads_go_on_and_writes_are_made_up_for(
        &server,
        || server.cannot_save(),
        || server.save_again(),
    )
    .await;
}

#[tokio::test]
async fn what_lacks_replicas_is_made_up_for() {
    let server = Redis::start();
    let need = |count: &str| {
        server.text(&["CONFIG", "SET", "min-replicas-to-write", count]);
    };
    reads_go_on_and_writes_are_made_up_for(&server, || need("1"), || need("0")).await;
}

#[tokio::test]
async fn what_a_replica_refuses_is_made_up_for() {
    let replica = Redis::start();
    let follow = || {
        // Of a primary that is away: it keeps what it holds, and goes on reading.
        replica.text(&["REPLICAOF", "127.0.0.1", "1"]);
    };
    let lead = || {
        replica.text(&["REPLICAOF", "NO", "ONE"]);
    };
    reads_go_on_and_writes_are_made_up_for(&replica, follow, lead).await;
}

/// A server that cannot be written at the moment cannot remove the older value either: the removal
/// is made up for, and until then the process answers without the value.
#[tokio::test]
async fn a_forced_refresh_leaves_nothing_older_behind_that_is_served_again() {
    let server = Redis::start();
    let separator = if server.url().contains('?') { '&' } else { '?' };
    let url = format!("{}{separator}prefix={}&op_timeout=10s", server.url(), prefix());
    let cache = AsyncCacheWrapper::new(url.as_str()).unwrap();
    let keys = ["one", "many", "absent", "here", "leased"];
    for key in keys {
        cache.set(key, "older".to_owned()).await.unwrap();
    }
    server.cannot_save();
    let load = || async { "newer".to_owned() };
    let forced = || cache.view().force_refresh();
    assert_eq!(forced().get_or_load("one", load).await.unwrap(), "newer");
    assert_eq!(forced().get_or_load_here("here", load).await.unwrap(), "newer");
    let leased = forced().lease(Duration::from_secs(9)).get_or_load("leased", load);
    assert_eq!(leased.await.unwrap(), "newer");
    let found = forced().get_or_set_many_async(["many", "absent"], |_: Vec<String>| async {
        [("many".to_owned(), "newer".to_owned())]
    });
    assert_eq!(found.await.unwrap(), [Some("newer".to_owned()), None]);
    for key in keys {
        assert_eq!(cache.get::<String>(key).await.unwrap(), None, "{key}, before it is removed");
    }
    server.save_again();
    // Another process, which knows nothing of what is to be made up for.
    let other = AsyncCacheWrapper::new(url.as_str()).unwrap();
    for key in keys {
        eventually("it is removed", PATIENT, async || {
            matches!(other.get::<String>(key).await, Ok(None))
        })
        .await;
        assert_eq!(cache.get::<String>(key).await.unwrap(), None, "{key}");
    }
}

fn causes(error: &Error) -> String {
    format!("{error}: {}", error.source().map(ToString::to_string).unwrap_or_default())
}

/// The text of the first error that is no timeout.
#[cfg(feature = "tls")]
async fn explained(cache: &AsyncRedisCache) -> String {
    let end = Instant::now() + PATIENT;
    loop {
        let error = cache.get("k").await.unwrap_err();
        if error.kind() != ErrorKind::Timeout {
            return causes(&error);
        }
        assert!(error.to_string().contains("connecting"), "{error}");
        assert!(Instant::now() < end, "{error}");
    }
}

#[tokio::test]
async fn too_many_connections_are_named() {
    let server = Redis::start();
    let other = on(&server).build().unwrap();
    other.connect().await.unwrap();
    // This one, and that of the test itself.
    server.text(&["CONFIG", "SET", "maxclients", "2"]);
    for _ in 0..5 {
        let cache = on(&server).build().unwrap();
        let error = cache.get("k").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(causes(&error).contains("maxclients"), "{}", causes(&error));
    }
    for (verb, error) in by_each_verb(|| on(&server).build().unwrap()).await {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{verb}");
        assert!(causes(&error).contains("maxclients"), "{verb}: {}", causes(&error));
    }
}

/// The error of each verb, from a cache that has no connection yet.
async fn by_each_verb(fresh: impl Fn() -> AsyncRedisCache) -> Vec<(&'static str, Error)> {
    let many: Vec<String> = (0..1_000).map(|number| format!("k{number}")).collect();
    let keys: Vec<&str> = many.iter().map(String::as_str).collect();
    let entries: Vec<_> = keys.iter().map(|key| Entry::new(key, value("v"), MINUTES)).collect();
    let first = |answers: Vec<Result<()>>| answers.into_iter().collect::<Result<()>>();
    let large = || value(&"l".repeat(400_000));
    vec![
        ("set", put(&fresh(), "k", "v").await.unwrap_err()),
        ("large set", fresh().set("k", large(), MINUTES).await.unwrap_err()),
        ("large add", fresh().add("k", large(), MINUTES).await.unwrap_err()),
        ("remove", fresh().remove("k").await.unwrap_err()),
        ("incr", fresh().incr("k", 1, MINUTES).await.unwrap_err()),
        ("clear", fresh().clear("").await.unwrap_err()),
        ("keys", fresh().keys("", None).await.unwrap_err()),
        ("claim", fresh().claim("k", None).await.unwrap_err()),
        ("ping", fresh().ping().await.unwrap_err()),
        ("connect", fresh().connect().await.unwrap_err()),
        ("set_many", fresh().set_many(&entries).await.and_then(first).unwrap_err()),
        (
            "get_many",
            fresh()
                .get_many(&keys)
                .await
                .and_then(|all| all.into_iter().try_for_each(|found| found.map(drop)))
                .unwrap_err(),
        ),
    ]
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn encryption_where_there_is_none_is_named() {
    let server = Redis::start();
    let url = format!("rediss://{}", server.addr());
    let cache = larder::RedisBuilder::from_url(&url)
        .unwrap()
        .op_timeout(Duration::from_millis(250))
        .ca_cert(super::tls::authority())
        .build()
        .unwrap();
    let error = explained(&cache).await;
    assert!(error.contains("TLS"), "{error}");

    let Some(server) = super::tls::server() else { return };
    let url = format!("redis://{}", server.addr());
    let cache = larder::RedisBuilder::from_url(&url).unwrap().op_timeout(PATIENT).build().unwrap();
    let error = causes(&cache.get("k").await.unwrap_err());
    assert!(error.contains("TLS"), "{error}");
}

/// A large value whose call runs out of time is nowhere soon afterwards, under no name.
#[tokio::test]
async fn a_large_value_that_came_too_late_leaves_nothing_behind() {
    watch();
    let server = Redis::start();
    let op_timeout = Duration::from_millis(500);
    let cache = on(&server).op_timeout(op_timeout).build().unwrap();
    put(&cache, "k", &"b".repeat(300_000)).await.unwrap();
    cache.remove("k").await.unwrap();
    for wait in [0, 1, 5, 20, 50] {
        let large = "b".repeat(4 << 20);
        let set = put(&cache, "k", &large);
        // Callers that give up in the middle of a call.
        let _ = tokio::time::timeout(Duration::from_millis(wait), set).await;
        let begun = Instant::now();
        // It waits for what is sent of the large value, for which a busy machine may be too late.
        while let Err(error) = cache.remove("k").await {
            assert!(excuses(&error), "{error}");
        }
        eventually("no copy is left", PATIENT, async || server.int(&["DBSIZE"]) == 0).await;
        println!("given up after {wait} ms: gone after {:?}", begun.elapsed());
    }
}

/// Nor by any other verb, alone, in a batch or as the value of a load.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_verb_leaves_a_large_value_behind_that_came_too_late() {
    let server = Redis::start();
    let adapter = on(&server).op_timeout(Duration::from_millis(500)).build().unwrap();
    let cache = AsyncCacheWrapper::new(adapter.clone()).unwrap();
    let large = "b".repeat(4 << 20);
    for verb in ["set_many", "add", "replace", "set_claimed", "get_or_set", "set_each", "tags"] {
        for wait in [0, 2, 10, 40] {
            if verb == "replace" {
                while put(&adapter, "k", "older").await.is_err() {}
            }
            let write = async {
                let stored = || CacheValue::new(large.clone());
                match verb {
                    "set_many" => {
                        let entries = ["k", "l"].map(|key| Entry::new(key, stored(), MINUTES));
                        drop(adapter.set_many(&entries).await);
                    }
                    "add" => drop(adapter.add("k", stored(), MINUTES).await),
                    "replace" => drop(adapter.replace("k", stored(), MINUTES).await),
                    "set_claimed" => {
                        if let Ok(Some(claim)) = adapter.claim("k", None).await {
                            drop(adapter.set_claimed("k", stored(), MINUTES, &claim).await);
                        }
                    }
                    "get_or_set" => {
                        let _ = cache.get_or_load_here("k", async || large.clone()).await;
                    }
                    "set_each" => {
                        let entries =
                            [("k", large.clone(), MINUTES), ("l", large.clone(), MINUTES)];
                        let _ = cache.set_each(entries).await;
                    }
                    _ => drop(cache.tags(["t"]).set("k", large.clone()).await),
                }
            };
            // Callers that give up in the middle of a call.
            let _ = tokio::time::timeout(Duration::from_millis(wait), write).await;
            let gone = async || {
                let removed = adapter.remove_many(&["k", "l", "\0larder:tag:t"]).await;
                removed.is_ok_and(|all| all.iter().all(Result::is_ok))
                    && server.int(&["DBSIZE"]) == 0
            };
            eventually(&format!("no copy is left of {verb}, {wait} ms"), PATIENT, gone).await;
        }
    }
}

/// What another program keeps under a key is no value for any verb, and is healed.
#[tokio::test]
async fn lists_of_other_programs_are_values_that_cannot_be_read() {
    let server = Redis::shared();
    let prefix = prefix();
    for codec in [Codec::MessagePack, Codec::Json, Codec::Raw] {
        let adapter = on(server).prefix(&prefix).codec(codec).build().unwrap();
        let name = format!("{prefix}list");
        let spoil = || {
            server.text(&["DEL", &name]);
            server.int(&["RPUSH", &name, "an element"]);
        };
        let unreadable = |found: Option<CacheValue>| {
            assert!(found.is_some_and(|found| found.is_unreadable()), "{codec:?}");
        };
        spoil();
        unreadable(adapter.get("list").await.unwrap());
        unreadable(adapter.get_many(&["list"]).await.unwrap().pop().unwrap().unwrap());
        let many: Vec<String> = (0..200).map(|n| format!("m{n}")).collect();
        let mut keys: Vec<&str> = many.iter().map(String::as_str).collect();
        keys.push("list");
        unreadable(adapter.get_many(&keys).await.unwrap().pop().unwrap().unwrap());
        unreadable(adapter.update_timeout("list", MINUTES).await.unwrap());
        assert!(matches!(adapter.expiry("list").await.unwrap(), Some(Expiry::After(_))));
        let error = adapter.incr("list", 1, MINUTES).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotANumber);
        assert!(adapter.contains("list").await.unwrap());
        unreadable(adapter.take("list").await.unwrap());
        assert!(adapter.take("list").await.unwrap().is_none());

        let cache = AsyncCacheWrapper::new(adapter.clone()).unwrap();
        spoil();
        assert_eq!(cache.get::<u32>("list").await.unwrap(), None);
        let found: u32 = cache.get_or_set_async("list", async { 7 }).await.unwrap();
        assert_eq!((found, cache.get::<u32>("list").await.unwrap()), (7, Some(7)));
        spoil();
        let found: Vec<Option<u32>> = cache.get_many(["list"]).await.unwrap();
        assert_eq!(found, [None]);
        cache.remove("list").await.unwrap();
    }
}

/// Half of them are asked for at the same time, so that they share a batch.
#[tokio::test]
async fn lists_of_other_programs_are_recognised_in_a_batch() {
    let server = Redis::shared();
    let prefix = prefix();
    let cache = on(server).prefix(&prefix).batch_above(0).build().unwrap();
    server.int(&["RPUSH", &format!("{prefix}list"), "an element"]);
    put(&cache, "k", "v").await.unwrap();
    let (list, nothing, k) =
        tokio::join!(cache.get("list"), cache.get("nothing"), text(&cache, "k"));
    assert!(list.unwrap().unwrap().is_unreadable());
    assert!(nothing.unwrap().is_none());
    assert_eq!(k.unwrap().as_deref(), Some("v"));
}
