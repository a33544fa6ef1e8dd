//! Observers that use caches, that are taken off, and what they keep alive.

use super::{fresh, plain_and_encoded};
use larder::{AsyncCacheAdapter, AsyncCacheWrapper, AsyncMemoryCache, EventKind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

#[derive(Clone, Default)]
struct Emitted(Arc<Mutex<Vec<EventKind>>>);

impl Emitted {
    fn to(cache: &AsyncCacheWrapper) -> Self {
        let emitted = Self::default();
        let heard = emitted.clone();
        cache.observe(move |event| heard.0.lock().unwrap().push(event.kind));
        emitted
    }

    fn all(&self) -> Vec<EventKind> {
        self.0.lock().unwrap().clone()
    }
}

/// Every verb, as an observer calls it.
fn use_fully(cache: &AsyncCacheWrapper, key: &str) {
    let cache = cache.blocking();
    cache.set(key, 1u8).unwrap();
    cache.get::<u8>(key).unwrap();
    cache.incr(key, 1).unwrap();
    cache.get_or_set_with(format!("{key} with"), |_| 1u8).unwrap();
    cache.get_many::<u8, _>([key, "none"]).unwrap();
    cache.remove([key, "none"]).unwrap();
    cache.get::<String>(format!("{key} with")).unwrap_err();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_an_observer_are_counted_and_not_emitted() -> larder::Result<()> {
    for cache in plain_and_encoded() {
        let (weak, runs) = (cache.downgrade(), Arc::new(AtomicUsize::new(0)));
        let emitted = Emitted::to(&cache);
        let ran = runs.clone();
        cache.observe(move |_| {
            ran.fetch_add(1, Ordering::SeqCst);
            use_fully(&weak.upgrade().unwrap(), "inside");
        });
        cache.set("k", 1u8).await?;
        assert_eq!((emitted.all(), runs.load(Ordering::SeqCst)), (vec![EventKind::Set], 1));
        let stats = cache.stats();
        assert_eq!((stats.sets, stats.hits, stats.loads, stats.removes), (3, 2, 1, 1));
        assert_eq!((stats.misses, stats.decode_errors), (2, 1), "and all of it is counted");
        cache.get::<u8>("k").await?;
        assert_eq!(
            emitted.all(),
            [EventKind::Set, EventKind::Hit],
            "calls outside are emitted as before"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn observers_of_two_caches_do_not_set_each_other_off() -> larder::Result<()> {
    let (one, two) = (fresh(), fresh());
    for (from, to) in [(&one, &two), (&two, &one)] {
        let weak = to.downgrade();
        from.observe(move |_| use_fully(&weak.upgrade().unwrap(), "inside"));
    }
    let (heard_one, heard_two) = (Emitted::to(&one), Emitted::to(&two));
    one.set("k", 1u8).await?;
    assert_eq!((heard_one.all(), heard_two.all()), (vec![EventKind::Set], vec![]));
    two.set("k", 1u8).await?;
    assert_eq!((heard_one.all().len(), heard_two.all()), (1, vec![EventKind::Set]));
    Ok(())
}

/// The loader runs in a task, on another thread than the observer, and uses a cache there.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_load_that_an_observer_begins_is_not_emitted() -> larder::Result<()> {
    let (cache, other) = (fresh(), fresh());
    let (emitted, heard) = (Emitted::to(&cache), Emitted::to(&other));
    let (weak, away, next) = (cache.downgrade(), other.downgrade(), AtomicUsize::new(0));
    cache.observe(move |_| {
        let (cache, other) = (weak.upgrade().unwrap(), away.upgrade().unwrap());
        let key = format!("load {}", next.fetch_add(1, Ordering::SeqCst));
        let loader = async move {
            tokio::task::yield_now().await;
            other.set("from the loader", 1u8).await.unwrap();
            1u8
        };
        cache.blocking().get_or_set_async(key, loader).unwrap();
    });
    cache.set("k", 1u8).await?;
    assert_eq!((cache.stats().loads, other.stats().sets), (1, 1), "it has run");
    assert_eq!((emitted.all(), heard.all()), (vec![EventKind::Set], vec![]));
    cache.get_or_set_async("mine", async { 1u8 }).await?;
    let kinds = emitted.all();
    assert_eq!(kinds.len(), 3, "a miss and a load, which nobody's observer began: {kinds:?}");
    Ok(())
}

#[tokio::test]
async fn an_observer_that_is_stopped_hears_nothing_more() -> larder::Result<()> {
    let cache = fresh();
    let emitted = Emitted::default();
    let heard = emitted.clone();
    let observation = cache.observe(move |event| heard.0.lock().unwrap().push(event.kind));
    let other = Emitted::to(&cache);
    cache.set("k", 1u8).await?;
    observation.stop();
    cache.set("k", 1u8).await?;
    assert_eq!((emitted.all().len(), other.all().len()), (1, 2), "the other one stays");
    assert_eq!(Arc::strong_count(&emitted.0), 1, "and what was stopped is dropped");
    drop(cache.observe(|_| ()));
    cache.set("k", 1u8).await?;
    assert_eq!(other.all().len(), 3);
    Ok(())
}

#[tokio::test]
async fn an_observer_may_stop_itself_and_use_the_cache_when_it_is_dropped() -> larder::Result<()> {
    struct Uses(larder::WeakCache);
    impl Drop for Uses {
        fn drop(&mut self) {
            if let Some(cache) = self.0.upgrade() {
                use_fully(&cache, "dropped");
            }
        }
    }
    let (cache, place) = (fresh(), Arc::new(Mutex::new(None)));
    let (uses, mine) = (Uses(cache.downgrade()), place.clone());
    let heard = Arc::new(AtomicUsize::new(0));
    let count = heard.clone();
    let observation: larder::Observation = cache.observe(move |_| {
        let _kept = &uses;
        count.fetch_add(1, Ordering::SeqCst);
        let observation: Option<larder::Observation> = mine.lock().unwrap().take();
        if let Some(observation) = observation {
            observation.stop();
        }
    });
    *place.lock().unwrap() = Some(observation);
    for _ in 0..3 {
        cache.set("k", 1u8).await?;
    }
    assert_eq!(heard.load(Ordering::SeqCst), 1);
    assert!(cache.stats().loads > 0, "its drop has used the cache");
    Ok(())
}

#[tokio::test]
async fn a_weak_handle_keeps_neither_cache_nor_adapter() -> larder::Result<()> {
    let adapter: Arc<dyn AsyncCacheAdapter> = Arc::new(AsyncMemoryCache::new());
    let cache = AsyncCacheWrapper::new(adapter.clone())?;
    let users = cache.namespace("users").with_ttl(larder::Expiry::Never);
    let weak = users.downgrade();
    let within = weak.clone();
    cache.observe(move |_| drop(within.upgrade()));
    users.set("7", 1u8).await?;
    let again = weak.upgrade().unwrap();
    again.set("8", 1u8).await?;
    assert_eq!(cache.expiry("users:8").await?, Some(larder::Expiry::Never), "the same handle");
    assert_eq!(cache.blocking().downgrade().upgrade().unwrap().get("users:8").await?, Some(1u8));
    drop((cache, users, again));
    assert!(weak.upgrade().is_none());
    assert_eq!(Arc::strong_count(&adapter), 1, "nobody else has the adapter");
    Ok(())
}

/// Observers are put on and taken off while calls are emitted of.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn observers_come_and_go_beside_calls() {
    let cache = fresh();
    let lasting = Emitted::to(&cache);
    let changing = {
        let cache = cache.clone();
        tokio::task::spawn_blocking(move || {
            for _ in 0..2_000 {
                cache.observe(|_| ()).stop();
            }
        })
    };
    let mut sets = 0;
    while !changing.is_finished() {
        cache.set("k", 1u8).await.unwrap();
        tokio::task::yield_now().await;
        sets += 1;
    }
    changing.await.unwrap();
    assert_eq!(lasting.all().len(), sets, "who stays hears everything");
}
