//! A backend that answers and takes no writes: full, a read-only replica, or one that cannot save.

use super::*;
use larder::Entry;
use larder::testing::Verb;

const WRITES: [Verb; 12] = [
    Verb::Set,
    Verb::Remove,
    Verb::Clear,
    Verb::Add,
    Verb::Replace,
    Verb::Incr,
    Verb::Take,
    Verb::Touch,
    Verb::UpdateTimeout,
    Verb::SetMany,
    Verb::RemoveMany,
    Verb::Claim,
];

/// A layer over a store that holds `old` under some keys, and takes no more writes.
async fn refusing() -> (Resilient<Store>, Store) {
    let (cache, store) = around(|layer| layer);
    for key in ["a", "b", "c", "users:1"] {
        put(&cache, key, "old").await.unwrap();
    }
    WRITES.iter().for_each(|verb| store.put(*verb, Fault::Refuse));
    (cache, store)
}

async fn made_up_for(cache: &Resilient<Store>, store: &Store) {
    store.heal_all();
    until("it is made up for", || cache.pending_writes() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn reads_are_answered_however_many_writes_are_refused() {
    let (cache, store) = refusing().await;
    for n in 0..300 {
        let refused = match n % 8 {
            0 => put(&cache, "new", "value").await,
            1 => cache.remove("gone").await.map(drop),
            2 => cache.incr("n", 1, Expiry::Never).await.map(drop),
            3 => cache.take("t").await.map(drop),
            4 => cache.touch("a", Expiry::Never).await.map(drop),
            5 => cache.add("x", CacheValue::new(1), Expiry::Never).await.map(drop),
            6 => cache.claim("a", None).await.map(drop),
            _ => cache.replace("a", CacheValue::new(1), Expiry::Never).await.map(drop),
        };
        assert!(refused.unwrap_err().is_refused_write());
        assert_eq!(text(&cache, "a").await.unwrap().as_deref(), Some("old"));
        assert!(cache.contains("b").await.unwrap());
        assert!(
            cache.get_many(&["a", "b", "new", "gone"]).await.unwrap().iter().all(Result::is_ok)
        );
        assert_eq!(cache.breaker_state(), BreakerState::Closed);
    }
    made_up_for(&cache, &store).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_what_reads_find_and_is_made_up_for() {
    let (cache, store) = refusing().await;
    let minute = Expiry::After(Duration::from_secs(60));
    let value = CacheValue::new("new".to_owned());
    assert!(cache.set("a", value, minute).await.unwrap_err().is_refused_write());
    assert!(cache.remove("b").await.unwrap_err().is_refused_write());
    assert!(cache.clear("users:").await.unwrap_err().is_refused_write());
    let entries = [Entry::new("d", CacheValue::new("new".to_owned()), Expiry::Never)];
    assert!(cache.set_many(&entries).await.unwrap_err().is_refused_write());
    // Before and after the first attempt to write it.
    for _ in 0..2 {
        let found = cache.get_many(&["a", "b", "c", "d", "users:1"]).await.unwrap();
        let found: Vec<Option<String>> = found
            .into_iter()
            .map(|found| found.unwrap().map(|value| value.decode().unwrap()))
            .collect();
        assert_eq!(found, [Some("new".into()), None, Some("old".into()), Some("new".into()), None]);
        assert_eq!(text(&cache, "a").await.unwrap().as_deref(), Some("new"));
        assert!(cache.contains("a").await.unwrap() && !cache.contains("users:1").await.unwrap());
        assert!(matches!(cache.expiry("a").await.unwrap(), Some(Expiry::After(_))));
        assert_eq!(cache.expiry("b").await.unwrap(), None);
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    store.reset_calls();
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(store.all_calls() < 600, "{} attempts in half a minute", store.all_calls());
    made_up_for(&cache, &store).await;
    let stored = async |key: &str| text(store.inner(), key).await.unwrap();
    assert_eq!(stored("a").await.as_deref(), Some("new"));
    assert_eq!(stored("d").await.as_deref(), Some("new"));
    assert_eq!((stored("b").await, stored("users:1").await), (None, None));
    assert_eq!(stored("c").await.as_deref(), Some("old"));
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_goes_away_after_it_refused_is_away() {
    let (cache, store) = refusing().await;
    assert!(cache.remove("a").await.is_err());
    assert_eq!(text(&cache, "a").await.unwrap(), None);
    store.put_on_all(AWAY);
    break_it(&cache).await;
    assert_eq!(cache.get("a").await.unwrap_err().kind(), ErrorKind::Unavailable);
    made_up_for(&cache, &store).await;
    assert_eq!(text(store.inner(), "a").await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn with_fail_open_callers_do_not_see_it() {
    let (cache, store) = around(|layer| layer.fail_open(true));
    WRITES.iter().for_each(|verb| store.put(*verb, Fault::Refuse));
    put(&cache, "k", "v").await.unwrap();
    assert_eq!(text(&cache, "k").await.unwrap().as_deref(), Some("v"));
    assert!(!cache.remove("k").await.unwrap());
    assert_eq!(text(&cache, "k").await.unwrap(), None);
}
