//! A read that waits for a batch, its caller, and the reply.

use super::errors::Failure;
use super::lives::Living;
use crate::batching::Batchable;
use bytes::Bytes;
use compact_str::CompactString;
use std::time::Instant as Clock;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// The reply to a read that waited.
#[derive(Debug)]
pub(super) enum Reply {
    Found(Bytes),
    FoundLiving(Living),
    Missing,
    /// The caller must send its command directly.
    SendDirectly,
}

type ReplySender = oneshot::Sender<Result<Reply, Failure>>;

/// What a read asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asks {
    Value,
    /// For a near level, the rest of its life, too.
    ValueAndLife,
}

/// A read of one key. Many that ask for the same become one command, or are sent in one write.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) asks: Asks,
    pub(super) key: CompactString,
    pub(super) waiter: Waiter,
}

/// The caller that waits for an answer, with its deadline. One timer serves a whole batch, so
/// callers need no timers of their own.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) deadline: Instant,
    sender: Option<ReplySender>,
}

impl Request {
    pub(super) fn new(asks: Asks, key: &str, deadline: Instant, sender: ReplySender) -> Self {
        Self { asks, key: key.into(), waiter: Waiter { deadline, sender: Some(sender) } }
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
    type Kind = Asks;

    fn kind(&self) -> Option<Asks> {
        Some(self.asks)
    }

    fn bytes(&self) -> usize {
        self.key.len()
    }

    fn is_over(&mut self, now: Clock) -> bool {
        if now >= self.waiter.deadline.into_std() {
            self.waiter.answer(Err(Failure::timeout()));
        }
        self.waiter.sender.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    /// Empty, because reads may pass each other.
    fn keys(&self) -> impl Iterator<Item = u64> {
        std::iter::empty()
    }
}
