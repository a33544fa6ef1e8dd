//! What many callers at once cost the server, and what it must not change.

use super::{PATIENT, on, put, text, value_of};
use crate::support::{Proxy, Redis, eventually};
use futures_util::future::join_all;
use larder::{ErrorKind, RedisBuilder};

/// How often the server has executed a command.
pub(super) fn calls(server: &Redis, command: &str) -> u64 {
    let stats = server.text(&["INFO", "commandstats"]);
    let line =
        stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.and_then(|rest| rest.split(',').next()?.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn a_caller_by_itself_pays_nothing() {
    let server = Redis::start();
    let cache = on(&server).op_timeout(PATIENT).build().unwrap();
    put(&cache, "k", "v").await.unwrap();
    let before: u64 = server.info("total_commands_processed").parse().unwrap();
    for _ in 0..100 {
        put(&cache, "k", "v").await.unwrap();
        assert_eq!(text(&cache, "k").await.unwrap().as_deref(), Some("v"));
    }
    let after: u64 = server.info("total_commands_processed").parse().unwrap();
    // One of them is the question itself.
    assert_eq!(after - before, 201);
    assert_eq!(calls(&server, "mget"), 0);
}

/// A thousand keys, of which a hundred are missing: one round trip to read and claim, one load, and
/// one round trip to store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_with_a_loader_is_one_read_and_claims_what_is_missing_only() {
    let server = Redis::start();
    let adapter = on(&server).op_timeout(PATIENT).build().unwrap();
    let cache = larder::AsyncCacheWrapper::new(adapter).unwrap();
    let keys: Vec<String> = (0..1_000).map(|at| format!("k{at}")).collect();
    cache.set_many(keys.iter().skip(100).map(|key| (key, 1u64))).await.unwrap();
    let loads = std::sync::atomic::AtomicU64::new(0);
    let load = |missing: Vec<String>| {
        loads.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        async move { missing.into_iter().map(|key| (key, 2u64)) }
    };
    let scripts = |server: &Redis| calls(server, "evalsha") + calls(server, "eval");
    // From the first load on the server knows the scripts.
    let first = cache.get_or_set_many_async(["first", "second"], load).await.unwrap();
    assert_eq!(first, [Some(2), Some(2)]);
    loads.store(0, std::sync::atomic::Ordering::SeqCst);
    let (reads, looks) = (calls(&server, "mget"), calls(&server, "exists"));
    let (before, trips) = (scripts(&server), cache.stats().backend_time.count);
    let found = cache.get_or_set_many_async(&keys, load).await.unwrap();
    assert_eq!(found.iter().flatten().sum::<u64>(), 900 + 2 * 100);
    assert_eq!(loads.load(std::sync::atomic::Ordering::SeqCst), 1);
    // The script that claims also tells another program's list from a missing key.
    assert_eq!((calls(&server, "mget") - reads, calls(&server, "exists") - looks), (1, 0));
    assert_eq!(scripts(&server) - before, 1 + 100, "one script for the claims, and the stores");
    let trips = cache.stats().backend_time.count - trips;
    // A call is counted if it has to wait: an answer may be there at once.
    assert!(trips <= 2, "{trips} calls of the adapter, each of which sends its commands together");
    let again = cache.get_or_set_many_async(&keys, load).await.unwrap();
    assert_eq!((again, calls(&server, "mget") - reads), (found, 2));
}

/// What the script that claims costs the server where there is nothing to claim.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_of_hits_is_not_looked_at_key_by_key() {
    let server = Redis::start();
    let adapter = on(&server).op_timeout(PATIENT).build().unwrap();
    let cache = larder::AsyncCacheWrapper::new(adapter).unwrap();
    let keys: Vec<String> = (0..1_000).map(|at| format!("k{at}")).collect();
    cache.set_many(keys.iter().map(|key| (key, 1u64))).await.unwrap();
    let load = |missing: Vec<String>| async move { missing.into_iter().map(|key| (key, 2u64)) };
    let sum = |found: Vec<Option<u64>>| found.into_iter().flatten().sum::<u64>();
    for may_touch in [true, false] {
        if !may_touch {
            server.text(&["ACL", "SETUSER", "default", "-touch"]);
        }
        let before = calls(&server, "strlen");
        assert_eq!(sum(cache.get_or_set_many_async(&keys, load).await.unwrap()), 1_000);
        let looks = calls(&server, "strlen") - before;
        assert_eq!(looks, if may_touch { 0 } else { 1_000 });
        // One that is missing is claimed among the others.
        cache.remove("k500").await.unwrap();
        assert_eq!(sum(cache.get_or_set_many_async(&keys, load).await.unwrap()), 1_001);
        assert_eq!(cache.get::<u64>("k500").await.unwrap(), Some(2));
        cache.set("k500", 1u64).await.unwrap();
    }
}

/// While nothing comes back, few are sent by themselves; the rest waits and is one command, or few.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_that_wait_are_few_commands() {
    let server = Redis::start();
    let proxy = Proxy::start(server.addr());
    let cache = RedisBuilder::from_url(&proxy.url(server.url()))
        .unwrap()
        .op_timeout(PATIENT)
        .build()
        .unwrap();
    for n in 0..300 {
        let key = format!("k{n}");
        put(&cache, &key, &value_of(&key)).await.unwrap();
    }
    assert_eq!(calls(&server, "get"), 0);
    proxy.hold();
    let callers = (0..300).map(|n| {
        let cache = cache.clone();
        tokio::spawn(async move {
            let key = format!("k{n}");
            assert_eq!(text(&cache, &key).await.unwrap(), Some(value_of(&key)));
        })
    });
    let callers = join_all(callers.collect::<Vec<_>>());
    // Each has been polled once before the last of them answers.
    tokio::task::yield_now().await;
    proxy.release();
    callers.await.into_iter().for_each(|caller| caller.unwrap());
    let (gets, batches) = (calls(&server, "get"), calls(&server, "mget"));
    println!("300 callers: {gets} by themselves, {batches} batches");
    assert!(gets + batches < 200 && batches > 0, "{gets} by themselves, {batches} batches");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_batches_there_are_none() {
    let server = Redis::start();
    let cache = on(&server).max_batch(1).op_timeout(PATIENT).build().unwrap();
    let found = join_all((0..300).map(|n| {
        let cache = cache.clone();
        tokio::spawn(async move { text(&cache, &format!("k{n}")).await.unwrap() })
    }));
    assert!(found.await.into_iter().all(|found| found.unwrap().is_none()));
    assert_eq!((calls(&server, "get"), calls(&server, "mget")), (300, 0));
}

/// A list under a key of larder's is a value that cannot be read, by itself and in a batch, and
/// affects no other key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_programs_list_is_as_unreadable_in_company() {
    let server = Redis::start();
    for batch_above in [0, 32] {
        let prefix = super::prefix();
        let cache = on(&server)
            .prefix(&prefix)
            .batch_above(batch_above)
            .op_timeout(PATIENT)
            .build()
            .unwrap();
        put(&cache, "k", "v").await.unwrap();
        server.int(&["RPUSH", &format!("{prefix}list"), "theirs"]);
        let found = join_all((0..90).map(|n| {
            let cache = cache.clone();
            tokio::spawn(async move { text(&cache, ["k", "list", "missing"][n % 3]).await })
        }));
        for (n, found) in found.await.into_iter().enumerate() {
            match (n % 3, found.unwrap()) {
                (0, found) => assert_eq!(found.unwrap().as_deref(), Some("v")),
                (1, found) => assert_eq!(found.unwrap_err().kind(), ErrorKind::Decode),
                (_, found) => assert_eq!(found.unwrap(), None),
            }
        }
    }
}

/// A connection that is cut under a batch: what can be asked again is asked again over the next
/// one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_whose_connection_is_cut_is_asked_again() {
    let server = Redis::start();
    let cache = on(&server).batch_above(0).op_timeout(PATIENT).build().unwrap();
    put(&cache, "k", "v").await.unwrap();
    for _ in 0..5 {
        server.text(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"].map(str::to_owned));
        let found = join_all((0..100).map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { text(&cache, "k").await })
        }));
        for found in found.await {
            assert_eq!(found.unwrap().unwrap().as_deref(), Some("v"));
        }
    }
    eventually("one connection is left", PATIENT, || async { server.clients().len() <= 1 }).await;
}
