//! What tags cost the reads of entries that have none.

use super::{Load, TTL, User, ready};
use crate::figure::Unit;
use crate::goal::Goal;
use crate::line::{Contestant, Line};
use crate::run::Run;
use larder::AsyncCacheWrapper;
use std::sync::{Arc, LazyLock};

const NEVER: &str = "larder, no tag in the cache";
const NOTE: &str = "The same reads of 1,000 entries without tags. One cache has 1,000 entries with tags beside them, which it has read; the other \
     never met a tag. quick_cache has neither tags nor expiry.";

static HOT: LazyLock<Load> = LazyLock::new(|| Load::uniform(1_000));

pub(super) fn run(run: &mut Run) {
    run.line(
        Line::new("tags/memory", "memory, `get::<Arc<T>>` hit without tags", Unit::Nanos)
            .goal(Goal::at_most_times(1.03, NEVER))
            .instructions()
            .note(NOTE),
        || untagged(&HOT),
    );
}

fn untagged(load: &Load) -> Vec<Contestant<'_>> {
    let quick = quick_cache::sync::Cache::new(1 << 16);
    let (beside, never) = (cache(load), cache(load));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        for (id, key) in load.keys.iter().enumerate() {
            quick.insert(key.clone(), Arc::new(User::new(id)));
            let (tagged, own) = (format!("tagged/{key}"), format!("user:{id}"));
            let entry = beside.ttl(TTL).tags([own.as_str(), "all"]);
            entry.set(&tagged, Arc::new(User::new(id))).await.expect("set");
            beside.get::<Arc<User>>(&tagged).await.expect("get").expect("it is there");
        }
    });
    let [mut a, mut b, mut c] = [(); 3].map(|()| load.asked());
    vec![
        Contestant::work("larder, tagged entries beside", move || {
            ready(beside.get::<Arc<User>>(a()))
        }),
        Contestant::work(NEVER, move || ready(never.get::<Arc<User>>(b()))),
        Contestant::work("quick_cache::sync (no tags, no expiry)", move || quick.get(c())),
    ]
}

fn cache(load: &Load) -> AsyncCacheWrapper {
    let cache = AsyncCacheWrapper::new("memory").expect("memory");
    let blocking = cache.blocking();
    for (id, key) in load.keys.iter().enumerate() {
        blocking.ttl(TTL).set(key, Arc::new(User::new(id))).expect("set");
    }
    cache
}
