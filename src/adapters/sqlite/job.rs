//! What waits in a lane: a command, who asked for it, and until when.

use super::statements::{Get, GetTogether, Put, PutTogether};
use crate::batching::{Batchable, Queue};
use crate::{Error, ErrorKind, Result};
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

    /// How the command waits: by itself, or among those that can travel together.
    fn into_job(waiting: Waiting<Self>) -> Job {
        Job::Alone(Box::new(waiting))
    }
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

/// A command in a lane's queue.
pub(super) enum Job {
    Get(Waiting<Get>),
    Put(Waiting<Put>),
    Alone(Box<dyn Work>),
}

impl Job {
    /// The job by itself.
    pub(super) fn alone(self) -> Box<dyn Work> {
        match self {
            Self::Get(get) => Box::new(get),
            Self::Put(put) => Box::new(put),
            Self::Alone(work) => work,
        }
    }

    /// The next job of a queue, together with those that can travel in the same statement.
    pub(super) fn next(queue: &mut Queue<Self>) -> Option<Box<dyn Work>> {
        let mut batch = queue.next();
        if batch.len() < 2 {
            return batch.pop().map(Self::alone);
        }
        let (mut gets, mut puts) = (Vec::new(), Vec::new());
        for job in batch {
            match job {
                Self::Get(get) => gets.push(get),
                Self::Put(put) => puts.push(put),
                // It has no kind, so it is never in company.
                alone @ Self::Alone(_) => return Some(alone.alone()),
            }
        }
        Some(if puts.is_empty() {
            Box::new(GetTogether::new(gets))
        } else {
            Box::new(PutTogether::new(puts))
        })
    }
}

/// Jobs of one kind can be one statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Get,
    Put,
}

impl Batchable for Job {
    type Kind = Kind;

    fn kind(&self) -> Option<Kind> {
        match self {
            Self::Get(_) => Some(Kind::Get),
            Self::Put(put) if put.command.is_small() => Some(Kind::Put),
            Self::Put(_) | Self::Alone(_) => None,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Put(put) => put.command.bytes(),
            Self::Get(_) | Self::Alone(_) => 0,
        }
    }

    fn is_over(&mut self, now: Instant) -> bool {
        match self {
            Self::Get(get) => get.is_over(now),
            Self::Put(put) => put.is_over(now),
            Self::Alone(work) => work.is_over(now),
        }
    }

    fn keys(&self) -> impl Iterator<Item = u64> {
        let key = match self {
            Self::Get(get) => Some(&get.command.0),
            Self::Put(put) => Some(put.command.key()),
            Self::Alone(_) => None,
        };
        key.map(|key| u64::from(crc32fast::hash(key.as_bytes()))).into_iter()
    }
}
