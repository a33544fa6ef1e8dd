//! Whether keys are live, and on which side of their logical ends: by the first bytes of their
//! values.

use super::job::Command;
use super::reads::as_json;
use super::statements::{bytes_at, end_of};
use super::time;
use crate::adapter::Presence;
use crate::codec::{Codec, HEAD};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Row as _, query};

/// The presence of a live row, whose head is column `at`.
fn presence(row: &SqliteRow, at: usize, codec: Codec) -> sqlx::Result<Presence> {
    let end = end_of(&bytes_at(row, at)?, codec);
    Ok(end.as_ref().map_or(Presence::Live, Presence::by))
}

/// Whether a key is live, and on which side of its logical end.
pub(super) struct Present {
    pub(super) key: String,
    pub(super) codec: Codec,
}

impl Command for Present {
    type Output = Presence;

    async fn run(&self, on: &mut SqliteConnection) -> sqlx::Result<Presence> {
        one(on, &self.key, self.codec).await
    }
}

/// [`Present`] for several keys, in their order.
pub(super) struct PresentMany {
    pub(super) keys: Vec<String>,
    pub(super) codec: Codec,
}

impl Command for PresentMany {
    type Output = Vec<Presence>;
    const BRIEF: bool = false;

    /// One statement, as in [`select_many`](super::reads::select_many).
    async fn run(&self, on: &mut SqliteConnection) -> sqlx::Result<Vec<Presence>> {
        let sql = "SELECT wanted.key, substr(cached.value, 1, ?3) FROM json_each(?1) AS wanted \
                   CROSS JOIN larder_cache AS cached ON cached.key = wanted.value \
                   WHERE cached.expires_at IS NULL OR cached.expires_at > ?2";
        let Self { keys, codec } = self;
        let mut present = vec![Presence::Missing; keys.len()];
        let rows = query(sql).bind(as_json(keys)?).bind(time::now()).bind(HEAD as i64);
        for row in rows.fetch_all(&mut *on).await? {
            let at: i64 = row.try_get_unchecked(0)?;
            if let Some(place) = usize::try_from(at).ok().and_then(|at| present.get_mut(at)) {
                *place = presence(&row, 1, *codec)?;
            }
        }
        // SQLite ends a text from JSON at its first NUL.
        for (place, key) in present.iter_mut().zip(keys).filter(|(_, key)| key.contains('\0')) {
            *place = one(on, key, *codec).await?;
        }
        Ok(present)
    }
}

async fn one(on: &mut SqliteConnection, key: &str, codec: Codec) -> sqlx::Result<Presence> {
    let sql = "SELECT substr(value, 1, ?3) FROM larder_cache WHERE key = ?1 \
               AND (expires_at IS NULL OR expires_at > ?2)";
    let row = query(sql).bind(key).bind(time::now()).bind(HEAD as i64).fetch_optional(on).await?;
    row.map_or(Ok(Presence::Missing), |row| presence(&row, 0, codec))
}
