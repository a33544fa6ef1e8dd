//! A process with no or few file descriptors left when larder first needs them.

#![cfg(all(target_os = "linux", feature = "memory"))]
#![allow(clippy::unwrap_used, reason = "tests")]

use larder::AsyncCacheWrapper;
use std::fs::File;
use std::process::Command;
use std::time::{Duration, Instant};

const CHILD: &str = "LARDER_DESCRIPTORS_CHILD";

/// For what is sure to happen, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many descriptors may be left: a runtime needs several, and each may be the one that lacks.
const MOST_LEFT: usize = 8;

/// Runs `test` of this binary in processes that may have few files open, one for each number of
/// descriptors that are left.
fn in_a_child(test: &str, body: impl FnOnce(usize)) {
    match std::env::var(CHILD) {
        Ok(left) => body(left.parse().unwrap()),
        Err(_) => (0..=MOST_LEFT).for_each(|left| run_child(test, left)),
    }
}

fn run_child(test: &str, left: usize) {
    let ran = Command::new("sh")
        .args(["-c", "ulimit -n 32 && exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(CHILD, left.to_string())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    let complained = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(ran.status.success() && said.contains("1 passed"), "{left} left: {said}\n{complained}");
    assert!(!complained.contains("panicked"), "{left} left: {complained}");
}

/// All the descriptors that there are but so many.
fn take_all_but(left: usize) -> Vec<File> {
    let mut taken = Vec::new();
    loop {
        match File::open("/dev/null") {
            Ok(file) => taken.push(file),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(24), "too many open files: {error}");
                taken.truncate(taken.len() - left);
                return taken;
            }
        }
    }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "not yet: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn memory_works_without_descriptors() {
    in_a_child("memory_works_without_descriptors", |left| {
        let taken = take_all_but(left);
        let memory = larder::AsyncMemoryCache::new();
        let cache = AsyncCacheWrapper::new(memory.clone()).unwrap().blocking();
        cache.set("k", 1u8).unwrap();
        assert_eq!(cache.get::<u8>("k").unwrap(), Some(1));
        assert_eq!(cache.incr("n", 1).unwrap(), 1);
        assert_eq!(cache.get_or_set_with("with", |_| 2u8).unwrap(), 2);
        assert_eq!(cache.get_or_set_async("async", async { 3u8 }).unwrap(), 3);
        cache.ttl(Duration::from_millis(1)).set("brief", 1u8).unwrap();
        drop(taken);
        cache.remove(["k", "n", "with", "async"]).unwrap();
        eventually("what has expired is swept", || memory.entry_count() == 0);
    });
}

#[cfg(all(feature = "redis", feature = "memcached", feature = "sqlite"))]
#[test]
fn others_are_unavailable_without_descriptors_and_well_once_there_are_some() {
    let test = "others_are_unavailable_without_descriptors_and_well_once_there_are_some";
    in_a_child(test, |left| {
        let folder = tempfile::tempdir().unwrap();
        // It answers nothing: whether larder connects to it is what there is to see.
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        let urls = [
            format!("redis://127.0.0.1:{port}/0?op_timeout=300ms"),
            format!("memcached://127.0.0.1:{port}?op_timeout=300ms"),
            format!("sqlite:{}", folder.path().join("c.db").display()),
        ];
        let caches = urls.map(|url| AsyncCacheWrapper::new(url.as_str()).unwrap().blocking());
        let taken = take_all_but(left);
        for cache in &caches {
            match cache.set("k", 1u8) {
                Err(error) if error.kind() == larder::ErrorKind::Unavailable => {}
                // A connection was possible, and nobody answers over it; or a file.
                Err(error) if error.is_timeout() && left > 0 => {}
                Ok(()) if left > 0 => {}
                outcome => panic!("{left} left: {outcome:?}"),
            }
            assert_eq!(cache.get_or_set_with("k", |_| 1u8).unwrap(), 1, "fail-open");
        }
        drop(taken);
        let [redis, memcached, sqlite] = caches;
        eventually("sqlite stores", || sqlite.set("k", 1u8).is_ok());
        server.set_nonblocking(true).unwrap();
        for cache in [redis, memcached] {
            // A stranger's silence ends the call, and by then there is a connection.
            eventually("it connects", || cache.ping().is_ok() || server.accept().is_ok());
        }
    });
}
