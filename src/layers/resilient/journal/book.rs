//! The notes of the journal, by key in the order in which they were made, and by prefix. Protected
//! by the journal's lock.

use super::{Displaced, OVERHEAD, Standing, Subject, Write};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) keys: HashMap<Arc<str>, Entry>,
    pub(super) order: BTreeMap<u64, Arc<str>>,
    /// The numbers of the notes in `order` that hold a value.
    pub(super) values: BTreeSet<u64>,
    pub(super) clears: Vec<Clear>,
    pub(super) bytes: usize,
    /// Incremented with every note.
    pub(super) number: u64,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) number: u64,
    pub(super) ticket: u64,
    pub(super) write: Write,
    pub(super) at: SystemTime,
    pub(super) bytes: usize,
    pub(super) standing: Standing,
}

#[derive(Clone, Debug)]
pub(in super::super) struct Clear {
    pub(in super::super) number: u64,
    /// The position of the write in the order in which all writes were sent, see
    /// [`InFlight`](super::super::in_flight::InFlight).
    pub(in super::super) ticket: u64,
    pub(in super::super) prefix: Arc<str>,
    pub(super) standing: Standing,
}

impl Book {
    pub(super) fn next(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len() + self.clears.len()
    }

    pub(super) fn forget(&mut self, key: &str) -> Option<Write> {
        let entry = self.keys.remove(key)?;
        self.order.remove(&entry.number);
        self.values.remove(&entry.number);
        self.bytes -= entry.bytes;
        Some(entry.write)
    }

    /// Removes the notes under a prefix whose writes were sent before this ticket.
    pub(super) fn forget_older(&mut self, prefix: &str, ticket: u64) -> Vec<Write> {
        let covered = self
            .keys
            .iter()
            .filter(|(key, entry)| entry.ticket < ticket && key.starts_with(prefix));
        let covered: Vec<Arc<str>> = covered.map(|(key, _)| key.clone()).collect();
        covered.iter().filter_map(|key| self.forget(key)).collect()
    }

    /// Turns a note whose write was sent before this ticket into a removal.
    pub(super) fn drop_value(&mut self, key: &str, ticket: u64) -> Option<Write> {
        let entry = self.keys.get_mut(key)?;
        if entry.ticket >= ticket || entry.write.value().is_none() {
            return None;
        }
        let freed = entry.bytes - (key.len() + OVERHEAD);
        entry.bytes -= freed;
        self.bytes -= freed;
        self.values.remove(&entry.number);
        Some(std::mem::replace(&mut entry.write, Write::Remove))
    }

    /// Enforces the bounds. Values are dropped first, from the oldest on: the note then still says
    /// that the older value must be removed, and the newer value costs a load. Notes that exceed
    /// the bounds after that are lost.
    pub(super) fn shrink(
        &mut self,
        max_entries: usize,
        max_bytes: usize,
        displaced: &mut Displaced,
    ) {
        while self.bytes > max_bytes
            && let Some(oldest) = self.values.first()
            && let Some(key) = self.order.get(oldest).cloned()
        {
            displaced.replaced.extend(self.drop_value(&key, u64::MAX));
        }
        while (self.keys.len() > max_entries || self.bytes > max_bytes)
            && let Some((_, key)) = self.order.pop_first()
        {
            displaced.replaced.extend(self.forget(&key));
            displaced.lost.push(key);
        }
    }

    /// Adds a clear. It absorbs the clears under its prefix, or becomes part of a clear with a
    /// shorter prefix.
    pub(super) fn add_clear(&mut self, prefix: &str, ticket: u64, standing: Standing, most: usize) {
        self.clears.retain(|clear| !clear.prefix.starts_with(prefix));
        match self.clears.iter_mut().find(|clear| prefix.starts_with(&*clear.prefix)) {
            Some(wider) => wider.ticket = wider.ticket.max(ticket),
            None => {
                let number = self.next();
                self.clears.push(Clear { number, ticket, prefix: prefix.into(), standing });
                self.join_clears(most);
            }
        }
    }

    /// Removes the clears under a prefix that were sent before this ticket.
    pub(super) fn forget_clears(&mut self, prefix: &str, ticket: u64) {
        self.clears.retain(|clear| clear.ticket > ticket || !clear.prefix.starts_with(prefix));
    }

    /// Enforces the bound on clears: the two prefixes with the longest common beginning are
    /// replaced by that beginning. So an overflow removes only keys with similar names, unless all
    /// prefixes differ in their first letter.
    fn join_clears(&mut self, most: usize) {
        while self.clears.len() > most.max(1) {
            self.clears.sort_by(|one, other| one.prefix.cmp(&other.prefix));
            let shared = |pair: &[Clear]| common(&pair[0].prefix, &pair[1].prefix);
            let best = self.clears.windows(2).enumerate().max_by_key(|(_, pair)| shared(pair));
            let Some((at, length)) = best.map(|(at, pair)| (at, shared(pair))) else { return };
            let prefix: Arc<str> = self.clears[at].prefix[..length].into();
            let (joined, left) = std::mem::take(&mut self.clears)
                .into_iter()
                .partition::<Vec<_>, _>(|clear| clear.prefix.starts_with(&*prefix));
            self.clears = left;
            let number = self.next();
            self.clears.push(Clear {
                number,
                // A write that was sent before one of the two clears, and fails later, is not
                // noted: its key is removed with the others.
                ticket: joined.iter().map(|clear| clear.ticket).max().unwrap_or_default(),
                standing: joined
                    .iter()
                    .map(|clear| clear.standing)
                    .max()
                    .unwrap_or(Standing::Pending),
                prefix,
            });
        }
    }

    /// The worst state among the notes about the subject.
    pub(super) fn standing(&self, about: Subject<'_>) -> Standing {
        let of_keys = match about {
            Subject::Nothing => return Standing::Free,
            Subject::Key(key) => self.keys.get(key).map(|entry| entry.standing),
            Subject::Prefix(prefix) => self
                .keys
                .iter()
                .filter(|(key, _)| key.starts_with(prefix))
                .map(|(_, entry)| entry.standing)
                .max(),
        };
        let clears = self.clears.iter().filter(|clear| clear.covers(about));
        clears.map(|clear| clear.standing).chain(of_keys).max().unwrap_or(Standing::Free)
    }
}

/// How many bytes two prefixes have in common, in whole characters.
fn common(one: &str, other: &str) -> usize {
    let alike = one.bytes().zip(other.bytes()).take_while(|(one, other)| one == other).count();
    one.floor_char_boundary(alike)
}

impl Clear {
    pub(super) fn covers(&self, about: Subject<'_>) -> bool {
        match about {
            Subject::Key(key) => key.starts_with(&*self.prefix),
            Subject::Prefix(prefix) => {
                self.prefix.starts_with(prefix) || prefix.starts_with(&*self.prefix)
            }
            Subject::Nothing => false,
        }
    }
}
