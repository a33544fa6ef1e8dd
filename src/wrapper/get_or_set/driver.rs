//! Who drives a load.
//!
//! Callers of the async face give it to a task: they may be parked or dropped. A caller of the
//! blocking face waits on its own thread for as long as the load takes, and so drives it there: a
//! load that asks for another key needs no second thread while it holds the first, however deep.

use super::task::{Cause, LoadTask};
use crate::observers::inherit;
use crate::runtime;
use crate::single_flight::Flight;
use crate::wrapper::{Cacheable, Loaded, View};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

type Load = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A load that its caller drives while it waits. If the caller leaves, a task goes on with it.
pub(super) struct CallerDriven {
    flight: Arc<Flight>,
    load: Option<Load>,
    /// Whether the caller has been told to park, by which a worker of a runtime hands its tasks to
    /// another thread: only then the loader may block this one.
    has_parked: bool,
}

impl View<'_> {
    /// For a caller that waits on its own thread until the call is over.
    pub(crate) fn caller_driven(mut self) -> Self {
        self.is_caller_driven = true;
        self
    }
}

impl LoadTask {
    /// Starts the load; what is given back is to be polled by the caller as it waits.
    pub(super) fn start<T: Cacheable>(
        self,
        loader: impl Future<Output = Result<Loaded<T>, Cause>> + Send + 'static,
    ) -> Option<CallerDriven> {
        let flight = self.flight().clone();
        // A caller that would not wait for ever must be able to leave a loader that blocks.
        let is_left_alone = self.has_limit() && !self.is_nested;
        let by_caller = self.is_caller_driven && !is_left_alone && !runtime::is_gone();
        // A load that an observer began is not told.
        let mut load: Load = Box::pin(inherit(Box::pin(self.run(loader))));
        if !by_caller {
            flight.runs_on(runtime::spawn_loader(load));
            return None;
        }
        if runtime::is_stack_deep() {
            match runtime::spawn_on_new_stack(load) {
                Ok(()) => return None,
                // There is no thread to be had, and this stack may last.
                Err(refused) => load = refused,
            }
        }
        Some(CallerDriven { flight, load: Some(load), has_parked: false })
    }
}

impl Future for CallerDriven {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if !std::mem::replace(&mut self.has_parked, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Some(load) = &mut self.load else { return Poll::Ready(()) };
        if runtime::deeper(|| load.as_mut().poll(cx)).is_ready() {
            self.load = None;
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl Drop for CallerDriven {
    fn drop(&mut self) {
        if let Some(load) = self.load.take() {
            self.flight.runs_on(runtime::spawn_loader(load));
        }
    }
}
