//! The content of a lane's queue: a command, its caller, and the caller's deadline.

use crate::error::{Error, ErrorKind, Result};
use futures_util::future::BoxFuture;
use sqlx::SqliteConnection;
use std::future::Future;
use std::time::Instant;
use tokio::sync::oneshot;

/// One step on a connection. It may run again after a failure, so a failed run must leave no change
/// behind.
pub(super) trait Command: Send + Sync + Sized + 'static {
    type Output: Send + 'static;

    /// Whether this is one statement with few rows, which a caller may drive: a caller that stops
    /// polling then holds no lock and no transaction open.
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

    /// Answers the caller. A caller that has dropped its future gets nothing, which is no error.
    pub(super) fn answer(&mut self, answer: Result<C::Output>) {
        if let Some(reply) = self.reply.take() {
            let _ = reply.send(answer);
        }
    }
}

/// A command of any type, as the engine runs it.
pub(super) trait Work: Send {
    /// Runs the command and answers its caller. After an error the caller has no answer yet.
    fn run<'a>(&'a mut self, on: &'a mut SqliteConnection) -> BoxFuture<'a, sqlx::Result<()>>;

    /// Answers the caller with an error.
    fn fail(&mut self, error: &Error);

    /// Whether no caller waits for an answer any more. Callers past their deadline get a timeout.
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
