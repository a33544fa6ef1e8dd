//! Bytes beside text of the same length: what a type costs, since serde sees a `Vec<u8>` as a list
//! of numbers.

use super::{TTL, ready};
use crate::figure::Unit;
use crate::goal::Goal;
use crate::line::{Contestant, Line};
use crate::run::Run;
use bytes::Bytes;
use larder::{AsyncCacheWrapper, AsyncMemoryCache, CacheValue, Cacheable, Codec};

const SIZES: [(&str, usize); 4] =
    [("1 kB", 1_000), ("64 kB", 64_000), ("1 MiB", 1 << 20), ("8 MiB", 8 << 20)];

const TIMES: f64 = 1.5;
const STORED: f64 = 1.02;

const NOTE: &str = "Encoded as for a store over a network: `memory:?encoded=true`.";

pub(crate) fn run(run: &mut Run) {
    for (name, size) in SIZES {
        run.line(
            Line::new(
                format!("memory/bytes-time-{size}"),
                format!("set and get of a `Vec<u8>`, {name}, encoded"),
                Unit::Nanos,
            )
            .goal(Goal::at_most_times(TIMES, "String"))
            .note(NOTE),
            || {
                vec![
                    set_and_get("larder, Vec<u8>", vec![b'x'; size]),
                    set_and_get("String", "x".repeat(size)),
                    set_and_get("bytes::Bytes", Bytes::from(vec![b'x'; size])),
                ]
            },
        );
        run.line(
            Line::new(
                format!("memory/bytes-stored-{size}"),
                format!("stored bytes of a `Vec<u8>`, {name}"),
                Unit::Bytes,
            )
            .goal(Goal::at_most_times(STORED, "String"))
            .rounds(1),
            || {
                vec![
                    stored("larder, Vec<u8>", vec![0xFFu8; size]),
                    stored("String", "x".repeat(size)),
                    stored("bytes::Bytes", Bytes::from(vec![0xFF; size])),
                ]
            },
        );
    }
}

fn set_and_get<'a, T: Cacheable>(name: &str, value: T) -> Contestant<'a> {
    let adapter = AsyncMemoryCache::builder().encoded().max_bytes(1 << 30).build();
    let cache = AsyncCacheWrapper::new(adapter).expect("memory");
    Contestant::work(name, move || {
        ready(cache.ttl(TTL).set("k", value.clone())).expect("stored");
        ready(cache.get::<T>("k")).expect("read")
    })
}

fn stored<'a, T: Cacheable>(name: &str, value: T) -> Contestant<'a> {
    Contestant::round(name, move || {
        let stored = CacheValue::new(value.clone()).to_stored("k", Codec::MessagePack);
        stored.expect("encoded").len() as f64
    })
}
