//! The entries of the small store, its late calls, and how it misuses a prefix.

use super::broken::Bug;
use crate::adapter::KeyPage;
use crate::codec::Codec;
use crate::error::Result;
use crate::expiry::{Expiry, Lifetime};
use crate::value::CacheValue;
use bytes::Bytes;
use std::collections::HashMap;
use std::time::{Duration, Instant};

#[derive(Clone)]
pub(super) struct Slot {
    pub(super) kept: Kept,
    pub(super) deadline: Option<Instant>,
}

#[derive(Clone)]
pub(super) enum Kept {
    /// The value, and its number as a counter.
    Handle(CacheValue, Result<i64>),
    Bytes(Bytes, Codec),
}

impl Slot {
    pub(super) fn live(&self) -> bool {
        self.deadline.is_none_or(|deadline| Instant::now() < deadline)
    }

    pub(super) fn value(&self, key: &str) -> CacheValue {
        match &self.kept {
            Kept::Handle(value, _) => value.clone(),
            Kept::Bytes(stored, codec) => CacheValue::from_stored(key, stored.clone(), *codec),
        }
    }

    /// What `expiry` answers. `is_default` is a bug.
    pub(super) fn left(&self, is_default: bool) -> Expiry {
        match self.deadline {
            None => Expiry::Never,
            Some(_) if is_default => Expiry::After(crate::expiry::DEFAULT_TTL),
            Some(deadline) => Expiry::After(deadline.saturating_duration_since(Instant::now())),
        }
    }

    pub(super) fn counter(&self, key: &str) -> Result<i64> {
        match &self.kept {
            Kept::Handle(_, number) => number.clone(),
            Kept::Bytes(..) => self.value(key).as_counter(),
        }
    }
}

/// A call whose future may be dropped before it takes effect.
pub(super) enum Late {
    Write(String, CacheValue, Expiry),
    Clear(String),
}

/// All keys with the prefix in one page.
pub(super) fn page(map: &HashMap<String, Slot>, prefix: &str, bug: Option<Bug>) -> KeyPage {
    let is_shown = |(key, slot): &(&String, &Slot)| {
        let begins = match bug {
            Some(Bug::KeysMatchAGlob) => glob(prefix, key),
            Some(Bug::KeysForgetThePrefix) => true,
            _ => key.starts_with(prefix),
        };
        begins
            && (slot.live() || bug == Some(Bug::KeysShowTheExpired))
            && (!slot.value(key).is_stale() || bug == Some(Bug::KeysShowTheStale))
    };
    let keys = map.iter().filter(is_shown).map(|(key, _)| key.clone());
    let most = if bug == Some(Bug::KeysEndAfterAPage) { 1_000 } else { usize::MAX };
    KeyPage::new(keys.take(most).collect(), None)
}

/// Matches as a store with globs does: `*` only, at the end only.
pub(super) fn glob(pattern: &str, key: &str) -> bool {
    match pattern.split_once('*') {
        Some((before, after)) => key.strip_prefix(before).is_some_and(|rest| rest.contains(after)),
        None => key.starts_with(pattern),
    }
}

/// When an entry with this expiry ends. `None` means never, `Some(now)` at once.
pub(super) fn deadline(bug: Option<Bug>, whole_seconds: bool, expiry: Expiry) -> Option<Instant> {
    let lifetime = match (bug, expiry) {
        (Some(Bug::NeverIsTheDefault), Expiry::Never) => Lifetime::default(),
        (Some(Bug::LongestIsZero), Expiry::After(Duration::MAX)) => Lifetime::For(Duration::ZERO),
        _ => expiry.resolve(Lifetime::default()),
    };
    let lifetime = match lifetime {
        Lifetime::For(lasting) if whole_seconds => {
            Lifetime::For(Duration::from_secs(lasting.as_millis().div_ceil(1_000) as u64))
        }
        other => other,
    };
    match (bug, lifetime) {
        (Some(Bug::ZeroIsForEver), Lifetime::For(Duration::ZERO)) => None,
        (Some(Bug::SecondsAreCut), Lifetime::For(lasting)) => {
            Some(Instant::now() + Duration::from_secs(lasting.as_secs()))
        }
        (Some(Bug::ExpiresLate), Lifetime::For(lasting)) => {
            Some(Instant::now() + lasting + Duration::from_millis(100))
        }
        (_, Lifetime::For(lasting)) => Instant::now().checked_add(lasting),
        (_, Lifetime::Never) => None,
    }
}
