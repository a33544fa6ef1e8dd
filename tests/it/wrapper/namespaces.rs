//! Namespaces: keys of their own, a clear of their own.

use super::{fresh, plain_and_encoded};
use larder::{AsyncCacheWrapper, AsyncMemoryCache, Expiry};
use std::sync::Arc;

#[tokio::test]
async fn nested_and_by_full_path() -> larder::Result<()> {
    let cache = fresh();
    let users = cache.namespace("users");
    let posts = users.namespace("posts");
    posts.set("k", 1).await?;
    assert_eq!(users.get("posts:k").await?, Some(1));
    assert_eq!(cache.get("users:posts:k").await?, Some(1));
    users.set("k", 2).await?;
    cache.set("k", 3).await?;
    posts.clear().await?;
    assert!(!posts.contains("k").await?);
    assert_eq!(users.get("k").await?, Some(2));
    users.clear().await?;
    assert_eq!(cache.get_many::<i32, _>(["users:k", "k"]).await?, [None, Some(3)]);
    posts.set("k", 1).await?;
    cache.clear().await?;
    assert!(!posts.contains("k").await?, "clearing the root clears all");
    Ok(())
}

#[tokio::test]
async fn every_verb_stays_inside() -> larder::Result<()> {
    let cache = fresh();
    let n = cache.namespace("n");
    n.set("set", 1).await?;
    n.set_many([("many", 1)]).await?;
    n.add("add", 1).await?;
    n.incr("incr", 1).await?;
    n.get_or_set("load", 1).await?;
    n.get_or_set_with("closure", |key| key.to_owned()).await?;
    n.get_or_set_async("future", async { 1 }).await?;
    for key in ["set", "many", "add", "incr", "load", "closure", "future"] {
        assert!(!cache.contains(key).await?, "{key} went outside");
        assert!(cache.contains(format!("n:{key}")).await?, "{key} is not inside");
        assert!(n.contains(key).await?, "{key} is not seen from inside");
    }
    assert_eq!(
        n.get::<String>("closure").await?.as_deref(),
        Some("closure"),
        "the closure is given the key as the caller knows it"
    );
    assert_eq!(n.get_many::<i32, _>(["set", "many"]).await?, [Some(1), Some(1)]);
    assert!(n.touch("set", Expiry::Never).await?);
    assert_eq!(n.expiry("set").await?, Some(Expiry::Never));
    assert_eq!(n.update_timeout::<i32>("set", Expiry::Never).await?, 1);
    assert_eq!(n.take::<i32>("set").await?, Some(1));
    assert!(n.remove("many").await? && n.remove(["add", "incr"]).await?);
    let e = n.get_or_fail::<u8>("gone").await.unwrap_err();
    assert_eq!(e.key(), Some("gone"), "an error names the key as the caller knows it");
    n.set("text", "x").await?;
    assert_eq!(n.get::<u8>("text").await.unwrap_err().key(), Some("text"));
    Ok(())
}

#[tokio::test]
async fn hostile_names_clear_their_own_only() -> larder::Result<()> {
    let names = [
        "*", "?", "[", "]", "\\", "%", "_", "[a-z]", "a", "A", "ab", "a*", "", " ", "\0", "\n",
        "清", ":", "a:", "users", "usersAbc", "%s",
    ];
    for cleared in names {
        let cache =
            AsyncCacheWrapper::new(AsyncMemoryCache::builder().max_entries(20_000).build())?;
        for name in names {
            let namespace = cache.namespace(name);
            for key in 0..20 {
                namespace.set(format!("k{key}"), key).await?;
            }
        }
        let plain = ["usersAbc", "user", "k1", "clear"];
        cache.set_many(plain.map(|key| (key, 0))).await?;
        cache.namespace(cleared).clear().await?;
        for name in names {
            // `a:` is another name than `a`, and not the namespace without a name inside of `a`.
            let gone = name == cleared;
            for key in 0..20 {
                let live = cache.namespace(name).contains(format!("k{key}")).await?;
                assert_eq!(live, !gone, "k{key} of {name:?} after {cleared:?} was cleared");
            }
        }
        assert_eq!(cache.get_many::<u8, _>(plain).await?, plain.map(|_| Some(0)));
    }
    Ok(())
}

/// What a name or key says cannot pass for the end of a name.
#[tokio::test]
async fn tenants_do_not_meet() -> larder::Result<()> {
    for cache in plain_and_encoded() {
        let (acme, admin) = (cache.namespace("acme"), cache.namespace("acme:admin"));
        acme.set("admin:session", "acme's").await?;
        assert_eq!(admin.get::<String>("session").await?, None);
        admin.set("session", "the other's").await?;
        assert_eq!(acme.get::<String>("admin:session").await?.as_deref(), Some("acme's"));
        assert!(cache.contains("acme%3Aadmin:session").await?, "the name is escaped");
        acme.clear().await?;
        assert!(admin.contains("session").await? && !acme.contains("admin:session").await?);
        let escaped = cache.namespace("acme%3Aadmin");
        assert!(!escaped.contains("session").await?, "and so is what looks escaped");
        cache.namespace("100%").set("k:%", 1u8).await?;
        assert_eq!(cache.get("100%25:k:%").await?, Some(1u8), "a key stands as it is");
        assert_eq!(cache.blocking().namespace("100%").get("k:%")?, Some(1u8));
    }
    Ok(())
}

#[tokio::test]
async fn swaps_and_prefixes() -> larder::Result<()> {
    let cache = AsyncCacheWrapper::new("memory:?prefix=app.")?;
    let users = cache.namespace("users");
    users.set("7", 1).await?;
    cache.swap_adapter("memory")?;
    assert!(!users.contains("7").await?, "a namespace follows a swap");
    users.set("7", 2).await?;
    assert_eq!(cache.get("users:7").await?, Some(2));
    let adapter = cache.adapter()?;
    users.set_adapter("memory")?;
    assert!(!Arc::ptr_eq(&adapter, &cache.adapter()?), "a swap through a namespace is the cache's");
    assert_eq!((cache.generation()?, users.generation()?), (2, 2));
    Ok(())
}
