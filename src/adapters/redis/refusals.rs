//! The commands that the server refuses, because the user may not run them or the server does not
//! know them, and the commands that replace them.

use super::commands::Removal;
use crate::runtime::lock;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long no script is sent to a server that refused scripts.
const REMEMBERED: Duration = Duration::from_secs(10);

/// The refusals of one server. Only a hint: the cache notices when the server permits a command
/// again.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// `UNLINK` is refused, so `DEL` replaces it.
    deletes: AtomicBool,
    scripts: Mutex<Option<Instant>>,
    /// Whether scripts were refused at least once. Read before the lock is taken.
    without_scripts: AtomicBool,
}

impl Refusals {
    /// The command that removes keys.
    pub(super) fn removal(&self) -> Removal {
        if self.deletes.load(Ordering::Relaxed) { Removal::Delete } else { Removal::Unlink }
    }

    /// Records that one command was refused, and that `removal` was not.
    pub(super) fn prefer(&self, removal: Removal) {
        self.deletes.store(removal == Removal::Delete, Ordering::Relaxed);
    }

    /// Whether scripts were refused a short time ago.
    pub(super) fn refuses_scripts(&self) -> bool {
        self.without_scripts.load(Ordering::Relaxed)
            && lock(&self.scripts).is_some_and(|refused| refused.elapsed() < REMEMBERED)
    }

    /// Records that scripts were refused. Returns whether this is the first time.
    pub(super) fn note_scripts(&self) -> bool {
        *lock(&self.scripts) = Some(Instant::now());
        !self.without_scripts.swap(true, Ordering::Relaxed)
    }
}
