//! Misses of many callers at the same time.

use super::*;
use futures_util::future::join_all;
use larder::{AsyncCacheAdapter, CacheValue, Expiry, Lifetime};

#[tokio::test]
async fn many_misses_are_read_together_each_with_its_own_life() {
    let server = Redis::start();
    let far = on(&server).prefix("app:").pool_size(1).build().unwrap();
    let life = |number: u64| Duration::from_secs(1_000 + number);
    for number in 0..300 {
        let key = format!("k{number}");
        let expiry = if number % 3 == 0 { Expiry::Never } else { life(number).into() };
        far.set(&key, CacheValue::new(number), expiry).await.unwrap();
    }
    server.command(&["DEL", "app:k8", "app:k9"]);
    server.command(&["RPUSH", "app:k9", "another program's"]);
    let (gets, batches) = (calls(&server, "get"), calls(&server, "mget"));
    let keys: Vec<String> = (0..300).map(|number| format!("k{number}")).collect();
    let found = join_all(keys.iter().map(|key| far.get_near(key))).await;
    for (number, found) in (0u64..).zip(found) {
        let Some(entry) = found.unwrap() else {
            assert_eq!(number, 8);
            continue;
        };
        if number == 9 {
            assert_eq!(entry.left, Lifetime::For(Duration::ZERO), "a list is not kept near");
            assert!(entry.value.decode::<u64>().is_err());
            continue;
        }
        assert_eq!(entry.value.decode::<u64>().unwrap(), number);
        match entry.left {
            Lifetime::Never => assert_eq!(number % 3, 0, "{number}"),
            Lifetime::For(left) => {
                let expected = life(number);
                assert!(number % 3 != 0 && left <= expected, "{number}: {left:?}");
                assert!(left + PATIENT >= expected, "{number}: {left:?} of {expected:?}");
            }
        }
    }
    assert!(calls(&server, "mget") > batches);
    // The first few, and those that were missing beside another program's list.
    let alone = calls(&server, "get") - gets;
    assert!(alone < 100, "{alone} of 300 were read by themselves");
}

#[tokio::test]
async fn what_was_read_together_is_told_of() {
    let server = Redis::start();
    if !tells(&server) {
        return;
    }
    let builder = || on(&server).prefix("app:").pool_size(1);
    let (node, plain) =
        (node(builder()), AsyncCacheWrapper::new(builder().build().unwrap()).unwrap());
    let keys: Vec<String> = (0..200).map(|number| format!("k{number}")).collect();
    for text in ["old", "new", "newer"] {
        plain.set_many(keys.iter().map(|key| (key, text))).await.unwrap();
        eventually(&format!("each is {text}"), PATIENT, async || {
            let found = join_all(keys.iter().map(|key| node.get::<String>(key))).await;
            found.into_iter().all(|found| found.unwrap().as_deref() == Some(text))
        })
        .await;
        assert!(keys.iter().all(|key| is_near(&node, key).as_deref() == Some(text)), "{text}");
    }
    assert!(calls(&server, "mget") > 0);
}
