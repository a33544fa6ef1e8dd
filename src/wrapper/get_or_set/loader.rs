//! The loaders of calls, as the core sees them.

use super::driver::{CallerDriven, Runs};
use super::load_result::{BoxedLoader, Cause, LoadResult, Panic};
use super::task::LoadTask;
use futures_util::future::lazy;
use std::panic::resume_unwind;
use std::task::{Context, Poll, Waker};

/// The loader of a call that does not carry its load.
pub(super) trait Loader {
    const RUNS: Runs;

    /// Runs the loader inside the call, once. A loader that is pending is to be started.
    fn poll_once(&mut self, key: &str) -> Poll<LoadResult>;

    /// Starts the loader. A future that is returned has to be polled by the caller while it waits.
    fn start(self, key: &str, task: LoadTask) -> Option<CallerDriven>;
}

/// A closure; `None` once it has run.
pub(super) struct Closure<L>(pub(super) Option<L>);

impl<L: FnOnce(&str) -> LoadResult> Loader for Closure<L> {
    const RUNS: Runs = Runs::AtOnce;

    fn poll_once(&mut self, key: &str) -> Poll<LoadResult> {
        Poll::Ready(self.0.take().map_or_else(|| Err(used()), |loader| loader(key)))
    }

    fn start(self, key: &str, task: LoadTask) -> Option<CallerDriven> {
        task.run_now(|| self.0.map_or_else(|| Err(used()), |loader| loader(key)));
        None
    }
}

/// A future, or the closure that makes it on a miss.
pub(super) enum Async<L> {
    Unmade(L),
    Begun(BoxedLoader),
    Over,
}

impl<L: FnOnce() -> BoxedLoader> Loader for Async<L> {
    const RUNS: Runs = Runs::InTask;

    fn poll_once(&mut self, _: &str) -> Poll<LoadResult> {
        let mut loader = match std::mem::replace(self, Self::Over) {
            Self::Unmade(make) => make(),
            Self::Begun(loader) => loader,
            Self::Over => return Poll::Ready(Err(used())),
        };
        // What is pending is polled again by its task.
        let polled = loader.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        if polled.is_pending() {
            *self = Self::Begun(loader);
        }
        polled
    }

    fn start(self, _: &str, task: LoadTask) -> Option<CallerDriven> {
        let loader = match self {
            Self::Unmade(make) => task.call(make).unwrap_or_else(panicking),
            Self::Begun(loader) => loader,
            Self::Over => Box::pin(std::future::ready(Err(used()))),
        };
        task.start(loader)
    }
}

/// A loader that goes on with the panic of the closure that was to make it, for all callers that
/// wait.
fn panicking(panic: Panic) -> BoxedLoader {
    Box::pin(lazy(|_| resume_unwind(panic)))
}

fn used() -> Cause {
    Cause::from("a loader runs once")
}
