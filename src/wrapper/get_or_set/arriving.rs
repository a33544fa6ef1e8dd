//! How a call waits for a flight, as its leader or a follower, and what it makes of the outcome.

use super::call::{GetOrSet, OP, Step};
use super::driver::Runs;
use super::found::{Miss, Reserve};
use super::rest::Driven;
use super::waiting::Wait;
use crate::error::{Error, ErrorKind, Result};
use crate::event::EventKind;
use crate::runtime;
use crate::single_flight::{Arrival, Flight, Outcome};
use crate::value::CacheValue;
use crate::wrapper::events::CallInfo;
use crate::wrapper::value_type::Answer;
use futures_util::future::{BoxFuture, join};
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

impl<'a> GetOrSet<'a> {
    /// Waits for the flight of another caller; `None` if that flight waits for this call.
    pub(super) async fn follow(
        &mut self,
        flight: &Arc<Flight>,
        miss: &mut Miss<'a>,
    ) -> Option<Step> {
        // A value that has not expired is served without waiting for a newer one.
        if miss.usable.as_ref().is_some_and(|usable| !usable.is_stale) {
            return Some(ControlFlow::Break(self.serve(miss.take())));
        }
        self.view.cache.emit(self.slot, EventKind::Joined, CallInfo::new(OP, self.key));
        let outcome = match self.wait(miss, Box::pin(flight.arrival())).await {
            Wait::Over(Arrival::Finished(outcome)) => outcome,
            Wait::Over(Arrival::Lost) => {
                self.slot.flights.give_up(flight);
                self.abandoned.add(flight);
                return Some(ControlFlow::Continue(()));
            }
            Wait::Over(Arrival::Cycle) if miss.usable.is_none() => return None,
            Wait::Over(Arrival::Cycle) | Wait::Soft => {
                return Some(ControlFlow::Break(self.serve(miss.take())));
            }
            Wait::Hard => Outcome::Failed(self.out_of_time(miss.usable.is_some())),
        };
        if matches!(outcome, Outcome::Absent) {
            return Some(match self.runs {
                Runs::InBatch => ControlFlow::Break(Err(self.absent(miss.take()))),
                // Another call's loader does not know the key; this one may.
                _ => ControlFlow::Continue(()),
            });
        }
        // The leader refused to load without the backend, but this caller has fail-open: load
        // again.
        if matches!(outcome, Outcome::Refused(_)) && self.view.options.fail_open {
            return Some(ControlFlow::Continue(()));
        }
        if matches!(outcome, Outcome::Elsewhere) {
            return Some(ControlFlow::Continue(()));
        }
        let value = match self.value_of(outcome) {
            Ok(value) => value,
            Err(_) if miss.usable.is_some() => {
                return Some(ControlFlow::Break(self.serve(miss.take())));
            }
            Err(error) => return Some(ControlFlow::Break(Err(error))),
        };
        // A value that was loaded as another type is loaded again, which also replaces the entry.
        let Ok(value) = self.of.answer(&value) else { return Some(ControlFlow::Continue(())) };
        self.emit_once(EventKind::Miss, miss.info);
        Some(ControlFlow::Break(Ok(value)))
    }

    /// Waits for the end of a flight that began too early to answer this call; `None` if that
    /// flight waits for this call.
    pub(super) async fn let_end(
        &mut self,
        flight: &Arc<Flight>,
        limit: Option<Duration>,
        miss: &mut Miss<'a>,
    ) -> Option<Step> {
        let arrival = async {
            match limit {
                Some(limit) => runtime::background_timeout(limit, flight.arrival()).await,
                None => Some(flight.arrival().await),
            }
        };
        let end = Box::pin(async { arrival.await.unwrap_or(Arrival::Lost) });
        match self.wait(miss, end).await {
            Wait::Over(Arrival::Cycle) => return None,
            Wait::Over(Arrival::Lost) if limit.is_none() => self.slot.flights.give_up(flight),
            Wait::Over(_) => {}
            Wait::Soft => return Some(ControlFlow::Break(self.serve(miss.take()))),
            Wait::Hard => return Some(ControlFlow::Break(self.at_hard_limit(miss.take()))),
        }
        if let Some(forced) = &mut self.forced {
            forced.has_waited = true;
        }
        Some(ControlFlow::Continue(()))
    }

    /// The outcome of a flight as this caller's options see it.
    fn value_of(&self, outcome: Outcome) -> Result<CacheValue> {
        match outcome {
            Outcome::Loaded { not_stored: Some(error), .. } if !self.view.options.fail_open => {
                Err(error)
            }
            Outcome::Loaded { value, .. } => Ok(value),
            Outcome::Failed(error) | Outcome::Refused(error) => Err(error),
            Outcome::Absent => Err(Error::not_found(self.key).with_op(OP)),
            // Its leader serves the value at hand.
            Outcome::Elsewhere => Err(self.late()),
        }
    }

    /// Waits for the outcome of a load that has started, and drives it meanwhile if the caller has
    /// to.
    pub(super) async fn finish(
        &mut self,
        driven: Option<Driven>,
        flight: &Arc<Flight>,
        landing: BoxFuture<'_, Arrival>,
        miss: Miss<'a>,
    ) -> Result<Answer> {
        let wait = match driven {
            // A closure has ended already, and its store has a deadline of its own.
            None if self.runs == Runs::AtOnce => Wait::Over(landing.await),
            None => self.wait(&miss, landing).await,
            Some(driven) => {
                let arrival = Box::pin(async move { join(driven, landing).await.1 });
                self.wait(&miss, arrival).await
            }
        };
        self.land(wait, flight, miss)
    }

    /// Answers as the leader. `flight` is the one for which the event of the load is emitted.
    pub(super) fn land(&mut self, wait: Wait, flight: &Flight, miss: Miss<'a>) -> Result<Answer> {
        let failed =
            |kind, words| Error::new(kind).with_op(OP).with_key(self.key).with_message(words);
        let value = match wait {
            Wait::Over(Arrival::Finished(Outcome::Absent)) => return Err(self.absent(miss)),
            Wait::Over(Arrival::Finished(outcome)) => self.value_of(outcome),
            // The load goes on, but a thread that is ending cannot wait for it.
            Wait::Over(Arrival::Lost) if runtime::is_gone() => {
                Err(runtime::gone().with_op(OP).with_key(self.key))
            }
            Wait::Over(_) => {
                Err(failed(ErrorKind::Load, "the loader's task went away before it was done"))
            }
            Wait::Soft => return self.serve(miss),
            Wait::Hard => {
                let late = self.out_of_time(miss.usable.is_some());
                let info = miss.info.error(&late);
                self.view.cache.emit_load(self.slot, flight, EventKind::LoadError, info);
                Err(late)
            }
        };
        match value.and_then(|value| self.of.answer(&value)) {
            Ok(value) => {
                self.emit_once(EventKind::Miss, miss.info);
                Ok(value)
            }
            Err(_) if miss.usable.is_some() => self.serve(miss),
            Err(error) => Err(error),
        }
    }

    /// The answer for a key that a loader for several keys did not give. A stale value is none
    /// either: the loader knows better.
    fn absent(&mut self, miss: Miss<'a>) -> Error {
        self.emit_once(EventKind::Miss, miss.info);
        Error::not_found(self.key).with_op(OP)
    }

    /// Waits for a flight within the time limits of the caller.
    pub(super) async fn wait(
        &self,
        miss: &Miss<'_>,
        arrival: Pin<Box<impl Future<Output = Arrival> + ?Sized>>,
    ) -> Wait {
        let (soft, hard) = self.limits(miss);
        Wait::within(soft, hard, self.abandoned.or_first(arrival)).await
    }

    /// The soft and hard timeout of the call. Without a value to serve there is no soft one.
    pub(super) fn limits(&self, miss: &Miss<'_>) -> (Option<Duration>, Option<Duration>) {
        let options = &self.view.options;
        (options.soft_limit().filter(|_| miss.usable.is_some()), options.hard_limit())
    }

    /// Ends a wait for the lease of another process that has lasted so long, if there is a value that
    /// has not expired, or a time limit of the call has passed.
    pub(super) fn end_wait(
        &mut self,
        miss: &mut Miss<'a>,
        waited: Duration,
    ) -> Option<Result<Answer>> {
        let (soft, hard) = self.limits(miss);
        let is_enough = miss.reserve() == Reserve::Fresh;
        if is_enough || soft.is_some_and(|soft| waited >= soft) {
            return Some(self.serve(miss.take()));
        }
        hard.is_some_and(|hard| waited >= hard).then(|| self.at_hard_limit(miss.take()))
    }

    /// How much longer a call waits that has waited so long.
    pub(super) fn left(&self, miss: &Miss<'_>, waited: Duration) -> Duration {
        let (soft, hard) = self.limits(miss);
        let limit = soft.into_iter().chain(hard).min();
        limit.map_or(Duration::MAX, |limit| limit.saturating_sub(waited))
    }

    /// Ends a wait that began no load: with the value at hand, or else with a timeout.
    pub(super) fn at_hard_limit(&mut self, miss: Miss<'a>) -> Result<Answer> {
        let late = self.out_of_time(miss.usable.is_some());
        if miss.usable.is_some() {
            return self.serve(miss);
        }
        self.emit_once(EventKind::Miss, miss.info);
        Err(late)
    }

    /// Ends the wait with a timeout. If a stale value can be served, also starts the cooldown of
    /// the loader, so that the next callers do not wait again.
    pub(super) fn out_of_time(&self, has_usable: bool) -> Error {
        if has_usable {
            self.slot.flights.throttle(self.scoped, self.view.options.throttle_for());
        }
        self.late()
    }

    pub(super) fn late(&self) -> Error {
        Error::new(ErrorKind::Timeout)
            .with_op(OP)
            .with_key(self.key)
            .with_message("the loader took longer than its caller would wait")
    }
}
