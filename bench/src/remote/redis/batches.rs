//! Many keys in one call.

use super::Filled;
use crate::figure::Unit;
use crate::line::{Contestant, Line};
use crate::remote::{BATCH, BATCHES, SET_BATCHES, TTL, batch, get_many, key, set_many, value};
use crate::run::Run;
use redis::aio::MultiplexedConnection;
use redis::cmd;

pub(super) const CURVES: [&str; 2] = ["redis/batch", "redis/set-batch"];

pub(super) fn run(run: &mut Run, filled: &Filled) {
    let [reads, writes] = CURVES;
    let line =
        Line::new(reads, "redis, keys a second in one get_many, as it grows", Unit::PerSecond)
            .note(BATCH);
    run.curve(line, "keys", &BATCHES, |keys| {
        vec![get_many(keys as usize), mget(&filled.raw, keys as usize)]
    });
    let line =
        Line::new(writes, "redis, entries a second in one set_many, as it grows", Unit::PerSecond);
    run.curve(line, "entries", &SET_BATCHES, |entries| {
        vec![set_many(entries as usize), pipelined_sets(&filled.raw, entries as usize)]
    });
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
