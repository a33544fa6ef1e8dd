//! Translates the driver's errors and the server's error messages into larder's errors.

use super::connection::address::Address;
use crate::error::{Error, ErrorKind};
use async_memcached::{Error as DriverError, ErrorKind as Refusal, Status};
use std::fmt;

/// The name of the backend in errors and events.
pub(super) const BACKEND: &str = "memcached";

/// Why an exchange failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// The connection broke.
    Broken(DriverError),
    /// The server answered that the value is too large.
    TooLarge,
    /// The server answered with this error message.
    Refused(String),
    /// The answer does not belong to the request: the connection is desynchronized.
    Misplaced,
}

impl From<DriverError> for Fault {
    fn from(error: DriverError) -> Self {
        match error {
            DriverError::Protocol(Status::Error(refusal)) => match refusal {
                Refusal::Server(words) if words.starts_with("object too large") => Self::TooLarge,
                Refusal::Server(words) | Refusal::Client(words) => Self::Refused(words),
                Refusal::NonexistentCommand => Self::Refused(
                    "the server has no meta commands; memcached 1.6 or later is needed".to_owned(),
                ),
                _ => Self::Misplaced,
            },
            DriverError::Protocol(_) | DriverError::ParseError(_) => Self::Misplaced,
            broken => Self::Broken(broken),
        }
    }
}

impl Fault {
    pub(super) fn into_error(self, address: &Address) -> Error {
        match self {
            Self::Broken(cause) => {
                unavailable(address, "cannot be reached, or closed the connection")
                    .with_source(cause)
            }
            Self::TooLarge => Error::new(ErrorKind::TooLarge)
                .with_message(format!("{address} does not take a value of that size")),
            Self::Refused(words) => {
                let words = &words[..words.floor_char_boundary(128)];
                Error::new(ErrorKind::Backend)
                    .with_message(format!("{address} answered: {}", words.escape_debug()))
            }
            Self::Misplaced => Error::new(ErrorKind::Backend)
                .with_message(format!("{address} answered another request")),
        }
    }
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
