//! Writes of one key, made one after another through different faces of a cache and around swaps of
//! its adapter, some of them dropped half-way: the key ends as the calls say, in their order.

use super::on_each_store;
use crate::claims::Shared;
use crate::trials::{rng, trials};
use larder::{AsyncCacheAdapter, AsyncCacheWrapper, AsyncMemoryCache, Result};
use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

on_each_store!(writes_end_in_the_order_of_their_calls);

const KEY: &str = "k";
/// Room for what is served and what is written in one trial.
const MOST_STEPS: usize = 10;
const HOUR: Duration = Duration::from_secs(3_600);

/// A call that may change the key.
#[derive(Clone, Copy, Debug)]
enum Write {
    Set(i64),
    SetMany(i64),
    Add(i64),
    Replace(i64),
    Incr(i64),
    Update(i64),
    Remove,
    RemoveMany,
    Take,
    Clear,
}

impl Write {
    fn any(random: &mut fastrand::Rng, number: i64) -> Self {
        match random.u8(..14) {
            0..=3 => Self::Set(number),
            4 => Self::SetMany(number),
            5 => Self::Add(number),
            6 => Self::Replace(number),
            7 => Self::Incr(number),
            8 => Self::Update(number),
            9 | 10 => Self::Remove,
            11 => Self::RemoveMany,
            12 => Self::Take,
            _ => Self::Clear,
        }
    }

    /// What the key holds after the call.
    fn after(self, before: Option<i64>) -> Option<i64> {
        match self {
            Self::Set(number) | Self::SetMany(number) | Self::Update(number) => Some(number),
            Self::Add(number) => before.or(Some(number)),
            Self::Replace(number) => before.and(Some(number)),
            Self::Incr(number) => Some(before.unwrap_or(0) + number),
            Self::Remove | Self::RemoveMany | Self::Take | Self::Clear => None,
        }
    }

    async fn on(self, cache: AsyncCacheWrapper, face: Face) -> Result<()> {
        let view = if face == Face::View { cache.ttl(HOUR) } else { cache.view() };
        match self {
            Self::Set(number) => view.set(KEY, number).await,
            Self::SetMany(number) => view.set_many([(KEY, number), ("other", 0)]).await,
            Self::Add(number) => view.add(KEY, number).await.map(drop),
            Self::Replace(number) => view.replace(KEY, number).await.map(drop),
            Self::Incr(number) => view.incr(KEY, number).await.map(drop),
            Self::Update(number) => {
                view.force_refresh().get_or_set_with(KEY, |_| number).await.map(drop)
            }
            Self::Remove => view.remove(KEY).await.map(drop),
            Self::RemoveMany => view.remove_many([KEY, "other"]).await.map(drop),
            Self::Take => view.take::<i64>(KEY).await.map(drop),
            Self::Clear => view.clear().await,
        }
    }

    fn on_blocking(self, cache: &AsyncCacheWrapper) -> Result<()> {
        let cache = cache.blocking();
        match self {
            Self::Set(number) => cache.set(KEY, number),
            Self::SetMany(number) => cache.set_many([(KEY, number), ("other", 0)]),
            Self::Add(number) => cache.add(KEY, number).map(drop),
            Self::Replace(number) => cache.replace(KEY, number).map(drop),
            Self::Incr(number) => cache.ttl(HOUR).incr(KEY, number).map(drop),
            Self::Update(number) => {
                cache.force_refresh().get_or_set_with(KEY, |_| number).map(drop)
            }
            Self::Remove => cache.remove(KEY).map(drop),
            Self::RemoveMany => cache.remove_many([KEY, "other"]).map(drop),
            Self::Take => cache.view().take::<i64>(KEY).map(drop),
            Self::Clear => cache.clear(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Face {
    Cache,
    View,
    Blocking,
}

/// What a step does with its adapter and its call.
#[derive(Clone, Copy, Debug)]
struct Step {
    write: Write,
    face: Face,
    /// How often the call is polled before it is dropped; `None`: to its end.
    polls: Option<u8>,
    /// The adapter is exchanged for itself before the call.
    swaps: bool,
}

impl Step {
    fn any(random: &mut fastrand::Rng, number: i64, may_block: bool) -> Self {
        let faces = if may_block { 3 } else { 2 };
        let face = [Face::Cache, Face::View, Face::Blocking][random.usize(..faces)];
        let is_dropped = face != Face::Blocking && random.u8(..3) == 0;
        Self {
            write: Write::any(random, number),
            face,
            polls: is_dropped.then(|| random.u8(1..6)),
            swaps: random.u8(..4) == 0,
        }
    }
}

/// Polls a call a few times, and drops it. Whether it has ended.
async fn ends_in(polls: u8, call: impl Future<Output = Result<()>>) -> bool {
    let mut call = pin!(call);
    for _ in 0..polls {
        match call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(ended) => {
                ended.unwrap();
                return true;
            }
            Poll::Pending if fastrand::bool() => tokio::task::yield_now().await,
            Poll::Pending => tokio::time::sleep(Duration::from_micros(50)).await,
        }
    }
    false
}

/// What the key may hold. A call that was dropped took effect or not, or does so before the next
/// call does.
struct Possible(BTreeSet<Option<i64>>);

impl Possible {
    fn ends(&mut self, write: Write) {
        self.0 = self.0.iter().map(|before| write.after(*before)).collect();
    }

    fn is_dropped(&mut self, write: Write) {
        let after: Vec<_> = self.0.iter().map(|before| write.after(*before)).collect();
        self.0.extend(after);
    }
}

/// The blocking face has a runtime, and so connections, of its own: a server may get what was
/// dropped on another runtime after its calls. Where a store has connections for each runtime, the
/// blocking face writes only where no dropped call is left.
async fn writes_in_order(cache: AsyncCacheWrapper, has_runtimes: bool, trials: usize) {
    let mut random = rng("writes_in_order");
    let mut dropped = 0;
    for trial in 0..trials {
        cache.remove(KEY).await.unwrap();
        let (mut possible, mut is_settled) = (Possible(BTreeSet::from([None])), true);
        let mut steps = Vec::new();
        for number in 0..random.usize(2..MOST_STEPS) {
            let may_block = is_settled || !has_runtimes;
            let step = Step::any(&mut random, 1 + number as i64, may_block);
            steps.push(step);
            if step.swaps {
                cache.set_adapter(cache.adapter().unwrap()).unwrap();
            }
            let call = cache.clone();
            let has_ended = match (step.face, step.polls) {
                (Face::Blocking, _) => {
                    let write = move || step.write.on_blocking(&call);
                    tokio::task::spawn_blocking(write).await.unwrap().unwrap();
                    true
                }
                (face, Some(polls)) => ends_in(polls, step.write.on(call, face)).await,
                (face, None) => {
                    step.write.on(call, face).await.unwrap();
                    true
                }
            };
            if has_ended {
                possible.ends(step.write);
            } else {
                possible.is_dropped(step.write);
                dropped += 1;
            }
            is_settled = has_ended;
        }
        // The last call ends, so that nothing that was dropped is left.
        let last = Write::Set(1_000);
        let last = if random.bool() { last } else { Write::Remove };
        last.on(cache.clone(), Face::View).await.unwrap();
        possible.ends(last);
        for pause in [0, 0, 1] {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let found = cache.get::<i64>(KEY).await.unwrap();
            assert!(
                possible.0.contains(&found),
                "trial {trial}: {found:?} after {steps:?}, {last:?}"
            );
        }
    }
    println!("{trials} trials, {dropped} calls dropped");
    assert!(dropped > trials / 10, "{dropped} calls were dropped");
}

async fn writes_end_in_the_order_of_their_calls(shared: Shared) {
    let cache = shared.cache();
    let has_runtimes = cache.adapter().unwrap().backend() != "sqlite";
    writes_in_order(cache, has_runtimes, trials(300, 5_000)).await;
}

/// Memory never waits by itself: an adapter that yields does.
mod memory {
    use super::*;
    use larder::testing::{Fault, FaultyAdapter, Verb};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn writes_end_in_the_order_of_their_calls() {
        let adapter = Arc::new(FaultyAdapter::new(Arc::new(AsyncMemoryCache::new())));
        for verb in [Verb::Set, Verb::SetMany, Verb::Remove, Verb::SetClaimed, Verb::Clear] {
            adapter.put(verb, Fault::Delay(Duration::from_micros(20)));
        }
        let cache = AsyncCacheWrapper::new(adapter as Arc<dyn AsyncCacheAdapter>).unwrap();
        super::writes_in_order(cache, false, trials(300, 20_000)).await;
    }
}
