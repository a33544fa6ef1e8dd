//! The commands and their SQL: one statement each, where one is enough.

use super::connection::schema::number;
use super::job::Command;
use super::{time, transaction};
use crate::codec::{Codec, HEAD, logical_end};
use crate::error::{Error, ErrorKind, Result};
use crate::meta::Meta;
use crate::value::CacheValue;
use bytes::Bytes;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Row as _, query};

/// The most keys or rows that one statement of a batch names.
pub(super) const CHUNK: usize = 512;

/// The most bytes of values that one statement, or one transaction, of a batch stores, unless it
/// stores a single value.
pub(super) const CHUNK_BYTES: usize = 4 << 20;

/// Batches of up to this size have one statement for each size.
const EXACT: usize = 16;

/// The largest row, in bytes, that is joined with others into one statement.
const SMALL: usize = 16 << 10;

/// A key with the value to store under it.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) key: String,
    pub(super) value: Bytes,
    /// In milliseconds since 1970. `None` is never.
    pub(super) expires_at: Option<i64>,
}

impl Stored {
    pub(super) fn bytes(&self) -> usize {
        self.key.len() + self.value.len()
    }
}

pub(super) fn bytes_at(row: &SqliteRow, at: usize) -> sqlx::Result<Bytes> {
    // Unchecked, because another program may have stored a text or a number.
    Ok(row.try_get_unchecked::<Vec<u8>, _>(at)?.into())
}

/// Placeholders for at least `keys` keys, padded to a power of two: there are then few different
/// statements, and all of them stay prepared. The extra ones are bound to `NULL`, which equals no
/// key.
pub(super) fn padded(keys: usize) -> (usize, String) {
    let count = keys.next_power_of_two();
    (count, vec!["?"; count].join(", "))
}

/// Stores an entry, replacing any older one.
pub(super) struct Put(pub(super) Stored);

impl Put {
    pub(super) fn is_small(&self) -> bool {
        self.bytes() <= SMALL
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.bytes()
    }

    pub(super) fn key(&self) -> &String {
        &self.0.key
    }
}

impl Command for Put {
    type Output = ();

    async fn run(&self, on: &mut SqliteConnection) -> sqlx::Result<()> {
        upsert(on, &[&self.0]).await
    }
}

/// Stores several entries; of several for one key, the last one counts.
pub(super) struct PutMany(pub(super) Vec<Stored>);

impl Command for PutMany {
    type Output = ();
    const BRIEF: bool = false;

    async fn run(&self, on: &mut SqliteConnection) -> sqlx::Result<()> {
        upsert_many(on, &self.0.iter().collect::<Vec<_>>()).await
    }
}

pub(super) async fn upsert_many(
    on: &mut SqliteConnection,
    mut entries: &[&Stored],
) -> sqlx::Result<()> {
    while !entries.is_empty() {
        let (now, later) = entries.split_at(rows(entries.len()));
        upsert(on, now).await?;
        entries = later;
    }
    Ok(())
}

/// How many of `of` rows the next statement stores. Every statement is a transaction, so a small
/// batch is one statement. Large batches use two sizes for each doubling: there are then few
/// different statements, and all of them stay prepared.
fn rows(of: usize) -> usize {
    if of <= EXACT {
        return of;
    }
    let power = 1 << of.min(CHUNK).ilog2();
    let half_more = power + power / 2;
    if of.min(CHUNK) >= half_more { half_more } else { power }
}

pub(super) async fn upsert(on: &mut SqliteConnection, entries: &[&Stored]) -> sqlx::Result<()> {
    let rows = vec!["(?, ?, ?)"; entries.len()].join(", ");
    let sql = format!(
        "INSERT INTO larder_cache (key, value, expires_at) VALUES {rows} \
         ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at"
    );
    let mut insert = query(AssertSqlSafe(sql));
    for entry in entries {
        insert = insert.bind(&*entry.key).bind(&*entry.value).bind(entry.expires_at);
    }
    insert.execute(on).await?;
    Ok(())
}

/// Stores an entry with a statement that has a condition, and returns whether it did. The statement
/// takes the key, the value, the expiry and the present time.
async fn store_if(
    on: &mut SqliteConnection,
    sql: &'static str,
    entry: &Stored,
) -> sqlx::Result<bool> {
    let done = query(sql)
        .bind(&*entry.key)
        .bind(&*entry.value)
        .bind(entry.expires_at)
        .bind(time::now())
        .execute(on)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Stores an entry if the key is missing, and returns whether it did.
pub(super) struct Add(pub(super) Stored);

impl Command for Add {
    type Output = bool;

    async fn run(&self, on: &mut SqliteConnection) -> sqlx::Result<bool> {
        let sql = "INSERT INTO larder_cache (key, value, expires_at) VALUES (?1, ?2, ?3) \
                   ON CONFLICT (key) DO UPDATE \
                   SET value = excluded.value, expires_at = excluded.expires_at \
                   WHERE larder_cache.expires_at <= ?4";
        store_if(on, sql, &self.0).await
    }
}

/// Stores an entry if the key is live, and returns whether it did.
pub(super) struct Replace(pub(super) Stored);

impl Command for Replace {
    type Output = bool;

    async fn run(&self, on: &mut SqliteConnection) -> sqlx::Result<bool> {
        let sql = "UPDATE larder_cache SET value = ?2, expires_at = ?3 WHERE key = ?1 \
                   AND (expires_at IS NULL OR expires_at > ?4)";
        store_if(on, sql, &self.0).await
    }
}

/// Whether a row is live and not past its logical end. Column `at` says whether the row has
/// expired; the next column is the head of the value.
pub(super) fn counts(row: &SqliteRow, at: usize, codec: Codec) -> sqlx::Result<bool> {
    let is_live: bool = row.try_get_unchecked(at)?;
    Ok(is_live && !end_of(&bytes_at(row, at + 1)?, codec).is_some_and(|end| end.is_stale()))
}

/// The logical end of a value, by its first bytes.
pub(super) fn end_of(head: &[u8], codec: Codec) -> Option<Meta> {
    if codec.has_logical_ends() { logical_end(head) } else { None }
}

/// Removes a key, and returns whether it was live and not past its logical end.
pub(super) struct Remove {
    pub(super) key: String,
    pub(super) codec: Codec,
}

impl Command for Remove {
    type Output = bool;

    async fn run(&self, on: &mut SqliteConnection) -> sqlx::Result<bool> {
        let sql = "DELETE FROM larder_cache WHERE key = ?1 \
                   RETURNING expires_at IS NULL OR expires_at > ?2, substr(value, 1, ?3)";
        let row = query(sql)
            .bind(&*self.key)
            .bind(time::now())
            .bind(HEAD as i64)
            .fetch_optional(on)
            .await?;
        row.map_or(Ok(false), |row| counts(&row, 0, self.codec))
    }
}

/// Removes a key and returns the live value that it had.
pub(super) struct Take(pub(super) String);

impl Command for Take {
    type Output = Option<Bytes>;

    async fn run(&self, on: &mut SqliteConnection) -> sqlx::Result<Option<Bytes>> {
        let sql = "DELETE FROM larder_cache WHERE key = ?1 \
                   RETURNING expires_at IS NULL OR expires_at > ?2, value";
        let Some(row) = query(sql).bind(&*self.0).bind(time::now()).fetch_optional(on).await?
        else {
            return Ok(None);
        };
        if row.try_get_unchecked(0)? { bytes_at(&row, 1).map(Some) } else { Ok(None) }
    }
}

/// Gives a live key a new expiry, and returns its value.
pub(super) struct Update {
    pub(super) key: String,
    pub(super) expires_at: Option<i64>,
}

impl Command for Update {
    type Output = Option<Bytes>;

    async fn run(&self, on: &mut SqliteConnection) -> sqlx::Result<Option<Bytes>> {
        let sql = "UPDATE larder_cache SET expires_at = ?3 WHERE key = ?1 \
                   AND (expires_at IS NULL OR expires_at > ?2) RETURNING value";
        let row = query(sql)
            .bind(&*self.key)
            .bind(time::now())
            .bind(self.expires_at)
            .fetch_optional(on)
            .await?;
        row.map(|row| bytes_at(&row, 0)).transpose()
    }
}

/// Gives a live key a new expiry, and returns whether the key was live.
pub(super) struct Touch(pub(super) Update);

impl Command for Touch {
    type Output = bool;

    async fn run(&self, on: &mut SqliteConnection) -> sqlx::Result<bool> {
        let sql = "UPDATE larder_cache SET expires_at = ?3 WHERE key = ?1 \
                   AND (expires_at IS NULL OR expires_at > ?2)";
        let Update { key, expires_at } = &self.0;
        let done = query(sql).bind(&**key).bind(time::now()).bind(*expires_at).execute(on).await?;
        Ok(done.rows_affected() > 0)
    }
}

/// Reads when a live key expires: `None` if it is missing, `Some(None)` for never.
pub(super) struct ExpiresAt(pub(super) String);

impl Command for ExpiresAt {
    type Output = Option<Option<i64>>;

    async fn run(&self, on: &mut SqliteConnection) -> sqlx::Result<Option<Option<i64>>> {
        let sql = "SELECT expires_at FROM larder_cache WHERE key = ?1 \
                   AND (expires_at IS NULL OR expires_at > ?2)";
        let row = query(sql).bind(&*self.0).bind(time::now()).fetch_optional(on).await?;
        row.map(|row| row.try_get_unchecked(0)).transpose()
    }
}

/// Adds to a counter that is stored as decimal text, in one statement. Returns `None` where the
/// value is something else.
pub(super) struct Increment {
    pub(super) key: String,
    pub(super) by: i64,
    pub(super) expires_at: Option<i64>,
}

impl Command for Increment {
    type Output = Option<i64>;

    async fn run(&self, on: &mut SqliteConnection) -> sqlx::Result<Option<i64>> {
        // The bounds keep the sum within 64 bits; beyond them SQLite would continue in floating
        // point.
        let sql = "INSERT INTO larder_cache (key, value, expires_at) \
                   VALUES (?1, CAST(CAST(?4 AS TEXT) AS BLOB), ?3) \
                   ON CONFLICT (key) DO UPDATE SET \
                     value = CASE WHEN larder_cache.expires_at <= ?2 THEN excluded.value \
                       ELSE CAST(CAST(CAST(CAST(larder_cache.value AS TEXT) AS INTEGER) + ?4 \
                         AS TEXT) AS BLOB) END, \
                     expires_at = CASE WHEN larder_cache.expires_at <= ?2 \
                       THEN excluded.expires_at ELSE larder_cache.expires_at END \
                   WHERE larder_cache.expires_at <= ?2 OR ( \
                     CAST(CAST(CAST(larder_cache.value AS TEXT) AS INTEGER) AS TEXT) \
                       = CAST(larder_cache.value AS TEXT) \
                     AND CAST(CAST(larder_cache.value AS TEXT) AS INTEGER) BETWEEN ?5 AND ?6) \
                   RETURNING CAST(CAST(value AS TEXT) AS INTEGER)";
        let least = if self.by < 0 { i64::MIN - self.by } else { i64::MIN };
        let most = if self.by > 0 { i64::MAX - self.by } else { i64::MAX };
        let add = query(sql)
            .bind(&*self.key)
            .bind(time::now())
            .bind(self.expires_at)
            .bind(self.by)
            .bind(least)
            .bind(most);
        let row = add.fetch_optional(on).await?;
        row.map(|row| row.try_get_unchecked(0)).transpose()
    }
}

/// [`Increment`] for values that SQL cannot read: numbers in larder's own format, and values that
/// are no numbers.
pub(super) struct IncrementDecoded {
    pub(super) increment: Increment,
    pub(super) codec: Codec,
}

impl Command for IncrementDecoded {
    type Output = Result<i64>;
    const BRIEF: bool = false;

    async fn run(&self, on: &mut SqliteConnection) -> sqlx::Result<Result<i64>> {
        transaction::begin(on).await?;
        let sum = self.add(on).await;
        transaction::end(on, sum).await
    }
}

impl IncrementDecoded {
    async fn add(&self, on: &mut SqliteConnection) -> sqlx::Result<Result<i64>> {
        let Increment { key, by, expires_at } = &self.increment;
        let sql = "SELECT value, expires_at FROM larder_cache WHERE key = ?1 \
                   AND (expires_at IS NULL OR expires_at > ?2)";
        let row = query(sql).bind(&**key).bind(time::now()).fetch_optional(&mut *on).await?;
        let (before, expires_at) = match row {
            None => (Ok(0), *expires_at),
            Some(row) => {
                let value = CacheValue::from_stored(key, bytes_at(&row, 0)?, self.codec);
                if value.is_stale() {
                    (Ok(0), *expires_at)
                } else {
                    (value.as_counter(), row.try_get_unchecked(1)?)
                }
            }
        };
        let sum = before.and_then(|before| {
            before.checked_add(*by).ok_or_else(|| Error::new(ErrorKind::Overflow))
        });
        if let Ok(sum) = sum {
            upsert(on, &[&Stored { key: key.clone(), value: sum.to_string().into(), expires_at }])
                .await?;
        }
        Ok(sum)
    }
}

/// Reads one number from the file, to see that it can be read.
pub(super) struct Ping;

impl Command for Ping {
    type Output = ();
    const BRIEF: bool = false;

    async fn run(&self, on: &mut SqliteConnection) -> sqlx::Result<()> {
        number(on, "SELECT count(*) FROM sqlite_schema").await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_batch_is_few_statements_and_few_different_ones() {
        let mut different = HashSet::new();
        for count in 1..=CHUNK {
            let (mut left, mut statements) = (count, 0);
            while left > 0 {
                let now = rows(left);
                assert!((1..=left).contains(&now), "{now} of {left}");
                different.insert(now);
                left -= now;
                statements += 1;
            }
            assert!(statements <= if count <= EXACT { 1 } else { 5 }, "{statements} for {count}");
        }
        assert!(different.len() < 32, "{different:?}");
    }
}
