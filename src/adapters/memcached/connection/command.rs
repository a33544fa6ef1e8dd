//! The commands of a lane.

use super::{Want, Write};
use crate::adapters::memcached::fencing::{ClaimToken, ClaimedWrite};
use crate::adapters::memcached::judging::Found;
use crate::adapters::memcached::keys::Key;
use crate::adapters::memcached::ops::{Count, Each};
use crate::adapters::memcached::ttl::Ttl;
use crate::batching::Batchable;
use crate::error::{Error, Result};
use std::time::Instant;
use tokio::sync::oneshot;

pub(in crate::adapters::memcached) type Reply<T> = oneshot::Sender<Result<T>>;

/// A command of a lane.
#[derive(Debug)]
pub(in crate::adapters::memcached) enum Command {
    Fetch(Vec<Key>, Want, Reply<Each<Option<Found>>>),
    Store(Vec<Write>, Reply<Each<()>>),
    Remove(Vec<Key>, Reply<Each<bool>>),
    Add(Write, Reply<bool>),
    Replace(Write, Reply<bool>),
    Take(Key, Reply<Option<Found>>),
    Touch(Key, Ttl, Want, Reply<Option<Found>>),
    Count(Count, Reply<i64>),
    Claim(Key, Option<Ttl>, Reply<Option<ClaimToken>>),
    SetClaimed(ClaimedWrite, Reply<bool>),
    Release(Key, ClaimToken, Reply<()>),
    Clear(String, Reply<()>),
    Ping(Reply<()>),
}

/// Commands of one kind can become one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Fetch(Want),
    Store,
    Remove,
}

#[derive(Debug)]
pub(super) struct Job {
    pub(super) command: Command,
    pub(super) deadline: Instant,
}

impl Batchable for Job {
    type Kind = Kind;

    fn kind(&self) -> Option<Kind> {
        self.command.kind()
    }

    fn bytes(&self) -> usize {
        match &self.command {
            Command::Store(writes, _) => writes.iter().map(|write| write.stored.bytes.len()).sum(),
            _ => 0,
        }
    }

    /// A command whose deadline has passed is not begun: its caller already has a timeout.
    fn is_over(&mut self, now: Instant) -> bool {
        now >= self.deadline || self.command.is_abandoned()
    }

    fn keys(&self) -> impl Iterator<Item = u64> {
        self.command.hashes().map(u64::from)
    }
}

/// Answers a command.
pub(super) fn answer<T>(reply: Reply<T>, result: Result<T>) {
    // The caller may have given up, which is no error.
    let _ = reply.send(result);
}

impl Command {
    /// Whether a clear that takes effect later would undo it.
    pub(in crate::adapters::memcached) fn stores(&self) -> bool {
        match self {
            Self::Store(..)
            | Self::Add(..)
            | Self::Replace(..)
            | Self::Touch(..)
            | Self::Count(..)
            | Self::Claim(..)
            | Self::SetClaimed(..) => true,
            Self::Fetch(..)
            | Self::Remove(..)
            | Self::Take(..)
            | Self::Release(..)
            | Self::Clear(..)
            | Self::Ping(..) => false,
        }
    }

    pub(super) fn kind(&self) -> Option<Kind> {
        match self {
            Self::Fetch(_, want, _) => Some(Kind::Fetch(*want)),
            Self::Store(..) => Some(Kind::Store),
            Self::Remove(..) => Some(Kind::Remove),
            _ => None,
        }
    }

    fn is_abandoned(&self) -> bool {
        match self {
            Self::Fetch(.., reply) => reply.is_closed(),
            Self::Store(.., reply) => reply.is_closed(),
            Self::Remove(.., reply) => reply.is_closed(),
            Self::Add(.., reply) | Self::Replace(.., reply) | Self::SetClaimed(.., reply) => {
                reply.is_closed()
            }
            Self::Take(.., reply) | Self::Touch(.., reply) => reply.is_closed(),
            Self::Count(.., reply) => reply.is_closed(),
            Self::Claim(.., reply) => reply.is_closed(),
            Self::Clear(.., reply) | Self::Ping(reply) | Self::Release(.., reply) => {
                reply.is_closed()
            }
        }
    }

    pub(super) fn fail(self, error: &Error) {
        let error = error.clone();
        match self {
            Self::Fetch(.., reply) => answer(reply, Err(error)),
            Self::Store(.., reply) => answer(reply, Err(error)),
            Self::Remove(.., reply) => answer(reply, Err(error)),
            Self::Add(.., reply) | Self::Replace(.., reply) | Self::SetClaimed(.., reply) => {
                answer(reply, Err(error))
            }
            Self::Take(.., reply) | Self::Touch(.., reply) => answer(reply, Err(error)),
            Self::Count(.., reply) => answer(reply, Err(error)),
            Self::Claim(.., reply) => answer(reply, Err(error)),
            Self::Clear(.., reply) | Self::Ping(reply) | Self::Release(.., reply) => {
                answer(reply, Err(error))
            }
        }
    }

    pub(super) fn hashes(&self) -> impl Iterator<Item = u32> {
        let (keys, writes, one): (&[Key], &[Write], Option<&Key>) = match self {
            Self::Fetch(keys, ..) | Self::Remove(keys, ..) => (keys, &[], None),
            Self::Store(writes, ..) => (&[], writes, None),
            Self::Add(write, ..) | Self::Replace(write, ..) => (&[], &[], Some(&write.key)),
            Self::Take(key, ..)
            | Self::Touch(key, ..)
            | Self::Claim(key, ..)
            | Self::Release(key, ..) => (&[], &[], Some(key)),
            Self::SetClaimed(claimed, _) => (&[], &[], Some(&claimed.key)),
            Self::Count(count, ..) => (&[], &[], Some(&count.key)),
            Self::Clear(..) | Self::Ping(..) => (&[], &[], None),
        };
        keys.iter().chain(writes.iter().map(|write| &write.key)).chain(one).map(Key::hash)
    }
}
