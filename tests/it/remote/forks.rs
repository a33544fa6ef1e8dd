//! The child of a fork: it has none of its parent's threads, and must not use its connections.

use super::{Remote, Setup, on_each};
use crate::support::alone::{alone, in_fork};
use larder::{AsyncCacheWrapper, CacheWrapper};
use std::time::Duration;

on_each!(blocking the_child_of_a_fork_has_connections_of_its_own);

fn use_sizes(cache: &CacheWrapper, who: &str) {
    for size in [10, 10_000, 300_000, 900_000] {
        let (key, value) = (format!("{who}-{size}"), "x".repeat(size));
        cache.set(&key, value.clone()).unwrap_or_else(|error| panic!("{key}: {error}"));
        assert_eq!(cache.get::<String>(&key).unwrap(), Some(value), "{key}");
    }
    let keys = [format!("{who}-10"), format!("{who}-300000")];
    assert!(cache.get_many::<String, _>(&keys).unwrap().iter().all(Option::is_some), "{who}");
    assert_eq!(cache.incr(format!("{who}-n"), 2).unwrap(), 2);
    assert!(cache.remove(format!("{who}-n")).unwrap());
}

fn the_child_of_a_fork_has_connections_of_its_own<S: Remote>() {
    let name =
        format!("remote::forks::{}::the_child_of_a_fork_has_connections_of_its_own", S::KIND);
    alone(&name, || {
        let server = S::start();
        let adapter = server.cache(Setup::patient());
        let cache = AsyncCacheWrapper::new(adapter).unwrap().with_fail_open(false).blocking();
        use_sizes(&cache, "parent");
        std::thread::sleep(Duration::from_millis(50));
        in_fork(|| {
            use_sizes(&cache, "child");
            assert!(cache.get::<String>("parent-300000").unwrap().is_some());
        });
        use_sizes(&cache, "parent again");
        assert!(cache.get::<String>("child-900000").unwrap().is_some());
    });
}
