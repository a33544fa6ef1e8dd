//! The log of changed keys in the file: a table, and the triggers that fill it.
//!
//! Triggers see every change, also those by an older larder and by other programs, and they write
//! the log in the transaction that makes the change. They use nothing that only larder has, and no
//! conflict can arise in the log, so they make no write fail.
//!
//! Logged is what puts a value under a key, and what takes a live one away. Placeholders of claims
//! (rows from before 1970) are not logged, and the removal of an expired row neither: no value that
//! is near outlives its row, unless the clock is set forward, which ends the source. `REPLACE`
//! removes the older row without a delete trigger; the insert that follows is logged.

use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection as _, Row as _, query, raw_sql};
use std::collections::HashMap;

/// The most bytes of a key that are logged. A key of this length in the log may be the beginning of
/// a longer one.
pub(in super::super) const LONGEST_KEY: usize = 256;

/// How many changes the log keeps at least, and how many more before it is trimmed.
const KEPT: u32 = 4_096;
const TRIMMED: u32 = 64;

const TABLE: &str = "CREATE TABLE larder_changes (seq INTEGER PRIMARY KEY, key BLOB)";

/// The present time, as the triggers compute it, in milliseconds since 1970.
const NOW: &str = "CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER)";

/// A trigger. A version of larder that changes one gives it another name: two versions would
/// otherwise replace each other's for ever.
struct Trigger {
    name: &'static str,
    sql: String,
}

impl Trigger {
    /// One that logs the key of the new or of the old row.
    fn logging(name: &'static str, when: &str, row: &str) -> Self {
        let sql = format!(
            "CREATE TRIGGER {name} AFTER {when} BEGIN INSERT INTO larder_changes (key) \
             VALUES (substr(CAST({row}.key AS BLOB), 1, {LONGEST_KEY})); END"
        );
        Self { name, sql }
    }
}

fn triggers() -> [Trigger; 5] {
    let is_value = "NEW.expires_at IS NULL OR NEW.expires_at >= 0";
    let was_live = format!("OLD.expires_at IS NULL OR OLD.expires_at > {NOW}");
    let on = "ON larder_cache WHEN";
    [
        Trigger::logging("larder_changes_insert", &format!("INSERT {on} {is_value}"), "NEW"),
        Trigger::logging(
            "larder_changes_update",
            &format!("UPDATE {on} {is_value} OR {was_live}"),
            "NEW",
        ),
        // The row leaves its former key. larder itself never does this.
        Trigger::logging(
            "larder_changes_rename",
            &format!("UPDATE OF key {on} OLD.key IS NOT NEW.key"),
            "OLD",
        ),
        Trigger::logging("larder_changes_delete", &format!("DELETE {on} {was_live}"), "OLD"),
        Trigger {
            name: "larder_changes_trim",
            sql: format!(
                "CREATE TRIGGER larder_changes_trim AFTER INSERT ON larder_changes \
                 WHEN NEW.seq % {TRIMMED} = 0 \
                 BEGIN DELETE FROM larder_changes WHERE seq <= NEW.seq - {KEPT}; END"
            ),
        },
    ]
}

/// What the schema has under the names of the log.
async fn present(on: &mut SqliteConnection) -> sqlx::Result<HashMap<String, String>> {
    let sql = "SELECT name, sql FROM sqlite_schema WHERE name GLOB 'larder_changes*'";
    let rows = query(sql).persistent(false).fetch_all(on).await?;
    rows.iter().map(|row| Ok((row.try_get_unchecked(0)?, row.try_get_unchecked(1)?))).collect()
}

/// Whether the log and all its triggers are in place, as this version makes them.
pub(in super::super) async fn is_in_place(on: &mut SqliteConnection) -> sqlx::Result<bool> {
    let there = present(on).await?;
    let has = |name: &str, sql: &str| there.get(name).is_some_and(|there| there == sql);
    Ok(has("larder_changes", TABLE) && triggers().iter().all(|made| has(made.name, &made.sql)))
}

/// Puts the log in place. Returns whether it is there now: a table of that name that is somebody
/// else's is left alone.
pub(in super::super) async fn put_in_place(on: &mut SqliteConnection) -> sqlx::Result<bool> {
    if is_in_place(on).await? {
        return Ok(true);
    }
    let mut step = on.begin_with("BEGIN IMMEDIATE").await?;
    let there = present(&mut step).await?;
    match there.get("larder_changes") {
        Some(table) if table != TABLE => return Ok(false),
        Some(_) => {}
        None => {
            raw_sql(TABLE).execute(&mut *step).await?;
        }
    }
    for Trigger { name, sql } in triggers() {
        if there.get(name) != Some(&sql) {
            let again = format!("DROP TRIGGER IF EXISTS {name}; {sql};");
            raw_sql(AssertSqlSafe(again)).execute(&mut *step).await?;
        }
    }
    // A reader of the log continues from a change that it knows, so there is always one.
    let first = "INSERT INTO larder_changes (key) SELECT x'' \
                 WHERE NOT EXISTS (SELECT 1 FROM larder_changes)";
    raw_sql(first).execute(&mut *step).await?;
    step.commit().await?;
    Ok(true)
}

/// Puts the log in place again where its table was dropped and its triggers were not, and drops the
/// triggers where they write to something else of that name: every write would fail.
pub(super) async fn heal(on: &mut SqliteConnection) -> sqlx::Result<()> {
    let there = present(on).await?;
    let own = triggers();
    let left: Vec<&str> =
        own.iter().map(|trigger| trigger.name).filter(|name| there.contains_key(*name)).collect();
    match there.get("larder_changes") {
        _ if left.is_empty() => {}
        None => {
            put_in_place(on).await?;
        }
        Some(table) if table != TABLE => {
            let drops = left.iter().map(|name| format!("DROP TRIGGER IF EXISTS {name};"));
            raw_sql(AssertSqlSafe(drops.collect::<String>())).execute(on).await?;
        }
        Some(_) => {}
    }
    Ok(())
}
