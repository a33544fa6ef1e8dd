//! How long a call waits for a flight, and what it hears meanwhile.

use crate::runtime;
use crate::single_flight::{Arrival, Flight, Outcome};
use futures_util::future::{Either, select};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// A wait for a flight. Boxed, or each future around it would hold it again, in a call that holds a
/// loader already.
pub(super) type Arriving<'a> = Pin<Box<dyn Future<Output = Arrival> + Send + 'a>>;

/// How a wait for a flight ended.
pub(super) enum Wait {
    Over(Arrival),
    /// There is something to serve, and the caller does not want to wait longer for something
    /// better.
    Soft,
    Hard,
}

impl Wait {
    /// Waits within the limits of a caller.
    pub(super) async fn within(
        soft: Option<Duration>,
        hard: Option<Duration>,
        arrival: Arriving<'_>,
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

/// The flights that a caller gave up, since nobody seemed to work at them. Should one of them have
/// a value after all, that is an answer.
#[derive(Default)]
pub(super) struct Abandoned(Vec<Arc<Flight>>);

impl Abandoned {
    pub(super) fn add(&mut self, flight: &Arc<Flight>) {
        self.0.push(flight.clone());
    }

    /// Waits for `arrival`, or for a value of one of these flights.
    pub(super) fn or_first<'a>(&'a self, arrival: Arriving<'a>) -> Arriving<'a> {
        if self.0.is_empty() {
            return arrival;
        }
        Box::pin(async move {
            match select(arrival, Box::pin(self.value())).await {
                Either::Left((arrival, _)) => arrival,
                Either::Right((outcome, _)) => Arrival::Finished(outcome),
            }
        })
    }

    /// The first value that one of them has; without end if none ever has one.
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
