//! Writes of one key that overlap: one that fails is made up for only where nothing that came later
//! is undone.

use super::*;
use async_trait::async_trait;
use larder::testing::Verb;
use larder::{Claim, Entry};

const DEADLINE: Duration = Duration::from_millis(500);

fn text_value(text: &str) -> CacheValue {
    CacheValue::new(text.to_owned())
}

/// A layer whose calls have half a second, over a store that holds `old` under `k`.
async fn limited() -> (Resilient<Store>, Store) {
    let (cache, store) = around(|layer| layer.retry(0).deadline(DEADLINE).breaker_failures(100));
    put(&cache, "k", "old").await.unwrap();
    (cache, store)
}

async fn stored(store: &Store, key: &str) -> Option<String> {
    text(store.inner(), key).await.unwrap()
}

/// Begins a call that the store does not answer, and comes back when others can be sent after it.
async fn hung<T: Send + 'static>(
    store: &Store,
    verb: Verb,
    call: impl Future<Output = Result<T>> + Send + 'static,
) -> tokio::task::JoinHandle<Result<T>> {
    store.put_next(verb, 1, Fault::Hang);
    let call = tokio::spawn(call);
    tokio::time::sleep(DEADLINE / 5).await;
    call
}

async fn made_up_for(cache: &Resilient<Store>) {
    until("it is made up for", || cache.pending_writes() == 0).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(cache.pending_writes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_fails_late_does_not_undo_what_was_acknowledged_since() {
    for (verb, expected) in [
        (Verb::Set, Some("newer")),
        (Verb::SetMany, Some("newer")),
        (Verb::Replace, Some("newer")),
        (Verb::Incr, None),
        (Verb::Remove, None),
        (Verb::RemoveMany, None),
        (Verb::Take, None),
        (Verb::Clear, None),
    ] {
        let (cache, store) = limited().await;
        let late = cache.clone();
        let late = hung(&store, Verb::Set, async move { put(&late, "k", "older").await }).await;
        match verb {
            Verb::Set => put(&cache, "k", "newer").await.unwrap(),
            Verb::SetMany => {
                let entry = Entry::new("k", text_value("newer"), Expiry::Never);
                assert!(cache.set_many(&[entry]).await.unwrap()[0].is_ok());
            }
            Verb::Replace => {
                assert!(cache.replace("k", text_value("newer"), Expiry::Never).await.unwrap());
            }
            Verb::Incr => {
                assert!(cache.remove("k").await.unwrap());
                assert_eq!(cache.incr("k", 5, Expiry::Never).await.unwrap(), 5);
            }
            Verb::Remove => assert!(cache.remove("k").await.unwrap()),
            Verb::RemoveMany => assert!(cache.remove_many(&["k"]).await.unwrap()[0].is_ok()),
            Verb::Take => assert!(cache.take("k").await.unwrap().is_some()),
            _ => cache.clear("").await.unwrap(),
        }
        assert!(late.await.unwrap().unwrap_err().is_timeout());
        made_up_for(&cache).await;
        if verb == Verb::Incr {
            assert_eq!(cache.incr("k", 0, Expiry::Never).await.unwrap(), 5);
        } else {
            assert_eq!(stored(&store, "k").await.as_deref(), expected, "{verb}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_fails_late_does_not_take_what_was_stored_since() {
    let (cache, store) = limited().await;
    let late = cache.clone();
    let late = hung(&store, Verb::Remove, async move { late.remove("k").await }).await;
    put(&cache, "k", "newer").await.unwrap();
    assert!(late.await.unwrap().is_err());
    made_up_for(&cache).await;
    assert_eq!(stored(&store, "k").await.as_deref(), Some("newer"));
}

/// Whatever the call was that failed late.
#[tokio::test(start_paused = true)]
async fn no_call_that_fails_late_undoes_a_write_that_was_acknowledged_since() {
    for verb in [
        Verb::Set,
        Verb::SetMany,
        Verb::Add,
        Verb::Replace,
        Verb::Incr,
        Verb::Touch,
        Verb::UpdateTimeout,
        Verb::Take,
        Verb::Remove,
        Verb::RemoveMany,
        Verb::SetClaimed,
        Verb::Release,
    ] {
        let (cache, store) = limited().await;
        let late = cache.clone();
        let claim = late.claim("k", None).await.unwrap().unwrap();
        let late = hung(&store, verb, async move {
            let (older, never) = (text_value("older"), Expiry::Never);
            match verb {
                Verb::Set => late.set("k", older, never).await,
                Verb::SetMany => late.set_many(&[Entry::new("k", older, never)]).await?.remove(0),
                Verb::Add => late.add("k", older, never).await.map(drop),
                Verb::Replace => late.replace("k", older, never).await.map(drop),
                Verb::Incr => late.incr("k", 1, never).await.map(drop),
                Verb::Touch => late.touch("k", never).await.map(drop),
                Verb::UpdateTimeout => late.update_timeout("k", never).await.map(drop),
                Verb::Take => late.take("k").await.map(drop),
                Verb::Remove => late.remove("k").await.map(drop),
                Verb::RemoveMany => late.remove_many(&["k"]).await?.remove(0).map(drop),
                Verb::SetClaimed => late.set_claimed("k", older, never, &claim).await.map(drop),
                _ => late.release("k", &claim).await,
            }
        });
        let late = late.await;
        put(&cache, "k", "newer").await.unwrap();
        // Some calls have no deadline of their own, or fail with the layer's.
        let _failed = late.await.unwrap();
        made_up_for(&cache).await;
        assert_eq!(stored(&store, "k").await.as_deref(), Some("newer"), "{verb}");
    }
}

/// After a later call whose effect on the value is not known, the key is removed: a miss is never
/// wrong.
#[tokio::test(start_paused = true)]
async fn in_doubt_the_key_is_removed() {
    for verb in [Verb::Touch, Verb::UpdateTimeout, Verb::SetClaimed, Verb::Clear] {
        let (cache, store) = limited().await;
        let late = cache.clone();
        let late = hung(&store, Verb::Set, async move { put(&late, "k", "older").await }).await;
        match verb {
            Verb::Touch => assert!(cache.touch("k", Expiry::Never).await.unwrap()),
            Verb::UpdateTimeout => {
                assert!(cache.update_timeout("k", Expiry::Never).await.unwrap().is_some());
            }
            Verb::SetClaimed => {
                let claim = Claim::unguarded();
                let value = text_value("loaded before");
                assert!(cache.set_claimed("k", value, Expiry::Never, &claim).await.unwrap());
            }
            _ => cache.clear("k").await.unwrap(),
        }
        assert!(late.await.unwrap().is_err());
        made_up_for(&cache).await;
        assert_eq!(stored(&store, "k").await, None, "{verb}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_changed_nothing_leaves_no_doubt() {
    let (cache, store) = limited().await;
    let late = cache.clone();
    let late = hung(&store, Verb::Set, async move { put(&late, "k", "older").await }).await;
    assert!(!cache.add("k", text_value("added"), Expiry::Never).await.unwrap());
    assert_eq!(text(&cache, "k").await.unwrap().as_deref(), Some("old"));
    put(&cache, "other", "newer").await.unwrap();
    assert!(late.await.unwrap().is_err());
    made_up_for(&cache).await;
    assert_eq!(stored(&store, "k").await.as_deref(), Some("older"));
}

#[tokio::test(start_paused = true)]
async fn of_a_batch_that_fails_late_only_what_is_still_the_latest_is_written() {
    let (cache, store) = limited().await;
    let late = cache.clone();
    let late = hung(&store, Verb::SetMany, async move {
        let entries = ["k", "l"].map(|key| Entry::new(key, text_value("older"), Expiry::Never));
        late.set_many(&entries).await
    });
    let late = late.await;
    put(&cache, "k", "newer").await.unwrap();
    assert!(late.await.unwrap().is_err());
    made_up_for(&cache).await;
    assert_eq!(stored(&store, "k").await.as_deref(), Some("newer"));
    assert_eq!(stored(&store, "l").await.as_deref(), Some("older"));
}

/// Of two that fail, the one that was sent later counts, whichever fails first.
#[tokio::test(start_paused = true)]
async fn the_later_of_two_failures_is_written() {
    let (cache, store) = limited().await;
    let late = cache.clone();
    let late = hung(&store, Verb::Set, async move { put(&late, "k", "older").await }).await;
    store.put_next(Verb::Set, 1, AWAY);
    assert!(put(&cache, "k", "newer").await.is_err());
    assert!(late.await.unwrap().is_err());
    made_up_for(&cache).await;
    assert_eq!(stored(&store, "k").await.as_deref(), Some("newer"));
}

/// Stores at once, and answers late.
struct Late(AsyncMemoryCache);

#[async_trait]
impl AsyncCacheAdapter for Late {
    async fn get(&self, key: &str) -> Result<Option<CacheValue>> {
        self.0.get(key).await
    }

    async fn set(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<()> {
        self.0.set(key, value, expiry).await?;
        tokio::time::sleep(DEADLINE * 4 / 5).await;
        Ok(())
    }

    async fn remove(&self, key: &str) -> Result<bool> {
        self.0.remove(key).await
    }

    async fn update_timeout(&self, key: &str, expiry: Expiry) -> Result<Option<CacheValue>> {
        self.0.update_timeout(key, expiry).await
    }

    async fn clear(&self, prefix: &str) -> Result<()> {
        self.0.clear(prefix).await
    }
}

/// The note is made while a later write has been stored and not yet acknowledged.
#[tokio::test(start_paused = true)]
async fn a_write_in_flight_is_not_undone_by_an_older_note() {
    let store = Arc::new(FaultyAdapter::new(Late(AsyncMemoryCache::new())));
    let cache = Resilient::builder(store.clone()).retry(0).deadline(DEADLINE).build();
    store.put_next(Verb::Set, 1, Fault::Hang);
    let late = tokio::spawn({
        let cache = cache.clone();
        async move { put(&cache, "k", "older").await }
    });
    tokio::time::sleep(DEADLINE * 4 / 5).await;
    let newer = tokio::spawn({
        let cache = cache.clone();
        async move { put(&cache, "k", "newer").await }
    });
    assert!(late.await.unwrap().is_err());
    newer.await.unwrap().unwrap();
    until("it is made up for", || cache.pending_writes() == 0).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let left = text(&store.inner().0, "k").await.unwrap();
    assert_ne!(left.as_deref(), Some("older"), "a miss is never wrong, an older value is");
}

/// The time at which a write began is what another process's write is compared with.
#[tokio::test]
async fn what_another_process_wrote_since_the_beginning_stays() {
    use super::recovery::{Shared, written};
    let shared = Shared::default();
    let store = Arc::new(FaultyAdapter::new(shared.clone()));
    store.put_next(Verb::Set, 1, Fault::Hang);
    let cache = Resilient::builder(store).retry(0).deadline(DEADLINE).build();
    let late = tokio::spawn({
        let cache = cache.clone();
        async move { put(&cache, "k", "ours").await }
    });
    tokio::time::sleep(DEADLINE / 2).await;
    let theirs = written("theirs", std::time::SystemTime::now());
    shared.set("k", theirs, Expiry::Never).await.unwrap();
    assert!(late.await.unwrap().is_err());
    until("it is made up for", || cache.pending_writes() == 0).await;
    assert_eq!(text(&shared, "k").await.unwrap().as_deref(), Some("theirs"));
}
