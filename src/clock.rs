//! The time by which values age: the wall clock when the program first read it, continued by the
//! monotonic clock. Setting the wall clock neither expires a value nor revives one. Times that are
//! stored for other programs are converted to wall-clock time, see [`to_wall`] and [`from_wall`].
//!
//! With the feature `test-util` it is tokio's clock, so that a test can pause it.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

#[cfg(not(feature = "test-util"))]
use std::time::Instant;
#[cfg(feature = "test-util")]
use tokio::time::Instant;

static START: LazyLock<(Instant, u64)> = LazyLock::new(|| {
    let start = std::time::Instant::now();
    #[cfg(feature = "test-util")]
    let start = Instant::from_std(start);
    (start, wall_us())
});

/// Microseconds since 1970.
pub(crate) fn now_us() -> u64 {
    let (start, wall) = *START;
    let now = Instant::now();
    // A clock that a test has paused may be earlier than the start.
    wall.saturating_add(micros(now.saturating_duration_since(start)))
        .saturating_sub(micros(start.saturating_duration_since(now)))
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    now_us() / 1_000
}

/// Converts times of this clock, in milliseconds, to wall-clock times. Zero means no time, and
/// stays zero.
pub(crate) fn to_wall<const N: usize>(ms: [u64; N]) -> [u64; N] {
    translate(ms, now_us, wall_us)
}

/// The reverse of [`to_wall`].
pub(crate) fn from_wall<const N: usize>(ms: [u64; N]) -> [u64; N] {
    translate(ms, wall_us, now_us)
}

/// Reads the clocks once, and only if there is a time to convert: this takes 100 ns, and a read of
/// a value 1,000 ns.
fn translate<const N: usize>(ms: [u64; N], from: fn() -> u64, to: fn() -> u64) -> [u64; N] {
    if ms == [0; N] {
        return ms;
    }
    let (from_us, to_us) = (from(), to());
    ms.map(|ms| shift(ms, from_us, to_us))
}

fn shift(ms: u64, from_us: u64, to_us: u64) -> u64 {
    if ms == 0 {
        return 0;
    }
    let ahead_us = i64::try_from(i128::from(to_us) - i128::from(from_us)).unwrap_or_default();
    // Rounded to the nearest: the clocks are read one after the other, and a round trip must not
    // lose a millisecond.
    ms.saturating_add_signed(ahead_us.saturating_add(500).div_euclid(1_000)).max(1)
}

/// Milliseconds since 1970 by the wall clock.
pub(crate) fn wall_ms() -> u64 {
    wall_us() / 1_000
}

fn wall_us() -> u64 {
    micros(since_epoch())
}

/// The time since 1970 by the wall clock.
pub(crate) fn since_epoch() -> Duration {
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    #[cfg(all(feature = "testing", feature = "test-util"))]
    let wall = wall.saturating_sub(set_back::by());
    wall
}

/// A wall clock that a test sets back.
#[cfg(all(feature = "testing", feature = "test-util"))]
pub(crate) mod set_back {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    static MILLIS: AtomicU64 = AtomicU64::new(0);

    pub(crate) fn set(by: Duration) {
        MILLIS.store(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    pub(super) fn by() -> Duration {
        Duration::from_millis(MILLIS.load(Ordering::SeqCst))
    }
}

pub(crate) fn micros(lasting: Duration) -> u64 {
    u64::try_from(lasting.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_that_jumps_is_translated() {
        let hour_us = 3_600_000_000;
        assert_eq!(shift(5_000, hour_us, 2 * hour_us), 5_000 + hour_us / 1_000);
        assert_eq!(shift(5_000_000, 2 * hour_us, hour_us), 5_000_000 - hour_us / 1_000);
        assert_eq!(shift(0, 0, hour_us), 0, "no time stays none");
        assert_eq!(shift(1_000, hour_us, 0), 1, "and a time never becomes none");
    }

    #[test]
    fn there_and_back() {
        let now = now_ms();
        assert!(
            from_wall(to_wall([now]))[0].abs_diff(now) <= 1_000,
            "as far as the two clocks run alike"
        );
    }
}
