//! What has been cleared: one item on each server, by which every instance tells live values from cleared ones.
//!
//! memcached cannot list or remove keys by prefix. So a value is stamped, in its client flags, with the registry's sequence
//! number at the time it was written, and clearing a prefix is one compare-and-set on the registry: the number goes up, and the
//! prefix is noted with it. A value is cleared when a prefix of its key was noted with a higher number than its stamp. The cost
//! is that of one write, however many keys there are; what has been cleared is left to the server's own eviction.
//!
//! An instance may act on what it knows of the registry for [`LEASE`], and [`clear`](super::AsyncMemcachedCache) returns only
//! when everybody's knowledge from before has run out. So a call that begins after a clear returned sees it, in every process,
//! and neither reads nor writes need a round trip for the registry's sake.
//!
//! The same way, a single key is fenced: a write that was sent, and whose answer was never seen, may still arrive. Its stamp tells.
//!
//! Values of other programs bear no stamp. For them the server's CAS numbers decide, which go up with every write; they alone
//! would not do, for older servers give a new one to an item that they move.

use super::keys::Key;
use std::collections::HashMap;
use std::time::Duration;

/// For how long an instance may act on what it was told.
pub(super) const LEASE: Duration = Duration::from_millis(20);

/// Set in every stamp. Other clients keep small numbers, for types and compression, in the flags of theirs.
const STAMPED: u32 = 1 << 31;

const MAGIC: &[u8; 4] = b"LDR1";
const HEAD: usize = 12;
const ENTRY: usize = 24;

/// How many prefixes are kept apart. Past it, all of the adapter's keys are cleared once, and the list begins anew.
const MOST: usize = 4_096;

/// The registry as one instance last saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Registry {
    /// The first number ever given. Random, so that stamps from a registry that the server lost are not taken for its own.
    base: u32,
    seq: u32,
    cleared: HashMap<Prefix, Clear>,
}

/// Set in the length of what is no prefix, but one whole wire key.
const FENCE: u32 = 1 << 31;

/// A prefix by length and hash: two that are alike cost misses, never wrong values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Prefix {
    len: u32,
    hash: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Clear {
    seq: u32,
    /// The registry's own CAS number at the time.
    cas: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Live,
    Cleared,
    /// The stamp is none of this registry's: it is newer than what is known, or older than the registry.
    Unknown,
}

impl Registry {
    pub(super) fn new(random: u32) -> Self {
        // Half of the numbers are left to count up.
        let base = STAMPED | (random >> 2);
        Self { base, seq: base, cleared: HashMap::new() }
    }

    /// The flags of a value that is written now.
    pub(super) fn stamp(&self) -> u32 {
        self.seq
    }

    /// Whether the value under a key has been cleared since it was written.
    pub(super) fn judge(&self, key: &Key, flags: u32, cas: u64) -> Verdict {
        let newest = self.newest(key);
        let cleared = if flags & STAMPED == 0 {
            newest.is_some_and(|clear| cas < clear.cas)
        } else if (self.base..=self.seq).contains(&flags) {
            newest.is_some_and(|clear| flags < clear.seq)
        } else {
            return Verdict::Unknown;
        };
        if cleared { Verdict::Cleared } else { Verdict::Live }
    }

    fn newest(&self, key: &Key) -> Option<Clear> {
        if self.cleared.is_empty() {
            return None;
        }
        let prefixes = Prefix::all(key.text()).chain([Prefix::fence(key.wire())]);
        prefixes
            .filter_map(|prefix| self.cleared.get(&prefix))
            .copied()
            .max_by_key(|clear| clear.seq)
    }

    /// This registry after a clear of `prefix`; `own` is the adapter's prefix. `None` when the numbers are used up.
    pub(super) fn with_cleared(&self, prefix: &str, own: &str) -> Option<Self> {
        self.with(if prefix == own { Vec::new() } else { vec![Prefix::of(prefix)] }, own)
    }

    /// This registry after what may still arrive under these wire keys has been fenced off.
    pub(super) fn with_fences<K: AsRef<str>>(&self, wires: &[K], own: &str) -> Option<Self> {
        self.with(wires.iter().map(|wire| Prefix::fence(wire.as_ref())).collect(), own)
    }

    /// None of them, or too many, is all of them.
    fn with(&self, mut prefixes: Vec<Prefix>, own: &str) -> Option<Self> {
        let mut next = self.clone();
        next.seq = self.seq.checked_add(1)?;
        let added = prefixes.iter().filter(|prefix| !next.cleared.contains_key(prefix)).count();
        if prefixes.is_empty() || next.cleared.len() + added > MOST {
            next.cleared.clear();
            prefixes = vec![Prefix::of(own)];
        }
        next.cleared
            .extend(prefixes.into_iter().map(|prefix| (prefix, Clear { seq: next.seq, cas: 0 })));
        Some(next)
    }

    /// Whether this is what the registry was before it became `other`, or the same.
    pub(super) fn leads_to(&self, other: &Self) -> bool {
        self.base == other.base && self.seq <= other.seq
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD + ENTRY * self.cleared.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.base.to_be_bytes());
        out.extend_from_slice(&self.seq.to_be_bytes());
        for (prefix, clear) in &self.cleared {
            out.extend_from_slice(&prefix.len.to_be_bytes());
            out.extend_from_slice(&prefix.hash.to_be_bytes());
            out.extend_from_slice(&clear.seq.to_be_bytes());
            out.extend_from_slice(&clear.cas.to_be_bytes());
        }
        out
    }

    /// `None` for what is no registry. `cas` is the item's own: the newest clear was written with it, and could not know it.
    pub(super) fn from_bytes(bytes: &[u8], cas: u64) -> Option<Self> {
        let (head, entries) = bytes.split_first_chunk::<HEAD>()?;
        let (entries, []) = entries.as_chunks::<ENTRY>() else { return None };
        let base = u32_at(head, 4);
        let seq = u32_at(head, 8);
        if !head.starts_with(MAGIC) || base & STAMPED == 0 || seq < base {
            return None;
        }
        let cleared = entries.iter().map(|entry| {
            let prefix = Prefix { len: u32_at(entry, 0), hash: u64_at(entry, 4) };
            let clear = Clear { seq: u32_at(entry, 12), cas: u64_at(entry, 16) };
            (prefix, Clear { cas: if clear.cas == 0 { cas } else { clear.cas }, ..clear })
        });
        Some(Self { base, seq, cleared: cleared.collect() })
    }
}

impl Prefix {
    fn of(text: &str) -> Self {
        Self::all(text).last().unwrap_or(Self { len: 0, hash: FNV_START })
    }

    fn fence(wire: &str) -> Self {
        let Self { len, hash } = Self::of(wire);
        Self { len: len | FENCE, hash }
    }

    /// Every prefix of a text, from the empty one to the whole.
    fn all(text: &str) -> impl Iterator<Item = Self> {
        let first = Self { len: 0, hash: FNV_START };
        let rest = text.bytes().scan(first, |prefix, byte| {
            prefix.len += 1;
            prefix.hash = (prefix.hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
            Some(*prefix)
        });
        std::iter::once(first).chain(rest)
    }
}

// FNV-1a: the hash of each prefix of a key falls out on the way to the hash of the key.
const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |number| u32::from_be_bytes(*number))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |number| u64::from_be_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "larder:";

    fn cleared(registry: &Registry, prefix: &str, cas: u64) -> Registry {
        let next = registry.with_cleared(prefix, OWN).expect("numbers are left");
        Registry::from_bytes(&next.to_bytes(), cas).expect("what was written can be read")
    }

    #[test]
    fn a_clear_takes_what_was_stamped_before_it_and_nothing_else() {
        let before = Registry::new(1);
        let after = cleared(&before, "larder:a:", 10);
        assert_eq!(after.judge(&Key::new("larder:a:x"), before.stamp(), 5), Verdict::Cleared);
        assert_eq!(after.judge(&Key::new("larder:a:x"), after.stamp(), 11), Verdict::Live);
        assert_eq!(after.judge(&Key::new("larder:a"), before.stamp(), 5), Verdict::Live);
        assert_eq!(after.judge(&Key::new("larder:b:x"), before.stamp(), 5), Verdict::Live);
        assert_eq!(before.judge(&Key::new("larder:a:x"), after.stamp(), 11), Verdict::Unknown);
    }

    #[test]
    fn all_keys_are_cleared_by_the_own_prefix() {
        let first = cleared(&Registry::new(1), "larder:a:", 10);
        let second = cleared(&first, OWN, 20);
        assert_eq!(second.cleared.len(), 1);
        assert_eq!(second.judge(&Key::new("larder:z"), first.stamp(), 15), Verdict::Cleared);
        assert_eq!(second.judge(&Key::new("larder:z"), second.stamp(), 25), Verdict::Live);
    }

    #[test]
    fn values_of_other_programs_go_by_the_order_of_writes() {
        let first = cleared(&Registry::new(1), "larder:a:", 10);
        let second = cleared(&first, "larder:b:", 20);
        for (text, cas, verdict) in [
            ("larder:a:x", 9, Verdict::Cleared),
            ("larder:a:x", 11, Verdict::Live),
            ("larder:b:x", 19, Verdict::Cleared),
            ("larder:b:x", 21, Verdict::Live),
            ("larder:c:x", 1, Verdict::Live),
        ] {
            assert_eq!(second.judge(&Key::new(text), 0, cas), verdict, "{text} at {cas}");
            assert_eq!(second.judge(&Key::new(text), 16, cas), verdict, "{text} at {cas}");
        }
    }

    #[test]
    fn stamps_of_a_lost_registry_are_unknown() {
        let lost = Registry::new(1);
        let found = Registry::new(1 << 20);
        assert_eq!(found.judge(&Key::new("larder:a"), lost.stamp(), 5), Verdict::Unknown);
    }

    #[test]
    fn the_list_is_bounded() {
        let first = Registry::new(1);
        let mut registry = first.clone();
        for n in 0..=MOST {
            registry = cleared(&registry, &format!("larder:{n}:"), n as u64 + 1);
        }
        assert_eq!(registry.cleared.len(), 1);
        assert!(registry.to_bytes().len() < 100);
        assert_eq!(registry.judge(&Key::new("larder:5:x"), first.stamp(), 1), Verdict::Cleared);
        assert_eq!(
            registry.judge(&Key::new("larder:never-cleared"), first.stamp(), 1),
            Verdict::Cleared
        );
    }

    #[test]
    fn what_is_no_registry_is_not_read_as_one() {
        let whole = cleared(&Registry::new(3), "larder:a:", 10).to_bytes();
        for len in 0..whole.len() {
            let read = Registry::from_bytes(&whole[..len], 1);
            assert_eq!(read.is_some(), len == HEAD, "{len} bytes");
        }
        assert_eq!(Registry::from_bytes(b"somebody else's words", 1), None);
    }

    #[test]
    fn a_fence_is_for_one_key() {
        let before = Registry::new(1);
        let fenced = before
            .with_fences(&["larder:a", Key::new("larder:b c").wire()], OWN)
            .expect("numbers are left");
        let after =
            Registry::from_bytes(&fenced.to_bytes(), 10).expect("what was written can be read");
        for (text, verdict) in [
            ("larder:a", Verdict::Cleared),
            ("larder:b c", Verdict::Cleared),
            ("larder:ab", Verdict::Live),
        ] {
            assert_eq!(after.judge(&Key::new(text), before.stamp(), 5), verdict, "{text}");
            assert_eq!(after.judge(&Key::new(text), after.stamp(), 11), Verdict::Live, "{text}");
        }
    }

    #[test]
    fn the_numbers_end_without_wrapping() {
        let last = Registry { base: STAMPED, seq: u32::MAX, cleared: HashMap::new() };
        assert_eq!(last.with_cleared("larder:a:", OWN), None);
    }
}
