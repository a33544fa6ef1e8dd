//! Observers and counters.

use super::{faulty, fresh};
use larder::testing::{Fault, Verb};
use larder::{AsyncCacheWrapper, AsyncMemoryCache, ErrorKind, EventKind, Expiry};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;

/// What an observer was emitted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Heard {
    pub(crate) kind: EventKind,
    pub(crate) backend: String,
    pub(crate) op: Option<&'static str>,
    pub(crate) key: Option<String>,
    pub(crate) error: Option<ErrorKind>,
    pub(crate) is_timed: bool,
}

#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<Heard>>>);

impl Log {
    pub(crate) fn of(cache: &AsyncCacheWrapper) -> Self {
        let log = Self::default();
        let written = log.clone();
        cache.observe(move |event| {
            assert_eq!(event.count, 1);
            let (key, error) =
                (event.key.map(str::to_owned), event.error.map(|error| error.kind()));
            let (kind, backend, is_timed) =
                (event.kind, event.backend.to_owned(), event.took.is_some());
            written.0.lock().unwrap().push(Heard {
                kind,
                backend,
                op: event.op,
                key,
                error,
                is_timed,
            });
        });
        log
    }

    /// What came since the last look.
    pub(crate) fn read(&self) -> Vec<Heard> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    /// The same, as kinds and keys.
    pub(crate) fn kinds(&self) -> Vec<(EventKind, String)> {
        self.read().into_iter().map(|heard| (heard.kind, heard.key.unwrap_or_default())).collect()
    }
}

/// Kinds and keys, to compare with.
pub(crate) fn emitted(expected: &[(EventKind, &str)]) -> Vec<(EventKind, String)> {
    expected.iter().map(|(kind, key)| (*kind, (*key).to_owned())).collect()
}

fn entry(
    kind: EventKind,
    key: &str,
    error: Option<ErrorKind>,
) -> (EventKind, String, Option<ErrorKind>) {
    (kind, key.to_owned(), error)
}

use EventKind::{BackendError, Clear, DecodeError, Hit, Load, LoadError, Miss, Remove, Set, Swap};

/// Every verb, in an order in which each does something and, where it can, nothing. `reads` are
/// what a miss and a hit are emitted as.
pub(crate) async fn every_verb(cache: &AsyncCacheWrapper, backend: &str) -> larder::Result<()> {
    let log = Log::of(cache);
    let before = cache.stats();

    assert_eq!(cache.get::<u8>("k").await?, None);
    assert_eq!(log.kinds(), emitted(&[(Miss, "k")]));
    assert_eq!(cache.get_or("k", 5u8).await?, 5);
    cache.get_or_fail::<u8>("k").await.unwrap_err();
    assert_eq!(log.kinds(), emitted(&[(Miss, "k"), (Miss, "k")]));

    cache.set("k", 1u8).await?;
    let heard = log.read();
    assert_eq!(
        (heard.len(), heard[0].kind, heard[0].op, &*heard[0].backend, heard[0].is_timed),
        (1, Set, Some("set"), backend, true)
    );
    assert_eq!(cache.get::<u8>("k").await?, Some(1));
    let heard = log.read();
    assert_eq!(
        (heard.len(), heard[0].kind, heard[0].op, &*heard[0].backend, heard[0].is_timed),
        (1, Hit, Some("get"), backend, true)
    );
    cache.get_or("k", 5u8).await?;
    cache.get_or_fail::<u8>("k").await?;
    assert_eq!(log.kinds(), emitted(&[(Hit, "k"), (Hit, "k")]));
    cache.ttl(Duration::ZERO).set("zero", 1u8).await?;
    assert_eq!(log.kinds(), emitted(&[(Set, "zero")]));

    cache.set_many([("x", 1u8), ("y", 2)]).await?;
    assert_eq!(log.kinds(), emitted(&[(Set, "x"), (Set, "y")]));
    cache.get_many::<u8, _>(["y", "nope", "x"]).await?;
    assert_eq!(log.kinds(), emitted(&[(Hit, "y"), (Miss, "nope"), (Hit, "x")]));
    cache.get_many::<u8, [&str; 0]>([]).await?;
    assert_eq!(log.read(), []);

    assert!(!cache.add("k", 1u8).await?);
    assert!(!cache.replace("nope", 1u8).await?);
    assert_eq!(log.read(), [], "what is not stored is not emitted");
    assert!(cache.add("added", 1u8).await?);
    assert!(cache.replace("added", 2u8).await?);
    assert_eq!(cache.incr("n", 2).await?, 2);
    assert_eq!(cache.decr("n", 1).await?, 1);
    assert_eq!(log.kinds(), emitted(&[(Set, "added"), (Set, "added"), (Set, "n"), (Set, "n")]));

    assert!(cache.contains("k").await?);
    assert!(cache.touch("k", Expiry::Never).await?);
    assert!(!cache.touch("nope", Expiry::Never).await?);
    assert_eq!(cache.expiry("k").await?, Some(Expiry::Never));
    assert_eq!(cache.update_timeout::<u8>("k", Duration::from_secs(60)).await?, 1);
    cache.update_timeout::<u8>("nope", Duration::from_secs(60)).await.unwrap_err();
    assert_eq!(log.read(), [], "what neither reads nor writes a value is not emitted");

    assert!(!cache.remove("nope").await?);
    assert_eq!(cache.take::<u8>("nope").await?, None);
    assert_eq!(log.read(), []);
    assert!(cache.remove("added").await?);
    assert!(!cache.remove(["x", "nope", "y"]).await?);
    assert_eq!(cache.take::<u8>("k").await?, Some(1));
    assert_eq!(
        log.kinds(),
        emitted(&[(Remove, "added"), (Remove, "x"), (Remove, "y"), (Remove, "k")])
    );

    assert_eq!(cache.get_or_set("a", 1u8).await?, 1);
    assert_eq!(cache.get_or_set("a", 2u8).await?, 1);
    assert_eq!(cache.get_or_set_with("b", |_| 1u8).await?, 1);
    assert_eq!(cache.get_or_set_async("c", async { 1u8 }).await?, 1);
    assert_eq!(cache.get_or_set_async("c", async { 2u8 }).await?, 1);
    let expected = emitted(&[
        (Miss, "a"),
        (Load, "a"),
        (Hit, "a"),
        (Miss, "b"),
        (Load, "b"),
        (Miss, "c"),
        (Load, "c"),
        (Hit, "c"),
    ]);
    assert_eq!(log.kinds(), expected);
    cache.try_get_or_set_async("f", async { Err::<u8, _>("no") }).await.unwrap_err();
    cache.get_or_set_with("p", |_| -> u8 { panic!("on purpose") }).await.unwrap_err();
    let heard: Vec<_> = log
        .read()
        .into_iter()
        .map(|heard| (heard.kind, heard.key.unwrap(), heard.error, heard.is_timed))
        .collect();
    let failed = |key: &str, kind| (LoadError, key.to_owned(), Some(kind), true);
    let missed = |key: &str| (Miss, key.to_owned(), None, true);
    assert_eq!(
        heard,
        [missed("f"), failed("f", ErrorKind::Load), missed("p"), failed("p", ErrorKind::Panic)]
    );

    let part = cache.namespace("part");
    part.set("k", 1u8).await?;
    assert_eq!(part.get::<u8>("k").await?, Some(1));
    assert_eq!(part.get_or_set("k", 2u8).await?, 1);
    part.clear().await?;
    assert_eq!(
        log.kinds(),
        emitted(&[(Set, "part:k"), (Hit, "part:k"), (Hit, "part:k"), (Clear, "part:")]),
        "keys with their namespace"
    );
    cache.clear().await?;
    assert_eq!(log.kinds(), emitted(&[(Clear, "")]));

    // The counters say the same.
    let stats = cache.stats();
    assert_eq!((stats.hits - before.hits, stats.misses - before.misses), (9, 9));
    assert_eq!(
        (stats.sets - before.sets, stats.removes - before.removes, stats.clears - before.clears),
        (9, 4, 2)
    );
    assert_eq!((stats.loads - before.loads, stats.load_errors - before.load_errors), (3, 2));
    assert_eq!(stats.load_time.count, before.load_time.count + 5);
    assert_eq!(stats, part.stats(), "namespaces share the counters");
    assert_eq!(stats, cache.blocking().stats());
    Ok(())
}

#[tokio::test]
async fn every_verb_in_memory() -> larder::Result<()> {
    for cache in super::plain_and_encoded() {
        every_verb(&cache, "memory").await?;
        assert_eq!(cache.stats().backend_time.count, 0, "what need not wait is not measured");
    }
    Ok(())
}

/// The same on a server and in a file, where calls are measured besides.
#[cfg(all(feature = "redis", feature = "sqlite"))]
#[tokio::test]
async fn every_verb_elsewhere() -> larder::Result<()> {
    let server = crate::support::Redis::start();
    for (backend, url) in
        [("redis", server.url().to_owned()), ("sqlite", "sqlite::memory:".to_owned())]
    {
        let cache = AsyncCacheWrapper::new(format!("{url}?op_timeout=60s"))?;
        every_verb(&cache, backend).await?;
        let stats = cache.stats();
        // SQLite sometimes answers before its caller has to wait.
        let least = if backend == "redis" { 40 } else { 1 };
        assert!(
            stats.backend_time.count >= least && stats.backend_time.max >= stats.backend_time.p50,
            "{backend}: {stats}"
        );
        assert_eq!((stats.backend_errors, stats.decode_errors), (0, 0));
    }
    Ok(())
}

#[tokio::test]
async fn a_failure_is_emitted_once() -> larder::Result<()> {
    let (cache, adapter) = faulty();
    let log = Log::of(&cache);
    let read = || {
        log.read()
            .into_iter()
            .map(|heard| (heard.kind, heard.key.unwrap_or_default(), heard.error))
            .collect::<Vec<_>>()
    };
    let away = Fault::Fail(ErrorKind::Unavailable);
    let failed = |key| entry(BackendError, key, Some(ErrorKind::Unavailable));

    cache.set_many([("k", 1u8), ("x", 1)]).await?;
    read();
    adapter.put_next(Verb::Get, 1, away);
    cache.get_or_set("k", 2u8).await?;
    assert_eq!(read(), [failed("k"), entry(Miss, "k", None), entry(Load, "k", None)]);
    adapter.put_next(Verb::Set, 1, Fault::Fail(ErrorKind::Timeout));
    cache.get_or_set("s", 2u8).await?;
    let expected = [
        entry(Miss, "s", None),
        entry(Load, "s", None),
        entry(BackendError, "s", Some(ErrorKind::Timeout)),
    ];
    assert_eq!(read(), expected);
    adapter.put_next(Verb::Get, 1, away);
    cache.fail_open(false).get_or_set("k", 2u8).await.unwrap_err();
    assert_eq!(read(), [failed("k")]);
    let before = cache.stats();
    adapter.put_next(Verb::Set, 1, Fault::Fail(ErrorKind::Timeout));
    assert_eq!(
        cache.fail_open(false).get_or_set("t", 2u8).await.unwrap_err().kind(),
        ErrorKind::Timeout
    );
    let expected = [
        entry(Miss, "t", None),
        entry(Load, "t", None),
        entry(BackendError, "t", Some(ErrorKind::Timeout)),
    ];
    assert_eq!(read(), expected, "the loader has not failed");
    assert_eq!(
        (cache.stats().loads, cache.stats().load_errors),
        (before.loads + 1, before.load_errors)
    );

    adapter.put_on_all(away);
    cache.get::<u8>("k").await.unwrap_err();
    cache.set("k", 1u8).await.unwrap_err();
    cache.remove("k").await.unwrap_err();
    cache.take::<u8>("k").await.unwrap_err();
    cache.incr("k", 1).await.unwrap_err();
    cache.touch("k", Expiry::Never).await.unwrap_err();
    assert_eq!(read(), std::iter::repeat_n(failed("k"), 6).collect::<Vec<_>>());
    cache.get_many::<u8, _>(["k", "x"]).await.unwrap_err();
    cache.set_many([("k", 1u8), ("x", 1)]).await.unwrap_err();
    cache.remove(["k", "x"]).await.unwrap_err();
    cache.clear().await.unwrap_err();
    cache.ping().await.unwrap_err();
    assert_eq!(
        read(),
        std::iter::repeat_n(failed(""), 5).collect::<Vec<_>>(),
        "a batch that fails as a whole is one call"
    );
    adapter.heal_all();
    assert_eq!(cache.stats().backend_errors, 15);

    adapter.put_next(Verb::Get, 1, Fault::Corrupt);
    assert_eq!(cache.get::<u8>("k").await?, None, "damaged bytes are a miss");
    assert_eq!(read(), [entry(DecodeError, "k", Some(ErrorKind::Decode)), entry(Miss, "k", None)]);
    adapter.put_next(Verb::Get, 1, Fault::Corrupt);
    cache.get_or_set("k", 1u8).await?;
    assert_eq!(
        read(),
        [
            entry(DecodeError, "k", Some(ErrorKind::Decode)),
            entry(Miss, "k", None),
            entry(Load, "k", None)
        ]
    );
    cache.get::<Vec<String>>("k").await.unwrap_err();
    assert_eq!(
        read(),
        [entry(DecodeError, "k", Some(ErrorKind::Decode))],
        "a call that fails has found neither a value nor none"
    );
    adapter.put_next(Verb::GetMany, 1, Fault::Corrupt);
    assert_eq!(cache.get_many::<u8, _>(["k", "x"]).await?, [None, None]);
    let undecodable =
        |key| [entry(DecodeError, key, Some(ErrorKind::Decode)), entry(Miss, key, None)];
    assert_eq!(read(), [undecodable("k"), undecodable("x")].concat());
    assert_eq!(
        cache.get_many::<Vec<String>, _>(["k", "x", "nope"]).await.unwrap_err().key(),
        Some("k"),
        "the first is what is returned"
    );
    let undecodable = |key| entry(DecodeError, key, Some(ErrorKind::Decode));
    assert_eq!(
        read(),
        [undecodable("k"), undecodable("x"), entry(Miss, "nope", None)],
        "and all of them are emitted"
    );

    cache.get::<u8>("").await.unwrap_err();
    cache.set("", 1u8).await.unwrap_err();
    cache.get_or_set("", 1u8).await.unwrap_err();
    assert_eq!(read(), [], "a key that is none reaches nobody");
    cache.clone().swap_adapter("memory")?;
    assert_eq!(read(), [entry(Swap, "", None)]);
    assert_eq!(cache.stats().swaps, 1);
    Ok(())
}

/// A load is emitted once, as what it was when its caller stopped waiting.
#[cfg(feature = "test-util")]
#[tokio::test(start_paused = true)]
async fn a_load_that_runs_out_of_time_is_emitted_once() -> larder::Result<()> {
    let cache = fresh();
    let log = Log::of(&cache);
    let slow = || async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        5u8
    };
    let late =
        cache.hard_timeout(Duration::from_secs(1)).get_or_set_async("k", slow()).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Timeout);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(cache.get("k").await?, Some(5u8), "stored all the same");
    assert_eq!(log.kinds(), emitted(&[(Miss, "k"), (LoadError, "k"), (Hit, "k")]));
    Ok(())
}

/// What cannot be stored is seen: its loader runs each time.
#[tokio::test]
async fn a_value_that_cannot_be_stored_emits_an_event() -> larder::Result<()> {
    let [_, encoded] = super::plain_and_encoded();
    let log = Log::of(&encoded);
    assert_eq!(encoded.get_or_set("k", Some(None::<u8>)).await?, Some(None));
    let heard: Vec<_> = log.read().into_iter().map(|heard| (heard.kind, heard.error)).collect();
    assert_eq!(heard, [(Miss, None), (Load, None), (BackendError, Some(ErrorKind::Encode))]);
    Ok(())
}

/// A caller that waits for a loader emits one `Joined` and one `Miss`.
#[tokio::test]
async fn followers_join() -> larder::Result<()> {
    const FOLLOWERS: u64 = 7;
    let cache = fresh();
    let go = Arc::new(Notify::new());
    let (leader, gate) = (cache.clone(), go.clone());
    let leader = tokio::spawn(async move {
        let load = async move {
            gate.notified().await;
            5u8
        };
        leader.get_or_set_async("k", load).await
    });
    let mut followers = Vec::new();
    for _ in 0..FOLLOWERS {
        let cache = cache.clone();
        followers
            .push(tokio::spawn(async move { cache.get_or_set_async("k", async { 6u8 }).await }));
    }
    while cache.stats().joined < FOLLOWERS {
        tokio::task::yield_now().await;
    }
    go.notify_one();
    assert_eq!(leader.await.unwrap()?, 5);
    for follower in followers {
        assert_eq!(follower.await.unwrap()?, 5);
    }
    let stats = cache.stats();
    assert_eq!(
        (stats.misses, stats.hits, stats.joined, stats.loads),
        (FOLLOWERS + 1, 0, FOLLOWERS, 1)
    );
    Ok(())
}

/// A known sequence on many tasks and threads, and then the sums.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn counters_are_exact() -> larder::Result<()> {
    const TASKS: u64 = 40;
    const ROUNDS: u64 = 50;
    let cache = fresh();
    let mut tasks = Vec::new();
    for task in 0..TASKS {
        let cache = cache.clone();
        tasks.push(tokio::spawn(async move {
            for round in 0..ROUNDS {
                let key = format!("{task}/{round}");
                assert_eq!(cache.get::<u64>(&key).await?, None);
                cache.set(&key, round).await?;
                assert_eq!(cache.get(&key).await?, Some(round));
                assert_eq!(cache.get_or_set(&key, 0).await?, round);
                assert!(cache.remove(&key).await?);
                assert_eq!(cache.get_or_set_async(key, async { 7u64 }).await?, 7);
            }
            larder::Result::Ok(())
        }));
    }
    for task in tasks {
        task.await.unwrap()?;
    }
    let (stats, each) = (cache.stats(), TASKS * ROUNDS);
    assert_eq!((stats.hits, stats.misses), (2 * each, 2 * each));
    assert_eq!((stats.sets, stats.removes, stats.loads), (each, each, each));
    assert_eq!(stats.hit_ratio(), 0.5);
    Ok(())
}

#[tokio::test]
async fn an_observer_that_panics_hurts_nobody() -> larder::Result<()> {
    let cache = fresh();
    cache.observe(|_| panic!("an observer panics"));
    let log = Log::of(&cache);
    assert_eq!(cache.get_or_set_async("a", async { 1u8 }).await?, 1);
    assert_eq!(cache.get_or_set("b", 2u8).await?, 2);
    assert_eq!(cache.get("a").await?, Some(1u8));
    cache.swap_adapter("memory")?;
    cache.reset_adapter().await?;
    assert_eq!(cache.get_or_set("a", 3u8).await?, 3);
    let kinds: Vec<_> = log.read().into_iter().map(|heard| heard.kind).collect();
    assert_eq!(
        kinds,
        [Miss, Load, Miss, Load, Hit, Swap, Swap, Miss, Load],
        "the observers after it hear everything"
    );
    cache.clear().await?;
    every_verb(&cache, "memory").await
}

/// A slow observer makes its own call slow, and changes nothing else.
#[tokio::test]
async fn a_slow_observer_only_takes_time() -> larder::Result<()> {
    let cache = fresh();
    cache.observe(|_| std::thread::sleep(Duration::from_millis(1)));
    every_verb(&cache, "memory").await
}

#[tokio::test]
async fn an_observer_may_use_the_cache() -> larder::Result<()> {
    let cache = fresh();
    let inner = cache.clone();
    cache.observe(move |event| {
        if event.kind == Load && event.key != Some("seen") {
            inner.blocking().set("seen", 1u8).unwrap();
            inner.observe(|_| {});
        }
        if event.kind == Hit {
            inner.swap_adapter("memory").unwrap();
        }
    });
    assert_eq!(cache.get_or_set("k", 5u8).await?, 5);
    assert_eq!(cache.get_or_set_async("l", async { 6u8 }).await?, 6);
    assert_eq!(cache.get("seen").await?, Some(1u8));
    assert_eq!(cache.generation()?, 1);
    Ok(())
}

/// An adapter emits its events to the caches that use it, and to no others.
#[tokio::test]
async fn an_adapter_that_was_replaced_emits_nothing() -> larder::Result<()> {
    let cache = fresh();
    let lonely = AsyncCacheWrapper::new(AsyncMemoryCache::new())?;
    let log = Log::of(&cache);
    lonely.set("k", 1u8).await?;
    let old = cache.swap_adapter(lonely.adapter()?)?;
    assert_eq!(log.read().len(), 1);
    old.set("k", larder::CacheValue::new(1u8), Expiry::Never).await?;
    lonely.get::<u8>("k").await?;
    assert_eq!(log.read(), [], "what is not called through this cache is not its event");
    Ok(())
}

/// Evictions and expiries emit events: one per entry, with its key.
#[tokio::test]
async fn evictions_and_expiries_are_emitted() -> larder::Result<()> {
    const WRITTEN: usize = 500;
    let cache = AsyncCacheWrapper::new(AsyncMemoryCache::builder().max_entries(100).build())?;
    let log = Log::of(&cache);
    for n in 0..WRITTEN {
        cache.ttl(Expiry::Never).set(format!("k{n}"), n).await?;
    }
    let found = cache.get_many::<usize, _>((0..WRITTEN).map(|n| format!("k{n}"))).await?;
    let evicted: Vec<_> =
        log.read().into_iter().filter(|heard| heard.kind == EventKind::Evict).collect();
    let live = found.iter().flatten().count();
    assert_eq!(evicted.len(), WRITTEN - live, "what is not there any more was emitted");
    for heard in evicted {
        let n: usize =
            heard.key.as_deref().and_then(|key| key.strip_prefix('k')?.parse().ok()).unwrap();
        assert_eq!((found[n], &*heard.backend), (None, "memory"), "{n} is emitted to be gone");
    }
    assert_eq!(cache.stats().evicted as usize, WRITTEN - live);

    let cache = fresh();
    let log = Log::of(&cache);
    cache.ttl(Duration::from_millis(20)).set_many((0..50).map(|n| (format!("k{n}"), n))).await?;
    let mut expired = Vec::new();
    crate::trials::eventually("all of them are swept", || {
        expired.extend(
            log.kinds()
                .into_iter()
                .filter(|(kind, _)| *kind == EventKind::Expire)
                .map(|(_, key)| key),
        );
        expired.len() >= 50
    })
    .await;
    expired.sort();
    expired.dedup();
    assert_eq!((expired.len(), cache.stats().expired), (50, 50));
    Ok(())
}
