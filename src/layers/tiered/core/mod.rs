//! What may be served from the near level, and what may be kept there. No I/O, no tasks, and no
//! clock: `now` is an argument, in nanoseconds of one monotonic clock of this process.
//!
//! - `sources`: who vouches for near values, and until when
//! - `reads`: the far reads in flight, by stripe: who may join one, and which were voided
//! - `rules`: the rules, each of which the tests of the model switch off
//!
//! A value near is served while it is proven. Either its source vouches for it: the source has
//! answered a question that was sent less than the bound ago, and has invalidated before all that
//! had changed until then. Or nobody does, and it was read less than the bound ago.
//!
//! A value whose proof has ended stays. It is never served as fresh, but a caller that the far level
//! and the loader have failed may take it as stale, for a limited time after the end of its proof.

mod reads;
mod rules;
#[cfg(all(test, shuttle))]
mod schedules;
mod sources;
#[cfg(test)]
mod tests;

pub(super) use reads::{Begun, Joinable, Joining, Read};
pub(super) use rules::{Rule, Rules};
pub(super) use sources::{BY_AGE, Proof, Source};

use crate::adapter::SourceId;
use crate::sync::{Mutex, MutexGuard, lock};
use foldhash::quality::RandomState;
use reads::{Reads, Taken};
use sources::Sources;
use std::hash::BuildHasher;

const STRIPES: usize = if cfg!(shuttle) { 2 } else { 256 };

/// No end: the value of a time or of a life that lasts for ever.
pub(super) const NEVER: u64 = u64::MAX;

/// The store of the near values. It judges neither proof nor age: the core does.
pub(super) trait Near: Send + Sync {
    /// What is kept under a key.
    type Value;
    /// What a step has displaced. It is dropped while no lock is held.
    type Gone;

    /// Keeps a value until the deadline, in place of any older one.
    fn keep(&self, key: &str, value: Self::Value, source: u16, deadline: u64) -> Self::Gone;

    /// Removes a key.
    fn remove(&self, key: &str) -> Option<Self::Gone>;

    /// Removes the keys that begin with `prefix`, and returns how many. Values that are kept
    /// meanwhile may stay.
    fn remove_below(&self, prefix: &str) -> u64;

    /// Gives each value the source and the deadline that `new` makes of its own. Values that are
    /// kept meanwhile may stay as they are.
    fn relabel(&self, new: &dyn Fn(u16, u64) -> (u16, u64));
}

/// How long a near value is good, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// The oldest that a value may be which is served: the near bound, less the tick of the clock.
    pub(super) age: u64,
    /// The longest time for which a value is near, with a source or without.
    pub(super) ttl: u64,
}

/// What an own write changes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Changed<'a> {
    Key(&'a str),
    /// All keys that begin with this prefix.
    Below(&'a str),
}

/// The answer of the far level to a read.
#[derive(Debug)]
pub(super) enum Answer<V> {
    /// A value that may be kept near.
    Value {
        value: V,
        /// The rest of its life, counted from some time after the read was sent.
        left: u64,
        /// Who vouches for it; `None` if only its age does.
        source: Option<SourceId>,
    },
    /// Nothing, or a value that is not kept near: one that is too large.
    NotKept,
}

/// What has left the near level because its key changed, or may have.
#[derive(Debug)]
#[must_use]
pub(super) struct Forgotten<G> {
    /// The caller drops it.
    pub(super) gone: Option<G>,
    /// How many values left.
    pub(super) count: u64,
}

/// The end of a read.
#[derive(Debug)]
#[must_use]
pub(super) struct Ended<J, V, G> {
    /// What the callers that joined the read wait for.
    pub(super) joined: Option<J>,
    /// Until when the answer is good for a caller that began later than the read.
    pub(super) deadline: u64,
    pub(super) kept: bool,
    /// A value that was not kept. The caller drops it, as a lock is held where it is refused.
    pub(super) refused: Option<V>,
    /// What has left the near level. The caller drops it, too.
    pub(super) gone: Option<G>,
}

/// Whether a caller that has joined a read may take its answer, which is good until `deadline`: a
/// value that had expired when the caller began is none.
pub(super) fn is_good_for(begun: u64, deadline: u64) -> bool {
    begun < deadline
}

/// The near level of one store.
///
/// `J` is what callers that join a read wait for. No code of a value or of `J` runs under a lock of
/// the core, except what [`Near`] does.
pub(super) struct Core<N, J> {
    near: N,
    stripes: Box<[Stripe<J>]>,
    sources: Sources,
    bounds: Bounds,
    hasher: RandomState,
    rules: Rules,
}

/// On cache lines of its own, so that locks of different threads do not share a line.
#[repr(align(128))]
struct Stripe<J>(Mutex<Reads<J>>);

impl<N: Near, J: Joinable> Core<N, J> {
    pub(super) fn new(near: N, bounds: Bounds, rules: Rules) -> Self {
        let stripe = || Stripe(Mutex::new(Reads::default()));
        Self {
            near,
            stripes: std::iter::repeat_with(stripe).take(STRIPES).collect(),
            sources: Sources::new(bounds.age, rules),
            bounds,
            hasher: RandomState::default(),
            rules,
        }
    }

    pub(super) fn near(&self) -> &N {
        &self.near
    }

    // ---- serving

    /// Whether a value of this source may be served to a read that begins `now`. Asked while the
    /// value cannot be removed from the near level: otherwise a source could invalidate the
    /// value, and confirm what is left, between the look at the value and the look at its
    /// source.
    #[inline]
    pub(super) fn may_serve(&self, source: u16, now: u64) -> Proof {
        self.sources.may_serve(source, now)
    }

    /// Whether a value may be served as stale, although it is not proven any more: its proof ended
    /// less than `stale_for` ago, with its deadline or with what its source could vouch for. Asked
    /// while the value cannot be removed, as [`may_serve`](Self::may_serve).
    pub(super) fn may_serve_stale(
        &self,
        source: u16,
        deadline: u64,
        now: u64,
        stale_for: u64,
    ) -> bool {
        let proven_until = deadline.min(self.sources.proven_until(source));
        now.saturating_sub(proven_until) < stale_for || !self.rules.hold(Rule::StaleFor)
    }

    // ---- reads of the far level

    /// Begins a read that misses near, before it is sent. The caller sends it, unless it joins one.
    pub(super) fn begin_read(
        &self,
        key: &str,
        now: u64,
        joining: Joining,
        joined: impl FnOnce() -> J,
    ) -> Begun<J::Joined> {
        let hash = self.hash(key);
        let mut reads = self.stripe(hash);
        if joining == Joining::Allowed
            && let Some(read) = reads.join(key, hash, now, self.bounds.age / 2, self.rules)
        {
            return Begun::Joined(read);
        }
        Begun::Sent(reads.begin(key, hash, now, joined()))
    }

    /// Ends a read with its answer, which is kept near unless the read was voided.
    pub(super) fn end_read(
        &self,
        read: Read,
        key: &str,
        answer: Answer<N::Value>,
    ) -> Ended<J, N::Value, N::Gone> {
        let begun = read.begun();
        // The check and the insertion are one step under the stripe's lock. Otherwise a source
        // could invalidate the key between the two, and the value would stay.
        let mut reads = self.stripe(read.hash());
        let Taken { joined, is_good } = reads.end(read, key, self.rules);
        let _held = self.rules.hold(Rule::OneStep).then_some(reads);
        let Answer::Value { value, left, source } = answer else {
            let gone = self.refuse(key);
            return Ended { joined, deadline: NEVER, kept: false, refused: None, gone };
        };
        // A source of another near level, before the same adapter, tells this one nothing.
        let source = source.filter(|source| self.sources.is_own(*source));
        let deadline = begun.saturating_add(left);
        if !is_good || source.is_some_and(|source| !self.sources.is_open(source)) {
            let gone = self.refuse(key);
            return Ended { joined, deadline, kept: false, refused: Some(value), gone };
        }
        let lasting = if source.is_some() { self.bounds.ttl } else { self.bounds.age };
        let until = deadline.min(begun.saturating_add(lasting));
        let number = source.map_or(BY_AGE, |source| source.number);
        let gone = Some(self.near.keep(key, value, number, until));
        Ended { joined, deadline, kept: true, refused: None, gone }
    }

    /// A refused answer may be newer than what is near under its key. Nobody knows which of them is
    /// older, so what is near goes.
    fn refuse(&self, key: &str) -> Option<N::Gone> {
        if self.rules.hold(Rule::RefusedGoes) { self.near.remove(key) } else { None }
    }

    /// Ends a read without an answer: it failed, or its caller was dropped. Returns what the
    /// callers that joined it wait for.
    pub(super) fn abandon_read(&self, read: Read) -> Option<J> {
        self.stripe(read.hash()).abandon(&read)
    }

    // ---- own writes

    /// Begins a write of this process, before it is sent.
    pub(super) fn begin_write(&self, changed: Changed<'_>) -> Forgotten<N::Gone> {
        self.own_write(changed)
    }

    /// Ends a write of this process, before it returns: with an answer, without one, or because its
    /// caller was dropped. Reads that were sent during the write may have seen what was there
    /// before it. Nothing is kept of the written value: when the source invalidates this
    /// key, nobody knows whether it is this write or a later one.
    pub(super) fn end_write(&self, changed: Changed<'_>) -> Forgotten<N::Gone> {
        self.own_write(changed)
    }

    fn own_write(&self, changed: Changed<'_>) -> Forgotten<N::Gone> {
        if !self.rules.hold(Rule::OwnWrites) {
            return Forgotten { gone: None, count: 0 };
        }
        match changed {
            Changed::Key(key) => self.forget(key),
            Changed::Below(prefix) => self.forget_prefix(prefix),
        }
    }

    // ---- what sources report

    /// A key may have changed.
    pub(super) fn forget(&self, key: &str) -> Forgotten<N::Gone> {
        let hash = self.hash(key);
        // Both under the stripe's lock: a read that ends between the two would be kept.
        let mut reads = self.stripe(hash);
        reads.void(key, hash);
        let gone = self.near.remove(key);
        Forgotten { count: gone.is_some().into(), gone }
    }

    /// All keys that begin with `prefix` may have changed.
    pub(super) fn forget_prefix(&self, prefix: &str) -> Forgotten<N::Gone> {
        // First the reads, then what is near: a read that ends in between is not kept. The other
        // way round it could be kept behind the removal.
        for stripe in &self.stripes {
            lock(&stripe.0).void_below(prefix);
        }
        Forgotten { gone: None, count: self.near.remove_below(prefix) }
    }

    /// A source has answered a question that was sent at `asked_at`, and has invalidated before all
    /// that had changed until then.
    pub(super) fn confirm(&self, source: &Source, asked_at: u64) {
        self.sources.confirm(source, asked_at);
    }

    // ---- sources

    /// A new source. It vouches for nothing until it is confirmed. `None` while all numbers are
    /// taken: then values are near by age.
    #[must_use]
    pub(super) fn open(&self) -> Option<Source> {
        self.sources.open()
    }

    /// Ends a source, and with it the proof of all values for which it vouched: from `now` on they
    /// are bypassed.
    pub(super) fn end(&self, source: Source, now: u64) {
        self.sources.end(source, now);
    }

    /// Takes the values of ended sources from these, whose numbers may then be used again. Such a
    /// value is near by age from then on, and past its deadline.
    pub(super) fn sweep(&self) {
        let ended = self.sources.ended();
        if ended.is_empty() {
            return;
        }
        // A read that ends now may have found its source open. A sweep that has taken the lock of
        // each stripe once has waited for such reads: what they kept is relabelled below, and a
        // read that ends later finds its source ended.
        if self.rules.hold(Rule::SweepWaits) {
            self.stripes.iter().for_each(|stripe| drop(lock(&stripe.0)));
        }
        if self.rules.hold(Rule::Sweep) {
            self.near.relabel(&|source, deadline| {
                if !ended.contains(&source) {
                    return (source, deadline);
                }
                let ends = self.rules.hold(Rule::SweepEnds);
                let end = if ends { self.sources.proven_until(source) } else { NEVER };
                (BY_AGE, deadline.min(end))
            });
        }
        self.sources.reuse(ended);
    }

    /// Whether sources have ended since the last [`sweep`](Self::sweep).
    pub(super) fn is_sweep_due(&self) -> bool {
        self.sources.have_ended()
    }

    fn hash(&self, key: &str) -> u64 {
        self.hasher.hash_one(key)
    }

    fn stripe(&self, hash: u64) -> MutexGuard<'_, Reads<J>> {
        lock(&self.stripes[hash as usize % STRIPES].0)
    }

    /// The number of reads in flight.
    #[cfg(test)]
    pub(super) fn in_flight(&self) -> usize {
        self.stripes.iter().map(|stripe| lock(&stripe.0).len()).sum()
    }
}
