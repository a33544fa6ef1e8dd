//! Hits: of a shared object, of an owned one, on few keys and on many.

use super::{Hour, Load, TTL, User, ready};
use crate::figure::Unit;
use crate::goal::Goal;
use crate::line::{Contestant, Line};
use crate::run::Run;
use larder::{AsyncMemoryCache, async_adapter_set, async_cached, cached};
use std::sync::{Arc, LazyLock};

const ENTRIES: usize = 1 << 18;

pub(crate) fn run(run: &mut Run) {
    let quick = "quick_cache::sync";
    run.line(
        Line::new("memory/arc-hot", "memory, `get::<Arc<T>>` hit, 1k hot keys", Unit::Nanos)
            .goal(Goal::at_most_times(1.6, quick))
            .instructions()
            .note(NOTE),
        || shared(&HOT),
    );
    run.line(
        Line::new(
            "memory/arc-zipf",
            "memory, `get::<Arc<T>>` hit, 100k keys, Zipf 0.99",
            Unit::Nanos,
        )
        .goal(Goal::at_most_times(1.5, quick))
        .note(NOTE),
        || shared(&ZIPF),
    );
    run.line(
        Line::new("memory/owned-hot", "memory, owned five-field struct, 1k hot keys", Unit::Nanos)
            .goal(Goal::at_most_times(1.3, quick))
            .instructions()
            .note(NOTE),
        || owned(&HOT),
    );
    run.line(
        Line::new("memory/blocking-hot", "blocking face, memory hit, 1k hot keys", Unit::Nanos)
            .goal(Goal::at_most_more(10.0, "larder, async_cached().get")),
        || faces(&HOT, ["larder, cached().get (blocking)", "larder, async_cached().get"]),
    );
    run.line(
        Line::new("memory/get-or-set-hot", "`get_or_set_async`, hit, 1k hot keys", Unit::Nanos)
            .goal(Goal::at_most_more(10.0, "larder, async_cached().get")),
        || faces(&HOT, ["larder, get_or_set_async (hit)", "larder, async_cached().get"]),
    );
}

/// Those of the shared hits that are named.
fn faces<'a>(load: &'a Load, names: [&str; 2]) -> Vec<Contestant<'a>> {
    let mut all = shared(load);
    let mut named = |name| {
        all.iter().position(|contestant| contestant.name == name).map(|at| all.swap_remove(at))
    };
    names.into_iter().filter_map(&mut named).collect()
}

const NOTE: &str = "larder answers through the global, swappable, typed cache, entries with a deadline each. quick_cache has no expiry.";

static HOT: LazyLock<Load> = LazyLock::new(|| Load::uniform(1_000));
static ZIPF: LazyLock<Load> = LazyLock::new(|| Load::zipf(100_000, 0.99));

fn fresh() {
    async_adapter_set(
        AsyncMemoryCache::builder().max_entries(ENTRIES as u64).max_bytes(1 << 30).build(),
    )
    .expect("memory");
}

fn shared(load: &Load) -> Vec<Contestant<'_>> {
    fresh();
    let quick = quick_cache::sync::Cache::new(ENTRIES);
    let moka_sync =
        moka::sync::Cache::builder().max_capacity(ENTRIES as u64).expire_after(Hour).build();
    let moka_future =
        moka::future::Cache::builder().max_capacity(ENTRIES as u64).expire_after(Hour).build();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        for (id, key) in load.keys.iter().enumerate() {
            let user = Arc::new(User::new(id));
            async_cached().ttl(TTL).set(key, user.clone()).await.expect("set");
            quick.insert(key.clone(), user.clone());
            moka_sync.insert(key.clone(), user.clone());
            moka_future.insert(key.clone(), user).await;
        }
    });
    let [mut a, mut b, mut c, mut d, mut e, mut f] = [(); 6].map(|()| load.asked());
    vec![
        Contestant::work("larder, async_cached().get", move || {
            ready(async_cached().get::<Arc<User>>(a()))
        }),
        Contestant::work("larder, cached().get (blocking)", move || cached().get::<Arc<User>>(b())),
        Contestant::work("larder, get_or_set_async (hit)", move || {
            ready(async_cached().get_or_set_async(c(), async { Arc::new(User::new(0)) }))
        }),
        Contestant::work("quick_cache::sync (no expiry)", move || quick.get(d())),
        Contestant::work("moka::sync (per-entry expiry)", move || moka_sync.get(e())),
        Contestant::work("moka::future (per-entry expiry)", move || ready(moka_future.get(f()))),
    ]
}

fn owned(load: &Load) -> Vec<Contestant<'_>> {
    fresh();
    let quick = quick_cache::sync::Cache::new(ENTRIES);
    let moka_sync =
        moka::sync::Cache::builder().max_capacity(ENTRIES as u64).expire_after(Hour).build();
    for (id, key) in load.keys.iter().enumerate() {
        cached().ttl(TTL).set(key, User::new(id)).expect("set");
        quick.insert(key.clone(), User::new(id));
        moka_sync.insert(key.clone(), User::new(id));
    }
    let [mut a, mut b, mut c] = [(); 3].map(|()| load.asked());
    vec![
        Contestant::work("larder, async_cached().get", move || {
            ready(async_cached().get::<User>(a()))
        }),
        Contestant::work("quick_cache::sync (no expiry)", move || quick.get(b())),
        Contestant::work("moka::sync (per-entry expiry)", move || moka_sync.get(c())),
    ]
}
