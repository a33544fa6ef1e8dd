//! Tests of `FaultyAdapter`, for each verb.

use super::store::Store;
use crate::adapter::{AsyncCacheAdapter, Claim, Entry};
use crate::error::ErrorKind;
use crate::expiry::Expiry;
use crate::testing::{Fault, FaultyAdapter, Verb, conformance};
use crate::value::CacheValue;
use futures_util::FutureExt;
use std::sync::Arc;
use std::time::Duration;

conformance!(without_faults, FaultyAdapter::new(Store::new()));

/// Calls a verb with arguments that succeed on an empty store.
async fn call(adapter: &dyn AsyncCacheAdapter, verb: Verb) -> crate::error::Result<()> {
    let (one, soon) = (|| CacheValue::new(1), Expiry::Default);
    match verb {
        Verb::Get => adapter.get("k").await.map(drop),
        Verb::Set => adapter.set("k", one(), soon).await,
        Verb::Remove => adapter.remove("k").await.map(drop),
        Verb::UpdateTimeout => adapter.update_timeout("k", soon).await.map(drop),
        Verb::Clear => adapter.clear("").await,
        Verb::Add => adapter.add("k", one(), soon).await.map(drop),
        Verb::Replace => adapter.replace("k", one(), soon).await.map(drop),
        Verb::Incr => adapter.incr("k", 1, soon).await.map(drop),
        Verb::Take => adapter.take("k").await.map(drop),
        Verb::Expiry => adapter.expiry("k").await.map(drop),
        Verb::Contains => adapter.contains("k").await.map(drop),
        Verb::Touch => adapter.touch("k", soon).await.map(drop),
        Verb::GetMany => adapter.get_many(&["k"]).await.map(drop),
        Verb::SetMany => adapter.set_many(&[Entry::new("k", one(), soon)]).await.map(drop),
        Verb::RemoveMany => adapter.remove_many(&["k"]).await.map(drop),
        Verb::Keys => adapter.keys("", None).await.map(drop),
        Verb::Claim => adapter.claim("k", None).await.map(drop),
        Verb::SetClaimed => {
            adapter.set_claimed("k", one(), soon, &Claim::unguarded()).await.map(drop)
        }
        Verb::Release => adapter.release("k", &Claim::unguarded()).await,
        Verb::Connect => adapter.connect().await,
        Verb::Ping => adapter.ping().await,
        Verb::Close => adapter.close().await,
        Verb::Reconnect => adapter.reconnect().await,
        Verb::Rebuild => adapter.rebuild().map(drop),
    }
}

#[tokio::test]
async fn every_verb_fails_is_counted_and_heals() {
    let faulty = FaultyAdapter::new(Store::new());
    for verb in Verb::ALL {
        faulty.put(*verb, Fault::Fail(ErrorKind::Unavailable));
        for other in Verb::ALL {
            let answer = call(&faulty, *other).await.map_err(|error| (error.kind(), error.op()));
            assert_eq!(
                answer,
                if other == verb {
                    Err((ErrorKind::Unavailable, Some(verb.name())))
                } else {
                    Ok(())
                },
                "{other} with a fault on {verb}"
            );
        }
        faulty.heal(*verb);
        assert!(call(&faulty, *verb).await.is_ok(), "{verb} after it was healed");
    }
    let rounds = Verb::ALL.len() as u64;
    for verb in Verb::ALL {
        assert_eq!(faulty.calls(*verb), rounds + 1, "calls of {verb}");
    }
    assert_eq!(faulty.all_calls(), rounds * (rounds + 1));
    faulty.reset_calls();
    assert_eq!(faulty.all_calls(), 0);
}

#[tokio::test]
async fn the_next_calls_and_no_more() {
    let faulty = FaultyAdapter::new(Store::new());
    faulty.put_next(Verb::Get, 2, Fault::Fail(ErrorKind::Timeout));
    let answers = [
        faulty.get("k").await.is_err(),
        faulty.get("k").await.is_err(),
        faulty.get("k").await.is_err(),
    ];
    assert_eq!(answers, [true, true, false]);
}

#[tokio::test]
async fn failing_before_and_after() {
    let faulty = FaultyAdapter::new(Store::new());
    faulty.put(Verb::Set, Fault::Fail(ErrorKind::Timeout));
    assert!(call(&faulty, Verb::Set).await.is_err());
    assert!(!faulty.contains("k").await.unwrap());
    faulty.put(Verb::Set, Fault::FailAfter(ErrorKind::Timeout));
    assert!(call(&faulty, Verb::Set).await.is_err());
    assert!(faulty.contains("k").await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn hanging_and_delay() {
    let faulty = FaultyAdapter::new(Store::new());
    for verb in Verb::ALL.iter().filter(|verb| **verb != Verb::Rebuild) {
        faulty.put(*verb, Fault::Hang);
        assert!(
            tokio::time::timeout(Duration::from_secs(3_600), call(&faulty, *verb)).await.is_err(),
            "{verb}"
        );
        let started = tokio::time::Instant::now();
        faulty.put(*verb, Fault::Delay(Duration::from_secs(7)));
        assert!(call(&faulty, *verb).await.is_ok(), "{verb}");
        assert!(started.elapsed() >= Duration::from_secs(7), "{verb}");
        faulty.heal_all();
    }
}

#[tokio::test]
async fn damaged_values_are_unreadable() {
    let faulty = FaultyAdapter::new(Store::new());
    faulty.put_on_all(Fault::Corrupt);
    assert!(faulty.get("k").await.unwrap().is_none(), "what is missing is not damaged");
    call(&faulty, Verb::Set).await.unwrap();
    let found = [
        faulty.get("k").await.unwrap().unwrap(),
        faulty.update_timeout("k", Expiry::Default).await.unwrap().unwrap(),
        faulty.get_many(&["k"]).await.unwrap().remove(0).unwrap().unwrap(),
        faulty.take("k").await.unwrap().unwrap(),
    ];
    for value in found {
        assert!(value.is_unreadable() && !value.is_misdirected());
        assert_eq!(value.decode::<i64>().unwrap_err().kind(), ErrorKind::Decode);
    }
}

#[tokio::test]
async fn answers_at_once_only_without_a_fault() {
    let faulty = FaultyAdapter::new(Store::new());
    assert!(faulty.get_if_ready("k", &mut |_| ()).is_ready());
    assert_eq!(faulty.calls(Verb::Get), 1);
    faulty.put_next(Verb::Get, 1, Fault::Delay(Duration::ZERO));
    assert!(faulty.get_if_ready("k", &mut |_| ()).is_pending());
    assert!(faulty.get("k").await.unwrap().is_none());
    assert!(faulty.get_if_ready("k", &mut |_| ()).is_ready());
    assert_eq!(faulty.calls(Verb::Get), 3);
}

#[tokio::test]
async fn a_rebuilt_one_and_a_shared_one_obey_the_same_switches() {
    let faulty = Arc::new(FaultyAdapter::new(Store::new()));
    let (rebuilt, shared): (_, Arc<dyn AsyncCacheAdapter>) =
        (faulty.rebuild().unwrap(), faulty.clone());
    faulty.put(Verb::Ping, Fault::Fail(ErrorKind::Unavailable));
    assert!(rebuilt.ping().await.is_err() && shared.ping().await.is_err());
    assert_eq!(faulty.calls(Verb::Ping), 2);
    drop(faulty.ping().now_or_never());
    assert_eq!(faulty.calls(Verb::Ping), 3);
}
