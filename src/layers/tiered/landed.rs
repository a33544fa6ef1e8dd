//! The answer to a far read, for those that wait for it.

use crate::error::Result;
use crate::value::CacheValue;
use std::sync::{Arc, OnceLock};
use tokio::sync::Notify;

/// The answer to a read.
#[derive(Clone)]
pub(super) struct Landed {
    pub(super) answer: Result<Option<CacheValue>>,
    /// Until when it is good for callers that began later than the read.
    pub(super) deadline: u64,
}

/// Where the callers that have joined a read wait for its answer: one allocation, since most reads
/// are joined by nobody.
#[derive(Clone)]
pub(super) struct Waiting(Arc<Joint>);

struct Joint {
    /// `None` inside if the read was given up.
    landed: OnceLock<Option<Landed>>,
    wakes: Notify,
}

impl Waiting {
    pub(super) fn new() -> Self {
        Self(Arc::new(Joint { landed: OnceLock::new(), wakes: Notify::new() }))
    }

    /// Passes on the end of the read, which nobody can join any more.
    pub(super) fn land(self, landed: impl FnOnce() -> Option<Landed>) {
        // Each caller that has joined holds a handle of its own.
        if Arc::strong_count(&self.0) > 1 {
            self.0.landed.get_or_init(landed);
            self.0.wakes.notify_waiters();
        }
    }

    /// Waits for the answer; `None` if the read was given up.
    pub(super) async fn landed(self) -> Option<Landed> {
        // It is woken from now on; the answer may have come before.
        let woken = self.0.wakes.notified();
        if self.0.landed.get().is_none() {
            woken.await;
        }
        self.0.landed.get().cloned().flatten()
    }
}
