//! Lifetimes, in the form that memcached expects.

use crate::expiry::{Expiry, Lifetime};
use std::fmt;
use std::time::{Duration, SystemTime};

/// Over this many seconds, memcached reads a number as a point in time.
const LONGEST_RELATIVE: u64 = 30 * 86_400;

/// The last second that memcached can represent, in January 2038.
pub(super) const LAST_SECOND: i64 = i32::MAX as i64;

/// The `T` flag of a command: seconds from now, or, for more than thirty days, a second since 1970.
/// Zero is never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ttl(i64);

impl Ttl {
    pub(super) const NEVER: Self = Self(0);

    /// In the past: an item that is written with it is gone at once.
    pub(super) const PAST: Self = Self(-1);

    /// `None` for a lifetime of zero, which stores nothing. An end after [`LAST_SECOND`] becomes
    /// never.
    pub(super) fn new(lifetime: Lifetime) -> Option<Self> {
        match lifetime.as_millis_ceil() {
            None => Some(Self::NEVER),
            Some(0) => None,
            Some(millis) => Some(Self::seconds(millis.div_ceil(1_000))),
        }
    }

    fn seconds(whole: u64) -> Self {
        // The server's clock ticks once per second, so an item with n seconds lives between n - 1
        // and n of them.
        let seconds = whole.saturating_add(1);
        if seconds <= LONGEST_RELATIVE {
            return Self(i64::try_from(seconds).unwrap_or(0));
        }
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or(Duration::ZERO)
            .as_secs();
        Self::at(i64::try_from(now.saturating_add(seconds)).unwrap_or(i64::MAX))
    }

    /// The lifetime that ends at a second since 1970, by the server's clock.
    pub(super) fn at(second: i64) -> Self {
        if (1..=LAST_SECOND).contains(&second) { Self(second) } else { Self::NEVER }
    }

    /// The remaining lifetime that the server has reported.
    pub(super) fn remaining(seconds: i64) -> Self {
        if seconds < 0 { Self::NEVER } else { Self(seconds.max(1)) }
    }
}

/// The flag of a meta command.
impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "T{}", self.0)
    }
}

/// The expiry for a number of remaining seconds that the server has reported. The last second
/// counts as one.
pub(super) fn expiry(remaining: i64) -> Expiry {
    match left(remaining) {
        Lifetime::For(least) => Expiry::After(least.max(Duration::from_secs(1))),
        Lifetime::Never => Expiry::Never,
    }
}

/// How long an item lives at least, of which the server has reported a number of remaining seconds:
/// the tick that takes the first of them may come at once. Nothing of the last second is sure.
pub(super) fn left(remaining: i64) -> Lifetime {
    match u64::try_from(remaining) {
        Ok(seconds) => Lifetime::For(Duration::from_secs(seconds.saturating_sub(1))),
        Err(_) => Lifetime::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ttl(duration: Duration) -> Option<Ttl> {
        Ttl::new(Lifetime::from(duration))
    }

    #[test]
    fn rounded_up_and_never_shorter_than_asked() {
        assert_eq!(ttl(Duration::ZERO), None);
        assert_eq!(ttl(Duration::from_nanos(1)), Some(Ttl(2)));
        assert_eq!(ttl(Duration::from_millis(1_000)), Some(Ttl(2)));
        assert_eq!(ttl(Duration::from_millis(1_900)), Some(Ttl(3)));
        assert_eq!(ttl(Duration::from_secs(300)), Some(Ttl(301)));
    }

    #[test]
    fn more_than_thirty_days_are_a_point_in_time() {
        assert_eq!(ttl(Duration::from_secs(LONGEST_RELATIVE - 1)), Some(Ttl(2_592_000)));
        let Some(Ttl(at)) = ttl(Duration::from_secs(LONGEST_RELATIVE)) else {
            panic!("it is not zero")
        };
        assert!(at > 1_700_000_000, "{at}");
    }

    #[test]
    fn past_the_last_second_is_never() {
        assert_eq!(ttl(Duration::from_secs(30 * 365 * 86_400)), Some(Ttl::NEVER));
        assert_eq!(ttl(Duration::MAX), Some(Ttl::NEVER));
        assert_eq!(Ttl::at(LAST_SECOND), Ttl(LAST_SECOND));
        assert_eq!(Ttl::at(LAST_SECOND + 1), Ttl::NEVER);
        assert_eq!(Ttl::new(Lifetime::Never), Some(Ttl::NEVER));
    }

    #[test]
    fn what_remains_is_not_overstated() {
        assert_eq!(expiry(-1), Expiry::Never);
        assert_eq!(expiry(61), Expiry::After(Duration::from_secs(60)));
        assert_eq!(expiry(0), Expiry::After(Duration::from_secs(1)));
        assert_eq!(left(-1), Lifetime::Never);
        assert_eq!(left(61), Lifetime::For(Duration::from_secs(60)));
        assert_eq!([left(1), left(0)], [Lifetime::For(Duration::ZERO); 2]);
    }
}
