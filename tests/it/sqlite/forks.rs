//! The child of a fork.

use super::{PATIENT, fresh_path, on};
use crate::support::alone::{alone, in_fork};
use larder::{AsyncCacheAdapter, AsyncSqliteCache, CacheWrapper, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// With long deadlines: failures in the child are immediate, not timeouts.
fn cache(path: &Path) -> CacheWrapper {
    wrapped(on(path).build().unwrap())
}

fn wrapped(cache: AsyncSqliteCache) -> CacheWrapper {
    let adapter: Arc<dyn AsyncCacheAdapter> = Arc::new(cache);
    larder::AsyncCacheWrapper::new(adapter).unwrap().with_fail_open(false).blocking()
}

fn is_refused_at_once(cache: &CacheWrapper) {
    let began = Instant::now();
    for refused in [cache.set("k", 2), cache.get::<i32>("k").map(drop), cache.clear()] {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("fork"), "{error}");
    }
    assert!(began.elapsed() < PATIENT / 4, "{:?}", began.elapsed());
}

fn works(cache: &CacheWrapper) {
    let big = "x".repeat(2_000_000);
    cache.set("k", 1).unwrap();
    cache.set("big", big.clone()).unwrap();
    assert_eq!(cache.get::<i32>("k").unwrap(), Some(1));
    assert_eq!(cache.get::<String>("big").unwrap(), Some(big));
    cache.remove("big").unwrap();
}

#[test]
fn a_file_that_was_open_is_refused_at_once_in_the_child_and_all_else_works() {
    alone(
        "sqlite::forks::a_file_that_was_open_is_refused_at_once_in_the_child_and_all_else_works",
        || {
            let (path, other, closed) = (fresh_path(), fresh_path(), fresh_path());
            let (open, memory) = (cache(&path), wrapped(AsyncSqliteCache::in_memory()));
            let (unused, was_closed) = (cache(&other), cache(&closed));
            for cache in [&open, &memory, &was_closed] {
                works(cache);
            }
            was_closed.close().unwrap();
            // The thread that closed it has ended, and no lock is held when the child is forked.
            std::thread::sleep(Duration::from_millis(50));
            in_fork(|| {
                is_refused_at_once(&open);
                is_refused_at_once(&cache(&path));
                assert_eq!(memory.get::<i32>("k").unwrap(), None, "it starts empty");
                for cache in [&memory, &unused, &was_closed] {
                    works(cache);
                }
            });
            for cache in [&open, &memory, &was_closed] {
                assert_eq!(cache.get::<i32>("k").unwrap(), Some(1), "the parent's is as it was");
                works(cache);
            }
        },
    );
}
