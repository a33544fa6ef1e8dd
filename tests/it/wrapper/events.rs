//! Observers.

use super::{faulty, fresh};
use larder::testing::{Fault, Verb};
use larder::{AsyncCacheWrapper, ErrorKind, EventKind};
use std::sync::{Arc, Mutex};

type Log = Arc<Mutex<Vec<(EventKind, String, Option<String>, Option<ErrorKind>)>>>;

fn watch(cache: &AsyncCacheWrapper) -> Log {
    let log = Log::default();
    let written = log.clone();
    cache.observe(move |event| {
        let entry = (event.kind, event.backend.to_owned(), event.key.map(str::to_owned), event.error.map(|error| error.kind()));
        written.lock().unwrap().push(entry);
    });
    log
}

fn entry(kind: EventKind, key: &str, error: Option<ErrorKind>) -> (EventKind, String, Option<String>, Option<ErrorKind>) {
    (kind, "memory".to_owned(), Some(key.to_owned()), error)
}

#[tokio::test]
async fn each_event_once() -> larder::Result<()> {
    let (cache, adapter) = faulty();
    let log = watch(&cache);
    let read = || std::mem::take(&mut *log.lock().unwrap());

    cache.get_or_set("k", 1u8).await?;
    assert_eq!(read(), [entry(EventKind::Load, "k", None)]);
    cache.get_or_set("k", 1u8).await?;
    cache.get::<u8>("nope").await?;
    cache.set("x", 1).await?;
    assert_eq!(read(), []);

    cache.try_get_or_set_async("f", async { Err::<u8, _>("no") }).await.unwrap_err();
    assert_eq!(read(), [entry(EventKind::LoadError, "f", Some(ErrorKind::Load))]);
    cache.get_or_set_with("p", |_| -> u8 { panic!("as told") }).await.unwrap_err();
    assert_eq!(read(), [entry(EventKind::LoadError, "p", Some(ErrorKind::Panic))]);

    adapter.put_next(Verb::Get, 1, Fault::Fail(ErrorKind::Unavailable));
    cache.get_or_set("k", 2u8).await?;
    assert_eq!(read(), [entry(EventKind::BackendError, "k", Some(ErrorKind::Unavailable)), entry(EventKind::Load, "k", None)]);
    adapter.put_next(Verb::Set, 1, Fault::Fail(ErrorKind::Timeout));
    cache.get_or_set("s", 2u8).await?;
    assert_eq!(read(), [entry(EventKind::Load, "s", None), entry(EventKind::BackendError, "s", Some(ErrorKind::Timeout))]);

    adapter.put_next(Verb::Get, 1, Fault::Corrupt);
    assert_eq!(cache.get::<u8>("k").await?, None, "damaged bytes are a miss");
    assert_eq!(read(), [entry(EventKind::DecodeError, "k", Some(ErrorKind::Decode))]);
    adapter.put_next(Verb::GetMany, 1, Fault::Corrupt);
    assert_eq!(cache.get_many::<u8, _>(["k", "x"]).await?, [None, None]);
    assert_eq!(read().len(), 2);

    cache.namespace("n").get_or_set("k", 1u8).await?;
    assert_eq!(read(), [entry(EventKind::Load, "k", None)], "the observer belongs to the whole cache");
    cache.clone().swap_adapter("memory")?;
    assert_eq!(read(), [(EventKind::Swap, "memory".to_owned(), None, None)]);
    Ok(())
}

#[tokio::test]
async fn an_observer_that_panics_hurts_nobody() -> larder::Result<()> {
    let cache = fresh();
    cache.observe(|_| panic!("an observer panics"));
    let log = watch(&cache);
    assert_eq!(cache.get_or_set_async("a", async { 1u8 }).await?, 1);
    assert_eq!(cache.get_or_set("b", 2u8).await?, 2);
    cache.swap_adapter("memory")?;
    cache.reset_adapter().await?;
    assert_eq!(cache.get_or_set("a", 3u8).await?, 3);
    assert_eq!(log.lock().unwrap().len(), 5, "the observers after it hear everything");
    Ok(())
}

#[tokio::test]
async fn an_observer_may_use_the_cache() -> larder::Result<()> {
    let cache = fresh();
    let inner = cache.clone();
    cache.observe(move |event| {
        if event.kind == EventKind::Load && event.key != Some("seen") {
            inner.blocking().set("seen", 1u8).unwrap();
            inner.observe(|_| {});
        }
    });
    assert_eq!(cache.get_or_set("k", 5u8).await?, 5);
    assert_eq!(cache.get_or_set_async("l", async { 6u8 }).await?, 6);
    assert_eq!(cache.get("seen").await?, Some(1u8));
    Ok(())
}
