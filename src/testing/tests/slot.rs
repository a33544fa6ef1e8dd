//! The entries of the small store, its late calls, and how it misuses a prefix.

use crate::codec::Codec;
use crate::error::Result;
use crate::expiry::Expiry;
use crate::value::CacheValue;
use bytes::Bytes;
use std::time::Instant;

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

/// Matches as a store with globs does: `*` only, at the end only.
pub(super) fn glob(pattern: &str, key: &str) -> bool {
    match pattern.split_once('*') {
        Some((before, after)) => key.strip_prefix(before).is_some_and(|rest| rest.contains(after)),
        None => key.starts_with(pattern),
    }
}
