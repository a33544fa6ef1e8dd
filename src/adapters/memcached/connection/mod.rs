//! One connection, from its socket to the queue in front of it.
//!
//! A `lane` is the queue of `command`s in front of a connection, which are `run` on its `session`.
//! The session decides when a connection is opened and given up, and what a call does again. It has a `client`, which
//! speaks the protocol (`meta`) over a `socket`. A `connector` opens clients at an `address`, unless
//! the server's `availability` is closed. `ring` chooses the server of a key.

pub(super) mod address;
pub(super) mod availability;
mod client;
pub(super) mod command;
pub(super) mod connector;
pub(super) mod lane;
mod meta;
pub(super) mod ring;
mod run;
pub(super) mod session;
mod socket;

use super::keys::Key;
use super::ttl::Ttl;
use bytes::Bytes;
use meta::Status;
use std::fmt;

/// An item of the server.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) bytes: Bytes,
    pub(super) flags: u32,
    pub(super) cas: u64,
    /// The remaining seconds; negative is never.
    pub(super) remaining: i64,
    /// The bytes of the value, if only metadata were read.
    pub(super) size: u64,
}

/// Whether a read returns the value or metadata only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Want {
    Value,
    Meta,
}

impl Want {
    /// The status of a hit.
    fn hit(self) -> Status {
        match self {
            Self::Value => Status::Value,
            Self::Meta => Status::Done,
        }
    }

    /// The flags of a meta get.
    fn flags(self) -> &'static str {
        match self {
            Self::Value => " v f c t k",
            Self::Meta => " f c t s k",
        }
    }
}

/// What a read of several keys returns: of the first key, and of all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wants {
    first: Want,
    others: Want,
}

impl Wants {
    fn at(self, at: usize) -> Want {
        if at == 0 { self.first } else { self.others }
    }
}

impl From<Want> for Wants {
    fn from(want: Want) -> Self {
        Self { first: want, others: want }
    }
}

/// The condition of a write.
#[derive(Clone, Copy, Debug)]
pub(super) enum Condition {
    Always,
    Absent,
    Present,
    Unchanged(u64),
}

/// The flag of a meta command, with the space before it.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => Ok(()),
            Self::Absent => f.write_str(" ME"),
            Self::Present => f.write_str(" MR"),
            Self::Unchanged(cas) => write!(f, " C{cas}"),
        }
    }
}

/// An item to send, without its key.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) bytes: Bytes,
    pub(super) flags: u32,
    pub(super) ttl: Ttl,
}

/// A value in the form in which it is stored.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) bytes: Bytes,
    /// Whether the value is kept beyond its logical end.
    pub(super) may_be_stale: bool,
}

/// A value to store.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) key: Key,
    pub(super) stored: Stored,
    pub(super) ttl: Ttl,
}

/// The result of a conditional write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    Done {
        /// The item's new CAS number.
        cas: u64,
    },
    /// The condition did not hold: another value is there, or none.
    Refused,
}
