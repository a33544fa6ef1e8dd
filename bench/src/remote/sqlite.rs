//! sqlite, beside sqlx with a pool of four, in the mode that larder uses: WAL,
//! `synchronous=NORMAL`.

use super::folder::Folder;
use super::{
    MANY_TASKS, PATIENCE, ROUNDS, RUNTIME, TASKS, TTL, batch, batch_curves, batch_ids,
    for_each_key, key, rate, value,
};
use crate::figure::Unit;
use crate::goal::Goal;
use crate::line::{Contestant, Line};
use crate::run::Run;
use larder::{async_adapter_set, async_cached};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{SqliteExecutor, SqlitePool};
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, SystemTime};

const RAW: &str = "sqlx, pool of 4";
const LINES: [(&str, &str, usize, bool, f64); 6] = [
    ("sqlite/get-1", "sqlite GET 100 B, 1 task", 1, false, 2.0),
    ("sqlite/get-16", "sqlite GET 100 B, 16 tasks", 16, false, 3.0),
    ("sqlite/get-256", "sqlite GET 100 B, 256 tasks", 256, false, 9.0),
    ("sqlite/set-1", "sqlite SET 100 B, 1 task", 1, true, 1.2),
    ("sqlite/set-16", "sqlite SET 100 B, 16 tasks", 16, true, 2.5),
    ("sqlite/set-256", "sqlite SET 100 B, 256 tasks", 256, true, 7.0),
];
const PUT: &str = "INSERT INTO raw (key, value, expires_at) VALUES (?, ?, ?) \
                   ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at";
const GET: &str = "SELECT value FROM raw WHERE key = ? AND expires_at > ?";
const GET_MANY: &str =
    "SELECT key, value FROM raw WHERE key IN (SELECT value FROM json_each(?)) AND expires_at > ?";

pub(super) fn run(run: &mut Run) {
    if !batch_ids("sqlite")
        .iter()
        .map(String::as_str)
        .chain(["sqlite/get-tasks"])
        .chain(LINES.iter().map(|line| line.0))
        .any(|id| run.wants(id))
    {
        return;
    }
    let folder = Folder::new("sqlite");
    async_adapter_set(&*format!("sqlite://{}?{PATIENCE}", folder.path().join("ours.db").display()))
        .expect("a URL");
    let raw = RUNTIME.block_on(open(&folder.path().join("theirs.db"))).expect("a database");
    for_each_key(|number| async move {
        async_cached().ttl(TTL * 60).set(key(number), value()).await.expect("set")
    });
    let filled = raw.clone();
    for_each_key(move |number| {
        let raw = filled.clone();
        async move { put(&raw, number).await }
    });
    for (id, title, tasks, writes, goal) in LINES {
        let goal = Goal::at_least_times(goal, RAW);
        run.line(Line::new(id, title, Unit::PerSecond).goal(goal).rounds(ROUNDS), || {
            by_tasks(&raw, tasks, writes)
        });
    }
    let line = Line::new("sqlite/get-tasks", "sqlite GET 100 B, as tasks grow", Unit::PerSecond)
        .note(MANY_TASKS);
    run.curve(line, "tasks", &TASKS, |tasks| by_tasks(&raw, tasks as usize, false));
    batch_curves(
        run,
        "sqlite",
        [&|keys| select_many(&raw, keys), &|entries| one_transaction(&raw, entries)],
    );
    RUNTIME.block_on(raw.close());
    RUNTIME.block_on(async_cached().close()).expect("larder's connections close");
}

async fn open(path: &Path) -> sqlx::Result<SqlitePool> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(Duration::from_secs(60));
    let pool = SqlitePoolOptions::new()
        .max_connections(4)
        .acquire_timeout(Duration::from_secs(600))
        .connect_with(options)
        .await?;
    sqlx::query("CREATE TABLE raw (key TEXT PRIMARY KEY, value BLOB NOT NULL, expires_at INTEGER) WITHOUT ROWID").execute(&pool).await?;
    Ok(pool)
}

/// With an expiry from now: a row that is overwritten with itself is not written at all.
async fn put(to: impl SqliteExecutor<'_>, number: usize) {
    let expires_at = now() + (TTL * 60).as_millis() as i64;
    sqlx::query(PUT)
        .bind(key(number))
        .bind(value().into_bytes())
        .bind(expires_at)
        .execute(to)
        .await
        .expect("put");
}

fn now() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis() as i64
}

fn by_tasks(raw: &SqlitePool, tasks: usize, writes: bool) -> Vec<Contestant<'static>> {
    let raw = raw.clone();
    let ours = move || {
        if writes {
            return rate(tasks, |number| async move {
                async_cached().ttl(TTL * 60).set(key(number), value()).await.expect("set")
            });
        }
        rate(tasks, |number| async move {
            let found: Option<String> = async_cached().get(key(number)).await.expect("get");
            black_box(found.expect("it is there"));
        })
    };
    let theirs = move || {
        let raw = raw.clone();
        rate(tasks, move |number| {
            let raw = raw.clone();
            async move {
                if writes {
                    return put(&raw, number).await;
                }
                let (found,): (Vec<u8>,) = sqlx::query_as(GET)
                    .bind(key(number))
                    .bind(now())
                    .fetch_one(&raw)
                    .await
                    .expect("get");
                black_box(found);
            }
        })
    };
    vec![Contestant::round("larder, async_cached()", ours), Contestant::round(RAW, theirs)]
}

fn select_many(raw: &SqlitePool, count: usize) -> Contestant<'static> {
    let keys: Vec<String> = (0..count).map(|number| format!("\"{}\"", key(number))).collect();
    let (keys, raw) = (format!("[{}]", keys.join(",")), raw.clone());
    batch("sqlx, one statement", count, async move || {
        let found: Vec<(String, Vec<u8>)> =
            sqlx::query_as(GET_MANY).bind(&keys).bind(now()).fetch_all(&raw).await.expect("get");
        black_box(found).len()
    })
}

/// A statement for each entry, which the driver prepares once.
fn one_transaction(raw: &SqlitePool, count: usize) -> Contestant<'static> {
    let raw = raw.clone();
    batch("sqlx, one transaction", count, async move || {
        let mut transaction = raw.begin().await.expect("a transaction");
        for number in 0..count {
            put(&mut *transaction, number).await;
        }
        transaction.commit().await.expect("committed");
        count
    })
}
