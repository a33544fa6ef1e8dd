//! What is written after an outage does not replace what another process wrote meanwhile.

use super::{Remote, Setup, on_each, put, text};
use crate::support::eventually;
use larder::layers::Resilient;
use larder::testing::{Fault, FaultyAdapter, Verb};
use larder::{AsyncCacheAdapter, CacheValue, Codec, Entry, ErrorKind, Expiry};
use std::sync::Arc;
use std::time::Duration;

on_each!(
    async a_late_write_never_replaces_what_another_process_wrote,
    a_late_write_fills_an_empty_place,
    a_late_write_of_the_same_millisecond_leaves_nothing_older,
);

const AWAY: Fault = Fault::Fail(ErrorKind::Unavailable);
const CODECS: [Codec; 3] = [Codec::MessagePack, Codec::Json, Codec::Raw];

/// Fails the writes of `keys` by every verb that is noted, lets `meanwhile` happen on the server,
/// and waits for the recovery.
async fn recover<S: Remote>(
    codec: Codec,
    meanwhile: impl AsyncFn(&dyn AsyncCacheAdapter),
) -> Arc<dyn AsyncCacheAdapter> {
    let setup = Setup::patient().codec(codec);
    let (ours, theirs) = (S::shared().cache(setup.clone()), S::shared().cache(setup));
    let store = Arc::new(FaultyAdapter::new(ours));
    let cache = Resilient::builder(store.clone()).retry(0).build();
    store.put(Verb::Set, AWAY);
    store.put(Verb::SetMany, AWAY);
    put(&cache, "set", "ours").await.unwrap_err();
    let entry = Entry::new("set_many", CacheValue::new("ours".to_owned()), Expiry::Default);
    cache
        .set_many(&[entry])
        .await
        .map(|mut each| each.remove(0))
        .and_then(|each| each)
        .unwrap_err();
    assert_eq!(cache.pending_writes(), 2);
    meanwhile(&*theirs).await;
    store.heal_all();
    eventually("the writes are made up for", Duration::from_secs(60), || async {
        cache.pending_writes() == 0
    })
    .await;
    theirs
}

async fn a_late_write_never_replaces_what_another_process_wrote<S: Remote>() {
    for codec in CODECS {
        let theirs = recover::<S>(codec, async |theirs| {
            // A header counts milliseconds.
            tokio::time::sleep(Duration::from_millis(5)).await;
            put(theirs, "set", "newer").await.unwrap();
            put(theirs, "set_many", "newer").await.unwrap();
        })
        .await;
        for key in ["set", "set_many"] {
            let found = text(&*theirs, key).await.unwrap();
            // Without a header it is not known which value is newer, so the key is removed.
            let expected = (codec == Codec::MessagePack).then_some("newer");
            assert_eq!(found.as_deref(), expected, "{codec}, {key}");
        }
    }
}

async fn a_late_write_fills_an_empty_place<S: Remote>() {
    for codec in CODECS {
        let theirs = recover::<S>(codec, async |_| {}).await;
        for key in ["set", "set_many"] {
            let found = text(&*theirs, key).await.unwrap();
            assert_eq!(found.as_deref(), Some("ours"), "{codec}, {key}");
        }
    }
}

/// Two values that were encoded in the same millisecond.
fn of_one_millisecond() -> [CacheValue; 2] {
    let encoded = |text: &str| {
        let value = CacheValue::new(text.to_owned());
        let stored = value.to_stored("k", Codec::MessagePack).unwrap();
        CacheValue::from_stored("k", stored, Codec::MessagePack)
    };
    loop {
        let both = ["older", "newer"].map(encoded);
        if both[0].created().is_some() && both[0].created() == both[1].created() {
            return both;
        }
    }
}

/// A header counts milliseconds, so it does not say which of two values is the newer one.
async fn a_late_write_of_the_same_millisecond_leaves_nothing_older<S: Remote>() {
    let [older, newer] = of_one_millisecond();
    let store = Arc::new(FaultyAdapter::new(S::shared().cache(Setup::patient())));
    let cache = Resilient::builder(store.clone()).retry(0).build();
    cache.set("k", older, Expiry::Default).await.unwrap();
    store.put(Verb::Set, AWAY);
    cache.set("k", newer, Expiry::Default).await.unwrap_err();
    store.heal_all();
    eventually("the write is made up for", Duration::from_secs(60), || async {
        cache.pending_writes() == 0
    })
    .await;
    assert_eq!(text(&cache, "k").await.unwrap(), None);
}
