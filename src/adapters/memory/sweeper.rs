//! The background sweep, which removes expired entries that are not read.

use crate::runtime;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// The shortest pause between sweeps.
const PAUSE: Duration = Duration::from_millis(500);

/// A sweep takes at most one part in this number of the time, unless that would exceed the longest
/// pause.
const SHARE: u32 = 50;

/// The longest pause between sweeps.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What is swept from time to time.
pub(crate) trait Sweeps: Send + Sync + 'static {
    /// Whether there may be something to remove.
    fn is_sweep_due(&self) -> bool;

    /// Removes what nobody needs any more.
    fn sweep(&self);
}

/// The background task. It starts with the first entry that can expire, and ends with the store.
#[derive(Debug, Default)]
pub(crate) struct Sweeper {
    /// The process in which the task was started; 0 before that. Tasks do not survive a fork.
    process: AtomicU32,
}

impl Sweeper {
    pub(crate) fn start<S: Sweeps>(&self, store: &Arc<S>) {
        // The number of the process is a system call, which the hot path does without.
        if self.process.load(Ordering::Relaxed) == 0 {
            self.start_here(store);
        }
    }

    /// [`start`](Self::start), also in the child of a fork.
    pub(crate) fn start_here<S: Sweeps>(&self, store: &Arc<S>) {
        let here = process::id();
        // Load before the swap, so that a shared cache line is not written to each time.
        if self.process.load(Ordering::Relaxed) != here
            && self.process.swap(here, Ordering::Relaxed) != here
        {
            runtime::spawn_background(sweep(Arc::downgrade(store)));
        }
    }
}

async fn sweep<S: Sweeps>(store: Weak<S>) {
    let mut pause = PAUSE;
    loop {
        tokio::time::sleep(pause).await;
        let Some(store) = store.upgrade() else { return };
        if !store.is_sweep_due() {
            continue;
        }
        let sweep = move || {
            let begun = Instant::now();
            store.sweep();
            begun.elapsed()
        };
        // On a blocking thread: a walk over millions of entries would stall the thread that drives
        // connections.
        match runtime::spawn_blocking(sweep).await {
            Ok(took) => pause = (took * SHARE).clamp(PAUSE, LONGEST_PAUSE),
            Err(error) if error.is_cancelled() => return,
            // Panics of values and observers are contained. After any other panic go on, or the
            // store would grow for ever.
            Err(_) => {}
        }
    }
}
