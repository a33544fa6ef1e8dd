//! A request that waits for a batch, its caller, and the reply.

use super::commands;
use super::connection::connection::Connection;
use super::errors::Failure;
use crate::batching::Batchable;
use compact_str::CompactString;
use redis::{Cmd, Value};
use std::sync::Arc;
use std::time::Instant as Clock;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// The reply to a call that waited.
#[derive(Debug)]
pub(super) enum Reply {
    /// The server's answer, the answer to the command before it, and their connection.
    Answer { first: Option<Value>, answer: Value, connection: Arc<Connection> },
    /// The reply was a bulk string or nil: the connection is still in sync.
    Found(Value),
    /// The caller must send its command directly.
    SendDirectly,
}

type ReplySender = oneshot::Sender<Result<Reply, Failure>>;

/// A call that waits for a batch.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) work: Work,
    pub(super) waiter: Waiter,
}

#[derive(Debug)]
pub(super) enum Work {
    /// A read of one key. Many of them become one command.
    Get(CompactString),
    Command {
        /// The command to send before this one.
        first: Option<Box<Cmd>>,
        cmd: Cmd,
        repeatable: bool,
    },
    /// No command. The caller sends its command directly as soon as the requests before this one
    /// have been sent.
    Barrier,
}

/// The caller that waits for an answer, with its deadline. One timer serves a whole batch, so
/// callers need no timers of their own.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) deadline: Instant,
    sender: Option<ReplySender>,
}

impl Request {
    pub(super) fn new(work: Work, deadline: Instant, sender: ReplySender) -> Self {
        Self { work, waiter: Waiter { deadline, sender: Some(sender) } }
    }
}

impl Waiter {
    /// Whether the caller still waits.
    pub(super) fn is_waiting(&self) -> bool {
        self.sender.is_some()
    }

    pub(super) fn answer(&mut self, reply: Result<Reply, Failure>) {
        if let Some(sender) = self.sender.take() {
            // A caller that has gone needs no answer.
            let _ = sender.send(reply);
        }
    }
}

impl Batchable for Request {
    type Kind = ();

    fn kind(&self) -> Option<()> {
        (!matches!(self.work, Work::Barrier)).then_some(())
    }

    fn bytes(&self) -> usize {
        match &self.work {
            Work::Get(key) => key.len(),
            Work::Command { first, cmd, .. } => {
                first.as_deref().map_or(0, commands::size) + commands::size(cmd)
            }
            Work::Barrier => 0,
        }
    }

    fn is_over(&mut self, now: Clock) -> bool {
        if now >= self.waiter.deadline.into_std() {
            self.waiter.answer(Err(Failure::timeout()));
        }
        self.waiter.sender.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    /// Empty, because all requests are sent in the order in which they came.
    fn keys(&self) -> impl Iterator<Item = u64> {
        std::iter::empty()
    }
}
