//! What the database needs besides being asked: expired rows swept, room made in a full file, pages given back, the log kept short.

use super::connection::database::Role;
use super::connection::schema::{self, number};
use super::engine::Engine;
use super::errors::Failure;
use super::fencing;
use super::job::Command;
use super::time;
use crate::{Result, runtime};
use sqlx::sqlite::SqliteConnection;
use sqlx::{query, raw_sql};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How long after opening the first sweep comes: the program may have been away for long.
const FIRST_SWEEP: Duration = Duration::from_secs(1);

/// How many rows make room at first; doubled while that is not enough.
const EVICT: i64 = 64;
const EVICT_MOST: i64 = 8_192;

/// Sweeps every now and then, as long as the adapter lives and its database is open.
pub(super) async fn sweep_from_time_to_time(engine: Weak<Engine>, every: Duration) {
    // An end of time that the clock can express.
    let every = every.min(Duration::from_secs(30 * 365 * 86_400));
    let mut pause = FIRST_SWEEP.min(every);
    loop {
        runtime::alarm(Instant::now() + pause).await;
        pause = every;
        let Some(engine) = engine.upgrade().filter(|engine| engine.is_open()) else { return };
        // What could not be swept now will be swept next time; a failure that lasts shows in the calls.
        let _ = purge(&engine).await;
    }
}

/// Removes all expired rows, a few at a time so that writes get their turn, and gives pages back. How many rows.
pub(super) async fn purge(engine: &Arc<Engine>) -> Result<u64> {
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

/// Gives unused pages back to the file system, some at a time, and makes room where the file is over its bound.
pub(super) async fn give_back(engine: &Arc<Engine>) -> Result<()> {
    while engine.call(Role::Write, Shrink { max_bytes: engine.source.max_bytes() }).await? {}
    Ok(())
}

/// Removes some expired rows; how many.
struct Sweep;

impl Sweep {
    const ROWS: u64 = 500;
}

impl Command for Sweep {
    type Output = u64;
    const BRIEF: bool = false;

    async fn run(&self, on: &mut SqliteConnection) -> sqlx::Result<u64> {
        let sql = "DELETE FROM larder_cache WHERE rowid IN (SELECT rowid FROM larder_cache WHERE expires_at > ?3 AND expires_at <= ?1 LIMIT ?2)";
        Ok(query(sql)
            .bind(time::now())
            .bind(Self::ROWS as i64)
            .bind(fencing::abandoned())
            .execute(on)
            .await?
            .rows_affected())
    }
}

/// Gives some unused pages back to the file system, where they are many or the file is over its bound; whether there may be more.
struct Shrink {
    max_bytes: u64,
}

impl Shrink {
    /// A quarter of the file may be unused, and so may the first few pages.
    const FEW: u64 = 256;
    /// Pages at a time.
    const STEP: u64 = 256;
}

impl Command for Shrink {
    type Output = bool;
    const BRIEF: bool = false;

    async fn run(&self, on: &mut SqliteConnection) -> sqlx::Result<bool> {
        let bound = self.max_bytes / schema::page_bytes(on).await?;
        let unused = number(on, "SELECT freelist_count FROM pragma_freelist_count").await?;
        let pages = number(on, "SELECT page_count FROM pragma_page_count").await?;
        let over = pages.saturating_sub(bound);
        if over > unused {
            // A bound that was set after the file had grown.
            return Ok(evict(on, EVICT_MOST / 16).await? > 0);
        }
        if over == 0 && (unused <= Self::FEW || unused <= pages / 4) {
            return Ok(false);
        }
        raw_sql("PRAGMA incremental_vacuum(256);").execute(&mut *on).await?;
        let now = number(on, "SELECT page_count FROM pragma_page_count").await?;
        if over > 0 && now <= bound {
            schema::restore_reserve(on, self.max_bytes).await?;
        }
        Ok(now + Self::STEP <= pages)
    }
}

/// Deletes the rows that would go first anyway: soonest to expire, then oldest. Whether there were any.
pub(super) async fn make_room(
    on: &mut SqliteConnection,
    max_bytes: u64,
    attempt: u32,
) -> Result<bool, Failure> {
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
    let immortal = "DELETE FROM larder_cache WHERE rowid IN (SELECT rowid FROM larder_cache WHERE expires_at IS NULL ORDER BY rowid LIMIT ?)";
    Ok(query(immortal).bind(rows).execute(on).await?.rows_affected())
}

/// Writes the log back and cuts it to nothing; readers that are in the way are waited for as long as a lock would be.
pub(super) async fn write_log_back(on: &mut SqliteConnection) -> Result<(), Failure> {
    raw_sql("PRAGMA wal_checkpoint(TRUNCATE);").execute(on).await?;
    Ok(())
}
