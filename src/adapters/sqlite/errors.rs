//! Sorts SQLite's errors by what the engine can do about them.

use crate::error::{Error, ErrorKind};

/// An error, sorted by what can be done about it.
#[derive(Debug)]
pub(super) enum Failure {
    /// Another connection holds the lock: try again.
    Locked(sqlx::Error),
    /// The bound on the file's size is reached, or the disk is full: make room.
    Full(sqlx::Error),
    /// The file is damaged: create a new one.
    Corrupt(sqlx::Error),
    /// The file was moved or replaced: open the file that is at the path now.
    Moved(sqlx::Error),
    /// A prepared part of the database is missing, such as the table: prepare the database again.
    Unprepared(sqlx::Error),
    /// The file was found replaced or damaged before a statement ran: open it again.
    Stale,
    /// The connection is unusable: open another.
    Broken(sqlx::Error),
    /// No repair is possible.
    Other(sqlx::Error),
    /// An error of larder's own, not of SQLite.
    Known(Error),
}

impl Failure {
    pub(super) fn of(error: sqlx::Error) -> Self {
        let Some(code) = code(&error) else {
            return match error {
                sqlx::Error::ColumnDecode { .. }
                | sqlx::Error::Decode(_)
                | sqlx::Error::RowNotFound => Self::Other(error),
                _ => Self::Broken(error),
            };
        };
        // https://www.sqlite.org/rescode.html; the low byte is the primary code.
        match (code & 0xff, code) {
            (5 | 6 | 15, _) => Self::Locked(error),
            (13, _) | (_, IOERR_WRITE | IOERR_SHMSIZE) => Self::Full(error),
            (11 | 26, _) => Self::Corrupt(error),
            (_, 1032) => Self::Moved(error),
            (1, _) => Self::Unprepared(error),
            (10 | 14, _) => Self::Broken(error),
            _ => Self::Other(error),
        }
    }

    pub(super) fn into_error(self) -> Error {
        let (kind, message, error) = match self {
            Self::Known(error) => return error,
            Self::Stale => {
                return Error::new(ErrorKind::Unavailable)
                    .with_message("the file was replaced at every attempt to open it");
            }
            Self::Locked(error) => (
                ErrorKind::Timeout,
                Some("another connection held the database's lock until the deadline"),
                error,
            ),
            Self::Full(error) => (ErrorKind::Unavailable, Some("the disk is full"), error),
            Self::Corrupt(error) => (ErrorKind::Unavailable, Some("the file is damaged"), error),
            Self::Moved(error) | Self::Unprepared(error) | Self::Broken(error) => {
                (ErrorKind::Unavailable, None, error)
            }
            Self::Other(error) => match code(&error).map(|code| code & 0xff) {
                Some(18) => (ErrorKind::TooLarge, None, error),
                // Read-only, no permission, no memory.
                Some(8 | 3 | 23 | 7) => (ErrorKind::Unavailable, None, error),
                _ => (ErrorKind::Backend, None, error),
            },
        };
        let built = Error::new(kind).with_source(error);
        if let Some(message) = message { built.with_message(message) } else { built }
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::of(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Known(error)
    }
}

/// SQLite's codes for a file, or an index of the log, that could not be written or grown because of
/// a quota or a limit.
const IOERR_WRITE: i32 = 10 | (3 << 8);
const IOERR_SHMSIZE: i32 = 10 | (19 << 8);

/// Whether a part of the database is missing, such as a table: see [`Failure::Unprepared`].
pub(super) fn is_unprepared(error: &sqlx::Error) -> bool {
    code(error).is_some_and(|code| code & 0xff == 1)
}

/// SQLite's extended result code.
fn code(error: &sqlx::Error) -> Option<i32> {
    error.as_database_error()?.code()?.parse().ok()
}
