//! Random calls of two nodes in turn, each with a near level before the same store, beside a memory
//! cache that says what is true: what is read near was true less than the bound ago, and all else is
//! exact.

use super::near;
use crate::claims::Shared;
use crate::everywhere::on_each_store;
use crate::trials::{rng, trials};
use fastrand::Rng;
use larder::layers::Tiered;
use larder::testing::{Fault, FaultyAdapter, Verb};
use larder::{
    AsyncCacheAdapter, AsyncCacheWrapper, AsyncMemoryCache, ErrorKind, Expiry, Loaded, Result, View,
};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

on_each_store!(no_call_of_two_nodes_sees_what_was_superseded_before_the_bound);

const BOUND: Duration = Duration::from_millis(100);
const HOUR: Duration = Duration::from_secs(3_600);
const KEYS: [&str; 4] = ["a", "b", "é*[b]?", "a longer key, which is in no cache line"];
const TAGS: [&str; 3] = ["user:7", "all", "é"];
const NAMESPACE: &str = "ns";

async fn no_call_of_two_nodes_sees_what_was_superseded_before_the_bound(shared: Shared) {
    two_nodes([(); 2].map(|()| shared.near("near_bound=100ms"))).await;
}

/// A memory cache whose reads wait, as those of a store do that is not in this process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_of_two_nodes_before_memory_sees_what_was_superseded_before_the_bound() {
    let far = Arc::new(FaultyAdapter::new(AsyncMemoryCache::builder().encoded().build()));
    far.put(Verb::Get, Fault::Delay(Duration::ZERO));
    let node = || Tiered::builder(far.clone() as Arc<dyn AsyncCacheAdapter>).near_bound(BOUND);
    two_nodes([(); 2].map(|()| AsyncCacheWrapper::new(node().build()).unwrap())).await;
}

/// A call, and the node that makes it.
#[derive(Clone, Copy, Debug)]
struct Act {
    node: usize,
    verb: u8,
    keys: [&'static str; 2],
    tags: [&'static str; 2],
    /// What is written: another number for each call.
    number: i64,
    by: i64,
    life: Expiry,
    scoped: bool,
}

impl Act {
    fn any(rng: &mut Rng, number: i64) -> Self {
        let key = |rng: &mut Rng| KEYS[rng.usize(..KEYS.len())];
        let tag = |rng: &mut Rng| TAGS[rng.usize(..TAGS.len())];
        Self {
            node: rng.usize(..2),
            verb: rng.u8(..READS + WRITES + LOADS),
            keys: [key(rng), key(rng)],
            tags: [tag(rng), tag(rng)],
            number,
            by: rng.i64(-5..5),
            life: [Expiry::Never, HOUR.into(), Duration::ZERO.into()][rng.usize(..3)],
            scoped: rng.bool(),
        }
    }

    fn on(&self, cache: &AsyncCacheWrapper) -> AsyncCacheWrapper {
        if self.scoped { cache.namespace(NAMESPACE) } else { cache.clone() }
    }

    /// The cache with the tags of a load.
    fn with_tags(&self, cache: &AsyncCacheWrapper) -> AsyncCacheWrapper {
        if self.by < 0 { cache.tags(self.tags).into_cache() } else { cache.clone() }
    }

    /// The tags of what the call stores.
    fn tags_given(&self) -> Vec<&'static str> {
        let gives = match self.verb.checked_sub(READS) {
            Some(19) => self.by != 0,
            Some(20..=23 | 25) => true,
            Some(WRITES..) => self.by < 0,
            _ => false,
        };
        if gives { self.tags.to_vec() } else { Vec::new() }
    }

    fn removes_tag(&self) -> bool {
        self.verb == READS + 24
    }

    fn whole(&self, key: &str) -> String {
        if self.scoped { format!("{NAMESPACE}:{key}") } else { key.to_owned() }
    }
}

fn said(answer: Result<impl Debug>) -> String {
    format!("{:?}", answer.map_err(|error| error.kind()))
}

// ---- reads that may be near

const READS: u8 = 14;

/// What a node finds under each of some keys.
async fn read(act: &Act, cache: &AsyncCacheWrapper) -> Vec<Option<i64>> {
    let Act { keys, .. } = *act;
    let key = keys[0];
    let one = |found: Result<Option<i64>>| vec![found.unwrap()];
    match act.verb {
        0..5 => one(cache.get(key).await),
        5 => {
            one(cache.get_or(key, i64::MIN).await.map(|found| (found != i64::MIN).then_some(found)))
        }
        6 => match cache.get_or_fail(key).await {
            Err(error) if error.kind() == ErrorKind::NotFound => vec![None],
            found => one(found.map(Some)),
        },
        7 | 8 => cache.get_many(keys).await.unwrap(),
        9 => {
            let cache = cache.blocking();
            one(tokio::task::spawn_blocking(move || cache.get(key)).await.unwrap())
        }
        10 => one(cache.idle(HOUR).get(key).await),
        11 => one(cache.view().allow_stale().get(key).await),
        // Of another type than it was written: the near value is decoded anew.
        12 => one(cache.get::<Option<i64>>(key).await.map(Option::flatten)),
        _ => cache.view().get_many(keys).await.unwrap(),
    }
}

// ---- calls that are answered by the far store, and by the memory cache alike

const WRITES: u8 = 26;

/// Makes the call, and says what it has answered.
async fn call(act: &Act, cache: &AsyncCacheWrapper) -> String {
    let Act { keys, tags, number, by, life, .. } = *act;
    let key = keys[0];
    match act.verb - READS {
        0 => said(cache.contains(key).await),
        1 => said(cache.expiry(key).await.map(|found| found.is_some())),
        2 => said(cache.view().skip_near().get::<i64>(key).await),
        3 => said(cache.view().skip_near().get_many::<i64, _>(keys).await),
        4 | 5 => said(cache.ttl(life).set(key, number).await),
        6 => said(cache.set_many(keys.map(|key| (key, number))).await),
        7 => said(cache.set_each([(key, number, life), (keys[1], number, HOUR.into())]).await),
        8 => said(cache.add(key, number).await),
        9 => said(cache.replace(key, number).await),
        10 => said(cache.incr(key, by).await),
        11 => said(cache.decr(key, by).await),
        12 | 13 => said(cache.remove(key).await),
        14 => said(cache.remove(keys).await),
        15 => said(cache.remove_many([key]).await),
        16 => said(cache.take::<i64>(key).await),
        17 => said(cache.touch(key, life).await),
        18 => said(cache.update_timeout::<i64>(key, life).await),
        19 if by == 0 => said(cache.clear().await),
        19 | 20 => said(cache.tags(tags).set(key, number).await),
        21 => said(cache.tags(tags).add(key, number).await),
        22 => said(cache.tags(tags).replace(key, number).await),
        23 => said(cache.tags(tags).set_many(keys.map(|key| (key, number))).await),
        24 => said(cache.remove_tags([tags[0]]).await),
        _ => said(cache.view().force_refresh().tags(tags).get_or_set(key, number).await),
    }
}

// ---- loads

const LOADS: u8 = 15;

/// What a load has answered; `None` if its loader failed.
async fn load(act: &Act, cache: View<'_>) -> Vec<Option<i64>> {
    let Act { keys, number, .. } = *act;
    let key = keys[0];
    let loaded = match act.verb - READS - WRITES {
        0 => cache.get_or_set(key, number).await,
        1 => cache.get_or_set_with(key, |_| number).await,
        2 => cache.try_get_or_set_with(key, |_| Ok::<_, String>(number)).await,
        3 | 4 => cache.get_or_set_async(key, async move { number }).await,
        5 => cache.get_or_load(key, || async move { number }).await,
        6 => cache.get_or_load_here(key, || async { number }).await,
        7 => cache.get_or_set_loaded_with(key, |_| Loaded::new(number).ttl(HOUR)).await,
        8 => cache.get_or_set_loaded_async(key, async move { Loaded::new(number) }).await,
        9 => cache.lease(HOUR).get_or_set_async(key, async move { number }).await,
        10 => {
            let loads = move |missing| async move { pairs(missing, number) };
            return cache.get_or_set_many_async(keys, loads).await.unwrap();
        }
        11 => {
            let loads = move |missing| async move { Ok::<_, String>(pairs(missing, number)) };
            return cache.try_get_or_set_many_async(keys, loads).await.unwrap();
        }
        12 => cache.try_get_or_set_async(key, async { Err("it fails") }).await,
        13 => cache.try_get_or_load(key, || async { Err("it fails") }).await,
        _ => cache.try_get_or_load_here(key, || async { Err("it fails") }).await,
    };
    match loaded {
        Err(error) if error.kind() == ErrorKind::Load => vec![None],
        loaded => vec![Some(loaded.unwrap())],
    }
}

fn pairs(missing: Vec<String>, number: i64) -> Vec<(String, i64)> {
    missing.into_iter().map(|key| (key, number)).collect()
}

// ---- what is true, and what was

/// A state of a key: a number, or none.
struct State {
    value: Option<i64>,
    tags: Vec<&'static str>,
    /// The nodes that have removed one of the tags.
    removed_by: [bool; 2],
    /// When the call that put another in its place had returned.
    superseded: Option<Instant>,
}

impl State {
    fn new(value: Option<i64>, tags: Vec<&'static str>) -> Self {
        Self { value, tags, removed_by: [false; 2], superseded: None }
    }
}

struct History {
    truth: AsyncCacheWrapper,
    /// The states of each key in their order.
    states: BTreeMap<String, Vec<State>>,
    /// The oldest state that each node may see of each key: it has seen this one, or made it.
    oldest: [BTreeMap<String, usize>; 2],
    /// Answers that were true before, and no more.
    late: u64,
}

impl History {
    fn new() -> Self {
        let truth = AsyncCacheWrapper::new("memory").unwrap();
        let keys = KEYS.iter().flat_map(|key| [key.to_string(), format!("{NAMESPACE}:{key}")]);
        let states = keys.map(|key| (key, vec![State::new(None, Vec::new())])).collect();
        Self { truth, states, oldest: Default::default(), late: 0 }
    }

    /// Notes what a call has changed that has returned, and that its node sees it.
    async fn changed(&mut self, act: &Act) {
        let returned = Instant::now();
        for (key, states) in &mut self.states {
            let value = self.truth.get(key).await.unwrap();
            let last = states.last_mut().unwrap();
            if last.value != value {
                last.superseded = Some(returned);
                states.push(State::new(value, act.tags_given()));
                // A node that has removed a tag knows nothing of the entries that had it.
                if !act.removes_tag() {
                    self.oldest[act.node].insert(key.clone(), states.len() - 1);
                }
            }
            if act.removes_tag() && act.scoped == key.starts_with(NAMESPACE) {
                let tagged = states.iter_mut().filter(|state| state.tags.contains(&act.tags[0]));
                tagged.for_each(|state| state.removed_by[act.node] = true);
            }
        }
    }

    /// Checks an answer to a read that began at that time.
    fn check(&mut self, node: usize, key: String, found: Option<i64>, begun: Instant) {
        let (states, oldest) = (&self.states[&key], self.oldest[node].get(&key).copied());
        let is_possible = |(at, state): &(usize, &State)| {
            let is_recent = state.superseded.is_none_or(|returned| begun < returned + BOUND);
            let is_visible = *at >= oldest.unwrap_or(0) && !state.removed_by[node];
            state.value == found && is_visible && is_recent
        };
        let Some((seen, _)) = states.iter().enumerate().find(is_possible) else {
            let last = states.iter().rev().take(5).map(|state| {
                (
                    state.value,
                    state.superseded.map(|returned| begun.saturating_duration_since(returned)),
                )
            });
            panic!("node {node} found {found:?} under {key:?}: {:?}", last.collect::<Vec<_>>());
        };
        if states.last().is_some_and(|state| state.value != found) {
            self.late += 1;
        }
        self.oldest[node].insert(key, seen);
    }

    fn is_true(&self, key: &str) -> Option<i64> {
        self.states[key].last().and_then(|state| state.value)
    }

    /// Makes a call on a node, and checks what it answers.
    async fn make(&mut self, act: &Act, nodes: &[AsyncCacheWrapper; 2]) {
        let (cache, begun) = (act.on(&nodes[act.node]), Instant::now());
        let keys = act.keys.map(|key| act.whole(key));
        if act.verb < READS {
            for (key, found) in keys.into_iter().zip(read(act, &cache).await) {
                self.check(act.node, key, found, begun);
            }
        } else if act.verb < READS + WRITES {
            let ours = call(act, &cache).await;
            assert_eq!(ours, call(act, &act.on(&self.truth)).await);
            self.changed(act).await;
        } else {
            let loaded = load(act, act.with_tags(&cache).view()).await;
            for (key, found) in keys.into_iter().zip(loaded) {
                match found {
                    // Each key of a batch is loaded once.
                    Some(number) if number == act.number => {
                        let is_new = self.is_true(&key).is_none_or(|last| last == number);
                        assert!(is_new, "a loader has run for {key:?}: {:?}", self.is_true(&key));
                        let key = act.keys.into_iter().find(|own| act.whole(own) == key).unwrap();
                        let truth = act.with_tags(&act.on(&self.truth));
                        truth.set(key, number).await.unwrap();
                        self.changed(act).await;
                    }
                    None => assert_eq!(self.is_true(&key), None, "a loader has run for {key:?}"),
                    found => self.check(act.node, key, found, begun),
                }
            }
        }
    }
}

async fn two_nodes(nodes: [AsyncCacheWrapper; 2]) {
    let (mut rng, mut history, mut last) = (rng("two nodes"), History::new(), Last::default());
    for cache in nodes.iter().chain([&history.truth]) {
        // A process that has met tags knows which entries are dead that it removes.
        cache.tags(["met"]).set("met", 0i64).await.unwrap();
        cache.clear().await.unwrap();
    }
    for number in 0..trials(2_000, 100_000) as i64 {
        let act = Act::any(&mut rng, 1_000_000 + number * 1_000);
        last.note(act);
        history.make(&act, &nodes).await;
        if rng.u8(..20) == 0 {
            tokio::time::sleep(Duration::from_millis(rng.u64(..40))).await;
        }
    }
    let [one, other] = nodes.each_ref().map(near);
    println!("{} answers were late; {one}; {other}", history.late);
    assert!(one.kept > 0 && other.kept > 0);
}

/// The last calls, shown if one of them fails.
#[derive(Default)]
struct Last(VecDeque<Act>);

impl Last {
    fn note(&mut self, act: Act) {
        self.0.push_back(act);
        if self.0.len() > 12 {
            self.0.pop_front();
        }
    }
}

impl Drop for Last {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("after {:#?}", self.0);
        }
    }
}
