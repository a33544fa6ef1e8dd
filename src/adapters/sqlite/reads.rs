//! The reads of live rows: of one key, and of several in one statement.

use super::job::Command;
use super::statements::bytes_at;
use super::time;
use bytes::Bytes;
use serde::Serialize;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Row as _, query};

/// A live row, as it was read.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) value: Bytes,
    /// In milliseconds since 1970. `None` is never.
    pub(super) expires_at: Option<i64>,
}

impl Found {
    /// Reads columns `at`, the expiry, and the next one, the value.
    fn at(row: &SqliteRow, at: usize) -> sqlx::Result<Self> {
        Ok(Self { expires_at: row.try_get_unchecked(at)?, value: bytes_at(row, at + 1)? })
    }
}

/// Reads the live row of a key.
pub(super) struct Get(pub(super) String);

impl Command for Get {
    type Output = Option<Found>;

    async fn run(&self, on: &mut SqliteConnection) -> sqlx::Result<Option<Found>> {
        let sql = "SELECT expires_at, value FROM larder_cache WHERE key = ?1 \
                   AND (expires_at IS NULL OR expires_at > ?2)";
        let row = query(sql).bind(&*self.0).bind(time::now()).fetch_optional(on).await?;
        row.map(|row| Found::at(&row, 0)).transpose()
    }
}

/// Reads the live rows of several keys, in their order.
pub(super) struct GetMany(pub(super) Vec<String>);

impl Command for GetMany {
    type Output = Vec<Option<Found>>;
    const BRIEF: bool = false;

    async fn run(&self, on: &mut SqliteConnection) -> sqlx::Result<Vec<Option<Found>>> {
        let keys: Vec<&str> = self.0.iter().map(String::as_str).collect();
        select_many(on, &keys).await
    }
}

/// Keys as one parameter, for `json_each`.
pub(super) fn as_json(keys: &[impl Serialize]) -> sqlx::Result<String> {
    serde_json::to_string(keys).map_err(|cause| sqlx::Error::Encode(cause.into()))
}

/// Reads the live rows of keys, which may repeat. The keys are one parameter, a JSON array, and a
/// row names the place in it: one statement for all sizes, and no key comes back.
pub(super) async fn select_many(
    on: &mut SqliteConnection,
    keys: &[&str],
) -> sqlx::Result<Vec<Option<Found>>> {
    let sql = "SELECT wanted.key, cached.expires_at, cached.value FROM json_each(?1) AS wanted \
               CROSS JOIN larder_cache AS cached ON cached.key = wanted.value \
               WHERE cached.expires_at IS NULL OR cached.expires_at > ?2";
    let mut found = vec![None; keys.len()];
    for row in query(sql).bind(as_json(keys)?).bind(time::now()).fetch_all(&mut *on).await? {
        let at: i64 = row.try_get_unchecked(0)?;
        if let Some(place) = usize::try_from(at).ok().and_then(|at| found.get_mut(at)) {
            *place = Some(Found::at(&row, 1)?);
        }
    }
    // SQLite ends a text from JSON at its first NUL.
    for (place, key) in found.iter_mut().zip(keys).filter(|(_, key)| key.contains('\0')) {
        *place = Get((*key).to_owned()).run(on).await?;
    }
    Ok(found)
}
