//! The loaders of calls, as the core sees them.

use super::driver::{CallerDriven, Carried};
use super::load_result::{BoxedLoader, Cause, LoadResult, Panic};
use super::task::LoadTask;
use crate::runtime::inside_now;
use futures_util::future::lazy;
use std::future::Future;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// The loader of a call.
pub(super) trait Loader {
    /// Runs the loader inside the call, once. A loader that is pending is to be started.
    fn poll_once(&mut self, key: &str) -> Poll<LoadResult>;

    /// Starts the loader, once.
    fn start(&mut self, task: LoadTask) -> Started;

    /// Polls a load that the call carries. Whether that has ended the load.
    fn ends_carried(&mut self, _: &mut Context<'_>) -> bool {
        false
    }

    /// Drops a load that the call carries: the call has ended.
    fn drop_carried(&mut self) {}
}

/// A load that has been started.
pub(super) enum Started {
    /// It goes on without the call, or is over.
    Apart,
    /// The caller has to poll it while it waits.
    ByCaller(CallerDriven),
    /// The loader itself polls it, in [`Loader::ends_carried`].
    Carried,
}

/// A closure, which gives nothing when it has run before.
pub(super) struct Closure<'l>(pub(super) &'l mut dyn FnMut(&str) -> Option<LoadResult>);

impl Closure<'_> {
    fn run(&mut self, key: &str) -> LoadResult {
        (self.0)(key).unwrap_or_else(|| Err(used()))
    }
}

impl Loader for Closure<'_> {
    fn poll_once(&mut self, key: &str) -> Poll<LoadResult> {
        Poll::Ready(self.run(key))
    }

    fn start(&mut self, task: LoadTask) -> Started {
        task.run_now(&mut |key| self.run(key));
        Started::Apart
    }
}

/// A future.
pub(super) struct Detached<'l> {
    /// Makes the future, on a miss; gives nothing when it has done so before.
    pub(super) make: &'l mut dyn FnMut() -> Option<BoxedLoader>,
    /// The future that was polled once.
    pub(super) begun: &'l mut Option<BoxedLoader>,
}

impl Detached<'_> {
    fn make(&mut self) -> BoxedLoader {
        (self.make)().unwrap_or_else(|| Box::pin(std::future::ready(Err(used()))))
    }
}

impl Loader for Detached<'_> {
    fn poll_once(&mut self, _: &str) -> Poll<LoadResult> {
        let mut loader = self.make();
        // What is pending is polled again by its task.
        let polled = loader.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        if polled.is_pending() {
            *self.begun = Some(loader);
        }
        polled
    }

    fn start(&mut self, task: LoadTask) -> Started {
        let loader = match self.begun.take() {
            Some(begun) => begun,
            // The panic of a closure that makes a future is one of the load.
            None => task.call(|| self.make()).unwrap_or_else(panicking),
        };
        task.start(loader).map_or(Started::Apart, Started::ByCaller)
    }
}

/// A load that its call carries.
pub(super) enum Carrying<S, L> {
    Unstarted(S),
    Running(Carried<L>),
    Over,
}

impl<S, L> Loader for Carrying<S, L>
where
    S: FnOnce(LoadTask) -> Carried<L>,
    L: Future<Output = ()>,
{
    fn poll_once(&mut self, _: &str) -> Poll<LoadResult> {
        Poll::Pending
    }

    fn start(&mut self, task: LoadTask) -> Started {
        if let Self::Unstarted(start) = std::mem::replace(self, Self::Over) {
            *self = Self::Running(start(task));
        }
        Started::Carried
    }

    fn ends_carried(&mut self, cx: &mut Context<'_>) -> bool {
        let Self::Running(load) = self else { return false };
        let has_ended = inside_now(|| Pin::new(load).poll(cx)).is_ready();
        if has_ended {
            *self = Self::Over;
        }
        has_ended
    }

    fn drop_carried(&mut self) {
        *self = Self::Over;
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
