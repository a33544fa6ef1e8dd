//! Which entries a removal of tags removes, and that none comes back.

use super::{HOUR, PATIENCE, get, on_each_store, record, two};
use crate::claims::Shared;
use crate::support::eventually;
use crate::trials::trials;
use larder::{AsyncCacheWrapper, ErrorKind, EventKind, Expiry};
use std::sync::{Arc, Mutex};

on_each_store!(
    a_removed_tag_takes_its_entries_along_here_and_there,
    what_is_stored_after_a_removal_stays,
    entries_of_a_tag_that_was_made_anew_stay_dead,
    an_entry_whose_record_is_lost_is_missing,
    removals_and_writes_without_a_pause_are_in_order,
    a_later_write_replaces_the_tags,
    each_namespace_has_tags_of_its_own,
    a_walk_shows_no_records_and_a_clear_removes_them,
    many_tags_leave_nothing_when_they_are_removed,
    removals_are_seen_by_observers,
);

async fn a_removed_tag_takes_its_entries_along_here_and_there(shared: Shared) {
    let [here, there] = two(&shared);
    here.tags(["user:7", "team:3"]).set("page", 1u64).await.unwrap();
    there.tags(["user:8", "team:3"]).set("other", 2u64).await.unwrap();
    here.set("plain", 3u64).await.unwrap();
    for cache in [&here, &there] {
        assert_eq!(get(cache, "page").await, Some(1));
        assert_eq!(get(cache, "other").await, Some(2));
    }
    there.remove_tags(["user:7"]).await.unwrap();
    for cache in [&here, &there] {
        assert_eq!(get(cache, "page").await, None);
        assert_eq!(get(cache, "other").await, Some(2));
    }
    here.remove_tags(["team:3", "never used"]).await.unwrap();
    for cache in [&here, &there] {
        assert_eq!(get(cache, "other").await, None);
        assert_eq!(get(cache, "plain").await, Some(3), "it has no tags");
    }
    here.remove_tags([""; 0]).await.unwrap();
}

async fn what_is_stored_after_a_removal_stays(shared: Shared) {
    let [here, there] = two(&shared);
    for round in 0..3u64 {
        here.tags(["t"]).set("k", round).await.unwrap();
        assert_eq!(get(&there, "k").await, Some(round));
        there.remove_tags(["t"]).await.unwrap();
        assert_eq!(get(&here, "k").await, None);
    }
    there.tags(["t"]).set("k", 7u64).await.unwrap();
    assert_eq!(get(&here, "k").await, Some(7));
}

async fn entries_of_a_tag_that_was_made_anew_stay_dead(shared: Shared) {
    let [here, there] = two(&shared);
    here.tags(["t"]).set("old", 1u64).await.unwrap();
    here.remove_tags(["t"]).await.unwrap();
    there.tags(["t"]).set("new", 2u64).await.unwrap();
    for cache in [&here, &there] {
        assert_eq!((get(cache, "old").await, get(cache, "new").await), (None, Some(2)));
    }
}

/// As when the store evicts it.
async fn an_entry_whose_record_is_lost_is_missing(shared: Shared) {
    let [here, there] = two(&shared);
    here.tags(["a", "b"]).set("k", 1u64).await.unwrap();
    assert!(here.adapter().unwrap().remove(&record("b")).await.unwrap(), "there is a record");
    assert_eq!((get(&here, "k").await, get(&there, "k").await), (None, None));
    there.tags(["b"]).set("other", 2u64).await.unwrap();
    assert_eq!(get(&here, "k").await, None, "another record is another generation");
}

async fn removals_and_writes_without_a_pause_are_in_order(shared: Shared) {
    let [here, there] = two(&shared);
    for round in 0..trials(100, 5_000) as u64 {
        here.tags(["t"]).set("k", round).await.unwrap();
        there.remove_tags(["t"]).await.unwrap();
        assert_eq!(get(&here, "k").await, None, "round {round}");
        here.tags(["t"]).set("k", round).await.unwrap();
        assert_eq!(get(&there, "k").await, Some(round));
    }
}

async fn a_later_write_replaces_the_tags(shared: Shared) {
    let [here, there] = two(&shared);
    here.tags(["a"]).set("k", 1u64).await.unwrap();
    there.tags(["b"]).set("k", 2u64).await.unwrap();
    here.remove_tags(["a"]).await.unwrap();
    assert_eq!(get(&there, "k").await, Some(2));
    here.remove_tags(["b"]).await.unwrap();
    assert_eq!(get(&there, "k").await, None);
    // Without tags it has none.
    here.tags(["c"]).set("k", 3u64).await.unwrap();
    here.set("k", 4u64).await.unwrap();
    there.remove_tags(["c"]).await.unwrap();
    assert_eq!(get(&here, "k").await, Some(4));
    // Of two calls the last one counts, as with other options.
    here.tags(["d"]).tags(["e"]).set("k", 5u64).await.unwrap();
    there.remove_tags(["d"]).await.unwrap();
    assert_eq!(get(&here, "k").await, Some(5));
}

async fn each_namespace_has_tags_of_its_own(shared: Shared) {
    let [here, there] = two(&shared);
    let [users, teams] = ["users", "teams"].map(|name| here.namespace(name));
    users.tags(["t"]).set("7", 1u64).await.unwrap();
    teams.tags(["t"]).set("7", 2u64).await.unwrap();
    here.tags(["t"]).set("7", 3u64).await.unwrap();
    // An entry is judged by the tags of the namespace in which it was written.
    assert_eq!(get(&there, "users:7").await, Some(1));
    there.namespace("users").remove_tags(["t"]).await.unwrap();
    assert_eq!((get(&users, "7").await, get(&there, "users:7").await), (None, None));
    assert_eq!((get(&teams, "7").await, get(&here, "7").await), (Some(2), Some(3)));
    here.remove_tags(["t"]).await.unwrap();
    assert_eq!((get(&teams, "7").await, get(&here, "7").await), (Some(2), None));
}

async fn keys(cache: &AsyncCacheWrapper, prefix: &str) -> Option<Vec<String>> {
    let (mut stream, mut keys) = (cache.keys(prefix), Vec::new());
    while let Some(key) = stream.next().await {
        match key {
            Ok(key) => keys.push(key),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unsupported);
                return None;
            }
        }
    }
    keys.sort();
    Some(keys)
}

async fn a_walk_shows_no_records_and_a_clear_removes_them(shared: Shared) {
    let [here, there] = two(&shared);
    let users = here.namespace("users");
    users.tags(["t"]).set("7", 1u64).await.unwrap();
    here.tags(["t"]).set("k", 2u64).await.unwrap();
    if let Some(all) = keys(&there, "").await {
        assert_eq!(all, ["k", "users:7"]);
        assert_eq!(keys(&users, "").await.unwrap(), ["7"]);
        assert!(keys(&there, "\0").await.unwrap().is_empty());
    }
    users.clear().await.unwrap();
    let adapter = there.adapter().unwrap();
    assert!(adapter.get(&format!("users:{}", record("t"))).await.unwrap().is_none());
    assert!(adapter.get(&record("t")).await.unwrap().is_some());
    assert_eq!((get(&there, "users:7").await, get(&there, "k").await), (None, Some(2)));
    users.tags(["t"]).set("7", 3u64).await.unwrap();
    assert_eq!(get(&there, "users:7").await, Some(3));
}

async fn many_tags_leave_nothing_when_they_are_removed(shared: Shared) {
    many_leave_nothing_when_they_are_removed(two(&shared)).await;
}

/// Gives many tags to a few entries, and removes the tags on the other node.
pub(crate) async fn many_leave_nothing_when_they_are_removed(
    [here, there]: [AsyncCacheWrapper; 2],
) {
    let many = trials(1_000, 100_000) as u64;
    let name = |number: u64| format!("user:{number}");
    let entries: Vec<String> = (0..10).map(|number| format!("k{number}")).collect();
    for number in 0..many {
        here.tags([name(number)]).set(&entries[number as usize % 10], number).await.unwrap();
    }
    for (key, number) in entries.iter().zip(many - 10..) {
        assert_eq!(get(&there, key).await, Some(number), "its last tag is there");
    }
    let adapter = here.adapter().unwrap();
    for from in (0..many).step_by(16) {
        there.remove_tags((from..many.min(from + 16)).map(name)).await.unwrap();
    }
    for number in 0..many {
        let found = adapter.get_far(&record(&name(number))).await.unwrap();
        assert!(found.is_none(), "the record of {number} is left");
    }
    for key in &entries {
        // What the other node has near may be as old as its bound.
        eventually("the entry is gone", PATIENCE, || async { get(&here, key).await.is_none() })
            .await;
        assert_eq!(get(&there, key).await, None);
    }
    if let Some(mut stored) = stored(&here).await {
        stored.sort();
        // A server may name a key twice.
        stored.dedup();
        assert_eq!(stored, entries, "dead entries, and nothing else");
    }
}

/// All keys in the store, those of records, too; `None` where the store cannot list them.
async fn stored(cache: &AsyncCacheWrapper) -> Option<Vec<String>> {
    let (adapter, mut after, mut keys) = (cache.adapter().unwrap(), None, Vec::new());
    loop {
        match adapter.keys("", after.as_ref()).await {
            Ok(page) => {
                keys.extend(page.keys);
                after = page.next;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unsupported);
                return None;
            }
        }
        if after.is_none() {
            return Some(keys);
        }
    }
}

async fn removals_are_seen_by_observers(shared: Shared) {
    let [here, there] = two(&shared);
    here.ttl(HOUR).tags(["t"]).set("k", 1u64).await.unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let notes = seen.clone();
    there.observe(move |event| {
        if event.kind == EventKind::Remove {
            let key = event.key.map(str::to_owned);
            notes.lock().unwrap().push((event.op.map(str::to_owned), key));
        }
    });
    there.remove_tags(["t", "never used"]).await.unwrap();
    let expected = (Some("remove_tags".to_owned()), Some("t".to_owned()));
    assert_eq!(*seen.lock().unwrap(), [expected]);
    assert_eq!(there.expiry("k").await.unwrap(), None::<Expiry>);
}
