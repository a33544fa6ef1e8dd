//! The near level that follows a cache, and whether the server tells it of changes.

use super::connection::connection::Connection;
use super::connection::tracking::Tracking;
use super::errors::{BACKEND, Failure};
use crate::adapter::{Follower, Source};
use crate::error::Error;
use crate::event::EventKind;
use crate::observers::{EventSinks, EventsApart, OwnedEvent};
use crate::runtime::lock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio::time::Instant;

/// The verb in events about sources.
const OP: &str = "tracking";

/// The near level of a cache, if there is one.
pub(super) struct Following {
    current: Mutex<Current>,
    events: Arc<EventsApart>,
    /// The server was last found to tell nothing.
    is_by_age: AtomicBool,
}

/// The near level that is told now.
#[derive(Default)]
struct Current {
    follower: Option<Follower>,
    /// How many near levels have followed so far.
    number: u64,
    /// The connections that tell it.
    told_by: Vec<Weak<Tracking>>,
}

impl Following {
    pub(super) fn new(sinks: Arc<EventSinks>) -> Self {
        let events = EventsApart::new(sinks);
        Self { current: Mutex::default(), events, is_by_age: AtomicBool::new(false) }
    }

    /// From now on connections that are opened tell this near level, and the sources of an earlier
    /// one end: an answer names one source, and nobody knows for which of two near levels it is.
    pub(super) fn set(&self, follower: Follower) {
        let earlier = {
            let mut current = lock(&self.current);
            let number = current.number + 1;
            std::mem::replace(
                &mut *current,
                Current { follower: Some(follower), number, told_by: Vec::new() },
            )
        };
        let told = earlier.told_by.iter().filter_map(Weak::upgrade);
        told.for_each(|tracking| tracking.unfollow());
    }

    /// Makes a connection that was just opened a source, if a near level follows the cache and the
    /// server can tell. If not, what is read over the connection is near by age.
    pub(super) async fn begin(
        &self,
        connection: &Connection,
        deadline: Instant,
        timeout: Duration,
    ) -> Result<(), Failure> {
        let number = {
            let current = lock(&self.current);
            if current.follower.as_ref().is_none_or(Follower::is_gone) {
                return Ok(());
            }
            current.number
        };
        match connection.track(deadline).await {
            Ok(()) => {
                self.note(None);
                if self.open(connection, number, timeout) {
                    return Ok(());
                }
                connection.untrack(deadline).await
            }
            Err(failure) if failure.answered => {
                self.note(Some(failure.error));
                Ok(())
            }
            Err(failure) => Err(failure),
        }
    }

    /// Opens the source, if the near level is still the one that followed when the connection was
    /// opened. Returns whether it is.
    fn open(&self, connection: &Connection, number: u64, timeout: Duration) -> bool {
        let Some(source) = self.source(number) else { return false };
        {
            // First `set` can end the source, then it is opened: the other way round it could stay
            // open behind a `set` in between. No code of the near level runs under this lock, as
            // observers of its events may call the cache.
            let mut current = lock(&self.current);
            if current.number != number {
                return false;
            }
            current.told_by.retain(|tracking| tracking.strong_count() > 0);
            current.told_by.push(connection.tracking());
        }
        connection.open_source(source, timeout);
        true
    }

    fn source(&self, number: u64) -> Option<Source> {
        let follower = {
            let current = lock(&self.current);
            if current.number == number { current.follower.clone() } else { None }
        };
        follower?.source()
    }

    /// Emits one event when the server is first found to tell nothing, and one when it tells again.
    fn note(&self, untold: Option<Error>) {
        if self.is_by_age.swap(untold.is_some(), Ordering::Relaxed) == untold.is_some() {
            return;
        }
        let error = untold.map(|error| error.with_op(OP));
        let kind = if error.is_some() { EventKind::NearLost } else { EventKind::NearBack };
        self.events.emit(OwnedEvent { kind, backend: BACKEND.into(), op: Some(OP), error });
    }
}
