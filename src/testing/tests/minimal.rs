//! An adapter with only the five required methods, and a suite with the other verbs excepted.

use crate::adapter::AsyncCacheAdapter;
use crate::codec::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::expiry::{Expiry, Lifetime};
use crate::runtime::lock;
use crate::testing::{CASES, Fault, FaultyAdapter, Suite, Verb, conformance};
use crate::value::CacheValue;
use async_trait::async_trait;
use futures_util::future::join_all;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The first version of an author's adapter.
#[derive(Default)]
struct Minimal(Mutex<HashMap<String, (CacheValue, Option<Instant>)>>);

fn deadline(expiry: Expiry) -> Option<Instant> {
    match expiry.resolve(Lifetime::default()) {
        Lifetime::Never => None,
        Lifetime::For(lasting) => Instant::now().checked_add(lasting),
    }
}

fn live(deadline: &Option<Instant>) -> bool {
    deadline.is_none_or(|deadline| Instant::now() < deadline)
}

fn check(key: &str) -> Result<()> {
    if key.is_empty() { Err(Error::new(ErrorKind::InvalidKey)) } else { Ok(()) }
}

#[async_trait]
impl AsyncCacheAdapter for Minimal {
    async fn get(&self, key: &str) -> Result<Option<CacheValue>> {
        check(key)?;
        Ok(lock(&self.0)
            .get(key)
            .filter(|(_, deadline)| live(deadline))
            .map(|(value, _)| value.clone()))
    }

    async fn set(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<()> {
        check(key)?;
        value.encoded_len(Codec::MessagePack)?;
        let gone = lock(&self.0).insert(key.to_owned(), (value, deadline(expiry)));
        // Drop the value after the lock is released, because its `Drop` may use the store.
        drop(gone);
        Ok(())
    }

    async fn remove(&self, key: &str) -> Result<bool> {
        check(key)?;
        let gone = lock(&self.0).remove(key);
        Ok(gone.is_some_and(|(value, deadline)| live(&deadline) && !value.is_stale()))
    }

    async fn update_timeout(&self, key: &str, expiry: Expiry) -> Result<Option<CacheValue>> {
        check(key)?;
        let mut map = lock(&self.0);
        let Some((value, ends)) = map.get_mut(key).filter(|(_, deadline)| live(deadline)) else {
            return Ok(None);
        };
        *ends = deadline(expiry);
        Ok(Some(value.clone()))
    }

    async fn clear(&self, prefix: &str) -> Result<()> {
        let gone: Vec<_> = lock(&self.0).extract_if(|key, _| key.starts_with(prefix)).collect();
        drop(gone);
        Ok(())
    }
}

conformance!(
    five_methods,
    Minimal::default(),
    except = [add, replace, incr, take, expiry, rebuild, keys]
);

async fn verdict<A: AsyncCacheAdapter>(
    name: &str,
    fresh: impl AsyncFn() -> A,
    suite: &Suite,
) -> Option<String> {
    let case = CASES.iter().find(|case| case.name() == name).expect("a case of that name");
    case.run(fresh, suite).await.err().map(|failure| failure.to_string())
}

#[tokio::test]
async fn a_verb_that_is_missing_is_noticed() {
    let said =
        verdict("counters::counts", async || Minimal::default(), &Suite::new()).await.unwrap();
    assert!(said.contains("Unsupported"), "{said}");
}

#[tokio::test]
async fn an_excepted_verb_must_say_so() {
    let suite = Suite::new().except([Verb::Add]);
    assert_eq!(verdict("add::live", async || Minimal::default(), &suite).await, None);
    let said = verdict("add::live", async || super::store::Store::new(), &suite).await.unwrap();
    assert!(said.contains("the excepted verb `add`"), "{said}");
}

#[tokio::test]
async fn faults_are_failures_and_hangs_come_to_an_end() {
    let faulty = |fault| {
        let faulty = FaultyAdapter::new(super::store::Store::new());
        faulty.put(Verb::Set, fault);
        faulty
    };
    let said = verdict(
        "basics::overwrite",
        async || faulty(Fault::Fail(ErrorKind::Unavailable)),
        &Suite::new(),
    )
    .await
    .unwrap();
    assert!(said.contains("Unavailable"), "{said}");

    tokio::time::pause();
    let started = tokio::time::Instant::now();
    let said =
        verdict("basics::overwrite", async || faulty(Fault::Hang), &Suite::new()).await.unwrap();
    assert!(said.contains("not done"), "{said}");
    assert!(started.elapsed() <= Duration::from_secs(600));
}

/// Runs all cases at the same time, so that their waits of whole seconds overlap.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_seconds_are_enough_if_the_suite_declares_them() {
    let suite = Suite::new().whole_seconds();
    let cases = CASES.iter().map(|case| async {
        (case.name(), case.run(async || super::store::Store::of_whole_seconds(), &suite).await)
    });
    let failed: Vec<_> = join_all(cases)
        .await
        .into_iter()
        .filter_map(|(name, outcome)| Some((name, outcome.err()?.to_string())))
        .collect();
    assert_eq!(failed, []);
    assert!(
        verdict(
            "expiry::half_a_second",
            async || super::store::Store::of_whole_seconds(),
            &Suite::new()
        )
        .await
        .is_some()
    );
}

#[test]
fn every_case_has_a_name_of_its_own() {
    let mut names: Vec<_> = CASES.iter().map(|case| case.name()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), CASES.len());
    assert!(CASES.iter().all(|case| !case.what().is_empty()));
}
