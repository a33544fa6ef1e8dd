//! One call, from the circuit breaker to the answer.

use super::builder::Deadline;
use super::in_flight::{Clear, Effect, Precedence, Write};
use super::journal::{Displaced, Draft, Standing, Subject};
use super::{Resilient, is_away, recovery};
use crate::adapter::AsyncCacheAdapter;
use crate::error::{Error, ErrorKind, Result};
use crate::event::EventKind;
use crate::runtime;
use futures_util::future::BoxFuture;
use std::time::Duration;
use tokio::task::coop::consume_budget;
use tokio::time::Instant;

/// How long a call without a deadline waits for the note of its key to be written.
const PATIENCE: Duration = Duration::from_millis(250);

/// The properties of a verb that decide how it is called.
#[derive(Clone, Copy)]
pub(super) struct Verb {
    pub(super) name: &'static str,
    /// Idempotent: a second attempt has the same effect and the same answer.
    idempotent: bool,
    /// Whether the layer enforces its deadline.
    timed: bool,
}

impl Verb {
    pub(super) const fn once(name: &'static str) -> Self {
        Self { name, idempotent: false, timed: true }
    }

    pub(super) const fn idempotent(name: &'static str) -> Self {
        Self { name, idempotent: true, timed: true }
    }

    pub(super) const fn untimed(name: &'static str) -> Self {
        Self { name, idempotent: false, timed: false }
    }
}

/// Picks the error of an answer, if that error means that the backend is away.
pub(super) type Judge<T> = fn(&Result<T>) -> Option<&Error>;

pub(super) fn one<T>(answer: &Result<T>) -> Option<&Error> {
    answer.as_ref().err().filter(|error| is_away(error))
}

/// A batch counts as answered if any of its items was.
pub(super) fn batch<T>(answer: &Result<Vec<Result<T>>>) -> Option<&Error> {
    match answer {
        Err(error) => Some(error).filter(|error| is_away(error)),
        Ok(answers) if answers.iter().all(|answer| one(answer).is_some()) => {
            answers.first().and_then(one)
        }
        Ok(_) => None,
    }
}

/// The time limit of one call, which covers everything that the layer does for the call.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    /// When the call began; `None` if there is no deadline.
    begun: Option<Instant>,
    /// Whether part of the time was used before the adapter is first asked.
    waited: bool,
}

/// The registration of a call among the writes in flight. Reads are not registered.
pub(super) trait Sending: Send {
    fn send(&mut self);
    /// Takes the registration back: a note about the key was made in between, and the call is not
    /// sent yet.
    fn recall(&mut self);
}

impl Sending for () {
    fn send(&mut self) {}
    fn recall(&mut self) {}
}

impl Sending for Write<'_> {
    fn send(&mut self) {
        Write::send(self);
    }

    fn recall(&mut self) {
        Write::recall(self);
    }
}

impl Sending for Clear<'_> {
    fn send(&mut self) {
        Clear::send(self);
    }

    fn recall(&mut self) {
        Clear::recall(self);
    }
}

impl<A: AsyncCacheAdapter> Resilient<A> {
    pub(super) fn clock(&self, verb: Verb) -> Clock {
        let state = &*self.0.state;
        let waits = !state.journal.is_empty();
        let is_needed = state.config.deadline.is_some() && (verb.idempotent || waits);
        Clock { begun: is_needed.then(Instant::now), waited: waits }
    }

    /// Makes a call about a key or a prefix. Refuses it while the breaker is open, and while a note
    /// about the key has not been written.
    pub(super) async fn ask<'a, T>(
        &'a self,
        verb: Verb,
        about: Subject<'_>,
        sending: &mut impl Sending,
        attempt: impl Fn() -> BoxFuture<'a, Result<T>> + Send,
    ) -> Result<T> {
        let clock = self.clock(verb);
        if self.0.state.breaker.pass().is_none() {
            return Err(self.refuse(verb, about).await);
        }
        loop {
            if !self.0.state.journal.is_empty() {
                Box::pin(self.await_pending(verb, about, clock)).await?;
            }
            // Register the write before checking the journal a second time. Another write of the
            // same key may fail in between: either its note is seen here, or it sees this write in
            // flight.
            sending.send();
            if self.0.state.journal.is_free(about) {
                break;
            }
            sending.recall();
        }
        self.attempt(verb, about, clock, one, attempt).await
    }

    /// Makes a call without a note.
    pub(super) async fn attempt<'a, T>(
        &'a self,
        verb: Verb,
        about: Subject<'_>,
        clock: Clock,
        judge: Judge<T>,
        attempt: impl Fn() -> BoxFuture<'a, Result<T>> + Send,
    ) -> Result<T> {
        let state = &*self.0.state;
        let Some(pass) = state.breaker.pass() else { return Err(self.refuse(verb, about).await) };
        let mut before = 0;
        loop {
            let answer = self.limited(verb, clock, before, attempt()).await;
            let Some(error) = judge(&answer) else {
                if answer.is_ok() {
                    state.breaker.succeeded();
                }
                return answer;
            };
            if verb.idempotent
                && error.kind() == ErrorKind::Unavailable
                && let Some(pause) = state.retry.pause(before, state.breaker.successes())
                && self.is_in_time(clock, pause)
            {
                before += 1;
                Box::pin(runtime::caller_sleep(pause)).await;
                // The breaker has opened in the meantime: this call's failure is not news.
                if state.breaker.pass() == Some(pass) {
                    continue;
                }
                return answer;
            }
            state.found_away(error);
            if state.breaker.failed(pass) {
                self.0.emit(EventKind::BreakerOpen, None, Some(error));
                recovery::summon(&self.0);
            }
            // Yield once. An adapter may fail without waiting, and the recovery task may need the
            // thread on which the caller loops.
            Box::pin(consume_budget()).await;
            return answer;
        }
    }

    /// Waits until the note about a key is written; an error if it cannot be written now.
    async fn await_pending(&self, verb: Verb, about: Subject<'_>, clock: Clock) -> Result<()> {
        if matches!(about, Subject::Nothing) {
            return Ok(());
        }
        recovery::summon(&self.0);
        let patience = self.left(clock).unwrap_or(PATIENCE);
        match self.0.state.journal.settled(about, patience).await {
            Standing::Free => Ok(()),
            standing => {
                // Usually answered at once. The notes are written by the recovery task.
                consume_budget().await;
                Err(self.held(verb, about, standing))
            }
        }
    }

    /// The errors of the keys that still have notes to be written. `None` if no key has one.
    ///
    /// The whole batch waits once for pending notes, and for half of its time at most: the other
    /// half is for the keys without notes.
    pub(super) async fn held_back(
        &self,
        verb: Verb,
        clock: Clock,
        keys: &[&str],
    ) -> Option<Vec<Option<Error>>> {
        let journal = &self.0.state.journal;
        if journal.is_empty() {
            return None;
        }
        recovery::summon(&self.0);
        let about: Vec<Subject<'_>> = keys.iter().map(|key| Subject::Key(key)).collect();
        let patience = self.left(clock).map_or(PATIENCE, |left| left / 2);
        Box::pin(journal.all_settled(&about, patience)).await;
        let standings = journal.standings(&about).into_iter().zip(about);
        let held: Vec<_> = standings
            .map(|(standing, about)| {
                (standing != Standing::Free).then(|| self.held(verb, about, standing))
            })
            .collect();
        held.iter().any(Option::is_some).then_some(held)
    }

    pub(super) async fn refuse(&self, verb: Verb, about: Subject<'_>) -> Error {
        // The recovery task may have ended with its runtime: start another.
        recovery::summon(&self.0);
        // Yield as well: the recovery task may be on this thread, and a loop of calls that are
        // refused at once must let it run.
        Box::pin(consume_budget()).await;
        let message = "it failed too often, and is not asked until it gives a sign of life";
        let error = self.error(verb, about, message);
        match self.0.state.cause() {
            Some(cause) if error.kind() == ErrorKind::Unavailable => error.with_source(cause),
            _ => error,
        }
    }

    fn held(&self, verb: Verb, about: Subject<'_>, standing: Standing) -> Error {
        let message = "what was written while the backend was away is not made up for yet";
        match standing {
            Standing::Refused => {
                let message =
                    "the backend takes no writes, and what was written is not made up for yet";
                self.error(verb, about, message).with_refused_write()
            }
            _ => self.error(verb, about, message),
        }
    }

    fn error(&self, verb: Verb, about: Subject<'_>, message: &'static str) -> Error {
        let error = Error::new(ErrorKind::Unavailable)
            .with_backend(self.0.inner.backend().to_owned())
            .with_op(verb.name);
        match about {
            Subject::Key("") => Error::new(ErrorKind::InvalidKey)
                .with_op(verb.name)
                .with_message("a key must not be empty"),
            Subject::Key(key) => error.with_key(key).with_message(message),
            Subject::Prefix(_) | Subject::Nothing => error.with_message(message),
        }
    }

    /// The time that the call has left, if it has a limit.
    fn left(&self, clock: Clock) -> Option<Duration> {
        let limit = self.0.state.config.deadline?.limit();
        Some(clock.begun.map_or(limit, |begun| limit.saturating_sub(begun.elapsed())))
    }

    fn is_in_time(&self, clock: Clock, pause: Duration) -> bool {
        self.left(clock).is_none_or(|left| pause < left)
    }

    /// One attempt, within the call's deadline.
    async fn limited<T>(
        &self,
        verb: Verb,
        clock: Clock,
        before: u32,
        attempt: BoxFuture<'_, Result<T>>,
    ) -> Result<T> {
        let is_limited = verb.timed
            && match self.0.state.config.deadline {
                Some(Deadline::Own(_)) => true,
                // The adapter enforces this deadline, from the moment at which it is called.
                Some(Deadline::Inner(_)) => before > 0 || clock.waited,
                None => false,
            };
        // In this order: without a limit of its own the layer reads no clock.
        let Some(left) = is_limited.then(|| self.left(clock)).flatten() else {
            return attempt.await;
        };
        match Box::pin(runtime::caller_timeout(left, attempt)).await {
            Some(answer) => answer,
            None => Err(Error::new(ErrorKind::Timeout)
                .with_backend(self.0.inner.backend().to_owned())
                .with_op(verb.name)),
        }
    }

    /// Ends a write of one key. If the write failed because of the backend, makes a note from
    /// `draft`, so that the write can be replayed.
    pub(super) fn ended<T>(
        &self,
        write: Write<'_>,
        key: &str,
        answer: &Result<T>,
        effect: impl FnOnce(&T) -> Effect,
        draft: Option<impl FnOnce(Instant) -> Draft>,
    ) {
        let effect = match answer {
            Ok(answer) => effect(answer),
            Err(error) => {
                if let Some(draft) = draft
                    && let Some(standing) = self.noted_as(error)
                {
                    return self.note(write, key, draft, standing);
                }
                match error.kind() {
                    _ if error.is_refused_write() => Effect::None,
                    ErrorKind::Encode | ErrorKind::InvalidKey => Effect::None,
                    // The write may have taken effect, or removed the older value.
                    _ => Effect::Uncertain,
                }
            }
        };
        let Some(ticket) = write.answered(effect) else { return };
        // Update the journal after the write has left the list. An older write that failed during
        // this one has made its note by now, and the note is superseded here.
        match effect {
            Effect::None => {}
            Effect::Decided => self.0.state.journal.superseded(key, ticket),
            Effect::Uncertain => self.0.state.journal.doubted(key, ticket),
        }
    }

    fn note(
        &self,
        write: Write<'_>,
        key: &str,
        draft: impl FnOnce(Instant) -> Draft,
        standing: Standing,
    ) {
        let journal = &self.0.state.journal;
        // Build the note before taking the lock: it encodes the value, which runs the user's
        // `Serialize`.
        let draft = draft(write.begun());
        let displaced = write.failed(|ticket, precedence| match precedence {
            Precedence::Latest => journal.note(key, draft, ticket, standing),
            Precedence::Doubtful => journal.note_in_doubt(key, draft, ticket, standing),
            Precedence::Superseded => Displaced::of(draft),
        });
        self.lost(displaced);
        recovery::summon(&self.0);
    }

    /// Notes a clear that failed because of the backend.
    pub(super) fn note_clear(&self, clear: Clear<'_>, prefix: &str, error: &Error) {
        if let Some(standing) = self.noted_as(error) {
            let ticket = clear.failed();
            self.lost(self.0.state.journal.note_clear(prefix, ticket, standing));
            recovery::summon(&self.0);
        }
    }

    /// How a failed write is noted, if at all.
    fn noted_as(&self, error: &Error) -> Option<Standing> {
        let state = &*self.0.state;
        if !state.config.recovery {
            None
        } else if error.is_refused_write() {
            Some(Standing::Refused)
        } else if !is_away(error) {
            None
        } else if state.breaker.pass().is_none() {
            // The breaker is open, so no call waits for the note.
            Some(Standing::Failed)
        } else {
            Some(Standing::Pending)
        }
    }

    /// Emits an event for each note that was dropped to make room for a new one.
    fn lost(&self, displaced: Displaced) {
        for key in &displaced.lost {
            let error = Error::new(ErrorKind::Unavailable)
                .with_message("too much is to be made up for; this write is lost");
            self.0.emit(EventKind::BackendError, Some(key), Some(&error));
        }
    }

    /// The answer for the caller. With fail-open, a backend that is away looks like an empty one.
    pub(super) fn apply_fail_open<T>(
        &self,
        answer: Result<T>,
        instead: impl FnOnce() -> T,
    ) -> Result<T> {
        match answer {
            Err(error)
                if self.0.state.config.fail_open
                    && (is_away(&error) || error.is_refused_write()) =>
            {
                self.0.emit(EventKind::BackendError, error.key(), Some(&error));
                Ok(instead())
            }
            answer => answer,
        }
    }

    /// The answer of a read. If the backend answers but accepts no writes, the note of a key is its
    /// present value.
    pub(super) fn read<T>(&self, answer: Result<T>, noted: impl FnOnce() -> T) -> Result<T> {
        match answer {
            Err(error) if error.is_refused_write() => Ok(noted()),
            answer => self.apply_fail_open(answer, noted),
        }
    }
}
