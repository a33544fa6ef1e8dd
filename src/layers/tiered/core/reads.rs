//! The far reads in flight on the keys of one stripe.

use super::rules::{Rule, Rules};
use compact_str::CompactString;

/// Whether a read may join one that is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::layers::tiered) enum Joining {
    Allowed,
    /// The caller reads in order to write: the answer must not be older than the call.
    No,
}

/// What callers wait for that join a read.
pub(in crate::layers::tiered) trait Joinable {
    /// What one of them waits for.
    type Joined;

    /// A caller joins. Called under a lock of the core.
    fn join(&mut self) -> Self::Joined;
}

/// How a read begins.
#[derive(Debug)]
pub(in crate::layers::tiered) enum Begun<J> {
    /// The caller sends the read, and ends or abandons it.
    Sent(Read),
    /// The answer to a read in flight is taken.
    Joined(J),
}

/// A read in flight, until it is ended or abandoned.
#[derive(Debug)]
#[must_use]
pub(in crate::layers::tiered) struct Read {
    hash: u64,
    number: u64,
    begun: u64,
}

impl Read {
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    /// When the read began.
    pub(in crate::layers::tiered) fn begun(&self) -> u64 {
        self.begun
    }
}

/// The reads of a stripe.
#[derive(Debug)]
pub(super) struct Reads<J> {
    in_flight: Vec<InFlight<J>>,
    /// Incremented with every read.
    number: u64,
}

#[derive(Debug)]
struct InFlight<J> {
    hash: u64,
    key: CompactString,
    number: u64,
    begun: u64,
    /// The key may have changed since the read began.
    void: bool,
    joined: J,
}

/// A read that has been taken out.
pub(super) struct Taken<J> {
    pub(super) joined: Option<J>,
    /// Whether the read was not voided.
    pub(super) is_good: bool,
}

impl<J> Default for Reads<J> {
    fn default() -> Self {
        Self { in_flight: Vec::new(), number: 0 }
    }
}

impl<J: Joinable> Reads<J> {
    /// Joins the read in flight that a read of `key` may join: the newest of the key, unless it was
    /// voided or sent too long ago.
    pub(super) fn join(
        &mut self,
        key: &str,
        hash: u64,
        now: u64,
        oldest: u64,
        rules: Rules,
    ) -> Option<J::Joined> {
        if !rules.hold(Rule::Joins) {
            return None;
        }
        let newest = self.of_mut(key, hash).max_by_key(|read| read.number)?;
        let is_recent = now.saturating_sub(newest.begun) <= oldest;
        let joinable = (is_recent || !rules.hold(Rule::JoinsRecent))
            && (!newest.void || !rules.hold(Rule::JoinsUnvoided));
        joinable.then(|| newest.joined.join())
    }

    pub(super) fn begin(&mut self, key: &str, hash: u64, now: u64, joined: J) -> Read {
        self.number += 1;
        let (key, number) = (CompactString::new(key), self.number);
        self.in_flight.push(InFlight { hash, key, number, begun: now, void: false, joined });
        Read { hash, number, begun: now }
    }

    /// Takes out a read that has its answer, and voids the other reads of its key. Any of them may
    /// have seen an older value, those that began later, too: they went through other connections.
    /// One that ends after this one would put the older value near, behind the newer that has been
    /// returned; one that is joined would return it.
    pub(super) fn end(&mut self, read: Read, key: &str, rules: Rules) -> Taken<J> {
        let taken = self.take(&read);
        if rules.hold(Rule::OneAnswer) {
            self.void(key, read.hash);
        }
        match taken {
            Some(taken) => {
                let is_good = !taken.void || !rules.hold(Rule::Token);
                Taken { joined: Some(taken.joined), is_good }
            }
            None => Taken { joined: None, is_good: false },
        }
    }

    pub(super) fn abandon(&mut self, read: &Read) -> Option<J> {
        self.take(read).map(|taken| taken.joined)
    }

    /// Notes that a key may have changed.
    pub(super) fn void(&mut self, key: &str, hash: u64) {
        self.of_mut(key, hash).for_each(|read| read.void = true);
    }

    /// Notes that all keys that begin with `prefix` may have changed.
    pub(super) fn void_below(&mut self, prefix: &str) {
        let below = self.in_flight.iter_mut().filter(|read| read.key.starts_with(prefix));
        below.for_each(|read| read.void = true);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.in_flight.len()
    }

    fn take(&mut self, read: &Read) -> Option<InFlight<J>> {
        let at = self.in_flight.iter().position(|other| other.number == read.number)?;
        Some(self.in_flight.swap_remove(at))
    }

    fn of_mut(&mut self, key: &str, hash: u64) -> impl Iterator<Item = &mut InFlight<J>> {
        self.in_flight.iter_mut().filter(move |read| read.hash == hash && read.key == key)
    }
}
