//! A complete adapter on one map, in which each bug can be turned on.

use super::broken::Bug;
use super::ledger::Ledger;
use super::slot::{Kept, Late, Slot, deadline, glob, page};
use crate::adapter::{AsyncCacheAdapter, Claim, Entry, KeyCursor, KeyPage};
use crate::codec::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::expiry::Expiry;
use crate::key;
use crate::runtime::lock;
use crate::value::CacheValue;
use async_trait::async_trait;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;
use std::time::{Duration, Instant};

/// Values in a map, as handles or as encoded bytes. The code of a value (`Serialize`, `Drop`) may
/// use the store, so it runs while no lock is held.
#[derive(Default)]
pub(super) struct Store {
    map: Mutex<HashMap<String, Slot>>,
    codec: Option<Codec>,
    limit: Option<usize>,
    whole_seconds: bool,
    bug: Option<Bug>,
    ledger: Mutex<Ledger>,
    busy: AtomicBool,
    closed: AtomicBool,
    /// Calls in flight, for the bugs that apply them late.
    in_flight: Mutex<Vec<Late>>,
}

/// Whether the stores whose `clear` needs room are full.
static IS_FULL: AtomicBool = AtomicBool::new(false);

/// The locked map, and a key in the store's form.
type Opened<'a> = (MutexGuard<'a, HashMap<String, Slot>>, String);

impl Store {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn encoded(codec: Codec) -> Self {
        Self { codec: Some(codec), ..Self::default() }
    }

    /// The limit of [`Store::limited`], in bytes.
    pub(super) const LIMIT: usize = 900_000;

    pub(super) fn limited() -> Self {
        Self { limit: Some(Self::LIMIT), ..Self::default() }
    }

    pub(super) fn of_whole_seconds() -> Self {
        Self { whole_seconds: true, ..Self::default() }
    }

    pub(super) fn with(bug: Bug) -> Self {
        Self {
            bug: Some(bug),
            limit: bug.is_about_limits().then_some(Self::LIMIT),
            ..Self::default()
        }
    }

    /// Makes stores with [`Bug::ClearNeedsRoom`] full.
    pub(super) fn fill(is_full: bool) {
        IS_FULL.store(is_full, Ordering::SeqCst);
    }

    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Locks the map, and turns the key into the store's form.
    fn open(&self, key: &str) -> Result<Opened<'_>> {
        if !self.has(Bug::EmptyKeyAccepted) {
            key::check(key)?;
        }
        if self.has(Bug::ClosedStaysClosed) && self.closed.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Unavailable));
        }
        let name = match self.bug {
            Some(Bug::LongKeysAreCut) => key.chars().take(250).collect(),
            Some(Bug::KeysFoldCase) => key.to_ascii_lowercase(),
            Some(Bug::KeysEndAtNul) => key.split('\0').next().unwrap_or_default().to_owned(),
            Some(Bug::KeysAreTrimmed) => key.trim().to_owned(),
            _ => key.to_owned(),
        };
        Ok((lock(&self.map), name))
    }

    fn keep(&self, key: &str, value: &CacheValue) -> Result<Kept> {
        let size = value.encoded_len(self.codec.unwrap_or_default());
        let size = if self.has(Bug::PanicsWithTheValue) {
            size.expect("a value can be encoded")
        } else {
            size?
        };
        if self.limit.is_some_and(|limit| size > limit) {
            return Err(Error::new(ErrorKind::TooLarge).with_key(key));
        }
        Ok(match self.codec {
            None => Kept::Handle(value.clone(), value.as_counter()),
            Some(codec) => Kept::Bytes(value.to_stored(key, codec)?, codec),
        })
    }

    fn deadline(&self, expiry: Expiry) -> Option<Instant> {
        deadline(self.bug, self.whole_seconds, expiry)
    }

    fn remove_all(&self, prefix: &str) -> Result<()> {
        let (mut map, _) = self.open("any")?;
        let goes = |key: &String, slot: &mut Slot| match self.bug {
            Some(Bug::PrefixIsAGlob) => glob(prefix, key),
            Some(Bug::PrefixFoldsCase) => {
                key.to_ascii_lowercase().starts_with(&prefix.to_ascii_lowercase())
            }
            Some(Bug::ClearSparesTheImmortal) => slot.deadline.is_some() && key.starts_with(prefix),
            Some(Bug::ClearForgetsThePrefix) => true,
            _ => key.starts_with(prefix),
        };
        let gone: Vec<_> = map.extract_if(goes).collect();
        drop(map);
        drop(gone);
        if !self.has(Bug::SetClaimedUndoesClears) {
            lock(&self.ledger).cleared(prefix);
        }
        Ok(())
    }

    fn write(&self, key: &str, value: &CacheValue, expiry: Expiry) -> Result<()> {
        self.put(key, value, expiry)?;
        self.changed(key, Bug::SetClaimedUndoesWrites);
        Ok(())
    }

    fn changed(&self, key: &str, unless: Bug) {
        if !self.has(unless) {
            lock(&self.ledger).changed(key);
        }
    }

    fn put(&self, key: &str, value: &CacheValue, expiry: Expiry) -> Result<()> {
        let opened = self.open(key)?;
        let held = Some(opened).filter(|_| self.has(Bug::EncodesUnderTheLock));
        let kept = self.keep(key, value);
        drop(held);
        self.place(self.open(key)?, kept, expiry).map(drop)
    }

    /// Stores an entry, and returns the old one.
    fn place(
        &self,
        (mut map, name): Opened<'_>,
        kept: Result<Kept>,
        expiry: Expiry,
    ) -> Result<Option<Slot>> {
        let kept = kept.inspect_err(|error| {
            let drops = match error.kind() {
                ErrorKind::TooLarge => !self.has(Bug::TooLargeServesTheOld),
                _ => self.has(Bug::EncodeErrorDropsTheOld),
            };
            if drops {
                map.remove(&name);
            }
        })?;
        let mut deadline = self.deadline(expiry);
        if let Some(old) =
            map.get(&name).filter(|old| old.live() && self.has(Bug::SetKeepsTheOldExpiry))
        {
            deadline = old.deadline;
        }
        let gone = map.insert(name, Slot { kept, deadline });
        Ok(gone.filter(|_| !self.has(Bug::DropsUnderTheLock)))
    }

    /// The live value of a key.
    fn look(&self, key: &str) -> Result<Option<CacheValue>> {
        let (map, name) = self.open(key)?;
        let found = map.get(&name).filter(|slot| slot.live()).map(|slot| slot.value(key));
        Ok(match self.bug {
            Some(Bug::NullIsAMiss) => {
                found.filter(|value| value.decode::<Option<serde_json::Value>>().ok() != Some(None))
            }
            _ => found,
        })
    }

    fn delete(&self, key: &str) -> Result<Option<Slot>> {
        let (mut map, name) = self.open(key)?;
        self.changed(key, Bug::SetClaimedUndoesRemovals);
        let gone = map.remove(&name);
        drop(map);
        Ok(gone.filter(|slot| slot.live() || self.has(Bug::RemoveCountsTheExpired)))
    }
}

#[async_trait]
impl AsyncCacheAdapter for Store {
    async fn get(&self, key: &str) -> Result<Option<CacheValue>> {
        if self.has(Bug::DroppedFutureHoldsTheLock) {
            while self.busy.swap(true, Ordering::Acquire) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            tokio::task::yield_now().await;
            self.busy.store(false, Ordering::Release);
        }
        for late in std::mem::take(&mut *lock(&self.in_flight)) {
            match late {
                Late::Write(key, value, expiry) => self.write(&key, &value, expiry)?,
                Late::Clear(prefix) => self.remove_all(&prefix)?,
            }
        }
        self.look(key)
    }

    async fn set(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<()> {
        if self.has(Bug::DroppedWriteComesLate) {
            lock(&self.in_flight).push(Late::Write(key.to_owned(), value.clone(), expiry));
            tokio::task::yield_now().await;
            lock(&self.in_flight).pop();
        }
        self.write(key, &value, expiry)
    }

    async fn remove(&self, key: &str) -> Result<bool> {
        let counts =
            |slot: Slot| self.has(Bug::RemoveCountsTheStale) || !slot.value(key).is_stale();
        Ok(self.delete(key)?.is_some_and(counts))
    }

    async fn update_timeout(&self, key: &str, expiry: Expiry) -> Result<Option<CacheValue>> {
        let (mut map, name) = self.open(key)?;
        let deadline = self.deadline(expiry);
        let slot = map.get_mut(&name).filter(|slot| slot.live() || self.has(Bug::TouchRevives));
        Ok(slot.map(|slot| {
            slot.deadline = match self.bug {
                Some(Bug::TouchOnlyLengthens) => {
                    slot.deadline.zip(deadline).map(|(old, new)| old.max(new))
                }
                _ => deadline,
            };
            slot.value(key)
        }))
    }

    async fn clear(&self, prefix: &str) -> Result<()> {
        if self.has(Bug::ClearNeedsRoom) && IS_FULL.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Backend));
        }
        if self.has(Bug::DroppedClearComesLate) {
            lock(&self.in_flight).push(Late::Clear(prefix.to_owned()));
            tokio::task::yield_now().await;
            lock(&self.in_flight).pop();
        }
        self.remove_all(prefix)
    }

    async fn add(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<bool> {
        if self.has(Bug::AddIsNotAtomic) {
            let missing = self.look(key)?.is_none();
            tokio::task::yield_now().await;
            return if missing {
                self.write(key, &value, expiry).map(|()| true)
            } else {
                Ok(false)
            };
        }
        drop(self.open(key)?);
        let kept = self.keep(key, &value);
        let (mut map, name) = self.open(key)?;
        if map.get(&name).is_some_and(Slot::live) {
            return Ok(false);
        }
        let gone = map.insert(name, Slot { kept: kept?, deadline: self.deadline(expiry) });
        drop(map);
        drop(gone);
        self.changed(key, Bug::SetClaimedUndoesWrites);
        Ok(true)
    }

    async fn replace(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<bool> {
        drop(self.open(key)?);
        let kept = if self.has(Bug::ReplaceHasNoLimit) {
            Ok(Kept::Handle(value.clone(), Ok(0)))
        } else {
            self.keep(key, &value)
        };
        let opened = self.open(key)?;
        if !opened.0.get(&opened.1).is_some_and(Slot::live) {
            return Ok(false);
        }
        let gone = self.place(opened, kept, expiry)?;
        drop(gone);
        self.changed(key, Bug::SetClaimedUndoesWrites);
        Ok(true)
    }

    async fn incr(&self, key: &str, by: i64, expiry: Expiry) -> Result<i64> {
        if self.has(Bug::IncrIsNotAtomic) {
            let old = self.look(key)?.map_or(Ok(0), |value| value.as_counter())?;
            tokio::task::yield_now().await;
            self.write(key, &CacheValue::new(old + by), expiry)?;
            return Ok(old + by);
        }
        let (mut map, name) = self.open(key)?;
        let counts = |slot: &&Slot| {
            slot.live() && (self.has(Bug::IncrRevivesTheStale) || !slot.value(key).is_stale())
        };
        let (old, deadline) = match map.get(&name).filter(counts) {
            Some(slot) => (slot.counter(key)?, slot.deadline),
            None => (0, self.deadline(expiry)),
        };
        let deadline =
            if self.has(Bug::IncrResetsTheExpiry) { self.deadline(expiry) } else { deadline };
        let sum = match self.bug {
            Some(Bug::IncrWraps) => old.wrapping_add(by),
            Some(Bug::IncrStopsAtZero) => old.saturating_add(by).max(0),
            _ => {
                old.checked_add(by).ok_or_else(|| Error::new(ErrorKind::Overflow).with_key(key))?
            }
        };
        let kept = self.keep(key, &CacheValue::new(sum))?;
        let gone = map.insert(name, Slot { kept, deadline });
        drop(map);
        drop(gone);
        self.changed(key, Bug::SetClaimedUndoesWrites);
        Ok(sum)
    }

    async fn take(&self, key: &str) -> Result<Option<CacheValue>> {
        if self.has(Bug::TakeIsNotAtomic) {
            let found = self.look(key)?;
            tokio::task::yield_now().await;
            self.delete(key)?;
            return Ok(found);
        }
        Ok(self.delete(key)?.map(|slot| slot.value(key)))
    }

    async fn expiry(&self, key: &str) -> Result<Option<Expiry>> {
        let (map, name) = self.open(key)?;
        let is_default = self.has(Bug::ExpiryIsAlwaysTheDefault);
        Ok(map.get(&name).filter(|slot| slot.live()).map(|slot| slot.left(is_default)))
    }

    async fn keys(&self, prefix: &str, _: Option<&KeyCursor>) -> Result<KeyPage> {
        Ok(page(&lock(&self.map), prefix, self.bug))
    }

    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Result<Option<CacheValue>>>> {
        key::check_all(keys.iter().copied())?;
        let mut found: Vec<_> = keys.iter().map(|key| self.look(key)).collect();
        if self.has(Bug::BatchesLeaveOutTheMissing) {
            found.retain(|found| !matches!(found, Ok(None)));
        }
        Ok(found)
    }

    async fn set_many(&self, entries: &[Entry<'_>]) -> Result<Vec<Result<()>>> {
        if !self.has(Bug::BatchWritesBeforeItChecks) {
            key::check_all(entries.iter().map(|entry| entry.key))?;
        }
        let first = entries.first().map(|entry| entry.expiry);
        let mut stored = Vec::new();
        for entry in entries {
            let expiry = if self.has(Bug::BatchHasOneExpiry) {
                first.unwrap_or_default()
            } else {
                entry.expiry
            };
            if self.has(Bug::BatchesWaitForEach) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            match self.write(entry.key, &entry.value, expiry) {
                Err(error) if error.kind() == ErrorKind::InvalidKey => return Err(error),
                done => stored.push(done),
            }
        }
        Ok(stored)
    }

    async fn remove_many(&self, keys: &[&str]) -> Result<Vec<Result<bool>>> {
        key::check_all(keys.iter().copied())?;
        let counts = |key: &str, slot: Slot| !slot.value(key).is_stale();
        Ok(keys
            .iter()
            .map(|key| {
                let live = self.delete(key)?.is_some_and(|slot| counts(key, slot));
                Ok(live || self.has(Bug::RemoveManySaysTrue))
            })
            .collect())
    }

    fn get_if_ready(&self, key: &str, look: &mut dyn FnMut(&CacheValue)) -> Poll<Result<()>> {
        let found = match self.bug {
            Some(Bug::GetIfReadyForgetsExpiry) => {
                self.open(key).map(|(map, name)| map.get(&name).map(|slot| slot.value(key)))
            }
            Some(Bug::DroppedFutureHoldsTheLock) => return Poll::Pending,
            _ => self.look(key),
        };
        Poll::Ready(found.map(|found| found.iter().for_each(look)))
    }

    fn enforces_claims(&self) -> bool {
        true
    }

    async fn claim(&self, key: &str, lease: Option<Duration>) -> Result<Option<Claim>> {
        let name = self.open(key)?.1;
        let lease = if self.has(Bug::LeaseNeverEnds) {
            lease.map(|_| Duration::from_secs(1_000))
        } else {
            lease
        };
        let claim = lock(&self.ledger).claim(key, lease.filter(|_| !self.has(Bug::LeaseIsShared)));
        if self.has(Bug::ClaimIsAValue) {
            lock(&self.map)
                .entry(name)
                .or_insert(Slot { kept: Kept::Handle(CacheValue::new(""), Ok(0)), deadline: None });
        }
        Ok(claim.map(Claim::new))
    }

    async fn set_claimed(
        &self,
        key: &str,
        value: CacheValue,
        expiry: Expiry,
        claim: &Claim,
    ) -> Result<bool> {
        drop(self.open(key)?);
        let kept = self.keep(key, &value);
        let mut ledger = lock(&self.ledger);
        if !ledger.holds(
            key,
            claim.token().unwrap_or_default(),
            self.has(Bug::LateSetClaimedIsStored),
        ) {
            return Ok(false);
        }
        let gone = self.place(self.open(key)?, kept, expiry)?;
        ledger.changed(key);
        ledger.release(key, claim.token().unwrap_or_default());
        drop(ledger);
        drop(gone);
        Ok(true)
    }

    async fn release(&self, key: &str, claim: &Claim) -> Result<()> {
        drop(self.open(key)?);
        let token = claim.token().unwrap_or_default();
        match self.bug {
            Some(Bug::ReleaseWantsItsClaim) if !lock(&self.ledger).holds(key, token, false) => {
                return Err(Error::new(ErrorKind::NotFound));
            }
            Some(Bug::ReleaseDoesNothing) => {}
            Some(Bug::LateReleaseFreesTheLease) => lock(&self.ledger).end_lease(key),
            _ => lock(&self.ledger).release(key, token),
        }
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        self.closed.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn rebuild(&self) -> Result<Arc<dyn AsyncCacheAdapter>> {
        Ok(Arc::new(Self {
            codec: self.codec,
            limit: self.limit,
            whole_seconds: self.whole_seconds,
            bug: self.bug,
            ..Self::default()
        }))
    }

    fn backend(&self) -> &str {
        if self.has(Bug::BackendIsEmpty) { "" } else { "store" }
    }
}
