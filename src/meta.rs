//! The metadata of a value.

use crate::clock::{self, WallClock};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The metadata of a value. [`Codec::MessagePack`](crate::Codec::MessagePack) stores it in a
/// header; the plain codecs lose it.
///
/// Times are those of larder's own [`clock`]; the header holds them as wall-clock times.
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
}

/// The logical expiry of a stale value that a caller has claimed to replace.
const CLAIMED: u64 = 1;

impl Meta {
    pub(crate) fn new(created_ms: u64, cost_us: u32) -> Self {
        Self { created_ms, cost_us, ..Self::default() }
    }

    /// The metadata from a header, whose times are wall-clock times.
    pub(crate) fn from_header(
        created: u64,
        expires: u64,
        cost_us: u32,
        has_stale_window: bool,
        clock: &WallClock,
    ) -> Self {
        let [created_ms, mut expires_ms] = clock.translate_wall([created, expires]);
        // A value from the future: the wall clock was set back since, here or where the value was
        // written. The value expires no later than if it had been written now.
        if created_ms > 0 && expires_ms > created_ms {
            expires_ms = expires_ms.min(clock.now_ms().saturating_add(expires_ms - created_ms));
        }
        let expires_ms = expires_ms.into();
        Self { created_ms, expires_ms, cost_us, has_stale_window, is_tagged: false }
    }

    pub(crate) fn end_at(&mut self, expires_ms: u64) {
        *self.expires_ms.get_mut() = expires_ms;
    }

    /// Moves the logical expiry for all that share this value.
    pub(crate) fn move_end(&self, expires_ms: u64) {
        self.expires_ms.store(expires_ms, Ordering::Relaxed);
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
        self.created_ms
    }

    pub(crate) fn expires_ms(&self) -> u64 {
        self.expires_ms.load(Ordering::Relaxed)
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
        let end = self.expires_ms();
        let expires = &self.expires_ms;
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

impl Clone for Meta {
    fn clone(&self) -> Self {
        Self {
            created_ms: self.created_ms,
            expires_ms: self.expires_ms().into(),
            cost_us: self.cost_us,
            has_stale_window: self.has_stale_window,
            is_tagged: self.is_tagged,
        }
    }
}
