//! What the database needs besides being asked: expired rows swept, room made in a full file, pages given back, the log kept short.

use super::commands::{Shrink, Sweep};
use super::engine::{Engine, Role};
use super::failure::Failure;
use super::schema;
use crate::{Result, runtime};
use sqlx::sqlite::SqliteConnection;
use sqlx::{query, raw_sql};
use std::sync::Weak;
use std::time::{Duration, Instant};

/// How many rows make room at first; doubled while that is not enough.
const EVICT: i64 = 64;
const EVICT_MOST: i64 = 8_192;

/// Sweeps every now and then, as long as the adapter lives and its database is open.
pub(super) async fn sweep_from_time_to_time(engine: Weak<Engine>, every: Duration) {
    // An end of time that the clock can express.
    let every = every.min(Duration::from_secs(30 * 365 * 86_400));
    loop {
        runtime::alarm(Instant::now() + every).await;
        let Some(engine) = engine.upgrade().filter(|engine| engine.is_open()) else { return };
        // What could not be swept now will be swept next time; a failure that lasts shows in the calls.
        let _ = purge(&engine).await;
    }
}

/// Removes all expired rows, a few at a time so that writes get their turn, and gives pages back. How many rows.
pub(super) async fn purge(engine: &std::sync::Arc<Engine>) -> Result<u64> {
    let mut purged = 0;
    loop {
        let gone = engine.call(Role::Write, Sweep).await?;
        purged += gone;
        if gone < Sweep::ROWS {
            break;
        }
    }
    give_back(engine).await?;
    Ok(purged)
}

/// Gives unused pages back to the file system, some at a time.
pub(super) async fn give_back(engine: &std::sync::Arc<Engine>) -> Result<()> {
    while engine.call(Role::Write, Shrink).await? {}
    Ok(())
}

/// Deletes the rows that would go first anyway: soonest to expire, then oldest. Whether there were any.
pub(super) async fn make_room(on: &mut SqliteConnection, max_bytes: u64, attempt: u32) -> Result<bool, Failure> {
    let rows = EVICT_MOST.min(EVICT << attempt.saturating_sub(1).min(16));
    schema::lift_reserve(on, max_bytes).await?;
    let evicted = evict(on, rows).await;
    schema::restore_reserve(on, max_bytes).await?;
    Ok(evicted? > 0)
}

async fn evict(on: &mut SqliteConnection, rows: i64) -> sqlx::Result<u64> {
    let mortal = "DELETE FROM larder_cache WHERE rowid IN \
                  (SELECT rowid FROM larder_cache WHERE expires_at IS NOT NULL ORDER BY expires_at LIMIT ?)";
    let evicted = query(mortal).bind(rows).execute(&mut *on).await?.rows_affected();
    if evicted > 0 {
        return Ok(evicted);
    }
    let immortal =
        "DELETE FROM larder_cache WHERE rowid IN (SELECT rowid FROM larder_cache WHERE expires_at IS NULL ORDER BY rowid LIMIT ?)";
    Ok(query(immortal).bind(rows).execute(on).await?.rows_affected())
}

/// Writes the log back and cuts it to nothing; readers that are in the way are waited for as long as a lock would be.
pub(super) async fn write_log_back(on: &mut SqliteConnection) -> Result<(), Failure> {
    raw_sql("PRAGMA wal_checkpoint(TRUNCATE);").execute(on).await?;
    Ok(())
}
