//! The caches that are everywhere, a process each.

#![cfg(all(feature = "memory", feature = "testing"))]
#![allow(clippy::unwrap_used, reason = "tests")]

mod own_process;

use larder::{
    AsyncCacheAdapter, AsyncMemoryCache, CacheValue, Expiry, IntoAdapter, adapter_get, adapter_set, async_adapter_get, async_adapter_set,
    async_cached, cached,
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
        assert_eq!(async_adapter_get().unwrap().kind(), "memory");
        assert_eq!(adapter_get().unwrap().kind(), "memory");
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
            assert_eq!(async_adapter_set(adapter.clone()).unwrap().kind(), "memory");
            assert_eq!(adapter_set(adapter).unwrap().kind(), "memory");
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
        assert!(after < Duration::from_secs(5), "{after:?}");
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

    /// With a load that nobody drives under way there: others lose patience after half a minute and load it themselves.
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
}
