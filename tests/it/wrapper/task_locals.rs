//! What a loader sees of its caller's task-locals, as `docs/single-flight.md` says.

use super::fresh;
use larder::AsyncCacheWrapper;
use tokio::task::yield_now;

tokio::task_local! {
    static TENANT: u8;
}

fn seen() -> Option<u8> {
    TENANT.try_with(|tenant| *tenant).ok()
}

/// After a wait: the first poll of a load may be its caller's.
async fn seen_later() -> Option<u8> {
    yield_now().await;
    seen()
}

async fn loaders(cache: AsyncCacheWrapper) -> larder::Result<()> {
    // What runs where the caller is.
    assert_eq!(cache.get_or_set_with("closure", |_| seen()).await?, Some(7));
    let fallible = |_: &str| Ok::<_, String>(seen());
    assert_eq!(cache.try_get_or_set_with("fallible closure", fallible).await?, Some(7));
    assert_eq!(cache.get_or_load_here("here", seen_later).await?, Some(7));
    let fallible = || async { Ok::<_, String>(seen_later().await) };
    assert_eq!(cache.try_get_or_load_here("fallible here", fallible).await?, Some(7));
    // What makes the future does, and can give it what it needs.
    let moved = || {
        let tenant = seen();
        async move {
            yield_now().await;
            tenant
        }
    };
    assert_eq!(cache.get_or_load("moved", moved).await?, Some(7));
    let many = |keys: Vec<String>| {
        let tenant = seen();
        async move {
            yield_now().await;
            keys.into_iter().map(move |key| (key, tenant))
        }
    };
    assert_eq!(cache.get_or_set_many_async(["a", "b"], many).await?, [Some(Some(7)); 2]);
    // What runs in a task of its own.
    assert_eq!(cache.get_or_set_async("task", seen_later()).await?, None);
    assert_eq!(cache.get_or_load("made", seen_later).await?, None);
    assert_eq!(cache.tags(["t"]).get_or_set_async("tagged", seen_later()).await?, None);
    assert_eq!(cache.view().force_refresh().get_or_set_async("task", seen_later()).await?, None);
    let many = |keys: Vec<String>| async move {
        let tenant = seen_later().await;
        keys.into_iter().map(move |key| (key, tenant))
    };
    assert_eq!(cache.get_or_set_many_async(["c", "d"], many).await?, [Some(None); 2]);
    // What is scoped again.
    let scoped = TENANT.scope(8, seen_later());
    assert_eq!(cache.get_or_set_async("scoped", scoped).await?, Some(8));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closures_see_what_is_their_callers_and_futures_do_not() -> larder::Result<()> {
    TENANT.scope(7, loaders(fresh())).await?;
    #[cfg(feature = "sqlite")]
    TENANT.scope(7, loaders(AsyncCacheWrapper::new("sqlite::memory:")?)).await?;
    Ok(())
}
