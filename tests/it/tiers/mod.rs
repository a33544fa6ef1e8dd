//! Values near, in front of each store.

// clippy allows it in `#[test]`s, and not in the functions that they share.
#![allow(clippy::unwrap_used)]

mod alike;
mod by_age;
mod chaos;
mod conformance;
mod freshness;
mod sqlite;
mod tags;
mod two_nodes;
mod urls;

use larder::{AsyncCacheWrapper, NearStats};
use std::time::Duration;

/// For what is sure to happen, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

fn near(cache: &AsyncCacheWrapper) -> NearStats {
    cache.stats().near.expect("a near level")
}
