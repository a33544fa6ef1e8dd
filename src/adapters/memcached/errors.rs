//! Translates what goes wrong on a connection, and the server's error messages, into larder's errors.

use super::connection::address::Address;
use crate::error::{Error, ErrorKind};
use std::fmt;
use std::io;

/// The name of the backend in errors and events.
pub(super) const BACKEND: &str = "memcached";

/// Why an exchange failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// The connection broke.
    Broken(io::Error),
    /// The server answered that the value is too large.
    TooLarge,
    /// The server answered with this error message.
    Refused(String),
    /// The answer does not belong to the request: the connection is desynchronized.
    Misplaced,
    /// The server announced a value of `length` bytes, and at most `most` are read.
    Unbounded { length: u64, most: usize },
}

impl Fault {
    /// The meaning of a line with an error.
    pub(super) fn answered(line: &[u8]) -> Self {
        let line = String::from_utf8_lossy(line);
        let words = ["SERVER_ERROR ", "CLIENT_ERROR "].map(|kind| line.strip_prefix(kind));
        match words {
            [Some(words), _] if words.starts_with("object too large") => Self::TooLarge,
            [Some(words), _] | [_, Some(words)] => Self::Refused(words.to_owned()),
            _ if line == "ERROR" => Self::Refused(
                "the server has no meta commands; memcached 1.6 or later is needed".to_owned(),
            ),
            _ => Self::Broken(io::Error::other(format!(
                "the server answered `{}`; a server without free connections (-c) does so",
                shown(&line)
            ))),
        }
    }

    pub(super) fn into_error(self, address: &Address) -> Error {
        match self {
            Self::Broken(cause) => {
                unavailable(address, "cannot be reached, or closed the connection")
                    .with_source(cause)
            }
            Self::TooLarge => Error::new(ErrorKind::TooLarge)
                .with_message(format!("{address} does not take a value of that size")),
            Self::Refused(words) => Error::new(ErrorKind::Backend)
                .with_message(format!("{address} answered: {}", shown(&words))),
            Self::Misplaced => Error::new(ErrorKind::Backend)
                .with_message(format!("{address} answered another request")),
            Self::Unbounded { length, most } => Error::new(ErrorKind::Backend).with_message(
                format!("{address} sends a value of {length} bytes, and at most {most} are read"),
            ),
        }
    }
}

/// The beginning of what a server said.
fn shown(words: &str) -> impl fmt::Display {
    words[..words.floor_char_boundary(128)].escape_debug()
}

pub(super) fn unavailable(address: &Address, why: impl fmt::Display) -> Error {
    Error::new(ErrorKind::Unavailable).with_message(format!("{address} {why}"))
}

/// An error with the operation and the key.
pub(super) fn about(error: Error, op: &'static str, key: &str) -> Error {
    error.with_backend(BACKEND).with_op(op).with_key(key)
}

/// The message of the innermost source of an error.
pub(super) fn innermost(error: &Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
