//! One call, from the breaker's door to the answer.

use super::builder::Deadline;
use super::journal::{About, Journal};
use super::{Resilient, is_away, recovery};
use crate::event::EventKind;
use crate::{AsyncCacheAdapter, Error, ErrorKind, Result, runtime};
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a call waits for what is to be written before it, where nobody said how long a call may take.
const PATIENCE: Duration = Duration::from_millis(250);

/// What a call is.
#[derive(Clone, Copy)]
pub(super) struct Verb {
    pub(super) name: &'static str,
    /// Making it twice comes to the same, its answer included.
    pub(super) again: bool,
    /// Whether the layer keeps its deadline.
    pub(super) timed: bool,
}

impl Verb {
    pub(super) const fn once(name: &'static str) -> Self {
        Self { name, again: false, timed: true }
    }

    pub(super) const fn again(name: &'static str) -> Self {
        Self { name, again: true, timed: true }
    }

    pub(super) const fn steps(name: &'static str) -> Self {
        Self { name, again: false, timed: false }
    }
}

/// Why an answer says that the backend is away, if it does.
pub(super) type Judge<T> = fn(&Result<T>) -> Option<&Error>;

pub(super) fn one<T>(answer: &Result<T>) -> Option<&Error> {
    answer.as_ref().err().filter(|error| is_away(error))
}

/// A batch of which some was answered was answered.
pub(super) fn batch<T>(answer: &Result<Vec<Result<T>>>) -> Option<&Error> {
    match answer {
        Err(error) => Some(error).filter(|error| is_away(error)),
        Ok(answers) if answers.iter().all(|answer| one(answer).is_some()) => {
            answers.first().and_then(one)
        }
        Ok(_) => None,
    }
}

impl<A: AsyncCacheAdapter> Resilient<A> {
    /// Makes a call, or refuses to: while the breaker is open, and while something noted about the key has not been written.
    pub(super) async fn ask<'a, T>(
        &'a self,
        verb: Verb,
        about: About<'_>,
        judge: Judge<T>,
        attempt: impl Fn() -> BoxFuture<'a, Result<T>> + Send,
    ) -> Result<T> {
        let state = &*self.0.state;
        let Some(pass) = state.breaker.pass() else { return Err(self.refuse(verb, about)) };
        if !state.journal.is_empty() {
            Box::pin(self.settle(verb, about)).await?;
        }
        let begun = (state.config.deadline.is_some() && verb.again).then(Instant::now);
        let mut before = 0;
        loop {
            let answer = self.limited(verb, begun, before, attempt()).await;
            let Some(error) = judge(&answer) else {
                if answer.is_ok() {
                    state.breaker.succeeded();
                }
                return answer;
            };
            if verb.again
                && error.kind() == ErrorKind::Unavailable
                && let Some(pause) = state.retry.pause(before, state.breaker.successes())
                && self.is_in_time(begun, pause)
            {
                before += 1;
                Box::pin(runtime::sleep(pause)).await;
                // Opened meanwhile: this call's failure adds nothing to what is known.
                if state.breaker.pass() == Some(pass) {
                    continue;
                }
                return answer;
            }
            if state.breaker.failed(pass) {
                self.0.tell(EventKind::BreakerOpen, None, Some(error));
                recovery::summon(&self.0);
            }
            return answer;
        }
    }

    /// Waits until what is noted about a key is written; an error where that cannot be now.
    pub(super) async fn settle(&self, verb: Verb, about: About<'_>) -> Result<()> {
        let state = &*self.0.state;
        if matches!(about, About::Nothing) {
            return Ok(());
        }
        recovery::summon(&self.0);
        let patience = state.config.deadline.map_or(PATIENCE, Deadline::limit);
        if state.journal.settled(about, patience).await {
            return Ok(());
        }
        Err(self.error(
            verb,
            about,
            "what was written while the backend was away is not made up for yet",
        ))
    }

    fn refuse(&self, verb: Verb, about: About<'_>) -> Error {
        // The one who should ask for a sign of life may have gone with its runtime.
        recovery::summon(&self.0);
        self.error(
            verb,
            about,
            "it failed too often, and is not asked until it gives a sign of life",
        )
    }

    fn error(&self, verb: Verb, about: About<'_>, message: &'static str) -> Error {
        let error = Error::new(ErrorKind::Unavailable)
            .with_backend(self.0.inner.backend().to_owned())
            .with_op(verb.name);
        match about {
            About::Key("") => Error::new(ErrorKind::InvalidKey)
                .with_op(verb.name)
                .with_message("a key must not be empty"),
            About::Key(key) => error.with_key(key).with_message(message),
            About::Prefix(_) | About::Nothing => error.with_message(message),
        }
    }

    fn is_in_time(&self, begun: Option<Instant>, pause: Duration) -> bool {
        match (begun, self.0.state.config.deadline) {
            (Some(begun), Some(deadline)) => begun.elapsed() + pause < deadline.limit(),
            _ => true,
        }
    }

    /// An attempt, by the call's deadline.
    async fn limited<T>(
        &self,
        verb: Verb,
        begun: Option<Instant>,
        before: u32,
        attempt: BoxFuture<'_, Result<T>>,
    ) -> Result<T> {
        let limit = match self.0.state.config.deadline {
            Some(Deadline::Own(limit)) if verb.timed => limit,
            Some(Deadline::Inner(limit)) if verb.timed && before > 0 => limit,
            _ => return attempt.await,
        };
        let left = begun.map_or(limit, |begun| limit.saturating_sub(begun.elapsed()));
        match Box::pin(runtime::within(left, attempt)).await {
            Some(answer) => answer,
            None => Err(Error::new(ErrorKind::Timeout)
                .with_backend(self.0.inner.backend().to_owned())
                .with_op(verb.name)),
        }
    }

    /// Notes a write that failed, so that it can be made up for. Says whether it is.
    pub(super) fn note(
        &self,
        error: &Error,
        note: impl FnOnce(&Journal, bool) -> Vec<Arc<str>>,
    ) -> bool {
        let state = &*self.0.state;
        let is_noted = state.config.recovery && is_away(error);
        if is_noted {
            // Behind an open breaker nobody waits.
            let lost = note(&state.journal, state.breaker.pass().is_none());
            for key in lost {
                let error = Error::new(ErrorKind::Unavailable)
                    .with_message("too much is to be made up for; this write is lost");
                self.0.tell(EventKind::BackendError, Some(&key), Some(&error));
            }
            recovery::summon(&self.0);
        }
        is_noted
    }

    /// The answer that callers get: with fail-open, as if the backend that is away were there and empty.
    pub(super) fn open<T>(&self, answer: Result<T>, instead: impl FnOnce() -> T) -> Result<T> {
        match answer {
            Err(error) if self.0.state.config.fail_open && is_away(&error) => {
                self.0.tell(EventKind::BackendError, error.key(), Some(&error));
                Ok(instead())
            }
            answer => answer,
        }
    }
}
