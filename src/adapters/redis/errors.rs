//! What redis's errors mean for a call, and for the connection it went over.

use crate::{Error, ErrorKind};
use deadpool_redis::PoolError;
use redis::{RedisError, ServerErrorKind};

/// The name that errors carry.
pub(super) const BACKEND: &str = "redis";

/// Why an exchange with the server failed.
///
/// The driver's error stays behind: it may repeat arguments ("unknown command, with args beginning with …"), replies, and so values.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    pub(super) fate: Fate,
    pub(super) code: Code,
    /// The connection broke, and doing it again comes to the same.
    pub(super) again: bool,
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Keep,
    /// It leads to a server that has become a replica: another connect may find the new primary.
    Renew,
    /// It is broken, or out of step.
    Drop,
}

/// The server's error codes that change what is done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    NoScript,
    OutOfMemory,
    NotAuthenticated,
    NotPermitted,
    /// Not the server's: the answer belongs to another command.
    OutOfStep,
    Other,
}

impl Failure {
    pub(super) fn new(kind: ErrorKind, message: impl Into<String>, fate: Fate) -> Self {
        let error = Error::new(kind).with_backend(BACKEND).with_message(message.into());
        Self::with(error, fate)
    }

    pub(super) fn with(error: Error, fate: Fate) -> Self {
        Self { error, fate, code: Code::Other, again: false }
    }

    pub(super) fn timeout() -> Self {
        Self::with(Error::new(ErrorKind::Timeout).with_backend(BACKEND), Fate::Keep)
    }

    /// What became of a command that can be repeated, or cannot.
    pub(super) fn of(self, repeatable: bool) -> Self {
        Self { again: repeatable && self.fate == Fate::Drop, ..self }
    }

    /// An answer of a kind that the command does not give: the answers are out of step with the questions.
    pub(super) fn out_of_step() -> Self {
        let failure = Self::new(
            ErrorKind::Unavailable,
            "the connection gave another command's answer",
            Fate::Drop,
        );
        Self { code: Code::OutOfStep, ..failure }
    }
}

impl From<RedisError> for Failure {
    fn from(cause: RedisError) -> Self {
        use redis::ErrorKind as Cause;
        match cause.kind() {
            Cause::Server(_) | Cause::Extension => of_server(&cause),
            Cause::AuthenticationFailed => {
                let mut failure = Self::new(
                    ErrorKind::Backend,
                    "the server refuses the user name or password",
                    Fate::Drop,
                );
                failure.code = Code::NotAuthenticated;
                failure
            }
            Cause::InvalidClientConfig => Self::new(
                ErrorKind::Config,
                "the address or the TLS settings cannot be used",
                Fate::Drop,
            ),
            Cause::RESP3NotSupported => {
                Self::new(ErrorKind::Config, "the server does not speak RESP3", Fate::Drop)
            }
            Cause::Io if cause.is_timeout() => {
                Self::with(Error::new(ErrorKind::Timeout).with_backend(BACKEND), Fate::Drop)
            }
            // What the operating system or TLS has to say: never a value.
            Cause::Io => {
                let error = Error::new(ErrorKind::Unavailable)
                    .with_backend(BACKEND)
                    .with_source(cause.to_string());
                Self::with(error, Fate::Drop)
            }
            Cause::Parse | Cause::UnexpectedReturnType => Self::out_of_step(),
            _ => {
                Self::new(ErrorKind::Unavailable, "the driver cannot reach the server", Fate::Drop)
            }
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::with(error.with_backend(BACKEND), Fate::Drop)
    }
}

impl From<PoolError> for Failure {
    fn from(cause: PoolError) -> Self {
        match cause {
            PoolError::Backend(cause) => cause.into(),
            PoolError::Timeout(_) => Self::timeout(),
            PoolError::Closed => Self::new(
                ErrorKind::Unavailable,
                "the pool that was handed in is closed",
                Fate::Drop,
            ),
            PoolError::NoRuntimeSpecified => Self::new(
                ErrorKind::Config,
                "the pool that was handed in has timeouts but no runtime",
                Fate::Drop,
            ),
            PoolError::PostCreateHook(_) => Self::new(
                ErrorKind::Unavailable,
                "a hook of the pool that was handed in failed",
                Fate::Drop,
            ),
        }
    }
}

/// By code: the driver itself knows BUSY, OOM and WRONGTYPE only as extensions.
fn of_server(cause: &RedisError) -> Failure {
    if cause.kind() == redis::ErrorKind::Server(ServerErrorKind::NoScript) {
        let mut failure =
            Failure::new(ErrorKind::Backend, "the server does not know the script", Fate::Keep);
        failure.code = Code::NoScript;
        return failure;
    }
    let code = cause.code().filter(|code| is_code(code)).unwrap_or("ERR");
    let (kind, fate, special) = match code {
        "LOADING" | "BUSY" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" => {
            (ErrorKind::Unavailable, Fate::Keep, Code::Other)
        }
        "READONLY" => (ErrorKind::Unavailable, Fate::Renew, Code::Other),
        "NOAUTH" | "WRONGPASS" => (ErrorKind::Backend, Fate::Drop, Code::NotAuthenticated),
        "NOPERM" => (ErrorKind::Backend, Fate::Keep, Code::NotPermitted),
        "OOM" => (ErrorKind::Backend, Fate::Keep, Code::OutOfMemory),
        _ => (ErrorKind::Backend, Fate::Keep, Code::Other),
    };
    let message = match special {
        Code::NotAuthenticated => format!("the server refuses the user name or password ({code})"),
        // The driver's words for it; the server's own have no code.
        _ if cause.to_string().starts_with("Redis server refused to switch database") => {
            "the server refuses the database".to_owned()
        }
        _ => format!("the server answered with the error {code}"),
    };
    let mut failure = Failure::new(kind, message, fate);
    failure.code = special;
    failure
}

/// The first word of an error, if it is what redis calls a code and not the beginning of some text.
fn is_code(word: &str) -> bool {
    (1..=24).contains(&word.len())
        && word
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}
