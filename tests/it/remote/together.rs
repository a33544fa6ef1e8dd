//! Waiting calls share a batch, and no answer changes.

use super::{Cache, Remote, Setup, on_each, put, text, value_of};
use crate::support::turns::turn;
use futures_util::future::join_all;
use larder::{AsyncCacheAdapter, CacheValue, ErrorKind, Expiry};
use std::time::Duration;

on_each!(
    async many_callers_are_answered_rightly,
    each_caller_reads_what_it_wrote,
    who_gives_up_leaves_the_batch_whole,
    a_key_that_fails_does_not_fail_its_companions,
);

const KEYS: usize = 200;

/// Alone as long as possible, always together, never together.
fn setups() -> [Setup; 3] {
    [Setup::patient(), Setup::patient().batch_above(0), Setup::patient().max_batch(1)]
}

async fn fill(cache: &Cache) {
    for key in 0..KEYS {
        let key = format!("k{key}");
        put(cache, &key, &value_of(&key)).await.unwrap();
    }
}

async fn many_callers_are_answered_rightly<S: Remote>() {
    let _turn = turn();
    let server = S::start();
    for (setup, tasks) in setups().into_iter().zip([1_024, 256, 256]) {
        let cache = server.cache(setup);
        fill(&cache).await;
        let callers = (0..tasks).map(|task| {
            let cache = cache.clone();
            tokio::spawn(async move {
                for call in 0..20 {
                    // Every fifth key is missing.
                    let number = (task * 7 + call * 31) % (KEYS * 5 / 4);
                    let key = format!("k{number}");
                    let expected = (number < KEYS).then(|| value_of(&key));
                    assert_eq!(text(&cache, &key).await.unwrap(), expected, "{key}");
                }
            })
        });
        for caller in callers.collect::<Vec<_>>() {
            caller.await.unwrap();
        }
    }
}

async fn each_caller_reads_what_it_wrote<S: Remote>() {
    let _turn = turn();
    let server = S::start();
    for setup in setups() {
        let cache = server.cache(setup);
        let callers = (0..256).map(|task| {
            let cache = cache.clone();
            tokio::spawn(async move {
                let key = format!("own{task}");
                for round in 0..8 {
                    put(&cache, &key, &format!("{task}-{round}")).await.unwrap();
                    assert_eq!(text(&cache, &key).await.unwrap(), Some(format!("{task}-{round}")));
                    if round % 3 == 2 {
                        assert!(cache.remove(&key).await.unwrap(), "{key} in round {round}");
                        assert_eq!(text(&cache, &key).await.unwrap(), None);
                        assert!(!cache.remove(&key).await.unwrap());
                    }
                    let lives = Expiry::After(Duration::from_secs(60));
                    let entry = larder::Entry::new(&key, CacheValue::new("batch"), lives);
                    cache.set_many(&[entry]).await.unwrap().remove(0).unwrap();
                    assert_eq!(text(&cache, &key).await.unwrap().as_deref(), Some("batch"));
                }
            })
        });
        for caller in callers.collect::<Vec<_>>() {
            caller.await.unwrap();
        }
    }
}

/// Callers are dropped at any moment, beside many others. Each that stays has the right answer.
async fn who_gives_up_leaves_the_batch_whole<S: Remote>() {
    let _turn = turn();
    let server = S::start();
    let cache = server.cache(Setup::patient().batch_above(0));
    fill(&cache).await;
    let before = server.accepted();
    let callers = (0..200).map(|task| {
        let cache = cache.clone();
        tokio::spawn(async move {
            let mut gone = 0;
            for call in 0..100 {
                let key = format!("k{}", (task * 7 + call * 31) % KEYS);
                let call = async {
                    if call % 4 == 0 {
                        put(&cache, &key, &value_of(&key)).await.unwrap();
                    }
                    assert_eq!(text(&cache, &key).await.unwrap(), Some(value_of(&key)));
                };
                let mut call = Box::pin(call);
                let mut polls = fastrand::u32(1..8);
                // Dropped after some polls: cuts by the clock fall where a timer ticks.
                let patience = std::future::poll_fn(|cx| {
                    polls -= 1;
                    match call.as_mut().poll(cx) {
                        std::task::Poll::Pending if polls > 0 => {
                            cx.waker().wake_by_ref();
                            std::task::Poll::Pending
                        }
                        poll => std::task::Poll::Ready(poll.is_pending()),
                    }
                });
                gone += usize::from(patience.await);
            }
            gone
        })
    });
    let mut gone = 0;
    for caller in callers.collect::<Vec<_>>() {
        gone += caller.await.unwrap();
    }
    for key in 0..KEYS {
        let key = format!("k{key}");
        assert_eq!(text(&cache, &key).await.unwrap(), Some(value_of(&key)));
    }
    println!(
        "{}: {gone} of 20,000 calls were dropped in batches, no wrong value, {} new connections",
        S::KIND,
        server.accepted() - before
    );
    assert!(gone > 1_000, "only {gone} were given up");
}

/// Of many calls in a batch one has no key, one cannot be encoded, and one is too large.
async fn a_key_that_fails_does_not_fail_its_companions<S: Remote>() {
    let server = S::start();
    for setup in setups() {
        let cache = server.cache(setup.max_value_bytes(10_000));
        let good = join_all((0..60).map(|n| {
            let cache = &cache;
            async move { put(cache, &format!("good{n}"), &value_of(&format!("good{n}"))).await }
        }));
        let huge = "x".repeat(20_000);
        let (empty, odd, large, good) = tokio::join!(
            cache.set("", CacheValue::new("no key"), Expiry::Default),
            cache.set("odd", CacheValue::new(Some(())), Expiry::Default),
            put(&cache, "large", &huge),
            good,
        );
        assert_eq!(empty.unwrap_err().kind(), ErrorKind::InvalidKey);
        assert_eq!(odd.unwrap_err().kind(), ErrorKind::Encode);
        assert_eq!(large.unwrap_err().kind(), ErrorKind::TooLarge);
        good.into_iter().for_each(|stored| stored.unwrap());
        for n in 0..60 {
            let key = format!("good{n}");
            assert_eq!(text(&cache, &key).await.unwrap(), Some(value_of(&key)));
        }
    }
}
