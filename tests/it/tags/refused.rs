//! What no tag can be, and what cannot have tags: refused before anything is stored or loaded.

use super::{get, on_each_store, record, two};
use crate::claims::Shared;
use larder::{AsyncCacheWrapper, Codec, Error, ErrorKind, Expiry, Loaded};
use std::time::Duration;

on_each_store!(
    a_17th_and_an_empty_tag_are_refused_by_every_verb,
    sixteen_tags_of_any_text_are_tags,
    plain_codecs_have_no_tags,
    counters_have_no_tags,
    the_keys_of_records_are_larders_own,
    no_name_of_a_namespace_leads_to_records,
);

fn seventeen() -> Vec<String> {
    (0..17).map(|number| number.to_string()).collect()
}

fn is_refused<T: std::fmt::Debug>(answer: larder::Result<T>, kind: ErrorKind) -> Error {
    let error = answer.expect_err("it is refused");
    assert_eq!(error.kind(), kind, "{error:?}");
    error
}

/// Checks that no verb that stores does so, or runs a loader.
async fn is_refused_by_every_verb(tagged: &AsyncCacheWrapper, kind: ErrorKind, word: &str) {
    let refused = |answer: larder::Result<()>| {
        let error = is_refused(answer, kind);
        assert!(error.to_string().contains(word), "{error}");
    };
    let never = || -> u64 { panic!("the loader ran") };
    let tries = || -> Result<u64, String> { panic!("the loader ran") };
    let loaded = || -> Loaded<u64> { panic!("the loader ran") };
    refused(tagged.set("k", 1u64).await);
    refused(tagged.add("k", 1u64).await.map(drop));
    refused(tagged.replace("k", 1u64).await.map(drop));
    refused(tagged.set_many([("k", 1u64), ("l", 2)]).await);
    refused(tagged.set_each([("k", 1u64, Expiry::Never)]).await);
    refused(tagged.get_or_set("k", 1u64).await.map(drop));
    refused(tagged.get_or_set_with("k", |_| never()).await.map(drop));
    refused(tagged.try_get_or_set_with("k", |_| tries()).await.map(drop));
    refused(tagged.get_or_set_async("k", async move { never() }).await.map(drop));
    refused(tagged.try_get_or_set_async("k", async move { tries() }).await.map(drop));
    refused(tagged.get_or_load("k", || async move { never() }).await.map(drop));
    refused(tagged.try_get_or_load("k", || async move { tries() }).await.map(drop));
    refused(tagged.get_or_load_here("k", || async move { never() }).await.map(drop));
    refused(tagged.try_get_or_load_here("k", || async move { tries() }).await.map(drop));
    refused(tagged.get_or_set_loaded_with("k", |_| loaded()).await.map(drop));
    refused(tagged.get_or_set_loaded_async("k", async move { loaded() }).await.map(drop));
    let loads = async move { Ok::<_, String>(loaded()) };
    refused(tagged.try_get_or_set_loaded_async("k", loads).await.map(drop));
    let loads = |_: Vec<String>| async move { vec![("k".to_owned(), never())] };
    refused(tagged.get_or_set_many_async(["k", "l"], loads).await.map(drop));
    let loads = |_: Vec<String>| async move { Ok::<_, String>(vec![("k".to_owned(), never())]) };
    refused(tagged.try_get_or_set_many_async(["k"], loads).await.map(drop));
    let blocking = tagged.blocking();
    let answers = move || {
        let view = blocking.force_refresh();
        [
            blocking.set("k", 1u64),
            blocking.add("k", 1u64).map(drop),
            blocking.replace("k", 1u64).map(drop),
            blocking.set_many([("k", 1u64), ("l", 2)]),
            blocking.set_each([("k", 1u64, Expiry::Never)]),
            blocking.get_or_set_with("k", |_| never()).map(drop),
            view.get_or_set_with("k", |_| never()).map(drop),
            view.get_or_set_async("k", async move { never() }).map(drop),
            view.get_or_set_many_async(["k", "l"], loads_of_nobody).map(drop),
        ]
    };
    tokio::task::spawn_blocking(answers).await.unwrap().into_iter().for_each(refused);
}

async fn loads_of_nobody(_: Vec<String>) -> Vec<(String, u64)> {
    panic!("the loader ran")
}

/// Checks that the verbs that store nothing are refused as well.
async fn is_refused_by_all_other_verbs(tagged: &AsyncCacheWrapper) {
    let keys = ["there", "k"];
    for answer in [
        tagged.get::<u64>("there").await.map(drop),
        tagged.get_or("k", 1u64).await.map(drop),
        tagged.get_or_fail::<u64>("k").await.map(drop),
        tagged.get_many::<u64, _>(keys).await.map(drop),
        tagged.get_many::<u64, _>([""; 0]).await.map(drop),
        tagged.contains("there").await.map(drop),
        tagged.expiry("there").await.map(drop),
        tagged.keys("").next().await.unwrap().map(drop),
        tagged.set_many([("k", 1u64); 0]).await,
        tagged.incr("n", 1).await.map(drop),
        tagged.decr("n", 1).await.map(drop),
        tagged.touch("there", Duration::ZERO).await.map(drop),
        tagged.update_timeout::<u64>("there", Duration::ZERO).await.map(drop),
        tagged.take::<u64>("there").await.map(drop),
        tagged.remove("there").await.map(drop),
        tagged.remove(keys).await.map(drop),
        tagged.remove_many(keys).await.map(drop),
        tagged.remove_tags(["of what is there"]).await,
        tagged.clear().await,
        tagged.namespace("n").clear().await,
    ] {
        assert!(is_refused(answer, ErrorKind::InvalidKey).to_string().contains("tag"));
    }
    let blocking = tagged.blocking();
    let answers = move || {
        [
            blocking.get::<u64>("there").map(drop),
            blocking.keys("").next().unwrap().map(drop),
            blocking.remove(keys).map(drop),
            blocking.clear(),
        ]
    };
    for answer in tokio::task::spawn_blocking(answers).await.unwrap() {
        is_refused(answer, ErrorKind::InvalidKey);
    }
}

async fn a_17th_and_an_empty_tag_are_refused_by_every_verb(shared: Shared) {
    let [here, there] = two(&shared);
    here.tags(["of what is there"]).set("there", 1u64).await.unwrap();
    for tags in [vec!["a".to_owned(), String::new()], seventeen()] {
        let tagged = here.tags(&tags).into_cache();
        is_refused_by_every_verb(&tagged, ErrorKind::InvalidKey, "tag").await;
        is_refused_by_all_other_verbs(&tagged).await;
        let refused = is_refused(here.remove_tags(&tags).await, ErrorKind::InvalidKey);
        assert!(refused.to_string().contains("tag"));
        let blocking = here.blocking();
        let refused = tokio::task::spawn_blocking(move || blocking.tags(tags).set("k", 1u64));
        is_refused(refused.await.unwrap(), ErrorKind::InvalidKey);
    }
    for cache in [&here, &there] {
        assert_eq!(get(cache, "there").await, Some(1));
        assert_eq!(cache.get_many::<u64, _>(["k", "l", "n"]).await.unwrap(), [None; 3]);
    }
    assert!(here.adapter().unwrap().get(&record("a")).await.unwrap().is_none());
}

async fn sixteen_tags_of_any_text_are_tags(shared: Shared) {
    let [here, there] = two(&shared);
    let long = "x".repeat(3_000);
    let odd = [" ", "\0", "\0larder:tag:", "*", "%", "a:b", "ß", "\r\n", "'", long.as_str()];
    let mut tags: Vec<&str> = odd.to_vec();
    tags.extend(["1", "2", "3", "4", "5", "6"]);
    assert_eq!(tags.len(), 16);
    for tag in &tags {
        here.tags(&tags).set("k", 1u64).await.unwrap();
        assert_eq!(get(&there, "k").await, Some(1), "{tag:?}");
        there.remove_tags([tag]).await.unwrap();
        assert_eq!(get(&here, "k").await, None, "{tag:?}");
    }
    // A tag that is given twice is one.
    here.tags(seventeen().iter().skip(1).chain(["1".to_owned()].iter()))
        .set("k", 2u64)
        .await
        .unwrap();
    assert_eq!(get(&there, "k").await, Some(2));
    let huge = "x".repeat(70_000);
    let refused = is_refused(here.tags([huge]).set("k", 3u64).await, ErrorKind::InvalidKey);
    assert!(refused.to_string().contains("tag"), "{refused}");
}

async fn plain_codecs_have_no_tags(shared: Shared) {
    for codec in ["json", "raw"] {
        let cache = shared.with(&format!("codec={codec}"));
        let tagged = cache.tags([codec]).into_cache();
        is_refused_by_every_verb(&tagged, ErrorKind::Unsupported, "tags").await;
        assert!(!cache.contains("k").await.unwrap(), "{codec}");
        assert!(cache.adapter().unwrap().get(&record(codec)).await.unwrap().is_none(), "{codec}");
    }
    // A view of another codec over a store that can have tags, and the reverse.
    let (cache, json) = (shared.cache(), shared.with("codec=json"));
    for codec in [Codec::Json, Codec::Raw] {
        let tagged = cache.codec(codec).tags(["view"]).into_cache();
        is_refused_by_every_verb(&tagged, ErrorKind::Unsupported, "tags").await;
    }
    assert!(!cache.contains("k").await.unwrap());
    json.codec(Codec::MessagePack).tags(["t"]).set("own", 1u64).await.unwrap();
    assert_eq!(get(&json, "own").await, Some(1));
    json.remove_tags(["t"]).await.unwrap();
    assert_eq!(get(&json, "own").await, None);
}

async fn counters_have_no_tags(shared: Shared) {
    let [here, there] = two(&shared);
    for answer in [here.tags(["t"]).incr("n", 1).await, here.tags(["t"]).decr("n", 1).await] {
        is_refused(answer, ErrorKind::Unsupported);
    }
    assert!(!there.contains("n").await.unwrap());
}

async fn the_keys_of_records_are_larders_own(shared: Shared) {
    let [here, _] = two(&shared);
    let key = format!("users:{}", record("t"));
    let key = key.as_str();
    here.namespace("users").tags(["t"]).set("7", 1u64).await.unwrap();
    let never = || -> u64 { panic!("the loader ran") };
    for answer in [
        here.set(key, 1u64).await,
        here.add(key, 1u64).await.map(drop),
        here.replace(key, 1u64).await.map(drop),
        here.incr(key, 1).await.map(drop),
        here.set_many([("a", 1u64), (key, 1)]).await,
        here.set_each([("a", 1u64, Expiry::Never), (key, 1, Expiry::Never)]).await,
        here.remove(key).await.map(drop),
        here.remove(["a", key]).await.map(drop),
        here.take::<u64>(key).await.map(drop),
        here.touch(key, Expiry::Never).await.map(drop),
        here.update_timeout::<u64>(key, Expiry::Never).await.map(drop),
        here.get_or_set(key, 1u64).await.map(drop),
        here.get_or_set_with(key, |_| never()).await.map(drop),
        here.get_or_set_async(key, async move { never() }).await.map(drop),
        here.get_or_load_here(key, || async move { never() }).await.map(drop),
        here.get_or_set_many_async(["a", key], |_: Vec<String>| async move {
            vec![("a".to_owned(), never())]
        })
        .await
        .map(drop),
    ] {
        is_refused(answer, ErrorKind::InvalidKey);
    }
    // For those who read, there is nothing.
    assert_eq!(get(&here, key).await, None);
    assert_eq!(here.get_many::<u64, _>([key, "a"]).await.unwrap(), [None, None]);
    assert!(!here.contains(key).await.unwrap());
    assert_eq!(here.expiry(key).await.unwrap(), None);
    assert_eq!(get(&here, "users:7").await, Some(1), "nothing was changed");
}

/// Whatever a namespace is called, what is done in it concerns no tag of another one.
async fn no_name_of_a_namespace_leads_to_records(shared: Shared) {
    let [here, there] = two(&shared);
    let users = here.namespace("users");
    let lives = async || {
        let found = [get(&there, "k").await, get(&there, "users:k").await];
        assert_eq!(found, [Some(1), Some(2)], "{found:?}");
    };
    here.tags(["t"]).set("k", 1u64).await.unwrap();
    users.tags(["t"]).set("k", 2u64).await.unwrap();
    for outer in [&here, &users] {
        let larder = outer.namespace("\0larder");
        for (cache, key) in [(larder.clone(), "tag:t"), (larder.namespace("tag"), "t")] {
            cache.set(key, 3u64).await.unwrap();
            lives().await;
            assert_eq!(get(&cache, key).await, Some(3), "an entry as others");
            assert_eq!(cache.incr(key, 1).await.unwrap(), 4);
            assert!(cache.touch(key, Duration::ZERO).await.unwrap());
            lives().await;
            assert_eq!(cache.get_or_set(key, 5u64).await.unwrap(), 5);
            assert!(cache.remove(key).await.unwrap());
            lives().await;
            cache.clear().await.unwrap();
            lives().await;
        }
    }
}
