//! Memory: hits, misses, mixes, sizes and hit ratios.

mod bytes;
mod hits;
mod loads;
mod mixed;
mod ratios;
mod sizes;
mod tags;

use crate::run::Run;
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

const TTL: Duration = Duration::from_secs(3_600);

pub(crate) fn run(run: &mut Run) {
    fastrand::seed(7);
    hits::run(run);
    bytes::run(run);
    loads::run(run);
    mixed::run(run);
    ratios::run(run);
    sizes::run(run);
    tags::run(run);
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct User {
    id: u64,
    name: String,
    mail: String,
    age: u32,
    active: bool,
}

impl User {
    fn new(id: usize) -> Self {
        Self {
            id: id as u64,
            name: format!("user {id}"),
            mail: format!("user{id}@example.org"),
            age: 42,
            active: true,
        }
    }
}

/// Per-entry expiry for moka, as larder has it.
struct Hour;

impl<K, V> moka::Expiry<K, V> for Hour {
    fn expire_after_create(&self, _: &K, _: &V, _: Instant) -> Option<Duration> {
        Some(TTL)
    }
}

/// Which keys are asked for, in which order.
pub(crate) struct Load {
    keys: Vec<String>,
    order: Vec<usize>,
}

impl Load {
    const GETS: usize = 1 << 18;

    pub(crate) fn uniform(count: usize) -> Self {
        Self {
            keys: keys(count),
            order: (0..Self::GETS).map(|_| fastrand::usize(..count)).collect(),
        }
    }

    pub(crate) fn zipf(count: usize, skew: f64) -> Self {
        let zipf = Zipf::new(count, skew);
        Self { keys: keys(count), order: (0..Self::GETS).map(|_| zipf.next()).collect() }
    }

    /// The key at a place of the order, which goes round.
    #[cfg(feature = "remote")]
    pub(crate) fn at(&self, place: usize) -> &str {
        &self.keys[self.order[place % self.order.len()]]
    }

    /// One key after the other, without end.
    pub(crate) fn asked<'a>(&'a self) -> impl FnMut() -> &'a str {
        let mut order = self.order.iter().cycle();
        move || order.next().map_or("", |at| self.keys[*at].as_str())
    }
}

fn keys(count: usize) -> Vec<String> {
    (0..count).map(|key| format!("some/key/{key}")).collect()
}

struct Zipf(Vec<f64>);

impl Zipf {
    fn new(count: usize, skew: f64) -> Self {
        let mut sum = 0.0;
        Self(
            (1..=count)
                .map(|rank| (rank as f64).powf(-skew))
                .map(|weight| {
                    sum += weight;
                    sum
                })
                .collect(),
        )
    }

    fn next(&self) -> usize {
        let total = self.0.last().copied().unwrap_or_default();
        let point = fastrand::f64() * total;
        self.0.partition_point(|sum| *sum < point).min(self.0.len() - 1)
    }
}

/// Ready futures need no runtime: one poll, the same for everybody.
pub(crate) fn ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a hit in memory is ready at once"),
    }
}
