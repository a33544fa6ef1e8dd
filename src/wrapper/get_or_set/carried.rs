//! A load that only its call can poll, because its loader's future borrows or is not `Send`. If the
//! call is dropped, so is the load.
//!
//! The loader's future stays in the call, which is the only code that knows its type. Here is what
//! else belongs to the load; it is compiled once, with larder.

use super::load_result::{LoadResult, Panic};
use super::task::{LoadTask, Loading};
use crate::runtime;
use crate::single_flight::{Flight, Outcome};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// Polls the loader's future.
type PollLoader<'l> = &'l mut dyn FnMut(&mut Context<'_>) -> Poll<LoadResult>;

/// A load without its loader.
pub(super) struct CarriedLoad {
    flight: Arc<Flight>,
    stage: Stage,
    /// As in [`CallerDriven`](super::driver::CallerDriven); true from the start for a caller that
    /// blocks no thread.
    has_parked: bool,
}

/// There is one stage for each load that is carried, so a box would be one more allocation.
#[allow(clippy::large_enum_variant)]
enum Stage {
    Preparing(BoxFuture<'static, (LoadTask, Result<Option<Outcome>, Panic>)>),
    Loading(LoadTask, Instant),
    Over,
}

impl CarriedLoad {
    /// Begins a load, whose loader `make` makes.
    pub(super) fn begun(task: LoadTask, make: &mut dyn FnMut()) -> Box<Self> {
        Box::new(match task.call(make) {
            Ok(()) => Self::new(task),
            // The panic of a closure that makes a future is one of the load.
            Err(panic) => Self::failed(task, panic),
        })
    }

    fn new(mut task: LoadTask) -> Self {
        let (flight, has_parked) = (task.flight().clone(), !task.is_caller_driven);
        let preparing = async move {
            let prepared = AssertUnwindSafe(task.prepare()).catch_unwind().await;
            (task, prepared)
        };
        Self { flight, stage: Stage::Preparing(Box::pin(preparing)), has_parked }
    }

    /// A load whose loader could not be made.
    fn failed(task: LoadTask, panic: Panic) -> Self {
        let flight = task.flight().clone();
        task.land(Loading::Over(Err(panic), Duration::ZERO));
        Self { flight, stage: Stage::Over, has_parked: true }
    }

    /// Polls the load, and with it the loader.
    pub(super) fn poll(&mut self, loader: PollLoader<'_>, cx: &mut Context<'_>) -> Poll<()> {
        if !std::mem::replace(&mut self.has_parked, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.flight.note_poll(cx.waker());
        runtime::inside_now(|| runtime::deeper(|| self.advance(loader, cx)))
    }

    fn advance(&mut self, loader: PollLoader<'_>, cx: &mut Context<'_>) -> Poll<()> {
        if let Stage::Preparing(preparing) = &mut self.stage {
            let (task, prepared) = ready!(preparing.as_mut().poll(cx));
            let needless = match prepared {
                Ok(None) => None,
                Ok(Some(outcome)) => Some(Loading::Needless(outcome)),
                Err(panic) => Some(Loading::Over(Err(panic), Duration::ZERO)),
            };
            self.stage = match needless {
                Some(loading) => {
                    task.land(loading);
                    Stage::Over
                }
                None => {
                    let started = task.started.unwrap_or_else(Instant::now);
                    Stage::Loading(task, started)
                }
            };
        }
        let Stage::Loading(task, started) = &self.stage else { return Poll::Ready(()) };
        task.flight().note_thread();
        let loaded = match task.call(|| loader(cx)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(loaded)) => Ok(loaded),
            Err(panic) => Err(panic),
        };
        let cost = started.elapsed();
        if let Stage::Loading(task, _) = std::mem::replace(&mut self.stage, Stage::Over) {
            task.land(Loading::Over(loaded, cost));
        }
        Poll::Ready(())
    }

    /// Runs code of the loader, which ends with its call.
    pub(super) fn within(&self, code: &mut dyn FnMut()) {
        match &self.stage {
            Stage::Loading(task, _) => task.within(code),
            Stage::Preparing(_) | Stage::Over => code(),
        }
    }
}
