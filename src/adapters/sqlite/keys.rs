//! The keys of a range, page by page. A page is one short statement or two, so no read transaction
//! outlasts it: one that is open for long keeps the log from being shortened.

use super::job::Command;
use super::statements::bytes_at;
use super::time;
use crate::codec::{HEAD, logical_end};
use bytes::Bytes;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Row as _, query};
use std::collections::HashSet;

/// The most rows that a page looks at, expired ones and placeholders of claims included.
const ROWS: i64 = 500;

/// The most bytes of values behind a page. SQLite reads a whole value for the sake of its head.
const BYTES: i64 = 8 << 20;

/// Where a page begins.
pub(super) enum From {
    /// At the first key that is not before this text.
    At(String),
    /// After this key. Bytes, because another program may have stored a key that is no UTF-8.
    After(Vec<u8>),
}

/// The live keys of a range, from one place on, up to and without `to`.
pub(super) struct Keys {
    pub(super) from: From,
    pub(super) to: Option<String>,
    /// Whether values can be past their logical end, so that their heads have to be read.
    pub(super) judges: bool,
}

/// A page of keys, and the last key that it has looked at, unless it is the last page.
pub(super) struct Page {
    pub(super) keys: Vec<String>,
    pub(super) last: Option<Vec<u8>>,
}

/// A row of the page.
struct Row {
    key: Vec<u8>,
    is_live: bool,
    bytes: i64,
}

impl Keys {
    /// Selects `columns` of the first `?3` rows from the beginning, `?1`, up to `end`, which names
    /// `?2`.
    fn sql(&self, columns: &str, end: &str) -> String {
        // The cast leaves the bytes as they are, and compares them as a text.
        let from = match self.from {
            From::At(_) => "key >= CAST(?1 AS TEXT)",
            From::After(_) => "key > CAST(?1 AS TEXT)",
        };
        format!("SELECT {columns} FROM larder_cache WHERE {from} AND {end} ORDER BY key LIMIT ?3")
    }

    fn beginning(&self) -> &[u8] {
        match &self.from {
            From::At(text) => text.as_bytes(),
            From::After(key) => key,
        }
    }

    async fn rows(&self, on: &mut SqliteConnection) -> sqlx::Result<Vec<Row>> {
        let end = if self.to.is_some() { "key < ?2" } else { "?2 IS NULL" };
        // The length of a blob is known without reading it.
        let sql = self.sql("CAST(key AS BLOB), expires_at, length(value)", end);
        let rows = query(AssertSqlSafe(sql))
            .bind(self.beginning())
            .bind(self.to.as_deref())
            .bind(ROWS)
            .fetch_all(on)
            .await?;
        let now = time::now();
        let read = rows.iter().map(|row| {
            let expires_at: Option<i64> = row.try_get_unchecked(1)?;
            Ok(Row {
                key: bytes_at(row, 0)?.to_vec(),
                is_live: expires_at.is_none_or(|end| end > now),
                bytes: row.try_get_unchecked(2)?,
            })
        });
        read.collect()
    }

    /// The keys up to `last` whose values are past their logical end.
    async fn stale(&self, on: &mut SqliteConnection, last: &[u8]) -> sqlx::Result<HashSet<Bytes>> {
        let columns = format!("CAST(key AS BLOB), substr(value, 1, {HEAD})");
        let sql = self.sql(&columns, "key <= CAST(?2 AS TEXT)");
        let rows = query(AssertSqlSafe(sql)).bind(self.beginning()).bind(last).bind(ROWS);
        let mut stale = HashSet::new();
        for row in &rows.fetch_all(on).await? {
            let end = logical_end(&bytes_at(row, 1)?);
            if end.is_some_and(|end| end.is_stale()) {
                stale.insert(bytes_at(row, 0)?);
            }
        }
        Ok(stale)
    }
}

impl Command for Keys {
    type Output = Page;
    const BRIEF: bool = false;

    async fn run(&self, on: &mut SqliteConnection) -> sqlx::Result<Page> {
        let mut rows = self.rows(on).await?;
        let mut is_last = i64::try_from(rows.len()).unwrap_or(ROWS) < ROWS;
        let mut stale = HashSet::new();
        if self.judges {
            let mut bytes = 0;
            let within = rows.iter().take_while(|row| {
                bytes += row.bytes;
                bytes <= BYTES
            });
            let count = within.count().max(1);
            is_last &= rows.len() <= count;
            rows.truncate(count);
            if let Some(last) = rows.last() {
                stale = self.stale(on, &last.key).await?;
            }
        }
        let last = if is_last { None } else { rows.last().map(|row| row.key.clone()) };
        let live = rows.into_iter().filter(|row| row.is_live && !stale.contains(&*row.key));
        // A key that is no UTF-8 is none of a cache.
        let keys = live.filter_map(|row| String::from_utf8(row.key).ok()).collect();
        Ok(Page { keys, last })
    }
}
