//! The answer to a far read, for those that wait for it.

use crate::error::Result;
use crate::value::CacheValue;
use futures_util::future::Shared;
use tokio::sync::oneshot;

/// What the callers that have joined a read wait for.
pub(super) type Waiting = Shared<oneshot::Receiver<Landed>>;

/// The answer to a read.
#[derive(Clone)]
pub(super) struct Landed {
    pub(super) answer: Result<Option<CacheValue>>,
    /// Until when it is good for callers that began later than the read.
    pub(super) deadline: u64,
}
