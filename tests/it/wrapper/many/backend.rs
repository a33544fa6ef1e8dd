//! Batches over a store that fails, refuses or changes.

use super::{Asked, PATIENCE, source_away, two_over_one};
use crate::trials::within;
use crate::wrapper::{Runs, events_of, faulty};
use futures_util::FutureExt;
use larder::testing::{Fault, Verb};
use larder::{AsyncCacheWrapper, Codec, ErrorKind, EventKind};
use serde::{Deserialize, Serialize, Serializer};

#[tokio::test]
async fn a_batch_goes_on_without_its_backend() -> larder::Result<()> {
    let (cache, adapter) = faulty();
    let asked = Asked::default();
    let errors = events_of(&cache, EventKind::BackendError);
    let load = |missing| asked.lengths(missing);
    adapter.put(Verb::GetMany, Fault::Fail(ErrorKind::Unavailable));
    assert_eq!(cache.get_or_set_many_async(["a", "bb"], load).await?, [Some(1), Some(2)]);
    assert_eq!((errors.count(), adapter.calls(Verb::Set)), (1, 0), "it may hold good values");
    let strict = cache.fail_open(false).get_or_set_many_async(["a", "bb"], load).await;
    assert_eq!(strict.unwrap_err().kind(), ErrorKind::Unavailable);
    adapter.heal(Verb::GetMany);
    adapter.put(Verb::Set, Fault::Fail(ErrorKind::Unavailable));
    assert_eq!(cache.get_or_set_many_async(["a", "bb"], load).await?, [Some(1), Some(2)]);
    assert_eq!(errors.count(), 4, "each value that could not be stored emits an event");
    let strict = cache.fail_open(false).get_or_set_many_async(["a", "bb"], load).await;
    assert_eq!(strict.unwrap_err().kind(), ErrorKind::Unavailable);
    Ok(())
}

#[tokio::test]
async fn what_is_no_outage_is_an_error_of_the_batch() -> larder::Result<()> {
    let ((cache, adapter), asked) = (faulty(), Asked::default());
    for kind in [ErrorKind::InvalidKey, ErrorKind::Config, ErrorKind::Encode] {
        adapter.put_next(Verb::GetMany, 1, Fault::Fail(kind));
        let refused = cache.get_or_set_many_async(["a"], |missing| asked.lengths(missing)).await;
        assert_eq!(refused.unwrap_err().kind(), kind);
    }
    assert_eq!(asked.calls().len(), 0);
    Ok(())
}

/// Writes the key when an event of this kind is emitted: while a batch reads the key, before it
/// joins a flight. It ends after a hundred writes, so that a batch ends which reads again each time.
fn write_at(cache: &AsyncCacheWrapper, kind: EventKind) {
    let (writer, events) = (cache.clone(), Runs::default());
    cache.observe(move |event| {
        if event.kind == kind && events.count() < 100 {
            events.add();
            writer.set("k", "text").now_or_never().expect("it need not wait").unwrap();
        }
    });
}

#[tokio::test]
async fn a_batch_does_not_read_for_ever_what_is_written_all_the_time() -> larder::Result<()> {
    let ((cache, adapter), asked) = (faulty(), Asked::default());
    // Another type than the batch reads, so that each read of it emits an event.
    cache.set("k", "text").await?;
    write_at(&cache, EventKind::DecodeError);
    let call = cache.get_or_set_many_async(["k"], |missing| asked.lengths(missing));
    assert_eq!(within(PATIENCE, "it ends", call).await?, [Some(1)]);
    assert_eq!((adapter.calls(Verb::GetMany), asked.calls().len()), (16, 1));
    assert_eq!(cache.get::<String>("k").await?.as_deref(), Some("text"), "the write is newer");
    Ok(())
}

#[tokio::test]
async fn a_backend_that_is_away_is_read_once_although_the_key_is_written() -> larder::Result<()> {
    let ((cache, adapter), asked) = (faulty(), Asked::default());
    adapter.put(Verb::GetMany, Fault::Fail(ErrorKind::Unavailable));
    write_at(&cache, EventKind::BackendError);
    let call = cache.get_or_set_many_async(["k"], |missing| asked.lengths(missing));
    assert_eq!(within(PATIENCE, "it ends", call).await?, [Some(1)]);
    assert_eq!((adapter.calls(Verb::GetMany), asked.calls().len()), (1, 1));
    assert_eq!(cache.get::<String>("k").await?.as_deref(), Some("text"));
    Ok(())
}

/// Past a near level a read brings no claim, and the load asks for each.
#[tokio::test]
async fn a_key_that_cannot_be_claimed_is_refused_by_itself() -> larder::Result<()> {
    let (([cache, _], adapter), runs) = (two_over_one(), Runs::default());
    let load = |keys: Vec<String>| {
        let runs = runs.clone();
        async move {
            runs.add();
            keys.into_iter().map(|key| (key, 2usize))
        }
    };
    let strict = cache.skip_near().fail_open(false);
    let away = Fault::Fail(ErrorKind::Unavailable);
    adapter.put_next(Verb::Claim, 1, away);
    let error = strict.get_or_set_many_async(["a", "bb"], load).await.unwrap_err();
    assert_eq!((error.kind(), error.key()), (ErrorKind::Unavailable, Some("a")));
    assert_eq!(runs.count(), 1);
    assert_eq!(cache.get_many::<usize, _>(["a", "bb"]).await?, [None, Some(2)]);

    adapter.put_next(Verb::Claim, 1, away);
    let failed = strict.try_get_or_set_many_async(["a", "c"], source_away).await.unwrap_err();
    assert_eq!((failed.kind(), failed.key()), (ErrorKind::Unavailable, Some("a")), "its own");

    adapter.put(Verb::Claim, away);
    adapter.reset_calls();
    let tagged = cache.tags(["t"]).skip_near().fail_open(false);
    let error = tagged.get_or_set_many_async(["a", "c"], load).await.unwrap_err();
    assert_eq!((error.kind(), error.key()), (ErrorKind::Unavailable, Some("a")));
    assert_eq!(runs.count(), 1, "nothing is loaded for keys that are all refused");
    assert_eq!(adapter.calls(Verb::GetMany), 1, "nor are their tags read");
    Ok(())
}

#[tokio::test]
async fn a_batch_gives_the_claims_back_that_it_does_not_use() -> larder::Result<()> {
    let ([cache, _], adapter) = two_over_one();
    let load = |_: Vec<String>| async { [("a".to_owned(), 1usize), ("b".to_owned(), 2)] };
    let found = cache.get_or_set_many_async(["a", "none", "b"], load).await?;
    assert_eq!(found, [Some(1), None, Some(2)]);
    let calls = [Verb::Claim, Verb::SetClaimed, Verb::Release].map(|verb| adapter.calls(verb));
    assert_eq!(calls, [3, 2, 1]);
    Ok(())
}

/// A number that can be written if it is odd.
#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Odd(u64);

impl Serialize for Odd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 % 2 {
            1 => serializer.serialize_newtype_struct("Odd", &self.0),
            _ => Err(serde::ser::Error::custom("an even number")),
        }
    }
}

#[tokio::test]
async fn a_value_that_cannot_be_written_is_the_error_of_its_own_key() -> larder::Result<()> {
    let ([cache, _], adapter) = two_over_one();
    let load = |keys: Vec<String>| async { keys.into_iter().zip([2, 1, 3].map(Odd)) };
    let strict = cache.codec(Codec::MessagePack).fail_open(false);
    let error = strict.get_or_set_many_async(["two", "one", "three"], load).await.unwrap_err();
    assert_eq!((error.kind(), error.key()), (ErrorKind::Encode, Some("two")));
    assert_eq!(adapter.calls(Verb::SetClaimed), 2);
    let stored = cache.get_many::<Odd, _>(["two", "one", "three"]).await?;
    assert_eq!(stored, [None, Some(Odd(1)), Some(Odd(3))]);
    Ok(())
}
