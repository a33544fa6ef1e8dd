//! The one who finishes a flight.

use super::Flights;
use super::current::Current;
use super::flight::{self, Flight, Outcome, Phase};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;

/// The right, and the duty, to finish a flight. Dropping it loses the flight, and its followers try
/// again.
pub(crate) struct LeaderGuard {
    flights: Arc<Flights>,
    flight: Arc<Flight>,
    end: Phase,
}

impl LeaderGuard {
    pub(super) fn new(flights: &Arc<Flights>, flight: Arc<Flight>) -> Self {
        Self { flights: flights.clone(), flight, end: Phase::Lost }
    }

    pub(crate) fn flight(&self) -> &Arc<Flight> {
        &self.flight
    }

    /// Runs a loader's future as the loader of this flight.
    pub(crate) async fn run<F: Future>(&self, loader: F) -> F::Output {
        let mut loader = pin!(loader);
        let polled = poll_fn(|cx| {
            self.flight.note_thread();
            loader.as_mut().poll(cx)
        });
        self.current().run(polled).await
    }

    /// Runs a loader's closure as the loader of this flight.
    pub(crate) fn run_now<R>(&self, loader: impl FnOnce() -> R) -> R {
        self.current().run_now(loader)
    }

    /// Whether the value may be stored: no write came since the flight began, and no newer load.
    /// Older loads that are being stored are waited for, so that the newest value is stored last.
    pub(crate) async fn begin_store(&self) -> bool {
        let older = self.flights.stores_before(&self.flight);
        flight::await_stores(older.clone()).await;
        // One that is still not done would land after this one: it is to take itself back.
        for older in &older {
            older.invalidate();
        }
        self.flight.begin_store()
    }

    /// Whether a write, or a newer load, came since the flight began.
    pub(crate) fn is_invalidated(&self) -> bool {
        self.flight.is_invalidated()
    }

    /// Gives everybody the outcome.
    pub(crate) fn finish(mut self, outcome: Outcome) {
        self.end = Phase::Finished(outcome);
    }

    fn current(&self) -> Current {
        Current { flight: self.flight.id(), depth: self.flight.depth() }
    }
}

impl Drop for LeaderGuard {
    fn drop(&mut self) {
        // In this order: whoever hears of the end must not find the flight.
        self.flights.remove(&self.flight);
        self.flight.end(std::mem::replace(&mut self.end, Phase::Lost));
    }
}
