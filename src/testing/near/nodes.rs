//! The fixture of a case: two clients of one store, and the near level that follows the first one.

use super::level::Level;
use crate::adapter::{AskedAt, AsyncCacheAdapter, NearEntry};
use crate::error::{ErrorKind, Result};
use crate::expiry::Expiry;
use crate::testing::harness::{Failure, Outcome, check, decoded};
use crate::value::CacheValue;
use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The longest wait for a source, a proof or an end.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// The pause between two looks.
pub(super) const PAUSE: Duration = Duration::from_millis(2);

/// The two adapters of a case.
pub(in crate::testing) type Clients = (Arc<dyn AsyncCacheAdapter>, Arc<dyn AsyncCacheAdapter>);

/// Two clients of one store, and the near level.
#[derive(Clone)]
pub(super) struct Nodes {
    /// The one that is followed.
    pub(super) near: Arc<dyn AsyncCacheAdapter>,
    pub(super) other: Arc<dyn AsyncCacheAdapter>,
    pub(super) level: Arc<Level>,
}

impl Nodes {
    pub(super) fn new((near, other): Clients) -> Self {
        Self { near, other, level: Level::new() }
    }

    pub(super) fn follow(&self) -> Outcome {
        let follows = self.near.follow(self.level.follower());
        check!(follows, "`follow` answers false: the adapter tells of no changes");
        Ok(())
    }

    pub(super) async fn put(&self, key: &str, text: &str) -> Outcome {
        let value = CacheValue::new(text.to_owned());
        Ok(self.other.set(key, value, Expiry::Never).await?)
    }

    /// Reads a key by the adapter that is followed, and notes who vouches for the value.
    pub(super) async fn read(&self, key: &str) -> Outcome<Option<(NearEntry, Option<u16>)>> {
        let asked = self.level.asks();
        let Some(entry) = self.near.get_near(key).await? else { return Ok(None) };
        let source = self.noted(key, (asked, asked), &entry)?;
        Ok(Some((entry, source)))
    }

    /// Notes the answer to a read that began at line `asked`.
    pub(super) fn noted(
        &self,
        key: &str,
        asked: (usize, usize),
        entry: &NearEntry,
    ) -> Outcome<Option<u16>> {
        let noted = self.level.answered(key, asked, entry);
        noted.map_err(|wrong| Failure::new(wrong, Location::caller()))
    }

    /// Reads a key until a source vouches for it. Returns the source.
    pub(super) async fn vouched(&self, key: &str, text: &str) -> Outcome<u16> {
        let begun = Instant::now();
        loop {
            let Some((entry, source)) = self.read(key).await? else {
                check!(false, "{key:?} is missing after it was set");
                continue;
            };
            let found = decoded::<String>(Some(entry.value))?;
            check!(
                found.as_deref() == Some(text),
                "{key:?} is {found:?} after it was set to {text:?}"
            );
            if let Some(source) = source {
                return Ok(source);
            }
            check!(begun.elapsed() < PATIENCE, "after {PATIENCE:?} no source vouches for {key:?}");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Makes a change of `keys`, and notes it. `None` if the store does not offer the verb.
    pub(super) async fn change<T>(
        &self,
        keys: &[&str],
        change: impl Future<Output = Result<T>>,
    ) -> Outcome<Option<AskedAt>> {
        let called = self.level.calls();
        match change.await {
            Ok(_) => Ok(Some(self.level.changed(keys, called))),
            Err(error) if error.kind() == ErrorKind::Unsupported => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until the source has proven what was there at that time, or has ended, and checks all
    /// proofs until then.
    pub(super) async fn proven(&self, source: u16, at: AskedAt) -> Outcome {
        self.eventually(
            || self.level.is_settled(source, at),
            "a proof, or the end of the source that is wanted",
        )
        .await?;
        self.check_proofs()
    }

    pub(super) fn check_proofs(&self) -> Outcome {
        match self.level.broken_proof() {
            Some(broken) => Err(Failure::new(broken, Location::caller())),
            None => Ok(()),
        }
    }

    /// Waits for what is to come, while sources are wanted.
    pub(super) async fn eventually(&self, is_so: impl Fn() -> bool, what: &str) -> Outcome {
        let begun = Instant::now();
        while !is_so() {
            check!(begun.elapsed() < PATIENCE, "after {PATIENCE:?} there is not {what}");
            self.level.want();
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }
}
