//! How a thread waits for a future: enter the background runtime, poll, park.

use crate::runtime::{Blocked, enter_background};
use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

/// Runs a future to its end on this thread: a plain thread, a worker of a runtime, or a thread
/// inside `block_on`.
///
/// larder's background runtime is entered, so that it drives the sockets and timers that the future
/// opens; a runtime that this thread blocks could not. The future is polled on this thread, which
/// parks between polls, so the future needs neither `Send` nor `'static`.
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    let blocked = Blocked::enter();
    // Run outside the cooperative budget of a surrounding task: that budget is not refilled while
    // this thread polls.
    let mut future = pin!(tokio::task::unconstrained(future));
    let bell = Bell::of_this_thread();
    let waker = Waker::from(bell.clone());
    let mut cx = Context::from_waker(&waker);
    let mut poll = || {
        let _entered = enter_background();
        future.as_mut().poll(&mut cx)
    };
    if let Poll::Ready(output) = poll() {
        bell.put_back();
        return output;
    }
    blocked.park(|| {
        let polls_every = blocked.polls_every();
        loop {
            bell.wait(polls_every);
            if let Poll::Ready(output) = poll() {
                return output;
            }
        }
    })
}

/// Wakes a parked thread. The flag decides, because a nested wait on the same thread may use up the
/// park token.
struct Bell {
    rung: AtomicBool,
    sleeper: Thread,
}

thread_local! {
    /// The bell of the calls that need not wait: so that a hit in memory allocates nothing.
    static SPARE: Cell<Option<Arc<Bell>>> = const { Cell::new(None) };
}

impl Bell {
    /// The thread's spare bell, or a new one within another wait. A late ring for an earlier call
    /// costs one poll.
    fn of_this_thread() -> Arc<Self> {
        // A thread that is ending has no thread-locals.
        let spare = SPARE.try_with(Cell::take).ok().flatten();
        spare.unwrap_or_else(|| {
            Arc::new(Self { rung: AtomicBool::new(false), sleeper: thread::current() })
        })
    }

    fn put_back(self: Arc<Self>) {
        // A thread that is ending drops it.
        let _ = SPARE.try_with(|spare| spare.set(Some(self)));
    }

    /// Waits until it rings, or for at most `limit`.
    fn wait(&self, limit: Option<Duration>) {
        while !self.rung.swap(false, Ordering::Acquire) {
            match limit {
                None => thread::park(),
                Some(limit) => return thread::park_timeout(limit),
            }
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.sleeper.unpark();
    }
}
