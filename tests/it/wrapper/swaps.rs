//! The adapter is exchanged.

use super::{Runs, faulty, fresh};
use crate::trials::eventually;
use larder::testing::{Fault, Verb};
use larder::{AsyncCacheAdapter, AsyncCacheWrapper, AsyncMemoryCache, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

#[tokio::test]
async fn identity_and_clones() -> larder::Result<()> {
    let given: Arc<dyn AsyncCacheAdapter> = Arc::new(AsyncMemoryCache::new());
    let cache = AsyncCacheWrapper::new(given.clone())?;
    assert!(Arc::ptr_eq(&given, &cache.adapter()?), "an Arc stays the one it is");
    let clone = cache.clone();
    let namespace = cache.namespace("n");
    let blocking = cache.blocking();
    assert_eq!(cache.generation()?, 0);

    let other: Arc<dyn AsyncCacheAdapter> = Arc::new(AsyncMemoryCache::new());
    let old = clone.swap_adapter(other.clone())?;
    assert!(Arc::ptr_eq(&old, &given));
    for adapter in [cache.adapter()?, clone.adapter()?, namespace.adapter()?, blocking.adapter()?] {
        assert!(Arc::ptr_eq(&adapter, &other));
    }
    let fresh = cache.reset_adapter().await?;
    assert!(Arc::ptr_eq(&fresh, &clone.adapter()?) && !Arc::ptr_eq(&fresh, &other));
    assert_eq!(
        (cache.generation()?, clone.generation()?, namespace.generation()?, blocking.generation()?),
        (2, 2, 2, 2)
    );

    // An `Arc` of a concrete adapter, and the adapter of another wrapper.
    let shared = Arc::new(AsyncMemoryCache::new());
    cache.set_adapter(shared.clone())?;
    cache.set("k", 1).await?;
    assert_eq!(shared.entry_count(), 1);
    let twin = AsyncCacheWrapper::new(cache.adapter()?)?;
    assert_eq!(twin.get("k").await?, Some(1));
    twin.swap_adapter("memory")?;
    assert_eq!(cache.get("k").await?, Some(1), "another wrapper's swap is its own");
    Ok(())
}

#[tokio::test]
async fn a_name_that_there_is_not_changes_nothing() -> larder::Result<()> {
    let cache = fresh();
    let before = cache.adapter()?;
    for name in [
        "oracle",
        "",
        "memory:nonsense",
        "memory:?max_entires=3",
        "foo://x",
        "memory:?max_entries=-1",
        "memory:?default_ttl=soon",
    ] {
        let e = cache.set_adapter(name).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Config, "{name}");
        assert!(AsyncCacheWrapper::new(name).is_err());
    }
    assert!(Arc::ptr_eq(&before, &cache.adapter()?));
    assert_eq!(cache.generation()?, 0);
    for name in [
        "memory",
        "MEMORY",
        "Mem",
        "ram",
        "MemoryCache",
        "MemoryAdapter",
        "AsyncMemoryCache",
        "asyncmemoryadapter",
        "memory:",
    ] {
        assert_eq!(cache.set_adapter(name)?.backend(), "memory");
    }
    Ok(())
}

#[tokio::test]
async fn a_reset_that_fails_leaves_the_adapter() -> larder::Result<()> {
    let (cache, adapter) = faulty();
    cache.set("k", 1).await?;
    adapter.put(Verb::Rebuild, Fault::Fail(ErrorKind::Unavailable));
    assert_eq!(cache.reset_adapter().await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!((cache.get("k").await?, cache.generation()?), (Some(1), 0));
    adapter.heal_all();
    cache.reset_adapter().await?;
    assert_eq!(adapter.calls(Verb::Close), 1, "the old one is closed");
    assert_eq!(cache.get::<u8>("k").await?, None);
    Ok(())
}

#[tokio::test]
async fn a_call_in_flight_finishes_on_the_old_adapter() -> larder::Result<()> {
    let (cache, adapter) = faulty();
    adapter.put(Verb::Set, Fault::Delay(Duration::from_secs(1)));
    let set = tokio::spawn({
        let cache = cache.clone();
        async move { cache.set("k", 1).await }
    });
    eventually("the set begins", || adapter.calls(Verb::Set) == 1).await;
    cache.swap_adapter("memory")?;
    assert!(!set.is_finished(), "a slow call must not delay a swap");
    set.await.unwrap()?;
    assert!(adapter.inner().get("k").await?.is_some());
    assert!(!cache.contains("k").await?);
    Ok(())
}

#[tokio::test]
async fn a_load_in_flight_does_not_fill_the_new_adapter() -> larder::Result<()> {
    let cache = fresh();
    let runs = Runs::default();
    let load = |cache: AsyncCacheWrapper, runs: Runs, value: u8| {
        tokio::spawn(async move {
            let loader = async move {
                runs.add();
                tokio::time::sleep(Duration::from_millis(100)).await;
                value
            };
            cache.get_or_set_async("k", loader).await
        })
    };
    let first = load(cache.clone(), runs.clone(), 1);
    eventually("the load begins", || runs.count() == 1).await;
    cache.swap_adapter("memory")?;
    let second = load(cache.clone(), runs.clone(), 2);
    assert_eq!(first.await.unwrap()?, 1, "the value is returned");
    assert_ne!(cache.get::<u8>("k").await?, Some(1), "and does not fill the new adapter");
    assert_eq!(second.await.unwrap()?, 2, "a call after the swap does not join the old load");
    assert_eq!((cache.get("k").await?, runs.count()), (Some(2u8), 2));
    Ok(())
}

/// There and back again: a write that the adapter saw in between is not undone by a load from
/// before.
#[tokio::test]
async fn a_load_from_before_two_swaps_does_not_undo_a_removal() -> larder::Result<()> {
    let cache = fresh();
    let home = cache.adapter()?;
    let runs = Runs::default();
    let load = tokio::spawn({
        let (cache, runs) = (cache.clone(), runs.clone());
        async move {
            let loader = async move {
                runs.add();
                tokio::time::sleep(Duration::from_millis(100)).await;
                1u8
            };
            cache.get_or_set_async("k", loader).await
        }
    });
    eventually("the load begins", || runs.count() == 1).await;
    cache.set_adapter("memory")?;
    cache.set_adapter(home)?;
    cache.remove("k").await?;
    assert_eq!(load.await.unwrap()?, 1);
    assert_eq!(cache.get::<u8>("k").await?, None, "a removal was undone");
    Ok(())
}

#[test]
fn swaps_need_no_runtime_and_no_io() -> larder::Result<()> {
    let cache = AsyncCacheWrapper::new(AsyncMemoryCache::new())?;
    cache.set_adapter("memory")?;
    cache.swap_adapter(AsyncMemoryCache::builder().max_entries(5).build())?;
    let _view = cache.ttl(Duration::from_secs(1)).fail_open(false);
    cache.observe(|_| {});
    assert_eq!(cache.generation()?, 2);
    drop(cache.get::<u8>("a future that is never polled"));
    Ok(())
}
