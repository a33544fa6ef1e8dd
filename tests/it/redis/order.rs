//! A write that timed out must not land after a later removal, on the lane for what is big either.

use super::{on, prefix};
use crate::remote::order::{PATIENCE, race};
use crate::remote::{Cache, PATIENT};
use crate::support::turns::turn;
use crate::support::{Proxy, Redis};
use larder::RedisBuilder;
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_big_write_that_timed_out_does_not_come_back() {
    let _turn = turn();
    let server = Redis::start();
    let proxy = Proxy::start(server.addr());
    let prefix = prefix();
    let witness: Cache = Arc::new(on(&server).prefix(&prefix).op_timeout(PATIENT).build().unwrap());
    let builder = RedisBuilder::from_url(&proxy.url(server.url()))
        .unwrap()
        .prefix(&prefix)
        .op_timeout(PATIENCE);
    let cache: Cache = Arc::new(builder.big_value_bytes(0).build().unwrap());
    race(&cache, &proxy, &witness, "redis, big").await;
}
