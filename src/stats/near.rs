//! The counters of a near level.

use std::fmt;
#[cfg(feature = "memory")]
use std::sync::atomic::{AtomicU64, Ordering};

/// What the near level of a cache has done: see [`Stats::near`](super::Stats::near).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NearStats {
    /// Reads that were sent to the store behind. A batch counts each of its keys.
    pub far_reads: u64,
    /// Answers that were kept near.
    pub kept: u64,
    /// Answers that were not kept, because their key changed, or may have, during the read.
    pub refused: u64,
    /// Values that were removed from the near level because their keys changed, or may have.
    pub forgotten: u64,
    /// Sources that ended, and took along what they had vouched for.
    pub lost_sources: u64,
    /// Looks at a near value whose proof had run out, so that the store behind was asked.
    pub late_proofs: u64,
}

impl fmt::Display for NearStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { far_reads, kept, refused, forgotten, lost_sources, late_proofs } = self;
        write!(
            f,
            "near: {far_reads} far reads, {kept} kept, {refused} refused, {forgotten} forgotten, \
             {lost_sources} sources lost, {late_proofs} late proofs"
        )
    }
}

/// The counters behind [`NearStats`].
#[cfg(feature = "memory")]
#[derive(Debug, Default)]
pub(crate) struct NearCounters {
    pub(crate) far_reads: AtomicU64,
    pub(crate) kept: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) forgotten: AtomicU64,
    pub(crate) lost_sources: AtomicU64,
    pub(crate) late_proofs: AtomicU64,
}

#[cfg(feature = "memory")]
impl NearCounters {
    pub(crate) fn snapshot(&self) -> NearStats {
        let now = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        NearStats {
            far_reads: now(&self.far_reads),
            kept: now(&self.kept),
            refused: now(&self.refused),
            forgotten: now(&self.forgotten),
            lost_sources: now(&self.lost_sources),
            late_proofs: now(&self.late_proofs),
        }
    }
}
