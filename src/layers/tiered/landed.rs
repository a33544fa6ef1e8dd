//! The answer to a far read, for those that wait for it.

use super::core::Joinable;
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

/// Where the callers that have joined a read wait for its answer. It is made for the first of them,
/// since most reads are joined by nobody.
#[derive(Default)]
pub(super) struct Waiting(Option<Arc<Joint>>);

/// A caller that has joined a read.
pub(super) struct Joiner(Arc<Joint>);

#[derive(Default)]
struct Joint {
    /// `None` inside if the read was given up.
    landed: OnceLock<Option<Landed>>,
    wakes: Notify,
}

impl Joinable for Waiting {
    type Joined = Joiner;

    fn join(&mut self) -> Joiner {
        Joiner(self.0.get_or_insert_default().clone())
    }
}

impl Waiting {
    /// Passes on the end of the read, which nobody can join any more.
    pub(super) fn land(self, landed: impl FnOnce() -> Option<Landed>) {
        if let Some(joint) = self.0 {
            joint.landed.get_or_init(landed);
            joint.wakes.notify_waiters();
        }
    }
}

impl Joiner {
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
