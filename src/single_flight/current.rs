//! The flight whose loader is running: a task-local, by which larder recognises the calls that a
//! loader makes.

use std::future::Future;

tokio::task_local! {
    static CURRENT: Current;
}

/// The flight whose loader is running.
#[derive(Clone, Copy)]
pub(super) struct Current {
    pub(super) flight: u64,
    /// How many unshared loads the loader is nested in.
    pub(super) depth: u32,
}

impl Current {
    /// Runs a loader's future as the loader of this flight.
    pub(super) fn run<F: Future>(self, loader: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, loader)
    }

    /// Runs a loader's closure as the loader of this flight.
    pub(super) fn run_now<R>(self, loader: impl FnOnce() -> R) -> R {
        CURRENT.sync_scope(self, loader)
    }
}

/// The flight whose loader makes this call, if a loader makes it.
pub(super) fn current_flight() -> Option<u64> {
    CURRENT.try_with(|current| current.flight).ok()
}

/// Whether a loader makes this call.
pub(crate) fn is_in_loader() -> bool {
    current_flight().is_some()
}

/// How many unshared loads this call is nested in.
pub(super) fn current_depth() -> u32 {
    CURRENT.try_with(|current| current.depth).unwrap_or_default()
}
