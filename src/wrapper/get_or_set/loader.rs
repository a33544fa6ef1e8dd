//! The loaders of calls, as the core sees them.

use super::carried::CarriedLoad;
use super::driver::CallerDriven;
use super::load_result::{BoxedLoader, Cause, LoadResult, Panic};
use super::task::LoadTask;
use crate::wrapper::{Cacheable, Loaded};
use futures_util::future::lazy;
use std::future::Future;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

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
pub(super) enum Carrying<M, L> {
    /// Makes the future.
    Unstarted(M),
    Running(Carried<L>),
    Over,
}

/// A load with its loader's future. The future is dropped first, as a part of the load.
pub(super) struct Carried<L> {
    loader: Option<Pin<Box<L>>>,
    load: Box<CarriedLoad>,
}

impl<L, T> Carried<L>
where
    L: Future<Output = Result<Loaded<T>, Cause>>,
    T: Cacheable,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Self { loader, load } = self;
        let mut poll_loader = |cx: &mut Context<'_>| {
            let Some(polled) = loader else { return Poll::Ready(Err(used())) };
            let loaded = ready!(polled.as_mut().poll(cx));
            // Dropped at once, inside the guard against panics.
            *loader = None;
            Poll::Ready(match loaded {
                Ok(loaded) => Ok(loaded.untyped()),
                Err(cause) => Err(cause),
            })
        };
        load.poll(&mut poll_loader, cx)
    }
}

impl<L> Drop for Carried<L> {
    fn drop(&mut self) {
        if self.loader.is_some() {
            self.load.within(&mut || self.loader = None);
        }
    }
}

impl<M, L, T> Loader for Carrying<M, L>
where
    M: FnOnce() -> L,
    L: Future<Output = Result<Loaded<T>, Cause>>,
    T: Cacheable,
{
    fn poll_once(&mut self, _: &str) -> Poll<LoadResult> {
        Poll::Pending
    }

    fn start(&mut self, task: LoadTask) -> Started {
        if let Self::Unstarted(make) = std::mem::replace(self, Self::Over) {
            // What surrounds the closure knows no types: it is compiled once, with larder.
            let (mut make, mut loader) = (Some(make), None);
            let load = CarriedLoad::begun(task, &mut || {
                if let Some(make) = make.take() {
                    loader = Some(Box::pin(make()));
                }
            });
            *self = Self::Running(Carried { loader, load });
        }
        Started::Carried
    }

    fn ends_carried(&mut self, cx: &mut Context<'_>) -> bool {
        let Self::Running(carried) = self else { return false };
        let has_ended = carried.poll(cx).is_ready();
        if has_ended {
            *self = Self::Over;
        }
        has_ended
    }

    fn drop_carried(&mut self) {
        *self = Self::Over;
    }
}

/// A load that its call carries, and whose future the caller has pinned.
#[cfg(feature = "macros")]
pub(crate) struct Pinned<'a, F, K, R> {
    /// `None` once it has ended.
    load: Pin<&'a mut Option<F>>,
    keep: Option<K>,
    judge: fn(R, K) -> LoadResult,
    stage: PinnedStage,
}

#[cfg(feature = "macros")]
enum PinnedStage {
    Unstarted,
    Running(Box<CarriedLoad>),
    Over,
}

#[cfg(feature = "macros")]
impl<'a, F: Future<Output = R>, K, R> Pinned<'a, F, K, R> {
    /// `judge` makes the result of the load's output and `keep`.
    pub(crate) fn new(
        load: Pin<&'a mut Option<F>>,
        keep: K,
        judge: fn(R, K) -> LoadResult,
    ) -> Self {
        Self { load, keep: Some(keep), judge, stage: PinnedStage::Unstarted }
    }
}

#[cfg(feature = "macros")]
impl<F: Future<Output = R>, K, R> Loader for Pinned<'_, F, K, R> {
    fn poll_once(&mut self, _: &str) -> Poll<LoadResult> {
        Poll::Pending
    }

    fn start(&mut self, task: LoadTask) -> Started {
        self.stage = PinnedStage::Running(CarriedLoad::begun(task, &mut || {}));
        Started::Carried
    }

    fn ends_carried(&mut self, cx: &mut Context<'_>) -> bool {
        let Self { load, keep, judge, stage } = self;
        let PinnedStage::Running(carried) = stage else { return false };
        let mut poll_load = |cx: &mut Context<'_>| {
            let Some(polled) = load.as_mut().as_pin_mut() else { return Poll::Ready(Err(used())) };
            let returned = ready!(polled.poll(cx));
            // Dropped at once, inside the guard against panics.
            load.set(None);
            Poll::Ready(keep.take().map_or_else(|| Err(used()), |keep| judge(returned, keep)))
        };
        let has_ended = carried.poll(&mut poll_load, cx).is_ready();
        if has_ended {
            self.drop_carried();
        }
        has_ended
    }

    fn drop_carried(&mut self) {
        self.end();
    }
}

#[cfg(feature = "macros")]
impl<F, K, R> Pinned<'_, F, K, R> {
    /// Drops the load's future first, as a part of the load.
    fn end(&mut self) {
        let stage = std::mem::replace(&mut self.stage, PinnedStage::Over);
        if let PinnedStage::Running(carried) = stage {
            carried.within(&mut || self.load.set(None));
        }
    }
}

#[cfg(feature = "macros")]
impl<F, K, R> Drop for Pinned<'_, F, K, R> {
    fn drop(&mut self) {
        self.end();
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
