//! The near level: the core with the store of near values, the clock, the counters and the sweep.

use super::builder::{Settings, nanos};
use super::core::{Changed, Core, Forgotten, Near, Proof, Rules, Source};
use super::landed::Waiting;
use crate::adapters::memory::near::{self, Dropped, NearStore, Sweeper, Sweeps, Weighed};
use crate::event::EventKind;
use crate::observers::{EventSink, EventsApart, OwnedEvent};
use crate::runtime::lock;
use crate::stats::{NearCounters, NearStats};
use crate::value::CacheValue;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;

impl Near for NearStore {
    type Value = Weighed;
    type Gone = Dropped;

    fn keep(&self, key: &str, value: Weighed, source: u16, deadline: u64) -> Dropped {
        Self::keep(self, key, value, source, deadline)
    }

    fn remove(&self, key: &str) -> Option<Dropped> {
        Self::remove(self, key)
    }

    fn remove_below(&self, prefix: &str) -> u64 {
        Self::remove_below(self, prefix)
    }

    fn relabel(&self, new: &dyn Fn(u16, u64) -> (u16, u64)) {
        Self::relabel(self, new);
    }
}

pub(super) struct Level {
    pub(super) core: Core<NearStore, Waiting>,
    pub(super) counters: NearCounters,
    events: Arc<EventsApart>,
    backend: Arc<str>,
    sweeper: Sweeper,
    /// What sources have forgotten. The sweep drops it: the `Drop` of a value is a user's code, and
    /// must not hold up the stream of a source.
    forgotten: Mutex<Vec<Dropped>>,
    /// Who waits until a hit wants a source confirmed, by the source's number.
    renewals: Mutex<HashMap<u16, Arc<Notify>>>,
    /// Sources that have ended and have no successor yet.
    missing: AtomicU64,
}

impl Level {
    pub(super) fn new(settings: &Settings, backend: &str) -> Self {
        Self {
            core: Core::new(settings.near.near_store(), settings.bounds(), Rules::default()),
            counters: NearCounters::default(),
            events: EventsApart::new(Arc::default()),
            backend: backend.into(),
            sweeper: Sweeper::default(),
            forgotten: Mutex::default(),
            renewals: Mutex::default(),
            missing: AtomicU64::new(0),
        }
    }

    /// Calls `look` with the value near under `key`, if it may be served now. `look` runs under the
    /// lock of a shard. Returns whether it was called.
    #[inline]
    pub(super) fn look(&self, key: &str, look: impl FnOnce(&CacheValue)) -> bool {
        let mut proof = None;
        let found = self.serve(key, |of| proof = Some(of), look);
        if let Some((source, proof)) = proof {
            if !proof.is_proven {
                self.counters.late_proofs.fetch_add(1, Ordering::Relaxed);
            }
            if proof.wants_renewal {
                self.want(source);
            }
        }
        found
    }

    /// The value near under `key`, if it may be served now.
    pub(super) fn get(&self, key: &str) -> Option<CacheValue> {
        let mut found = None;
        self.look(key, |value| found = Some(value.clone()));
        found
    }

    /// The value near under `key` that was proven less than `stale_for` ago. What asks for it serves
    /// it as stale.
    pub(super) fn get_unproven(&self, key: &str, stale_for: Duration) -> Option<CacheValue> {
        let (now, stale_for) = (near::now(), nanos(stale_for));
        let take = |value: &CacheValue, source, deadline| {
            self.core.may_serve_stale(source, deadline, now, stale_for).then(|| value.clone())
        };
        self.core.near().look_past(key, take).flatten()
    }

    /// [`get`](Self::get) once more, after a read has begun: a read of another caller may have ended
    /// between the first look and the begin. What the proof asks for was done at the first look.
    pub(super) fn get_again(&self, key: &str) -> Option<CacheValue> {
        let mut found = None;
        self.serve(key, |_| (), |value| found = Some(value.clone()));
        found
    }

    /// Calls `look` with the value near under `key` if it may be served, and before that `judged`
    /// with the number of its source and its proof.
    #[inline]
    fn serve(
        &self,
        key: &str,
        judged: impl FnOnce((u16, Proof)),
        look: impl FnOnce(&CacheValue),
    ) -> bool {
        let now = near::recent();
        let may_serve = |source| {
            let proof = self.core.may_serve(source, now);
            judged((source, proof));
            proof.is_proven
        };
        self.core.near().look(key, now, may_serve, look)
    }

    pub(super) fn len(&self) -> usize {
        self.core.near().len()
    }

    pub(super) fn stats(&self) -> NearStats {
        self.counters.snapshot()
    }

    pub(super) fn subscribe(&self, sink: EventSink) {
        self.events.sinks().add(sink);
    }

    /// Starts the sweep, which ends with the level, and starts again in the child of a fork.
    pub(super) fn start_sweep(self: &Arc<Self>) {
        self.sweeper.start_here(self);
    }

    // ---- own writes

    /// Begins a write of this process, which ends when the guard is dropped: before the write
    /// returns, or with its future.
    pub(super) fn write<'a>(&'a self, key: &'a str) -> OwnWrite<'a> {
        OwnWrite::begin(self, Changed::Key(key))
    }

    pub(super) fn write_all<'a>(
        &'a self,
        keys: impl Iterator<Item = &'a str>,
    ) -> Vec<OwnWrite<'a>> {
        keys.map(|key| self.write(key)).collect()
    }

    pub(super) fn clear<'a>(&'a self, prefix: &'a str) -> OwnWrite<'a> {
        OwnWrite::begin(self, Changed::Below(prefix))
    }

    /// Counts what has left the near level.
    fn count(&self, forgotten: Forgotten<Dropped>) -> Option<Dropped> {
        if forgotten.count > 0 {
            self.counters.forgotten.fetch_add(forgotten.count, Ordering::Relaxed);
        }
        forgotten.gone
    }

    // ---- sources

    /// A source tells that a key may have changed.
    pub(super) fn forget(&self, key: &str) {
        let gone = self.count(self.core.forget(key));
        lock(&self.forgotten).extend(gone);
    }

    /// A source tells that all keys with a prefix may have changed.
    pub(super) fn forget_prefix(&self, prefix: &str) {
        let gone = self.count(self.core.forget_prefix(prefix));
        lock(&self.forgotten).extend(gone);
    }

    /// Opens a source, and returns who waits until it is wanted.
    pub(super) fn open(&self) -> Option<(Source, Arc<Notify>)> {
        let source = self.core.open()?;
        let renewal = Arc::new(Notify::new());
        lock(&self.renewals).insert(source.id().number, renewal.clone());
        let one_less = |missing: u64| missing.checked_sub(1);
        if self.missing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok() {
            self.emit(EventKind::NearBack);
        }
        Some((source, renewal))
    }

    pub(super) fn end(&self, source: Source) {
        lock(&self.renewals).remove(&source.id().number);
        // The clock of the hits: a later hit reads this time, or a later one.
        self.core.end(source, near::recent());
        self.counters.lost_sources.fetch_add(1, Ordering::Relaxed);
        self.missing.fetch_add(1, Ordering::Relaxed);
        self.emit(EventKind::NearLost);
    }

    /// Has a source confirmed.
    #[cold]
    fn want(&self, source: u16) {
        if let Some(renewal) = lock(&self.renewals).get(&source) {
            renewal.notify_one();
        }
    }

    fn emit(&self, kind: EventKind) {
        let backend = self.backend.clone();
        self.events.emit(OwnedEvent { kind, backend, op: None, error: None });
    }
}

impl Drop for Level {
    /// Who waits until a source is wanted learns that none is any more.
    fn drop(&mut self) {
        lock(&self.renewals).values().for_each(|renewal| renewal.notify_one());
    }
}

impl Sweeps for Level {
    fn is_sweep_due(&self) -> bool {
        self.core.near().is_sweep_due()
            || self.core.is_sweep_due()
            || !lock(&self.forgotten).is_empty()
    }

    fn sweep(&self) {
        // Taken out first: no lock is held while values are dropped.
        let forgotten = std::mem::take(&mut *lock(&self.forgotten));
        drop(forgotten);
        self.core.sweep();
        self.core.near().sweep();
    }
}

/// A write of this process, from before it is sent until before it returns.
#[must_use = "the write ends when this is dropped"]
pub(super) struct OwnWrite<'a> {
    level: &'a Level,
    changed: Changed<'a>,
}

impl<'a> OwnWrite<'a> {
    fn begin(level: &'a Level, changed: Changed<'a>) -> Self {
        drop(level.count(level.core.begin_write(changed)));
        Self { level, changed }
    }
}

impl Drop for OwnWrite<'_> {
    fn drop(&mut self) {
        drop(self.level.count(self.level.core.end_write(self.changed)));
    }
}
