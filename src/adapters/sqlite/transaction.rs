//! Transactions that write.
//!
//! Not the driver's: where SQLite finds no room for a change, it rolls back the whole transaction by
//! itself. The driver's own rollback then fails, the driver counts the transaction as open for ever,
//! and it refuses to begin the next one.

use sqlx::raw_sql;
use sqlx::sqlite::SqliteConnection;

/// Begins a transaction. It takes the lock of writers at once: SQLite refuses a transaction that
/// reads first and writes later if another connection has written in between.
pub(super) async fn begin(on: &mut SqliteConnection) -> sqlx::Result<()> {
    raw_sql("BEGIN IMMEDIATE").execute(on).await.map(drop)
}

/// Commits what was done, or takes it back if it failed.
pub(super) async fn end<T>(on: &mut SqliteConnection, done: sqlx::Result<T>) -> sqlx::Result<T> {
    let committed = match done {
        Ok(done) => raw_sql("COMMIT").execute(&mut *on).await.map(|_| done),
        Err(error) => Err(error),
    };
    if committed.is_err() {
        // Fails where SQLite has rolled back before; the first error counts.
        let _ = raw_sql("ROLLBACK").execute(on).await;
    }
    committed
}
