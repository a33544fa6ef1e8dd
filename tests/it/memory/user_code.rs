//! Code of a user's that runs because of what the cache does: `Clone`, `Drop` and `Serialize` of
//! values. It may use the cache, and it may panic.

use super::{put, small};
use larder::{AsyncCacheAdapter, AsyncCacheWrapper, AsyncMemoryCache, CacheWrapper, Expiry};
use serde::{Deserialize, Serialize, Serializer};
use std::cell::Cell;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A bound on a deadlock, not on speed.
const STUCK: Duration = Duration::from_secs(60);

/// Runs work that would hang for ever if it met a lock that its own thread holds.
fn to_its_end(work: impl Future<Output = ()> + Send + 'static) {
    let (done, came) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work);
        done.send(()).unwrap();
    });
    assert_eq!(came.recv_timeout(STUCK), Ok(()), "deadlock, or a panic");
}

thread_local! {
    /// The cache that values of this thread use, and how deep they are in it.
    static USED: Cell<Option<&'static CacheWrapper>> = const { Cell::new(None) };
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Uses the cache as a value's own code might: reads, counts, writes and removes, among them keys
/// of every shard.
fn use_the_cache() {
    let Some(cache) = USED.get() else { return };
    if DEPTH.replace(1) > 0 {
        return;
    }
    for at in 0..64 {
        cache.incr("clones", 1).unwrap();
        cache.set(format!("sibling {at}"), at).unwrap();
        cache.get::<i32>(format!("sibling {at}")).unwrap();
        cache.remove(format!("sibling {at}")).unwrap();
    }
    DEPTH.set(0);
}

fn used_by_values(cache: &AsyncCacheWrapper) {
    USED.set(Some(Box::leak(Box::new(cache.blocking()))));
}

macro_rules! busy_clone {
    ($name:ident($($field:ty),*)) => {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct $name($($field),*);

        impl Clone for $name {
            #[allow(non_snake_case, reason = "one name a field")]
            fn clone(&self) -> Self {
                use_the_cache();
                let bytes = serde_json::to_vec(self).unwrap();
                serde_json::from_slice(&bytes).unwrap()
            }
        }
    };
}

busy_clone!(Busy4(u32));
busy_clone!(Busy8(u64));
busy_clone!(Busy16(Box<str>));
busy_clone!(Busy24(String));

/// Through every verb that clones a value, for types of each size that a lock was once held for.
async fn clone_everywhere<T>(cache: &AsyncCacheWrapper, make: impl Fn() -> T)
where
    T: Serialize + serde::de::DeserializeOwned + Clone + PartialEq + std::fmt::Debug,
    T: Send + Sync + 'static,
{
    for _ in 0..20 {
        cache.set("k", make()).await.unwrap();
        assert_eq!(cache.get::<T>("k").await.unwrap(), Some(make()));
        assert_eq!(cache.get_or_set("k", make()).await.unwrap(), make());
        assert_eq!(cache.get_or_set_with("other", |_| make()).await.unwrap(), make());
        assert_eq!(cache.get_many::<T, _>(["k"]).await.unwrap(), [Some(make())]);
        let touched = cache.update_timeout::<T>("k", Duration::from_secs(60)).await.unwrap();
        assert_eq!(touched, make());
        assert_eq!(cache.get::<Option<T>>("k").await.unwrap(), Some(Some(make())));
        assert_eq!(cache.take::<T>("k").await.unwrap(), Some(make()));
        assert!(cache.remove("other").await.unwrap());
    }
}

#[test]
fn a_clone_may_use_the_cache() {
    to_its_end(async {
        let cache = small();
        used_by_values(&cache);
        clone_everywhere(&cache, || Busy4(4)).await;
        clone_everywhere(&cache, || Busy8(8)).await;
        clone_everywhere(&cache, || Busy16("sixteen".into())).await;
        clone_everywhere(&cache, || Busy24("more".into())).await;
        assert!(cache.get::<i64>("clones").await.unwrap().unwrap_or_default() > 0);
    });
}

/// A counter that says so by its `Serialize`, which uses the cache.
struct Counting(i64);

impl Serialize for Counting {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use_the_cache();
        self.0.serialize(serializer)
    }
}

#[test]
fn a_serialize_may_use_the_cache_whatever_verb_calls_it() {
    to_its_end(async {
        let cache = small();
        used_by_values(&cache);
        for round in 0..20 {
            cache.set("n", Counting(round)).await.unwrap();
            assert_eq!(cache.incr("n", 2).await.unwrap(), round + 2);
            cache.add("added", Counting(1)).await.unwrap();
            cache.replace("added", Counting(2)).await.unwrap();
            cache.set_many([("a", Counting(3)), ("b", Counting(4))]).await.unwrap();
            assert_eq!(cache.get::<i64>("a").await.unwrap(), Some(3));
            assert_eq!(cache.take::<i64>("b").await.unwrap(), Some(4));
        }
    });
}

/// Counting reads a typed value where no lock is held: what is written meanwhile is not lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn counting_loses_nothing_beside_other_writes() {
    let cache = Arc::new(AsyncMemoryCache::new());
    for _ in 0..200 {
        put(&cache, "n", Counting(100), Duration::from_secs(60)).await.unwrap();
        let count = |by: i64| {
            let cache = cache.clone();
            tokio::spawn(async move {
                for _ in 0..50 {
                    cache.incr("n", by, Expiry::Never).await.unwrap();
                    cache.touch("n", Duration::from_secs(70).into()).await.unwrap();
                }
            })
        };
        for task in [count(1), count(10), count(100)] {
            task.await.unwrap();
        }
        assert_eq!(super::read::<i64>(&cache, "n").await, Some(100 + 50 * 111));
        let left = cache.expiry("n").await.unwrap();
        assert!(matches!(left, Some(Expiry::After(_))), "counting keeps the expiry: {left:?}");
    }
}

static DROPS: AtomicUsize = AtomicUsize::new(0);

/// Panics each time that one is dropped.
#[derive(Serialize)]
struct Fragile(u32);

impl Drop for Fragile {
    fn drop(&mut self) {
        DROPS.fetch_add(1, Ordering::SeqCst);
        panic!("{} breaks", self.0);
    }
}

#[tokio::test]
async fn a_drop_that_panics_does_not_end_the_sweep() {
    let cache = AsyncMemoryCache::new();
    for round in 0..3 {
        for at in 0..10 {
            put(&cache, &format!("fragile {at}"), Fragile(at), Duration::from_millis(20))
                .await
                .unwrap();
            put(&cache, &format!("plain {at}"), at, Duration::from_millis(20)).await.unwrap();
        }
        let deadline = Instant::now() + STUCK;
        while cache.entry_count() > 0 {
            assert!(Instant::now() < deadline, "round {round}: the sweep has ended");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The caller that drops a value last is not affected by the value's `Drop`.
#[tokio::test]
async fn a_drop_that_panics_reaches_no_caller() {
    let cache = small();
    for at in 0..200u32 {
        let key = format!("k{}", at % 50);
        cache.set(&key, Fragile(at)).await.unwrap();
        match at % 8 {
            0 => cache.set(&key, Fragile(at)).await.unwrap(),
            1 => assert!(cache.remove(&key).await.unwrap()),
            2 => cache.ttl(Duration::ZERO).set(&key, Fragile(at)).await.unwrap(),
            3 => assert!(cache.touch(&key, Duration::ZERO).await.unwrap()),
            4 => assert!(cache.replace(&key, Fragile(at)).await.unwrap()),
            5 => assert!(!cache.add(&key, Fragile(at)).await.unwrap()),
            6 => assert!(cache.incr(&key, 1).await.unwrap() > i64::from(at)),
            _ => cache.clear().await.unwrap(),
        }
    }
    let before = DROPS.load(Ordering::SeqCst);
    for at in 0..20 {
        cache.set(format!("last {at}"), Fragile(at)).await.unwrap();
    }
    // The store goes with all of them, some of them one after the other in one unwinding.
    drop(cache.swap_adapter("memory").unwrap());
    drop(cache);
    assert!(DROPS.load(Ordering::SeqCst) >= before + 20);
}
