//! The writes in flight, and which of them a later call has superseded.
//!
//! A write that fails is noted, and replayed later. It may have been in flight for a whole
//! deadline, and a later write of the same key may have been acknowledged in the meantime:
//! replaying the older write would undo the later one. So every write has a ticket, in the order in
//! which writes are sent, and an acknowledged write marks the older writes of its key that are
//! still in flight.
//!
//! Two tasks race here: a call that sends a write, and the recovery task that replays a note. A
//! write is registered here before it checks the journal, and a replay checks here after its note
//! was made. The second of the two always sees the first: the write waits for the note, or the note
//! is replayed as a removal.

use crate::runtime::lock;
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::time::Instant;

const STRIPES: usize = 64;

/// The effect of a call on its key, as its answer shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// The call changed nothing.
    None,
    /// The key holds the value that the call left.
    Decided,
    /// The key has changed or may have changed, and its value is not known.
    Uncertain,
}

/// Whether writes that were sent after this one have changed the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Precedence {
    /// No later call is known to have changed the key.
    Latest,
    /// A later call has changed the key or may have changed it.
    Doubtful,
    /// A later write was acknowledged.
    Superseded,
}

#[derive(Debug)]
pub(super) struct InFlight {
    tickets: AtomicU64,
    hasher: RandomState,
    stripes: [Mutex<Vec<Sent>>; STRIPES],
    /// The tickets of the clears in flight. A clear concerns all stripes.
    clears: Mutex<Vec<u64>>,
}

/// A write in flight. Keys are compared by a seeded 64-bit hash.
#[derive(Debug)]
struct Sent {
    ticket: u64,
    hash: u64,
    precedence: Precedence,
}

impl Default for InFlight {
    fn default() -> Self {
        Self {
            tickets: AtomicU64::new(0),
            hasher: RandomState::new(),
            stripes: std::array::from_fn(|_| Mutex::default()),
            clears: Mutex::default(),
        }
    }
}

impl InFlight {
    /// Begins a write that has not been sent yet.
    pub(super) fn begin(&self, key: &str) -> Write<'_> {
        self.begin_at(key, Instant::now())
    }

    pub(super) fn begin_at(&self, key: &str, begun: Instant) -> Write<'_> {
        Write { in_flight: self, hash: self.hasher.hash_one(key), begun, ticket: None }
    }

    /// Begins a clear that has not been sent yet.
    pub(super) fn begin_clear(&self) -> Clear<'_> {
        Clear { in_flight: self, ticket: None }
    }

    /// Whether a write of the key, or a clear, that was sent after this ticket is in flight.
    pub(super) fn has_later(&self, key: &str, ticket: u64) -> bool {
        let hash = self.hasher.hash_one(key);
        lock(&self.clears).iter().any(|clear| *clear > ticket)
            || lock(self.stripe(hash)).iter().any(|sent| sent.hash == hash && sent.ticket > ticket)
    }

    /// Records that a note with this ticket has been replayed.
    pub(super) fn replayed(&self, key: &str, ticket: u64) {
        let hash = self.hasher.hash_one(key);
        mark(&mut lock(self.stripe(hash)), hash, ticket, Precedence::Superseded);
    }

    /// Records that a clear with this ticket took effect. Its prefix is not compared with the keys
    /// in flight: a write that is in doubt becomes a removal.
    pub(super) fn cleared(&self, ticket: u64) {
        for stripe in &self.stripes {
            for sent in lock(stripe).iter_mut().filter(|sent| sent.ticket < ticket) {
                sent.precedence = sent.precedence.max(Precedence::Doubtful);
            }
        }
    }

    fn next(&self) -> u64 {
        self.tickets.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn stripe(&self, hash: u64) -> &Mutex<Vec<Sent>> {
        // The remainder is less than the number of stripes.
        &self.stripes[(hash % STRIPES as u64) as usize]
    }
}

fn mark(stripe: &mut [Sent], hash: u64, before: u64, precedence: Precedence) {
    for sent in stripe.iter_mut().filter(|sent| sent.hash == hash && sent.ticket < before) {
        sent.precedence = sent.precedence.max(precedence);
    }
}

fn take(stripe: &mut Vec<Sent>, ticket: u64) -> Precedence {
    match stripe.iter().position(|sent| sent.ticket == ticket) {
        Some(at) => stripe.swap_remove(at).precedence,
        None => Precedence::Latest,
    }
}

/// A write of one key. If it is dropped with its caller, it leaves nothing behind.
#[derive(Debug)]
pub(super) struct Write<'f> {
    in_flight: &'f InFlight,
    hash: u64,
    begun: Instant,
    /// `None` while the write has not been sent.
    ticket: Option<u64>,
}

impl Write<'_> {
    /// When the caller began the write.
    pub(super) fn begun(&self) -> Instant {
        self.begun
    }

    fn stripe(&self) -> &Mutex<Vec<Sent>> {
        self.in_flight.stripe(self.hash)
    }

    pub(super) fn send(&mut self) {
        let mut stripe = lock(self.in_flight.stripe(self.hash));
        let ticket = self.in_flight.next();
        self.ticket = Some(ticket);
        stripe.push(Sent { ticket, hash: self.hash, precedence: Precedence::Latest });
    }

    /// Takes back [`send`](Sending::send): the write was not sent after all.
    pub(super) fn recall(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            take(&mut lock(self.stripe()), ticket);
        }
    }

    /// Ends a write that was answered. Returns its ticket if older notes have to yield to this
    /// write.
    pub(super) fn answered(mut self, effect: Effect) -> Option<u64> {
        let ticket = self.ticket.take()?;
        let mut stripe = lock(self.stripe());
        take(&mut stripe, ticket);
        let precedence = match effect {
            Effect::None => return None,
            Effect::Decided => Precedence::Superseded,
            Effect::Uncertain => Precedence::Doubtful,
        };
        mark(&mut stripe, self.hash, ticket, precedence);
        Some(ticket)
    }

    /// Ends a write that failed and is to be noted. No write is acknowledged while `note` runs, so
    /// a later write sees either this write or its note.
    pub(super) fn failed<R>(mut self, note: impl FnOnce(u64, Precedence) -> R) -> R {
        let mut stripe = lock(self.stripe());
        let (ticket, precedence) = match self.ticket {
            Some(ticket) => (ticket, take(&mut stripe, ticket)),
            // Refused before it was sent, so it is later than all writes that were sent so far.
            None => (self.in_flight.next(), Precedence::Latest),
        };
        let noted = note(ticket, precedence);
        drop(stripe);
        self.ticket = None;
        noted
    }
}

impl Drop for Write<'_> {
    fn drop(&mut self) {
        self.recall();
    }
}

/// A clear. If it is dropped with its caller, it leaves nothing behind.
#[derive(Debug)]
pub(super) struct Clear<'f> {
    in_flight: &'f InFlight,
    ticket: Option<u64>,
}

impl Clear<'_> {
    pub(super) fn send(&mut self) {
        let mut clears = lock(&self.in_flight.clears);
        let ticket = self.in_flight.next();
        self.ticket = Some(ticket);
        clears.push(ticket);
    }

    pub(super) fn recall(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            lock(&self.in_flight.clears).retain(|clear| *clear != ticket);
        }
    }

    /// Ends a clear that was acknowledged. Returns its ticket, to which older notes under its
    /// prefix have to yield.
    pub(super) fn acknowledged(mut self) -> Option<u64> {
        let ticket = self.ticket?;
        self.in_flight.cleared(ticket);
        self.recall();
        Some(ticket)
    }

    /// Ends a clear that failed and is to be noted. Returns its ticket.
    pub(super) fn failed(mut self) -> u64 {
        let ticket = self.ticket.unwrap_or_else(|| self.in_flight.next());
        self.recall();
        ticket
    }
}

impl Drop for Clear<'_> {
    fn drop(&mut self) {
        self.recall();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent<'f>(in_flight: &'f InFlight, key: &str) -> Write<'f> {
        let mut write = in_flight.begin(key);
        write.send();
        write
    }

    fn precedence(write: Write<'_>) -> Precedence {
        write.failed(|_, precedence| precedence)
    }

    #[tokio::test]
    async fn a_write_yields_to_what_was_sent_later_and_acknowledged() {
        let all = InFlight::default();
        let (older, other, newer) = (sent(&all, "k"), sent(&all, "other"), sent(&all, "k"));
        let latest = sent(&all, "k");
        assert!(newer.answered(Effect::Decided).is_some());
        assert_eq!(precedence(older), Precedence::Superseded);
        assert_eq!(precedence(other), Precedence::Latest);
        assert_eq!(precedence(latest), Precedence::Latest, "what was sent before says nothing");
    }

    #[tokio::test]
    async fn what_is_uncertain_is_in_doubt_and_what_changed_nothing_is_not() {
        let all = InFlight::default();
        let (one, two) = (sent(&all, "k"), sent(&all, "k"));
        assert_eq!(sent(&all, "k").answered(Effect::None), None);
        assert_eq!(precedence(two), Precedence::Latest);
        assert!(sent(&all, "k").answered(Effect::Uncertain).is_some());
        assert_eq!(precedence(one), Precedence::Doubtful);
        let (third, mut clear) = (sent(&all, "k"), all.begin_clear());
        clear.send();
        assert!(clear.acknowledged().is_some());
        assert_eq!(precedence(third), Precedence::Doubtful);
    }

    #[tokio::test]
    async fn a_dropped_write_leaves_nothing_behind() {
        let all = InFlight::default();
        let first = sent(&all, "k").failed(|ticket, _| ticket);
        let (mut clear, write) = (all.begin_clear(), sent(&all, "k"));
        assert!(all.has_later("k", first));
        drop(write);
        assert!(!all.has_later("k", first));
        clear.send();
        assert!(all.has_later("k", first));
        drop(clear);
        assert!(!all.has_later("k", first));
        assert!(all.stripes.iter().all(|stripe| lock(stripe).is_empty()));
    }
}
