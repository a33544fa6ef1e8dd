//! A near level that notes what it is told.

use super::eventually;
use crate::adapter::{AskedAt, AsyncCacheAdapter, Recorder, Records, SourceId};
use crate::adapters::sqlite::AsyncSqliteCache;
use crate::runtime::lock;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// What a near level is told, apart from proofs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Key(String),
    Below(String),
    Ended,
}

/// Called for everything that is told, under the level's lock, so in the order of the stream.
pub(super) trait Hears: Send + Sync {
    fn told(&self, told: &Told);
    fn confirmed(&self, source: SourceId, asked_at: u64);
}

/// A near level that notes what it is told.
pub(super) type Level = Recorder<Notes>;

pub(super) struct Notes {
    state: Mutex<State>,
    hears: Option<Arc<dyn Hears>>,
}

#[derive(Default)]
struct State {
    told: Vec<Told>,
    open: usize,
    lives: u64,
    proofs: usize,
    proven: u64,
}

/// Microseconds by one monotonic clock.
pub(super) fn now() -> u64 {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    let start = *START;
    u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX) + 1
}

impl Level {
    pub(super) fn alone() -> Arc<Self> {
        Self::heard_by(None)
    }

    pub(super) fn heard_by(hears: Option<Arc<dyn Hears>>) -> Arc<Self> {
        Recorder::of(Notes { state: Mutex::default(), hears })
    }

    pub(super) fn in_front_of(cache: &AsyncSqliteCache) -> Arc<Self> {
        let level = Self::alone();
        assert!(cache.follow(level.follower()));
        level
    }

    /// How many sources are open.
    pub(super) fn open(&self) -> usize {
        lock(&self.state).open
    }

    pub(super) fn proofs(&self) -> usize {
        lock(&self.state).proofs
    }

    /// Waits for the proof of a question that is asked from now on, or for the end of a source.
    /// Returns what was told until then, and not returned before.
    pub(super) async fn until_proven(&self) -> Vec<Told> {
        let asked = now();
        self.want();
        eventually("a proof", async || {
            let state = lock(&self.state);
            state.proven >= asked || state.told.contains(&Told::Ended)
        })
        .await;
        std::mem::take(&mut lock(&self.state).told)
    }
}

impl Notes {
    fn tell(&self, told: Told) {
        let mut state = lock(&self.state);
        if told == Told::Ended {
            state.open -= 1;
        }
        if let Some(hears) = &self.hears {
            hears.told(&told);
        } else {
            state.told.push(told);
        }
    }
}

impl Records for Notes {
    fn opened(&self) -> Option<SourceId> {
        let mut state = lock(&self.state);
        state.open += 1;
        state.lives += 1;
        Some(SourceId { number: 1, life: state.lives })
    }

    fn now(&self) -> AskedAt {
        AskedAt(now())
    }

    fn forgot(&self, _: SourceId, key: &str) {
        self.tell(Told::Key(key.to_owned()));
    }

    fn forgot_below(&self, _: SourceId, prefix: &str) {
        self.tell(Told::Below(prefix.to_owned()));
    }

    fn confirmed(&self, source: SourceId, AskedAt(asked_at): AskedAt) {
        let mut state = lock(&self.state);
        state.proofs += 1;
        state.proven = state.proven.max(asked_at);
        if let Some(hears) = &self.hears {
            hears.confirmed(source, asked_at);
        }
    }

    fn ended(&self, _: SourceId) {
        self.tell(Told::Ended);
    }
}
