//! How a thread waits for a future: enter the background runtime, poll, park.

use crate::runtime::{Blocked, enter_background};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

/// Runs a future to its end on this thread, whatever the thread is: a plain one, a runtime's
/// worker, one inside `block_on`.
///
/// larder's background runtime is entered, so that what the future opens is driven there and not by
/// a runtime that this thread is blocking. The future is polled here and the thread parks in
/// between, so it needs neither `Send` nor `'static`.
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    let blocked = Blocked::enter();
    // Run outside the cooperative budget of a surrounding task: that budget is not refilled while
    // this thread polls.
    let mut future = pin!(tokio::task::unconstrained(future));
    let bell = Arc::new(Bell { rung: AtomicBool::new(false), sleeper: thread::current() });
    let waker = Waker::from(bell.clone());
    let mut cx = Context::from_waker(&waker);
    let mut poll = || {
        let _entered = enter_background();
        future.as_mut().poll(&mut cx)
    };
    if let Poll::Ready(output) = poll() {
        return output;
    }
    blocked.park(|| {
        loop {
            bell.wait();
            if let Poll::Ready(output) = poll() {
                return output;
            }
        }
    })
}

/// Wakes a parked thread. The flag is what counts: a nested wait on the same thread may use up the
/// park token.
struct Bell {
    rung: AtomicBool,
    sleeper: Thread,
}

impl Bell {
    fn wait(&self) {
        while !self.rung.swap(false, Ordering::Acquire) {
            thread::park();
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
