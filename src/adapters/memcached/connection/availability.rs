//! Whether a server is worth a caller's time.

use crate::error::Error;
use crate::runtime::{Backoff, lock};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Between two attempts to connect.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(400));

/// How late somebody who tries again may be. One that is later stands still with its runtime, and is not waited for.
const LATE: Duration = Duration::from_millis(500);

/// Open while all is well. Once a connection could not be opened it is closed: callers are turned away at once, and one task tries
/// again in the background, after pauses that double.
#[derive(Debug, Default)]
pub(in crate::adapters::memcached) struct Availability(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    closed_until: Option<Instant>,
    /// Why the last attempt failed.
    cause: Option<Error>,
}

impl State {
    fn is_closed(&self) -> bool {
        self.closed_until.is_some_and(|until| Instant::now() < until)
    }
}

impl Availability {
    /// Why callers are turned away, if they are.
    pub(in crate::adapters::memcached) fn closed_by(&self) -> Option<Error> {
        let state = lock(&self.0);
        if state.is_closed() { state.cause.clone() } else { None }
    }

    /// Opens it: a connection was made, or somebody asked for one in so many words.
    pub(in crate::adapters::memcached) fn open(&self) {
        *lock(&self.0) = State::default();
    }

    /// Closes it after a failure. `true` for the first one, who has to see to it that somebody tries again.
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

    /// For the one who tries again: another attempt failed.
    pub(in crate::adapters::memcached) fn still_closed_by(&self, cause: &Error) {
        lock(&self.0).cause = Some(cause.clone());
    }

    /// For the one who tries again: how long to wait before an attempt that takes up to `attempt`. `None` if it is open.
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
    fn one_of_many_tries_again() {
        let server = Availability::default();
        assert!(is_open(&server) && server.pause(LATE).is_none());
        assert_eq!((0..4).filter(|_| close(&server)).count(), 1);
        assert!(!is_open(&server));
        server.open();
        assert!(is_open(&server) && close(&server));
    }

    #[test]
    fn who_stands_still_is_not_waited_for() {
        let server = Availability::default();
        assert!(close(&server));
        lock(&server.0).closed_until = Some(Instant::now());
        assert!(is_open(&server));
        assert!(close(&server), "and somebody else takes over");
    }

    #[test]
    fn the_latest_cause_is_told() {
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
