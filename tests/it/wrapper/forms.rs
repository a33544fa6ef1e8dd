//! Every form of API.md, sections 1, 3 and 4.

use super::{fresh, plain_and_encoded};
use larder::{
    AsyncCacheAdapter, AsyncCacheWrapper, AsyncMemoryCache, CacheValue, CacheWrapper, ErrorKind,
    Expiry,
};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

async fn load() -> String {
    "loaded".to_owned()
}

async fn fallible(fails: bool) -> Result<String, std::io::Error> {
    if fails { Err(std::io::Error::other("no luck")) } else { Ok("lucky".to_owned()) }
}

#[tokio::test]
async fn section_1_reading_and_writing() -> larder::Result<()> {
    for cache in plain_and_encoded() {
        cache.set("hello", "world").await?;
        let v: Option<String> = cache.get("hello").await?;
        assert_eq!(v.as_deref(), Some("world"));
        let Some(Expiry::After(left)) = cache.expiry("hello").await? else {
            panic!("an expiry was expected")
        };
        assert!(
            left > Duration::from_secs(299) && left <= Duration::from_secs(300),
            "the default expiry is {left:?}"
        );

        assert_eq!(cache.get_or("nope", "NOT FOUND".to_string()).await?, "NOT FOUND");
        assert!(!cache.contains("nope").await?, "a default was stored");
        let e = cache.get_or_fail::<String>("nope").await.unwrap_err();
        assert!(e.is_not_found());
        assert_eq!((e.kind(), e.key()), (ErrorKind::NotFound, Some("nope")));

        cache.ttl(Duration::from_secs(30)).set("example", "test").await?;
        assert!(
            matches!(cache.expiry("example").await?, Some(Expiry::After(left)) if left <= Duration::from_secs(30))
        );
        cache.ttl(Expiry::Never).set("this key", "is for ever").await?;
        assert_eq!(cache.expiry("this key").await?, Some(Expiry::Never));
        assert_eq!(cache.expiry("nope").await?, None);

        assert!(cache.add("lock", 1).await?);
        assert!(!cache.add("lock", 2).await?);
        assert_eq!(cache.get::<i32>("lock").await?, Some(1));
        assert!(!cache.replace("gone", 1).await?);
        assert!(cache.replace("lock", 3).await?);
        assert_eq!(cache.take::<i32>("lock").await?, Some(3));
        assert_eq!(cache.take::<i32>("lock").await?, None);

        cache.clear().await?;
        assert!(!cache.contains("hello").await?);
    }
    Ok(())
}

#[tokio::test]
async fn section_1_fallbacks() -> larder::Result<()> {
    for cache in plain_and_encoded() {
        assert_eq!(cache.get_or_set("a", 5u32).await?, 5);
        assert_eq!(cache.get_or_set("a", 6u32).await?, 5);
        assert_eq!(cache.get_or_set_with("b", |key| format!("{key}!")).await?, "b!");
        assert_eq!(
            cache.get_or_set_with("b", |_| -> String { unreachable!("a hit") }).await?,
            "b!"
        );
        assert_eq!(cache.get_or_set_async("c", async { load().await }).await?, "loaded");
        assert_eq!(
            cache.ttl(Duration::from_secs(60)).get_or_set_async("c", load()).await?,
            "loaded"
        );
        assert_eq!(
            cache.ttl(Duration::from_secs(60)).get_or_set_async("c2", load()).await?,
            "loaded"
        );
        assert!(
            matches!(cache.expiry("c2").await?, Some(Expiry::After(left)) if left <= Duration::from_secs(60))
        );

        let e = cache.try_get_or_set_async("d", async { fallible(true).await }).await.unwrap_err();
        assert_eq!((e.kind(), e.key()), (ErrorKind::Load, Some("d")));
        assert!(!cache.contains("d").await?, "something was stored for a loader that failed");
        assert_eq!(
            cache.try_get_or_set_async("d", async { fallible(false).await }).await?,
            "lucky"
        );
        // An error type of one's own, a boxed one, and text.
        let boxed = async { Err::<u8, Box<dyn std::error::Error + Send + Sync>>("text".into()) };
        assert_eq!(
            cache.try_get_or_set_async("e", boxed).await.unwrap_err().kind(),
            ErrorKind::Load
        );
        assert_eq!(
            cache
                .try_get_or_set_async("e", async { Err::<u8, _>("text") })
                .await
                .unwrap_err()
                .kind(),
            ErrorKind::Load
        );
    }
    Ok(())
}

#[tokio::test]
async fn section_1_removal_touch_and_counters() -> larder::Result<()> {
    for cache in plain_and_encoded() {
        cache.set("a", 1).await?;
        assert!(cache.remove("a").await?);
        assert!(!cache.remove("a").await?);
        cache.set("a", 1).await?;
        assert!(!cache.remove(["a", "b"]).await?, "b was not live");
        assert!(!cache.contains("a").await?, "the live one must go even if another is missing");
        cache.set_many([("a", 1), ("b", 2)]).await?;
        assert!(cache.remove(["a", "b"]).await?);
        assert!(cache.remove([""; 0]).await?, "no keys is true");

        cache.set("c", "v").await?;
        assert!(cache.touch("c", Duration::from_secs(10)).await?);
        assert!(
            matches!(cache.expiry("c").await?, Some(Expiry::After(left)) if left <= Duration::from_secs(10))
        );
        assert!(!cache.touch("gone", Duration::from_secs(10)).await?);
        assert!(!cache.contains("gone").await?);
        let c: String = cache.update_timeout("c", Duration::from_secs(1_000)).await?;
        assert_eq!(c, "v");
        assert!(
            matches!(cache.expiry("c").await?, Some(Expiry::After(left)) if left > Duration::from_secs(900))
        );
        assert!(
            cache
                .update_timeout::<String>("gone", Duration::from_secs(1))
                .await
                .unwrap_err()
                .is_not_found()
        );

        assert_eq!(cache.incr("hits", 1).await?, 1);
        assert_eq!(cache.incr("hits", 41).await?, 42);
        assert_eq!(cache.decr("hits", 50).await?, -8);
        assert_eq!(cache.get::<i64>("hits").await?, Some(-8));
        assert_eq!(cache.decr("hits", i64::MIN).await.unwrap_err().kind(), ErrorKind::Overflow);
        cache.ttl(Duration::from_secs(7)).set("timed", 1).await?;
        assert_eq!(cache.ttl(Expiry::Never).incr("timed", 1).await?, 2);
        assert!(
            matches!(cache.expiry("timed").await?, Some(Expiry::After(_))),
            "incr must keep the expiry"
        );
        assert_eq!(cache.ttl(Expiry::Never).incr("fresh", 1).await?, 1);
        assert_eq!(cache.expiry("fresh").await?, Some(Expiry::Never));
    }
    Ok(())
}

#[tokio::test]
async fn section_1_batches() -> larder::Result<()> {
    for cache in plain_and_encoded() {
        cache.set_many([("x", 1), ("y", 2)]).await?;
        assert_eq!(
            cache.get_many::<i32, _>(["y", "nope", "x", "y"]).await?,
            [Some(2), None, Some(1), Some(2)]
        );
        assert_eq!(cache.get_many::<i32, _>(Vec::<String>::new()).await?, []);
        cache.set_many(Vec::<(String, i32)>::new()).await?;
        cache.ttl(Expiry::Never).set_many([("x", 3)]).await?;
        assert_eq!(cache.expiry("x").await?, Some(Expiry::Never));
        cache
            .view()
            .set_each([
                ("p", 1, Expiry::Never),
                ("q", 2, Expiry::After(Duration::ZERO)),
                ("r", 3, Expiry::Default),
            ])
            .await?;
        assert_eq!(cache.expiry("p").await?, Some(Expiry::Never));
        assert_eq!(cache.get_many::<i32, _>(["p", "q", "r"]).await?, [Some(1), None, Some(3)]);
        // A one-shot iterator, and a map.
        cache.set_many((0..3).map(|n| (format!("n{n}"), n))).await?;
        assert_eq!(
            cache.get_many::<i32, _>((0..3).map(|n| format!("n{n}"))).await?,
            [Some(0), Some(1), Some(2)]
        );
        cache.set_many(std::collections::HashMap::from([("m", 1)])).await?;
        assert_eq!(cache.get("m").await?, Some(1));
    }
    Ok(())
}

#[tokio::test]
async fn keys_of_every_type() -> larder::Result<()> {
    let cache = fresh();
    let owned = String::from("k");
    cache.set(&owned, 1).await?;
    cache.set(owned.clone(), 1).await?;
    assert!(cache.remove(&owned).await?);
    cache.set(Cow::Borrowed("k"), 1).await?;
    assert!(cache.remove(Cow::Borrowed("k")).await?);
    cache.set(Arc::<str>::from("k"), 1).await?;
    assert!(cache.remove(owned.clone()).await?);
    cache.set_many([("a", 1), ("b", 2), ("c", 3), ("d", 4)]).await?;
    assert!(cache.remove(vec!["a"]).await?);
    assert!(cache.remove(&["b"]).await?);
    assert!(cache.remove(&vec![String::from("c")]).await?);
    assert!(cache.remove(&[String::from("d")][..]).await?);
    cache.set("twice", 1).await?;
    assert!(!cache.remove(["twice", "twice"]).await?, "it was live once");
    Ok(())
}

#[tokio::test]
async fn a_view_is_a_copy_that_can_be_kept_and_spawned() -> larder::Result<()> {
    let cache: &'static AsyncCacheWrapper = Box::leak(Box::new(fresh()));
    let brief = cache.ttl(Duration::from_secs(30));
    let copy = brief;
    brief.set("a", 1).await?;
    copy.set("b", 2).await?;
    assert!(brief.add("c", 3).await?);
    assert_eq!(brief.incr("n", 2).await? + brief.decr("n", 1).await?, 3);
    tokio::spawn(brief.set("d", 4)).await.unwrap()?;
    tokio::spawn(brief.get_or_set_async("e", load())).await.unwrap()?;
    tokio::spawn(brief.get_or_set("f", 1u8)).await.unwrap()?;
    tokio::spawn(brief.get_or_set_with("g", |key| key.len())).await.unwrap()?;
    tokio::spawn(brief.try_get_or_set_async("h", fallible(false))).await.unwrap()?;
    tokio::spawn(cache.get::<u8>("f")).await.unwrap()?;
    for key in ["a", "b", "c", "n", "d", "e", "f", "g", "h"] {
        assert!(
            matches!(cache.expiry(key).await?, Some(Expiry::After(left)) if left <= Duration::from_secs(30)),
            "{key}"
        );
    }
    // The last word counts, and the wrapper's own default is only a default.
    brief.ttl(Expiry::Never).fail_open(false).set("a", 1).await?;
    assert_eq!(cache.expiry("a").await?, Some(Expiry::Never));
    let lasting = cache.clone().with_ttl(Expiry::Never);
    lasting.set("a", 1).await?;
    lasting.ttl(Duration::from_secs(5)).set("b", 1).await?;
    assert_eq!(lasting.expiry("a").await?, Some(Expiry::Never));
    assert!(matches!(lasting.expiry("b").await?, Some(Expiry::After(_))));
    lasting.touch("b", Expiry::Default).await?;
    assert_eq!(
        lasting.expiry("b").await?,
        Some(Expiry::Never),
        "touch without a word is the wrapper's default"
    );
    Ok(())
}

#[tokio::test]
async fn section_3_a_cache_of_ones_own() -> larder::Result<()> {
    let cache = AsyncCacheWrapper::new("memory:?max_entries=10")?;
    cache.set_adapter(AsyncMemoryCache::builder().max_entries(10_000).build())?;
    cache.set("k", 1).await?;
    let old = cache.swap_adapter("memory")?;
    assert_eq!(old.get("k").await?.unwrap().decode::<i64>()?, 1);
    assert!(!cache.contains("k").await?);
    cache.set("k", 2).await?;
    cache.reset_adapter().await?;
    assert!(!cache.contains("k").await?);
    let blocking: CacheWrapper = cache.blocking();
    blocking.set("b", 7u8)?;
    assert_eq!(cache.get::<u8>("b").await?, Some(7));
    let users = cache.namespace("users");
    users.set("7", "Ada").await?;
    assert_eq!(cache.get::<String>("users:7").await?.as_deref(), Some("Ada"));
    assert_eq!(blocking.namespace("users").get::<String>("7")?.as_deref(), Some("Ada"));
    Ok(())
}

/// Section 4: only what is required.
struct Least(AsyncMemoryCache);

#[larder::async_trait]
impl AsyncCacheAdapter for Least {
    async fn get(&self, key: &str) -> larder::Result<Option<CacheValue>> {
        self.0.get(key).await
    }

    async fn set(&self, key: &str, value: CacheValue, expiry: Expiry) -> larder::Result<()> {
        self.0.set(key, value, expiry).await
    }

    async fn remove(&self, key: &str) -> larder::Result<bool> {
        self.0.remove(key).await
    }

    async fn update_timeout(
        &self,
        key: &str,
        expiry: Expiry,
    ) -> larder::Result<Option<CacheValue>> {
        self.0.update_timeout(key, expiry).await
    }

    async fn clear(&self, prefix: &str) -> larder::Result<()> {
        self.0.clear(prefix).await
    }
}

#[tokio::test]
async fn section_4_an_adapter_of_ones_own() -> larder::Result<()> {
    let cache = AsyncCacheWrapper::new(Least(AsyncMemoryCache::new()))?;
    cache.set_many([("a", 1), ("b", 2)]).await?;
    assert_eq!(cache.get_many::<u8, _>(["a", "b"]).await?, [Some(1), Some(2)]);
    assert!(cache.contains("a").await? && cache.touch("a", Expiry::Never).await?);
    assert!(cache.remove(["a", "b"]).await?);
    assert_eq!(cache.get_or_set("a", 9u8).await?, 9);
    let e = cache.add("x", 1).await.unwrap_err();
    assert_eq!((e.kind(), e.op(), e.key()), (ErrorKind::Unsupported, Some("add"), Some("x")));
    assert!(e.backend().is_some());
    assert_eq!(cache.incr("x", 1).await.unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(cache.take::<u8>("x").await.unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(cache.expiry("x").await.unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(cache.reset_adapter().await.unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(cache.get("a").await?, Some(9u8), "an adapter that cannot be rebuilt stays");
    cache.namespace("n").set("k", 1).await?;
    cache.namespace("n").clear().await?;
    assert_eq!(cache.get("a").await?, Some(9u8));
    Ok(())
}

#[tokio::test]
async fn the_default_expiry_of_a_view_is_its_caches() -> larder::Result<()> {
    let minute = Duration::from_secs(60);
    let is_a_minute =
        |left: Option<Expiry>| matches!(left, Some(Expiry::After(left)) if left <= minute);
    let cache = AsyncCacheWrapper::new("memory")?.with_ttl(minute);
    cache.ttl(Expiry::Default).set("set", 1u8).await?;
    cache.ttl(Expiry::Never).ttl(Expiry::Default).set("twice", 1u8).await?;
    cache.ttl(Expiry::Default).add("add", 1u8).await?;
    cache.ttl(Expiry::Default).incr("incr", 1).await?;
    cache.ttl(Expiry::Default).set_many([("many", 1u8)]).await?;
    cache.ttl(Expiry::Default).get_or_set("load", 1u8).await?;
    cache.ttl(Expiry::Default).get_or_set_async("future", async { 1u8 }).await?;
    cache.ttl(Expiry::Default).into_cache().set("owned", 1u8).await?;
    cache.namespace("n").ttl(Expiry::Default).set("k", 1u8).await?;
    cache.set("touch", 1u8).await?;
    assert!(cache.ttl(Expiry::Never).ttl(Expiry::Default).touch("touch", Expiry::Default).await?);
    let blocking = cache.blocking();
    blocking.ttl(Expiry::Default).set("blocking", 1u8)?;
    for key in [
        "set", "twice", "add", "incr", "many", "load", "future", "owned", "n:k", "touch",
        "blocking",
    ] {
        let left = cache.expiry(key).await?;
        assert!(is_a_minute(left), "{key}: {left:?}");
    }
    let built = AsyncCacheWrapper::builder("memory").ttl(minute).build()?;
    built.ttl(Expiry::Default).set("k", 1u8).await?;
    assert!(is_a_minute(built.expiry("k").await?));
    Ok(())
}

/// The loader's own error, whole and by its type, for each who waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_waiter_has_the_loaders_own_error() -> larder::Result<()> {
    #[derive(Debug, PartialEq)]
    struct Refused(u32);
    impl std::fmt::Display for Refused {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("the source refuses")
        }
    }
    impl std::error::Error for Refused {}
    let cache = AsyncCacheWrapper::new("memory")?;
    let open = Arc::new(tokio::sync::Semaphore::new(0));
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let (cache, open) = (cache.clone(), open.clone());
            tokio::spawn(async move {
                let loader = async move {
                    open.acquire().await.unwrap().forget();
                    Err::<u8, _>(Refused(7))
                };
                cache.try_get_or_set_async("k", loader).await.unwrap_err()
            })
        })
        .collect();
    while cache.stats().joined < 7 {
        tokio::task::yield_now().await;
    }
    open.add_permits(1);
    for call in calls {
        let error = call.await.unwrap();
        assert_eq!(error.load_error::<Refused>(), Some(&Refused(7)));
        assert!(error.load_error::<std::fmt::Error>().is_none());
        assert!(!error.to_string().contains("refuses") && format!("{error:#}").contains("refuses"));
    }
    let missing = cache.get_or_fail::<u8>("k").await.unwrap_err();
    assert!(missing.load_error::<Refused>().is_none(), "no loader was asked");
    Ok(())
}

#[tokio::test]
async fn a_stored_none_that_is_read_as_a_value_says_so() -> larder::Result<()> {
    for url in ["memory", "memory:?encoded=true", "memory:?codec=json&encoded=true"] {
        let cache = AsyncCacheWrapper::new(url)?;
        cache.set("k", None::<u32>).await?;
        let error = cache.get::<u32>("k").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode);
        assert!(error.to_string().contains("stored as an Option"), "{error}");
        assert_eq!(cache.get::<Option<u32>>("k").await?, Some(None));
        cache.set("k", "text").await?;
        let other = cache.get::<u32>("k").await.unwrap_err();
        assert!(!other.to_string().contains("Option"), "{other}");
    }
    Ok(())
}

#[tokio::test]
async fn a_boxed_adapter_is_an_adapter() -> larder::Result<()> {
    let boxed: Box<dyn AsyncCacheAdapter> = Box::new(AsyncMemoryCache::new());
    fn is_an_adapter_like_others<A>()
    where
        A: AsyncCacheAdapter + Clone + std::fmt::Debug + Send + Sync + 'static,
    {
    }
    is_an_adapter_like_others::<AsyncMemoryCache>();
    #[cfg(feature = "redis")]
    is_an_adapter_like_others::<larder::AsyncRedisCache>();
    #[cfg(feature = "memcached")]
    is_an_adapter_like_others::<larder::AsyncMemcachedCache>();
    #[cfg(feature = "sqlite")]
    is_an_adapter_like_others::<larder::AsyncSqliteCache>();
    is_an_adapter_like_others::<std::sync::Arc<dyn AsyncCacheAdapter>>();
    boxed.set("k", CacheValue::new(1u8), Expiry::Default).await?;
    assert!(boxed.get_if_ready("k", &mut |_| ()).is_ready(), "it forwards what has a default");
    let cache = AsyncCacheWrapper::new(boxed)?;
    assert_eq!(cache.get("k").await?, Some(1u8));
    assert_eq!(cache.incr("n", 1).await?, 1);
    assert_eq!(cache.adapter()?.backend(), "memory");
    Ok(())
}

/// A clone is the same store.
#[tokio::test]
async fn every_adapter_can_be_cloned() -> larder::Result<()> {
    fn clones<A: AsyncCacheAdapter + Clone>(adapter: &A) -> A {
        adapter.clone()
    }
    let memory = AsyncMemoryCache::new();
    let copy = clones(&memory);
    memory.set("k", CacheValue::new(1u8), Expiry::Default).await?;
    assert!(copy.contains("k").await?);
    #[cfg(feature = "sqlite")]
    {
        let sqlite = larder::AsyncSqliteCache::from_url("sqlite::memory:")?;
        let copy = clones(&sqlite);
        sqlite.set("k", CacheValue::new(1u8), Expiry::Default).await?;
        assert!(copy.contains("k").await?);
    }
    #[cfg(feature = "redis")]
    clones(&larder::AsyncRedisCache::from_url("redis://127.0.0.1")?);
    #[cfg(feature = "memcached")]
    clones(&larder::AsyncMemcachedCache::from_url("memcached://127.0.0.1")?);
    clones(&larder::AsyncNullCache::new());
    Ok(())
}
