//! The four faces of a cache have the same verbs, and each verb of the async ones works inside a
//! task.

use super::fresh;
use larder::{AsyncCacheWrapper, ErrorKind, Expiry, Loaded};
use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

/// What a source file says that a type has.
macro_rules! names {
    ($($file:literal),*) => {
        [$(include_str!(concat!("../../../src/", $file))),*].iter().flat_map(|source| public_functions(source)).collect::<BTreeSet<&str>>()
    };
}

fn public_functions(source: &'static str) -> Vec<&'static str> {
    let declared = source.lines().map(str::trim_start).filter_map(|line| {
        let line = line.strip_prefix("pub fn ").or(line.strip_prefix("pub async fn "))?;
        // The name that a macro fills in begins with `$`.
        line.split(['(', '<']).next().filter(|name| !name.starts_with('$'))
    });
    declared
        .chain(if source.contains("each_option!(mirror);") { options() } else { vec![] })
        .collect()
}

/// What `each_option!` lists.
fn options() -> Vec<&'static str> {
    let source = include_str!("../../../src/options.rs");
    let (_, list) = source.split_once("$mirror! {").expect("the list");
    let (list, _) = list.split_once('}').expect("its end");
    list.lines().filter_map(|line| line.trim().split_once('(')).map(|(name, _)| name).collect()
}

fn of_view() -> BTreeSet<&'static str> {
    names!(
        "wrapper/view/mod.rs",
        "wrapper/view/batch.rs",
        "wrapper/view/options.rs",
        "wrapper/get_or_set/mod.rs",
        "wrapper/get_or_set/many/mod.rs"
    )
}

fn of_cache() -> BTreeSet<&'static str> {
    names!("wrapper/mod.rs", "wrapper/options.rs", "wrapper/verbs.rs", "wrapper/adapter.rs")
}

/// What a cache is, rather than what it does with keys: a view has none of it.
const OF_CACHES: [&str; 23] = [
    "adapter",
    "blocking",
    "builder",
    "close",
    "connect",
    "downgrade",
    "from_env",
    "generation",
    "namespace",
    "new",
    "observe",
    "ping",
    "reconnect",
    "record_size",
    "reset_adapter",
    "set_adapter",
    "stats",
    "swap_adapter",
    "trace_keys",
    "view",
    "with_fail_open",
    "with_lease",
    "with_ttl",
];

#[test]
fn a_view_has_every_verb_of_its_cache() {
    let mut verbs = of_cache();
    verbs.retain(|name| !OF_CACHES.contains(name));
    let mut view = of_view();
    assert!(view.remove("into_cache"), "{view:?}");
    assert_eq!(verbs, view);
    assert!(view.len() > 30 && view.contains("get") && view.contains("jitter"), "{view:?}");
}

#[test]
fn the_blocking_faces_have_every_verb_of_the_async_ones() {
    assert_eq!(of_view(), names!("blocking/view.rs"));
    let mut cache = of_cache();
    // A builder makes either face; each leads to the other.
    assert!(cache.remove("builder"));
    for own in ["as_async", "blocking"] {
        assert!(cache.insert(own), "{own}");
    }
    assert_eq!(cache, names!("blocking/mod.rs", "blocking/verbs.rs"));
}

#[test]
fn every_verb_is_tried_here_on_each_face() {
    let here = include_str!("faces.rs");
    let is_option = |name: &str| {
        ["ttl", "codec", "fail_open", "max_batch", "tags"].contains(&name)
            || options().contains(&name)
    };
    for verb in of_view().into_iter().filter(|name| !is_option(name)) {
        assert!(
            here.contains(&format!("$face.{verb}(")) || here.contains(&format!("$face.{verb}::<")),
            "`{verb}` is not tried"
        );
    }
}

/// Every verb, with keys out of iterators whose closures borrow, and with loaders that borrow where
/// they may.
macro_rules! every_verb {
    ($face:expr, $($wait:tt)*) => {{
        let (ids, site) = (vec![1u64, 2], "site".to_owned());
        let key = |id: &u64| format!("{site}:{id}");

        $face.set(key(&1), 1u64) $($wait)* ?;
        assert!($face.add(&site, 1u64) $($wait)* ?);
        assert!($face.replace(&site, 2u64) $($wait)* ?);
        $face.set_many(ids.iter().map(|id| (format!("{site}:{id}"), *id))) $($wait)* ?;
        $face.set_each(ids.iter().map(|id| (format!("{site}:{id}"), *id, Expiry::Never))) $($wait)* ?;
        assert_eq!($face.incr("n", 3) $($wait)* ?, 3);
        assert_eq!($face.decr("n", 1) $($wait)* ?, 2);

        assert_eq!($face.get::<u64>(&site) $($wait)* ?, Some(2));
        assert_eq!($face.get_or("nope", site.clone()) $($wait)* ?, site);
        let missing = $face.get_or_fail::<u64>("nope") $($wait)*;
        assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
        assert!($face.contains(&site) $($wait)* ?);
        assert_eq!($face.expiry(key(&2)) $($wait)* ?, Some(Expiry::Never));
        let found: Vec<Option<u64>> = $face.get_many(ids.iter().map(|id| format!("{site}:{id}"))) $($wait)* ?;
        assert_eq!(found, [Some(1), Some(2)]);
        let words = "site:1, nope".to_owned();
        let found = $face.get_many::<u64, _>(words.split(',').map(|word| word.trim())) $($wait)* ?;
        assert_eq!(found, [Some(1), None]);

        $face.tags(ids.iter().map(|id| format!("{site} {id}"))).set("tagged", 1u64) $($wait)* ?;
        assert!($face.contains("tagged") $($wait)* ?);
        $face.remove_tags(ids.iter().map(|id| format!("{site} {id}"))) $($wait)* ?;
        assert!(!$face.contains("tagged") $($wait)* ?);

        assert!($face.touch(key(&1), Duration::from_secs(9)) $($wait)* ?);
        assert_eq!($face.update_timeout::<u64>(key(&1), Expiry::Never) $($wait)* ?, 1);
        assert_eq!($face.take::<u64>("n") $($wait)* ?, Some(2));

        assert_eq!($face.get_or_set(&site, 7u64) $($wait)* ?, 2);
        assert_eq!($face.get_or_set_with("with", |key| format!("{key} {site}")) $($wait)* ?, "with site");
        assert_eq!($face.get_or_set_async("async", async { 3u64 }) $($wait)* ?, 3);
        let fallible = async { "4".parse::<u64>() };
        assert_eq!($face.try_get_or_set_async("try", fallible) $($wait)* ?, 4);
        let parsed = $face.try_get_or_set_with("7", |key| (key.len() + site.len()).to_string().parse::<u64>()) $($wait)* ?;
        assert_eq!(parsed, 5);
        let made = || { let name = site.clone(); async move { name.len() } };
        assert_eq!($face.get_or_load("load", made) $($wait)* ?, 4);
        let made = || { let name = format!("{}8", ids[0]); async move { name.parse::<u64>() } };
        assert_eq!($face.try_get_or_load("tload", made) $($wait)* ?, 18);
        assert_eq!($face.get_or_load_here("here", || async { site.len() }) $($wait)* ?, 4);
        let fallible = || async { site.parse::<u64>().or(ids[1].to_string().parse()) };
        assert_eq!($face.try_get_or_load_here("there", fallible) $($wait)* ?, 2);
        let lengths = |words: Vec<String>| {
            let more = ids.len();
            async move { words.into_iter().map(move |word| { let length = word.len() + more; (word, length) }) }
        };
        let found = $face.get_or_set_many_async(words.split(',').map(|word| word.trim()), lengths) $($wait)* ?;
        assert_eq!(found, [Some(1), Some(6)]);
        $face.remove("nope") $($wait)* ?;
        let twice = |ids: Vec<u64>| async move { Ok::<_, String>(ids.into_iter().map(|id| (id, 2 * id)).collect::<Vec<_>>()) };
        let items = ids.iter().map(|id| (format!("twice:{site}:{id}"), *id));
        assert_eq!($face.try_get_or_set_many_async(items, twice) $($wait)* ?, [Some(2), Some(4)]);
        let loaded = $face.get_or_set_loaded_with("l", |key| Loaded::new(key.len() + site.len())) $($wait)* ?;
        assert_eq!(loaded, 5);
        assert_eq!($face.get_or_set_loaded_async("l", async { Loaded::new(0u64) }) $($wait)* ?, 5);
        let fallible = async { "6".parse::<u64>().map(Loaded::unstored) };
        assert_eq!($face.try_get_or_set_loaded_async("tl", fallible) $($wait)* ?, 6);

        let mut walk = $face.keys(key(&1));
        assert_eq!(walk.next() $($wait)* .transpose()?, Some(key(&1)));
        assert_eq!(walk.next() $($wait)* .transpose()?, None);
        assert!($face.remove(&site) $($wait)* ?);
        assert!($face.remove(ids.iter().map(|id| format!("{site}:{id}"))) $($wait)* ?);
        assert!(!$face.remove_many(words.split(',').map(|word| word.trim())) $($wait)* ?);
        assert!($face.remove_many(["with", "async"]) $($wait)* ?);
        let kept = $face.into_cache_of_any_face();
        assert!(kept.contains("l") $($wait)* ?);
        $face.clear() $($wait)* ?;
        assert!(!kept.contains("l") $($wait)* ?);
        larder::Result::<()>::Ok(())
    }};
}

/// A face as an owned cache: a view's is made by `$face.into_cache()`.
trait IntoCacheOfAnyFace {
    type Cache;
    fn into_cache_of_any_face(self) -> Self::Cache;
}

macro_rules! into_cache {
    ($($face:ty => $cache:ty, $into:ident);* $(;)?) => {$(
        impl IntoCacheOfAnyFace for $face {
            type Cache = $cache;
            fn into_cache_of_any_face(self) -> $cache {
                self.$into()
            }
        }
    )*};
}

into_cache! {
    &AsyncCacheWrapper => AsyncCacheWrapper, clone;
    larder::View<'_> => AsyncCacheWrapper, into_cache;
    &larder::CacheWrapper => larder::CacheWrapper, clone;
    larder::BlockingView<'_> => larder::CacheWrapper, into_cache;
}

#[tokio::test]
async fn every_verb_of_a_cache_works_inside_a_task() -> larder::Result<()> {
    let cache = fresh();
    tokio::spawn(async move { every_verb!((&cache), .await) }).await.unwrap()
}

#[tokio::test]
async fn every_verb_of_a_view_works_inside_a_task() -> larder::Result<()> {
    let cache = fresh();
    tokio::spawn(async move { every_verb!(cache.ttl(Duration::from_secs(60)), .await) })
        .await
        .unwrap()
}

#[test]
fn every_verb_of_the_blocking_faces() -> larder::Result<()> {
    let cache = fresh().blocking();
    every_verb!((&cache),)?;
    every_verb!(cache.ttl(Duration::from_secs(60)),)
}

/// The futures themselves can be handed to a task, made of an iterator that borrows what the task
/// does not.
#[tokio::test]
async fn batches_of_a_handler_are_its_own_before_they_wait() -> larder::Result<()> {
    static CACHE: std::sync::LazyLock<AsyncCacheWrapper> = std::sync::LazyLock::new(fresh);
    fn handler<F>(handle: impl FnOnce(Vec<u64>) -> F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        tokio::spawn(handle(vec![1, 2]))
    }
    let stored = handler(|ids| async move {
        let prefix = String::from("user");
        CACHE
            .ttl(Expiry::Never)
            .set_many(ids.iter().map(|id| (format!("{prefix}:{id}"), id + 1)))
            .await?;
        let unique: HashSet<u64> = ids.iter().copied().collect();
        let found = CACHE
            .get_many::<u64, _>(
                unique.iter().filter(|id| **id > 1).map(|id| format!("{prefix}:{id}")),
            )
            .await?;
        CACHE.remove_many(unique.iter().map(|id| format!("{prefix}:{id}"))).await?;
        larder::Result::Ok(found)
    });
    assert_eq!(stored.await.unwrap()?, [Some(3)]);
    Ok(())
}

/// What a caller is generic over is a key for `remove` as it is for every other verb.
#[tokio::test]
async fn anything_that_is_text_can_be_removed() -> larder::Result<()> {
    struct UserKey(String);
    impl AsRef<str> for UserKey {
        fn as_ref(&self) -> &str {
            &self.0
        }
    }
    async fn forget(cache: &AsyncCacheWrapper, key: impl AsRef<str>) -> larder::Result<bool> {
        cache.remove(key).await
    }
    let cache = fresh();
    let keys = ["a", "b", "c", "d", "e", "f", "g"];
    cache.set_many(keys.map(|key| (key, 1))).await?;
    assert!(forget(&cache, "a").await?);
    assert!(cache.remove(UserKey("b".to_owned())).await?);
    assert!(cache.remove(vec![UserKey("c".to_owned())]).await?);
    assert!(cache.remove(&BTreeSet::from(["d", "e"])).await?);
    assert!(cache.remove(Some("f")).await?);
    assert!(cache.remove(None::<&str>).await?, "no keys, and so all of them were live");
    assert!(!cache.blocking().remove(HashSet::from(["g", "h"])).unwrap());
    for batch in [cache.remove_many(["x", ""]).await, cache.remove(["", "x"]).await] {
        assert_eq!(batch.unwrap_err().kind(), ErrorKind::InvalidKey);
    }
    Ok(())
}

#[tokio::test]
async fn an_owned_cache_of_a_view_has_its_options_and_the_caches_namespace() -> larder::Result<()> {
    let cache = fresh();
    let users = cache.namespace("users").ttl(Expiry::Never).jitter(0.1).into_cache();
    let task = users.clone();
    tokio::spawn(async move { task.namespace("admins").set("7", 1u8).await }).await.unwrap()?;
    assert_eq!(cache.expiry("users:admins:7").await?, Some(Expiry::Never));
    users.set("8", 2u8).await?;
    cache.set("other", 3u8).await?;

    users.clear().await?;
    assert!(!cache.contains("users:8").await? && cache.contains("other").await?);
    let swapped = cache.set_adapter("memory")?;
    assert!(std::sync::Arc::ptr_eq(&swapped, &users.adapter()?), "it follows swaps");
    assert_eq!(users.stats(), cache.stats());

    let brief = cache.blocking().ttl(Duration::from_secs(5)).into_cache();
    tokio::task::spawn_blocking(move || brief.set("k", 1)).await.unwrap()?;
    assert!(
        matches!(cache.expiry("k").await?, Some(Expiry::After(left)) if left <= Duration::from_secs(5))
    );
    Ok(())
}

/// A handler that awaits a call holds its future, and so does each future around the handler.
#[tokio::test]
async fn futures_of_calls_are_small() -> larder::Result<()> {
    let cache = fresh();
    let view = cache.ttl(Duration::from_secs(1));
    let sizes = [
        ("set", size_of_val(&cache.set("k", 1u64))),
        ("set in a view", size_of_val(&view.set("k", 1u64))),
        ("set_many", size_of_val(&cache.set_many([("k", 1u64)]))),
        ("add", size_of_val(&cache.add("k", 1u64))),
        ("replace", size_of_val(&cache.replace("k", 1u64))),
        ("incr", size_of_val(&cache.incr("k", 1))),
        ("decr", size_of_val(&cache.decr("k", 1))),
        ("remove", size_of_val(&cache.remove("k"))),
        ("remove many", size_of_val(&cache.remove(["k", "l"]))),
        ("take", size_of_val(&cache.take::<u64>("k"))),
        ("touch", size_of_val(&cache.touch("k", Expiry::Never))),
        ("update_timeout", size_of_val(&cache.update_timeout::<u64>("k", Expiry::Never))),
        ("clear", size_of_val(&cache.clear())),
        ("get", size_of_val(&cache.get::<u64>("k"))),
        ("get_many", size_of_val(&cache.get_many::<u64, _>(["k"]))),
        ("contains", size_of_val(&cache.contains("k"))),
        ("expiry", size_of_val(&cache.expiry("k"))),
        ("get_or_set", size_of_val(&cache.get_or_set("k", 1u64))),
        ("get_or_set_with", size_of_val(&cache.get_or_set_with("k", |_| 1u64))),
        ("get_or_set_async", size_of_val(&cache.get_or_set_async("k", async { 1u64 }))),
        ("get_or_load", size_of_val(&cache.get_or_load("k", || async { 1u64 }))),
        (
            "get_or_set_many_async",
            size_of_val(&cache.get_or_set_many_async(["k"], |keys: Vec<String>| async {
                keys.into_iter().map(|key| (key, 1u64))
            })),
        ),
        ("get_or_load_here", size_of_val(&cache.get_or_load_here("k", || async { 1u64 }))),
        ("get_or", size_of_val(&cache.get_or("k", 1u64))),
        ("get_or_fail", size_of_val(&cache.get_or_fail::<u64>("k"))),
        ("set_each", size_of_val(&cache.set_each([("k", 1u64, Expiry::Never)]))),
        ("remove_many", size_of_val(&cache.remove_many(["k"]))),
        ("remove_tags", size_of_val(&cache.remove_tags(["t"]))),
        ("tags", size_of_val(&cache.tags(["t"]).set("k", 1u64))),
        ("loads with tags", size_of_val(&cache.tags(["t"]).get_or_set_async("k", async { 1u64 }))),
        ("next of keys", size_of_val(&cache.keys("k").next())),
        ("connect", size_of_val(&cache.connect())),
        ("ping", size_of_val(&cache.ping())),
        ("close", size_of_val(&cache.close())),
        ("reconnect", size_of_val(&cache.reconnect())),
        ("a fallible load", {
            size_of_val(&cache.try_get_or_set_async("k", async { Ok::<_, String>(1u64) }))
        }),
        ("a fallible closure", {
            size_of_val(&cache.try_get_or_set_with("k", |_| Ok::<_, String>(1u64)))
        }),
        ("a load with its expiry", {
            size_of_val(&cache.get_or_set_loaded_async("k", async { Loaded::new(1u64) }))
        }),
        ("a fallible batch", {
            size_of_val(&cache.try_get_or_set_many_async(["k"], |keys: Vec<String>| async {
                Ok::<_, String>(keys.into_iter().map(|key| (key, 1u64)).collect::<Vec<_>>())
            }))
        }),
        ("a load in a view", size_of_val(&view.get_or_set_async("k", async { 1u64 }))),
        ("many options", {
            let view = view.stale_for(Duration::from_secs(1)).jitter(0.1).lease(Duration::MAX);
            size_of_val(&view.get_or_load("k", || async { 1u64 }))
        }),
    ];
    let large: Vec<_> = sizes.into_iter().filter(|(_, size)| *size > 512).collect();
    assert!(large.is_empty(), "{large:?}");
    Ok(())
}
