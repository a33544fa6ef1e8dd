//! How long the records of tags live: longer than any entry that was written or touched with them.

use super::{HOUR, MINUTE, PATIENCE, get, on_each_store, record, two};
use crate::claims::Shared;
use crate::support::eventually;
use larder::{AsyncCacheWrapper, Expiry, Loaded};
use std::time::Duration;

on_each_store!(
    a_record_lives_twice_as_long_as_its_entry_and_an_hour_at_least,
    a_longer_entry_prolongs_the_record,
    a_longer_touch_prolongs_the_record,
    hits_that_renew_their_entry_prolong_the_record,
    a_shorter_life_shortens_nothing,
);

const DAY: Duration = Duration::from_secs(86_400);

/// How long the record of a tag still lives.
async fn life(cache: &AsyncCacheWrapper, tag: &str) -> Duration {
    match cache.adapter().unwrap().expiry(&record(tag)).await.unwrap() {
        Some(Expiry::After(left)) => left,
        Some(Expiry::Never) => Duration::MAX,
        other => panic!("{tag}: {other:?}"),
    }
}

/// A machine that is busy for so long would be one that does nothing else.
async fn lives(cache: &AsyncCacheWrapper, tag: &str, lasting: Duration) {
    let left = life(cache, tag).await;
    assert!(left <= lasting + MINUTE * 5 && left > lasting - MINUTE * 5, "{tag}: {left:?}");
}

async fn a_record_lives_twice_as_long_as_its_entry_and_an_hour_at_least(shared: Shared) {
    let [here, there] = two(&shared);
    here.ttl(MINUTE).tags(["brief"]).set("a", 1u64).await.unwrap();
    here.ttl(DAY).tags(["day"]).set("b", 1u64).await.unwrap();
    here.ttl(Expiry::Never).tags(["ever"]).get_or_set("c", 1u64).await.unwrap();
    here.ttl(DAY).stale_for(DAY).tags(["kept"]).get_or_set_async("d", async { 1 }).await.unwrap();
    here.tags(["each"])
        .set_each([("e", 1u64, MINUTE.into()), ("f", 1, DAY.into()), ("g", 1, HOUR.into())])
        .await
        .unwrap();
    lives(&there, "brief", HOUR).await;
    lives(&there, "day", 2 * DAY).await;
    assert_eq!(life(&there, "ever").await, Duration::MAX);
    lives(&there, "kept", 4 * DAY).await;
    lives(&there, "each", 2 * DAY).await;
}

async fn a_longer_entry_prolongs_the_record(shared: Shared) {
    let [here, there] = two(&shared);
    here.ttl(MINUTE).tags(["t", "u"]).set("a", 1u64).await.unwrap();
    there.ttl(DAY).tags(["t"]).set("b", 2u64).await.unwrap();
    lives(&here, "t", 2 * DAY).await;
    lives(&here, "u", HOUR).await;
    let loaded = async { Loaded::new(3u64).ttl(DAY * 10) };
    here.tags(["t"]).get_or_set_loaded_async("c", loaded).await.unwrap();
    lives(&here, "t", 20 * DAY).await;
    there.ttl(Expiry::Never).tags(["t"]).get_or_set_with("d", |_| 4u64).await.unwrap();
    assert_eq!(life(&here, "t").await, Duration::MAX);
    for key in ["a", "b", "c", "d"] {
        assert!(there.contains(key).await.unwrap(), "{key}");
    }
}

async fn a_longer_touch_prolongs_the_record(shared: Shared) {
    let [here, there] = two(&shared);
    for (number, tag) in ["touch", "update", "stale"].into_iter().enumerate() {
        let view = here.ttl(MINUTE);
        let view = if tag == "stale" { view.stale_for(MINUTE) } else { view };
        view.tags([tag]).set(tag, number).await.unwrap();
        lives(&here, tag, HOUR).await;
    }
    assert!(there.touch("touch", DAY).await.unwrap() && there.touch("stale", DAY).await.unwrap());
    assert_eq!(there.update_timeout::<usize>("update", DAY).await.unwrap(), 1);
    for tag in ["touch", "update", "stale"] {
        lives(&here, tag, 2 * DAY).await;
        assert!(here.contains(tag).await.unwrap());
    }
    assert!(here.touch("touch", Expiry::Never).await.unwrap());
    assert_eq!(life(&there, "touch").await, Duration::MAX);
}

async fn hits_that_renew_their_entry_prolong_the_record(shared: Shared) {
    let [here, there] = two(&shared);
    here.ttl(MINUTE).tags(["t"]).set("k", 1u64).await.unwrap();
    assert_eq!(there.idle(DAY).get::<u64>("k").await.unwrap(), Some(1));
    eventually("the entry is renewed", PATIENCE, || async {
        matches!(here.expiry("k").await.unwrap(), Some(Expiry::After(left)) if left > HOUR)
    })
    .await;
    lives(&here, "t", 2 * DAY).await;
}

async fn a_shorter_life_shortens_nothing(shared: Shared) {
    let [here, there] = two(&shared);
    here.ttl(DAY).tags(["t"]).set("a", 1u64).await.unwrap();
    there.ttl(MINUTE).tags(["t"]).set("b", 1u64).await.unwrap();
    assert!(there.touch("b", 2 * MINUTE).await.unwrap());
    lives(&here, "t", 2 * DAY).await;
    assert_eq!(get(&there, "a").await, Some(1));
}
