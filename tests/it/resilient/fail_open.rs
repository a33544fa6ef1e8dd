//! A backend that is away is a backend that is empty, for those who want it so.

use super::*;

#[tokio::test(start_paused = true)]
async fn reads_are_a_miss_and_writes_succeed() {
    let (cache, store) = around(|layer| layer.fail_open(true));
    store.put_on_all(AWAY);
    for _ in 0..20 {
        assert!(text(&cache, "nothing").await.unwrap().is_none());
        assert!(
            !cache.contains("nothing").await.unwrap()
                && cache.expiry("nothing").await.unwrap().is_none()
        );
        assert!(
            cache.update_timeout("k", Expiry::Never).await.unwrap().is_none()
                && !cache.touch("k", Expiry::Never).await.unwrap()
        );
        assert!(cache.take("k").await.unwrap().is_none() && !cache.remove("k").await.unwrap());
        assert!(!cache.add("k", CacheValue::new(1), Expiry::Never).await.unwrap(), "not stored");
        assert!(!cache.replace("k", CacheValue::new(1), Expiry::Never).await.unwrap());
        assert!(matches!(&cache.get_many(&["x", "y"]).await.unwrap()[..], [Ok(None), Ok(None)]));
        assert!(matches!(
            &cache.remove_many(&["x", "y"]).await.unwrap()[..],
            [Ok(false), Ok(false)]
        ));
        cache.clear("users:").await.unwrap();
        put(&cache, "k", "v").await.unwrap();
        assert_eq!(
            text(&cache, "k").await.unwrap().as_deref(),
            Some("v"),
            "what was written is read"
        );
    }
    let answers = [
        cache.incr("n", 1, Expiry::Never).await.map(drop),
        cache.claim("k", None).await.map(drop),
        cache.ping().await,
        cache.connect().await,
    ];
    for answer in answers {
        assert_eq!(
            answer.unwrap_err().kind(),
            ErrorKind::Unavailable,
            "a made-up answer would be a lie"
        );
    }
    assert_eq!(cache.get("").await.unwrap_err().kind(), ErrorKind::InvalidKey);
    store.heal_all();
    until("it is made up for", || cache.pending_writes() == 0).await;
    assert_eq!(text(store.inner(), "k").await.unwrap().as_deref(), Some("v"));
}

#[tokio::test(start_paused = true)]
async fn observers_hear_of_it() {
    let (layer, store) = around(|layer| layer.fail_open(true).retry(0));
    let cache = AsyncCacheWrapper::new(layer).unwrap();
    let events = events(&cache);
    store.put_on_all(AWAY);
    assert!(cache.get::<u8>("k").await.unwrap().is_none());
    assert_eq!(count(&events, EventKind::BackendError), 1);
}

#[tokio::test(start_paused = true)]
async fn strict_unless_asked() {
    let (cache, store) = around(|layer| layer);
    store.put_on_all(AWAY);
    for _ in 0..50 {
        assert!(
            cache.get("k").await.is_err()
                && put(&cache, "k", "v").await.is_err()
                && cache.remove("k").await.is_err()
        );
    }
}
