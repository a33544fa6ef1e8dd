//! Whether a server is available: a circuit breaker for connecting.

use crate::error::Error;
use crate::runtime::{Backoff, lock};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The pauses between attempts to connect.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(400));

/// How late the reconnecting task may be. If it is later, its runtime is blocked, and another task
/// takes over.
const LATE: Duration = Duration::from_millis(500);

/// Open by default, which means available. It closes when a connection cannot be opened: callers
/// then get an error at once, while one task tries to connect in the background, with exponential
/// back-off.
#[derive(Debug, Default)]
pub(in crate::adapters::memcached) struct Availability(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    closed_until: Option<Instant>,
    /// The error of the last attempt.
    cause: Option<Error>,
}

impl State {
    fn is_closed(&self) -> bool {
        self.closed_until.is_some_and(|until| Instant::now() < until)
    }
}

impl Availability {
    /// The error for callers, while it is closed.
    pub(in crate::adapters::memcached) fn closed_by(&self) -> Option<Error> {
        let state = lock(&self.0);
        if state.is_closed() { state.cause.clone() } else { None }
    }

    /// Opens it, after a connection was made or `close` was called.
    pub(in crate::adapters::memcached) fn open(&self) {
        *lock(&self.0) = State::default();
    }

    /// Closes it after a failure. Returns `true` to the first caller, which must start the
    /// reconnecting task.
    pub(in crate::adapters::memcached) fn close(&self, cause: &Error) -> bool {
        let mut state = lock(&self.0);
        if state.is_closed() {
            return false;
        }
        *state = State {
            failures: 0,
            closed_until: Some(Instant::now() + LATE),
            cause: Some(cause.clone()),
        };
        true
    }

    /// Records that another attempt of the reconnecting task has failed.
    pub(in crate::adapters::memcached) fn still_closed_by(&self, cause: &Error) {
        lock(&self.0).cause = Some(cause.clone());
    }

    /// How long the reconnecting task waits before its next attempt, which takes up to `attempt`.
    /// `None` if it is open.
    pub(in crate::adapters::memcached) fn pause(&self, attempt: Duration) -> Option<Duration> {
        let mut state = lock(&self.0);
        state.closed_until?;
        let pause = BACKOFF.pause(state.failures);
        state.failures = state.failures.saturating_add(1);
        state.closed_until = Some(Instant::now() + pause + attempt + LATE);
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn close(availability: &Availability) -> bool {
        availability.close(&Error::new(ErrorKind::Unavailable).with_message("refused"))
    }

    fn is_open(availability: &Availability) -> bool {
        availability.closed_by().is_none()
    }

    #[test]
    fn one_of_many_callers_starts_to_reconnect() {
        let server = Availability::default();
        assert!(is_open(&server) && server.pause(LATE).is_none());
        assert_eq!((0..4).filter(|_| close(&server)).count(), 1);
        assert!(!is_open(&server));
        server.open();
        assert!(is_open(&server) && close(&server));
    }

    #[test]
    fn a_reconnecting_task_that_is_blocked_is_replaced() {
        let server = Availability::default();
        assert!(close(&server));
        lock(&server.0).closed_until = Some(Instant::now());
        assert!(is_open(&server));
        assert!(close(&server), "another task takes over");
    }

    #[test]
    fn callers_get_the_latest_cause() {
        let server = Availability::default();
        close(&server);
        assert!(server.closed_by().is_some_and(|cause| cause.to_string().contains("refused")));
        server.still_closed_by(&Error::new(ErrorKind::Timeout).with_message("no answer"));
        assert!(server.closed_by().is_some_and(|cause| cause.to_string().contains("no answer")));
    }

    #[test]
    fn pauses_grow_and_stay_under_half_a_second() {
        let server = Availability::default();
        close(&server);
        let pauses: Vec<Duration> = (0..40).filter_map(|_| server.pause(LATE)).collect();
        assert!(pauses[0] <= BACKOFF.longest_after(0));
        let longest = Duration::from_millis(400);
        assert!(
            pauses[20..].iter().all(|pause| (longest / 2..=longest).contains(pause)),
            "{pauses:?}"
        );
    }
}
