//! What redis's errors mean for a call, and for the call's connection.

use super::reply::ServerError;
use crate::error::{Error, ErrorKind};
use deadpool_redis::PoolError;
use redis::{RedisError, ServerErrorKind};
use std::io;

/// The name of the backend in errors and events.
pub(super) const BACKEND: &str = "redis";

/// Why an exchange with the server failed.
///
/// The driver's error is not kept, because it may repeat arguments ("unknown command, with args
/// beginning with …") and replies, and so values.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    pub(super) fate: Fate,
    pub(super) code: Code,
    /// The connection broke, and the command is idempotent: send it again.
    pub(super) again: bool,
    /// The server answered with an error, so it is alive.
    pub(super) answered: bool,
}

/// What happens to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Keep,
    /// Connect again: the server has become a replica, and a new connection may reach the new
    /// primary.
    Renew,
    /// Drop it: it is broken or desynchronized.
    Drop,
}

/// The server's error codes that larder acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    NoScript,
    OutOfMemory,
    NotAuthenticated,
    /// The user may not run the command, or the server does not have it.
    Refused,
    /// A script failed because a command in it was refused.
    RefusedInside,
    /// A value is longer than the server accepts. The server closes the connection.
    TooLarge,
    /// The key holds another type, such as a list.
    WrongType,
    /// The value of a counter is not decimal text.
    NotAnInteger,
    Overflow,
    /// Not an error of the server: the answer belongs to another command.
    Desynchronized,
    /// Not the server's: the deadline passed before an answer came.
    Late,
    Other,
}

impl Failure {
    pub(super) fn new(kind: ErrorKind, message: impl Into<String>, fate: Fate) -> Self {
        let error = Error::new(kind).with_backend(BACKEND).with_message(message.into());
        Self::with(error, fate)
    }

    pub(super) fn with(error: Error, fate: Fate) -> Self {
        Self { error, fate, code: Code::Other, again: false, answered: false }
    }

    pub(super) fn timeout() -> Self {
        let error = Error::new(ErrorKind::Timeout).with_backend(BACKEND);
        Self { code: Code::Late, ..Self::with(error, Fate::Keep) }
    }

    pub(super) fn not_authenticated() -> Self {
        let message = "the server refuses the user name or password";
        let failure = Self::new(ErrorKind::Backend, message, Fate::Drop);
        Self { code: Code::NotAuthenticated, ..failure }
    }

    /// What the error of a `HELLO` means, which chooses the version of the protocol.
    pub(super) fn of_hello(cause: ServerError) -> Self {
        if cause.text().starts_with("unknown command") { Self::no_resp3() } else { cause.into() }
    }

    fn no_resp3() -> Self {
        Self::new(ErrorKind::Config, "the server does not speak RESP3", Fate::Drop)
    }

    /// Why a server cannot tell of changes.
    pub(super) fn untold(message: &str) -> Self {
        answered(ErrorKind::Unsupported, Fate::Keep, message)
    }

    /// The failure of a command that is or is not idempotent.
    pub(super) fn of(self, repeatable: bool) -> Self {
        let again = repeatable && self.fate == Fate::Drop && self.code != Code::TooLarge;
        Self { again, ..self }
    }

    /// Whether the server refused the command because the user may not run it, or because the
    /// server does not know it.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self.code, Code::Refused | Code::RefusedInside)
    }

    /// Whether the server answered with an error that concerns neither its state, nor the rights of
    /// the user, nor the value.
    pub(super) fn is_odd(&self) -> bool {
        let is_for_now = self.error.is_retryable() || self.error.is_refused_write();
        self.answered && !is_for_now && matches!(self.code, Code::Other | Code::WrongType)
    }

    /// The failure of a call whose answer is of a type that the command cannot give: the connection
    /// is desynchronized.
    pub(super) fn desynchronized() -> Self {
        let failure = Self::new(
            ErrorKind::Unavailable,
            "the connection gave another command's answer",
            Fate::Drop,
        );
        Self { code: Code::Desynchronized, ..failure }
    }
}

/// What a server answered.
impl From<ServerError> for Failure {
    fn from(cause: ServerError) -> Self {
        of_answer(Some(cause.code()).filter(|code| is_code(code)).unwrap_or("ERR"), cause.text())
    }
}

impl From<io::Error> for Failure {
    fn from(cause: io::Error) -> Self {
        RedisError::from(cause).into()
    }
}

/// What the driver says.
impl From<RedisError> for Failure {
    fn from(cause: RedisError) -> Self {
        use redis::ErrorKind as Cause;
        match cause.kind() {
            Cause::Server(_) | Cause::Extension => of_server(&cause),
            Cause::AuthenticationFailed => Self::not_authenticated(),
            Cause::InvalidClientConfig => Self::new(
                ErrorKind::Config,
                "the address or the TLS settings cannot be used",
                Fate::Drop,
            ),
            Cause::RESP3NotSupported => Self::no_resp3(),
            Cause::Io if cause.is_timeout() => {
                Self::with(Error::new(ErrorKind::Timeout).with_backend(BACKEND), Fate::Drop)
            }
            // The text of the operating system or of TLS never contains a value.
            Cause::Io => {
                let error = Error::new(ErrorKind::Unavailable)
                    .with_backend(BACKEND)
                    .with_source(cause.to_string());
                Self::with(error, Fate::Drop)
            }
            Cause::Parse | Cause::UnexpectedReturnType => Self::desynchronized(),
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
            PoolError::Timeout(_) => Self { code: Code::Other, ..Self::timeout() },
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

/// Distinguishes errors by their code, because the driver knows BUSY, OOM and WRONGTYPE as
/// extensions only.
fn of_server(cause: &RedisError) -> Failure {
    let text = cause.detail().unwrap_or_default();
    let code = match cause.kind() {
        redis::ErrorKind::Server(ServerErrorKind::NoScript) => "NOSCRIPT",
        _ => cause.code().filter(|code| is_code(code)).unwrap_or("ERR"),
    };
    // This is the driver's text; the server's own error has no code.
    if cause.to_string().starts_with("Redis server refused to switch database") {
        return refused_database();
    }
    of_answer(code, text)
}

/// Translates an error of the server. Of its text only the name of a command is repeated, because
/// the text may quote values.
fn of_answer(code: &str, text: &str) -> Failure {
    let (code, text) = inner_error(code, text);
    let (kind, fate, special) = match code {
        "NOSCRIPT" => (ErrorKind::Backend, Fate::Keep, Code::NoScript),
        "LOADING" | "BUSY" | "MASTERDOWN" | "TRYAGAIN" => {
            (ErrorKind::Unavailable, Fate::Keep, Code::Other)
        }
        "MOVED" | "ASK" | "CROSSSLOT" | "CLUSTERDOWN" => return in_cluster_mode(),
        "READONLY" => (ErrorKind::Unavailable, Fate::Renew, Code::Other),
        "NOAUTH" | "WRONGPASS" => (ErrorKind::Backend, Fate::Drop, Code::NotAuthenticated),
        "OOM" => (ErrorKind::Backend, Fate::Keep, Code::OutOfMemory),
        "WRONGTYPE" => (ErrorKind::Backend, Fate::Keep, Code::WrongType),
        _ if is_refused_inside(text) => (ErrorKind::Backend, Fate::Keep, Code::RefusedInside),
        "NOPERM" => (ErrorKind::Backend, Fate::Keep, Code::Refused),
        "ERR" if text.starts_with("unknown command") || text.starts_with("unknown subcommand") => {
            (ErrorKind::Backend, Fate::Keep, Code::Refused)
        }
        "ERR" if text.contains("Protocol error: invalid bulk length") => {
            (ErrorKind::TooLarge, Fate::Drop, Code::TooLarge)
        }
        "ERR" if text.starts_with("value is not an integer") => {
            (ErrorKind::Backend, Fate::Keep, Code::NotAnInteger)
        }
        "ERR" if text.contains("would overflow") => {
            (ErrorKind::Backend, Fate::Keep, Code::Overflow)
        }
        _ => (ErrorKind::Backend, Fate::Keep, Code::Other),
    };
    let message = match special {
        Code::NotAuthenticated => format!("the server refuses the user name or password ({code})"),
        Code::TooLarge => "the value is larger than the server takes".to_owned(),
        Code::RefusedInside => {
            "the server does not permit a command that a script needs".to_owned()
        }
        Code::Refused => match quoted_command(text) {
            Some(command) if code == "NOPERM" => {
                format!("the user may not run `{command}` (NOPERM)")
            }
            Some(command) => format!("the server does not know `{command}`"),
            None => format!("the user may not do this ({code})"),
        },
        _ => format!("the server answered with the error {code}"),
    };
    let mut failure = Failure { code: special, ..answered(kind, fate, message) };
    if matches!(code, "READONLY" | "MISCONF" | "NOREPLICAS") {
        failure.error = failure.error.with_refused_write();
    }
    failure
}

pub(super) fn refused_database() -> Failure {
    answered(ErrorKind::Backend, Fate::Keep, "the server refuses the database")
}

fn answered(kind: ErrorKind, fate: Fate, message: impl Into<String>) -> Failure {
    Failure { answered: true, ..Failure::new(kind, message, fate) }
}

/// The error for a server in cluster mode: a cache on one node of a cluster would see only a part
/// of the keys.
pub(super) fn in_cluster_mode() -> Failure {
    let message = "the server is in cluster mode, which this adapter does not speak";
    answered(ErrorKind::Config, Fate::Keep, message)
}

/// The error that made a script or a transaction fail, if the text contains it: always for `EXEC`,
/// and for scripts before redis 7.
fn inner_error<'t>(code: &'t str, text: &'t str) -> (&'t str, &'t str) {
    let inner = match code {
        "ERR" if text.starts_with("Error running script") => text.rsplit_once(": -"),
        "EXECABORT" => text.split_once("because of: "),
        _ => None,
    };
    let inner = inner.and_then(|(_, error)| error.split_once(' '));
    inner.filter(|(code, _)| is_code(code)).unwrap_or((code, text))
}

fn is_refused_inside(text: &str) -> bool {
    ["ACL failure in script", "Unknown Redis command called from", "Unknown command called from"]
        .iter()
        .any(|known| text.contains(known))
        || text.contains("The user executing the script can't run this command")
}

/// The command that an error names: the first quoted word.
fn quoted_command(text: &str) -> Option<String> {
    let (_, rest) = text.split_once(['\'', '`'])?;
    let (name, _) = rest.split_once(['\'', '`'])?;
    let is_name = (1..=24).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'|');
    is_name.then(|| name.to_ascii_uppercase())
}

/// The failure that a server announced before it closed a new connection; `None` if the line
/// explains nothing.
pub(super) fn of_farewell(line: &str) -> Option<Failure> {
    let message = if line.starts_with("ERR max number of clients") {
        "the server takes no more connections (`maxclients`)"
    } else if line.starts_with("DENIED") {
        "the server takes connections from its own machine only (`protected-mode`)"
    } else {
        return None;
    };
    Some(Failure::new(ErrorKind::Unavailable, message, Fate::Drop))
}

/// Whether the first word of an error is a code, and not the beginning of a text.
fn is_code(word: &str) -> bool {
    (1..=24).contains(&word.len())
        && word
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_known_by_code_and_text() {
        for (code, text, expected) in [
            ("NOPERM", "this user has no permissions to run the 'get' command", Code::Refused),
            ("NOPERM", "User ann has no permissions to run the 'get' command", Code::Refused),
            ("NOPERM", "No permissions to access a key", Code::Refused),
            ("ERR", "unknown command 'EVALSHA', with args beginning with: 'x'", Code::Refused),
            ("ERR", "unknown command `EVALSHA`, with args beginning with: `x`", Code::Refused),
            (
                "ERR",
                "The user executing the script can't run this command or subcommand script: 1",
                Code::RefusedInside,
            ),
            ("ERR", "ACL failure in script: User ann has no permissions", Code::RefusedInside),
            ("ERR", "Protocol error: invalid bulk length", Code::TooLarge),
            (
                "ERR",
                "Error running script (call to f_0): @user_script:1: @user_script: 1: -OOM command",
                Code::OutOfMemory,
            ),
            (
                "EXECABORT",
                "Transaction discarded because of: NOPERM this user has no permissions",
                Code::Refused,
            ),
            ("EXECABORT", "Transaction discarded because of previous errors.", Code::Other),
            ("ERR", "something else", Code::Other),
        ] {
            assert_eq!(of_answer(code, text).code, expected, "{code} {text}");
        }
    }

    #[test]
    fn errors_name_the_command_and_nothing_else() {
        let shown = |text| of_answer("ERR", text).error.to_string();
        let error = shown("unknown command 'GETDEL', with args beginning with: 'secret'");
        assert!(error.contains("`GETDEL`") && !error.contains("secret"), "{error}");
        assert!(!shown("unknown command 'secret 1', with args").contains("secret"));
    }

    #[test]
    fn refusals_that_pass_are_recognised() {
        for code in ["READONLY", "MISCONF", "NOREPLICAS"] {
            assert!(of_answer(code, "").error.is_refused_write(), "{code}");
        }
        assert!(!of_answer("NOPERM", "").error.is_refused_write());
    }
}
