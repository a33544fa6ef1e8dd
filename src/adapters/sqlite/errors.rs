//! What SQLite's errors mean for the lanes.

use crate::error::{Error, ErrorKind};

/// An error, sorted by what can be done about it.
#[derive(Debug)]
pub(super) enum Failure {
    /// Somebody else holds the lock: ask again.
    Locked(sqlx::Error),
    /// The bound on the file's size is reached, or the disk is full: make room.
    Full(sqlx::Error),
    /// The file is no sound database any more: make a new one.
    Corrupt(sqlx::Error),
    /// The file has moved: begin again with what is in its place.
    Moved(sqlx::Error),
    /// Something that was prepared is gone, such as the table: prepare again.
    Unprepared(sqlx::Error),
    /// The file turned out to be another one, or damaged, before anything was asked of it: begin again.
    Stale,
    /// The connection is of no more use: open another.
    Broken(sqlx::Error),
    /// Nothing can be done.
    Other(sqlx::Error),
    /// Not SQLite's error but ours.
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
                    .with_message("the file was exchanged again and again");
            }
            Self::Locked(error) => (
                ErrorKind::Timeout,
                Some("the database was locked by somebody else until the deadline"),
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

/// What a file or the log's index could not be written or lengthened for: a quota, a limit.
const IOERR_WRITE: i32 = 10 | (3 << 8);
const IOERR_SHMSIZE: i32 = 10 | (19 << 8);

/// SQLite's extended result code.
fn code(error: &sqlx::Error) -> Option<i32> {
    error.as_database_error()?.code()?.parse().ok()
}
