//! An atomic step: it reads and then writes while it holds the key's stripe.

use super::{Store, Stored};
use crate::adapters::memory::claims::Claims;
use crate::adapters::memory::engine::{Displaced, Entry, Gone};
use crate::sync::MutexGuard;
use crate::value::CacheValue;

/// The held stripe of a key. No user code runs under it: displaced values are dropped, and their
/// events emitted, after its release.
///
/// `clear`, eviction and the sweep take no stripe, so an entry that was found may have been removed
/// since. So a write over a found entry [replaces](Step::replace) the entry, which does nothing if
/// the entry was removed.
pub(super) struct Step<'a> {
    pub(super) store: &'a Store,
    pub(super) key: &'a str,
    pub(super) hash: u64,
    pub(super) claims: MutexGuard<'a, Claims>,
    pub(super) displaced: &'a mut Displaced,
}

impl Step<'_> {
    /// Stores a value that counts for `bytes` bytes and expires at `deadline`. `None` expires at
    /// once.
    pub(super) fn put(&mut self, value: CacheValue, bytes: usize, deadline: Option<u64>) -> Stored {
        match self.entry(value, bytes, deadline) {
            Ok(entry) => {
                self.end_claims();
                let deadline = entry.deadline;
                self.store.engine.insert(self.key, entry, self.displaced);
                self.store.earliest_end.expect(deadline);
                Stored::Yes
            }
            Err(stored) => stored,
        }
    }

    /// [`put`](Self::put) over an entry that was found before; `None` if the entry was removed
    /// since.
    pub(super) fn put_over(
        &mut self,
        value: CacheValue,
        bytes: usize,
        deadline: Option<u64>,
    ) -> Option<Stored> {
        match self.entry(value, bytes, deadline) {
            Ok(entry) => {
                self.end_claims();
                self.replace(entry).then_some(Stored::Yes)
            }
            Err(stored) => Some(stored),
        }
    }

    /// Replaces the entry of the key. Returns whether there was one.
    pub(super) fn replace(&mut self, entry: Entry) -> bool {
        let deadline = entry.deadline;
        let replaced = self.store.engine.replace(self.key, entry, self.displaced);
        self.store.earliest_end.expect(deadline);
        replaced
    }

    /// Takes the entry out. Also ends the claims on the key, so that loads in flight are not
    /// stored.
    pub(super) fn take_out(&mut self) -> Option<Gone> {
        self.end_claims();
        self.store.engine.remove(self.key)
    }

    pub(super) fn remove(&mut self) {
        if let Some(gone) = self.take_out() {
            self.displaced.push(gone);
        }
    }

    /// Drops a value that is not stored, after the stripe is released.
    pub(super) fn discard(&mut self, value: CacheValue) {
        self.displaced.push(Gone::value(value));
    }

    /// Makes an entry of a value. If the value is not to be stored, removes the older entry.
    fn entry(
        &mut self,
        value: CacheValue,
        bytes: usize,
        deadline: Option<u64>,
    ) -> Result<Entry, Stored> {
        match (deadline, self.store.weight(self.key, bytes)) {
            (Some(deadline), Some(weight)) => Ok(Entry::new(value, deadline, weight)),
            (deadline, _) => {
                self.discard(value);
                self.remove();
                Err(if deadline.is_none() { Stored::Yes } else { Stored::TooLarge })
            }
        }
    }

    fn end_claims(&mut self) {
        self.claims.end_all_of(self.key, self.hash);
    }
}
