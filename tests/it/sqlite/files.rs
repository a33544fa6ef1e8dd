//! Paths, URLs, and the owners of files.

use super::{PATIENT, fresh_path, get, on, python_says, set};
use larder::{AsyncCacheAdapter, AsyncSqliteCache, CacheValue, Codec, ErrorKind, Expiry};
use std::time::Duration;

#[tokio::test]
async fn odd_paths_are_names_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "a b.db",
        "what?x=1.db",
        "a#b.db",
        "100%.db",
        "%41.db",
        "ünï/cödé/清.db",
        "deep/er/still.db",
        "file:x?mode=memory",
        "quote'\".db",
        "-",
    ] {
        let path = folder.path().join(name);
        let cache = on(&path).build().unwrap();
        set(&cache, "k", name).await.unwrap();
        assert_eq!(get(&cache, "k").await.unwrap().as_deref(), Some(name));
        cache.close().await.unwrap();
        assert!(path.is_file(), "{name}");
        let again = on(&path).build().unwrap();
        assert_eq!(get(&again, "k").await.unwrap().as_deref(), Some(name));
    }
}

#[tokio::test]
async fn urls_name_files() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().to_str().unwrap();
    for (url, file) in [
        (format!("sqlite://{base}/one.db?op_timeout=1m"), "one.db"),
        (format!("sqlite:{base}/two.db?pool_size=1&prefix=p:&codec=json&op_timeout=1m"), "two.db"),
        (format!("SQLITE3:{base}/three%20and%3F.db?op_timeout=1m"), "three and?.db"),
        (
            format!(
                "sqlite:{base}/new/four.db?op_timeout=1m&default_ttl=never&max_bytes=1048576&max_value_bytes=100&purge_every=1m"
            ),
            "new/four.db",
        ),
    ] {
        let cache = AsyncSqliteCache::from_url(&url).unwrap();
        cache.set("k", CacheValue::new(1), Expiry::Default).await.unwrap();
        assert!(cache.contains("k").await.unwrap());
        assert!(folder.path().join(file).is_file(), "{url}");
    }
    let program =
        std::env::current_exe().unwrap().file_stem().unwrap().to_string_lossy().into_owned();
    let by_default = format!("larder/{program}.sqlite3");
    let memory = AsyncSqliteCache::from_url("sqlite::memory:").unwrap();
    set(&memory, "k", "v").await.unwrap();
    assert!(format!("{memory:?}").contains(":memory:"));
    assert!(
        format!("{:?}", AsyncSqliteCache::from_url("sqlite:cache.db").unwrap())
            .contains(std::env::current_dir().unwrap().to_str().unwrap())
    );
    assert!(format!("{:?}", AsyncSqliteCache::from_url("sqlite:").unwrap()).contains(&by_default));
}

#[cfg(unix)]
#[tokio::test]
async fn what_is_made_is_for_its_owner_alone_and_what_was_there_stays_as_it_was() {
    use std::os::unix::fs::PermissionsExt;
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = folder.path().join("a/b/cache.db");
    let cache = on(&path).build().unwrap();
    for _ in 0..2 {
        set(&cache, "k", "v").await.unwrap();
        for file in ["a/b/cache.db", "a/b/cache.db-wal", "a/b/cache.db-shm"] {
            assert_eq!(mode(&folder.path().join(file)), 0o600, "{file}");
        }
        assert_eq!(
            (mode(&folder.path().join("a")), mode(&folder.path().join("a/b"))),
            (0o700, 0o700)
        );
        cache.close().await.unwrap();
        std::fs::remove_dir_all(folder.path().join("a")).unwrap();
    }
    assert_eq!(mode(folder.path()), 0o755);
    set(&cache, "k", "v").await.unwrap();
    cache.close().await.unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660)).unwrap();
    set(&cache, "k", "v").await.unwrap();
    assert_eq!(mode(&path), 0o660, "another user shares it");
    assert_eq!(mode(&folder.path().join("a/b/cache.db-wal")), 0o660);
}

#[test]
fn a_path_that_is_a_folder_is_refused() {
    for url in [
        "sqlite:dir/",
        "sqlite:dir/.",
        "sqlite:dir/..",
        "sqlite:..",
        "sqlite:.",
        "sqlite:///",
        "sqlite:~",
        "sqlite:~/",
    ] {
        let error = AsyncSqliteCache::from_url(url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{url}");
        assert!(error.to_string().contains("folder"), "{url}: {error}");
    }
    let error = AsyncSqliteCache::open("dir/").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[tokio::test]
async fn a_folder_that_is_there_is_refused_when_it_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let cache = on(folder.path()).build().unwrap();
    for error in [set(&cache, "k", "v").await.unwrap_err(), get(&cache, "k").await.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains("folder"), "{error}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_tilde_is_the_home_folder() {
    let home = std::env::home_dir().unwrap();
    for url in
        ["sqlite:~/x/y.db", "sqlite://~/x/y.db", "sqlite:%7E/x/y.db", "sqlite3:~/x/y.db?prefix=a"]
    {
        let cache = AsyncSqliteCache::from_url(url).unwrap();
        assert!(
            format!("{cache:?}").contains(home.join("x/y.db").to_str().unwrap()),
            "{url}: {cache:?}"
        );
    }
    assert!(
        format!("{:?}", AsyncSqliteCache::open("~/x.db").unwrap())
            .contains(home.join("x.db").to_str().unwrap())
    );
    let error = AsyncSqliteCache::from_url("sqlite:~somebody/x.db").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let here = std::env::current_dir().unwrap();
    for (path, file) in [("~x.db", "~x.db"), ("./~/x.db", "~/x.db"), ("a/~/x.db", "a/~/x.db")] {
        let cache = AsyncSqliteCache::open(path).unwrap();
        assert!(
            format!("{cache:?}").contains(here.join(file).to_str().unwrap()),
            "{path}: {cache:?}"
        );
    }
}

#[tokio::test]
async fn a_file_that_never_was_a_database_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let contents = [
        b"x".to_vec(),
        b"notes of somebody's\n".to_vec(),
        b"n".repeat(511),
        b"n".repeat(512),
        b"more than one page of notes\n".repeat(400),
        b"SQLite format 2\0, or so it says".repeat(40),
        vec![0; 5_000],
        vec![0xA5; 50_000],
    ];
    for (nth, content) in contents.iter().enumerate() {
        let path = folder.path().join(format!("notes-{nth}.txt"));
        std::fs::write(&path, content).unwrap();
        let cache = on(&path).build().unwrap();
        for refused in [
            set(&cache, "k", "v").await,
            get(&cache, "k").await.map(drop),
            cache.clear("").await,
            cache.ping().await,
        ] {
            let kind = refused.as_ref().map_err(larder::Error::kind);
            assert_eq!(kind, Err(ErrorKind::Config), "{nth}: {refused:?}");
        }
        cache.close().await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), *content, "{nth}");
        // Once the obstacle is removed, calls succeed.
        std::fs::remove_file(&path).unwrap();
        crate::support::eventually("it works", PATIENT, async || {
            set(&cache, "k", "v").await.is_ok()
        })
        .await;
        cache.close().await.unwrap();
    }
    let mut names: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let expected: Vec<_> = (0..contents.len()).map(|nth| format!("notes-{nth}.txt")).collect();
    assert_eq!(names, expected, "nothing was set aside");
}

#[test]
fn what_cannot_work_is_refused_at_once() {
    for url in [
        "redis:x.db",
        "sqlite:x.db?prefx=a",
        "sqlite:x.db?pool_size=0",
        "sqlite:x.db?pool_size=65",
        "sqlite:x.db?op_timeout=0",
        "sqlite:x.db?purge_every=0",
        "sqlite:x.db?max_bytes=5",
        "sqlite:x.db?max_value_bytes=0",
        "sqlite:x%00.db",
        "sqlite:%ff.db",
        "sqlite:x.db?codec=pickle",
    ] {
        let error = AsyncSqliteCache::from_url(url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{url}: {error}");
    }
    assert_eq!(AsyncSqliteCache::open("").unwrap_err().kind(), ErrorKind::Config);
    let unknown = AsyncSqliteCache::from_url("sqlite:x.db?prefx=a").unwrap_err().to_string();
    assert!(
        unknown.contains("prefx")
            && unknown.contains("purge_every")
            && unknown.contains("pool_size"),
        "{unknown}"
    );
}

#[tokio::test]
async fn what_was_written_is_there_after_reopening_with_what_is_left_of_its_life() {
    let path = fresh_path();
    let cache = on(&path).build().unwrap();
    set(&cache, "ever", "a").await.unwrap();
    cache.set("minute", CacheValue::new("b"), Duration::from_secs(60).into()).await.unwrap();
    cache.set("moment", CacheValue::new("c"), Duration::from_millis(150).into()).await.unwrap();
    cache.incr("count", 41, Expiry::Never).await.unwrap();
    drop(cache);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let cache = on(&path).build().unwrap();
    assert_eq!(cache.expiry("ever").await.unwrap(), Some(Expiry::Never));
    let Some(Expiry::After(left)) = cache.expiry("minute").await.unwrap() else {
        panic!("it has an expiry")
    };
    assert!(left > Duration::from_secs(50) && left <= Duration::from_millis(59_800), "{left:?}");
    assert!(!cache.contains("moment").await.unwrap());
    assert_eq!(cache.incr("count", 1, Expiry::Never).await.unwrap(), 42);
}

#[tokio::test]
async fn python_reads_what_was_written_and_the_other_way_round() {
    let path = fresh_path();
    let file = path.to_str().unwrap();
    let cache = on(&path).codec(Codec::Json).build().unwrap();
    cache
        .set("list", CacheValue::new(vec![1, 2, 3]), Duration::from_secs(60).into())
        .await
        .unwrap();
    cache.incr("hits", 7, Expiry::Never).await.unwrap();
    set(&cache, "a\0b'\"清", "odd").await.unwrap();
    let script = "\
import json, sqlite3, sys, time
db = sqlite3.connect(sys.argv[1])
rows = {k: (json.loads(v), e) for k, v, e in db.execute('SELECT key, value, expires_at FROM larder_cache')}
assert rows['list'][0] == [1, 2, 3] and 0 < rows['list'][1] / 1000 - time.time() <= 60, rows
assert rows['hits'] == (7, None), rows
assert rows['a\\0b\\'\"\\u6e05'][0] == 'odd', rows
db.execute('INSERT INTO larder_cache VALUES (?, ?, ?)', ('py', int((time.time() + 60) * 1000), json.dumps({'x': 1})))
db.execute('INSERT INTO larder_cache VALUES (?, ?, ?)', ('number', None, 41))
db.commit()
print('read', len(rows))";
    assert_eq!(python_says(script, &[file]), "read 3");
    let map = cache
        .get("py")
        .await
        .unwrap()
        .unwrap()
        .decode::<std::collections::HashMap<String, i32>>()
        .unwrap();
    assert_eq!(map["x"], 1);
    assert_eq!(cache.incr("number", 1, Expiry::Never).await.unwrap(), 42);
    assert_eq!(cache.get("number").await.unwrap().unwrap().decode::<i64>().unwrap(), 42);
}

#[tokio::test]
async fn a_database_of_somebody_elses_is_left_alone() {
    for script in [
        "import sqlite3,sys; d=sqlite3.connect(sys.argv[1]); d.execute('CREATE TABLE theirs (x)'); d.execute('INSERT INTO theirs VALUES (1)'); d.commit()",
        "import sqlite3,sys; d=sqlite3.connect(sys.argv[1]); d.execute('PRAGMA application_id = 77'); d.commit()",
        "import sqlite3,sys; d=sqlite3.connect(sys.argv[1]); d.execute('PRAGMA user_version = 3'); d.commit()",
        "import sqlite3,sys; d=sqlite3.connect(sys.argv[1]); d.execute('PRAGMA application_id = 0x4C524452'); d.execute('PRAGMA user_version = 99'); d.execute('CREATE TABLE larder_cache (z)'); d.commit()",
    ] {
        let path = fresh_path();
        python_says(script, &[path.to_str().unwrap()]);
        let before = std::fs::read(&path).unwrap();
        let cache = on(&path).build().unwrap();
        for error in [
            set(&cache, "k", "v").await.unwrap_err(),
            get(&cache, "k").await.unwrap_err(),
            cache.ping().await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Config, "{error}");
            assert_eq!(error.backend(), Some("sqlite"));
        }
        drop(cache);
        assert_eq!(std::fs::read(&path).unwrap(), before, "{script}");
    }
}

#[tokio::test]
async fn opening_twice_and_at_once_is_one_database() {
    let path = fresh_path();
    let caches: Vec<_> = (0..8)
        .map(|_| std::sync::Arc::new(on(&path).op_timeout(PATIENT).build().unwrap()))
        .collect();
    let opening: Vec<_> = caches
        .iter()
        .enumerate()
        .map(|(n, cache)| {
            tokio::spawn({
                let cache = cache.clone();
                async move { set(&cache, &format!("k{n}"), "v").await }
            })
        })
        .collect();
    for opened in opening {
        opened.await.unwrap().unwrap();
    }
    for cache in &caches {
        for n in 0..8 {
            assert!(cache.contains(&format!("k{n}")).await.unwrap());
        }
    }
}
