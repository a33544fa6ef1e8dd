//! Damage to a file while a cache uses it.

use super::child::text_of;
use super::together::hold_lock;
use super::{Guarded, another_process, fresh_path, get, on, python_says, set, soak};
use crate::support::noise::noise;
use larder::{AsyncCacheAdapter, AsyncSqliteCache, ErrorKind};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Writes until a write succeeds, and prints how long that took. Every failure is a typed error.
async fn until_well(cache: &AsyncSqliteCache, path: &Path, what: &str) {
    let began = Instant::now();
    let (mut failed, mut looking) = (0, Duration::ZERO);
    let mut well_since = None;
    loop {
        let written = set(cache, "after", "new").await;
        let read = get(cache, "after").await;
        let looked = Instant::now();
        let is_well =
            matches!((&written, &read), (Ok(()), Ok(Some(text))) if text == "new") && on_disk(path);
        looking += looked.elapsed();
        for error in [written.err(), read.err()].into_iter().flatten() {
            assert!(
                matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout),
                "{what}: {error}"
            );
            failed += 1;
        }
        match well_since {
            _ if !is_well => well_since = None,
            None => well_since = Some(Instant::now()),
            // No later write fails.
            Some(since) if since.elapsed() > Duration::from_millis(400) => {
                println!("sqlite: {what}: well after {:?}, {failed} calls failed", since - began);
                assert!(since - began < Duration::from_secs(1) + noise() + looking, "{what}");
                break;
            }
            Some(_) => {}
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{what}: never well");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    cache.close().await.unwrap();
    assert_eq!(integrity(path), "ok", "{what}");
}

fn on_disk(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.len() > 512)
}

fn integrity(path: &Path) -> String {
    python_says(
        "import sqlite3,sys; print(sqlite3.connect(sys.argv[1]).execute('PRAGMA \
         integrity_check').fetchone()[0])",
        &[path.to_str().unwrap()],
    )
}

/// A cache in use, with readers and a writer open and a few hundred kilobytes in the file.
async fn in_use(path: &Path) -> AsyncSqliteCache {
    let cache = on(path).build().unwrap();
    for n in 0..60 {
        set(&cache, &format!("k{n}"), &"x".repeat(5_000)).await.unwrap();
    }
    assert!(get(&cache, "k1").await.unwrap().is_some());
    cache
}

#[tokio::test]
async fn closing_writes_the_log_back_into_the_file() {
    let path = fresh_path();
    for round in 0..30 {
        let cache = in_use(&path).await;
        cache.close().await.unwrap();
        for suffix in ["-wal", "-shm"] {
            let beside = format!("{}{suffix}", path.display());
            assert!(!Path::new(&beside).exists(), "round {round}: {suffix} stays");
        }
    }
}

#[tokio::test]
async fn a_file_that_is_deleted_is_made_anew() {
    let path = fresh_path();
    let cache = in_use(&path).await;
    fs::remove_file(&path).unwrap();
    until_well(&cache, &path, "deleted").await;
    let cache = in_use(&path).await;
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{suffix}", path.display()));
    }
    until_well(&cache, &path, "deleted with its log").await;
    let cache = in_use(&path).await;
    let elsewhere = path.with_extension("elsewhere");
    fs::rename(&path, &elsewhere).unwrap();
    until_well(&cache, &path, "moved away").await;
}

#[tokio::test]
async fn a_folder_that_is_deleted_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b/cache.db");
    let cache = in_use(&path).await;
    fs::remove_dir_all(folder.path().join("a")).unwrap();
    until_well(&cache, &path, "folder deleted").await;
}

#[tokio::test]
async fn a_file_that_is_cut_off_is_made_anew() {
    for (what, length) in [
        ("cut off to nothing", 0),
        ("cut off at half a page", 2_000),
        ("cut off at three pages", 3 * 4_096),
    ] {
        let path = fresh_path();
        let cache = in_use(&path).await;
        // The damage is in the file, not in the log.
        cache.close().await.unwrap();
        assert!(get(&cache, "k1").await.unwrap().is_some());
        File::options().write(true).open(&path).unwrap().set_len(length).unwrap();
        until_well(&cache, &path, what).await;
    }
}

#[tokio::test]
async fn a_file_that_becomes_garbage_is_moved_aside() {
    let path = fresh_path();
    let cache = in_use(&path).await;
    cache.close().await.unwrap();
    assert!(get(&cache, "k1").await.unwrap().is_some());
    let mut file = File::options().write(true).open(&path).unwrap();
    let length = file.metadata().unwrap().len();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.write_all(&vec![0xA5; usize::try_from(length).unwrap()]).unwrap();
    until_well(&cache, &path, "overwritten with garbage").await;

    let aside = fs::read(format!("{}.corrupt", path.display())).unwrap();
    assert_eq!(aside, vec![0xA5; aside.len()]);

    // The adapter knows its file also while it is closed.
    let path = fresh_path();
    let cache = in_use(&path).await;
    cache.close().await.unwrap();
    fs::write(&path, "this is no database any more").unwrap();
    until_well(&cache, &path, "overwritten while closed").await;

    // A cache that was damaged while it was closed still carries larder's mark.
    let path = fresh_path();
    in_use(&path).await.close().await.unwrap();
    let mut file = File::options().write(true).open(&path).unwrap();
    file.seek(SeekFrom::Start(4_096)).unwrap();
    let length = file.metadata().unwrap().len();
    file.write_all(&vec![0xA5; usize::try_from(length - 4_096).unwrap()]).unwrap();
    drop(file);
    until_well(&on(&path).build().unwrap(), &path, "damaged while closed").await;
    assert!(Path::new(&format!("{}.corrupt", path.display())).exists());
}

/// A first attempt to open finds one file, which another program has locked, and the next finds a
/// new one.
#[tokio::test]
async fn a_file_that_was_opened_at_the_second_attempt_is_known() {
    let path = fresh_path();
    let cache = on(&path).op_timeout(Duration::from_millis(300)).build().unwrap();
    let holder = hold_lock(
        &path,
        "PRAGMA journal_mode=WAL;PRAGMA locking_mode=EXCLUSIVE;BEGIN IMMEDIATE;CREATE TABLE t \
         (x);COMMIT;BEGIN IMMEDIATE",
        60.0,
    );
    let error = set(&cache, "k", "v").await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable), "{error}");
    drop(holder);
    // Moved and not deleted: a new file may be given the number of a deleted one.
    fs::rename(&path, path.with_extension("theirs")).unwrap();
    for suffix in ["-wal", "-shm"] {
        // The other program may have removed its log.
        let _either = fs::remove_file(format!("{}{suffix}", path.display()));
    }
    crate::support::eventually("it is opened", Duration::from_secs(60), async || {
        set(&cache, "k", "v").await.is_ok()
    })
    .await;
    fs::write(&path, "this is no database any more").unwrap();
    until_well(&cache, &path, "overwritten after a second attempt to open").await;
}

#[tokio::test]
async fn a_file_that_is_replaced_by_something_else_is_left_alone() {
    let path = fresh_path();
    let cache = in_use(&path).await;
    let notes = path.with_extension("notes");
    fs::write(&notes, vec![0xA5; 50_000]).unwrap();
    fs::rename(&notes, &path).unwrap();
    crate::support::eventually("it is refused", Duration::from_secs(60), async || {
        set(&cache, "k", "v").await.is_err_and(|error| error.kind() == ErrorKind::Config)
    })
    .await;
    assert_eq!(get(&cache, "k").await.unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(fs::read(&path).unwrap(), vec![0xA5; 50_000]);
    assert!(!Path::new(&format!("{}.corrupt", path.display())).exists());
    fs::remove_file(&path).unwrap();
    crate::support::eventually("it works", Duration::from_secs(60), async || {
        set(&cache, "k", "v").await.is_ok()
    })
    .await;
    until_well(&cache, &path, "taken away again").await;
}

#[tokio::test]
async fn a_log_that_is_deleted_is_noticed_with_the_file() {
    for (suffixes, first_read) in [
        (&["-wal"][..], true),
        (&["-wal"], false),
        (&["-shm"], true),
        (&["-wal", "-shm"], true),
        (&["-shm"], false),
    ] {
        let path = fresh_path();
        let cache = on(&path).build().unwrap();
        for n in 0..60 {
            set(&cache, &format!("k{n}"), &"x".repeat(5_000)).await.unwrap();
        }
        if !first_read {
            get(&cache, "k1").await.unwrap();
        }
        for suffix in suffixes {
            fs::remove_file(format!("{}{suffix}", path.display())).unwrap();
        }
        // Failures last for a moment only, although no adapter is closed.
        crate::support::eventually("reads work", Duration::from_secs(60), async || {
            get(&cache, "k1").await.is_ok()
        })
        .await;
        until_well(&cache, &path, &format!("{suffixes:?} deleted")).await;
    }
}

/// A process that has the file open and is idle.
fn idle_process(path: &Path) -> (Guarded, BufReader<std::process::ChildStdout>) {
    let mut command = another_process("idle", path);
    command.stdin(std::process::Stdio::piped());
    let mut child = Guarded(command.spawn().unwrap());
    let mut said = BufReader::new(child.0.stdout.take().unwrap());
    wait_for(&mut said, "idle");
    (child, said)
}

pub(super) fn wait_for(said: &mut impl BufRead, word: &str) {
    let mut line = String::new();
    while !line.contains(word) {
        line.clear();
        assert_ne!(said.read_line(&mut line).unwrap(), 0, "the child ended early");
    }
}

#[tokio::test]
async fn a_process_that_starts_beside_one_that_is_idle_on_a_deleted_file_has_a_cache() {
    let path = fresh_path();
    let (mut child, mut said) = idle_process(&path);
    fs::remove_file(&path).unwrap();
    let cache = on(&path).build().unwrap();
    // The failure is immediate, as there is nothing to wait for.
    set(&cache, "k", "v").await.unwrap();
    assert_eq!(get(&cache, "k").await.unwrap().as_deref(), Some("v"));
    assert_eq!(get(&cache, "first").await.unwrap(), None);
    // The other process finds the new file when it continues, and does not remove the new file's
    // log when it ends.
    child.0.stdin.take().unwrap().write_all(b"wake\n").unwrap();
    wait_for(&mut said, "awake");
    assert!(child.0.wait().unwrap().success());
    set(&cache, "k2", "v2").await.unwrap();
    assert_eq!(get(&cache, "from the other").await.unwrap().as_deref(), Some("here"));
    assert_eq!(get(&cache, "k2").await.unwrap().as_deref(), Some("v2"));
    until_well(&cache, &path, "both are on the new file").await;
}

#[tokio::test]
async fn a_file_that_is_replaced_by_another_cache_is_that_cache() {
    let (path, other) = (fresh_path(), fresh_path());
    let cache = in_use(&path).await;
    let another = on(&other).build().unwrap();
    set(&another, "from", "the other").await.unwrap();
    another.close().await.unwrap();
    fs::rename(&other, &path).unwrap();
    until_well(&cache, &path, "replaced by another cache").await;
    assert_eq!(get(&cache, "from").await.unwrap().as_deref(), Some("the other"));
    assert_eq!(get(&cache, "k1").await.unwrap(), None);
}

#[tokio::test]
async fn a_file_that_is_replaced_by_somebody_elses_database_is_left_alone() {
    let (path, other) = (fresh_path(), fresh_path());
    let cache = in_use(&path).await;
    python_says(
        "import sqlite3,sys; d=sqlite3.connect(sys.argv[1]); d.execute('CREATE TABLE theirs (x)'); \
         d.commit()",
        &[other.to_str().unwrap()],
    );
    let theirs = fs::read(&other).unwrap();
    fs::rename(&other, &path).unwrap();
    let end = Instant::now() + Duration::from_secs(2);
    while set(&cache, "k", "v").await.map_or_else(|error| error.kind(), |()| ErrorKind::NotFound)
        != ErrorKind::Config
    {
        assert!(Instant::now() < end);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(get(&cache, "k").await.unwrap_err().kind(), ErrorKind::Config);
    drop(cache);
    assert_eq!(fs::read(&path).unwrap(), theirs);
}

#[tokio::test]
async fn a_table_that_is_dropped_is_made_anew() {
    let path = fresh_path();
    let cache = in_use(&path).await;
    python_says(
        "import sqlite3,sys; d=sqlite3.connect(sys.argv[1]); d.execute('DROP TABLE larder_cache'); \
         d.commit()",
        &[path.to_str().unwrap()],
    );
    until_well(&cache, &path, "table dropped").await;
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_a_typed_error_and_the_way_back_is_short() {
    let folder = tempfile::tempdir().unwrap();
    let blocked = folder.path().join("blocked");
    fs::write(&blocked, "a file where a folder should be").unwrap();
    let path = blocked.join("cache.db");
    let cache = on(&path).op_timeout(Duration::from_millis(500)).build().unwrap();
    for _ in 0..50 {
        let began = Instant::now();
        let error = set(&cache, "k", "a value nobody should see").await.unwrap_err();
        assert_eq!(
            (error.kind(), error.op(), error.key(), error.backend()),
            (ErrorKind::Unavailable, Some("set"), Some("k"), Some("sqlite"))
        );
        assert!(!format!("{error} {error:?}").contains("nobody should see"));
        assert!(began.elapsed() < Duration::from_millis(500) + noise(), "{:?}", began.elapsed());
    }
    fs::remove_file(&blocked).unwrap();
    until_well(&cache, &path, "folder possible again").await;
}

#[tokio::test]
async fn a_file_that_may_only_be_read_is_a_typed_error_for_writes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cache.db");
    let cache = on(&path).build().unwrap();
    set(&cache, "k", "v").await.unwrap();
    cache.close().await.unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let mut child = another_process("read_only", &path);
    if fs::metadata("/proc/self").unwrap().permissions().mode() != 0 && is_root() {
        // For root, no file is read-only.
        let binary =
            folder.path().parent().unwrap().join(format!("larder-it-{}", std::process::id()));
        fs::copy(std::env::current_exe().unwrap(), &binary).unwrap();
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
        child = Command::new(&binary);
        child
            .args(["--exact", "sqlite::child::entry", "--nocapture"])
            .env("LARDER_CHILD", "read_only")
            .env("LARDER_CHILD_PATH", &path);
        child.uid(65_534).gid(65_534).current_dir("/");
        report(&mut child);
        fs::remove_file(binary).unwrap();
    } else {
        report(&mut child);
    }
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
}

fn is_root() -> bool {
    fs::read_to_string("/proc/self/status")
        .unwrap()
        .lines()
        .any(|line| line.starts_with("Uid:\t0\t"))
}

fn report(child: &mut Command) {
    let done = loop {
        match child.output() {
            // Another test forked while the copy was being written: its child keeps the file open
            // until it executes another program.
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(Duration::from_millis(10))
            }
            done => break done.unwrap(),
        }
    };
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{said} {}", String::from_utf8_lossy(&done.stderr));
    said.lines().filter(|line| line.contains('`')).for_each(|line| println!("sqlite: {line}"));
}

/// The operating system refuses to let files grow beyond 400 kB, which has the same effect as a
/// full disk.
#[test]
fn a_file_that_cannot_grow_makes_room_for_what_is_new() {
    let path = fresh_path();
    let mut shell = Command::new("bash");
    shell.arg("-c").arg("trap '' XFSZ; ulimit -f 400; exec \"$@\"").arg("bash");
    shell.arg(std::env::current_exe().unwrap()).args([
        "--exact",
        "sqlite::child::entry",
        "--nocapture",
    ]);
    report(shell.env("LARDER_CHILD", "full").env("LARDER_CHILD_PATH", &path));
}

#[tokio::test]
async fn killed_while_writing_the_file_is_whole_and_opens() {
    let path = fresh_path();
    let (rounds, mut live) = (soak(20, 100), 0);
    for round in 0..rounds {
        let mut child = Guarded(another_process("write", &path).spawn().unwrap());
        let mut said = BufReader::new(child.0.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("writing") {
            line.clear();
            assert_ne!(said.read_line(&mut line).unwrap(), 0, "the child ended early");
        }
        tokio::time::sleep(Duration::from_millis(5 + 7 * (round % 11))).await;
        child.0.kill().unwrap();
        child.0.wait().unwrap();
        let mut rest = String::new();
        said.read_to_string(&mut rest).unwrap();
        assert!(!rest.contains("panicked"), "{rest}");
        let cache = on(&path).build().unwrap();
        let keys: Vec<String> =
            (0..4).flat_map(|writer| (0..300).map(move |n| format!("{writer}-{n}"))).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        for (key, found) in keys.iter().zip(cache.get_many(&keys).await.unwrap()) {
            if let Some(value) = found.unwrap() {
                assert_eq!(value.decode::<String>().unwrap(), text_of(key));
                live += 1;
            }
        }
        cache.close().await.unwrap();
        assert_eq!(integrity(&path), "ok");
    }
    println!(
        "sqlite: killed {rounds} times while writing: integrity ok each time, {live} values read, \
         all whole"
    );
    assert!(live > 0);
}
