//! Another program on the same server, which uses the driver `async-memcached`.

use super::{on, server};
use crate::support::Memcached;
use async_memcached::{AsciiProtocol, Client, MetaProtocol};
use larder::{AsyncCacheWrapper, Codec, Expiry};
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3_600);

/// A cache whose values are text as other programs know it, and the other program.
async fn both() -> (AsyncCacheWrapper, Client) {
    let shared = Memcached::shared();
    let cache = on(shared).prefix("").codec(Codec::Raw).build().unwrap();
    let driver = Client::new(format!("tcp://{}", server(shared))).await.unwrap();
    (AsyncCacheWrapper::new(cache).unwrap(), driver)
}

/// Texts that a parser of lines could mistake for something else.
fn texts() -> Vec<String> {
    let mut texts: Vec<String> =
        ["", "a", "grüße, 世界", "a\r\nEN\r\n", "VA 1\r\nx\r\nMN\r\n", "\0\u{7f}"]
            .map(str::to_owned)
            .into();
    texts.extend([1_000, 70_000, 900_000].map(|length| "x".repeat(length)));
    texts
}

fn keys(count: usize) -> Vec<String> {
    let prefix = super::prefix();
    (0..count).map(|number| format!("{prefix}{number}")).collect()
}

#[tokio::test]
async fn the_driver_reads_what_larder_writes() {
    let (cache, mut driver) = both().await;
    let texts = texts();
    let keys = keys(texts.len());
    for (key, text) in keys.iter().zip(&texts) {
        cache.ttl(HOUR).set(key, text.clone()).await.unwrap();
        let found = driver.get(key).await.unwrap().unwrap();
        assert_eq!(found.data.unwrap(), text.as_bytes());
    }
    cache.remove(&keys[1]).await.unwrap();
    assert_eq!(driver.get(&keys[1]).await.unwrap(), None);
}

#[tokio::test]
async fn larder_reads_what_the_driver_writes() {
    let (cache, mut driver) = both().await;
    let texts = texts();
    let keys = keys(texts.len());
    for (key, text) in keys.iter().zip(&texts) {
        driver.set(key, text, Some(3_600), None).await.unwrap();
        assert_eq!(cache.get::<String>(key).await.unwrap().as_ref(), Some(text));
        let left = cache.expiry(key).await.unwrap();
        assert!(matches!(left, Some(Expiry::After(left)) if left <= HOUR), "{left:?}");
    }
    driver.delete(&keys[1]).await.unwrap();
    assert_eq!(cache.get::<String>(&keys[1]).await.unwrap(), None);
}

#[tokio::test]
async fn batches_of_one_are_batches_of_the_other() {
    let (cache, mut driver) = both().await;
    let (ours, theirs) = (keys(1_000), keys(1_000));
    cache.ttl(HOUR).set_many(ours.iter().map(|key| (key, key.clone()))).await.unwrap();
    let found = driver.meta_get_multi(&ours, Some(&["v", "k"])).await.unwrap();
    assert_eq!(found.len(), ours.len());
    assert!(found.into_iter().all(|value| value.key.is_some() && value.key == value.data));
    let entries: Vec<_> = theirs.iter().map(|key| (key, key)).collect();
    driver.set_multi(&entries, Some(3_600), None).await.unwrap();
    let found: Vec<Option<String>> = cache.get_many(&theirs).await.unwrap();
    assert!(found.into_iter().eq(theirs.into_iter().map(Some)));
}

#[tokio::test]
async fn both_count_on() {
    let (cache, mut driver) = both().await;
    let key = &keys(1)[0];
    assert_eq!(cache.incr(key, 5).await.unwrap(), 5);
    assert_eq!(driver.increment(key, 2).await.unwrap(), 7);
    assert_eq!(cache.decr(key, 3).await.unwrap(), 4);
    assert_eq!(driver.get(key).await.unwrap().unwrap().data.unwrap().trim_ascii(), b"4");
}
