//! redis as the far level: what the server tells a near level, and what holds when it cannot.

mod batches;
mod by_age;
mod chaos;
mod ends;
mod faults;
mod forks;
mod links;
mod observers;
mod servers;
mod stale;
mod told;

use super::together::calls;
use super::{PATIENT, on, prefix};
use crate::support::{Redis, eventually};
use futures_util::FutureExt;
use larder::layers::Tiered;
use larder::{AsyncCacheWrapper, AsyncRedisCache, NearStats, RedisBuilder};
use std::time::Duration;

/// Longer than any test: what is seen sooner was told.
const FOR_LONG: Duration = Duration::from_secs(600);

fn node_over(far: AsyncRedisCache, bound: Duration) -> AsyncCacheWrapper {
    let tiered = Tiered::builder(far).near_bound(bound).near_ttl(FOR_LONG).build();
    AsyncCacheWrapper::new(tiered).unwrap()
}

/// A node that serves what is near for minutes, unless it is told otherwise.
fn node(builder: RedisBuilder) -> AsyncCacheWrapper {
    node_over(builder.build().unwrap(), FOR_LONG)
}

fn near(cache: &AsyncCacheWrapper) -> NearStats {
    cache.stats().near.expect("a near level")
}

/// The value that is served near, if there is one.
fn is_near(node: &AsyncCacheWrapper, key: &str) -> Option<String> {
    node.get::<String>(key).now_or_never()?.unwrap()
}

/// Reads until the value is served near.
async fn brought_near(node: &AsyncCacheWrapper, key: &str, value: &str) {
    eventually(&format!("{value:?} is near under {key:?}"), PATIENT, async || {
        node.get::<String>(key).await.unwrap();
        is_near(node, key).as_deref() == Some(value)
    })
    .await;
}

/// [`brought_near`] over a link that may have to be opened anew.
async fn brought_near_again(node: &AsyncCacheWrapper, key: &str, value: &str) {
    eventually(&format!("{value:?} is near under {key:?}"), PATIENT, async || {
        node.get::<String>(key).await.is_ok() && is_near(node, key).as_deref() == Some(value)
    })
    .await;
}

/// Whether this server can tell; a test of what is told has nothing to say about another.
fn tells(server: &Redis) -> bool {
    let version = server.info("redis_version");
    let major: u32 = version.split('.').next().unwrap().parse().unwrap();
    if major < 7 {
        println!("skipped: redis {version} tells nothing in order");
    }
    major >= 7
}

/// The numbers of the clients whose reads the server tracks.
fn tracked(server: &Redis) -> Vec<String> {
    let is_tracked = |line: &&String| {
        line.split(' ').any(|field| field.strip_prefix("flags=").is_some_and(|f| f.contains('t')))
    };
    server.clients().iter().filter(is_tracked).filter_map(|line| id(line)).collect()
}

/// The number of a client.
fn id(line: &str) -> Option<String> {
    line.split(' ').find_map(|field| field.strip_prefix("id=")).map(str::to_owned)
}
