//! Reads of the far store, and who waits for their answers.

use super::core::{Answer, Begun, Joining, NEVER, Read, is_good_for};
use super::landed::{Landed, Waiting};
use super::level::Level;
use crate::adapter::NearEntry;
use crate::adapters::memory::near;
use crate::error::Result;
use crate::expiry::Lifetime;
use crate::runtime::background_timeout;
use crate::value::CacheValue;
use futures_util::FutureExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long a caller waits for the answer to another caller's read before it sends its own: the
/// other may be a future that nobody polls any more.
const PATIENCE: Duration = Duration::from_secs(1);

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
    answer: Option<oneshot::Sender<Landed>>,
}

/// A read that waits for the answer to another.
#[must_use]
pub(super) struct Joined {
    waiting: Waiting,
    begun: u64,
}

impl Level {
    /// Begins a read of the far store.
    pub(super) fn begin<'a>(self: &'a Arc<Self>, key: &'a str, joining: Joining) -> Start<'a> {
        let (begun, mut answer) = (near::now(), None);
        let join = || {
            let (sender, receiver) = oneshot::channel();
            answer = Some(sender);
            receiver.shared()
        };
        match self.core.begin_read(key, begun, joining, join) {
            Begun::Joined(waiting) => Start::Wait(Joined { waiting, begun }),
            Begun::Sent(read) => {
                Start::Send(FarRead { level: self, key, read: Some(read), answer })
            }
        }
    }
}

impl FarRead<'_> {
    /// Counts the read, which is sent now.
    pub(super) fn count(&self) {
        self.level.counters.far_reads.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends the read with its answer: keeps it near, if it may be kept, and passes it to all who
    /// wait.
    pub(super) fn end(mut self, found: Result<Option<NearEntry>>) -> Result<Option<CacheValue>> {
        let Some(read) = self.read.take() else { return Ok(None) };
        let (answer, deadline) = match found {
            Err(error) => {
                drop(self.level.core.abandon_read(read));
                (Err(error), NEVER)
            }
            Ok(found) => {
                let (value, deadline) = self.keep(read, found);
                (Ok(value), deadline)
            }
        };
        if let Some(sender) = self.answer.take() {
            // Nobody may wait.
            let _ = sender.send(Landed { answer: answer.clone(), deadline });
        }
        answer
    }

    fn keep(&self, read: Read, found: Option<NearEntry>) -> (Option<CacheValue>, u64) {
        let Self { level, key, .. } = *self;
        let (value, answer) = match found {
            None => (None, Answer::NotKept),
            Some(entry) => near_answer(level, key, entry),
        };
        let is_keepable = matches!(answer, Answer::Value { .. });
        let ended = level.core.end_read(read, key, answer);
        // No lock is held here: what is dropped may be a user's.
        drop((ended.joined, ended.refused, ended.gone));
        let counters = &level.counters;
        if ended.kept {
            counters.kept.fetch_add(1, Ordering::Relaxed);
            level.start_sweep();
        } else if is_keepable {
            counters.refused.fetch_add(1, Ordering::Relaxed);
        }
        (value, ended.deadline)
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
        if let Some(read) = self.read.take() {
            drop(self.level.core.abandon_read(read));
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
        match background_timeout(PATIENCE, self.waiting).await {
            Some(Ok(Landed { answer, deadline })) if is_good_for(self.begun, deadline) => {
                Waited::Answer(answer)
            }
            Some(Err(_dropped)) => Waited::Abandoned,
            Some(Ok(_)) | None => Waited::InVain,
        }
    }
}
