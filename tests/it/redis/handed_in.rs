//! Pools and clients that the program already has.

use super::{PATIENT, on, prefix, put, text};
use crate::support::Redis;
use deadpool_redis::{Config, Hook, Manager, Pool, Runtime};
use larder::{AsyncCacheAdapter, AsyncRedisCache};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[tokio::test]
async fn a_pool_is_used_and_kept() {
    let server = Redis::start();
    let made = Arc::new(AtomicUsize::new(0));
    let counting = made.clone();
    let pool = Pool::builder(Manager::new(server.url()).unwrap())
        .max_size(1)
        .post_create(Hook::sync_fn(move |_, _| {
            counting.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }))
        .build()
        .unwrap();
    let cache = AsyncRedisCache::builder()
        .pool(pool.clone())
        .pool_size(2)
        .prefix(prefix())
        .op_timeout(PATIENT)
        .build()
        .unwrap();
    put(&cache, "k", "v").await.unwrap();
    cache.connect().await.unwrap();
    assert_eq!(made.load(Ordering::SeqCst), 2, "one connection a lane, out of the pool");
    cache.reconnect().await.unwrap();
    assert_eq!(made.load(Ordering::SeqCst), 4);
    assert!(cache.rebuild().unwrap().contains("k").await.unwrap());
    assert_eq!(made.load(Ordering::SeqCst), 5, "a rebuilt cache uses the same pool");
    // The pool of one is not exhausted by it.
    let mut own = pool.get().await.unwrap();
    let answer: String = deadpool_redis::redis::cmd("PING").query_async(&mut own).await.unwrap();
    assert_eq!(answer, "PONG");
    assert!(format!("{cache:?}").contains("pool"));
}

#[tokio::test]
async fn a_closed_pool_is_an_error() {
    let pool = Config::from_url(Redis::shared().url()).create_pool(Some(Runtime::Tokio1)).unwrap();
    pool.close();
    let error = AsyncRedisCache::from_pool(pool).unwrap().get("k").await.unwrap_err();
    assert_eq!(error.kind(), larder::ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_client_is_used_and_kept() {
    let server = Redis::start_with(&["--requirepass", "hunter2"]);
    let client = deadpool_redis::redis::Client::open(server.url()).unwrap();
    assert_eq!(AsyncRedisCache::from_client(client.clone()).unwrap().backend(), "redis");
    let cache = AsyncRedisCache::builder().client(client).op_timeout(PATIENT).build().unwrap();
    put(&cache, "k", "v").await.unwrap();
    cache.reconnect().await.unwrap();
    assert_eq!(text(&cache, "k").await.unwrap().as_deref(), Some("v"));
    assert!(cache.rebuild().unwrap().contains("k").await.unwrap());
    let shown = format!("{cache:?}");
    assert!(shown.contains(&server.addr().to_string()) && !shown.contains("hunter2"), "{shown}");
}

#[tokio::test]
async fn databases_keep_apart() {
    let server = Redis::start();
    let zero = on(&server).prefix("p:").build().unwrap();
    let two = on(&server).prefix("p:").db(2).build().unwrap();
    put(&zero, "k", "zero").await.unwrap();
    put(&two, "k", "two").await.unwrap();
    assert_eq!(text(&zero, "k").await.unwrap().as_deref(), Some("zero"));
    assert_eq!(
        text(
            &AsyncRedisCache::new(&format!("{}/2?prefix=p:&op_timeout=60s", server.url())).unwrap(),
            "k"
        )
        .await
        .unwrap()
        .as_deref(),
        Some("two")
    );
    let error = on(&server).db(99).build().unwrap().get("k").await.unwrap_err();
    println!("{error}");
    assert!(!error.is_timeout());
}
