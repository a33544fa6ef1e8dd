//! A disk that is full.

use super::{PATIENT, get, on, set};
use larder::{AsyncCacheAdapter, AsyncSqliteCache, ErrorKind};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A small file system for this test, if this process may mount one.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let folder = TempDir::with_prefix("larder-small-").unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(folder.path())
            .output();
        if mounted.is_ok_and(|done| done.status.success()) {
            return Some(Self(folder));
        }
        println!("skipped: a small tmpfs cannot be mounted here");
        None
    }

    fn cache(&self) -> PathBuf {
        self.0.path().join("cache.db")
    }

    /// Fills the file system completely, also if the cache writes or frees something meanwhile.
    fn fill(&self) -> PathBuf {
        let path = self.0.path().join("filler");
        let mut file = File::create(&path).unwrap();
        let block = vec![b'x'; 8 << 20];
        let mut size = block.len();
        while size > 0 {
            if file.write(&block[..size]).unwrap_or(0) == 0 {
                size /= 2;
            }
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn opened(path: &Path) -> AsyncSqliteCache {
    on(path).build().unwrap()
}

async fn is_well(cache: &AsyncSqliteCache, what: &str) {
    for n in 0..20 {
        set(cache, "again", &format!("v{n}"))
            .await
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(get(cache, "again").await.unwrap(), Some(format!("v{n}")), "{what}");
    }
    cache.clear("").await.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(get(cache, "again").await.unwrap(), None, "{what}");
}

#[tokio::test]
async fn a_cache_that_has_filled_its_disk_goes_on() {
    let Some(disk) = SmallDisk::mount("6m") else { return };
    for size in [100, 10_000, 300_000] {
        let cache = opened(&disk.cache());
        let mut written = 0;
        let mut n = 0;
        while written < 24 << 20 && n < 3_000 {
            let (key, value) = (format!("{size}-{n}"), "x".repeat(size));
            set(&cache, &key, &value).await.unwrap_or_else(|error| panic!("{key}: {error}"));
            assert!(get(&cache, &key).await.unwrap().is_some(), "{key}");
            (written, n) = (written + size, n + 1);
        }
        is_well(&cache, &format!("{size}")).await;
        drop(cache);
        let another = opened(&disk.cache());
        is_well(&another, &format!("a new adapter after {size}")).await;
        another.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_disk_that_others_have_filled_is_a_typed_error_until_there_is_room_again() {
    let Some(disk) = SmallDisk::mount("6m") else { return };
    let cache = opened(&disk.cache());
    for n in 0..100 {
        set(&cache, &format!("k{n}"), &"x".repeat(10_000)).await.unwrap();
    }
    let filler = disk.fill();
    // Clearing needs no more room than the cache has.
    cache.clear("").await.unwrap();
    for n in 0..2_000 {
        if let Err(error) = set(&cache, &format!("k{n}"), &"x".repeat(10_000)).await {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        }
    }
    cache.close().await.unwrap();
    let another = opened(&disk.cache());
    if let Err(error) = set(&another, "k", "v").await {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
    fs::remove_file(filler).unwrap();
    for cache in [&cache, &another] {
        crate::support::eventually("it is well", PATIENT, async || {
            set(cache, "k", "v").await.is_ok()
        })
        .await;
        is_well(cache, "room again").await;
    }
}
