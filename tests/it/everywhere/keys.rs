//! The keys of a cache, by its wrapper and its blocking face, on stores that others write to.

use super::on_each_store;
use crate::claims::Shared;
use larder::{AsyncCacheWrapper, ErrorKind, Expiry, KeyStream};
use std::collections::BTreeSet;

on_each_store!(
    a_namespace_walks_through_its_own_keys_by_their_short_names,
    what_loads_and_locks_leave_in_the_store_is_no_key,
);

/// `None` on a store that cannot list its keys.
async fn all(mut keys: KeyStream) -> Option<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    while let Some(key) = keys.next().await {
        match key {
            Ok(key) => all.insert(key),
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                assert_eq!((error.op(), error.backend()), (Some("keys"), Some("memcached")));
                assert!(keys.next().await.is_none(), "an error is the last item");
                return None;
            }
            Err(error) => panic!("{error}"),
        };
    }
    Some(all)
}

fn set(keys: &[&str]) -> Option<BTreeSet<String>> {
    Some(keys.iter().map(|key| (*key).to_owned()).collect())
}

async fn a_namespace_walks_through_its_own_keys_by_their_short_names(shared: Shared) {
    let (cache, other) = (shared.cache(), shared.cache());
    let users = cache.namespace("users*");
    users.set_many([("7", 1u8), ("70", 1), ("a:b", 1)]).await.unwrap();
    users.namespace("x").set("y", 1u8).await.unwrap();
    cache.set_many([("users", 1u8), ("usersX:7", 1), ("users*:", 1)]).await.unwrap();
    let Some(found) = all(other.namespace("users*").keys("")).await else { return };
    assert_eq!(Some(found), set(&["7", "70", "a:b", "x:y"]));
    assert_eq!(all(other.ttl(Expiry::Never).keys("users")).await.map(|all| all.len()), Some(7));
    assert_eq!(all(users.keys("7")).await, set(&["7", "70"]));
    assert_eq!(all(users.namespace("x").keys("")).await, set(&["y"]));
    let walk = |cache: AsyncCacheWrapper| {
        cache.blocking().view().keys("7").collect::<larder::Result<BTreeSet<_>>>().unwrap()
    };
    let blocking = tokio::task::spawn_blocking(move || walk(users)).await.unwrap();
    assert_eq!(Some(blocking), set(&["7", "70"]));
}

async fn what_loads_and_locks_leave_in_the_store_is_no_key(shared: Shared) {
    let cache = shared.cache();
    cache.set("big", "x".repeat(500_000)).await.unwrap();
    cache.namespace("other").set("k", 1u8).await.unwrap();
    cache.namespace("other").clear().await.unwrap();
    assert_eq!(cache.incr("n", 3).await.unwrap(), 3);
    let walk = || all(shared.cache().keys(""));
    let seen =
        cache.view().lease(std::time::Duration::from_secs(60)).get_or_set_async("loading", {
            let walk = walk();
            async move { walk.await.map(|all| all.into_iter().collect::<Vec<_>>()) }
        });
    let Some(seen) = seen.await.unwrap() else { return };
    assert_eq!(seen, ["big", "n"]);
    assert_eq!(walk().await, set(&["big", "loading", "n"]));
}
