//! The metadata of a value.

use crate::clock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The metadata of a value. [`Codec::MessagePack`](crate::Codec::MessagePack) stores it in a
/// header; the plain codecs lose it.
///
/// Times are those of larder's own [`clock`]; the header holds them as wall-clock times. Few reads of
/// a value look at its times, so those of a header are converted when they are looked at.
#[derive(Debug, Default)]
pub(crate) struct Meta {
    /// The time of creation in milliseconds since 1970; 0 means unknown.
    created_ms: u64,
    /// The logical expiry in milliseconds since 1970; 0 means unknown. A new expiry of the entry
    /// changes it.
    expires_ms: AtomicU64,
    /// How long the value took to compute, in microseconds.
    cost_us: u32,
    /// Whether the value is kept beyond its logical expiry, so that readers have to check the
    /// expiry.
    has_stale_window: bool,
    /// Whether the value has tags, so that readers have to check their records.
    is_tagged: bool,
    /// Whether the times are still those of the header, by the wall clock.
    are_by_wall: bool,
}

/// The logical expiry of a stale value that a caller has claimed to replace.
const CLAIMED: u64 = 1;

impl Meta {
    pub(crate) fn new(created_ms: u64, cost_us: u32) -> Self {
        Self { created_ms, cost_us, ..Self::default() }
    }

    /// The metadata from a header, whose times are wall-clock times.
    pub(crate) fn from_header(
        created_ms: u64,
        expires_ms: u64,
        cost_us: u32,
        has_stale_window: bool,
    ) -> Self {
        let expires_ms = expires_ms.into();
        let are_by_wall = true;
        let meta = Self {
            created_ms,
            expires_ms,
            cost_us,
            has_stale_window,
            is_tagged: false,
            are_by_wall,
        };
        // Every reader of a value with a stale window looks at its end.
        if has_stale_window { meta.clone() } else { meta }
    }

    /// The times of creation and expiry.
    fn times(&self) -> [u64; 2] {
        let times = [self.created_ms, self.expires_ms.load(Ordering::Relaxed)];
        if self.are_by_wall { from_wall(times) } else { times }
    }

    /// Converts the times, if they are those of a header.
    fn settle(&mut self) {
        let [created_ms, expires_ms] = self.times();
        (self.created_ms, self.expires_ms) = (created_ms, expires_ms.into());
        self.are_by_wall = false;
    }

    pub(crate) fn end_at(&mut self, expires_ms: u64) {
        self.settle();
        *self.expires_ms.get_mut() = expires_ms;
    }

    /// Moves the logical expiry for all that share this value.
    pub(crate) fn move_end(&self, expires_ms: u64) {
        let [end] = if self.are_by_wall { clock::to_wall([expires_ms]) } else { [expires_ms] };
        self.expires_ms.store(end, Ordering::Relaxed);
    }

    /// Notes that the value is kept beyond its logical expiry.
    pub(crate) fn keep_stale(&mut self) {
        self.has_stale_window = true;
    }

    pub(crate) fn set_tagged(&mut self, is_tagged: bool) {
        self.is_tagged = is_tagged;
    }

    #[inline]
    pub(crate) fn is_tagged(&self) -> bool {
        self.is_tagged
    }

    /// Whether a reader may take the value as it is.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        !(self.has_stale_window | self.is_tagged)
    }

    pub(crate) fn created_ms(&self) -> u64 {
        self.times()[0]
    }

    pub(crate) fn expires_ms(&self) -> u64 {
        self.times()[1]
    }

    pub(crate) fn cost_us(&self) -> u32 {
        self.cost_us
    }

    pub(crate) fn has_stale_window(&self) -> bool {
        self.has_stale_window
    }

    /// Whether the value is past its logical expiry, and kept beyond it.
    #[inline]
    pub(crate) fn is_stale(&self) -> bool {
        self.has_stale_window && self.expires_ms() <= clock::now_ms()
    }

    /// Elects one caller among those that share a stale value: the compare-and-swap succeeds once.
    pub(crate) fn claim_replacement(&self) -> bool {
        let expires = &self.expires_ms;
        let end = expires.load(Ordering::Relaxed);
        end != CLAIMED
            && expires.compare_exchange(end, CLAIMED, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Time until the logical expiry; `None` if expired.
    pub(crate) fn remaining(&self) -> Option<Duration> {
        let left = self.expires_ms().saturating_mul(1_000).saturating_sub(clock::now_us());
        // The stored expiry was rounded up to milliseconds. Rounding down here keeps the answer
        // from exceeding the expiry that was asked for.
        (left > 0).then(|| {
            if left < 1_000 {
                Duration::from_micros(left)
            } else {
                Duration::from_millis(left / 1_000)
            }
        })
    }
}

/// The times of a header by larder's clock.
fn from_wall(times: [u64; 2]) -> [u64; 2] {
    let [created_ms, expires_ms] = clock::from_wall(times);
    // A value from the future: the wall clock was set back since, here or where the value was
    // written. The value expires no later than if it had been written now.
    if created_ms > 0 && expires_ms > created_ms {
        let latest = clock::now_ms().saturating_add(expires_ms - created_ms);
        return [created_ms, expires_ms.min(latest)];
    }
    [created_ms, expires_ms]
}

/// A value that is kept is cloned first: from then on its times do not follow the wall clock.
impl Clone for Meta {
    fn clone(&self) -> Self {
        let [created_ms, expires_ms] = self.times();
        Self {
            created_ms,
            expires_ms: expires_ms.into(),
            cost_us: self.cost_us,
            has_stale_window: self.has_stale_window,
            is_tagged: self.is_tagged,
            are_by_wall: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(has_stale_window: bool) -> Meta {
        let [created, expires] = clock::to_wall([clock::now_ms(), clock::now_ms() + 60_000]);
        Meta::from_header(created, expires, 7, has_stale_window)
    }

    #[test]
    fn the_times_of_a_header_are_those_of_this_clock() {
        for has_stale_window in [false, true] {
            let (now, meta) = (clock::now_ms(), read(has_stale_window));
            for meta in [&meta, &meta.clone()] {
                assert!(meta.created_ms().abs_diff(now) < 1_000);
                assert!(meta.expires_ms().abs_diff(now + 60_000) < 1_000);
                assert!(!meta.is_stale());
            }
            let future = clock::wall_ms() + 1_000_000;
            let meta = Meta::from_header(future, future + 5_000, 0, has_stale_window);
            assert!(meta.expires_ms() <= clock::now_ms() + 5_000, "from a clock that was set back");
        }
    }

    #[test]
    fn an_end_that_is_moved_is_by_this_clock() {
        for has_stale_window in [false, true] {
            let (now, mut meta) = (clock::now_ms(), read(has_stale_window));
            meta.move_end(now + 5_000);
            assert!(meta.expires_ms().abs_diff(now + 5_000) < 1_000);
            assert!(meta.created_ms().abs_diff(now) < 1_000);
            meta.end_at(now + 7_000);
            assert_eq!(meta.expires_ms(), now + 7_000);
            assert!(meta.created_ms().abs_diff(now) < 1_000);
            assert!(meta.claim_replacement() && !meta.claim_replacement());
            assert!(meta.expires_ms() < now);
        }
    }
}
