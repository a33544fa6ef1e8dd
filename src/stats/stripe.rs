//! Which stripe of a counter a thread writes to.
//!
//! A stripe with a single writer needs no atomic addition: a load and a store are enough, and the
//! total stays exact. So each thread that counts owns a stripe for as long as it lives; the stripe
//! is reused afterwards. Threads beyond the number of own stripes, and threads that are ending,
//! share stripes and add atomically.

use crate::runtime::lock;
use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Stripes that have one writer at a time.
pub(super) const OWN: usize = 48;
/// Stripes for all other threads.
const SHARED: usize = 16;
pub(super) const ALL: usize = OWN + SHARED;

const UNKNOWN: usize = usize::MAX;

static FREE: Mutex<Free> = Mutex::new(Free { next: 0, returned: Vec::new() });
static NEXT_SHARED: AtomicUsize = AtomicUsize::new(0);

struct Free {
    /// The first stripe that was never taken.
    next: usize,
    returned: Vec<usize>,
}

thread_local! {
    /// A type without a destructor, so that a hit reads it like plain memory.
    static STRIPE: Cell<usize> = const { Cell::new(UNKNOWN) };
    static KEPT: Kept = const { Kept };
}

/// Returns the thread's stripe when the thread ends.
struct Kept;

impl Drop for Kept {
    fn drop(&mut self) {
        // Counts that other destructors make after this point go to a shared stripe.
        let stripe = STRIPE.replace(shared());
        if stripe < OWN {
            // Return the stripe after leaving it, and under the lock: the lock orders this thread's
            // last store before the first load of the next owner.
            lock(&FREE).returned.push(stripe);
        }
    }
}

/// The current thread's stripe. Below [`OWN`] this thread is its only writer.
#[inline]
pub(super) fn current() -> usize {
    match STRIPE.get() {
        UNKNOWN => take(),
        stripe => stripe,
    }
}

#[cold]
fn take() -> usize {
    let stripe = if KEPT.try_with(|_| ()).is_ok() { own() } else { shared() };
    STRIPE.set(stripe);
    stripe
}

fn own() -> usize {
    let mut free = lock(&FREE);
    if let Some(stripe) = free.returned.pop() {
        return stripe;
    }
    if free.next == OWN {
        return shared();
    }
    free.next += 1;
    free.next - 1
}

fn shared() -> usize {
    OWN + NEXT_SHARED.fetch_add(1, Ordering::Relaxed) % SHARED
}
