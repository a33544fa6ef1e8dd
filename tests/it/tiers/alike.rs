//! Whatever one process does, a near level changes none of its answers.

use crate::claims::Shared;
use crate::everywhere::on_each_store;
use crate::trials::{rng, trials};
use fastrand::Rng;
use larder::{AsyncCacheWrapper, Result};
use std::fmt::Debug;
use std::time::Duration;

on_each_store!(a_cache_with_a_near_level_answers_as_a_memory_cache_does);

/// What may be near, and for how long.
const SETTINGS: [&str; 3] =
    ["near_bound=600s&near_ttl=600s", "near_bound=600s&near_entries=3", "near_bound=20ms"];

const KEYS: [&str; 5] = ["a", "b", "c", "é*[b]?", "a longer key, which is in no cache line"];
const TAGS: [&str; 3] = ["user:7", "all", "é"];

/// A call.
#[derive(Clone, Copy, Debug)]
struct Act {
    verb: u8,
    keys: [&'static str; 2],
    tag: &'static str,
    number: i64,
    /// Whether the call is made in a namespace.
    scoped: bool,
}

impl Act {
    fn any(rng: &mut Rng) -> Self {
        let key = |rng: &mut Rng| KEYS[rng.usize(..KEYS.len())];
        Self {
            verb: rng.u8(..27),
            keys: [key(rng), key(rng)],
            tag: TAGS[rng.usize(..TAGS.len())],
            number: rng.i64(1..1_000),
            scoped: rng.bool(),
        }
    }

    async fn on(self, cache: &AsyncCacheWrapper) -> String {
        let own = if self.scoped { cache.namespace("ns") } else { cache.clone() };
        if self.verb < 14 { self.read_on(&own).await } else { self.write_on(&own).await }
    }

    async fn read_on(self, cache: &AsyncCacheWrapper) -> String {
        let Self { keys, number, .. } = self;
        let key = keys[0];
        match self.verb {
            0..6 => said(cache.get::<i64>(key).await),
            6 => said(cache.get_many::<i64, _>(keys).await),
            7 => said(cache.get::<String>(key).await),
            8 => said(cache.contains(key).await),
            9 => said(cache.get_or_fail::<i64>(key).await),
            10 => said(cache.view().skip_near().get::<i64>(key).await),
            11 => said(cache.blocking().get::<i64>(key)),
            12 => said(cache.get_or_set(key, number).await),
            _ => {
                let load = |missing: Vec<String>| async move {
                    missing.into_iter().map(|key| (key, number)).collect::<Vec<_>>()
                };
                said(cache.get_or_set_many_async(keys, load).await)
            }
        }
    }

    async fn write_on(self, cache: &AsyncCacheWrapper) -> String {
        let Self { keys, number, tag, .. } = self;
        let key = keys[0];
        match self.verb {
            14 | 15 => said(cache.set(key, number).await),
            16 => said(cache.remove(key).await),
            17 => said(cache.add(key, number).await),
            18 => said(cache.replace(key, number).await),
            19 => said(cache.take::<i64>(key).await),
            20 => said(cache.touch(key, Duration::ZERO).await),
            21 => said(cache.incr(key, number).await),
            22 => said(cache.set_many(keys.map(|key| (key, number))).await),
            23 => said(cache.remove_many(keys).await),
            24 => said(cache.tags([tag, "all"]).set(key, number).await),
            25 => said(cache.remove_tags([tag]).await),
            _ if number < 200 => said(cache.clear().await),
            _ => said(cache.tags([tag]).get_or_set_async(key, async move { number }).await),
        }
    }
}

fn said(answer: Result<impl Debug>) -> String {
    format!("{:?}", answer.map_err(|error| error.kind()))
}

async fn a_cache_with_a_near_level_answers_as_a_memory_cache_does(shared: Shared) {
    let mut rng = rng("alike");
    for settings in SETTINGS {
        let (near, memory) = (shared.near(settings), AsyncCacheWrapper::new("memory").unwrap());
        near.clear().await.unwrap();
        let mut acts = Vec::new();
        for _ in 0..trials(400, 10_000) {
            let act = Act::any(&mut rng);
            acts.push(act);
            let [ours, theirs] = [act.on(&near).await, act.on(&memory).await];
            let last = &acts[acts.len().saturating_sub(12)..];
            assert_eq!(ours, theirs, "{settings}, after {last:#?}");
        }
        assert!(super::near(&near).kept > 0);
    }
}
