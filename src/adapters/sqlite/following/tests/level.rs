//! A near level that notes what it is told.

use super::eventually;
use crate::adapter::{AskedAt, AsyncCacheAdapter, Follower, OpensSources, SourceId, Vouches};
use crate::adapters::sqlite::AsyncSqliteCache;
use crate::runtime::lock;
use futures_util::future::BoxFuture;
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;
use tokio::sync::Notify;

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

pub(super) struct Level {
    state: Mutex<State>,
    wants: Arc<Notify>,
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
        Arc::new(Self { state: Mutex::default(), wants: Arc::default(), hears })
    }

    pub(super) fn in_front_of(cache: &AsyncSqliteCache) -> Arc<Self> {
        let level = Self::alone();
        assert!(cache.follow(level.follower()));
        level
    }

    pub(super) fn follower(self: &Arc<Self>) -> Follower {
        Follower::new(Arc::new(Opener(Arc::downgrade(self))))
    }

    /// How many sources are open.
    pub(super) fn open(&self) -> usize {
        lock(&self.state).open
    }

    pub(super) fn proofs(&self) -> usize {
        lock(&self.state).proofs
    }

    pub(super) fn want(&self) {
        self.wants.notify_one();
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

struct Opener(Weak<Level>);

impl OpensSources for Opener {
    fn open(&self) -> Option<Box<dyn Vouches>> {
        let level = self.0.upgrade()?;
        let mut state = lock(&level.state);
        state.open += 1;
        state.lives += 1;
        let id = SourceId { number: 1, life: state.lives };
        Some(Box::new(Voucher { level: self.0.clone(), wants: level.wants.clone(), id }))
    }

    fn is_gone(&self) -> bool {
        self.0.strong_count() == 0
    }
}

struct Voucher {
    level: Weak<Level>,
    wants: Arc<Notify>,
    id: SourceId,
}

impl Voucher {
    fn tell(&self, told: Told) {
        if let Some(level) = self.level.upgrade() {
            level.tell(told);
        }
    }
}

impl Vouches for Voucher {
    fn id(&self) -> SourceId {
        self.id
    }

    fn now(&self) -> AskedAt {
        AskedAt(now())
    }

    fn forget(&self, key: &str) {
        self.tell(Told::Key(key.to_owned()));
    }

    fn forget_prefix(&self, prefix: &str) {
        self.tell(Told::Below(prefix.to_owned()));
    }

    fn confirm(&self, AskedAt(asked_at): AskedAt) {
        let Some(level) = self.level.upgrade() else { return };
        let mut state = lock(&level.state);
        state.proofs += 1;
        state.proven = state.proven.max(asked_at);
        if let Some(hears) = &level.hears {
            hears.confirmed(self.id, asked_at);
        }
    }

    fn wanted(&self) -> BoxFuture<'_, bool> {
        Box::pin(async {
            self.wants.notified().await;
            true
        })
    }
}

impl Drop for Voucher {
    fn drop(&mut self) {
        self.tell(Told::Ended);
    }
}
