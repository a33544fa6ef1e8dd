//! The clear log: one item on each server, by which every instance tells live values from cleared ones.
//!
//! memcached cannot list or remove keys by prefix. So clearing a prefix is one compare-and-set on the clear log: its sequence
//! number goes up, and the prefix is noted with that number and with the server's CAS number of the moment. The cost is that of
//! one write, however many keys there are; what has been cleared is left to the server's own eviction.
//!
//! A value is cleared when its own CAS number is lower than that of the newest clear of a prefix of its key: CAS numbers go up
//! with every write on a server. They are not the whole truth, for the server gives a new one to an item that it moves between
//! its slabs, and a write that was given up may still arrive after a clear. So values that only larder reads bear a [stamp]
//! too, the sequence number at the time they were written, and the stamp decides against them.
//!
//! An instance may act on what it knows of the log for [`CLEAR_LOG_TTL`], and [`clear`](super::AsyncMemcachedCache) returns
//! only when everybody's knowledge from before has run out. So a call that begins after a clear returned sees it, in every
//! process, and neither reads nor writes need a round trip for the log's sake.
//!
//! A *fence* uses the same numbers for a write that was sent, and whose answer was never seen: whatever arrives later with a
//! stamp from before the fence is cleared. What was there before the fence is not touched.
//!
//! [stamp]: super::stamps

use super::keys::Key;
use super::prefix::Prefix;
use super::stamps::{STAMPS, stamp};
use std::collections::HashMap;
use std::time::Duration;

/// For how long an instance may act on what it was told.
pub(super) const CLEAR_LOG_TTL: Duration = Duration::from_millis(20);

const MAGIC: &[u8; 4] = b"LDR2";
const HEAD: usize = 32;
const ENTRY: usize = 28;

/// How many prefixes are kept apart. Past it, the oldest clears become one clear of all keys, at the time of the newest of them:
/// that reaches values which are older than the last 1,024 cleared prefixes, and no others.
const MOST_CLEARS: usize = 1_024;
/// How many fences are kept. They are taken back within a minute; past it, the oldest is forgotten, and with it the promise
/// about writes that are older still.
const MOST_FENCES: usize = 16;

/// The clear log as one instance last saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClearLog {
    /// The first number ever given. Random, so that stamps from a log that the server lost are not taken for its own.
    base: u64,
    seq: u64,
    /// The item's CAS number when the log began.
    born: u64,
    /// The item's CAS number now.
    cas: u64,
    cleared: HashMap<Prefix, Mark>,
    fences: Vec<Fence>,
}

/// When something happened: by the log's sequence number, and by the server's CAS number. Zero is the item's own, which
/// whoever writes the item cannot know yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    seq: u64,
    cas: u64,
}

impl Mark {
    /// Whether something that was written at `seq` arrived after this.
    fn is_late(self, seq: u64, cas: u64) -> bool {
        seq < self.seq && cas > self.cas
    }
}

/// Stands in the length of what is no prefix, but a fence with its keys.
const FENCE: u32 = u32::MAX;

/// Keeps off what was written before it and arrives after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fence {
    mark: Mark,
    keys: KeySet,
}

/// Some wire keys, told apart by six bits of their hashes, so that a fence for few keys is none for most others.
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
    /// The stamp is none of this log's: it is newer than what is known, or older than the log.
    Unknown,
}

impl ClearLog {
    /// A log for a server that has none.
    pub(super) fn new(random: u32) -> Self {
        let base = u64::from(random);
        Self { base, seq: base, born: 0, cas: 0, cleared: HashMap::new(), fences: Vec::new() }
    }

    /// A log in place of one that was known and is lost: what it noted is not known any more, so all of the adapter's keys,
    /// which begin with `own`, are cleared.
    pub(super) fn after_loss(random: u32, own: &str) -> Self {
        Self::new(random).with_cleared(own, own)
    }

    /// The sequence number of what is written now.
    pub(super) fn seq(&self) -> u64 {
        self.seq
    }

    /// Whether the value under a key has been cleared since it was written.
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

    /// The sequence number that a stamp stands for. The numbers in stamps begin anew, so of all that it could be it is the
    /// newest that is not newer than the log; the CAS number tells a stamp that is newer from one that is old.
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

    /// Whether a value arrived later than the fence with this number, and was written before it.
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

    /// This log after a clear of `prefix`; `own` is the adapter's prefix.
    pub(super) fn with_cleared(&self, prefix: &str, own: &str) -> Self {
        let mut next = self.next();
        if prefix == own {
            // It says all that the others say.
            next.cleared.clear();
            next.fences.clear();
        }
        next.cleared.insert(Prefix::of(prefix), Mark { seq: next.seq, cas: 0 });
        next.forget_oldest(MOST_CLEARS, own);
        next
    }

    /// This log with at most `most` prefixes, whose size an item of the server's can hold.
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
        // Those that are forgotten, and the one of all keys that says so in their place.
        let Some(last) = marks.get(excess).copied() else { return };
        self.cleared.retain(|_, mark| mark.seq > last.seq);
        self.cleared.insert(Prefix::of(own), last);
    }

    /// This log with a fence against what was sent up to now for these wire keys; the fence has the new log's number.
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

    /// Whether this is what the log was before it became `other`, or the same.
    pub(super) fn leads_to(&self, other: &Self) -> bool {
        self.base == other.base && self.seq <= other.seq
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let count = self.cleared.len() + self.fences.len();
        let mut out = Vec::with_capacity(HEAD + ENTRY * count);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&[0; 4]);
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
        out
    }

    /// `None` for what is no clear log. `cas` is the item's own.
    pub(super) fn from_bytes(bytes: &[u8], cas: u64) -> Option<Self> {
        let (head, entries) = bytes.split_first_chunk::<HEAD>()?;
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
        Stamping::Stamped.flags(log.seq())
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
        // Moved by the server, or written by somebody who did not know of the clear yet.
        assert_eq!(judge(&after, "larder:a:x", flags(&before), 12), Verdict::Cleared);
    }

    /// The numbers in stamps begin anew after 32,768 clears; whatever is older is still told by its CAS number.
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
        // Moved since.
        let found = written(&ClearLog::new(1 << 20), 20);
        assert_eq!(judge(&found, "larder:a", flags(&lost), 25), Verdict::Unknown);
        assert_eq!(judge(&found, "larder:a", 0, 5), Verdict::Live, "nobody knows better");
        let known = written(&ClearLog::after_loss(1 << 20, OWN), 20);
        assert_eq!(judge(&known, "larder:a", 0, 5), Verdict::Cleared);
        assert_eq!(judge(&known, "larder:a", 0, 25), Verdict::Live);
        assert!(found.is_cleared_since(&Key::new("larder:a"), lost.seq()));
        assert!(!found.is_cleared_since(&Key::new("larder:a"), found.seq()));
    }

    /// More prefixes than are kept apart: what is older than all of those is cleared, and nothing that is newer.
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
            assert_eq!(
                ClearLog::from_bytes(&whole[..len], 1).is_some(),
                len == HEAD,
                "{len} bytes"
            );
        }
        assert_eq!(ClearLog::from_bytes(b"somebody else's words, long enough for one", 1), None);
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
            "other keys that are written by who does not know of the fence yet"
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
