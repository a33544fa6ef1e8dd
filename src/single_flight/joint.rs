//! One loader for several flights.

use super::current::Current;
use super::flight::{self, Flight};
use super::wait_graph::Edge;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::thread;

/// The flights of a loader that loads several keys.
///
/// The loader has a number of its own in the wait-for graph, and each of its flights waits for it.
/// So a wait of the loader for one of its own keys is found as a cycle.
pub(crate) struct JointLoad {
    flights: Vec<Arc<Flight>>,
    current: Current,
    _waits: Vec<Edge>,
}

impl JointLoad {
    pub(crate) fn new(flights: Vec<Arc<Flight>>) -> Self {
        let flight = flight::take_id();
        let waits = flights.iter().filter_map(|waiting| Edge::add(Some(waiting.id()), flight));
        let depth = flights.iter().map(|flight| flight.depth()).max().unwrap_or_default();
        Self { _waits: waits.collect(), current: Current { flight, depth }, flights }
    }

    pub(crate) fn flights(&self) -> &[Arc<Flight>] {
        &self.flights
    }

    /// Runs a loader's future as the loader of these flights.
    pub(crate) async fn run<F: Future>(&self, loader: F) -> F::Output {
        let mut loader = pin!(loader);
        let mut thread = None;
        let polled = poll_fn(|cx| {
            // A loader is mostly polled by one thread, and may have many flights.
            if thread.replace(thread::current().id()) != Some(thread::current().id()) {
                self.flights.iter().for_each(|flight| flight.note_thread());
            }
            loader.as_mut().poll(cx)
        });
        self.current.run(polled).await
    }

    /// Runs a closure as a part of the loader of these flights.
    pub(crate) fn run_now<R>(&self, closure: impl FnOnce() -> R) -> R {
        self.current.run_now(closure)
    }
}
