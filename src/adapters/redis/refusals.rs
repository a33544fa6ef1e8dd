//! What the server does not permit its user, or does not know, and which commands take its place.

use super::commands::Removal;
use crate::runtime::lock;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// For so long a server that refused scripts is not asked again.
const REMEMBERED: Duration = Duration::from_secs(10);

/// What one server was seen to refuse. A hint: what it refuses no longer is found out again.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// `UNLINK` is refused, so `DEL` takes its place.
    deletes: AtomicBool,
    scripts: Mutex<Option<Instant>>,
    /// Scripts were refused at least once: looked at before the lock is.
    without_scripts: AtomicBool,
}

impl Refusals {
    /// The command that removes keys.
    pub(super) fn removal(&self) -> Removal {
        if self.deletes.load(Ordering::Relaxed) { Removal::Delete } else { Removal::Unlink }
    }

    /// `removal` was refused, and the other one was not.
    pub(super) fn prefer(&self, removal: Removal) {
        self.deletes.store(removal == Removal::Delete, Ordering::Relaxed);
    }

    /// Whether scripts were refused a short time ago.
    pub(super) fn refuses_scripts(&self) -> bool {
        self.without_scripts.load(Ordering::Relaxed)
            && lock(&self.scripts).is_some_and(|refused| refused.elapsed() < REMEMBERED)
    }

    /// Scripts were refused; whether that is the first time.
    pub(super) fn note_scripts(&self) -> bool {
        *lock(&self.scripts) = Some(Instant::now());
        !self.without_scripts.swap(true, Ordering::Relaxed)
    }
}
