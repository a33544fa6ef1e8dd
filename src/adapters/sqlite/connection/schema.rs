//! The tables, and the check that a database is a larder cache.

use crate::adapters::sqlite::errors::Failure;
use crate::adapters::sqlite::time;
use crate::adapters::sqlite::transaction;
use crate::error::{Error, ErrorKind};
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection as _, Row, query, raw_sql};

/// "LRDR": marks a file as a larder cache.
pub(in super::super) const APPLICATION_ID: i32 = 0x4C52_4452;

/// The version of the schema below.
const VERSION: i64 = 1;

/// The length at which the write-ahead log is written back, which waits for the disk twice: a
/// quarter of the file's bound, within these limits.
const LOG_BYTES: u64 = 16 << 20;
const LEAST_LOG_BYTES: u64 = 1 << 20;

/// Pages that only eviction may use, as deleting rows needs some.
const RESERVE_PAGES: u64 = 32;

/// The rowid keeps the order of insertion, the index the order of expiry (`NULL` is never), so
/// eviction finds its rows by them. The value is the last column, so that reading the other columns
/// does not read past it. The other two tables were added later; an older larder ignores them, so
/// the version is unchanged.
const TABLE: &str = "\
CREATE TABLE IF NOT EXISTS larder_cache (
    key TEXT NOT NULL UNIQUE,
    expires_at INTEGER,
    value BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS larder_cache_expires_at ON larder_cache (expires_at);
CREATE TABLE IF NOT EXISTS larder_leases (
    key TEXT PRIMARY KEY,
    holder BLOB NOT NULL,
    until INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS larder_clock (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    latest INTEGER NOT NULL
);";

/// The owner of a database.
enum Owner {
    None,
    Larder,
}

/// Creates the tables in an empty database, and sets the connection up for writing.
pub(in super::super) async fn prepare(
    on: &mut SqliteConnection,
    max_bytes: u64,
) -> Result<(), Failure> {
    if let Owner::None = owner(on).await? {
        // Without syncs, because an empty cache has no data to lose, and creating the file takes
        // many small steps. The other two settings must come before the first table.
        let settings = "PRAGMA synchronous = OFF; PRAGMA auto_vacuum = INCREMENTAL; \
                        PRAGMA journal_mode = WAL;";
        raw_sql(settings).execute(&mut *on).await?;
        let mut claim = on.begin_with("BEGIN IMMEDIATE").await?;
        if let Owner::None = owner(&mut claim).await? {
            let claimed = format!(
                "{TABLE} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};"
            );
            raw_sql(AssertSqlSafe(claimed)).execute(&mut *claim).await?;
        }
        claim.commit().await?;
        // Write the log back, so that the file itself carries larder's mark.
        raw_sql("PRAGMA wal_checkpoint(TRUNCATE);").execute(&mut *on).await?;
    }
    set_up_writer(on, max_bytes).await?;
    // Another program may have dropped a table. Existing tables are not changed.
    raw_sql(TABLE).execute(&mut *on).await?;
    Ok(())
}

/// How far ahead of the clock the noted time is, in milliseconds, and so how often it is noted.
const CLOCK_LEAD: i64 = 1_000;

/// A clock further than this behind the noted time was set back.
const CLOCK_TOLERANCE: i64 = CLOCK_LEAD + 500;

async fn noted_time(on: &mut SqliteConnection) -> sqlx::Result<i64> {
    let noted = query("SELECT latest FROM larder_clock").fetch_optional(on).await?;
    noted.map_or(Ok(0), |row| row.try_get_unchecked(0))
}

/// Whether the clock was set back since the time was last noted. Nothing is written.
pub(in super::super) async fn clock_was_set_back(on: &mut SqliteConnection) -> sqlx::Result<bool> {
    Ok(noted_time(on).await? > time::now() + CLOCK_TOLERANCE)
}

/// Notes the time, before a write whose expiry is computed from it. If a later time was noted
/// before, the clock was set back: all expiry times move back by the same amount, so that no entry
/// lives longer than requested. Returns the time until which no further note is needed.
pub(in super::super) async fn note_time(on: &mut SqliteConnection) -> sqlx::Result<i64> {
    transaction::begin(on).await?;
    let noted = note_time_in(on).await;
    transaction::end(on, noted).await
}

async fn note_time_in(on: &mut SqliteConnection) -> sqlx::Result<i64> {
    let now = time::now();
    let noted = noted_time(&mut *on).await?;
    let mut latest = noted.max(now + CLOCK_LEAD);
    if noted > now + CLOCK_TOLERANCE {
        // Placeholders of claims have negative expiry times, which do not follow the clock.
        let by = noted - now;
        for sql in [
            "UPDATE larder_cache SET expires_at = max(expires_at - ?1, 1) WHERE expires_at > 0",
            "UPDATE larder_leases SET until = until - ?1",
        ] {
            query(sql).bind(by).execute(&mut *on).await?;
        }
        latest = now + CLOCK_LEAD;
    }
    if latest != noted {
        let sql = "INSERT INTO larder_clock (id, latest) VALUES (1, ?1) \
                   ON CONFLICT (id) DO UPDATE SET latest = excluded.latest";
        query(sql).bind(latest).execute(on).await?;
    }
    Ok(latest)
}

/// The settings of a connection that writes.
pub(in super::super) async fn set_up_writer(
    on: &mut SqliteConnection,
    max_bytes: u64,
) -> Result<(), Failure> {
    let (log_bytes, page_bytes) = (log_bytes(max_bytes), page_bytes(on).await?);
    let settings = format!(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA temp_store = MEMORY; \
         PRAGMA wal_autocheckpoint = {}; PRAGMA journal_size_limit = {log_bytes};",
        log_bytes / page_bytes
    );
    raw_sql(AssertSqlSafe(settings)).execute(&mut *on).await?;
    Ok(limit(on, max_bytes, RESERVE_PAGES).await?)
}

/// The settings of a connection that reads, and its first read.
pub(in super::super) async fn set_up_reader(on: &mut SqliteConnection) -> Result<(), Failure> {
    // A connection takes its lock on the file with its first read. The opener may close the
    // connection that began the epoch right after this, and SQLite removes the log of a file on
    // which it sees no lock: this reader, and the next writer, would find their log gone.
    let settings = "PRAGMA query_only = ON; PRAGMA temp_store = MEMORY; PRAGMA schema_version;";
    raw_sql(settings).execute(&mut *on).await?;
    Ok(())
}

/// Lets the file grow to the bound and no further. The reserve is kept for deleting rows in a full
/// file.
async fn limit(on: &mut SqliteConnection, max_bytes: u64, reserve: u64) -> sqlx::Result<()> {
    let page_bytes = page_bytes(on).await?;
    let pages = (max_bytes / page_bytes).saturating_sub(reserve).clamp(1, u64::from(u32::MAX - 1));
    raw_sql(AssertSqlSafe(format!("PRAGMA max_page_count = {pages};"))).execute(on).await?;
    Ok(())
}

/// Lets the file grow into the reserve while rows are deleted.
pub(in super::super) async fn lift_reserve(
    on: &mut SqliteConnection,
    max_bytes: u64,
) -> sqlx::Result<()> {
    limit(on, max_bytes, 0).await
}

pub(in super::super) async fn restore_reserve(
    on: &mut SqliteConnection,
    max_bytes: u64,
) -> sqlx::Result<()> {
    limit(on, max_bytes, RESERVE_PAGES).await
}

pub(in super::super) fn log_bytes(max_bytes: u64) -> u64 {
    (max_bytes / 4).clamp(LEAST_LOG_BYTES, LOG_BYTES)
}

pub(in super::super) async fn page_bytes(on: &mut SqliteConnection) -> sqlx::Result<u64> {
    Ok(number(on, "SELECT page_size FROM pragma_page_size").await?.max(512))
}

/// Reads one number.
pub(in super::super) async fn number(
    on: &mut SqliteConnection,
    sql: &'static str,
) -> sqlx::Result<u64> {
    let row = query(sql).fetch_one(on).await?;
    Ok(u64::try_from(row.try_get_unchecked::<i64, _>(0)?).unwrap_or(0))
}

/// Returns the owner of the database, or an error if it is not larder's to use. Nothing is changed.
async fn owner(on: &mut SqliteConnection) -> Result<Owner, Failure> {
    let sql = "SELECT (SELECT application_id FROM pragma_application_id), \
               (SELECT user_version FROM pragma_user_version), \
               (SELECT count(*) FROM sqlite_schema)";
    let row = query(sql).persistent(false).fetch_one(on).await?;
    let [id, version, things] = [0, 1, 2].map(|at| row.try_get_unchecked::<i64, _>(at));
    match (id?, version?, things?) {
        (0, 0, 0) => Ok(Owner::None),
        (id, version, _) if id == i64::from(APPLICATION_ID) && version <= VERSION => {
            Ok(Owner::Larder)
        }
        (id, ..) if id == i64::from(APPLICATION_ID) => Err(newer().into()),
        _ => Err(foreign().into()),
    }
}

fn newer() -> Error {
    Error::new(ErrorKind::Config).with_message("a newer larder wrote the file; it is not changed")
}

pub(in super::super) fn foreign() -> Error {
    Error::new(ErrorKind::Config)
        .with_message("the file is a database, but not a larder cache; it is not changed")
}

/// Writes the log back and truncates it. Waits for readers that prevent this for as long as for a
/// lock, and returns whether the log was truncated.
pub(in super::super) async fn write_log_back(on: &mut SqliteConnection) -> Result<bool, Failure> {
    let row = query("PRAGMA wal_checkpoint(TRUNCATE)").persistent(false).fetch_one(on).await?;
    Ok(row.try_get_unchecked::<i64, _>(0)? == 0)
}
