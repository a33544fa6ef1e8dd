//! Prefixes of keys, as the clear log records them.

/// A prefix, as its length and hash. Two prefixes with the same hash cause misses, never wrong
/// values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Prefix {
    pub(super) len: u32,
    pub(super) hash: u64,
}

impl Prefix {
    pub(super) fn of(text: &str) -> Self {
        Self::all(text).last().unwrap_or(Self { len: 0, hash: FNV_START })
    }

    /// Every prefix of a text, from the empty one to the whole.
    pub(super) fn all(text: &str) -> impl Iterator<Item = Self> {
        let first = Self { len: 0, hash: FNV_START };
        let rest = text.bytes().scan(first, |prefix, byte| {
            prefix.len += 1;
            prefix.hash = (prefix.hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
            Some(*prefix)
        });
        std::iter::once(first).chain(rest)
    }
}

// FNV-1a, because computing the hash of a key yields the hash of each of its prefixes.
const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;
