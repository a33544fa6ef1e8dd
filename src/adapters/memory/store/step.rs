//! A step that is atomic: what reads and then writes holds the key's stripe.

use super::{Store, Stored};
use crate::adapters::memory::claims::Claims;
use crate::adapters::memory::engine::{Displaced, Entry, Gone};
use crate::sync::MutexGuard;
use crate::value::CacheValue;

/// The stripe of a key, held. No user code runs under it: afterwards the displaced values are
/// dropped, and their events are emitted.
///
/// `clear`, eviction and the sweep take no stripe: an entry that was found may have gone since. So
/// a write over a found entry [replaces](Step::replace) it, which does nothing if it has gone.
pub(super) struct Step<'a> {
    pub(super) store: &'a Store,
    pub(super) key: &'a str,
    pub(super) hash: u64,
    pub(super) claims: MutexGuard<'a, Claims>,
    pub(super) displaced: &'a mut Displaced,
}

impl Step<'_> {
    /// Stores a value that counts for so many bytes and ends at `deadline`, at once if there is
    /// none.
    pub(super) fn put(&mut self, value: CacheValue, bytes: usize, deadline: Option<u64>) -> Stored {
        match self.entry(value, bytes, deadline) {
            Ok(entry) => {
                self.end_claims();
                let deadline = entry.deadline;
                self.store.engine.insert(self.key, entry, self.displaced);
                self.store.expect(deadline);
                Stored::Yes
            }
            Err(stored) => stored,
        }
    }

    /// [`put`](Self::put) over an entry that was there a moment ago; `None` if it has gone.
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

    /// Puts an entry in the place of the one that is there; whether there was one.
    pub(super) fn replace(&mut self, entry: Entry) -> bool {
        let deadline = entry.deadline;
        let replaced = self.store.engine.replace(self.key, entry, self.displaced);
        self.store.expect(deadline);
        replaced
    }

    /// Takes the entry out. Loads in flight are not stored after that, whether there was an entry
    /// or not.
    pub(super) fn take_out(&mut self) -> Option<Gone> {
        self.end_claims();
        self.store.engine.remove(self.key)
    }

    pub(super) fn remove(&mut self) {
        if let Some(gone) = self.take_out() {
            self.displaced.push(gone);
        }
    }

    /// A value that is not stored.
    pub(super) fn discard(&mut self, value: CacheValue) {
        self.displaced.push(Gone::value(value));
    }

    /// An entry for a value; for one that is not to be stored, the older one goes.
    fn entry(
        &mut self,
        value: CacheValue,
        bytes: usize,
        deadline: Option<u64>,
    ) -> Result<Entry, Stored> {
        match (deadline, self.store.weight(self.key, bytes)) {
            (Some(deadline), Some(weight)) => Ok(Entry { value, deadline, weight }),
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
