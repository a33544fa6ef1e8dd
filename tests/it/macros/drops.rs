//! Callers that go away midway, in each form: nothing stays stuck, and a later call has its value.

use super::{AppError, PATIENCE, Source, on_each_backend};
use crate::trials::{eventually, within};
use larder::{AsyncCacheWrapper, async_trait, cached, evicts, puts};
use std::pin::pin;
use std::task::Poll;

on_each_backend!(
    a_load_with_a_task_goes_on_without_its_caller,
    a_load_in_its_caller_ends_with_it,
    a_writer_that_goes_away_midway_removes_in_a_task,
    what_a_writer_has_made_is_stored_without_it,
);

#[cached(key = "detached:{id}", cache = cache, skip(source))]
async fn detached(cache: &AsyncCacheWrapper, source: &Source, id: u64) -> Result<u32, AppError> {
    Ok(source.load().await + u32::from(id == 0))
}

#[cached(key = "here:{id}", cache = cache, skip(source), here)]
async fn here(cache: &AsyncCacheWrapper, source: &mut Source, id: u64) -> u32 {
    source.load().await + u32::from(id == 0)
}

#[derive(Clone)]
struct Shop {
    cache: AsyncCacheWrapper,
    source: Source,
}

#[async_trait]
trait Stock {
    async fn stock(&self, id: u64) -> u32;
}

#[async_trait]
impl Stock for Shop {
    #[cached(key = "stock:{id}", cache = self.cache)]
    async fn stock(&self, id: u64) -> u32 {
        self.source.load().await + u32::from(id == 0)
    }
}

/// Polls a call until `holds`, and drops it.
pub(super) async fn drop_when(call: impl Future, holds: impl Fn() -> bool) {
    let mut call = pin!(call);
    let until = std::future::poll_fn(|cx| match call.as_mut().poll(cx) {
        Poll::Ready(_) => panic!("it is over already"),
        Poll::Pending if holds() => Poll::Ready(()),
        Poll::Pending => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    });
    within(PATIENCE, "the load begins", until).await;
}

async fn a_load_with_a_task_goes_on_without_its_caller(cache: AsyncCacheWrapper) {
    let source = Source::closed();
    drop_when(detached(&cache, &source, 1), || source.runs() == 1).await;
    source.let_go();
    assert_eq!(within(PATIENCE, "its value", detached(&cache, &source, 1)).await, Ok(1));
    assert_eq!(source.runs(), 1);
}

async fn a_load_in_its_caller_ends_with_it(cache: AsyncCacheWrapper) {
    let source = Source::closed();
    let mut own = source.clone();
    drop_when(here(&cache, &mut own, 1), || source.runs() == 1).await;
    let boxed = Source::closed();
    let shop = Shop { cache: cache.clone(), source: boxed.clone() };
    drop_when(shop.stock(1), || boxed.runs() == 1).await;
    source.let_go();
    boxed.let_go();
    assert_eq!(within(PATIENCE, "a new load", here(&cache, &mut own, 1)).await, 2);
    assert_eq!(within(PATIENCE, "a new load", shop.stock(1)).await, 2);
    assert_eq!((here(&cache, &mut own, 1).await, shop.stock(1).await), (2, 2));
}

#[evicts("entry", cache = cache)]
async fn change(cache: &AsyncCacheWrapper, source: &Source) -> Result<u32, AppError> {
    Ok(source.load().await)
}

#[evicts("entry", cache = cache)]
async fn panics(cache: &AsyncCacheWrapper, number: u32) -> u32 {
    assert!(number > 0, "the body panics");
    number
}

async fn a_writer_that_goes_away_midway_removes_in_a_task(cache: AsyncCacheWrapper) {
    let source = Source::closed();
    cache.set("entry", 1).await.unwrap();
    drop_when(change(&cache, &source), || source.runs() == 1).await;
    gone(&cache).await;
    cache.set("entry", 1).await.unwrap();
    let call = cache.clone();
    assert!(tokio::spawn(async move { panics(&call, 0).await }).await.unwrap_err().is_panic());
    gone(&cache).await;
}

async fn gone(cache: &AsyncCacheWrapper) {
    let gone = async {
        while cache.contains("entry").await.unwrap() {
            tokio::task::yield_now().await;
        }
    };
    within(PATIENCE, "the entry is removed", gone).await;
}

#[puts("made:{result}", cache = cache)]
async fn make(cache: &AsyncCacheWrapper, source: &Source) -> u32 {
    source.load().await
}

async fn what_a_writer_has_made_is_stored_without_it(cache: AsyncCacheWrapper) {
    let source = Source::open();
    {
        let mut call = pin!(make(&cache, &source));
        // One poll runs the body. On memory the write may already be over.
        let polled = std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await;
        let _ = polled;
    }
    assert_eq!(source.runs(), 1);
    let stored = async {
        while cache.get::<u32>("made:1").await.unwrap() != Some(1) {
            tokio::task::yield_now().await;
        }
    };
    within(PATIENCE, "the value is stored", stored).await;
    eventually("nothing is left", || source.runs() == 1).await;
}
