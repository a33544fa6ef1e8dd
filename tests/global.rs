//! The caches that are everywhere, a process each.

#![cfg(all(feature = "memory", feature = "testing"))]
#![allow(clippy::unwrap_used, reason = "tests")]

mod own_process;

use larder::{
    AsyncCacheAdapter, AsyncMemoryCache, CacheValue, Expiry, IntoAdapter, adapter_get, adapter_set,
    async_adapter_get, async_adapter_set, async_cached, awaitable, cached,
};
use own_process::{eventually, own_process};
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier};
use std::task::{Context, Waker};
use std::thread;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn on_a_runtime<T>(future: impl Future<Output = T>) -> T {
    runtime().block_on(future)
}

fn read(adapter: &Arc<dyn AsyncCacheAdapter>, key: &str) -> Option<String> {
    on_a_runtime(adapter.get(key)).unwrap().map(|value| value.decode().unwrap())
}

own_process! {
    fn memory_until_one_is_set() {
        on_a_runtime(async {
            assert_eq!(async_cached().get::<String>("hello").await.unwrap(), None);
            async_cached().set("hello", "world").await.unwrap();
            assert_eq!(async_cached().get::<String>("hello").await.unwrap().as_deref(), Some("world"));
        });
        assert_eq!(async_adapter_get().unwrap().backend(), "memory");
        assert_eq!(adapter_get().unwrap().backend(), "memory");
        assert_eq!(async_cached().generation().unwrap(), 0);
        let Some(Expiry::After(left)) = cached().expiry("hello").unwrap() else { panic!("not the default expiry") };
        assert!(left <= Duration::from_secs(300) && left > Duration::from_secs(240), "{left:?}");
    }

    fn set_before_its_first_use() {
        let own = AsyncMemoryCache::new();
        async_adapter_set(own.clone()).unwrap();
        cached().set("key", 1).unwrap();
        assert_eq!(own.entry_count(), 1);
    }

    fn the_blocking_one_follows_until_it_has_its_own() {
        let (cache, view, namespace) = (cached(), cached().ttl(Expiry::Never), cached().namespace("own"));
        on_a_runtime(async_cached().set("key", "async")).unwrap();
        assert_eq!(cache.get::<String>("key").unwrap().as_deref(), Some("async"));
        cache.set("other", "blocking").unwrap();
        assert_eq!(on_a_runtime(async_cached().get::<String>("other")).unwrap().as_deref(), Some("blocking"));

        // It follows a swap …
        async_adapter_set("memory").unwrap();
        assert_eq!(cache.get::<String>("key").unwrap(), None);
        assert!(Arc::ptr_eq(&adapter_get().unwrap(), &async_adapter_get().unwrap()));
        view.set("key", "both").unwrap();
        namespace.set("key", "both").unwrap();
        assert_eq!(on_a_runtime(async_cached().get::<String>("own:key")).unwrap().as_deref(), Some("both"));

        // … and after its own it does not, through handles taken before either.
        adapter_set("memory").unwrap();
        assert!(!Arc::ptr_eq(&adapter_get().unwrap(), &async_adapter_get().unwrap()));
        assert_eq!(cache.get::<String>("key").unwrap(), None);
        assert_eq!(namespace.get::<String>("key").unwrap(), None);
        view.set("key", "blocking").unwrap();
        namespace.set("key", "blocking").unwrap();
        assert_eq!(on_a_runtime(async_cached().get::<String>("key")).unwrap().as_deref(), Some("both"));
        let own = adapter_get().unwrap();
        async_adapter_set("memory").unwrap();
        assert!(Arc::ptr_eq(&adapter_get().unwrap(), &own));
        assert_eq!(cache.get::<String>("key").unwrap().as_deref(), Some("blocking"));
        cache.clear().unwrap();
        assert_eq!(namespace.get::<String>("key").unwrap(), None);
    }

    fn an_adapter_that_was_got_is_pinned() {
        cached().set("key", "first").unwrap();
        let pinned = [async_adapter_get().unwrap(), adapter_get().unwrap()];
        async_adapter_set("memory").unwrap();
        adapter_set("memory").unwrap();
        cached().set("key", "second").unwrap();
        on_a_runtime(async_cached().set("key", "third")).unwrap();
        for pinned in &pinned {
            assert_eq!(read(pinned, "key").as_deref(), Some("first"));
        }
    }

    fn setting_gives_the_adapter_back() {
        let (of_async, of_blocking) = (async_adapter_set("memory").unwrap(), adapter_set("memory").unwrap());
        assert!(Arc::ptr_eq(&of_async, &async_adapter_get().unwrap()));
        assert!(Arc::ptr_eq(&of_blocking, &adapter_get().unwrap()));
        on_a_runtime(of_async.set("key", CacheValue::new("value"), Expiry::Default)).unwrap();
        assert_eq!(on_a_runtime(async_cached().get::<String>("key")).unwrap().as_deref(), Some("value"));
    }

    fn every_kind_of_argument() {
        fn sets<A: IntoAdapter + Clone>(adapter: A) {
            assert_eq!(async_adapter_set(adapter.clone()).unwrap().backend(), "memory");
            assert_eq!(adapter_set(adapter).unwrap().backend(), "memory");
            cached().set("key", 1).unwrap();
        }
        for name in ["memory", "Mem", "RAM", "MemoryCache", "asyncmemoryadapter", "memory:", "memory:?max_entries=10"] {
            sets(name);
            sets(name.to_owned());
            sets(&name.to_owned());
        }
        let instance = AsyncMemoryCache::new();
        sets(instance.clone());
        assert_eq!(instance.entry_count(), 1);
        let counted = Arc::new(AsyncMemoryCache::new());
        sets(counted.clone());
        assert_eq!(counted.entry_count(), 1);
        let erased: Arc<dyn AsyncCacheAdapter> = Arc::new(AsyncMemoryCache::new());
        sets(erased.clone());
        assert!(Arc::ptr_eq(&erased, &async_adapter_get().unwrap()), "an Arc stays the one it is");
        assert!(Arc::ptr_eq(&erased, &adapter_get().unwrap()));
    }

    fn what_cannot_be_set_changes_nothing() {
        cached().set("key", "value").unwrap();
        let generation = async_cached().generation().unwrap();
        for wrong in ["oracle", "memory:?max_entries=many", "gopher://localhost", ""] {
            assert_eq!(async_adapter_set(wrong).unwrap_err().kind(), larder::ErrorKind::Config);
            assert_eq!(adapter_set(wrong).unwrap_err().kind(), larder::ErrorKind::Config);
        }
        assert_eq!(async_cached().generation().unwrap(), generation);
        assert_eq!(cached().get::<String>("key").unwrap().as_deref(), Some("value"));
    }

    fn plain_functions() {
        larder::set("k", 1).unwrap();
        assert_eq!(larder::get::<i64>("k").unwrap(), Some(1));
        assert_eq!(larder::get_or_set("k", 2).unwrap(), 1);
        assert_eq!(larder::get_or_set("new", 2).unwrap(), 2);
        assert_eq!(larder::update_timeout::<i64>("k", Expiry::Never).unwrap(), 1);
        assert_eq!(cached().expiry("k").unwrap(), Some(Expiry::Never));
        assert!(larder::update_timeout::<i64>("none", Expiry::Never).unwrap_err().is_not_found());
        assert!(larder::remove("k").unwrap());
        assert!(!larder::remove(["k", "new"]).unwrap());
        assert_eq!(larder::get::<i64>("new").unwrap(), None);
    }

    fn from_two_runtimes_at_once() {
        static RUNS: AtomicU32 = AtomicU32::new(0);
        let together = Barrier::new(2);
        thread::scope(|scope| {
            for own in ["one", "two"] {
                let together = &together;
                scope.spawn(move || {
                    let runtime = runtime();
                    for turn in 0..200 {
                        together.wait();
                        runtime.block_on(async {
                            async_cached().set(own, turn).await.unwrap();
                            let load = async move {
                                RUNS.fetch_add(1, Ordering::SeqCst);
                                tokio::time::sleep(Duration::from_millis(1)).await;
                                turn
                            };
                            assert_eq!(async_cached().get_or_set_async(format!("both {turn}"), load).await.unwrap(), turn);
                            assert_eq!(async_cached().get::<i32>(own).await.unwrap(), Some(turn));
                        });
                    }
                });
            }
        });
        assert_eq!(RUNS.load(Ordering::SeqCst), 200, "one load a key, across runtimes");
    }

    fn from_a_hundred_runtimes_in_a_row() {
        cached().set("turn", 0).unwrap();
        for turn in 1..=100 {
            on_a_runtime(async {
                assert_eq!(async_cached().incr("turn", 1).await.unwrap(), turn);
                let load = async move {
                    tokio::task::yield_now().await;
                    turn
                };
                assert_eq!(async_cached().get_or_set_async(format!("of {turn}"), load).await.unwrap(), turn);
            });
            assert_eq!(cached().get::<i64>(format!("of {turn}")).unwrap(), Some(turn));
        }
    }

    fn a_load_whose_runtime_ends_is_loaded_by_another() {
        let runtime = runtime();
        let mut leader = pin!(async_cached().get_or_set_async("key", async {
            std::future::pending::<()>().await;
            1
        }));
        {
            let _entered = runtime.enter();
            assert!(leader.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        let follower = thread::spawn(|| {
            let started = Instant::now();
            let loaded = on_a_runtime(async_cached().get_or_set_async("key", async { 2 })).unwrap();
            (loaded, started.elapsed())
        });
        thread::sleep(Duration::from_millis(50));
        drop(runtime);
        let (loaded, after) = follower.join().unwrap();
        assert_eq!(loaded, 2);
        assert!(after < Duration::from_secs(25), "{after:?}: it waited until its patience was over");
        eventually("the value is stored", || cached().get::<i32>("key").unwrap() == Some(2));
    }

    fn beside_a_parked_runtime() {
        let parked = runtime();
        parked.block_on(async {
            async_cached().set("key", 1).await.unwrap();
            async_cached().get_or_set_async("loaded", async { 1 }).await.unwrap();
        });
        // Nobody drives it from here on, and it is not gone.
        on_a_runtime(async {
            assert_eq!(async_cached().get::<i32>("key").await.unwrap(), Some(1));
            assert_eq!(async_cached().get_or_set_async("loaded", async { 2 }).await.unwrap(), 1);
            assert_eq!(async_cached().get_or_set_async("other", async { 2 }).await.unwrap(), 2);
            async_cached().clear().await.unwrap();
        });
        cached().set("key", 3).unwrap();
        assert_eq!(parked.block_on(async_cached().get::<i32>("key")).unwrap(), Some(3));
    }

    /// With a load in flight there that no thread drives: after half a minute others load the key
    /// themselves.
    #[ignore = "takes the follower's patience of 30 s"]
    fn behind_a_load_on_a_parked_runtime() {
        let parked = runtime();
        let mut leader = pin!(async_cached().get_or_set_async("key", async { 1 }));
        {
            let _entered = parked.enter();
            assert!(leader.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        let started = Instant::now();
        assert_eq!(on_a_runtime(async_cached().get_or_set_async("key", async { 2 })).unwrap(), 2);
        assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
        assert_eq!(cached().get::<i32>("key").unwrap(), Some(2));
    }

    fn the_forms_of_async_code() {
        on_a_runtime(async_forms()).unwrap();
    }

    fn the_forms_of_blocking_code() {
        blocking_forms().unwrap();
    }

    fn the_forms_of_swaps() {
        let folder = tempfile::tempdir().unwrap();
        std::env::set_current_dir(&folder).unwrap();
        on_a_runtime(forms_of_swaps()).unwrap();
    }
}

async fn load() -> u64 {
    1
}

async fn load_user(id: u64) -> String {
    format!("user {id}")
}

async fn fallible() -> Result<u64, std::io::Error> {
    Ok(7)
}

async fn fetch() -> u64 {
    2
}

fn expensive() -> u64 {
    3
}

/// Section 1 of the design's API, word for word.
async fn async_forms() -> larder::Result<()> {
    async_cached().set("hello", "world").await?;
    let v: Option<String> = async_cached().get("hello").await?;
    assert_eq!(v.as_deref(), Some("world"));
    let v = async_cached().get_or("nope", "NOT FOUND".to_string()).await?;
    assert_eq!((v.as_str(), async_cached().contains("nope").await?), ("NOT FOUND", false));
    let e = async_cached().get_or_fail::<String>("nope").await.unwrap_err();
    assert!(e.is_not_found() && e.key() == Some("nope"));

    async_cached().ttl(Duration::from_secs(30)).set("example", "test").await?;
    async_cached().ttl(Expiry::Never).set("this key", "is for ever").await?;

    assert_eq!(async_cached().get_or_set("a", 5u32).await?, 5);
    assert_eq!(async_cached().get_or_set_with("b", |key| format!("{key}!")).await?, "b!");
    assert_eq!(async_cached().get_or_set_async("c", async { load().await }).await?, 1);
    assert_eq!(async_cached().try_get_or_set_async("d", async { fallible().await }).await?, 7);
    async_cached().remove("c").await?;
    assert_eq!(
        async_cached().ttl(Duration::from_secs(60)).get_or_set_async("c", load_user(7)).await?,
        "user 7"
    );

    assert!(async_cached().remove("a").await?);
    assert!(!async_cached().remove(["a", "b"]).await?);
    assert!(async_cached().touch("c", Duration::from_secs(10)).await?);
    let c: String = async_cached().update_timeout("c", Duration::from_secs(10)).await?;
    assert_eq!(c, "user 7");
    assert!(async_cached().contains("c").await?);
    assert!(matches!(async_cached().expiry("c").await?, Some(Expiry::After(_))));
    assert!(async_cached().add("lock", 1).await?);
    assert_eq!(async_cached().take::<String>("c").await?, Some(c));
    assert_eq!(async_cached().incr("hits", 1).await?, 1);
    async_cached().set_many([("x", 1), ("y", 2)]).await?;
    assert_eq!(async_cached().get_many::<i64, _>(["x", "y"]).await?, [Some(1), Some(2)]);
    async_cached().clear().await?;
    assert_eq!(async_cached().get_many::<String, _>(["x", "y"]).await?, [None, None]);

    // What can be stored, and read as another type.
    async_cached().set("text", "world").await?;
    async_cached().set("number", 5u32).await?;
    assert_eq!(async_cached().get::<String>("text").await?.as_deref(), Some("world"));
    assert_eq!(async_cached().get::<i64>("number").await?, Some(5));
    async_cached().set("vec", vec![1, 2]).await?;
    async_cached().set("arc", Arc::new(7u64)).await?;
    async_cached().set("none", None::<u64>).await?;
    async_cached().set("unit", ()).await?;
    assert_eq!(async_cached().get::<Arc<u64>>("arc").await?.as_deref(), Some(&7));
    assert_eq!(async_cached().get::<Option<u64>>("none").await?, Some(None));
    assert_eq!(async_cached().get::<()>("unit").await?, Some(()));
    Ok(())
}

/// Section 2, word for word.
fn blocking_forms() -> larder::Result<()> {
    cached().set("hello", "world")?;
    let v: Option<String> = cached().get("hello")?;
    assert_eq!(v.as_deref(), Some("world"));
    cached().ttl(Duration::from_secs(60)).get_or_set_with("k", |_| expensive())?;
    assert_eq!(cached().get_or_set_async("k2", async { fetch().await })?, 2);
    larder::set("k", 1)?;
    larder::get::<i64>("k")?;
    larder::remove("k")?;

    // The same verbs as in section 1.
    assert_eq!(cached().get_or("nope", "NOT FOUND".to_string())?, "NOT FOUND");
    assert!(cached().get_or_fail::<String>("nope").unwrap_err().is_not_found());
    cached().ttl(Duration::from_secs(30)).set("example", "test")?;
    cached().ttl(Expiry::Never).set("this key", "is for ever")?;
    assert_eq!(cached().get_or_set("a", 5u32)?, 5);
    assert_eq!(cached().get_or_set_with("b", |key| format!("{key}!"))?, "b!");
    assert_eq!(cached().try_get_or_set_async("d", async { fallible().await })?, 7);
    assert_eq!(
        cached().ttl(Duration::from_secs(60)).get_or_set_async("c", load_user(7))?,
        "user 7"
    );
    assert!(cached().remove("a")? && !cached().remove(["a", "b"])?);
    assert!(cached().touch("c", Duration::from_secs(10))?);
    let c: String = cached().update_timeout("c", Duration::from_secs(10))?;
    assert!(c == "user 7" && cached().contains("c")?);
    assert!(matches!(cached().expiry("c")?, Some(Expiry::After(_))));
    assert!(cached().add("lock", 1)?);
    assert_eq!(cached().take::<String>("c")?, Some(c));
    assert_eq!(cached().incr("hits", 1)?, 1);
    cached().set_many([("x", 1), ("y", 2)])?;
    assert_eq!(cached().get_many::<i64, _>(["x", "y"])?, [Some(1), Some(2)]);
    cached().clear()?;

    cached().set("hello", "world")?;
    fn get_hello() -> larder::Awaitable<impl Future<Output = larder::Result<Option<String>>>> {
        awaitable(async_cached().get::<String>("hello"))
    }
    let v = get_hello().wait()?;
    assert_eq!(v.as_deref(), Some("world"));
    let v = on_a_runtime(async { get_hello().await })?;
    assert_eq!(v.as_deref(), Some("world"));
    Ok(())
}

/// The swaps of section 1 and the cache of section 3, word for word, as far as no server is needed.
async fn forms_of_swaps() -> larder::Result<()> {
    #[cfg(feature = "redis")]
    async_adapter_set("redis")?;
    #[cfg(feature = "redis")]
    async_adapter_set("redis://:secret@127.0.0.1:6379/2")?;
    #[cfg(feature = "sqlite")]
    {
        async_adapter_set(larder::AsyncSqliteCache::open("cache.db")?)?;
        async_cached().set("hello", "world").await?;
        let adapter = async_adapter_get()?;
        async_adapter_set("memory")?;
        let value: Option<CacheValue> = adapter.get("hello").await?;
        assert_eq!(value.unwrap().decode::<String>()?, "world", "pinned");

        let cache = larder::AsyncCacheWrapper::new("sqlite:cache.db")?;
        assert_eq!(cache.get::<String>("hello").await?.as_deref(), Some("world"), "the same file");
        cache.set_adapter(larder::AsyncMemoryCache::builder().max_entries(10_000).build())?;
        let old = cache.swap_adapter("memory")?;
        assert_eq!(old.backend(), "memory");
        cache.reset_adapter().await?;
        let blocking: larder::CacheWrapper = cache.blocking();
        let users = cache.namespace("users");
        users.set("7", "Ada").await?;
        assert_eq!(blocking.namespace("users").get::<String>("7")?.as_deref(), Some("Ada"));
        async_adapter_get()?.close().await?;
    }
    Ok(())
}
