//! Reads the log of changed keys, from one place in it to the next.

use super::connection::change_log::{self, LONGEST_KEY};
use super::errors::is_unprepared;
use super::job::Command;
use super::statements::bytes_at;
use bytes::Bytes;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Connection as _, Row as _, query};

/// Puts the log in place, and returns whether it is.
pub(super) struct OpenLog;

impl Command for OpenLog {
    type Output = bool;
    const BRIEF: bool = false;

    async fn run(&self, on: &mut SqliteConnection) -> sqlx::Result<bool> {
        change_log::put_in_place(on).await
    }
}

/// A place in the log: the last change that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    seq: i64,
    /// A log that was emptied begins again with number 1, and then has another key there.
    key: Bytes,
    /// The version of the schema. It is another one after a trigger was dropped, also if the same
    /// trigger has been created again.
    schema: i64,
}

impl Place {
    /// Reads the columns `seq`, `key` and the version of the schema.
    fn of(row: &SqliteRow) -> sqlx::Result<Self> {
        Ok(Self {
            seq: row.try_get_unchecked(0)?,
            key: bytes_at(row, 1)?,
            schema: row.try_get_unchecked(2)?,
        })
    }
}

/// The end of the log. `None` where the log is not in place.
pub(super) struct EndOfLog;

impl Command for EndOfLog {
    type Output = Option<Place>;
    // So that no statement on a connection of a former file is read as one of the present file.
    const BRIEF: bool = false;

    async fn run(&self, on: &mut SqliteConnection) -> sqlx::Result<Option<Place>> {
        // One transaction: the triggers could be dropped between the two reads.
        let mut step = on.begin().await?;
        if !change_log::is_in_place(&mut step).await? {
            return Ok(None);
        }
        let sql = "SELECT seq, key, (SELECT schema_version FROM pragma_schema_version) \
                   FROM larder_changes ORDER BY seq DESC LIMIT 1";
        let last = query(sql).persistent(false).fetch_optional(&mut *step).await?;
        let last = last.as_ref().map(Place::of).transpose();
        step.rollback().await?;
        last
    }
}

/// The changes after a place. `None` where some of them are lost, or may be.
pub(super) struct ChangesAfter(pub(super) Place);

/// Keys that have changed, and the place after them.
#[derive(Debug)]
pub(super) struct Changes {
    pub(super) keys: Vec<Bytes>,
    pub(super) end: Place,
}

impl Command for ChangesAfter {
    type Output = Option<Changes>;
    const BRIEF: bool = false;

    async fn run(&self, on: &mut SqliteConnection) -> sqlx::Result<Option<Changes>> {
        let sql = "SELECT seq, key, (SELECT schema_version FROM pragma_schema_version) \
                   FROM larder_changes WHERE seq >= ?1 ORDER BY seq";
        let rows = match query(sql).bind(self.0.seq).fetch_all(on).await {
            // The table was dropped.
            Err(error) if is_unprepared(&error) => return Ok(None),
            rows => rows?,
        };
        let places = rows.iter().map(Place::of).collect::<sqlx::Result<Vec<_>>>()?;
        // Changes that are missing have been trimmed, or removed by another program.
        let is_whole = places.first() == Some(&self.0)
            && places.windows(2).all(|pair| pair[0].seq.checked_add(1) == Some(pair[1].seq));
        let Some(end) = places.last().filter(|_| is_whole).cloned() else { return Ok(None) };
        Ok(Some(Changes { keys: places.into_iter().skip(1).map(|place| place.key).collect(), end }))
    }
}

/// What a key in the log means for an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Changed<'k> {
    Key(&'k str),
    /// Any key that begins with this text.
    Below(&'k str),
}

impl<'k> Changed<'k> {
    /// `None` for a key that is none of the adapter's, whose keys begin with `own`.
    pub(super) fn of(logged: &'k [u8], own: &str) -> Option<Self> {
        let is_cut = logged.len() >= LONGEST_KEY;
        let text = match std::str::from_utf8(logged) {
            Ok(text) => text,
            // Cut within a character.
            Err(error) if is_cut && error.error_len().is_none() => {
                std::str::from_utf8(&logged[..error.valid_up_to()]).ok()?
            }
            // A key that is no UTF-8 is none of a cache.
            Err(_) => return None,
        };
        match text.strip_prefix(own) {
            Some(rest) if is_cut => Some(Self::Below(rest)),
            Some("") => None,
            Some(key) => Some(Self::Key(key)),
            None => (is_cut && own.starts_with(text)).then_some(Self::Below("")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logged_key_is_read_as_the_adapter_knows_it() {
        assert_eq!(Changed::of(b"k", ""), Some(Changed::Key("k")));
        assert_eq!(Changed::of(b"p:k", "p:"), Some(Changed::Key("k")));
        for other in ["q:k", "p", "p:", ""] {
            assert_eq!(Changed::of(other.as_bytes(), "p:"), None, "{other}");
        }
        assert_eq!(Changed::of(b"\xff", ""), None, "no key of a cache");
        assert_eq!(Changed::of("a\0清".as_bytes(), ""), Some(Changed::Key("a\0清")));
    }

    #[test]
    fn a_key_that_was_cut_stands_for_all_that_begin_with_it() {
        let long = format!("p:{}", "清".repeat(200));
        let cut = &long.as_bytes()[..LONGEST_KEY];
        let whole = "清".repeat((LONGEST_KEY - 2) / 3);
        assert_eq!(Changed::of(cut, "p:"), Some(Changed::Below(&whole)));
        assert_eq!(Changed::of(cut, &long), Some(Changed::Below("")), "the prefix is longer");
        assert_eq!(Changed::of(cut, "q:"), None);
        let exact = "x".repeat(LONGEST_KEY);
        assert_eq!(Changed::of(exact.as_bytes(), ""), Some(Changed::Below(&exact)));
    }
}
