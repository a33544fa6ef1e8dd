//! Stale values of stores that keep bytes, by the clock of the wall: what is stale, and who is
//! served it.

use super::{PATIENCE, on_each_store};
use crate::claims::Shared;
use crate::support::eventually;
use larder::{AsyncCacheWrapper, ErrorKind, Expiry, View};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

const HOUR: Duration = Duration::from_secs(3_600);
const SOON: Duration = Duration::from_millis(50);

on_each_store!(
    a_failing_fallback_is_served_stale_and_left_in_peace,
    what_is_stale_is_missing_for_every_other_verb,
    stale_values_are_missing_for_a_new_reader,
    one_add_of_many_strangers_replaces_what_is_stale,
    a_touch_by_a_stranger_moves_both_ends,
    a_soft_timeout_serves_what_is_stale_and_the_load_goes_on,
    a_hard_timeout_is_an_error_and_the_load_goes_on,
    a_refresh_ahead_keeps_nobody_waiting,
    an_early_refresh_serves_what_there_is_if_it_fails,
    a_removal_elsewhere_wins_over_a_refresh,
    what_is_fresh_is_served_while_another_process_holds_the_lease,
    what_is_stale_is_served_while_another_process_holds_the_lease,
);

/// Loaders that wait until they are let go.
#[derive(Clone)]
struct Gate(Arc<(Semaphore, AtomicU64)>);

impl Gate {
    fn closed() -> Self {
        Self(Arc::new((Semaphore::new(0), AtomicU64::new(0))))
    }

    /// A loader: it counts, waits, and gives `value`.
    fn load(&self, value: u64) -> impl Future<Output = u64> + Send + 'static {
        let gate = self.clone();
        async move {
            gate.0.1.fetch_add(1, Ordering::SeqCst);
            gate.0.0.acquire().await.unwrap().forget();
            value
        }
    }

    fn open(&self) {
        self.0.0.add_permits(1_000);
    }

    /// How many loaders have begun.
    fn begun(&self) -> u64 {
        self.0.1.load(Ordering::SeqCst)
    }
}

/// Short of life, and kept for an hour.
fn keeping(cache: &AsyncCacheWrapper) -> View<'_> {
    cache.ttl(SOON).stale_for(HOUR).throttle(HOUR)
}

/// A value that has expired and is kept.
async fn stale(cache: &AsyncCacheWrapper, key: &str) {
    keeping(cache).set(key, 1u64).await.unwrap();
    eventually("it expires", PATIENCE, || async { cache.get::<u64>(key).await.unwrap().is_none() })
        .await;
}

async fn becomes(cache: &AsyncCacheWrapper, key: &str, value: u64) {
    eventually("the load is stored", PATIENCE, || async {
        cache.get::<u64>(key).await.unwrap() == Some(value)
    })
    .await;
}

async fn failing(view: View<'_>, key: &str, runs: &Arc<AtomicU64>) -> larder::Result<u64> {
    let runs = runs.clone();
    let loader = async move {
        runs.fetch_add(1, Ordering::SeqCst);
        Err::<u64, _>("the source is away")
    };
    view.try_get_or_set_async(key, loader).await
}

async fn a_failing_fallback_is_served_stale_and_left_in_peace(shared: Shared) {
    let (cache, other, runs) = (shared.cache(), shared.cache(), Arc::new(AtomicU64::new(0)));
    assert_eq!(
        failing(keeping(&cache), "k", &runs).await.unwrap_err().kind(),
        ErrorKind::Load,
        "nothing stale is there"
    );
    assert_eq!(
        failing(keeping(&cache), "k", &runs).await.unwrap_err().kind(),
        ErrorKind::Load,
        "and the loader is not throttled"
    );
    assert_eq!(runs.swap(0, Ordering::SeqCst), 2);
    stale(&cache, "k").await;
    for _ in 0..20 {
        assert_eq!(failing(keeping(&cache), "k", &runs).await.unwrap(), 1);
    }
    assert_eq!(runs.load(Ordering::SeqCst), 1, "a window a process");
    assert_eq!((cache.stats().stale_hits, cache.stats().load_errors), (20, 3));
    assert_eq!(
        keeping(&other)
            .get_or_set_async("k", async { if true { panic!("on purpose") } else { 0u64 } })
            .await
            .unwrap(),
        1
    );
    assert_eq!(
        failing(cache.view(), "k", &runs).await.unwrap_err().kind(),
        ErrorKind::Load,
        "who does not ask for stale values gets none"
    );
    // A success ends the window, and is everybody's.
    assert_eq!(shared.cache().ttl(HOUR).stale_for(HOUR).get_or_set("k", 2u64).await.unwrap(), 2);
    assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(2));
}

async fn what_is_stale_is_missing_for_every_other_verb(shared: Shared) {
    let cache = shared.cache();
    for key in ["k", "r", "t", "a"] {
        stale(&cache, key).await;
    }
    assert_eq!(cache.allow_stale().get::<u64>("k").await.unwrap(), Some(1));
    assert_eq!(cache.get_many::<u64, _>(["k"]).await.unwrap(), [None]);
    assert!(!cache.contains("k").await.unwrap());
    assert_eq!(cache.expiry("k").await.unwrap(), None);
    assert!(!cache.touch("k", HOUR).await.unwrap() && !cache.replace("k", 2u64).await.unwrap());
    assert!(!cache.remove("r").await.unwrap());
    assert_eq!(cache.take::<u64>("t").await.unwrap(), None);
    assert!(cache.add("a", 2u64).await.unwrap() && !cache.add("a", 3u64).await.unwrap());
}

/// Every verb by an adapter and a cache that have seen nothing yet: a program that has just
/// started.
async fn stale_values_are_missing_for_a_new_reader(shared: Shared) {
    let owner = shared.cache();
    let keys =
        ["contains", "expiry", "touch", "update", "replace", "remove", "many", "take", "get"];
    for key in keys.into_iter().chain(["incr", "add", "n:k", "blocking", "view"]) {
        stale(&owner, key).await;
    }
    let new = || shared.cache();
    assert!(!new().contains("contains").await.unwrap());
    assert_eq!(new().expiry("expiry").await.unwrap(), None);
    assert!(!new().touch("touch", HOUR).await.unwrap());
    assert!(new().update_timeout::<u64>("update", HOUR).await.unwrap_err().is_not_found());
    assert!(!new().replace("replace", 2u64).await.unwrap());
    assert!(!new().remove("remove").await.unwrap());
    assert!(!new().remove(["many", "none"]).await.unwrap());
    assert_eq!(new().take::<u64>("take").await.unwrap(), None);
    assert_eq!(new().get::<u64>("get").await.unwrap(), None);
    assert_eq!(new().get_many::<u64, _>(["get"]).await.unwrap(), [None]);
    assert_eq!(new().incr("incr", 2).await.unwrap(), 2);
    assert!(new().add("add", 2u64).await.unwrap());
    assert!(!new().add("add", 3u64).await.unwrap());
    assert!(!new().namespace("n").contains("k").await.unwrap());
    assert!(!new().view().replace("view", 2u64).await.unwrap());
    let blocking = new().blocking();
    let removed = tokio::task::spawn_blocking(move || blocking.remove("blocking"));
    assert!(!removed.await.unwrap().unwrap());
    // Nothing of it revived or spoiled what is kept for a bad day.
    for key in ["contains", "expiry", "touch", "update", "replace", "get", "n:k", "view"] {
        assert_eq!(new().allow_stale().get::<u64>(key).await.unwrap(), Some(1), "{key}");
    }
    for key in ["remove", "many", "take", "blocking"] {
        assert_eq!(new().allow_stale().get::<u64>(key).await.unwrap(), None, "{key} was removed");
    }
}

async fn one_add_of_many_strangers_replaces_what_is_stale(shared: Shared) {
    for round in 0..8 {
        let key = format!("k{round}");
        stale(&shared.cache(), &key).await;
        let strangers = [shared.cache(), shared.cache()];
        let adds = (0..32u64).map(|number| {
            let (cache, key) = (strangers[number as usize % 2].clone(), key.clone());
            tokio::spawn(
                async move { cache.add(&key, 100 + number).await.unwrap().then_some(number) },
            )
        });
        let mut won = Vec::new();
        for add in adds.collect::<Vec<_>>() {
            won.extend(add.await.unwrap());
        }
        assert_eq!(won.len(), 1, "{won:?} of round {round}");
        let left = shared.cache().get::<u64>(&key).await.unwrap();
        assert_eq!(left, Some(100 + won[0]), "what was added is there");
    }
}

async fn a_touch_by_a_stranger_moves_both_ends(shared: Shared) {
    let owner = shared.cache();
    owner.ttl(HOUR).stale_for(HOUR).set("k", 1u64).await.unwrap();
    assert!(shared.cache().touch("k", 2 * HOUR).await.unwrap());
    let left = shared.cache().expiry("k").await.unwrap();
    let is_moved = matches!(left, Some(Expiry::After(left)) if left > HOUR && left <= 2 * HOUR);
    assert!(is_moved, "{left:?}");
    assert!(shared.cache().touch("k", SOON).await.unwrap());
    eventually("it expires", PATIENCE, || async { !shared.cache().contains("k").await.unwrap() })
        .await;
    let spare = shared.cache().allow_stale().get::<u64>("k").await.unwrap();
    assert_eq!(spare, Some(1), "and is kept as long after that as before");
}

async fn a_soft_timeout_serves_what_is_stale_and_the_load_goes_on(shared: Shared) {
    let cache = shared.cache();
    for (key, soft) in [("zero", Duration::ZERO), ("soft", SOON)] {
        let gate = Gate::closed();
        stale(&cache, key).await;
        for _ in 0..5 {
            let call =
                keeping(&cache).ttl(HOUR).soft_timeout(soft).get_or_set_async(key, gate.load(2));
            assert_eq!(call.await.unwrap(), 1, "the gate is closed");
        }
        eventually("the load begins", PATIENCE, || async { gate.begun() == 1 }).await;
        gate.open();
        becomes(&cache, key, 2).await;
        assert_eq!(gate.begun(), 1, "one load for all of them");
    }
}

async fn a_hard_timeout_is_an_error_and_the_load_goes_on(shared: Shared) {
    let (cache, gate) = (shared.cache(), Gate::closed());
    let call = cache.ttl(HOUR).hard_timeout(SOON).get_or_set_async("k", gate.load(2));
    assert_eq!(call.await.unwrap_err().kind(), ErrorKind::Timeout);
    gate.open();
    becomes(&cache, "k", 2).await;
    let gate = Gate::closed();
    stale(&cache, "s").await;
    let late = keeping(&cache).ttl(HOUR).hard_timeout(SOON);
    assert_eq!(
        late.get_or_set_async("s", gate.load(2)).await.unwrap(),
        1,
        "something stale is better than an error"
    );
    gate.open();
    becomes(&cache, "s", 2).await;
}

async fn a_refresh_ahead_keeps_nobody_waiting(shared: Shared) {
    let (cache, gate) = (shared.cache(), Gate::closed());
    // Due after 36 ms of an hour.
    let view = || cache.ttl(HOUR).refresh_ahead(0.000_01);
    view().set("k", 1u64).await.unwrap();
    eventually("it is due", PATIENCE, || async {
        assert_eq!(
            view().get_or_set_async("k", gate.load(2)).await.unwrap(),
            1,
            "the gate is closed"
        );
        gate.begun() == 1
    })
    .await;
    for _ in 0..20 {
        assert_eq!(view().get_or_set_async("k", gate.load(2)).await.unwrap(), 1);
    }
    assert_eq!(gate.begun(), 1, "one refresh for all");
    gate.open();
    becomes(&cache, "k", 2).await;
}

async fn an_early_refresh_serves_what_there_is_if_it_fails(shared: Shared) {
    let (cache, runs) = (shared.cache(), Arc::new(AtomicU64::new(0)));
    let view = || cache.ttl(HOUR).early_refresh(f64::INFINITY).throttle(HOUR);
    view().set("k", 1u64).await.unwrap();
    assert_eq!(
        view().get_or_set_async("k", async { 2u64 }).await.unwrap(),
        2,
        "infinite is always"
    );
    assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(2));
    for _ in 0..5 {
        assert_eq!(failing(view(), "k", &runs).await.unwrap(), 2);
    }
    assert_eq!(runs.load(Ordering::SeqCst), 1, "and then it is throttled");
    assert_eq!(
        cache.ttl(HOUR).early_refresh(0.0).get_or_set("k", 3u64).await.unwrap(),
        2,
        "0 is never"
    );
    assert_eq!(cache.view().skip_none().get_or_set("none", None::<u64>).await.unwrap(), None);
    assert!(!cache.contains("none").await.unwrap());
}

async fn a_removal_elsewhere_wins_over_a_refresh(shared: Shared) {
    let (cache, other, gate) = (shared.cache(), shared.cache(), Gate::closed());
    stale(&cache, "k").await;
    let view = keeping(&cache).soft_timeout(Duration::ZERO);
    assert_eq!(view.get_or_set_async("k", gate.load(2)).await.unwrap(), 1);
    eventually("the refresh begins", PATIENCE, || async { gate.begun() == 1 }).await;
    let waiting = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get_or_set_async("k", async { 3u64 }).await }
    });
    eventually("somebody waits for it", PATIENCE, || async { cache.stats().joined == 1 }).await;
    other.remove("k").await.unwrap();
    gate.open();
    assert_eq!(waiting.await.unwrap().unwrap(), 2);
    assert_eq!(
        keeping(&cache).allow_stale().get::<u64>("k").await.unwrap(),
        None,
        "its store does not undo the removal"
    );
}

/// Nor does a caller that refreshes early what has not expired.
async fn what_is_fresh_is_served_while_another_process_holds_the_lease(shared: Shared) {
    let (holder, other, gate) = (shared.cache(), shared.cache(), Gate::closed());
    holder.ttl(HOUR).set("k", 1u64).await.unwrap();
    let holding = tokio::spawn({
        let (holder, load) = (holder.clone(), gate.load(2));
        async move { holder.lease(HOUR).force_refresh().get_or_set_async("k", load).await }
    });
    eventually("the holder loads", PATIENCE, || async { gate.begun() == 1 }).await;
    let early = other.ttl(HOUR).lease(HOUR).early_refresh(f64::INFINITY);
    assert_eq!(early.get_or_set_async("k", gate.load(3)).await.unwrap(), 1);
    assert_eq!(early.get_or_set_with("k", |_| 3).await.unwrap(), 1);
    assert_eq!(early.get_or_load_here("k", || gate.load(3)).await.unwrap(), 1);
    gate.open();
    assert_eq!((holding.await.unwrap().unwrap(), gate.begun()), (2, 1));
    becomes(&other, "k", 2).await;
    assert_eq!(early.get_or_set_async("k", gate.load(3)).await.unwrap(), 3, "it is free");
}

/// A caller that accepts a stale value does not wait for the lease either.
async fn what_is_stale_is_served_while_another_process_holds_the_lease(shared: Shared) {
    let (holder, other, gate) =
        (shared.cache().with_lease(HOUR), shared.cache().with_lease(HOUR), Gate::closed());
    stale(&holder, "k").await;
    let serve = async |cache: &AsyncCacheWrapper| {
        keeping(cache)
            .ttl(HOUR)
            .soft_timeout(Duration::ZERO)
            .get_or_set_async("k", gate.load(2))
            .await
            .unwrap()
    };
    assert_eq!(serve(&holder).await, 1);
    eventually("the holder loads", PATIENCE, || async { gate.begun() == 1 }).await;
    for _ in 0..5 {
        assert_eq!(serve(&other).await, 1);
    }
    gate.open();
    becomes(&other, "k", 2).await;
    assert_eq!(
        (other.get_or_set_async("k", gate.load(3)).await.unwrap(), gate.begun()),
        (2, 1),
        "one load in both processes"
    );
}
