//! What every context does: each verb on an adapter that answers at once and on one that waits.

use larder::testing::{Fault, FaultyAdapter};
use larder::{AsyncMemoryCache, CacheWrapper, ErrorKind, Expiry, awaitable, cached};
use std::future::Future;
use std::io;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

const DELAY: Duration = Duration::from_millis(2);

/// Far more than a follower's patience on its own thread, far less than that elsewhere.
const BOUND: Duration = Duration::from_secs(5);

/// A cache whose adapter waits for a timer in each call.
pub(crate) fn slow() -> &'static CacheWrapper {
    static SLOW: LazyLock<CacheWrapper> = LazyLock::new(|| {
        let adapter = FaultyAdapter::new(AsyncMemoryCache::new());
        adapter.put_on_all(Fault::Delay(DELAY));
        CacheWrapper::new(adapter).unwrap()
    });
    &SLOW
}

/// Every verb, on both caches.
pub(crate) fn everything() {
    everything_where(true);
}

/// The same where the runtime around has no timers, or none any more, so that its own async code
/// cannot use the slow cache.
pub(crate) fn everything_without_timers_around() {
    everything_where(false);
}

fn everything_where(timers_around: bool) {
    for (cache, led_from_here) in [(cached(), true), (slow(), timers_around)] {
        // Keys of its own, for several threads do this at once.
        static TURN: AtomicU64 = AtomicU64::new(0);
        let own = cache.namespace(format!("turn {}", TURN.fetch_add(1, Ordering::Relaxed)));
        reads_and_writes(&own);
        counters_and_batches(&own);
        loaders(&own);
        if led_from_here {
            follower(&own);
        }
        own.clear().unwrap();
        assert!(!own.contains("key").unwrap());
    }
    futures();
}

fn reads_and_writes(cache: &CacheWrapper) {
    assert_eq!(cache.get::<String>("key").unwrap(), None);
    cache.set("key", "value").unwrap();
    assert_eq!(cache.get::<String>("key").unwrap().as_deref(), Some("value"));
    assert_eq!(cache.get_or("none", 1).unwrap(), 1);
    assert!(cache.get_or_fail::<String>("none").unwrap_err().is_not_found());
    assert!(cache.contains("key").unwrap());
    assert!(cache.touch("key", Expiry::Never).unwrap());
    assert_eq!(cache.expiry("key").unwrap(), Some(Expiry::Never));
    assert_eq!(cache.update_timeout::<String>("key", Duration::from_secs(60)).unwrap(), "value");
    assert!(!cache.add("key", "other").unwrap());
    assert!(cache.replace("key", "other").unwrap());
    assert_eq!(cache.take::<String>("key").unwrap().as_deref(), Some("other"));
    assert!(!cache.remove("key").unwrap());
    cache.ping().unwrap();
}

fn counters_and_batches(cache: &CacheWrapper) {
    assert_eq!(cache.incr("hits", 2).unwrap(), 2);
    assert_eq!(cache.decr("hits", 1).unwrap(), 1);
    cache.ttl(Duration::from_secs(60)).set_many([("x", 1), ("y", 2)]).unwrap();
    assert_eq!(cache.get_many::<i32, _>(["y", "none", "x"]).unwrap(), [Some(2), None, Some(1)]);
    assert!(cache.remove(["x", "y"]).unwrap());
}

fn loaders(cache: &CacheWrapper) {
    for _ in 0..2 {
        assert_eq!(cache.get_or_set("value", 5).unwrap(), 5);
        assert_eq!(cache.get_or_set_with("closure", |key| key.len()).unwrap(), 7);
        assert_eq!(cache.get_or_set_async("sleeper", sleeper()).unwrap(), 7);
        assert_eq!(
            cache
                .try_get_or_set_async("fallible", async { io::Result::Ok(sleeper().await) })
                .unwrap(),
            7
        );
    }
    let refused =
        cache.try_get_or_set_async::<u32, _, _>("refused", async { Err(io::Error::other("no")) });
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Load);
}

/// A future that needs a timer and a runtime to spawn on.
async fn sleeper() -> u32 {
    tokio::time::sleep(DELAY).await;
    tokio::spawn(async { 7 }).await.unwrap()
}

/// A follower whose leader's loader may live on the very thread that the follower blocks.
fn follower(cache: &CacheWrapper) {
    let loader = async {
        // Turns rather than timers: the runtime it is on may have none.
        let started = Instant::now();
        while started.elapsed() < Duration::from_millis(100) {
            tokio::task::yield_now().await;
        }
        "leader".to_owned()
    };
    let mut leader = Box::pin(cache.as_async().get_or_set_async("shared", loader));
    // Polled by hand, so that the load is in flight while this thread goes on to block.
    let mut cx = Context::from_waker(Waker::noop());
    let at_once = leader.as_mut().poll(&mut cx).is_ready();
    let started = Instant::now();
    let got = cache.get_or_set_with("shared", |_| "follower".to_owned()).unwrap();
    assert!(started.elapsed() < BOUND, "the follower waited {:?}", started.elapsed());
    assert!(got == "leader" || got == "follower", "{got}");
    if !at_once {
        let _later = leader.as_mut().poll(&mut cx);
    }
}

fn futures() {
    assert_eq!(awaitable(sleeper()).wait(), 7);
    assert_eq!(awaitable(std::future::pending::<()>()).wait_timeout(DELAY), None);
    assert_eq!(awaitable(cached().as_async().get::<String>("none")).wait().unwrap(), None);
    // A wait inside a future that is waited for, before and after that future was parked.
    let nested = awaitable(async {
        assert_eq!(awaitable(sleeper()).wait(), 7);
        tokio::time::sleep(DELAY).await;
        slow().set("nested", 1).unwrap();
        awaitable(sleeper()).wait()
    });
    assert_eq!(nested.wait(), 7);
}
