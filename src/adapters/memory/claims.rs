//! Claims: the loads in flight on this store, of all wrappers that share it.
//!
//! A wrapper orders its own loads and writes. Two wrappers over one store do not know of each
//! other, and not of a program that uses the adapter directly. So a load claims its key in the
//! store. A write, a removal or a clear ends the claims on the keys that it changes, and a value
//! whose claim has ended is not stored.

use super::clock;
use crate::adapter::Claim;
use compact_str::CompactString;
use hashbrown::HashTable;
use std::time::Duration;

/// The claims on the keys of one stripe.
#[derive(Debug, Default)]
pub(super) struct Claims {
    table: HashTable<Outstanding>,
    /// Incremented with every claim.
    number: u64,
}

/// A claim that has not ended.
#[derive(Debug)]
struct Outstanding {
    hash: u64,
    key: CompactString,
    number: u64,
    /// How many handles there are on the claim.
    handles: u32,
    /// When the lease ends, by the [`clock`]; `None` without a lease.
    leased_until: Option<u64>,
}

impl Claims {
    /// Adds a claim. Returns `None` if another claim has a lease on the key and this one also asks
    /// for a lease.
    pub(super) fn add(&mut self, key: &str, hash: u64, lease: Option<Duration>) -> Option<u64> {
        let mut leased_until = None;
        if let Some(lease) = lease {
            let now = clock::now();
            if self.of(key, hash).any(|other| other.leased_until.is_some_and(|end| end > now)) {
                return None;
            }
            // A lease that has ended passes to this claim.
            self.end(hash, |other| other.key == key && other.leased_until.is_some());
            leased_until = Some(now.saturating_add(nanos(lease)));
        }
        self.number += 1;
        let key = CompactString::new(key);
        let claim = Outstanding { hash, key, number: self.number, handles: 1, leased_until };
        self.table.insert_unique(hash, claim, |claim| claim.hash);
        Some(self.number)
    }

    pub(super) fn holds(&self, key: &str, hash: u64, number: u64) -> bool {
        self.of(key, hash).any(|claim| claim.number == number)
    }

    /// Ends one claim.
    pub(super) fn release(&mut self, key: &str, hash: u64, number: u64) {
        self.end(hash, |claim| claim.number == number && claim.key == key);
    }

    /// Adds a handle on a claim.
    pub(super) fn add_handle(&mut self, hash: u64, number: u64) {
        if let Some(claim) = self.table.find_mut(hash, |claim| claim.number == number) {
            claim.handles += 1;
        }
    }

    /// Removes a handle on a claim, and ends the claim if this was the last one.
    pub(super) fn drop_handle(&mut self, hash: u64, number: u64) {
        if let Ok(mut found) = self.table.find_entry(hash, |claim| claim.number == number) {
            found.get_mut().handles -= 1;
            if found.get().handles == 0 {
                found.remove();
            }
        }
    }

    /// Ends all claims on a key, because the key has changed.
    pub(super) fn end_all_of(&mut self, key: &str, hash: u64) {
        if !self.table.is_empty() {
            self.end(hash, |claim| claim.key == key);
        }
    }

    /// Ends all claims on keys that begin with `prefix`.
    pub(super) fn end_all_below(&mut self, prefix: &str) {
        self.table.retain(|claim| !claim.key.starts_with(prefix));
    }

    fn of(&self, key: &str, hash: u64) -> impl Iterator<Item = &Outstanding> {
        self.table.iter_hash(hash).filter(move |claim| claim.key == key)
    }

    fn end(&mut self, hash: u64, is_meant: impl Fn(&Outstanding) -> bool) {
        while let Ok(found) = self.table.find_entry(hash, &is_meant) {
            found.remove();
        }
    }
}

fn nanos(lasting: Duration) -> u64 {
    u64::try_from(lasting.as_nanos()).unwrap_or(u64::MAX)
}

/// The number of a claim; 0 for a claim of another store.
pub(super) fn number(claim: &Claim) -> u64 {
    let token = claim.token().and_then(|token| token.try_into().ok());
    token.map_or(0, u64::from_be_bytes)
}
