//! What waits for a batch: a command, the caller that it is for, and what that caller gets.

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

/// What a call that waited gets.
#[derive(Debug)]
pub(super) enum Reply {
    /// The server's answer, the answer to what went before it, and over which connection they came.
    Answer { first: Option<Value>, answer: Value, connection: Arc<Connection> },
    /// The reply was a bulk string or nil: the connection is still in sync.
    Found(Value),
    /// The caller is to send its command directly.
    SendDirectly,
}

type ReplySender = oneshot::Sender<Result<Reply, Failure>>;

/// A call that waits for others.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) work: Work,
    pub(super) waiter: Waiter,
}

#[derive(Debug)]
pub(super) enum Work {
    /// The value of a key: many of them are one command.
    Get(CompactString),
    Command {
        /// What goes before it.
        first: Option<Box<Cmd>>,
        cmd: Cmd,
        repeatable: bool,
    },
    /// No command: the caller sends its own directly, when the requests before this one have been
    /// sent.
    Barrier,
}

/// The caller that waits for an answer, and until when. One timer for a batch is enough: callers
/// need none of their own.
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
    /// Whether it still waits.
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

    /// All are sent in the order in which they came.
    fn keys(&self) -> impl Iterator<Item = u64> {
        std::iter::empty()
    }
}
