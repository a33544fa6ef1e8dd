//! Time to idle: how long an entry lives after it was written or last hit.

use super::{Options, WritePlan};
use crate::clock;
use crate::error::{Error, Result};
use crate::expiry::{Expiry, Lifetime};
use crate::meta::Meta;
use std::time::Duration;

/// The expiry that a hit gives its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Renewal {
    /// How long the entry lives from now.
    pub(crate) lasting: Duration,
    /// An entry that has more than this left was renewed a moment ago, or lives longer anyway.
    pub(crate) enough: Duration,
    /// How long no other hit needs to look.
    pub(crate) pause: Duration,
}

impl Options {
    /// Whether a hit may renew the expiry of its entry, which has to be looked at then.
    #[inline]
    pub(crate) fn renews_hits(&self) -> bool {
        self.idle != super::OptionalMicros::UNSET
    }

    /// What a hit with this metadata does to the expiry of its entry, if anything.
    pub(crate) fn renewal(&self, meta: &Meta) -> Option<Renewal> {
        let idle = self.idle.get()?;
        // An entry with a stale window has its end in the value, so that each renewal would write
        // the whole value again.
        if meta.has_stale_window() {
            return None;
        }
        let pause = idle / 10;
        let longest = match meta.expires_ms() {
            0 if self.has_own_end() => return None,
            0 => Duration::MAX,
            _ => meta.remaining()?,
        };
        Some(if longest < idle {
            Renewal { lasting: longest, enough: longest, pause }
        } else {
            Renewal { lasting: idle, enough: idle - pause, pause }
        })
    }

    /// Whether the options give entries an end that no hit moves.
    fn has_own_end(&self) -> bool {
        self.expiry.get().resolve(Lifetime::Never) != Lifetime::Never
    }

    /// Plans a write of an entry with a time to idle. The end that is recorded with the value is the
    /// one that no hit moves, if there is one.
    pub(super) fn plan_idle_write(&self, idle: Duration, now_us: u64, mut meta: Meta) -> WritePlan {
        let mut lasting = self.jittered(idle);
        if let Lifetime::For(ttl) = self.expiry.get().resolve(Lifetime::Never) {
            let longest = self.jittered(ttl);
            if !longest.is_zero() {
                meta.end_at(now_us.saturating_add(clock::micros(longest)).div_ceil(1_000));
            }
            lasting = lasting.min(longest);
        }
        WritePlan { kept: Expiry::After(lasting), meta }
    }

    /// Rejects a time to idle that no entry can have.
    pub(super) fn check_idle(&self) -> Result<()> {
        let Some(idle) = self.idle.get() else { return Ok(()) };
        if idle.is_zero() || Lifetime::from(idle) == Lifetime::Never {
            return Err(Error::config("`idle` is more than zero, and less than a thousand years"));
        }
        if self.keeps_for().is_some() {
            return Err(Error::config(
                "`idle` and `stale_for` exclude each other: a stale window needs its end in the \
                 value, and each hit that moves the end would write the value again",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn idle(idle: Duration, ttl: Expiry) -> Options {
        let mut options = Options { expiry: ttl.into(), ..Options::default() };
        options.idle(idle);
        options
    }

    #[test]
    fn a_write_lives_for_the_shorter_of_both_times() {
        for (ttl, kept, ends) in [
            (Expiry::Default, 10, false),
            (Expiry::Never, 10, false),
            (Expiry::After(60 * SECOND), 10, true),
            (Expiry::After(3 * SECOND), 3, true),
            (Expiry::After(Duration::ZERO), 0, false),
        ] {
            let plan = idle(10 * SECOND, ttl).plan_write(Lifetime::For(5 * SECOND), Duration::ZERO);
            assert_eq!(plan.kept, Expiry::After(kept * SECOND), "{ttl:?}");
            assert_eq!(plan.meta.expires_ms() > 0, ends, "{ttl:?}");
        }
    }

    #[test]
    fn a_hit_never_moves_the_end_that_a_write_has_recorded() {
        let options = idle(10 * SECOND, Expiry::Default);
        let ending = |left: Duration| {
            let mut meta = Meta::new(clock::now_ms(), 0);
            meta.end_at(clock::now_ms() + u64::try_from(left.as_millis()).unwrap());
            options.renewal(&meta)
        };
        let whole = Renewal { lasting: 10 * SECOND, enough: 9 * SECOND, pause: SECOND };
        assert_eq!(ending(3_600 * SECOND), Some(whole));
        let last = ending(4 * SECOND).unwrap();
        assert!(last.lasting <= 4 * SECOND && last.enough == last.lasting, "{last:?}");
        assert_eq!(ending(Duration::ZERO), None);
        assert_eq!(options.renewal(&Meta::default()), Some(whole), "none is recorded");
        let ended = idle(10 * SECOND, Expiry::After(60 * SECOND));
        assert_eq!(ended.renewal(&Meta::default()), None, "there is one, and nobody knows when");
        let mut stale = Meta::new(1, 0);
        stale.keep_stale();
        assert_eq!(options.renewal(&stale), None);
    }

    #[test]
    fn a_time_to_idle_that_cannot_be_is_refused() {
        for wrong in [Duration::ZERO, Duration::MAX, Duration::from_secs(1_000 * 365 * 86_400)] {
            let options = idle(wrong, Expiry::Default);
            assert!(options.inspects_hits() && options.check().is_err(), "{wrong:?}");
        }
        let mut both = idle(SECOND, Expiry::Default);
        both.stale_for(SECOND);
        assert!(both.check().unwrap_err().to_string().contains("exclude each other"));
        both.stale_for(Duration::ZERO);
        both.check().unwrap();
    }
}
