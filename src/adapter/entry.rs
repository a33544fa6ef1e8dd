//! The writes and answers of batches.

use super::claim::Claim;
use crate::expiry::Expiry;
use crate::value::CacheValue;

/// One write of a batch.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Entry<'a> {
    /// The key, not empty.
    pub key: &'a str,
    /// The value.
    pub value: CacheValue,
    /// When the entry expires.
    pub expiry: Expiry,
}

impl<'a> Entry<'a> {
    /// A write of `value` under `key`.
    #[must_use]
    pub fn new(key: &'a str, value: CacheValue, expiry: Expiry) -> Self {
        Self { key, value, expiry }
    }
}

/// One write of a batch whose keys are claimed, see
/// [`set_claimed_many`](crate::AsyncCacheAdapter::set_claimed_many).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClaimedEntry<'a> {
    /// The write.
    pub entry: Entry<'a>,
    /// The claim on its key.
    pub claim: &'a Claim,
}

impl<'a> ClaimedEntry<'a> {
    /// A write under a claim.
    #[must_use]
    pub fn new(entry: Entry<'a>, claim: &'a Claim) -> Self {
        Self { entry, claim }
    }
}

/// What [`get_or_claim_many`](crate::AsyncCacheAdapter::get_or_claim_many) found under a key.
#[derive(Clone, Debug)]
pub enum FoundOrClaimed {
    /// A value. The key is not claimed.
    Found(CacheValue),
    /// Nothing, and the key is claimed.
    Claimed(Claim),
    /// Nothing, and the key is not claimed: [`claim`](crate::AsyncCacheAdapter::claim) it.
    Missing,
}

impl FoundOrClaimed {
    /// What a read found that claims nothing.
    #[must_use]
    pub fn unclaimed(found: Option<CacheValue>) -> Self {
        found.map_or(Self::Missing, Self::Found)
    }
}
