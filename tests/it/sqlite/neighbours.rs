//! Several adapters of one process on one file, also after the file is deleted.

use super::{fresh_path, get, on, set};
use crate::support::alone::alone;
use crate::support::eventually;
use larder::{AsyncCacheAdapter, AsyncSqliteCache};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

fn in_runtime(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(work);
}

/// An adapter with all connections open and entries in the log.
async fn busy(path: &Path) -> AsyncSqliteCache {
    let cache = on(path).build().unwrap();
    for n in 0..200 {
        set(&cache, &format!("k{n}"), &"x".repeat(3_000)).await.unwrap();
    }
    assert!(get(&cache, "k1").await.unwrap().is_some());
    cache
}

/// Writes on one and reads on the other until they agree.
async fn agree(one: &AsyncSqliteCache, other: &AsyncSqliteCache, what: &str) {
    for (writes, reads, text) in [(one, other, "there"), (other, one, "and back")] {
        eventually(what, LIMIT, async || {
            set(writes, "agreed", text).await.is_ok()
                && get(reads, "agreed").await.is_ok_and(|found| found.as_deref() == Some(text))
        })
        .await;
    }
}

/// Several paths to one file: the path itself, links to its folder and to the file, and a path
/// through `..`.
fn ways_to(path: &Path) -> Vec<PathBuf> {
    let (folder, name) = (path.parent().unwrap(), path.file_name().unwrap());
    let stem = name.to_str().unwrap();
    let (linked, link) =
        (folder.join(format!("{stem}.folder")), folder.join(format!("{stem}.link")));
    symlink(folder, &linked).unwrap();
    symlink(name, &link).unwrap();
    vec![
        path.to_owned(),
        linked.join(name),
        link,
        folder.join("..").join(folder.file_name().unwrap()).join(name),
    ]
}

#[test]
fn a_new_adapter_on_a_deleted_file_leaves_the_others_of_its_process_alive() {
    alone(
        "sqlite::neighbours::a_new_adapter_on_a_deleted_file_leaves_the_others_of_its_process_alive",
        || {
            in_runtime(async {
                let path = fresh_path();
                for way in ways_to(&path) {
                    let first = busy(&path).await;
                    fs::remove_file(&path).unwrap();
                    let second = on(&way).build().unwrap();
                    set(&second, "k", "v").await.unwrap();
                    // This read uses the pages that the first adapter has mapped.
                    for n in 0..200 {
                        let _gone_or_typed = get(&first, &format!("k{n}")).await;
                    }
                    agree(&first, &second, &format!("{} heals", way.display())).await;
                    first.close().await.unwrap();
                    second.close().await.unwrap();
                }
            });
        },
    );
}

#[test]
fn adapters_that_come_and_go_on_a_deleted_file_leave_the_others_alive() {
    alone(
        "sqlite::neighbours::adapters_that_come_and_go_on_a_deleted_file_leave_the_others_alive",
        || {
            in_runtime(async {
                let path = fresh_path();
                let first = busy(&path).await;
                let second = busy(&path).await;
                for round in 0..5 {
                    fs::remove_file(&path).unwrap();
                    // Dropped with all connections open, during the others' calls.
                    drop(on(&path).prefix(format!("{round}:")).build().unwrap());
                    let third = on(&path).build().unwrap();
                    set(&third, "k", "v").await.unwrap();
                    drop(third);
                    agree(&first, &second, "both heal").await;
                }
            });
        },
    );
}

#[test]
fn a_file_that_is_opened_under_its_new_name_leaves_the_old_name_alive() {
    alone(
        "sqlite::neighbours::a_file_that_is_opened_under_its_new_name_leaves_the_old_name_alive",
        || {
            in_runtime(async {
                let (path, moved) = (fresh_path(), fresh_path());
                let first = busy(&path).await;
                fs::rename(&path, &moved).unwrap();
                let second = on(&moved).build().unwrap();
                eventually("the new name works", LIMIT, async || {
                    set(&second, "here", "second").await.is_ok()
                })
                .await;
                eventually("the old name works", LIMIT, async || {
                    set(&first, "here", "first").await.is_ok()
                })
                .await;
                assert_eq!(get(&first, "here").await.unwrap().as_deref(), Some("first"));
                assert_eq!(get(&second, "here").await.unwrap().as_deref(), Some("second"));
            });
        },
    );
}

#[tokio::test]
async fn closing_one_adapter_leaves_the_others_of_its_file_open() {
    let path = fresh_path();
    let (first, second) = (busy(&path).await, on(&path).prefix("second:").build().unwrap());
    set(&second, "k", "v").await.unwrap();
    first.close().await.unwrap();
    assert_eq!(get(&second, "k").await.unwrap().as_deref(), Some("v"));
    assert!(path.with_extension("db-wal").exists(), "the log exists as long as a connection does");
    second.close().await.unwrap();
    assert!(!path.with_extension("db-wal").exists(), "the last one has taken it away");
    assert!(get(&first, "k1").await.unwrap().is_some());
}

#[tokio::test]
async fn adapters_of_one_file_have_their_own_settings() {
    let path = fresh_path();
    let patient = busy(&path).await;
    let small = on(&path).prefix("small:").max_value_bytes(10).pool_size(1).build().unwrap();
    assert!(
        set(&small, "k", &"x".repeat(100)).await.unwrap_err().kind() == larder::ErrorKind::TooLarge
    );
    set(&patient, "small:k", &"x".repeat(100)).await.unwrap();
    assert_eq!(get(&small, "k").await.unwrap(), Some("x".repeat(100)));
}

#[tokio::test]
async fn a_link_that_leads_to_another_file_is_followed() {
    let (one, two, link) = (fresh_path(), fresh_path(), fresh_path());
    for (path, text) in [(&one, "one"), (&two, "two")] {
        let cache = on(path).build().unwrap();
        set(&cache, "which", text).await.unwrap();
    }
    symlink(&one, &link).unwrap();
    let cache = on(&link).build().unwrap();
    assert_eq!(get(&cache, "which").await.unwrap().as_deref(), Some("one"));
    fs::remove_file(&link).unwrap();
    symlink(&two, &link).unwrap();
    eventually("the link is followed", LIMIT, async || {
        get(&cache, "which").await.is_ok_and(|found| found.as_deref() == Some("two"))
    })
    .await;
    let still = on(&one).build().unwrap();
    assert_eq!(get(&still, "which").await.unwrap().as_deref(), Some("one"));
}
