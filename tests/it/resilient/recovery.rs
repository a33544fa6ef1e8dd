//! What could not be written while the backend was away is written when it is back.

use super::*;
use async_trait::async_trait;
use larder::testing::Verb;
use larder::{Claim, Codec, Entry};
use std::time::SystemTime;

/// A layer over a store that holds `old` under some keys, and is away.
async fn away(
    set: impl FnOnce(ResilientBuilder<Store>) -> ResilientBuilder<Store>,
) -> (Resilient<Store>, Store) {
    let (cache, store) = around(|layer| set(layer.retry(0)));
    for key in ["a", "b", "users:1", "users:2", "posts:1"] {
        put(&cache, key, "old").await.unwrap();
    }
    store.put_on_all(AWAY);
    (cache, store)
}

async fn back(cache: &Resilient<Store>, store: &Store) {
    store.heal_all();
    until("it is made up for", || {
        cache.pending_writes() == 0 && cache.breaker_state() == BreakerState::Closed
    })
    .await;
}

async fn stored(store: &Store, key: &str) -> Option<String> {
    text(store.inner(), key).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_removal_is_not_lost() {
    for breaker in [true, false] {
        let (cache, store) = away(|layer| layer.breaker(breaker)).await;
        assert_eq!(
            cache.remove("a").await.unwrap_err().kind(),
            ErrorKind::Unavailable,
            "its caller gets the error"
        );
        assert_eq!(cache.pending_writes(), 1);
        store.reset_calls();
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert!(store.all_calls() < 500, "{} attempts in half a minute", store.all_calls());
        back(&cache, &store).await;
        assert_eq!(stored(&store, "a").await, None);
        assert_eq!(stored(&store, "b").await.as_deref(), Some("old"));
        assert_eq!(text(&cache, "a").await.unwrap(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn the_latest_of_a_key_is_written() {
    let (cache, store) = away(|layer| layer).await;
    for value in ["1", "2", "3"] {
        assert!(cache.remove("a").await.is_err() && put(&cache, "a", value).await.is_err());
        assert!(put(&cache, "b", value).await.is_err() && cache.remove("b").await.is_err());
    }
    assert_eq!(cache.pending_writes(), 2);
    store.reset_calls();
    back(&cache, &store).await;
    assert_eq!(stored(&store, "a").await.as_deref(), Some("3"));
    assert_eq!(stored(&store, "b").await, None);
    assert_eq!((store.calls(Verb::Set), store.calls(Verb::Remove)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_old_value_is_not_seen_again_whatever_the_verb() {
    let (cache, store) = away(|layer| layer.breaker(false)).await;
    assert!(cache.remove("a").await.is_err());
    until("writing it was tried", || store.calls(Verb::Get) > 0).await;
    // The store answers, but what is noted cannot be written yet.
    store.heal_all();
    store.put(Verb::Remove, AWAY);
    let answers = [
        cache.get("a").await.map(drop),
        cache.contains("a").await.map(drop),
        cache.take("a").await.map(drop),
        cache.update_timeout("a", Expiry::Never).await.map(drop),
        cache.replace("a", CacheValue::new(1), Expiry::Never).await.map(drop),
        cache.add("a", CacheValue::new(1), Expiry::Never).await.map(drop),
        cache.clear("").await,
    ];
    for answer in answers {
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    store.heal_all();
    until("it is made up for", || cache.pending_writes() == 0).await;
    assert!(cache.add("a", CacheValue::new("new".to_owned()), Expiry::Never).await.unwrap());
}

/// A single failure does not open the breaker; the next call waits for what is noted.
#[tokio::test(start_paused = true)]
async fn after_a_blip_the_next_call_finds_it_done() {
    for (verb, expected) in [(Verb::Remove, None), (Verb::Set, Some("new"))] {
        let (cache, store) = away(|layer| layer).await;
        store.heal_all();
        store.put_next(verb, 1, Fault::Fail(ErrorKind::Timeout));
        let blip = if verb == Verb::Remove {
            cache.remove("a").await.map(drop)
        } else {
            put(&cache, "a", "new").await
        };
        assert!(blip.unwrap_err().is_timeout());
        assert_eq!(cache.breaker_state(), BreakerState::Closed);
        let begun = Instant::now();
        assert_eq!(text(&cache, "a").await.unwrap().as_deref(), expected);
        assert!(begun.elapsed() <= Duration::from_millis(51), "{:?}", begun.elapsed());
        assert_eq!(cache.pending_writes(), 0);
    }
}

/// Keys that nothing is noted about are asked for as ever.
#[tokio::test(start_paused = true)]
async fn other_keys_do_not_wait() {
    let (cache, store) = away(|layer| layer).await;
    store.heal_all();
    store.put(Verb::Remove, AWAY);
    assert!(cache.remove("a").await.is_err());
    let found = cache.get_many(&["a", "b", "c"]).await.unwrap();
    assert!(
        matches!(&found[..], [Err(error), Ok(Some(_)), Ok(None)] if error.kind() == ErrorKind::Unavailable)
    );
    assert_eq!(text(&cache, "b").await.unwrap().as_deref(), Some("old"));
    let entries =
        ["a", "b"].map(|key| Entry::new(key, CacheValue::new("new".to_owned()), Expiry::Never));
    let set = cache.set_many(&entries).await.unwrap();
    assert!(set[0].is_err() && set[1].is_ok());
    back(&cache, &store).await;
    assert_eq!(
        stored(&store, "a").await.as_deref(),
        Some("new"),
        "the later write has taken its place"
    );
}

#[tokio::test(start_paused = true)]
async fn a_later_write_is_not_undone() {
    let (cache, store) = away(|layer| layer).await;
    assert!(cache.remove("a").await.is_err() && put(&cache, "b", "failed").await.is_err());
    store.heal_all();
    until("it closes", || cache.breaker_state() == BreakerState::Closed).await;
    put(&cache, "a", "newer").await.unwrap();
    put(&cache, "b", "newer").await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!((cache.pending_writes(), stored(&store, "a").await.as_deref()), (0, Some("newer")));
    assert_eq!(stored(&store, "b").await.as_deref(), Some("newer"));
}

#[tokio::test(start_paused = true)]
async fn what_would_have_expired_is_not_written_and_what_it_replaces_goes() {
    let (cache, store) = away(|layer| layer.default_ttl(Duration::from_secs(5))).await;
    let value = || CacheValue::new("new".to_owned());
    assert!(cache.set("a", value(), Expiry::After(Duration::from_secs(10))).await.is_err());
    assert!(cache.set("b", value(), Expiry::Default).await.is_err());
    assert!(cache.set("c", value(), Expiry::After(Duration::from_secs(60))).await.is_err());
    tokio::time::sleep(Duration::from_secs(20)).await;
    store.reset_calls();
    back(&cache, &store).await;
    assert_eq!(store.calls(Verb::Set), 1);
    assert_eq!((stored(&store, "a").await, stored(&store, "b").await), (None, None));
    let Some(Expiry::After(left)) = store.inner().expiry("c").await.unwrap() else {
        panic!("it is there, and ends")
    };
    assert!(
        (Duration::from_secs(38)..=Duration::from_secs(40)).contains(&left),
        "{left:?} of a minute"
    );
}

#[tokio::test(start_paused = true)]
async fn a_clear_comes_before_what_was_written_after_it() {
    let (cache, store) = away(|layer| layer).await;
    assert!(put(&cache, "users:1", "before").await.is_err());
    assert!(cache.clear("users:").await.is_err());
    assert!(put(&cache, "users:3", "after").await.is_err());
    assert_eq!(cache.pending_writes(), 2);
    back(&cache, &store).await;
    assert_eq!((stored(&store, "users:1").await, stored(&store, "users:2").await), (None, None));
    assert_eq!(stored(&store, "users:3").await.as_deref(), Some("after"));
    assert_eq!(stored(&store, "posts:1").await.as_deref(), Some("old"));
}

#[tokio::test(start_paused = true)]
async fn what_is_under_a_clear_that_is_not_done_is_not_read() {
    let (cache, store) = away(|layer| layer.breaker(false)).await;
    assert!(cache.clear("users:").await.is_err());
    store.heal_all();
    store.put(Verb::Clear, Fault::Delay(Duration::from_secs(3)));
    assert!(cache.get("users:1").await.is_err() && put(&cache, "users:1", "new").await.is_err());
    assert_eq!(text(&cache, "posts:1").await.unwrap().as_deref(), Some("old"));
    until("it is made up for", || cache.pending_writes() == 0).await;
    assert_eq!(text(&cache, "users:1").await.unwrap().as_deref(), Some("new"));
    assert_eq!(text(&cache, "users:2").await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn batches_are_noted_key_by_key() {
    let (cache, store) = away(|layer| layer).await;
    assert!(cache.remove_many(&["a", "b"]).await.is_err());
    let entries =
        ["x", "y"].map(|key| Entry::new(key, CacheValue::new(key.to_owned()), Expiry::Never));
    assert!(cache.set_many(&entries).await.is_err());
    assert_eq!(cache.remove_many(&["c", ""]).await.unwrap_err().kind(), ErrorKind::InvalidKey);
    assert_eq!(cache.pending_writes(), 4);
    back(&cache, &store).await;
    assert_eq!((stored(&store, "a").await, stored(&store, "b").await), (None, None));
    assert_eq!(
        (stored(&store, "x").await.as_deref(), stored(&store, "y").await.as_deref()),
        (Some("x"), Some("y"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_note_that_is_dropped_emits_an_event() {
    let (layer, store) = away(|layer| layer.recovery_entries(3)).await;
    let cache = AsyncCacheWrapper::new(layer.clone()).unwrap();
    let events = events(&cache);
    for n in 0..10 {
        assert!(layer.remove(&format!("k{n}")).await.is_err());
        assert!(layer.pending_writes() <= 3);
    }
    assert_eq!(count(&events, EventKind::BackendError), 7);
    assert_eq!(store.calls(Verb::Remove), 5, "the breaker is open after that");
}

#[tokio::test(start_paused = true)]
async fn a_write_that_the_backend_refuses_is_given_up_with_an_event() {
    let (layer, store) = away(|layer| layer).await;
    let cache = AsyncCacheWrapper::new(layer.clone()).unwrap();
    let events = events(&cache);
    assert!(put(&layer, "a", "new").await.is_err());
    store.heal_all();
    store.put(Verb::Set, Fault::Fail(ErrorKind::Backend));
    until("it is given up", || layer.pending_writes() == 0).await;
    assert_eq!(count(&events, EventKind::BackendError), 1);
}

#[tokio::test(start_paused = true)]
async fn it_can_be_turned_off_and_only_writes_are_noted() {
    let (cache, store) = away(|layer| layer.recovery(false)).await;
    assert!(cache.remove("a").await.is_err() && put(&cache, "b", "new").await.is_err());
    assert_eq!(cache.pending_writes(), 0);
    back(&cache, &store).await;
    assert_eq!(stored(&store, "a").await.as_deref(), Some("old"));

    let (cache, _store) = away(|layer| layer).await;
    let value = || CacheValue::new(1);
    assert!(
        cache.incr("a", 1, Expiry::Never).await.is_err()
            && cache.take("a").await.is_err()
            && cache.get("a").await.is_err()
    );
    assert!(
        cache.add("a", value(), Expiry::Never).await.is_err()
            && cache.replace("a", value(), Expiry::Never).await.is_err()
    );
    assert!(cache.touch("a", Expiry::Never).await.is_err());
    assert!(cache.set_claimed("a", value(), Expiry::Never, &Claim::unguarded()).await.is_err());
    assert_eq!(cache.pending_writes(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_noted_outlives_a_reset() {
    let (layer, store) = away(|layer| layer).await;
    let cache = AsyncCacheWrapper::new(layer).unwrap();
    assert!(cache.remove("b").await.is_err());
    store.heal(Verb::Rebuild);
    store.heal(Verb::Close);
    // Memory rebuilt is empty; what counts is that the new adapter knows of the removal, and sees
    // to it.
    let fresh = cache.reset_adapter().await.unwrap();
    store.heal_all();
    store.reset_calls();
    for _ in 0..10_000 {
        if fresh.get("b").await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(store.calls(Verb::Remove), 1);
}

/// A store that other processes write to: its claims are guarded, and its values say when they were
/// written.
#[derive(Clone, Default)]
pub(super) struct Shared(Arc<Mutex<Option<CacheValue>>>);

pub(super) fn written(text: &str, at: SystemTime) -> CacheValue {
    // Magic, version, codec, flags, reserved, created: enough of a header for `created` to be
    // known.
    let bytes = CacheValue::new(text.to_owned()).to_stored("k", Codec::MessagePack).unwrap();
    let millis =
        u64::try_from(at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis()).unwrap();
    CacheValue::from_stored("k", larder_header::stamped(&bytes, millis).into(), Codec::MessagePack)
}

/// Another process's clock: the time of writing in a header, with its checksum.
mod larder_header {
    pub(super) fn stamped(stored: &[u8], millis: u64) -> Vec<u8> {
        let mut stored = stored.to_vec();
        stored[8..16].copy_from_slice(&millis.to_be_bytes());
        let mut checked = stored[..40].to_vec();
        checked.extend_from_slice(&stored[44..]);
        stored[40..44].copy_from_slice(&crc32(&checked).to_be_bytes());
        stored
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0u32, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
            })
        })
    }
}

#[async_trait]
impl AsyncCacheAdapter for Shared {
    async fn get(&self, _: &str) -> Result<Option<CacheValue>> {
        Ok(self.0.lock().unwrap().clone())
    }

    async fn set(&self, _: &str, value: CacheValue, _: Expiry) -> Result<()> {
        *self.0.lock().unwrap() = Some(value);
        Ok(())
    }

    async fn remove(&self, _: &str) -> Result<bool> {
        Ok(self.0.lock().unwrap().take().is_some())
    }

    async fn update_timeout(&self, _: &str, _: Expiry) -> Result<Option<CacheValue>> {
        self.get("").await
    }

    async fn clear(&self, _: &str) -> Result<()> {
        self.0.lock().unwrap().take();
        Ok(())
    }

    fn enforces_claims(&self) -> bool {
        true
    }

    async fn claim(&self, _: &str, _: Option<Duration>) -> Result<Option<Claim>> {
        Ok(Some(Claim::new("shared")))
    }

    fn backend(&self) -> &str {
        "shared"
    }
}

/// A value that another process wrote in the meantime stays, unless it is older. In doubt the key
/// is removed.
#[tokio::test(start_paused = true)]
async fn the_newer_of_two_processes_writes_stays() {
    let now = SystemTime::now();
    let (long_ago, soon) = (now - Duration::from_secs(60), now + Duration::from_secs(60));
    let unknown = || CacheValue::new("unknown".to_owned()).into_encoded(Codec::Json).unwrap();
    for (there, after_set, after_removal) in [
        (None, Some("ours"), None),
        (Some(written("older", long_ago)), Some("ours"), None),
        (Some(written("newer", soon)), Some("newer"), Some("newer")),
        (Some(unknown()), None, None),
    ] {
        for removal in [false, true] {
            let shared = Shared(Arc::new(Mutex::new(there.clone())));
            let store = FaultyAdapter::new(shared.clone());
            store.put(Verb::Set, AWAY);
            store.put(Verb::Remove, AWAY);
            let store = Arc::new(store);
            let cache = Resilient::builder(store.clone()).retry(0).build();
            let failed = if removal {
                cache.remove("k").await.map(drop)
            } else {
                put(&cache, "k", "ours").await
            };
            assert!(failed.is_err());
            store.heal_all();
            until("it is made up for", || cache.pending_writes() == 0).await;
            let expected = if removal { after_removal } else { after_set };
            assert_eq!(
                text(&shared, "k").await.unwrap().as_deref(),
                expected,
                "{there:?}, removal: {removal}"
            );
        }
    }
}

/// A value whose `Serialize` panics once it is armed.
#[derive(Clone, Default)]
struct Bomb(Arc<std::sync::atomic::AtomicBool>);

impl serde::Serialize for Bomb {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert!(!self.0.load(std::sync::atomic::Ordering::Relaxed), "the value panics");
        serializer.serialize_u8(1)
    }
}

/// The old value is removed, observers get an event, and all other notes are replayed.
#[tokio::test(start_paused = true)]
async fn a_value_that_panics_does_not_stop_recovery() {
    let (layer, store) = away(|layer| layer).await;
    let cache = AsyncCacheWrapper::new(layer.clone()).unwrap();
    let (events, bomb) = (events(&cache), Bomb::default());
    assert!(layer.set("a", CacheValue::new(bomb.clone()), Expiry::Never).await.is_err());
    assert!(put(&layer, "b", "new").await.is_err() && layer.remove("posts:1").await.is_err());
    bomb.0.store(true, std::sync::atomic::Ordering::Relaxed);
    back(&layer, &store).await;
    assert_eq!(count(&events, EventKind::BackendError), 1);
    assert_eq!((stored(&store, "a").await, stored(&store, "posts:1").await), (None, None));
    assert_eq!(stored(&store, "b").await.as_deref(), Some("new"));
}

/// An adapter of a user's own, whose `ping` panics while it is away.
struct Panicking(Arc<std::sync::atomic::AtomicBool>);

#[async_trait]
impl AsyncCacheAdapter for Panicking {
    async fn get(&self, _: &str) -> Result<Option<CacheValue>> {
        if self.0.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(larder::Error::new(ErrorKind::Unavailable));
        }
        Ok(None)
    }

    async fn set(&self, _: &str, _: CacheValue, _: Expiry) -> Result<()> {
        Ok(())
    }

    async fn remove(&self, _: &str) -> Result<bool> {
        Ok(false)
    }

    async fn update_timeout(&self, _: &str, _: Expiry) -> Result<Option<CacheValue>> {
        Ok(None)
    }

    async fn clear(&self, _: &str) -> Result<()> {
        Ok(())
    }

    async fn ping(&self) -> Result<()> {
        assert!(!self.0.load(std::sync::atomic::Ordering::Relaxed), "the adapter panics");
        Ok(())
    }
}

/// Without any further call that would start the task again.
#[tokio::test(start_paused = true)]
async fn an_adapter_that_panics_does_not_end_the_recovery_task() {
    let is_away = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let cache = Resilient::builder(Panicking(is_away.clone())).retry(0).build();
    while cache.breaker_state() == BreakerState::Closed {
        assert!(cache.get("k").await.is_err());
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_ne!(cache.breaker_state(), BreakerState::Closed);
    is_away.store(false, std::sync::atomic::Ordering::Relaxed);
    until("it closes", || cache.breaker_state() == BreakerState::Closed).await;
}

/// One patience for all keys of a batch, and for waiting and asking together.
#[tokio::test(start_paused = true)]
async fn a_call_has_one_deadline_whatever_it_waits_for() {
    let deadline = Duration::from_millis(100);
    let (cache, store) = away(|layer| layer.deadline(deadline).breaker(false)).await;
    let keys: Vec<String> = (0..20).map(|n| format!("k{n}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let entries = || keys.iter().map(|key| Entry::new(key, CacheValue::new(1), Expiry::Never));
    let claim = Claim::unguarded();
    for round in 0..12 {
        store.put_on_all(AWAY);
        for key in &keys {
            assert!(cache.remove(key).await.is_err());
        }
        store.heal_all();
        // What is noted stays so: writing it takes for ever, and so does all else.
        store.put_on_all(Fault::Hang);
        let with_free: Vec<&str> = keys.iter().copied().chain(["free"]).collect();
        let begun = Instant::now();
        match round {
            0 => drop(cache.get_many(&keys).await),
            1 => drop(cache.get_many(&with_free).await),
            2 => drop(cache.set_many(&entries().collect::<Vec<_>>()).await),
            3 => drop(cache.remove_many(&with_free).await),
            4 => drop(cache.get(keys[0]).await),
            5 => drop(put(&cache, keys[0], "new").await),
            6 => drop(cache.claim(keys[0], None).await),
            7 => drop(cache.set_claimed(keys[0], CacheValue::new(1), Expiry::Never, &claim).await),
            8 => drop(cache.release(keys[0], &claim).await),
            9 => drop(cache.incr(keys[0], 1, Expiry::Never).await),
            10 => drop(cache.take(keys[0]).await),
            _ => drop(cache.touch(keys[0], Expiry::Never).await),
        }
        let took = begun.elapsed();
        assert!(took <= deadline + Duration::from_millis(2), "round {round}: {took:?}");
    }
    store.heal_all();
}
