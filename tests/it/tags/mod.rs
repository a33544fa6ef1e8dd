//! Tags on the four stores: which entries go with a tag, here and in another process.

// clippy allows it in `#[test]`s, and not in the functions that they share.
#![allow(clippy::unwrap_used)]

mod cost;
mod lives;
mod loads;
mod refused;
mod removal;
mod unreadable;
mod unwilling;
mod verbs;

pub(crate) use removal::many_leave_nothing_when_they_are_removed;

use crate::claims::Shared;
use larder::AsyncCacheWrapper;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// The same test on memory, and on each store that others write to as well.
macro_rules! on_each_store {
    ($($name:ident),+ $(,)?) => {
        crate::everywhere::on_each_store!(@ memory $($name)+);
        crate::everywhere::on_each_store!($($name),+);
    };
}
use on_each_store;

/// Two wrappers that know nothing of each other, on one store.
fn two(shared: &Shared) -> [AsyncCacheWrapper; 2] {
    [shared.cache(), shared.cache()]
}

async fn get(cache: &AsyncCacheWrapper, key: &str) -> Option<u64> {
    cache.get(key).await.unwrap()
}

/// The key of the record of a tag.
fn record(tag: &str) -> String {
    format!("\0larder:tag:{tag}")
}
