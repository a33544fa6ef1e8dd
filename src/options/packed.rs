//! An expiry in half of its size: the options are copied for each call.

use crate::expiry::Expiry;
use std::fmt;
use std::time::{Duration, SystemTime};

/// An [`Expiry`] in 12 bytes instead of 24. A time before 1970 becomes the beginning of 1970, which
/// is as much in the past.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct PackedExpiry {
    /// The seconds: high half, low half.
    seconds: [u32; 2],
    /// The kind in the two highest bits, and the nanoseconds.
    kind_and_nanos: u32,
}

/// Nanoseconds of a second need 30 bits.
const KIND_AT: u32 = 30;
const DEFAULT: u32 = 0;
const NEVER: u32 = 1;
const AFTER: u32 = 2;
const AT: u32 = 3;

impl PackedExpiry {
    fn new(kind: u32, time: Duration) -> Self {
        let seconds = time.as_secs();
        Self {
            seconds: [(seconds >> 32) as u32, seconds as u32],
            kind_and_nanos: (kind << KIND_AT) | time.subsec_nanos(),
        }
    }

    pub(crate) fn get(self) -> Expiry {
        let [high, low] = self.seconds.map(u64::from);
        let time = Duration::new((high << 32) | low, self.kind_and_nanos & ((1 << KIND_AT) - 1));
        match self.kind_and_nanos >> KIND_AT {
            DEFAULT => Expiry::Default,
            NEVER => Expiry::Never,
            AFTER => Expiry::After(time),
            // What no clock can show is never.
            _ => SystemTime::UNIX_EPOCH.checked_add(time).map_or(Expiry::Never, Expiry::At),
        }
    }
}

impl From<Expiry> for PackedExpiry {
    fn from(expiry: Expiry) -> Self {
        match expiry {
            Expiry::Default => Self::new(DEFAULT, Duration::ZERO),
            Expiry::Never => Self::new(NEVER, Duration::ZERO),
            Expiry::After(time) => Self::new(AFTER, time),
            Expiry::At(when) => {
                Self::new(AT, when.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
            }
        }
    }
}

impl fmt::Debug for PackedExpiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_comes_out_again() {
        let odd = Duration::new(u64::from(u32::MAX) + 7, 999_999_999);
        for expiry in [
            Expiry::Default,
            Expiry::Never,
            Expiry::After(Duration::ZERO),
            Expiry::After(odd),
            Expiry::After(Duration::MAX),
            Expiry::At(SystemTime::UNIX_EPOCH + odd),
        ] {
            assert_eq!(PackedExpiry::from(expiry).get(), expiry);
        }
        let early = Expiry::At(SystemTime::UNIX_EPOCH - Duration::from_secs(5));
        assert_eq!(PackedExpiry::from(early).get(), Expiry::At(SystemTime::UNIX_EPOCH));
        assert_eq!(size_of::<PackedExpiry>(), 12);
    }
}
