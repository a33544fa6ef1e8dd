//! Gives back what has expired and nobody reads.

use super::store::Store;
use crate::runtime;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// At most so often.
const PAUSE: Duration = Duration::from_millis(500);

/// And for at most one part in so many of the time, unless that were too seldom.
const SHARE: u32 = 50;

/// At least so often.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A task in the background that begins with the first entry that can expire and ends with the
/// store.
#[derive(Default)]
pub(super) struct Sweeper {
    started: AtomicBool,
}

impl Sweeper {
    pub(super) fn start(&self, store: &Arc<Store>) {
        // The load keeps the hot path from writing to a shared cache line.
        if !self.started.load(Ordering::Relaxed) && !self.started.swap(true, Ordering::Relaxed) {
            runtime::spawn_background(sweep(Arc::downgrade(store)));
        }
    }
}

async fn sweep(store: Weak<Store>) {
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
        // A walk over millions of entries is no work for the thread that drives connections.
        match runtime::spawn_blocking(sweep).await {
            Ok(took) => pause = (took * SHARE).clamp(PAUSE, LONGEST_PAUSE),
            Err(error) if error.is_cancelled() => return,
            // Values and observers that panic are contained. Should anything else, the store must
            // not grow for ever.
            Err(_) => {}
        }
    }
}
