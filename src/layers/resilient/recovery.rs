//! The recovery task: pings a backend that is away, and replays the failed writes when it is back.

use super::election::{Election, Tenure};
use super::journal::{Noted, Standing, Write};
use super::replay::replay;
use super::{Shared, State, is_away};
use crate::adapter::AsyncCacheAdapter;
use crate::error::{Error, ErrorKind, Result};
use crate::event::EventKind;
use crate::runtime;
use crate::runtime::Backoff;
use futures_util::FutureExt;
use futures_util::future::join_all;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// The pauses between two attempts. The longest pause is short, so that a backend that is back is
/// found within a fraction of a second.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(200));

/// How long one attempt may take if calls have no deadline.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a clear may take: it walks over all keys of the server in steps.
const CLEAR: Duration = Duration::from_secs(60);

/// How long the replay of notes delays the closing of the breaker. After that, only calls on keys
/// with notes wait.
const HEAD_START: Duration = Duration::from_millis(300);

/// How many notes are replayed at the same time.
const TOGETHER: usize = 32;

impl AsRef<Election> for Arc<State> {
    fn as_ref(&self) -> &Election {
        &self.election
    }
}

/// Starts the recovery task, unless one is running. It runs on the caller's runtime, because
/// connections belong to a runtime.
pub(super) fn summon<A: AsyncCacheAdapter>(shared: &Arc<Shared<A>>) {
    // On a runtime that cannot open connections the task would never see the backend come back. A
    // caller on another runtime starts it.
    if runtime::can_connect().is_err() {
        return;
    }
    if let Some(tenure) = Election::win(shared.state.clone()) {
        runtime::spawn(recover(Arc::downgrade(shared), shared.state.clone(), Some(tenure)));
    }
}

/// The recovery task. It does not keep the adapter alive while it pauses.
async fn recover<A: AsyncCacheAdapter>(
    adapter: Weak<Shared<A>>,
    state: Arc<State>,
    mut tenure: Option<Tenure<Arc<State>>>,
) {
    let mut misses = 0;
    while let Some(held) = &tenure {
        let pause = BACKOFF.pause(misses);
        if !held.renew(pause) {
            return;
        }
        if misses == 0 {
            // A call that waits for a first attempt cuts the pause short.
            let _woken = timeout(pause, state.journal.wake.notified()).await;
        } else {
            tokio::time::sleep(pause).await;
        }
        let Some(shared) = adapter.upgrade() else { return };
        if !held.renew(CLEAR) {
            return;
        }
        misses = if shared.attend(misses).await { 0 } else { misses + 1 };
        drop(shared);
        if state.is_calm() {
            // Check once more without the tenure. A write that failed after the last check found
            // this task still elected and started no other one; its note must not be left behind.
            tenure = None;
            if !state.is_calm() {
                tenure = Election::win(state.clone());
            }
        }
    }
}

/// A call of the adapter, with panics contained. A panic in one value's `Serialize` would otherwise
/// end the recovery task at each attempt.
async fn limited<T>(limit: Duration, call: impl Future<Output = Result<T>>) -> Result<T> {
    match timeout(limit, AssertUnwindSafe(call).catch_unwind()).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_panic)) => Err(Error::new(ErrorKind::Panic).with_message("the adapter panicked")),
        Err(_) => Err(Error::new(ErrorKind::Timeout)),
    }
}

/// The state of a note whose write failed with this error; `None` if the write can never succeed.
fn later(error: &Error) -> Option<Standing> {
    if error.is_refused_write() {
        Some(Standing::Refused)
    } else {
        is_away(error).then_some(Standing::Failed)
    }
}

impl<A: AsyncCacheAdapter> Shared<A> {
    fn patience(&self) -> Duration {
        self.state.config.deadline.map_or(PATIENCE, |deadline| deadline.limit())
    }

    /// Makes one attempt, after `misses` failed ones. Returns whether the backend answers and
    /// accepts writes.
    async fn attend(&self, misses: u32) -> bool {
        let state = &*self.state;
        if !state.breaker.half_open() {
            return self.write_all(misses, None).await;
        }
        // An error that waiting does not mend counts as an answer: the callers get it. A panic says
        // nothing about the backend.
        if let Err(error) = limited(self.patience(), self.inner.ping()).await
            && (is_away(&error) || error.kind() == ErrorKind::Panic)
        {
            state.found_away(&error);
            state.breaker.reopen();
            return false;
        }
        let written = self.write_all(misses, Some(Instant::now() + HEAD_START)).await;
        self.closed();
        written
    }

    /// Closes the breaker, because the backend has answered.
    pub(super) fn closed(&self) {
        if self.state.breaker.close() {
            self.emit(EventKind::BreakerClose, None, None);
        }
    }

    /// Replays the notes, clears first. Returns `false` if the backend was away for any of them.
    async fn write_all(&self, misses: u32, until: Option<Instant>) -> bool {
        if !self.clear_all().await {
            return false;
        }
        let (mut last, mut all_written) = (0, true);
        // After a failed attempt, a single write tests whether the backend takes writes again.
        let mut together = if misses > 0 && self.state.breaker.is_on() { 1 } else { TOGETHER };
        loop {
            let notes = self.state.journal.after(last, together);
            let Some(note) = notes.last() else { break };
            last = note.number;
            together = TOGETHER;
            let failed = self.write(&notes).await;
            if let Some(standing) = failed.iter().max() {
                all_written = false;
                self.state.journal.all_are(*standing);
            }
            // If no note of the batch could be written, stop. If some could, go on: the others may
            // belong to another server.
            if (failed.len() == notes.len() && self.state.breaker.is_on())
                || until.is_some_and(|until| Instant::now() >= until)
            {
                break;
            }
        }
        all_written
    }

    /// Replays the clears. Returns `false` if one of them failed.
    async fn clear_all(&self) -> bool {
        let journal = &self.state.journal;
        while let Some(clear) = journal.first_clear() {
            let outcome = limited(CLEAR, self.inner.clear(&clear.prefix)).await;
            if let Some(standing) = outcome.as_ref().err().and_then(later) {
                journal.all_are(standing);
                return false;
            }
            self.state.in_flight.cleared(clear.ticket);
            journal.cleared(clear.number);
            self.given_up(None, outcome);
        }
        true
    }

    /// Replays these notes. Returns the states of those that failed and may succeed later.
    async fn write(&self, notes: &[Noted]) -> Vec<Standing> {
        let outcomes = join_all(notes.iter().map(|noted| self.write_one(noted))).await;
        let mut failed = Vec::new();
        for (noted, outcome) in notes.iter().zip(outcomes) {
            if let Some(standing) = outcome.as_ref().err().and_then(later) {
                failed.push(standing);
                continue;
            }
            // Mark the ticket before removing the note. An older write that fails between the two
            // steps must find one or the other; otherwise it would be noted, and undo this one.
            self.state.in_flight.replayed(&noted.key, noted.ticket);
            self.state.journal.done(&noted.key, noted.number);
            self.given_up(Some(&noted.key), outcome);
        }
        failed
    }

    async fn write_one(&self, noted: &Noted) -> Result<()> {
        let patience = self.patience();
        let as_removal = || Noted { write: Write::Remove, ..noted.clone() };
        // A later write is in flight and may reach the backend before or after this one. Replay the
        // note as a removal: a miss is never wrong.
        if self.state.in_flight.has_later(&noted.key, noted.ticket) {
            return limited(patience, replay(&self.inner, &as_removal())).await;
        }
        match limited(patience, replay(&self.inner, noted)).await {
            // The note cannot be replayed, but the value that it was to replace is outdated: remove
            // the key.
            Err(error) if error.kind() == ErrorKind::Panic => {
                limited(patience, replay(&self.inner, &as_removal())).await.and(Err(error))
            }
            outcome => outcome,
        }
    }

    /// Emits an event for a write that the backend will never accept.
    fn given_up(&self, key: Option<&str>, outcome: Result<()>) {
        if let Err(error) = outcome {
            self.emit(EventKind::BackendError, key, Some(&error));
        }
    }
}
