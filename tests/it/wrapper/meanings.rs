//! API.md, section 6, line by line.

use super::{Runs, faulty, fresh, plain_and_encoded};
use larder::testing::Verb;
use larder::{AsyncCacheWrapper, AsyncMemoryCache, Codec, ErrorKind, Expiry};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

#[tokio::test]
async fn a_lifetime_of_zero() -> larder::Result<()> {
    for cache in plain_and_encoded() {
        for zero in [Expiry::After(Duration::ZERO), Expiry::At(SystemTime::UNIX_EPOCH)] {
            cache.set("k", 1).await?;
            cache.ttl(zero).set("k", 2).await?;
            assert_eq!(cache.get::<i32>("k").await?, None, "the older value must be gone");
            cache.ttl(zero).set_many([("k", 2)]).await?;
            assert!(!cache.contains("k").await?);
            assert!(cache.ttl(zero).add("k", 2).await?);
            assert!(!cache.contains("k").await?);
            assert_eq!(cache.ttl(zero).get_or_set("k", 5).await?, 5, "returned …");
            assert!(!cache.contains("k").await?, "… and not stored");
            cache.set("k", 1).await?;
            assert!(cache.touch("k", zero).await?);
            assert!(!cache.contains("k").await?);
        }
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn expiry_is_exact_and_the_same_for_every_verb() -> larder::Result<()> {
    for cache in plain_and_encoded() {
        for ttl in [1, 500, 1_000, 1_900].map(Duration::from_millis) {
            let view = cache.ttl(ttl);
            view.set_many([
                ("get", 1),
                ("remove", 1),
                ("touch", 1),
                ("update", 1),
                ("add", 1),
                ("incr", 7),
                ("take", 1),
            ])
            .await?;
            view.set("load", 1).await?;
            tokio::time::advance(ttl - Duration::from_millis(1)).await;
            assert!(cache.contains("get").await?, "{ttl:?} is over a millisecond early");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert_eq!(cache.get::<i32>("get").await?, None, "{ttl:?} is not over at its deadline");
            assert_eq!(cache.get_many::<i32, _>(["get", "take"]).await?, [None, None]);
            assert_eq!(cache.expiry("get").await?, None);
            assert!(!cache.contains("get").await?);
            assert!(!cache.remove("remove").await?);
            assert!(!cache.touch("touch", Expiry::Never).await?);
            assert!(!cache.contains("touch").await?, "touch revived an entry");
            assert!(
                cache
                    .update_timeout::<i32>("update", Expiry::Never)
                    .await
                    .unwrap_err()
                    .is_not_found()
            );
            assert!(cache.add("add", 2).await?);
            assert!(!cache.replace("remove", 2).await?);
            assert_eq!(cache.incr("incr", 1).await?, 1);
            assert_eq!(cache.take::<i32>("take").await?, None);
            assert_eq!(cache.get_or_set("load", 2).await?, 2);
            cache.clear().await?;
        }
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_default_never_and_huge() -> larder::Result<()> {
    for cache in plain_and_encoded() {
        cache.set("default", 1).await?;
        for (key, ttl) in [
            ("never", Expiry::Never),
            ("max", Duration::MAX.into()),
            ("u64", Duration::from_secs(u64::MAX).into()),
        ] {
            cache.ttl(ttl).set(key, 1).await?;
            assert_eq!(cache.expiry(key).await?, Some(Expiry::Never), "{key}");
            assert!(cache.touch(key, ttl).await?);
        }
        for days in [30 * 86_400, 30 * 86_400 + 1, 3_650 * 86_400] {
            cache.ttl(Duration::from_secs(days)).set("far", 1).await?;
            assert_eq!(cache.get("far").await?, Some(1));
        }
        tokio::time::advance(Duration::from_millis(299_999)).await;
        assert!(cache.contains("default").await?);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!cache.contains("default").await?);
        tokio::time::advance(Duration::from_secs(10 * 365 * 86_400)).await;
        assert!(!cache.contains("far").await?);
        assert_eq!(
            cache.get_many::<i32, _>(["never", "max", "u64"]).await?,
            [Some(1), Some(1), Some(1)]
        );
    }
    Ok(())
}

#[tokio::test]
async fn null_and_falsy_values_are_hits() -> larder::Result<()> {
    macro_rules! hits {
        ($cache:ident: $($value:expr => $type:ty),* $(,)?) => {$(
            let value: $type = $value;
            $cache.set("k", value.clone()).await?;
            assert_eq!($cache.get::<$type>("k").await?, Some(value.clone()), stringify!($value));
            assert!($cache.contains("k").await?);
            assert!(!$cache.add("k", 1).await?, stringify!($value));
            assert_eq!($cache.get_many::<$type, _>(["k"]).await?, [Some(value.clone())]);
            let got = $cache.get_or_set_with("k", |_| -> $type { panic!("a loader ran on a hit") }).await?;
            assert_eq!(got, value);
            assert_eq!($cache.get_or("k", value.clone()).await?, value);
        )*};
    }
    for cache in plain_and_encoded() {
        hits!(cache: None => Option<String>, String::new() => String, 0 => u8, 0.0 => f64, false => bool, Vec::new() => Vec<u32>,
            Default::default() => std::collections::BTreeMap<String, u8>, () => ());
        cache.set("null", ()).await?;
        assert_eq!(cache.get::<Option<u8>>("null").await?, Some(None));
    }
    Ok(())
}

#[tokio::test]
async fn some_none_is_refused_and_changes_nothing() -> larder::Result<()> {
    for cache in plain_and_encoded() {
        cache.set("k", 1).await?;
        let e = cache.set("k", Some(None::<u8>)).await.unwrap_err();
        assert_eq!((e.kind(), e.key()), (ErrorKind::Encode, Some("k")));
        assert_eq!(cache.set("k", Some(())).await.unwrap_err().kind(), ErrorKind::Encode);
        assert_eq!(cache.add("new", Some(())).await.unwrap_err().kind(), ErrorKind::Encode);
        assert_eq!(
            cache
                .set_many([("other", Some(None)), ("k", Some(None::<u8>))])
                .await
                .unwrap_err()
                .kind(),
            ErrorKind::Encode
        );
        let strict = cache.fail_open(false).get_or_set("new", Some(None::<u8>)).await;
        assert_eq!(strict.unwrap_err().kind(), ErrorKind::Encode);
        assert_eq!(cache.get_or_set("new", Some(None::<u8>)).await?, Some(None));
        assert!(!cache.contains("new").await?, "a placeholder was left behind");
        assert_eq!(cache.get::<i32>("k").await?, Some(1), "the older value must stay");
    }
    Ok(())
}

#[tokio::test]
async fn the_empty_key() -> larder::Result<()> {
    for cache in plain_and_encoded().into_iter().flat_map(|cache| [cache.namespace("n"), cache]) {
        cache.set("ok", 1).await?;
        let runs = Runs::default();
        let ran = runs.clone();
        let answers = [
            cache.get::<u8>("").await.map(drop),
            cache.set("", 1).await,
            cache.remove("").await.map(drop),
            cache.remove(["ok", ""]).await.map(drop),
            cache.contains("").await.map(drop),
            cache.expiry("").await.map(drop),
            cache.touch("", Expiry::Never).await.map(drop),
            cache.update_timeout::<u8>("", Expiry::Never).await.map(drop),
            cache.add("", 1).await.map(drop),
            cache.replace("", 1).await.map(drop),
            cache.take::<u8>("").await.map(drop),
            cache.incr("", 1).await.map(drop),
            cache.decr("", 1).await.map(drop),
            cache.get_many::<u8, _>(["ok", ""]).await.map(drop),
            cache.set_many([("ok", 2), ("", 2)]).await,
            cache.get_or("", 1u8).await.map(drop),
            cache.get_or_fail::<u8>("").await.map(drop),
            cache.get_or_set("", 1u8).await.map(drop),
            cache.get_or_set_async("", async move { ran.add() }).await.map(drop),
        ];
        for (at, answer) in answers.into_iter().enumerate() {
            let e = answer.expect_err(&format!("answer {at}"));
            assert_eq!(e.kind(), ErrorKind::InvalidKey, "answer {at}: {e}");
        }
        assert_eq!(
            cache.get("ok").await?,
            Some(1u8),
            "a batch with an invalid key changed something"
        );
        assert_eq!(runs.count(), 0);
    }
    Ok(())
}

#[tokio::test]
async fn keys_are_text() -> larder::Result<()> {
    let cache = fresh();
    let keys: Vec<String> = [
        "a*",
        "a?",
        "[a]",
        "a%",
        "a_",
        "ab",
        "aa",
        " ",
        "\0",
        "\n",
        "清".repeat(84).as_str(),
        "0",
        "-1",
        "{}()/\\@:",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain([format!("{}1", "x".repeat(250)), format!("{}2", "x".repeat(250)), "y".repeat(1 << 20)])
    .collect();
    for (at, key) in keys.iter().enumerate() {
        cache.set(key, at).await?;
    }
    for (at, key) in keys.iter().enumerate() {
        assert_eq!(cache.get(key).await?, Some(at), "{:?}", &key[..key.len().min(20)]);
    }
    assert!(cache.remove("a*").await?);
    assert!(cache.contains("ab").await?);
    Ok(())
}

#[tokio::test]
async fn one_type_written_another_read() -> larder::Result<()> {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Wide {
        id: u64,
        name: String,
        tags: Vec<String>,
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Narrow {
        name: String,
        id: i32,
    }
    for cache in plain_and_encoded() {
        cache.set("s", "world").await?;
        assert_eq!(cache.get::<String>("s").await?.as_deref(), Some("world"));
        cache.set("n", 5u32).await?;
        assert_eq!(cache.get::<i64>("n").await?, Some(5));
        assert_eq!(cache.get::<u8>("n").await?, Some(5));
        cache.set("big", u64::MAX).await?;
        assert_eq!(
            cache.get::<i64>("big").await.unwrap_err().kind(),
            ErrorKind::Decode,
            "no wrapping around"
        );
        let wide = Wide { id: 7, name: "Ada".into(), tags: vec!["x".into()] };
        cache.set("w", Arc::new(wide.clone())).await?;
        assert_eq!(cache.get::<Wide>("w").await?, Some(wide.clone()));
        assert_eq!(cache.get::<Arc<Wide>>("w").await?.as_deref(), Some(&wide));
        assert_eq!(cache.get::<Narrow>("w").await?, Some(Narrow { name: "Ada".into(), id: 7 }));
        assert_eq!(cache.get::<Option<Wide>>("w").await?, Some(Some(wide)));

        let e = cache.get::<u32>("s").await.unwrap_err();
        assert_eq!(
            (e.kind(), e.key(), e.op(), e.backend()),
            (ErrorKind::Decode, Some("s"), Some("get"), Some("memory"))
        );
        assert!(e.to_string().contains("u32"), "the type must be named: {e}");
        assert_eq!(cache.get_many::<u32, _>(["n", "s"]).await.unwrap_err().key(), Some("s"));
        assert!(cache.remove("s").await?, "remove never decodes");
    }
    Ok(())
}

#[tokio::test]
async fn a_value_is_out_of_its_givers_hands() -> larder::Result<()> {
    let cache = fresh();
    let mut list = vec![1, 2, 3];
    cache.set("k", list.clone()).await?;
    list.clear();
    let mut got: Vec<i32> = cache.get("k").await?.unwrap();
    got.push(4);
    assert_eq!(cache.get::<Vec<i32>>("k").await?, Some(vec![1, 2, 3]));
    Ok(())
}

#[tokio::test]
async fn too_large_removes_the_older_value() -> larder::Result<()> {
    let cache = AsyncCacheWrapper::new(
        AsyncMemoryCache::builder().max_bytes(100_000).max_entries(10).build(),
    )?;
    let huge = "x".repeat(200_000);
    cache.set("k", "small").await?;
    let e = cache.set("k", huge.clone()).await.unwrap_err();
    assert_eq!((e.kind(), e.key(), e.op()), (ErrorKind::TooLarge, Some("k"), Some("set")));
    assert_eq!(cache.get::<String>("k").await?, None, "the older value must not be served");
    cache.set("k", "small").await?;
    assert_eq!(
        cache.get::<String>("k").await?.as_deref(),
        Some("small"),
        "the next operation is right"
    );
    assert_eq!(
        cache.set_many([("a", "b".to_owned()), ("k", huge)]).await.unwrap_err().key(),
        Some("k")
    );
    assert_eq!(
        cache.get::<String>("a").await?.as_deref(),
        Some("b"),
        "a large companion must not fail the others"
    );
    assert!(!cache.contains("k").await?);
    Ok(())
}

#[tokio::test]
async fn counters_of_a_key_that_is_too_large() -> larder::Result<()> {
    let cache = AsyncCacheWrapper::new(
        AsyncMemoryCache::builder().max_bytes(1_000).max_entries(1).build(),
    )?;
    let key = "k".repeat(5_000);
    assert_eq!(
        cache.incr(&key, 1).await.unwrap_err().kind(),
        ErrorKind::TooLarge,
        "a counter that cannot be kept counts nothing"
    );
    Ok(())
}

#[tokio::test]
async fn json_and_raw() -> larder::Result<()> {
    let json = AsyncCacheWrapper::new(AsyncMemoryCache::builder().codec(Codec::Json).build())?;
    json.set("k", ("a", 1)).await?;
    assert_eq!(json.get::<(String, u8)>("k").await?, Some(("a".into(), 1)));
    assert_eq!(json.set("k", f64::NAN).await.unwrap_err().kind(), ErrorKind::Encode);
    assert_eq!(
        json.get::<(String, u8)>("k").await?,
        Some(("a".into(), 1)),
        "a value that cannot be encoded leaves the older one"
    );
    let strict = json.fail_open(false).get_or_set("nan", f64::INFINITY).await;
    assert_eq!(strict.unwrap_err().kind(), ErrorKind::Encode);
    assert_eq!(
        json.get_or_set("nan", f64::INFINITY).await?,
        f64::INFINITY,
        "computed all the same"
    );
    assert_eq!(json.incr("n", 3).await?, 3);

    let raw = AsyncCacheWrapper::new("memory:?codec=raw")?;
    raw.set("text", "hello").await?;
    assert_eq!(raw.get::<String>("text").await?.as_deref(), Some("hello"));
    raw.set("n", 41).await?;
    assert_eq!(raw.incr("n", 1).await?, 42);
    assert_eq!(raw.get::<String>("n").await?.as_deref(), Some("42"));
    assert_eq!(raw.set("pair", vec!["a", "b"]).await.unwrap_err().kind(), ErrorKind::Encode);
    raw.set("bytes", (0..=255u8).collect::<Vec<_>>()).await?;
    assert_eq!(raw.get::<Vec<u8>>("bytes").await?, Some((0..=255).collect()));

    let plain = fresh();
    plain.set("f", (f64::NAN, f64::NEG_INFINITY, -0.0f64, f64::MIN_POSITIVE / 2.0)).await?;
    let (nan, inf, zero, tiny): (f64, f64, f64, f64) = plain.get("f").await?.unwrap();
    assert!(
        nan.is_nan()
            && inf == f64::NEG_INFINITY
            && zero.is_sign_negative()
            && tiny == f64::MIN_POSITIVE / 2.0
    );
    Ok(())
}

#[tokio::test]
async fn two_wrappers_share_nothing_but_the_shared_store() -> larder::Result<()> {
    for (one, other) in
        [(fresh(), fresh()), (AsyncCacheWrapper::new("memory")?, AsyncCacheWrapper::new("mem")?)]
    {
        one.set("k", 1).await?;
        assert!(!other.contains("k").await?);
        other.clear().await?;
        assert!(one.contains("k").await?);
    }
    let one = AsyncCacheWrapper::new(AsyncMemoryCache::shared())?;
    let other = AsyncCacheWrapper::new("memory:?shared=true")?;
    one.set("wrapper::meanings shared", 1).await?;
    assert_eq!(other.get("wrapper::meanings shared").await?, Some(1));
    one.reset_adapter().await?;
    assert_eq!(
        one.get("wrapper::meanings shared").await?,
        Some(1),
        "the shared store outlives a reset"
    );
    Ok(())
}

#[tokio::test]
async fn a_batch_is_one_call_of_the_adapter() -> larder::Result<()> {
    let (cache, adapter) = faulty();
    let keys: Vec<String> = (0..100).map(|n| format!("k{n}")).collect();
    cache.set_many(keys.iter().map(|key| (key, 1))).await?;
    assert_eq!((adapter.calls(Verb::SetMany), adapter.all_calls()), (1, 1));
    assert!(cache.get_many::<u8, _>(&keys).await?.iter().all(Option::is_some));
    assert_eq!((adapter.calls(Verb::GetMany), adapter.all_calls()), (1, 2));
    assert!(cache.remove(&keys).await?);
    assert_eq!((adapter.calls(Verb::RemoveMany), adapter.all_calls()), (1, 3));
    Ok(())
}
