//! What the wrapper promises, on the stores that others write to as well: redis, memcached and
//! sqlite.

// clippy allows it in `#[test]`s, and not in the functions that they share.
#![allow(clippy::unwrap_used)]

mod codec;
mod freshness;
mod idle;
mod keys;
mod loads;
mod many;
mod order;
mod own_key;
mod races;

use std::time::Duration;

/// For what is sure to happen, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

/// The same test on each store.
macro_rules! on_each_store {
    ($($name:ident),+ $(,)?) => {
        crate::everywhere::on_each_store!(@ redis $($name)+);
        crate::everywhere::on_each_store!(@ memcached $($name)+);
        crate::everywhere::on_each_store!(@ sqlite $($name)+);
    };
    (@ $store:ident $($name:ident)+) => {
        mod $store {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::claims::Shared::$store()).await;
            })+
        }
    };
}
pub(crate) use on_each_store;
