//! The clock of deadlines in memory: monotonic, in nanoseconds.
//!
//! The precise clock is too slow for a hit: its serialized counter read takes longer than the
//! look-up. On Linux the kernel keeps the time of its last tick (at most 10 ms old, usually 4),
//! which is a memory read. Deadlines are set by the precise clock and checked by the recent one, so
//! an entry never ends early and lives at most a tick too long.
//!
//! With the feature `test-util` both are tokio's clock, so that a test can pause it.

pub(super) use imp::is_paused;
pub(crate) use imp::{now, recent};

#[cfg(feature = "test-util")]
mod imp {
    use std::sync::LazyLock;
    use tokio::time::Instant;

    /// The first reading. It is far from zero, because a clock that a test has paused may be
    /// earlier.
    const FIRST: u64 = 1 << 60;

    static EPOCH: LazyLock<Instant> = LazyLock::new(|| std::time::Instant::now().into());

    pub(crate) fn now() -> u64 {
        let (epoch, now) = (*EPOCH, Instant::now());
        let since = |earlier, later: Instant| {
            u64::try_from(later.saturating_duration_since(earlier).as_nanos()).unwrap_or(u64::MAX)
        };
        FIRST.saturating_add(since(epoch, now)).saturating_sub(since(now, epoch))
    }

    #[inline]
    pub(crate) fn recent() -> u64 {
        now()
    }

    /// Whether this thread's clock is, or has been, paused: then it is not the clock of other
    /// threads.
    pub(in super::super) fn is_paused() -> bool {
        let before = std::time::Instant::now();
        let here = Instant::now().into_std();
        !(before..=std::time::Instant::now()).contains(&here)
    }
}

#[cfg(not(feature = "test-util"))]
mod never {
    /// Only a test pauses a clock.
    #[inline]
    pub(in super::super) fn is_paused() -> bool {
        false
    }
}

#[cfg(all(not(feature = "test-util"), target_os = "linux"))]
mod imp {
    pub(in super::super) use super::never::is_paused;
    use rustix::time::{ClockId, clock_gettime};

    pub(crate) fn now() -> u64 {
        read(ClockId::Monotonic)
    }

    #[inline]
    pub(crate) fn recent() -> u64 {
        read(ClockId::MonotonicCoarse)
    }

    fn read(clock: ClockId) -> u64 {
        let time = clock_gettime(clock);
        // Counts from the start of the machine, so it is never negative.
        (time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64)
    }
}

#[cfg(all(not(feature = "test-util"), not(target_os = "linux")))]
mod imp {
    pub(in super::super) use super::never::is_paused;
    use std::sync::LazyLock;
    use std::time::Instant;

    static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

    pub(crate) fn now() -> u64 {
        u64::try_from(EPOCH.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    #[inline]
    pub(crate) fn recent() -> u64 {
        now()
    }
}
