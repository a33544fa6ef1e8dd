//! Closures that fail and loads that stay in their callers, on stores that other processes write
//! to.

use super::{PATIENCE, on_each_store};
use crate::claims::Shared;
use larder::{AsyncCacheWrapper, ErrorKind};
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

/// Longer than any test: a lease that is not given back is seen.
const LEASE: Duration = Duration::from_secs(3_000);

on_each_store!(
    a_dropped_caller_gives_its_lease_back,
    a_caller_dropped_before_it_has_its_lease_leaves_none,
    a_closure_that_fails_gives_its_lease_back,
    a_removal_elsewhere_is_not_undone,
);

fn two(shared: &Shared) -> [AsyncCacheWrapper; 2] {
    [shared.cache(), shared.cache()].map(|cache| cache.with_lease(LEASE))
}

async fn is_free(cache: &AsyncCacheWrapper, key: &str) {
    let next = tokio::time::timeout(PATIENCE, cache.get_or_set(key, 5u64));
    assert_eq!(next.await.expect("the lease is still held").unwrap(), 5);
}

async fn a_dropped_caller_gives_its_lease_back(shared: Shared) {
    let [first, second] = two(&shared);
    for key in ["a", "b", "c"] {
        let loads = tokio::sync::Notify::new();
        {
            let call = first.get_or_load_here(key, || async {
                loads.notify_one();
                std::future::pending::<u64>().await
            });
            tokio::select! {
                _ = call => panic!("it loads for ever"),
                () = loads.notified() => {}
            }
        }
        is_free(&second, key).await;
    }
}

/// At every point of the way to the loader.
async fn a_caller_dropped_before_it_has_its_lease_leaves_none(shared: Shared) {
    let [first, second] = two(&shared);
    for polls in 1..12 {
        let key = format!("k{polls}");
        {
            let mut here = pin!(first.get_or_load_here(&key, std::future::pending::<u64>));
            let mut closure = pin!(first.get_or_set_with(format!("with {key}"), |_| 5u64));
            for _ in 0..polls {
                assert!(poll(here.as_mut()).is_pending());
                if poll(closure.as_mut()).is_ready() {
                    break;
                }
                tokio::time::sleep(Duration::from_micros(300)).await;
            }
        }
        is_free(&second, &key).await;
        is_free(&second, &format!("with {key}")).await;
    }
}

fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> std::task::Poll<()> {
    future.poll(&mut Context::from_waker(Waker::noop())).map(drop)
}

async fn a_closure_that_fails_gives_its_lease_back(shared: Shared) {
    let [first, second] = two(&shared);
    let error = first.try_get_or_set_with("with", |key| key.parse::<u64>()).await.unwrap_err();
    assert!(error.load_error::<std::num::ParseIntError>().is_some());
    is_free(&second, "with").await;
    let panics = |_: &str| -> Result<u64, String> { panic!("no value") };
    let error = first.try_get_or_set_with("panics", panics).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Panic);
    is_free(&second, "panics").await;
    let error = first.try_get_or_load("load", || async { "x".parse::<u64>() }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Load);
    is_free(&second, "load").await;
    let fails = || async { "x".parse::<u64>() };
    assert_eq!(
        first.try_get_or_load_here("here", fails).await.unwrap_err().kind(),
        ErrorKind::Load
    );
    is_free(&second, "here").await;
}

async fn a_removal_elsewhere_is_not_undone(shared: Shared) {
    let [first, second] = [shared.cache(), shared.cache()];
    let here = || async {
        second.remove("here").await.unwrap();
        1u64
    };
    assert_eq!(first.get_or_load_here("here", here).await.unwrap(), 1);
    let remover = second.clone();
    let load = || async move {
        remover.remove("load").await.unwrap();
        1u64
    };
    assert_eq!(first.get_or_load("load", load).await.unwrap(), 1);
    let closure = |_: &str| second.blocking().remove("with").map(|_| 1u64);
    assert_eq!(first.try_get_or_set_with("with", closure).await.unwrap(), 1);
    let left = second.get_many::<u64, _>(["here", "load", "with"]).await.unwrap();
    assert_eq!(left, [None; 3]);
    assert_eq!(first.get_or_load_here("here", || async { 2u64 }).await.unwrap(), 2);
    assert_eq!(second.get("here").await.unwrap(), Some(2u64), "the next load is stored");
}
