//! The forms of section 1 on the global cache. One test, for there is one global; the rest of this
//! binary leaves it alone.

use larder::{AsyncMemoryCache, Expiry, async_adapter_get, async_adapter_set, async_cached};
use std::sync::Arc;
use std::time::Duration;

#[tokio::test]
async fn the_global_cache() -> larder::Result<()> {
    async_cached().set("hello", "world").await?;
    let v: Option<String> = async_cached().get("hello").await?;
    assert_eq!(v.as_deref(), Some("world"));
    async_cached().ttl(Expiry::Never).set("this key", "is for ever").await?;
    tokio::spawn(async_cached().ttl(Duration::from_secs(60)).get_or_set_async("c", async { 7u64 }))
        .await
        .unwrap()?;
    assert_eq!(tokio::spawn(async_cached().get::<u64>("c")).await.unwrap()?, Some(7));

    let before = async_adapter_get()?;
    assert_eq!(before.get("hello").await?.unwrap().decode::<String>()?, "world");
    let generation = async_cached().generation()?;
    let given = async_adapter_set(AsyncMemoryCache::new())?;
    assert!(Arc::ptr_eq(&given, &async_adapter_get()?));
    assert!(async_cached().generation()? > generation);
    assert!(!async_cached().contains("hello").await?);
    assert!(before.get("hello").await?.is_some(), "a pinned adapter does not follow");

    let e = async_adapter_set("oracle").unwrap_err();
    assert!(e.to_string().contains("memory"), "{e}");
    assert!(
        Arc::ptr_eq(&given, &async_adapter_get()?),
        "an adapter that there is not replaces nothing"
    );
    if cfg!(not(feature = "redis")) {
        let e = async_adapter_set("redis://:secret@127.0.0.1:6379/2").unwrap_err();
        assert!(e.to_string().contains("needs the feature `redis`"), "{e}");
        assert!(!format!("{e} {e:?}").contains("secret"));
    }
    async_adapter_set(before.clone())?;
    assert!(Arc::ptr_eq(&before, &async_adapter_get()?));
    assert!(async_cached().contains("hello").await?);
    async_cached().clear().await
}
