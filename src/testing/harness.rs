//! The fixture of a case, and its checks.

use super::{Suite, Verb};
use crate::adapter::{AsyncCacheAdapter, Entry};
use crate::error::{Error, ErrorKind, Result};
use crate::expiry::Expiry;
use crate::value::CacheValue;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::ops::Deref;
use std::panic::Location;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// A case that takes longer counts as hanging. On a busy machine the longest cases take a minute.
const CASE_DEADLINE: Duration = Duration::from_secs(300);

/// The longest part of a message that is shown, because some values have megabytes.
const SHOWN: usize = 600;

/// Why an adapter does not pass a case.
#[derive(Clone, Debug)]
pub struct Failure(String);

impl Failure {
    pub(super) fn new(message: impl fmt::Display, at: &Location<'_>) -> Self {
        let mut message = message.to_string();
        if message.len() > SHOWN {
            message.truncate(message.floor_char_boundary(SHOWN));
            message.push('…');
        }
        Self(format!("{message} (checked at {}:{})", at.file(), at.line()))
    }

    pub(super) fn prefixed(self, what: impl fmt::Display) -> Self {
        Self(format!("{what}: {}", self.0))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl From<Error> for Failure {
    #[track_caller]
    fn from(error: Error) -> Self {
        Self::new(format_args!("an error that was not expected: {error:?}"), Location::caller())
    }
}

pub(super) type Outcome<T = ()> = Result<T, Failure>;

/// Runs a case on a runtime of its own, as with `#[tokio::test]`. It has two workers, so that tasks
/// run at the same time.
pub(super) fn run(case: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime for the test");
    let outcome = runtime.block_on(case);
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

/// What comes of the body of a case, if that ends in time.
pub(super) async fn in_time(body: impl Future<Output = Outcome>) -> Outcome {
    match tokio::time::timeout(CASE_DEADLINE, body).await {
        Ok(outcome) => outcome,
        Err(_) => {
            Err(Failure::new(format_args!("not done after {CASE_DEADLINE:?}"), Location::caller()))
        }
    }
}

/// Sleeps, and returns how much longer it took.
async fn oversleep(time: Duration) -> Duration {
    let begun = Instant::now();
    tokio::time::sleep(time).await;
    begun.elapsed().saturating_sub(time)
}

/// `assert!` for cases.
macro_rules! check {
    ($holds:expr, $($what:tt)+) => {
        if !$holds {
            return Err($crate::testing::harness::Failure::new(format_args!($($what)+), ::std::panic::Location::caller()));
        }
    };
}

/// `assert_eq!` for cases: actual value, expected value, description.
macro_rules! check_eq {
    ($got:expr, $expected:expr, $($what:tt)+) => {
        match (&$got, &$expected) {
            (got, expected) => check!(*got == *expected, "{}: got {got:?}, expected {expected:?}", format_args!($($what)+)),
        }
    };
}

/// Checks that an answer is an error of this kind.
macro_rules! check_kind {
    ($answer:expr, $kind:expr, $($what:tt)+) => {
        match $answer {
            Ok(answer) => check!(false, "{}: answered {answer:?} instead of {:?}", format_args!($($what)+), $kind),
            Err(error) => check!(error.kind() == $kind, "{}: {error:?} instead of {:?}", format_args!($($what)+), $kind),
        }
    };
}

pub(super) use {check, check_eq, check_kind};

/// An adapter under test.
#[derive(Clone)]
pub(super) struct Fixture {
    adapter: Arc<dyn AsyncCacheAdapter>,
    neighbour: Option<Arc<dyn AsyncCacheAdapter>>,
    pub(super) suite: Arc<Suite>,
}

impl Deref for Fixture {
    type Target = dyn AsyncCacheAdapter;

    fn deref(&self) -> &Self::Target {
        &*self.adapter
    }
}

impl Fixture {
    pub(super) fn new(
        adapter: Arc<dyn AsyncCacheAdapter>,
        neighbour: Option<Arc<dyn AsyncCacheAdapter>>,
        suite: Suite,
    ) -> Self {
        Self { adapter, neighbour, suite: Arc::new(suite) }
    }

    pub(super) async fn put<T: Serialize + Send + Sync + 'static>(
        &self,
        key: &str,
        value: T,
    ) -> Result<()> {
        self.set(key, CacheValue::new(value), Expiry::Default).await
    }

    pub(super) async fn put_for<T: Serialize + Send + Sync + 'static>(
        &self,
        key: &str,
        value: T,
        expiry: impl Into<Expiry>,
    ) -> Result<()> {
        self.set(key, CacheValue::new(value), expiry.into()).await
    }

    pub(super) async fn read<T: DeserializeOwned + Clone + 'static>(
        &self,
        key: &str,
    ) -> Result<Option<T>> {
        decoded(self.get(key).await?)
    }

    /// The answer of `get_if_ready`.
    pub(super) fn found_now(&self, key: &str) -> Poll<Result<Option<CacheValue>>> {
        let mut found = None;
        self.get_if_ready(key, &mut |value| found = Some(value.clone())).map_ok(|()| found)
    }

    pub(super) async fn text(&self, key: &str) -> Result<Option<String>> {
        self.read(key).await
    }

    pub(super) async fn texts(&self, keys: &[&str]) -> Result<Vec<Option<String>>> {
        self.get_many(keys).await?.into_iter().map(|found| decoded(found?)).collect()
    }

    /// Stores a batch, and checks that every entry was stored.
    pub(super) async fn put_many(&self, entries: &[Entry<'_>]) -> Outcome {
        let stored = self.set_many(entries).await?;
        check_eq!(stored.len(), entries.len(), "results of set_many");
        for (entry, stored) in entries.iter().zip(stored) {
            stored.map_err(|error| {
                Failure::from(error).prefixed(format_args!("set_many, {:?}", entry.key))
            })?;
        }
        Ok(())
    }

    /// Whether the case may use `verb`. If not, checks that the verb returns `Unsupported`.
    pub(super) async fn offers(&self, verb: Verb) -> Outcome<bool> {
        if self.suite.offers(verb) {
            return Ok(true);
        }
        let value = CacheValue::new(1);
        let answer = match verb {
            Verb::Add => self.add("k", value, Expiry::Default).await.map(drop),
            Verb::Replace => self.replace("k", value, Expiry::Default).await.map(drop),
            Verb::Incr => self.incr("k", 1, Expiry::Default).await.map(drop),
            Verb::Take => self.take("k").await.map(drop),
            Verb::Expiry => self.expiry("k").await.map(drop),
            Verb::Keys => self.keys("", None).await.map(drop),
            Verb::Rebuild => self.rebuild().map(drop),
            other => {
                return Err(Failure::new(
                    format_args!("`{other}` has a working default and cannot be excepted"),
                    Location::caller(),
                ));
            }
        };
        check_kind!(answer, ErrorKind::Unsupported, "the excepted verb `{verb}`");
        Ok(false)
    }

    /// Checks that `key` is missing for every verb that only reads.
    pub(super) async fn check_missing(&self, key: &str, why: &str) -> Outcome {
        check_eq!(self.get(key).await?.is_some(), false, "get of {key:?} {why}: found");
        check_eq!(self.contains(key).await?, false, "contains of {key:?} {why}");
        check_eq!(self.texts(&[key]).await?, vec![None], "get_many of {key:?} {why}");
        if self.suite.offers(Verb::Expiry) {
            check_eq!(self.expiry(key).await?, None, "expiry of {key:?} {why}");
        }
        Ok(())
    }

    /// Waits until all entries that were written with the expiry [`Suite::short`] have expired.
    ///
    /// It reads only a later key of its own, so that a store that removes expired entries on
    /// reading still has the others.
    pub(super) async fn outlive_short(&self) -> Outcome {
        const SENTINEL: &str = "the last to expire";
        self.put_for(SENTINEL, 1, self.suite.short()).await?;
        let written = Instant::now();
        let pause = self.suite.short() / 6;
        // A machine that is late to wake this task is late to wake the server's clock, too.
        let mut late = oversleep(self.suite.short()).await;
        loop {
            let asked = written.elapsed();
            if self.get(SENTINEL).await?.is_none() {
                if self.suite.whole_seconds {
                    // On several servers the seconds do not begin at the same time.
                    tokio::time::sleep(self.suite.short()).await;
                }
                return Ok(());
            }
            check!(
                asked < self.suite.gone_after(self.suite.short()) + late,
                "an entry lives {asked:?} after a write with {:?}, where sleeps were late by {late:?}",
                self.suite.short()
            );
            late += oversleep(pause).await;
        }
    }

    /// A fixture with the same expectations for another adapter.
    pub(super) fn with(&self, adapter: Arc<dyn AsyncCacheAdapter>) -> Self {
        Self { adapter, neighbour: None, suite: self.suite.clone() }
    }

    /// A second fresh adapter, for a case that declares this in the table.
    pub(super) fn neighbour(&self) -> Outcome<Self> {
        let neighbour = self.neighbour.clone().ok_or_else(|| {
            Failure::new("a case of one adapter asks for two", Location::caller())
        })?;
        Ok(self.with(neighbour))
    }

    /// Runs `work` on a thread with a runtime of its own, which ends with the work.
    pub(super) async fn elsewhere<F>(
        &self,
        work: impl FnOnce(Self) -> F + Send + 'static,
    ) -> Outcome
    where
        F: Future<Output = Outcome>,
    {
        let (fixture, (done, came)) = (self.clone(), tokio::sync::oneshot::channel());
        std::thread::spawn(move || {
            let outcome = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime.block_on(work(fixture)),
                Err(refused) => Err(Failure::new(refused, Location::caller())),
            };
            // The receiver is gone if the case has reached its deadline.
            drop(done.send(outcome));
        });
        came.await.map_err(|_| Failure::new("the other thread panicked", Location::caller()))?
    }

    /// Runs `count` tasks at the same time and returns their results.
    pub(super) async fn at_once<T, F>(
        &self,
        count: usize,
        task: impl Fn(Self, usize) -> F,
    ) -> Outcome<Vec<T>>
    where
        T: Send + 'static,
        F: Future<Output = Outcome<T>> + Send + 'static,
    {
        let start = Arc::new(tokio::sync::Barrier::new(count));
        let tasks: Vec<_> = (0..count)
            .map(|number| {
                let (work, start) = (task(self.clone(), number), start.clone());
                crate::runtime::spawn(async move {
                    start.wait().await;
                    work.await
                })
            })
            .collect();
        let mut came = Vec::with_capacity(count);
        for task in tasks {
            came.push(task.await.map_err(|gone| Failure::new(gone, Location::caller()))??);
        }
        Ok(came)
    }
}

pub(super) fn decoded<T: DeserializeOwned + Clone + 'static>(
    found: Option<CacheValue>,
) -> Result<Option<T>> {
    found.map(|value| value.decode()).transpose()
}
