//! Changes by other processes: another larder, and programs that know nothing of larder.

use super::level::{Level, Told};
use super::{Stream, eventually, folder, followed, is_told, near, on, set, vouched};
use crate::adapter::AsyncCacheAdapter;
use crate::adapters::sqlite::AsyncSqliteCache;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

/// Runs statements in a process of its own, with the `sqlite3` of Python's standard library.
pub(super) fn python(path: &Path, sql: &str) -> String {
    let script = "import sqlite3, sys\n\
                  on = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)\n\
                  for sql in sys.argv[2].split(';;'):\n    \
                      rows = on.execute(sql).fetchall()\n\
                  print(*[value for row in rows for value in row])";
    let done = Command::new("python3").args(["-c", script]).arg(path).arg(sql).output().unwrap();
    assert!(done.status.success(), "{sql}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

/// How many changes are in the log; `None` if there is no log.
pub(super) fn log_length(path: &Path) -> Option<u64> {
    let has = "SELECT count(*) FROM sqlite_master WHERE name = 'larder_changes'";
    (python(path, has) != "0")
        .then(|| python(path, "SELECT count(*) FROM larder_changes").parse().unwrap())
}

/// This test binary again, as another process that does `role`.
fn another_process(role: &str, path: &Path) -> Command {
    let mut process = Command::new(std::env::current_exe().unwrap());
    let entry = "adapters::sqlite::following::tests::others::entry";
    process.args(["--exact", entry, "--nocapture"]);
    process.env("LARDER_CHILD", role).env("LARDER_CHILD_PATH", path);
    process
}

/// Without a role, no test.
#[test]
fn entry() {
    let Some(role) = std::env::var_os("LARDER_CHILD") else { return };
    let path = std::env::var_os("LARDER_CHILD_PATH").unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let cache = on(Path::new(&path)).build().unwrap();
        match role.to_str().unwrap() {
            "set" => set(&cache, "k", "of the other process").await,
            "not followed" => {
                let level = Level::alone();
                let opened = Stream::open(cache.engine.clone(), &level.follower()).await;
                assert!(opened.is_err());
                assert_eq!(level.open(), 0);
                assert!(near(&cache, "k").await.source.is_none());
            }
            other => panic!("no such role: {other}"),
        }
        cache.close().await.unwrap();
    });
}

fn succeeds(command: &mut Command) {
    assert!(command.stdin(Stdio::null()).status().unwrap().success());
}

/// A followed cache, with a value under `k`.
async fn with_value(path: &Path) -> (AsyncSqliteCache, Arc<Level>) {
    let cache = on(path).build().unwrap();
    let level = followed(&cache).await;
    set(&cache, "k", "v").await;
    level.until_proven().await;
    (cache, level)
}

#[tokio::test]
async fn a_write_of_another_process_is_told() {
    let (_folder, path) = folder();
    let (cache, level) = with_value(&path).await;
    succeeds(&mut another_process("set", &path));
    is_told(&level, "k", "by another process").await;
    let found = near(&cache, "k").await;
    assert_eq!(found.value.decode::<String>().unwrap(), "of the other process");
    assert!(found.source.is_some(), "the same source vouches for the new value");
}

#[tokio::test]
async fn whatever_another_program_does_to_a_row_is_told() {
    let (_folder, path) = folder();
    let (cache, level) = with_value(&path).await;
    for sql in [
        "INSERT OR REPLACE INTO larder_cache (key, value) VALUES ('k', '1')",
        "REPLACE INTO larder_cache VALUES ('k', 0, '1')",
        "INSERT INTO larder_cache (key, value) VALUES ('k', '2') \
         ON CONFLICT (key) DO UPDATE SET value = '3'",
        "UPDATE larder_cache SET value = '4'",
        "UPDATE larder_cache SET expires_at = 0 WHERE key = 'k'",
        "UPDATE larder_cache SET expires_at = -5 WHERE key = 'k'",
        "UPDATE larder_cache SET key = hex(randomblob(8)) WHERE key = 'k'",
        "UPDATE OR REPLACE larder_cache SET key = 'k' WHERE key = 'first'",
        "DELETE FROM larder_cache WHERE key = 'k'",
        "DELETE FROM larder_cache",
    ] {
        for pragma in ["PRAGMA recursive_triggers = OFF", "PRAGMA recursive_triggers = ON"] {
            set(&cache, "first", "v").await;
            set(&cache, "k", "v").await;
            level.until_proven().await;
            python(&path, &format!("{pragma};;{sql}"));
            is_told(&level, "k", sql).await;
        }
    }
}

#[tokio::test]
async fn what_makes_a_log_incomplete_ends_the_source() {
    let dropped = "SELECT sql FROM sqlite_master WHERE name = 'larder_changes_update'";
    for sql in [
        // Back in place before anybody looks.
        "DROP TRIGGER larder_changes_update;;UPDATE larder_cache SET value = '1';;AGAIN",
        "DROP TRIGGER larder_changes_insert;;REPLACE INTO larder_cache (key, value) VALUES ('k', '1')",
        "DELETE FROM larder_changes;;UPDATE larder_cache SET value = '1' WHERE key = 'k'",
        "DELETE FROM larder_changes",
        "DELETE FROM larder_changes WHERE seq = (SELECT max(seq) - 1 FROM larder_changes)",
        "DROP TABLE larder_changes",
        "VACUUM",
    ] {
        let (_folder, path) = folder();
        let (cache, level) = with_value(&path).await;
        // The place that the level knows is not the last one.
        set(&cache, "k", "w").await;
        set(&cache, "k", "x").await;
        python(&path, &sql.replace("AGAIN", &python(&path, dropped)));
        assert!(level.until_proven().await.contains(&Told::Ended), "{sql}");
        vouched(&cache).await;
        python(&path, "UPDATE larder_cache SET value = '2'");
        is_told(&level, "first", sql).await;
    }
}

#[tokio::test]
async fn a_log_whose_table_was_dropped_makes_no_write_fail() {
    let (_folder, path) = folder();
    let (cache, _level) = with_value(&path).await;
    python(&path, "DROP TABLE larder_changes");
    set(&cache, "k", "v").await;
    // Other programs, which cannot put it in place, find it there.
    python(&path, "DROP TABLE larder_changes");
    let plain = on(&path).build().unwrap();
    set(&plain, "k", "v").await;
    python(&path, "UPDATE larder_cache SET value = '2'");
}

#[tokio::test]
async fn another_file_in_the_place_of_the_file_ends_the_source() {
    for replace in [true, false] {
        let ((_folder, path), (_other_folder, other)) = (folder(), folder());
        let (cache, level) = with_value(&path).await;
        if replace {
            // With a log of its own, which goes on where this one is.
            let (next, _) = with_value(&other).await;
            set(&next, "k", "other").await;
            next.close().await.unwrap();
            std::fs::rename(&other, &path).unwrap();
        } else {
            std::fs::remove_file(&path).unwrap();
        }
        assert!(level.until_proven().await.contains(&Told::Ended));
        eventually("the file that is there now is followed", async || {
            // A write within a tenth of a second may still go to the file that is gone.
            cache.set("first", crate::value::CacheValue::new(1), Default::default()).await.is_ok()
                && cache
                    .get_near("first")
                    .await
                    .is_ok_and(|found| found.is_some_and(|found| found.source.is_some()))
        })
        .await;
        python(&path, "UPDATE larder_cache SET value = '2'");
        is_told(&level, "first", "in the file that is there now").await;
    }
}

#[tokio::test]
async fn a_table_of_that_name_that_is_somebody_elses_is_left_alone() {
    let (_folder, path) = folder();
    let cache = on(&path).build().unwrap();
    set(&cache, "k", "v").await;
    python(&path, "CREATE TABLE larder_changes (mine)");
    let level = Level::alone();
    assert!(Stream::open(cache.engine.clone(), &level.follower()).await.is_err());
    assert_eq!((level.open(), log_length(&path)), (0, Some(0)));
    set(&cache, "k", "v").await;
    python(&path, "UPDATE larder_cache SET value = '2'");
}

/// Holds the lock on writes until it is killed.
struct Lock(Child);

impl Lock {
    fn take(path: &Path) -> Self {
        let script = "import sqlite3, sys, time\n\
                      on = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)\n\
                      on.execute('BEGIN IMMEDIATE')\n\
                      print('locked', flush=True)\n\
                      time.sleep(600)";
        let mut python = Command::new("python3");
        python.args(["-c", script]).arg(path).stdout(Stdio::piped());
        let mut lock = Self(python.spawn().unwrap());
        let mut line = String::new();
        let out = lock.0.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
        assert_eq!(line.trim(), "locked");
        lock
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_log_that_cannot_be_made_now_is_made_later() {
    let (_folder, path) = folder();
    let cache = on(&path).op_timeout(std::time::Duration::from_millis(200)).build().unwrap();
    eventually("it is written", async || {
        let value = crate::value::CacheValue::new("v".to_owned());
        cache.set("k", value, crate::expiry::Expiry::Never).await.is_ok()
    })
    .await;
    let held = Lock::take(&path);
    let level = Level::in_front_of(&cache);
    let found = near(&cache, "k").await;
    assert_eq!(found.value.decode::<String>().unwrap(), "v", "values are near by age");
    assert!(found.source.is_none());
    drop(held);
    eventually("a source vouches", async || near(&cache, "k").await.source.is_some()).await;
    assert_eq!(level.open(), 1);
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_may_only_be_read_is_not_followed() {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    let (folder, path) = folder();
    let cache = on(&path).build().unwrap();
    set(&cache, "k", "v").await;
    cache.close().await.unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o444)).unwrap();
    // SQLite makes its log here.
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    let mut child = another_process("not followed", &path);
    if fs::read_to_string("/proc/self/status").is_ok_and(|status| status.contains("Uid:\t0\t")) {
        // For root, no file is read-only.
        let binary = folder.path().join("test");
        fs::copy(std::env::current_exe().unwrap(), &binary).unwrap();
        fs::set_permissions(&binary, Permissions::from_mode(0o755)).unwrap();
        let (args, envs): (Vec<_>, Vec<_>) = (
            child.get_args().map(ToOwned::to_owned).collect(),
            child
                .get_envs()
                .map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned)))
                .collect(),
        );
        child = Command::new(&binary);
        child.args(args).uid(65_534).gid(65_534).current_dir("/");
        for (name, value) in envs {
            child.env(name, value.unwrap_or_default());
        }
        // Another test may have forked while the copy was open for writing.
        eventually("the copy can be executed", async || {
            Command::new(&binary).arg("--list").stdout(Stdio::null()).status().is_ok()
        })
        .await;
    }
    succeeds(&mut child);
}
