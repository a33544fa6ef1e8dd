//! Functions whose cache, load or time fails.

use super::{AppError, PATIENCE, Source, memory};
use crate::trials::within;
use futures_util::future::join_all;
use larder::testing::{Fault, FaultyAdapter, Verb};
use larder::{
    AsyncCacheAdapter, AsyncCacheWrapper, AsyncMemoryCache, CacheWrapper, ErrorKind, cached,
};
use std::sync::Arc;
use std::time::Duration;

#[cached(key = "plain:{id}", cache = cache, skip(source), hard_timeout = "20ms")]
async fn plain(cache: &AsyncCacheWrapper, source: Source, id: String) -> String {
    format!("{id} {}", source.load().await)
}

#[cached(key = "plain:{id}", cache = cache, skip(source), here, hard_timeout = "20ms")]
async fn here(cache: &AsyncCacheWrapper, source: Source, id: String) -> String {
    format!("{id} {}", source.load().await)
}

#[cached(key = "plain:{id}", cache = cache, skip(source))]
fn blocking(cache: &CacheWrapper, source: &Source, id: &str) -> String {
    format!("{id} {}", source.count())
}

#[cached(key = "plain:{id}", cache = cache, skip(source), hard_timeout = "20ms")]
async fn fallible(cache: &AsyncCacheWrapper, source: &Source, id: u64) -> Result<u32, AppError> {
    Ok(source.load().await + u32::from(id == 0))
}

/// Without fail-open, over a backend that is away.
fn broken() -> AsyncCacheWrapper {
    let adapter = FaultyAdapter::new(AsyncMemoryCache::new());
    adapter.put_on_all(Fault::Fail(ErrorKind::Unavailable));
    let adapter: Arc<dyn AsyncCacheAdapter> = Arc::new(adapter);
    AsyncCacheWrapper::new(adapter).unwrap().with_fail_open(false)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn functions_that_cannot_fail_go_on_without_the_cache() {
    let (cache, source) = (broken(), Source::open());
    assert_eq!(plain(&cache, source.clone(), "a".to_owned()).await, "a 1");
    assert_eq!(here(&cache, source.clone(), "a".to_owned()).await, "a 2");
    let (blocking_cache, counted) = (cache.blocking(), source.clone());
    let call = move || blocking(&blocking_cache, &counted, "a");
    assert_eq!(tokio::task::spawn_blocking(call).await.unwrap(), "a 3");
    let error = fallible(&cache, &source, 1).await.unwrap_err();
    assert_eq!(error, AppError::Cache(ErrorKind::Unavailable));
    assert_eq!(source.runs(), 3, "a function that can say so did not run");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_cannot_be_stored_reaches_its_caller() {
    let adapter = Arc::new(FaultyAdapter::new(AsyncMemoryCache::new()));
    adapter.put(Verb::Set, Fault::Fail(ErrorKind::TooLarge));
    adapter.put(Verb::SetClaimed, Fault::Fail(ErrorKind::TooLarge));
    let cache = AsyncCacheWrapper::new(adapter as Arc<dyn AsyncCacheAdapter>).unwrap();
    let (strict, source) = (cache.clone().with_fail_open(false), Source::open());
    assert_eq!(fallible(&cache, &source, 1).await, Ok(1));
    assert_eq!(plain(&strict, source.clone(), "a".to_owned()).await, "a 2");
    assert_eq!(here(&strict, source.clone(), "a".to_owned()).await, "a 3");
    let refused = fallible(&strict, &source, 1).await;
    assert_eq!(refused, Err(AppError::Cache(ErrorKind::TooLarge)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_that_cannot_fail_waits_for_the_load_that_it_gave_up() {
    for is_here in [false, true] {
        let (cache, source) = (memory(), Source::closed());
        let (calls, counted) = (cache.clone(), source.clone());
        let call = tokio::spawn(async move {
            let id = "a".to_owned();
            if is_here { here(&calls, counted, id).await } else { plain(&calls, counted, id).await }
        });
        crate::trials::eventually("the load begins", || source.runs() == 1).await;
        if !is_here {
            let late = fallible(&cache, &source, 1).await;
            assert_eq!(late, Err(AppError::Cache(ErrorKind::Timeout)));
        }
        tokio::time::sleep(Duration::from_millis(40)).await;
        source.let_go();
        assert_eq!(within(PATIENCE, "its value", call).await.unwrap(), "a 1");
    }
}

#[cached(key = "panics:{id}", cache = cache, skip(source))]
async fn panics(cache: &AsyncCacheWrapper, source: &Source, id: u64) -> u64 {
    source.load().await;
    assert!(id > 0, "there is no user {id}");
    id
}

#[cached(key = "panics here:{id}", cache = cache, here)]
async fn panics_here(cache: &AsyncCacheWrapper, id: u64) -> u64 {
    assert!(id > 0, "there is no user {id}");
    id
}

#[cached(key = "panics in a result:{id}", cache = cache)]
async fn panics_in_a_result(cache: &AsyncCacheWrapper, id: u64) -> Result<u64, AppError> {
    assert!(id > 0, "there is no user {id}");
    Ok(id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_panics_panics_in_each_caller_with_its_words() {
    let (cache, source) = (memory(), Source::closed());
    let calls = (0..10).map(|at| {
        let (cache, source) = (cache.clone(), source.clone());
        tokio::spawn(async move {
            if at == 0 { panics_here(&cache, 0).await } else { panics(&cache, &source, 0).await }
        })
    });
    let calls: Vec<_> = calls.collect();
    crate::trials::eventually("they wait", || cache.stats().joined == 8).await;
    source.let_go();
    for call in join_all(calls).await {
        let panic = call.unwrap_err().into_panic();
        assert_eq!(panic.downcast_ref::<String>().unwrap(), "there is no user 0");
    }
    assert_eq!(source.runs(), 1);
    let error = panics_in_a_result(&cache, 0).await.unwrap_err();
    assert_eq!(error, AppError::Cache(ErrorKind::Panic));
    assert_eq!(panics(&cache, &source, 1).await, 1);
}

#[cached(cache = cache, skip(cache, source))]
async fn floats(cache: &AsyncCacheWrapper, source: &Source, number: f64) -> u32 {
    source.load().await + u32::from(number == 0.0)
}

#[cached(cache = cache, skip(cache, source))]
async fn try_floats(
    cache: &AsyncCacheWrapper,
    source: &Source,
    number: f64,
) -> Result<u32, AppError> {
    Ok(source.load().await + u32::from(number == 0.0))
}

#[tokio::test]
async fn an_argument_that_cannot_be_part_of_a_key_is_never_cached() {
    let (cache, source) = (memory(), Source::open());
    assert_eq!((floats(&cache, &source, 1.5).await, floats(&cache, &source, 1.5).await), (1, 1));
    for (at, number) in [(2, f64::NAN), (3, f64::NAN), (4, f64::INFINITY)] {
        assert_eq!(floats(&cache, &source, number).await, at);
    }
    let refused = AppError::Cache(ErrorKind::InvalidKey);
    assert_eq!(try_floats(&cache, &source, f64::NAN).await, Err(refused));
    assert_eq!(floats::key(f64::NAN), "");
    let error = floats::invalidate(&cache, f64::NAN).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidKey);
}
