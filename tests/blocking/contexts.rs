//! Threads, runtimes and loaders.

use crate::own_process::own_process;
use crate::work::{everything, slow};
use larder::testing::{Fault, FaultyAdapter};
use larder::{AsyncCacheWrapper, AsyncMemoryCache, async_cached, awaitable, cached};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

own_process! {
    fn plain_thread() {
        thread::spawn(everything).join().unwrap();
    }

    fn many_threads() {
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(everything);
            }
        });
    }

    fn in_a_closure_of_another_load() {
        for cache in [cached(), slow()] {
            let loaded = cache.get_or_set_with("outer", |_| {
                everything();
                cache.get_or_set_with("inner", |_| 7).unwrap()
            });
            assert_eq!(loaded.unwrap(), 7);
        }
    }

    fn in_a_future_of_another_load() {
        for cache in [cached(), slow()] {
            let loaded = cache.get_or_set_async("outer", async {
                everything();
                cache.get_or_set_async("inner", async { 7 }).unwrap()
            });
            assert_eq!(loaded.unwrap(), 7);
        }
    }

    fn in_a_future_of_the_async_face() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let loaded = runtime.block_on(async_cached().get_or_set_async("outer", async {
            everything();
            7
        }));
        assert_eq!(loaded.unwrap(), 7);
    }

    fn in_an_observer() {
        let cache = larder::CacheWrapper::new("memory").unwrap();
        cache.observe(|_| everything());
        assert_eq!(cache.get_or_set("key", 7).unwrap(), 7);
        assert_eq!(cache.get_or_set_async("other", async { 7 }).unwrap(), 7);
    }

    fn polled_by_hand() {
        let mut call = pin!(async {
            everything();
            slow().as_async().get_or_set_async("key", async { 7 }).await
        });
        let mut cx = Context::from_waker(Waker::noop());
        let loaded = loop {
            match call.as_mut().poll(&mut cx) {
                Poll::Ready(loaded) => break loaded,
                Poll::Pending => thread::yield_now(),
            }
        };
        assert_eq!(loaded.unwrap(), 7);
    }

    fn beside_a_parked_runtime() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        let (done, parked) = tokio::sync::oneshot::channel::<()>();
        let parking = thread::spawn(move || runtime.block_on(parked));
        everything();
        // With its handle entered, from a thread that does not drive it.
        let entered = handle.enter();
        everything();
        drop(entered);
        done.send(()).unwrap();
        parking.join().unwrap().unwrap();
    }

    fn a_future_that_is_dropped_while_it_waits() {
        let adapter = FaultyAdapter::new(AsyncMemoryCache::new());
        adapter.put_on_all(Fault::Hang);
        let cache = AsyncCacheWrapper::new(adapter).unwrap();
        assert!(awaitable(cache.set("key", "value")).wait_timeout(Duration::from_millis(1)).is_none());
        assert!(awaitable(cache.get_or_set("key", 7)).wait_timeout(Duration::from_millis(1)).is_none());
        everything();
    }
}
