//! The clear log: one item on each server, by which every instance distinguishes live values from
//! cleared ones.
//!
//! memcached cannot list or remove keys by prefix. So a clear of a prefix is one compare-and-set on
//! the clear log: it raises the log's sequence number, and records the prefix with that number and
//! with the server's present CAS number. It costs one write for any number of keys; the server
//! evicts the cleared values in time.
//!
//! A value is cleared if its own CAS number is lower than that of the newest clear of a prefix of
//! its key, because every write on a server raises the CAS number. This is not enough in two cases:
//! the server gives an item a new number when it moves the item between slabs, and a write that was
//! given up may still arrive after a clear. So values that only larder reads also have a [stamp],
//! the sequence number at the time of their write, which decides in these cases.
//!
//! An instance may use its copy of the log for [`CLEAR_LOG_TTL`], and
//! [`clear`](super::AsyncMemcachedCache) returns only when all copies from before the clear are too
//! old. So a call that begins after a clear has returned sees the clear, in every process, and
//! neither reads nor writes need an extra round trip for the log.
//!
//! A *fence* uses the same numbers against a write that was sent and never answered: a value that
//! arrives after the fence with a stamp from before it is cleared. Values that were there before
//! the fence are not affected.
//!
//! [stamp]: super::stamps

use super::keys::Key;
use super::prefix::Prefix;
use super::stamps::{STAMPS, stamp};
use std::collections::HashMap;
use std::time::Duration;

/// How long an instance may use the copy of the log that it has read.
pub(super) const CLEAR_LOG_TTL: Duration = Duration::from_millis(20);

const MAGIC: &[u8; 4] = b"LDR2";
/// The magic number, the checksum of what follows the checksum, and three numbers.
const HEAD: usize = 32;
const SUM_AT: usize = 4;
const SUMMED_FROM: usize = 8;
/// In the checksum's place in logs of older versions, which have none.
const NO_SUM: u32 = 0;
const ENTRY: usize = 28;

/// How many prefixes the log distinguishes. Beyond this, the oldest clears become one clear of all
/// keys, at the time of the newest of them: it affects values that are older than the last 1,024
/// cleared prefixes, and no others.
const MOST_CLEARS: usize = 1_024;
/// How many fences the log keeps. A fence is removed within a minute; beyond this number, the
/// oldest is dropped, and older late writes are no longer kept off.
const MOST_FENCES: usize = 16;

/// The clear log, as one instance last read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClearLog {
    /// The first sequence number of this log. It is random, so that stamps of a log that the server
    /// has lost are not mistaken for stamps of this one.
    base: u64,
    seq: u64,
    /// The item's CAS number when the log was created.
    born: u64,
    /// The item's CAS number now.
    cas: u64,
    cleared: HashMap<Prefix, Mark>,
    fences: Vec<Fence>,
}

/// The time of an event, as the log's sequence number and the server's CAS number. A CAS number of
/// zero stands for the item's own, which its writer cannot know yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    seq: u64,
    cas: u64,
}

impl Mark {
    /// Whether a value that was written at `seq` arrived after this event.
    fn is_late(self, seq: u64, cas: u64) -> bool {
        seq < self.seq && cas > self.cas
    }
}

/// The prefix length that marks an entry as a fence with its keys.
const FENCE: u32 = u32::MAX;

/// Hides values that were written before it and arrive after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fence {
    mark: Mark,
    keys: KeySet,
}

/// A set of wire keys, by six bits of their hashes: a fence for few keys does not affect most
/// others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct KeySet(u64);

impl KeySet {
    fn of<K: AsRef<str>>(wires: &[K]) -> Self {
        let hashes = wires.iter().map(|wire| crc32fast::hash(wire.as_ref().as_bytes()));
        Self(hashes.fold(0, |all, hash| all | Self::bit(hash)))
    }

    fn bit(hash: u32) -> u64 {
        1 << (hash % 64)
    }

    fn has(self, hash: u32) -> bool {
        self.0 & Self::bit(hash) != 0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Live,
    Cleared,
    /// The stamp does not belong to this copy of the log: it is newer than the copy, or older than
    /// the log.
    Unknown,
}

impl ClearLog {
    /// A log for a server that has none.
    pub(super) fn new(random: u32) -> Self {
        let base = u64::from(random);
        Self { base, seq: base, born: 0, cas: 0, cleared: HashMap::new(), fences: Vec::new() }
    }

    /// A log that replaces one which was read before and is lost. Its clears are not known any
    /// more, so all of the adapter's keys, which begin with `own`, are cleared.
    pub(super) fn after_loss(random: u32, own: &str) -> Self {
        Self::new(random).with_cleared(own, own)
    }

    /// The sequence number of a value that is written now.
    pub(super) fn seq(&self) -> u64 {
        self.seq
    }

    /// Judges whether the value of a key has been cleared since its write.
    pub(super) fn judge(&self, key: &Key, flags: u32, cas: u64) -> Verdict {
        let newest = self.newest(key);
        if newest.is_some_and(|clear| cas < clear.cas) {
            return Verdict::Cleared;
        }
        let Some(stamp) = stamp(flags) else { return Verdict::Live };
        let Some(seq) = self.written_at(stamp, cas) else { return Verdict::Unknown };
        let late = |fence: &Fence| fence.keys.has(key.hash()) && fence.mark.is_late(seq, cas);
        if newest.is_some_and(|clear| seq < clear.seq) || self.fences.iter().any(late) {
            Verdict::Cleared
        } else {
            Verdict::Live
        }
    }

    /// The sequence number that a stamp stands for. Stamps repeat, so the candidate is the newest
    /// number that is not newer than the log; the CAS number distinguishes a stamp that is newer
    /// than the log from an old one.
    fn written_at(&self, stamp: u64, cas: u64) -> Option<u64> {
        let behind = (self.seq % STAMPS + STAMPS - stamp) % STAMPS;
        let is_newer = cas > self.cas && behind > STAMPS / 2;
        if is_newer || cas < self.born {
            return None;
        }
        self.seq.checked_sub(behind).filter(|seq| *seq >= self.base)
    }

    /// Whether a prefix of the key was cleared after `seq`, or the log of that time is lost.
    pub(super) fn is_cleared_since(&self, key: &Key, seq: u64) -> bool {
        !(self.base..=self.seq).contains(&seq)
            || self.newest(key).is_some_and(|clear| clear.seq > seq)
    }

    /// Whether a value arrived after the fence with this number, and was written before it.
    pub(super) fn is_kept_off(&self, fence: u64, flags: u32, cas: u64) -> bool {
        let fence = self.fences.iter().find(|other| other.mark.seq == fence);
        let seq = stamp(flags).and_then(|stamp| self.written_at(stamp, cas));
        fence.zip(seq).is_some_and(|(fence, seq)| fence.mark.is_late(seq, cas))
    }

    pub(super) fn has_fence(&self, fence: u64) -> bool {
        self.fences.iter().any(|other| other.mark.seq == fence)
    }

    fn newest(&self, key: &Key) -> Option<Mark> {
        if self.cleared.is_empty() {
            return None;
        }
        Prefix::all(key.text())
            .filter_map(|prefix| self.cleared.get(&prefix))
            .copied()
            .max_by_key(|clear| clear.seq)
    }

    fn next(&self) -> Self {
        Self { seq: self.seq + 1, ..self.clone() }
    }

    /// This log under the next number, and otherwise unchanged.
    pub(super) fn renewed(&self) -> Self {
        self.next()
    }

    /// This log after a clear of `prefix`; `own` is the adapter's prefix.
    pub(super) fn with_cleared(&self, prefix: &str, own: &str) -> Self {
        let mut next = self.next();
        if prefix == own {
            // This clear includes all others.
            next.cleared.clear();
            next.fences.clear();
        }
        next.cleared.insert(Prefix::of(prefix), Mark { seq: next.seq, cas: 0 });
        next.forget_oldest(MOST_CLEARS, own);
        next
    }

    /// This log with at most `most` prefixes, for a server whose items are too small for more.
    pub(super) fn shortened(&self, most: usize, own: &str) -> Self {
        let mut next = self.next();
        next.forget_oldest(most, own);
        next
    }

    pub(super) fn clears(&self) -> usize {
        self.cleared.len()
    }

    fn forget_oldest(&mut self, most: usize, own: &str) {
        let excess = self.cleared.len().saturating_sub(most);
        if excess == 0 {
            return;
        }
        let mut marks: Vec<Mark> = self.cleared.values().copied().collect();
        marks.sort_unstable_by_key(|mark| mark.seq);
        // The forgotten clears become one clear of all keys.
        let Some(last) = marks.get(excess).copied() else { return };
        self.cleared.retain(|_, mark| mark.seq > last.seq);
        self.cleared.insert(Prefix::of(own), last);
    }

    /// This log with a fence against writes that have been sent for these wire keys. The fence has
    /// the sequence number of the new log.
    pub(super) fn with_fence<K: AsRef<str>>(&self, wires: &[K]) -> Self {
        let mut next = self.next();
        if next.fences.len() >= MOST_FENCES {
            next.fences.remove(0);
        }
        next.fences.push(Fence { mark: Mark { seq: next.seq, cas: 0 }, keys: KeySet::of(wires) });
        next
    }

    /// This log without these fences.
    pub(super) fn without_fences(&self, fences: &[u64]) -> Self {
        let mut next = self.next();
        next.fences.retain(|fence| !fences.contains(&fence.mark.seq));
        next
    }

    /// Whether `other` is the same log at the same time or later.
    pub(super) fn leads_to(&self, other: &Self) -> bool {
        self.base == other.base && self.seq <= other.seq
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let count = self.cleared.len() + self.fences.len();
        let mut out = Vec::with_capacity(HEAD + ENTRY * count);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&NO_SUM.to_be_bytes());
        for number in [self.base, self.seq, self.born] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        let fences =
            self.fences.iter().map(|fence| (Prefix { len: FENCE, hash: fence.keys.0 }, fence.mark));
        for (prefix, mark) in
            self.cleared.iter().map(|(prefix, mark)| (*prefix, *mark)).chain(fences)
        {
            out.extend_from_slice(&prefix.len.to_be_bytes());
            for number in [prefix.hash, mark.seq, mark.cas] {
                out.extend_from_slice(&number.to_be_bytes());
            }
        }
        let sum = crc32fast::hash(&out[SUMMED_FROM..]);
        out[SUM_AT..SUMMED_FROM].copy_from_slice(&sum.to_be_bytes());
        out
    }

    /// Reads a log. `None` for bytes that are no clear log, or a damaged one; `cas` is the item's
    /// own number.
    ///
    /// Every instance keeps the highest sequence number that it has read: without the checksum, one
    /// changed digit of it would make an instance miss all later values.
    pub(super) fn from_bytes(bytes: &[u8], cas: u64) -> Option<Self> {
        let (head, entries) = bytes.split_first_chunk::<HEAD>()?;
        let sum = u32_at(head, SUM_AT);
        if sum != NO_SUM && sum != crc32fast::hash(&bytes[SUMMED_FROM..]) {
            return None;
        }
        let (entries, []) = entries.as_chunks::<ENTRY>() else { return None };
        let [base, seq, born] = [8, 16, 24].map(|at| u64_at(head, at));
        if !head.starts_with(MAGIC) || seq < base || seq == u64::MAX {
            return None;
        }
        let or_own = |number: u64| if number == 0 { cas } else { number };
        let mut log = Self { born: or_own(born), cas, seq, ..Self::new(0) };
        log.base = base;
        for entry in entries {
            let prefix = Prefix { len: u32_at(entry, 0), hash: u64_at(entry, 4) };
            let mark = Mark { seq: u64_at(entry, 12), cas: or_own(u64_at(entry, 20)) };
            if prefix.len == FENCE {
                log.fences.push(Fence { mark, keys: KeySet(prefix.hash) });
            } else {
                log.cleared.insert(prefix, mark);
            }
        }
        Some(log)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |number| u32::from_be_bytes(*number))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |number| u64::from_be_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::memcached::stamps::Stamping;

    const OWN: &str = "larder:";

    /// A log that was put in place with this CAS number.
    fn written(log: &ClearLog, cas: u64) -> ClearLog {
        ClearLog::from_bytes(&log.to_bytes(), cas).expect("what was written can be read")
    }

    fn cleared(log: &ClearLog, prefix: &str, cas: u64) -> ClearLog {
        written(&log.with_cleared(prefix, OWN), cas)
    }

    fn flags(log: &ClearLog) -> u32 {
        Stamping::Stamped.flags(log.seq(), false)
    }

    fn judge(log: &ClearLog, key: &str, flags: u32, cas: u64) -> Verdict {
        log.judge(&Key::new(key), flags, cas)
    }

    #[test]
    fn a_clear_takes_what_was_written_before_it_and_nothing_else() {
        let before = written(&ClearLog::new(1), 1);
        let after = cleared(&before, "larder:a:", 10);
        assert_eq!(judge(&after, "larder:a:x", flags(&before), 5), Verdict::Cleared);
        assert_eq!(judge(&after, "larder:a:x", flags(&after), 11), Verdict::Live);
        assert_eq!(judge(&after, "larder:a", flags(&before), 5), Verdict::Live);
        assert_eq!(judge(&after, "larder:b:x", flags(&before), 5), Verdict::Live);
        assert_eq!(judge(&before, "larder:a:x", flags(&after), 11), Verdict::Unknown);
        // Moved by the server, or written by an instance that had not read the clear yet.
        assert_eq!(judge(&after, "larder:a:x", flags(&before), 12), Verdict::Cleared);
    }

    /// Stamps repeat after 16,384 clears. Older values are distinguished by their CAS numbers.
    #[test]
    fn stamps_that_begin_anew_confuse_nothing() {
        let first = written(&ClearLog::new(u32::MAX), 10);
        let mut log = first.clone();
        let mut stamps = vec![(flags(&log), 11)];
        for n in 1..=3 * STAMPS {
            let prefix = if n % 2 == 0 { "larder:a:" } else { "larder:b:" };
            log = cleared(&log, prefix, 10 + 10 * n);
            stamps.push((flags(&log), 11 + 10 * n));
        }
        let last = stamps.len() - 1;
        for (at, (flags, cas)) in stamps.into_iter().enumerate() {
            let live =
                |cleared_until| if at < cleared_until { Verdict::Cleared } else { Verdict::Live };
            assert_eq!(judge(&log, "larder:a:x", flags, cas), live(last), "{at}");
            assert_eq!(judge(&log, "larder:b:x", flags, cas), live(last - 1), "{at}");
            assert_eq!(judge(&log, "larder:c:x", flags, cas), Verdict::Live, "{at}");
        }
    }

    #[test]
    fn all_keys_are_cleared_by_the_own_prefix() {
        let first = cleared(&ClearLog::new(1), "larder:a:", 10);
        let second = cleared(&first, OWN, 20);
        assert_eq!(second.clears(), 1);
        assert_eq!(judge(&second, "larder:z", flags(&first), 15), Verdict::Cleared);
        assert_eq!(judge(&second, "larder:z", flags(&second), 25), Verdict::Live);
    }

    #[test]
    fn values_without_a_stamp_go_by_the_order_of_writes() {
        let first = cleared(&ClearLog::new(1), "larder:a:", 10);
        let second = cleared(&first, "larder:b:", 20);
        for (text, cas, verdict) in [
            ("larder:a:x", 9, Verdict::Cleared),
            ("larder:a:x", 11, Verdict::Live),
            ("larder:b:x", 19, Verdict::Cleared),
            ("larder:b:x", 21, Verdict::Live),
            ("larder:c:x", 1, Verdict::Live),
        ] {
            for flags in [0, 16, 1, 0xFFFF] {
                assert_eq!(judge(&second, text, flags, cas), verdict, "{text} at {cas}");
            }
        }
    }

    #[test]
    fn values_from_before_a_lost_log_do_not_count() {
        let lost = written(&ClearLog::new(1), 1);
        let found = written(&ClearLog::new(1), 20);
        assert_eq!(judge(&found, "larder:a", flags(&lost), 5), Verdict::Unknown);
        // Moved by the server since.
        let found = written(&ClearLog::new(1 << 20), 20);
        assert_eq!(judge(&found, "larder:a", flags(&lost), 25), Verdict::Unknown);
        assert_eq!(judge(&found, "larder:a", 0, 5), Verdict::Live, "nothing shows the loss");
        let known = written(&ClearLog::after_loss(1 << 20, OWN), 20);
        assert_eq!(judge(&known, "larder:a", 0, 5), Verdict::Cleared);
        assert_eq!(judge(&known, "larder:a", 0, 25), Verdict::Live);
        assert!(found.is_cleared_since(&Key::new("larder:a"), lost.seq()));
        assert!(!found.is_cleared_since(&Key::new("larder:a"), found.seq()));
    }

    /// More prefixes than the log distinguishes: values older than all of those are cleared, and no
    /// newer ones.
    #[test]
    fn the_log_is_bounded_and_costs_only_what_is_old() {
        let first = written(&ClearLog::new(1), 1);
        let mut log = first.clone();
        let mut middle = None;
        let all = MOST_CLEARS as u64 + 100;
        for n in 0..all {
            log = cleared(&log, &format!("larder:{n}:"), 10 * n + 10);
            if n == 200 {
                middle = Some((flags(&log), 10 * n + 11));
            }
        }
        assert!(log.clears() <= MOST_CLEARS && log.to_bytes().len() <= HEAD + ENTRY * MOST_CLEARS);
        let (flags_then, cas_then) = middle.expect("there were more");
        for (text, flags, cas, verdict) in [
            ("larder:5:x", flags(&first), 2, Verdict::Cleared),
            ("larder:never-cleared", flags(&first), 2, Verdict::Cleared),
            ("larder:never-cleared", flags_then, cas_then, Verdict::Live),
            ("larder:never-cleared", 0, cas_then, Verdict::Live),
            ("larder:150:x", flags_then, cas_then, Verdict::Live),
            ("larder:201:x", flags_then, cas_then, Verdict::Cleared),
        ] {
            assert_eq!(judge(&log, text, flags, cas), verdict, "{text} at {cas}");
        }
        assert_eq!(written(&log.shortened(10, OWN), all * 20).clears(), 10);
    }

    #[test]
    fn what_is_no_log_is_not_read_as_one() {
        let whole = cleared(&ClearLog::new(3), "larder:a:", 10).to_bytes();
        for len in 0..whole.len() {
            assert_eq!(ClearLog::from_bytes(&whole[..len], 1), None, "{len} bytes");
        }
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(ClearLog::from_bytes(&damaged, 1), None, "without bit {bit}");
        }
        assert_eq!(ClearLog::from_bytes(b"the text of another program, long enough!!", 1), None);
    }

    #[test]
    fn a_log_of_an_older_version_has_no_checksum() {
        let log = cleared(&ClearLog::new(3), "larder:a:", 10).with_fence(&["larder:there"]);
        let mut older = log.to_bytes();
        older[SUM_AT..SUMMED_FROM].fill(0);
        assert_eq!(ClearLog::from_bytes(&older, 20), Some(written(&log, 20)));
    }

    #[test]
    fn a_fence_keeps_off_what_arrives_late_and_nothing_that_was_there() {
        let before = written(&ClearLog::new(1), 1);
        let keys = ["larder:there", "larder:late", "larder:new", "larder:theirs"];
        let fenced = written(&before.with_fence(&keys), 10);
        let fence = fenced.seq();
        for (text, flags, cas, verdict) in [
            ("larder:there", flags(&before), 5, Verdict::Live),
            ("larder:late", flags(&before), 11, Verdict::Cleared),
            ("larder:new", flags(&fenced), 11, Verdict::Live),
            ("larder:theirs", 0, 11, Verdict::Live),
        ] {
            assert_eq!(judge(&fenced, text, flags, cas), verdict, "{text}");
            let late = verdict == Verdict::Cleared;
            assert_eq!(fenced.is_kept_off(fence, flags, cas), late, "{text}");
        }
        let spared = (0..64).map(|n| format!("larder:{n}"));
        let spared = spared.filter(|key| judge(&fenced, key, flags(&before), 11) == Verdict::Live);
        assert!(
            spared.count() > 32,
            "other keys, written by instances that have not read the fence yet"
        );
        let open = written(&fenced.without_fences(&[fence]), 20);
        assert!(fenced.has_fence(fence) && !open.has_fence(fence));
        assert_eq!(open.to_bytes().len(), HEAD);
    }

    #[test]
    fn fences_are_few() {
        let first = written(&ClearLog::new(1), 1);
        let mut log = first.clone();
        for n in 0..1_000 {
            log = written(&log.with_fence(&["larder:there"]), 10 + n);
        }
        assert!(log.to_bytes().len() < 500, "{}", log.to_bytes().len());
        assert_eq!(judge(&log, "larder:there", flags(&first), 5), Verdict::Live);
    }
}
