//! Housekeeping: sweeping expired rows, making room in a full file, giving pages back, and keeping
//! the log short. All of it is done in steps that are short enough for other writers to wait for.

use super::connection::schema::{self, number};
use super::errors::Failure;
use super::job::Command;
use super::pace::PAGE;
use super::{fencing, time, transaction};
use crate::adapter::StoreSize;
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteConnection};
use sqlx::{AssertSqlSafe, query, query_scalar, raw_sql};
use std::time::{Duration, Instant};

/// How many pages the first eviction frees, and the most that one frees. Each further eviction for
/// the same job frees twice as many.
const EVICT: u64 = 64;
const EVICT_MOST: u64 = 8_192;

/// A step of housekeeping.
pub(super) struct Step {
    /// The number of rows removed or pages freed.
    pub(super) done: u64,
    /// Whether no work is left.
    pub(super) is_last: bool,
    /// How long other writers were kept out.
    pub(super) took: Duration,
}

/// SQL that deletes the rows which `chosen` selects, in its order, until they amount to the given
/// number of pages; at least one row.
///
/// `chosen` must select `id` and `bytes`, and has its own parameters from `?3` on.
fn delete_some(chosen: &str) -> String {
    format!(
        "DELETE FROM larder_cache WHERE rowid IN (SELECT id FROM ( \
           SELECT id, sum(1 + bytes / {PAGE}) OVER (ROWS UNBOUNDED PRECEDING) AS upto, \
             1 + bytes / {PAGE} AS pages \
           FROM ({chosen} LIMIT ?1)) \
         WHERE upto - pages < ?2)"
    )
}

/// Removes some of the keys from `from` up to, and without, `to`.
pub(super) struct Clear {
    pub(super) from: String,
    pub(super) to: Option<String>,
    pub(super) pages: u64,
}

impl Command for Clear {
    type Output = Step;
    const BRIEF: bool = false;

    async fn run(&self, on: &mut SqliteConnection) -> sqlx::Result<Step> {
        let Self { from, to, pages } = self;
        let rows = "SELECT rowid AS id, length(value) AS bytes FROM larder_cache";
        let chosen = match (from.is_empty(), to) {
            (true, None) => format!("{rows} ORDER BY rowid"),
            (false, None) => format!("{rows} WHERE key >= ?3 ORDER BY key"),
            (_, Some(_)) => format!("{rows} WHERE key >= ?3 AND key < ?4 ORDER BY key"),
        };
        let sql = delete_some(&chosen);
        let mut delete = query(AssertSqlSafe(sql)).bind(bound(*pages)).bind(bound(*pages));
        if !from.is_empty() || to.is_some() {
            delete = delete.bind(&**from);
        }
        if let Some(to) = to {
            delete = delete.bind(&**to);
        }
        step(on, delete).await
    }
}

/// Removes some expired rows.
pub(super) struct Sweep {
    pub(super) pages: u64,
}

impl Command for Sweep {
    type Output = Step;
    const BRIEF: bool = false;

    async fn run(&self, on: &mut SqliteConnection) -> sqlx::Result<Step> {
        let sql = delete_some(
            "SELECT rowid AS id, length(value) AS bytes FROM larder_cache \
             WHERE expires_at > ?3 AND expires_at <= ?4 ORDER BY expires_at",
        );
        let delete = query(AssertSqlSafe(sql))
            .bind(bound(self.pages))
            .bind(bound(self.pages))
            .bind(fencing::abandoned())
            .bind(time::now());
        step(on, delete).await
    }
}

/// Runs a step in its own transaction. The measured time starts when the lock is held: time spent
/// waiting for other writers is no reason for a smaller step.
async fn step(
    on: &mut SqliteConnection,
    delete: Query<'_, Sqlite, SqliteArguments>,
) -> sqlx::Result<Step> {
    transaction::begin(on).await?;
    let began = Instant::now();
    let done = delete.execute(&mut *on).await.map(|deleted| deleted.rows_affected());
    let took = began.elapsed();
    let done = transaction::end(on, done).await?;
    Ok(Step { done, is_last: done == 0, took })
}

fn bound(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Gives some unused pages back to the file system, if many pages are unused or the file is over
/// its bound.
pub(super) struct Shrink {
    pub(super) max_bytes: u64,
    pub(super) pages: u64,
}

impl Shrink {
    /// Unused pages that are always kept. A quarter of the file may be unused, too.
    const FEW: u64 = 256;
}

impl Command for Shrink {
    type Output = Step;
    const BRIEF: bool = false;

    async fn run(&self, on: &mut SqliteConnection) -> sqlx::Result<Step> {
        let bound = self.max_bytes / schema::page_bytes(on).await?;
        let unused = number(on, "SELECT freelist_count FROM pragma_freelist_count").await?;
        let pages = number(on, "SELECT page_count FROM pragma_page_count").await?;
        let over = pages.saturating_sub(bound);
        let began = Instant::now();
        if over > unused {
            // The bound was lowered after the file had grown.
            let evicted = evict(on, self.pages.min(over - unused)).await?;
            return Ok(Step { done: evicted, is_last: evicted == 0, took: began.elapsed() });
        }
        if over == 0 && (unused <= Self::FEW || unused <= pages / 4) {
            return Ok(Step { done: 0, is_last: true, took: Duration::ZERO });
        }
        let vacuum = format!("PRAGMA incremental_vacuum({});", self.pages);
        raw_sql(AssertSqlSafe(vacuum)).execute(&mut *on).await?;
        let took = began.elapsed();
        let now = number(on, "SELECT page_count FROM pragma_page_count").await?;
        if over > 0 && now <= bound {
            schema::restore_reserve(on, self.max_bytes).await?;
        }
        Ok(Step { done: pages.saturating_sub(now), is_last: now >= pages, took })
    }
}

/// Writes the log back into the file and truncates the log, so that freed pages reach the file
/// system. It does not wait for readers that block it.
pub(super) struct WriteBack;

impl Command for WriteBack {
    type Output = ();
    const BRIEF: bool = false;

    async fn run(&self, on: &mut SqliteConnection) -> sqlx::Result<()> {
        // PASSIVE first, as it blocks no writer: it leaves little to TRUNCATE, which does block
        // them.
        raw_sql("PRAGMA wal_checkpoint(PASSIVE);").execute(&mut *on).await?;
        raw_sql("PRAGMA wal_checkpoint(TRUNCATE);").execute(on).await?;
        Ok(())
    }
}

/// Counts the live rows, and the pages in use.
pub(super) struct Measure;

impl Command for Measure {
    type Output = StoreSize;
    const BRIEF: bool = false;

    async fn run(&self, on: &mut SqliteConnection) -> sqlx::Result<StoreSize> {
        // By the index of expiries, which is much smaller than the table.
        let count = "SELECT count(*) FROM larder_cache WHERE expires_at IS NULL OR expires_at > ?1";
        let rows: i64 = query_scalar(count).bind(time::now()).fetch_one(&mut *on).await?;
        let pages = number(on, "SELECT page_count FROM pragma_page_count").await?;
        let unused = number(on, "SELECT freelist_count FROM pragma_freelist_count").await?;
        let bytes = pages.saturating_sub(unused) * schema::page_bytes(on).await?;
        Ok(StoreSize::new(u64::try_from(rows).unwrap_or_default(), bytes))
    }
}

/// Evicts rows: those that expire soonest, then the oldest of those that never expire, and then the
/// oldest placeholders of claims. Returns whether it found any.
pub(super) async fn make_room(
    on: &mut SqliteConnection,
    max_bytes: u64,
    attempt: u32,
) -> Result<bool, Failure> {
    let pages = EVICT_MOST.min(EVICT << attempt.saturating_sub(1).min(16));
    schema::lift_reserve(on, max_bytes).await?;
    let evicted = evict(on, pages).await;
    schema::restore_reserve(on, max_bytes).await?;
    Ok(evicted? > 0)
}

async fn evict(on: &mut SqliteConnection, pages: u64) -> sqlx::Result<u64> {
    // Placeholders come last. They take little room, and the eviction is often for the value of one
    // of them, which could not be stored without it.
    let claimed = fencing::abandoned();
    for (chosen, from) in [
        ("WHERE expires_at > ?3 ORDER BY expires_at", Some(claimed)),
        ("WHERE expires_at IS NULL ORDER BY rowid", None),
        ("WHERE expires_at <= ?3 ORDER BY expires_at DESC", Some(claimed)),
    ] {
        let rows = "SELECT rowid AS id, length(value) AS bytes FROM larder_cache";
        let sql = delete_some(&format!("{rows} {chosen}"));
        let mut delete = query(AssertSqlSafe(sql)).bind(bound(pages)).bind(bound(pages));
        if let Some(from) = from {
            delete = delete.bind(from);
        }
        let evicted = delete.execute(&mut *on).await?.rows_affected();
        if evicted > 0 {
            return Ok(evicted);
        }
    }
    Ok(0)
}
