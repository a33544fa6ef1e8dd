//! How long a call waits for a flight, and for flights that it gave up earlier.

use crate::runtime;
use crate::single_flight::{Arrival, Flight, Outcome};
use futures_util::future::{Either, select};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// How a wait for a flight ended.
pub(super) enum Wait {
    Over(Arrival),
    /// The soft timeout: a value can be served, and the caller waits no longer for a newer one.
    Soft,
    Hard,
}

impl Wait {
    /// Waits within the soft and hard timeout of a caller.
    pub(super) async fn within(
        soft: Option<Duration>,
        hard: Option<Duration>,
        arrival: impl Future<Output = Arrival>,
    ) -> Self {
        let (limit, end) = match (soft, hard) {
            (None, None) => return Self::Over(arrival.await),
            (Some(soft), hard) if hard.is_none_or(|hard| soft <= hard) => (soft, Self::Soft),
            (_, hard) => (hard.unwrap_or_default(), Self::Hard),
        };
        if limit.is_zero() {
            return end;
        }
        Box::pin(runtime::user_timeout(limit, arrival)).await.map_or(end, Self::Over)
    }
}

/// The flights that a caller gave up because their runtimes seemed to have stopped. If one of them
/// ends with a value after all, the value is an answer.
#[derive(Default)]
pub(super) struct Abandoned(Vec<Arc<Flight>>);

impl Abandoned {
    pub(super) fn add(&mut self, flight: &Arc<Flight>) {
        self.0.push(flight.clone());
    }

    /// Waits for `arrival`, or for the value of a flight that was given up. `arrival` is boxed,
    /// because each future around the wait would otherwise contain it again, beside a loader.
    pub(super) async fn or_first(
        &self,
        arrival: Pin<Box<impl Future<Output = Arrival> + ?Sized>>,
    ) -> Arrival {
        if self.0.is_empty() {
            return arrival.await;
        }
        match select(arrival, Box::pin(self.value())).await {
            Either::Left((arrival, _)) => arrival,
            Either::Right((outcome, _)) => Arrival::Finished(outcome),
        }
    }

    /// Waits for the first value of these flights; for ever if none has one.
    async fn value(&self) -> Outcome {
        let mut waits: Vec<_> = self.0.iter().map(|flight| Box::pin(flight.outcome())).collect();
        poll_fn(|cx| {
            let mut value = None;
            waits.retain_mut(|wait| match wait.as_mut().poll(cx) {
                Poll::Pending => true,
                Poll::Ready(Some(loaded @ Outcome::Loaded { .. })) => {
                    value = Some(loaded);
                    false
                }
                Poll::Ready(_) => false,
            });
            value.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}
