//! The caller that carries a load of its own, and how a follower learns whether it still does.

use crate::runtime;
use crate::runtime::lock;
use std::pin::pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;
use tokio::sync::Notify;

/// A caller that polls its load in its own future. It may hold the future and poll it no more; the
/// load then stands still, and nothing else shows it.
#[derive(Default)]
pub(super) struct Carrier {
    /// How often the load was polled.
    polls: AtomicU64,
    /// Wakes the caller.
    waker: Mutex<Option<Waker>>,
    /// Notified with each poll.
    polled: Notify,
}

impl Carrier {
    pub(super) fn note_poll(&self, waker: &Waker) {
        // The old waker is dropped without the lock: it is the code of a user's executor.
        let _old = lock(&self.waker).replace(waker.clone());
        self.polls.fetch_add(1, Ordering::SeqCst);
        self.polled.notify_waiters();
    }

    /// Wakes the caller, and returns whether it polls its load within `patience`.
    pub(super) async fn polls_within(&self, patience: Duration) -> bool {
        let before = self.polls.load(Ordering::SeqCst);
        let polled = async {
            loop {
                let mut polled = pin!(self.polled.notified());
                // Register for the notification before reading the count: the poll may come
                // between the two.
                polled.as_mut().enable();
                if self.polls.load(Ordering::SeqCst) != before {
                    return;
                }
                polled.await;
            }
        };
        let waker = lock(&self.waker).clone();
        if let Some(waker) = waker {
            waker.wake();
        }
        runtime::background_timeout(patience, polled).await.is_some()
    }
}
