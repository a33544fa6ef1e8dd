//! What waits in a lane: a command, who asked for it, and until when.

use crate::error::{Error, ErrorKind, Result};
use futures_util::future::BoxFuture;
use sqlx::SqliteConnection;
use std::future::Future;
use std::time::Instant;
use tokio::sync::oneshot;

/// One step on a connection. It may run again when it did not succeed, so it leaves nothing half done when it fails.
pub(super) trait Command: Send + Sync + Sized + 'static {
    type Output: Send + 'static;

    /// One statement with few rows: a caller may drive it, for nothing is held while that caller stands still.
    const BRIEF: bool = true;

    fn run(
        &self,
        on: &mut SqliteConnection,
    ) -> impl Future<Output = sqlx::Result<Self::Output>> + Send;
}

/// A command with its caller.
pub(super) struct Waiting<C: Command> {
    pub(super) command: C,
    reply: Option<oneshot::Sender<Result<C::Output>>>,
    deadline: Instant,
}

impl<C: Command> Waiting<C> {
    pub(super) fn new(
        command: C,
        reply: oneshot::Sender<Result<C::Output>>,
        deadline: Instant,
    ) -> Self {
        Self { command, reply: Some(reply), deadline }
    }

    /// Answers the caller, who may have gone.
    pub(super) fn answer(&mut self, answer: Result<C::Output>) {
        if let Some(reply) = self.reply.take() {
            let _ = reply.send(answer);
        }
    }
}

/// What the engine needs to know of a command, whichever it is.
pub(super) trait Work: Send {
    /// Runs and answers; an error is not answered yet.
    fn run<'a>(&'a mut self, on: &'a mut SqliteConnection) -> BoxFuture<'a, sqlx::Result<()>>;

    /// Answers with an error.
    fn fail(&mut self, error: &Error);

    /// Nobody waits any more.
    fn is_over(&mut self, now: Instant) -> bool;
}

impl<C: Command> Work for Waiting<C> {
    fn run<'a>(&'a mut self, on: &'a mut SqliteConnection) -> BoxFuture<'a, sqlx::Result<()>> {
        Box::pin(async move {
            let output = self.command.run(on).await?;
            self.answer(Ok(output));
            Ok(())
        })
    }

    fn fail(&mut self, error: &Error) {
        self.answer(Err(error.clone()));
    }

    fn is_over(&mut self, now: Instant) -> bool {
        if now >= self.deadline {
            self.fail(&Error::new(ErrorKind::Timeout));
        }
        self.reply.as_ref().is_none_or(oneshot::Sender::is_closed)
    }
}
