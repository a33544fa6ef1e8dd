//! Who polls a load: a task, or the caller.
//!
//! Callers of the async face hand the load to a task, because they may be parked or dropped. A
//! caller of the blocking face waits on its own thread for as long as the load takes, and polls it
//! there: nested loads then need no further threads. A load that borrows from its caller
//! (`get_or_load_here`) cannot leave it on either face.

use super::found::Reserve;
use super::load_result::BoxedLoader;
use super::task::{LoadTask, ends_at_once};
use crate::observers::{inherit, is_observing};
use crate::runtime;
use crate::single_flight::Flight;
use crate::wrapper::View;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Where a loader runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runs {
    /// A closure, in the call that calls it. The right to store is acquired before the call joins a
    /// flight: the call may be parked while it waits for the right, and followers must not wait for
    /// a parked leader.
    AtOnce,
    /// A future, in a task of its own unless it is ready at once, which also acquires the right.
    InTask,
    /// A future, in the call, which ends the load if it is dropped.
    InCaller,
    /// A future for several keys, in a task of its own.
    InBatch,
}

/// Who polls a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Driver {
    /// The caller, for as long as it waits.
    Caller,
    /// A task, unless the load is ready when the call polls it once.
    CallOrTask,
    Task,
}

pub(super) type Load = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A load that its caller polls while it waits. If the caller is dropped, a task takes the load
/// over.
pub(super) struct CallerDriven {
    flights: Vec<Arc<Flight>>,
    load: Option<Load>,
    /// Whether the caller has parked once. By parking, a worker of a runtime hands its tasks to
    /// another thread; only after that may the loader block this one.
    has_parked: bool,
}

impl View<'_> {
    /// Marks the call as one that waits on its own thread until it has ended.
    pub(crate) fn caller_driven(mut self) -> Self {
        self.is_caller_driven = true;
        self
    }
}

impl LoadTask {
    /// Starts the load. A future that is returned has to be polled by the caller while it waits.
    pub(super) fn start(self, loader: BoxedLoader) -> Option<CallerDriven> {
        let (flight, driver) = (self.flight().clone(), self.driver());
        drive(Box::pin(self.run(loader)), &[flight], driver)
    }

    fn driver(&self) -> Driver {
        if self.is_driven_by_caller() {
            Driver::Caller
        } else if self.is_tried_at_once() {
            Driver::CallOrTask
        } else {
            Driver::Task
        }
    }

    /// Whether the caller polls the load.
    pub(super) fn is_driven_by_caller(&self) -> bool {
        // A caller with a time limit must be able to leave a loader that blocks, so it does not
        // poll the loader itself.
        let is_left_alone = self.has_limit() && !self.is_nested;
        self.is_caller_driven && !is_left_alone && !runtime::is_gone()
    }

    /// Whether the call polls the load once before a task is made for it: what is ready at once
    /// needs no task. Not where a value or a time limit waits for the caller, because a loader may
    /// block; not in another loader, because the stack would grow with each level; not over a store
    /// that waits, where the load is never ready at once; and not a second time.
    fn is_tried_at_once(&self) -> bool {
        self.started.is_none()
            && !self.is_caller_driven
            && !self.is_nested
            && self.reserve == Reserve::Nothing
            && !self.has_limit()
            && !self.slot.has_waited()
            && runtime::is_inside_one()
    }
}

/// Drives the load of some flights. A future that is returned has to be polled by the caller while
/// it waits.
pub(super) fn drive(load: Load, flights: &[Arc<Flight>], driver: Driver) -> Option<CallerDriven> {
    // If an observer started the load, its events are passed to no observer.
    let mut load: Load = if is_observing() { Box::pin(inherit(load)) } else { load };
    match driver {
        Driver::Task => hand_over(load, flights),
        Driver::CallOrTask if !ends_at_once(load.as_mut()) => hand_over(load, flights),
        Driver::CallOrTask => {}
        Driver::Caller => {
            if runtime::is_stack_deep() {
                // If the system refuses a thread, go on here: this stack may suffice.
                load = runtime::spawn_on_new_stack(load).err()?;
            }
            let flights = flights.to_vec();
            return Some(CallerDriven { flights, load: Some(load), has_parked: false });
        }
    }
    None
}

/// Hands the load of some flights to a task.
fn hand_over(load: Load, flights: &[Arc<Flight>]) {
    let home = runtime::spawn_loader(load);
    flights.iter().for_each(|flight| flight.runs_on(home.clone()));
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
            hand_over(load, &self.flights);
        }
    }
}
