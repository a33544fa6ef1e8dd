//! What a load comes to, for each of those who wait: the value, and what became of storing it.

use super::{Runs, faulty, fresh};
use crate::trials::{eventually, within};
use futures_util::future::{BoxFuture, join_all};
use larder::testing::{Fault, Verb};
use larder::{AsyncCacheWrapper, ErrorKind, EventKind};
use serde::ser::Error as _;
use serde::{Deserialize, Serialize, Serializer};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::Notify;

const MS: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(20);

/// A leader and two followers, one of whom goes on without a backend and one of whom does not.
async fn answers(
    cache: &AsyncCacheWrapper,
    leader_fails_open: bool,
) -> [Result<u64, ErrorKind>; 3] {
    let (runs, go) = (Runs::default(), Arc::new(Notify::new()));
    let call = |fails_open: bool| {
        let (cache, runs, go) = (cache.clone(), runs.clone(), go.clone());
        tokio::spawn(async move {
            let loader = async move {
                runs.add();
                go.notified().await;
                7u64
            };
            let call = cache.fail_open(fails_open).get_or_set_async("k", loader);
            call.await.map_err(|error| error.kind())
        })
    };
    let joined = super::events_of(cache, EventKind::Joined);
    let leader = call(leader_fails_open);
    eventually("the load begins", || runs.count() == 1).await;
    let followers = [call(true), call(false)];
    eventually("they follow", || joined.count() == 2).await;
    go.notify_one();
    let [open, strict] = followers;
    let answers = [leader.await.unwrap(), open.await.unwrap(), strict.await.unwrap()];
    assert_eq!(runs.count(), 1, "one load for all");
    answers
}

#[tokio::test]
async fn each_caller_decides_what_a_failed_store_is_to_it() {
    for leader_fails_open in [true, false] {
        let (cache, adapter) = faulty();
        adapter.put(Verb::Set, Fault::Fail(ErrorKind::Unavailable));
        let leader = if leader_fails_open { Ok(7) } else { Err(ErrorKind::Unavailable) };
        assert_eq!(
            within(PATIENCE, "the answers", answers(&cache, leader_fails_open)).await,
            [leader, Ok(7), Err(ErrorKind::Unavailable)]
        );
    }
}

/// A value that `serde` is emitted to fail or panic about.
#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Unencodable {
    panics: bool,
}

impl Serialize for Unencodable {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        if self.panics { panic!("not to be written") } else { Err(S::Error::custom("no form")) }
    }
}

fn caches() -> [AsyncCacheWrapper; 3] {
    let [plain, encoded] = super::plain_and_encoded();
    [plain, encoded, faulty().0]
}

#[tokio::test]
async fn a_value_that_cannot_be_encoded_reaches_its_caller() {
    for cache in caches() {
        let emitted = Arc::new(Mutex::new(Vec::new()));
        let collecting = emitted.clone();
        cache.observe(move |event| {
            if event.kind == EventKind::BackendError {
                collecting.lock().unwrap().push(event.error.map(larder::Error::kind));
            }
        });
        let value = Unencodable { panics: false };
        let runs = Runs::default();
        let calls = (0..10).map(|_| {
            let (value, runs) = (value.clone(), runs.clone());
            cache.get_or_set_async("k", async move {
                runs.add();
                tokio::time::sleep(20 * MS).await;
                value
            })
        });
        for answer in within(PATIENCE, "the answers", join_all(calls)).await {
            assert_eq!(answer.unwrap(), value);
        }
        assert_eq!(
            (runs.count(), emitted.lock().unwrap().as_slice()),
            (1, &[Some(ErrorKind::Encode)][..])
        );
        assert_eq!(cache.get_or_set_with("c", |_| value.clone()).await.unwrap(), value);
        assert_eq!(cache.skip_none().get_or_set("n", value.clone()).await.unwrap(), value);
        let strict = cache.fail_open(false).get_or_set("k", value);
        assert_eq!(strict.await.unwrap_err().kind(), ErrorKind::Encode);
        assert!(!cache.contains("k").await.unwrap());
    }
}

#[tokio::test]
async fn a_value_whose_encoding_panics_is_one_load_and_a_panic_for_all() {
    for cache in caches() {
        let runs = Runs::default();
        let calls = (0..100).map(|_| {
            let runs = runs.clone();
            cache.get_or_set_async("k", async move {
                runs.add();
                tokio::time::sleep(20 * MS).await;
                Unencodable { panics: true }
            })
        });
        for answer in within(PATIENCE, "the answers", join_all(calls)).await {
            assert_eq!(answer.unwrap_err().kind(), ErrorKind::Panic);
        }
        assert_eq!(runs.count(), 1);
        let closure = cache.get_or_set_with("k", |_| Unencodable { panics: true });
        assert_eq!(closure.await.unwrap_err().kind(), ErrorKind::Panic);
        let skipped = cache.skip_none().get_or_set("k", Unencodable { panics: true });
        assert_eq!(skipped.await.unwrap_err().kind(), ErrorKind::Panic);
        assert_eq!(cache.get_or_set("k", 5u64).await.unwrap(), 5, "the next call runs at once");
    }
}

/// A loader that has its value, and panics when it is dropped.
struct Bomb {
    loader: BoxFuture<'static, u64>,
    is_armed: bool,
}

impl Future for Bomb {
    type Output = u64;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<u64> {
        let polled = self.loader.as_mut().poll(cx);
        self.is_armed = polled.is_ready();
        polled
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(!self.is_armed, "dropped");
    }
}

/// What a loader's future holds is dropped when it is done, and a panic there ends nothing else.
#[tokio::test]
async fn a_loader_that_panics_when_it_is_dropped() {
    let (cache, runs) = (fresh(), Runs::default());
    let calls = (0..10).map(|_| {
        let runs = runs.clone();
        let loader = Box::pin(async move {
            runs.add();
            tokio::time::sleep(20 * MS).await;
            7u64
        });
        cache.get_or_set_async("k", Bomb { loader, is_armed: false })
    });
    for answer in within(PATIENCE, "the answers", join_all(calls)).await {
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::Panic);
    }
    assert_eq!(runs.count(), 1);
    assert_eq!(cache.get_or_set("k", 5u64).await.unwrap(), 5);
}
