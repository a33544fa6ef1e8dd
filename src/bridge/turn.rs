//! A call on a thread of the blocking pool, and what becomes of it if its caller is dropped.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use tokio::sync::Notify;

/// The dropped calls that still run.
#[derive(Debug, Default)]
pub(super) struct Abandoned {
    count: AtomicUsize,
    ended: Notify,
}

impl Abandoned {
    /// Waits until no dropped call runs.
    pub(super) async fn wait_for_none(&self) {
        loop {
            let mut ended = pin!(self.ended.notified());
            // Register for the notification before checking: a call may end between the two.
            ended.as_mut().enable();
            if self.count.load(Ordering::Acquire) == 0 {
                return;
            }
            ended.await;
        }
    }

    fn end_one(&self) {
        self.count.fetch_sub(1, Ordering::Release);
        self.ended.notify_waiters();
    }
}

const WAITING: u8 = 0;
const RUNNING: u8 = 1;
const DONE: u8 = 2;
const CANCELLED: u8 = 3;
const ABANDONED: u8 = 4;

/// The state of a call, shared by its caller and its thread.
pub(super) struct Stage {
    stage: AtomicU8,
    abandoned: Arc<Abandoned>,
}

impl Stage {
    /// Runs the call on its thread; `None` if the caller was dropped before.
    pub(super) fn run<R>(&self, call: impl FnOnce() -> R) -> Option<R> {
        self.change(WAITING, RUNNING).then(|| {
            // The end is recorded also if the store panics.
            let _end = End(self);
            call()
        })
    }

    fn change(&self, from: u8, to: u8) -> bool {
        self.stage.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

struct End<'s>(&'s Stage);

impl Drop for End<'_> {
    fn drop(&mut self) {
        if self.0.stage.swap(DONE, Ordering::AcqRel) == ABANDONED {
            self.0.abandoned.end_one();
        }
    }
}

/// The caller's side of a call.
pub(super) struct Turn {
    pub(super) state: Arc<Stage>,
}

impl Turn {
    pub(super) fn new(abandoned: &Arc<Abandoned>) -> Self {
        let stage = AtomicU8::new(WAITING);
        Self { state: Arc::new(Stage { stage, abandoned: abandoned.clone() }) }
    }
}

impl Drop for Turn {
    /// Does nothing for a call that has ended.
    fn drop(&mut self) {
        if self.state.change(WAITING, CANCELLED) {
            return;
        }
        // Count the call before its thread can see that the call was abandoned: the thread would
        // otherwise count its end first.
        self.state.abandoned.count.fetch_add(1, Ordering::AcqRel);
        if !self.state.change(RUNNING, ABANDONED) {
            self.state.abandoned.end_one();
        }
    }
}
