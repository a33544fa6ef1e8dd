//! The client flags of items that larder stores. Only larder's own instances read them.

use crate::codec::Codec;

/// The client flags of placeholders and leases: neither a stamp nor a type of any client.
pub(super) const PLACEHOLDER: u32 = 0x4C52_0000;

/// Set in every stamp, and in no placeholder.
const STAMPED: u32 = 1 << 31;
/// Set in the stamp of a value that is kept beyond its logical end: whether it is stale is in the
/// value only. Clear in the stamps of all others, so that no value is read to find that out.
const MAY_BE_STALE: u32 = 1 << 30;
/// The position of a stamp's number. The lower half of the flags is zero, because clients keep
/// types and compression there (pickles in bit 0 for Python, Perl and Ruby clients, types up to bit
/// 15 for Java and PHP): a value with a zero lower half is plain bytes to all of them.
const STAMP_AT: u32 = 16;
/// The number of different stamps, after which they repeat.
pub(super) const STAMPS: u64 = 1 << 14;

/// Whether values have a stamp in their client flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stamping {
    /// Only larder reads the values.
    Stamped,
    /// Other programs read the values, and read client flags as types: the flags are zero, and only
    /// CAS numbers decide.
    Plain,
}

impl Stamping {
    pub(super) fn of(codec: Codec) -> Self {
        if codec == Codec::MessagePack { Self::Stamped } else { Self::Plain }
    }

    /// The client flags of a value that is written at this sequence number.
    pub(super) fn flags(self, seq: u64, may_be_stale: bool) -> u32 {
        let kept = if may_be_stale { MAY_BE_STALE } else { 0 };
        match self {
            Self::Stamped => STAMPED | kept | (low_bits(seq) << STAMP_AT),
            Self::Plain => 0,
        }
    }
}

/// The number in a stamp; `None` for flags that are no stamp.
pub(super) fn stamp(flags: u32) -> Option<u64> {
    let lower = (1 << STAMP_AT) - 1;
    let number = (flags & !STAMPED & !MAY_BE_STALE) >> STAMP_AT;
    (flags & STAMPED != 0 && flags & lower == 0).then(|| u64::from(number))
}

/// Whether only the value itself can tell that it is stale. A stamp of an older version, which has
/// one more digit in the place of the mark, may say so of a value that is never stale.
pub(super) fn may_be_stale(flags: u32) -> bool {
    stamp(flags).is_none() || flags & MAY_BE_STALE != 0
}

fn low_bits(seq: u64) -> u32 {
    u32::try_from(seq % STAMPS).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_client_reads_a_type_in_any_stamp() {
        let mut seen = std::collections::HashSet::new();
        for seq in (0..2 * STAMPS).chain(u64::MAX - STAMPS..u64::MAX) {
            for kept in [false, true] {
                let flags = Stamping::Stamped.flags(seq, kept);
                assert_eq!(flags & 0xFFFF, 0, "{flags:#x}");
                assert_eq!((stamp(flags), may_be_stale(flags)), (Some(seq % STAMPS), kept));
                seen.insert(flags);
                assert_eq!(Stamping::Plain.flags(seq, kept), 0);
            }
        }
        assert_eq!(seen.len() as u64, 2 * STAMPS);
        assert!(!seen.contains(&PLACEHOLDER) && PLACEHOLDER & 0xFFFF == 0);
        for theirs in [0, 1, 16, 0xFFFF, PLACEHOLDER, STAMPED | 1, 1 << 16] {
            assert_eq!(stamp(theirs), None, "{theirs:#x}");
            assert!(may_be_stale(theirs), "{theirs:#x}");
        }
    }
}
