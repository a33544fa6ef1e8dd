//! The table, and the proof that a database is ours.

use crate::adapters::sqlite::errors::Failure;
use crate::adapters::sqlite::time;
use crate::error::{Error, ErrorKind};
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection as _, Row, query, raw_sql};

/// "LRDR": marks a file as a cache of larder's.
pub(in super::super) const APPLICATION_ID: i32 = 0x4C52_4452;

/// The version of the schema below.
const VERSION: i64 = 1;

/// How long the write-ahead log becomes before it is written back, which costs two waits for the disk: at most this, or a quarter of a
/// small file, or the least.
const LOG_BYTES: u64 = 16 << 20;
const LEAST_LOG_BYTES: u64 = 1 << 20;

/// Pages that only the making of room may use.
const RESERVE_PAGES: u64 = 32;

/// The rowid keeps the order of arrival, the index the order of expiry (`NULL` is never): what has to go first can be found. The value is
/// the last column, so that nobody who wants to know the others has to read past it. The other tables came later: an older larder has no
/// use for them and leaves them alone, so the version is the same.
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

/// Whose the database is.
enum Owner {
    Nobody,
    Larder,
}

/// Makes the database ours if it is nobody's, and sets the connection up for writing.
pub(in super::super) async fn prepare(
    on: &mut SqliteConnection,
    max_bytes: u64,
) -> Result<(), Failure> {
    if let Owner::Nobody = owner(on).await? {
        // Nothing is lost yet if the machine stops now, and the many small steps of making a file need not wait for the disk one by one.
        // The other two must be said before there is a table.
        raw_sql("PRAGMA synchronous = OFF; PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL;").execute(&mut *on).await?;
        let mut claim = on.begin_with("BEGIN IMMEDIATE").await?;
        if let Owner::Nobody = owner(&mut claim).await? {
            let claimed = format!(
                "{TABLE} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};"
            );
            raw_sql(AssertSqlSafe(claimed)).execute(&mut *claim).await?;
        }
        claim.commit().await?;
        // So that the file says whose it is, and not only the log beside it.
        raw_sql("PRAGMA wal_checkpoint(TRUNCATE);").execute(&mut *on).await?;
    }
    set_up_writer(on, max_bytes).await?;
    // Somebody may have dropped it. What is there is not written to.
    raw_sql(TABLE).execute(&mut *on).await?;
    Ok(())
}

/// How far ahead of the clock the noted time is: so often it has to be noted.
const CLOCK_LEAD: i64 = 1_000;

/// A clock that stands further behind the noted time than this was set back.
const CLOCK_TOLERANCE: i64 = CLOCK_LEAD + 500;

async fn noted_time(on: &mut SqliteConnection) -> sqlx::Result<i64> {
    let noted = query("SELECT latest FROM larder_clock").fetch_optional(on).await?;
    noted.map_or(Ok(0), |row| row.try_get_unchecked(0))
}

/// Whether the clock was set back since somebody has noted the time. Nothing is written.
pub(in super::super) async fn clock_was_set_back(on: &mut SqliteConnection) -> sqlx::Result<bool> {
    Ok(noted_time(on).await? > time::now() + CLOCK_TOLERANCE)
}

/// Notes the time, before anything is stored that is reckoned from it. Where a later time was noted,
/// the clock has been set back, and all that expires does so earlier by as much: nothing lives longer
/// than it was told to. Answers until when nothing needs to be noted.
pub(in super::super) async fn note_time(on: &mut SqliteConnection) -> sqlx::Result<i64> {
    let mut step = on.begin_with("BEGIN IMMEDIATE").await?;
    let now = time::now();
    let noted = noted_time(&mut step).await?;
    let mut latest = noted.max(now + CLOCK_LEAD);
    if noted > now + CLOCK_TOLERANCE {
        // Places of claims count backwards from 1970 and are left alone: they end by a write.
        let by = noted - now;
        for sql in [
            "UPDATE larder_cache SET expires_at = max(expires_at - ?1, 1) WHERE expires_at > 0",
            "UPDATE larder_leases SET until = until - ?1",
        ] {
            query(sql).bind(by).execute(&mut *step).await?;
        }
        latest = now + CLOCK_LEAD;
    }
    if latest != noted {
        let sql = "INSERT INTO larder_clock (id, latest) VALUES (1, ?1) \
                   ON CONFLICT (id) DO UPDATE SET latest = excluded.latest";
        query(sql).bind(latest).execute(&mut *step).await?;
    }
    step.commit().await?;
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

/// The settings of a connection that reads.
pub(in super::super) async fn set_up_reader(on: &mut SqliteConnection) -> Result<(), Failure> {
    raw_sql("PRAGMA query_only = ON; PRAGMA temp_store = MEMORY;").execute(&mut *on).await?;
    Ok(())
}

/// Lets the file grow to the bound and no further; the reserve is for deleting in a full file.
async fn limit(on: &mut SqliteConnection, max_bytes: u64, reserve: u64) -> sqlx::Result<()> {
    let page_bytes = page_bytes(on).await?;
    let pages = (max_bytes / page_bytes).saturating_sub(reserve).clamp(1, u64::from(u32::MAX - 1));
    raw_sql(AssertSqlSafe(format!("PRAGMA max_page_count = {pages};"))).execute(on).await?;
    Ok(())
}

/// Runs with the reserve lifted while rows are deleted, and put back afterwards.
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

/// One number out of the database.
pub(in super::super) async fn number(
    on: &mut SqliteConnection,
    sql: &'static str,
) -> sqlx::Result<u64> {
    let row = query(sql).fetch_one(on).await?;
    Ok(u64::try_from(row.try_get_unchecked::<i64, _>(0)?).unwrap_or(0))
}

/// Whose the database is; an error where it is not for us to use. Nothing is changed.
async fn owner(on: &mut SqliteConnection) -> Result<Owner, Failure> {
    let sql = "SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version), \
               (SELECT count(*) FROM sqlite_schema)";
    let row = query(sql).persistent(false).fetch_one(on).await?;
    let [id, version, things] = [0, 1, 2].map(|at| row.try_get_unchecked::<i64, _>(at));
    match (id?, version?, things?) {
        (0, 0, 0) => Ok(Owner::Nobody),
        (id, version, _) if id == i64::from(APPLICATION_ID) && version <= VERSION => {
            Ok(Owner::Larder)
        }
        (id, ..) if id == i64::from(APPLICATION_ID) => Err(newer().into()),
        _ => Err(foreign().into()),
    }
}

fn newer() -> Error {
    Error::new(ErrorKind::Config)
        .with_message("the file was written by a newer larder; it is left as it is")
}

pub(in super::super) fn foreign() -> Error {
    Error::new(ErrorKind::Config)
        .with_message("the file is a database, and not a cache of larder's; it is left as it is")
}

/// Writes the log back and cuts it to nothing; readers that are in the way are waited for as long as
/// a lock would be. Whether it could be cut.
pub(in super::super) async fn write_log_back(on: &mut SqliteConnection) -> Result<bool, Failure> {
    let row = query("PRAGMA wal_checkpoint(TRUNCATE)").persistent(false).fetch_one(on).await?;
    Ok(row.try_get_unchecked::<i64, _>(0)? == 0)
}
