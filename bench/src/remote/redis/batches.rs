//! Many keys in one call.

use super::Filled;
use crate::line::Contestant;
use crate::remote::{TTL, batch, batch_curves, key, value};
use crate::run::Run;
use redis::aio::MultiplexedConnection;
use redis::cmd;

pub(super) fn run(run: &mut Run, Filled { raw, .. }: &Filled) {
    batch_curves(run, "redis", [&|keys| mget(raw, keys), &|entries| pipelined_sets(raw, entries)]);
}

fn mget(raw: &MultiplexedConnection, count: usize) -> Contestant<'static> {
    let keys: Vec<String> = (0..count).map(key).collect();
    let mut raw = raw.clone();
    batch("MGET over the raw connection", count, async move || {
        let found: Vec<Option<String>> =
            cmd("MGET").arg(&keys).query_async(&mut raw).await.expect("MGET");
        found.iter().flatten().count()
    })
}

/// One `SET` for each entry, all in one round trip: `MSET` takes no expiry.
fn pipelined_sets(raw: &MultiplexedConnection, count: usize) -> Contestant<'static> {
    let keys: Vec<String> = (0..count).map(key).collect();
    let mut raw = raw.clone();
    batch("SETs in a pipeline over the raw connection", count, async move || {
        let mut sets = redis::pipe();
        for key in &keys {
            let millis = (TTL * 60).as_millis() as u64;
            sets.cmd("SET").arg(key).arg(value()).arg("PX").arg(millis).ignore();
        }
        sets.exec_async(&mut raw).await.expect("a pipeline");
        count
    })
}
