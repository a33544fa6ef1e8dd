//! Tags where values and records are near.

use super::by_age::LONG;
use crate::claims::Shared;
use crate::everywhere::on_each_store;
use larder::AsyncCacheWrapper;

on_each_store!(
    an_entry_is_dead_only_if_the_far_store_says_so,
    many_tags_whose_records_are_near_leave_nothing_when_they_are_removed,
);

/// A node for which the record of the tag is near, beside one that removes the tag and uses it again.
async fn with_an_old_record(
    [here, there]: &[AsyncCacheWrapper; 2],
    tag: &str,
    (key, value): (&str, u64),
) {
    here.tags([tag]).set(format!("first with {tag}"), 1u64).await.unwrap();
    assert_eq!(here.get(format!("first with {tag}")).await.unwrap(), Some(1u64));
    there.remove_tags([tag]).await.unwrap();
    there.tags([tag]).set(key, value).await.unwrap();
}

/// Near, the record of a tag may be of before a removal, and the entry of after it, or the reverse.
async fn an_entry_is_dead_only_if_the_far_store_says_so(shared: Shared) {
    let nodes = [(); 2].map(|()| shared.near(LONG));
    let [here, there] = &nodes;
    with_an_old_record(&nodes, "a", ("one", 2)).await;
    assert_eq!(here.get("one").await.unwrap(), Some(2u64));
    with_an_old_record(&nodes, "b", ("many", 3)).await;
    let found = here.get_many(["one", "many", "none"]).await.unwrap();
    assert_eq!(found, [Some(2u64), Some(3), None]);
    let never = || -> u64 { panic!("the loader ran") };
    with_an_old_record(&nodes, "c", ("load", 4)).await;
    assert_eq!(here.get_or_set_async("load", async move { never() }).await.unwrap(), 4);
    with_an_old_record(&nodes, "d", ("loads", 5)).await;
    let loads = |keys: Vec<String>| async move {
        assert_eq!(keys, ["new"]);
        vec![("new".to_owned(), 6u64)]
    };
    let found = here.get_or_set_many_async(["loads", "new"], loads).await.unwrap();
    assert_eq!(found, [Some(5), Some(6)]);
    let blocking = here.blocking();
    with_an_old_record(&nodes, "e", ("blocking", 7)).await;
    let found = tokio::task::spawn_blocking(move || blocking.get::<u64>("blocking"));
    assert_eq!(found.await.unwrap().unwrap(), Some(7));

    // The entry near is old, and its record is that of another one.
    here.tags(["f"]).set("replaced", 8u64).await.unwrap();
    assert_eq!(here.get("replaced").await.unwrap(), Some(8u64));
    there.set("replaced", 9u64).await.unwrap();
    there.remove_tags(["f"]).await.unwrap();
    here.tags(["f"]).set("another", 10u64).await.unwrap();
    assert_eq!(here.get("another").await.unwrap(), Some(10u64));
    assert_eq!(here.get("replaced").await.unwrap(), Some(9u64));
}

async fn many_tags_whose_records_are_near_leave_nothing_when_they_are_removed(shared: Shared) {
    let nodes = [(); 2].map(|()| shared.near("near_bound=20ms"));
    crate::tags::many_leave_nothing_when_they_are_removed(nodes).await;
}
