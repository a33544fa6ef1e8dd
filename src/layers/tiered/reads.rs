//! Reads of the far store, and who waits for their answers.

use super::core::{Answer, Begun, Ended, Joining, NEVER, Read, is_good_for};
use super::landed::{Joiner, Landed, Waiting};
use super::level::Level;
use crate::adapter::NearEntry;
use crate::adapters::memory::near;
use crate::error::Result;
use crate::expiry::Lifetime;
use crate::runtime::background_timeout;
use crate::value::CacheValue;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a caller waits for the answer to another caller's read before it sends its own: the
/// other may be a future that nobody polls any more.
const PATIENCE: Duration = Duration::from_secs(1);

/// After so many far reads somebody looks whether this process sweeps what is near.
const READS: u64 = 256;

/// How a read begins.
pub(super) enum Start<'a> {
    /// The caller sends it.
    Send(FarRead<'a>),
    /// The answer to another caller's read is taken.
    Wait(Joined),
}

/// A far read, from before it is sent until it has its answer. Dropping it abandons the read; one of
/// those that wait for it sends another.
#[must_use]
pub(super) struct FarRead<'a> {
    level: &'a Arc<Level>,
    pub(super) key: &'a str,
    read: Option<Read>,
}

/// A read that waits for the answer to another.
#[must_use]
pub(super) struct Joined {
    joiner: Joiner,
    begun: u64,
}

impl Level {
    /// Begins a read of the far store.
    pub(super) fn begin<'a>(self: &'a Arc<Self>, key: &'a str, joining: Joining) -> Start<'a> {
        let begun = near::now();
        match self.core.begin_read(key, begun, joining, Waiting::default) {
            Begun::Joined(joiner) => Start::Wait(Joined { joiner, begun }),
            Begun::Sent(read) => Start::Send(FarRead { level: self, key, read: Some(read) }),
        }
    }
}

impl FarRead<'_> {
    /// Counts the read, which is sent now.
    pub(super) fn count(&self) {
        let before = self.level.counters.far_reads.fetch_add(1, Ordering::Relaxed);
        // In the child of a fork nobody sweeps yet. Whether this process is one is a system call,
        // so few reads ask.
        if before.is_multiple_of(READS) {
            self.level.start_sweep();
        }
    }

    /// Ends the read with its answer: keeps it near, if it may be kept, and passes it to all who
    /// wait.
    pub(super) fn end(mut self, found: Result<Option<NearEntry>>) -> Result<Option<CacheValue>> {
        let Some(read) = self.read.take() else { return Ok(None) };
        match found {
            Err(error) => {
                if let Some(joined) = self.level.core.abandon_read(read) {
                    let answer = || Landed { answer: Err(error.clone()), deadline: NEVER };
                    joined.land(|| Some(answer()));
                }
                Err(error)
            }
            Ok(found) => Ok(self.keep(read, found)),
        }
    }

    fn keep(&self, read: Read, found: Option<NearEntry>) -> Option<CacheValue> {
        let Self { level, key, .. } = *self;
        let (value, answer) = match found {
            None => (None, Answer::NotKept),
            Some(entry) => near_answer(level, key, entry),
        };
        let is_keepable = matches!(answer, Answer::Value { .. });
        let Ended { joined, deadline, kept, refused, gone } =
            level.core.end_read(read, key, answer);
        if let Some(joined) = joined {
            joined.land(|| Some(Landed { answer: Ok(value.clone()), deadline }));
        }
        // No lock is held here: what is dropped may be a user's.
        drop((refused, gone));
        let counters = &level.counters;
        if kept {
            counters.kept.fetch_add(1, Ordering::Relaxed);
        } else if is_keepable {
            counters.refused.fetch_add(1, Ordering::Relaxed);
        }
        value
    }
}

/// The value for the callers, and the same for the core.
fn near_answer(
    level: &Level,
    key: &str,
    NearEntry { value, left, source }: NearEntry,
) -> (Option<CacheValue>, Answer<near::Weighed>) {
    let left = match left {
        Lifetime::Never => NEVER,
        Lifetime::For(left) => u64::try_from(left.as_nanos()).unwrap_or(NEVER),
    };
    let weighed = if left == 0 || value.is_unreadable() {
        None
    } else {
        level.core.near().weigh(key, &value)
    };
    match weighed {
        // The handle that is kept: the caller that decodes it first does so for all.
        Some(kept) => (Some(kept.value.clone()), Answer::Value { value: kept, left, source }),
        None => (Some(value), Answer::NotKept),
    }
}

impl Drop for FarRead<'_> {
    fn drop(&mut self) {
        if let Some(joined) = self.read.take().and_then(|read| self.level.core.abandon_read(read)) {
            joined.land(|| None);
        }
    }
}

/// What a read has got that waited for another.
pub(super) enum Waited {
    Answer(Result<Option<CacheValue>>),
    /// The other read was given up. Another may be joined.
    Abandoned,
    /// An answer that is not good for this read, or none for a long time: this read is sent itself.
    InVain,
}

impl Joined {
    pub(super) async fn answer(self) -> Waited {
        match background_timeout(PATIENCE, self.joiner.landed()).await {
            Some(Some(Landed { answer, deadline })) if is_good_for(self.begun, deadline) => {
                Waited::Answer(answer)
            }
            Some(None) => Waited::Abandoned,
            Some(Some(_)) | None => Waited::InVain,
        }
    }
}
