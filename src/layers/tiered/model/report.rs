//! What came of a run.

use super::settings::{Invariant, MS};
use std::collections::BTreeMap;
use std::fmt;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) hits: u64,
    pub(super) far_reads: u64,
    pub(super) joined: u64,
    pub(super) kept: u64,
    pub(super) refused: u64,
    pub(super) late_proofs: u64,
    pub(super) renewals: u64,
    pub(super) failed: u64,
    /// Values that were taken as stale by callers whose read failed.
    pub(super) stale: u64,
    pub(super) writes: u64,
    pub(super) lost_sources: u64,
    /// Entries with tags that were served.
    pub(super) tagged: u64,
    /// Entries that were not, because one of their tags was removed.
    pub(super) dead: u64,
    /// The longest time for which a value that was served had been superseded, in nanoseconds.
    pub(super) oldest: u64,
    pub(super) violations: BTreeMap<Invariant, u64>,
    /// The first violation.
    pub(super) first: Option<String>,
}

impl Report {
    pub(super) fn violation(&mut self, invariant: Invariant, what: impl FnOnce() -> String) {
        *self.violations.entry(invariant).or_default() += 1;
        self.first.get_or_insert_with(|| format!("{invariant:?}: {}", what()));
    }

    pub(super) fn all_violations(&self) -> u64 {
        self.violations.values().sum()
    }

    pub(super) fn add(&mut self, other: Self) {
        self.hits += other.hits;
        self.far_reads += other.far_reads;
        self.joined += other.joined;
        self.kept += other.kept;
        self.refused += other.refused;
        self.late_proofs += other.late_proofs;
        self.renewals += other.renewals;
        self.failed += other.failed;
        self.stale += other.stale;
        self.writes += other.writes;
        self.lost_sources += other.lost_sources;
        self.tagged += other.tagged;
        self.dead += other.dead;
        self.oldest = self.oldest.max(other.oldest);
        for (invariant, count) in other.violations {
            *self.violations.entry(invariant).or_default() += count;
        }
        self.first = self.first.take().or(other.first);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} hits, {} far reads, {} joined, {} kept, {} refused, {} late proofs, {} renewals, \
             {} failed, {} taken as stale, {} writes, {} lost sources, {} tagged, {} dead; \
             oldest value served {:.1} ms; {} violations",
            self.hits,
            self.far_reads,
            self.joined,
            self.kept,
            self.refused,
            self.late_proofs,
            self.renewals,
            self.failed,
            self.stale,
            self.writes,
            self.lost_sources,
            self.tagged,
            self.dead,
            self.oldest as f64 / MS as f64,
            self.all_violations(),
        )?;
        if let Some(first) = &self.first {
            write!(f, " {:?}; the first: {first}", self.violations)?;
        }
        Ok(())
    }
}
