//! The leader's side of a flight: run the loader, store, finish.

use super::Flights;
use super::current::Current;
use super::flight::{self, Flight, Outcome, Phase};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;

/// The leader's handle, which finishes a flight. If it is dropped unfinished, the flight is lost
/// and its followers try again.
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

    /// Begins the store; `false` if a write or a newer load has begun since this flight did. Waits
    /// for older loads that are being stored, so that the newest value is stored last.
    pub(crate) async fn begin_store(&self) -> bool {
        let older = self.flights.stores_before(&self.flight);
        flight::await_stores(older.clone()).await;
        // An older store that is still running could reach the backend after this one. Once
        // invalidated, it removes what it wrote.
        for older in &older {
            older.invalidate();
        }
        self.flight.begin_store()
    }

    /// [`begin_store`](Self::begin_store) for a flight that began while no other load of the key was
    /// in flight: there is no older one to wait for.
    pub(crate) fn begin_store_alone(&self) -> bool {
        self.flight.begin_store()
    }

    /// Whether a write or a newer load has begun since this flight did.
    pub(crate) fn is_invalidated(&self) -> bool {
        self.flight.is_invalidated()
    }

    /// Ends the flight with an outcome, for all callers that wait.
    pub(crate) fn finish(mut self, outcome: Outcome) {
        self.end = Phase::Finished(outcome);
    }

    fn current(&self) -> Current {
        Current { flight: self.flight.id(), depth: self.flight.depth() }
    }
}

impl Drop for LeaderGuard {
    fn drop(&mut self) {
        // Remove the flight before announcing its end. A follower that wakes up and calls again
        // would otherwise find the finished flight and join it.
        self.flights.remove(&self.flight);
        // The last handle: nobody has joined the flight, and nobody can join it now.
        if Arc::strong_count(&self.flight) == 1 {
            return;
        }
        self.flight.end(std::mem::replace(&mut self.end, Phase::Lost));
    }
}
