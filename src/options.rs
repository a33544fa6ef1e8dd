//! The options of a call, beside its key and value.

mod idle;
mod packed;
#[cfg(test)]
mod tests;

use crate::clock;
use crate::codec::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::expiry::{Expiry, Lifetime};
use crate::meta::Meta;
use crate::url::CacheUrl;
use crate::value::CacheValue;
pub(crate) use idle::Renewal;
use packed::PackedExpiry;
use std::borrow::Cow;
use std::time::Duration;

/// The default cooldown of a loader that failed.
const THROTTLE: Duration = Duration::from_secs(30);

/// The options of a view beside `ttl` and `fail_open`, for the types that mirror them.
macro_rules! each_option {
    ($mirror:ident) => {
        $mirror! {
            idle(idle: ::std::time::Duration)
            stale_for(stale_for: ::std::time::Duration)
            soft_timeout(limit: ::std::time::Duration)
            hard_timeout(limit: ::std::time::Duration)
            throttle(throttle: ::std::time::Duration)
            lease(lease: ::std::time::Duration)
            refresh_ahead(fraction: f64)
            early_refresh(beta: f64)
            jitter(part: f64)
            skip_none()
            force_refresh()
            allow_stale()
            skip_near()
        }
    };
}
pub(crate) use each_option;

/// The options of a call: those of its wrapper, changed by the view. Options that are not set in
/// code may be set by the URL of the wrapper's adapter, see [`or`](Options::or).
///
/// Little more than a cache line, because a view is copied for each call. Invalid numbers are
/// stored as NaN and rejected when a call is made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Options {
    pub(crate) expiry: PackedExpiry,
    /// How long an entry lives after a hit.
    idle: OptionalMicros,
    /// How long an entry is kept after its expiry.
    stale_for: OptionalMicros,
    soft_timeout: OptionalMicros,
    hard_timeout: OptionalMicros,
    throttle: OptionalMicros,
    lease: OptionalMicros,
    /// The part of its life after which a hit refreshes an entry; infinite means never.
    refresh_ahead: f32,
    /// Negative means unset, which has the effect of 0.
    early: f32,
    /// Negative means unset, which has the effect of 0.
    jitter: f32,
    pub(crate) fail_open: bool,
    pub(crate) allow_stale: bool,
    pub(crate) skip_none: bool,
    pub(crate) force_refresh: bool,
    /// Whether reads ask the far store, although the value may be near.
    pub(crate) skip_near: bool,
    /// How the view writes values, and reads those that do not say.
    pub(crate) codec: Option<Codec>,
    /// Why the tags of the cache are refused, if they are.
    pub(crate) tag_fault: Option<TagFault>,
}

/// Where a read looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadFrom {
    /// Near first, if there is a near level.
    Near,
    /// In the far store alone: the answer is not older than the read. So reads who writes.
    Far,
}

/// What is wrong with the tags of a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TagFault {
    Empty,
    TooMany,
    /// The `Display` of an argument failed.
    #[cfg(feature = "macros")]
    Unwritten,
}

impl TagFault {
    // No `From`: with a second one for `Error`, the compiler could not infer the error of a `?`.
    pub(crate) fn error(self) -> Error {
        Error::new(ErrorKind::InvalidKey).with_message(match self {
            Self::Empty => "a tag must not be empty",
            Self::TooMany => "an entry has at most 16 tags",
            #[cfg(feature = "macros")]
            Self::Unwritten => "the `Display` of an argument in a tag failed",
        })
    }
}

/// The value of a number in [`Options`] that is not set.
const UNSET: f32 = -1.0;

/// An optional duration in microseconds; the largest value means unset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OptionalMicros(u64);

impl OptionalMicros {
    const UNSET: Self = Self(u64::MAX);

    /// Rounds up: what is more than zero stays so.
    fn new(lasting: Duration) -> Self {
        let lasting = lasting.saturating_add(Duration::from_nanos(999));
        Self(clock::micros(lasting).min(u64::MAX - 1))
    }

    fn get(self) -> Option<Duration> {
        (self != Self::UNSET).then(|| Duration::from_micros(self.0))
    }

    fn or(self, other: Self) -> Self {
        if self == Self::UNSET { other } else { self }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            expiry: Expiry::Default.into(),
            idle: OptionalMicros::UNSET,
            stale_for: OptionalMicros::UNSET,
            soft_timeout: OptionalMicros::UNSET,
            hard_timeout: OptionalMicros::UNSET,
            throttle: OptionalMicros::UNSET,
            lease: OptionalMicros::UNSET,
            refresh_ahead: f32::INFINITY,
            early: UNSET,
            jitter: UNSET,
            fail_open: true,
            allow_stale: false,
            skip_none: false,
            force_refresh: false,
            skip_near: false,
            codec: None,
            tag_fault: None,
        }
    }
}

/// What a call does with a hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Serve,
    /// Serve it, and refresh it in the background.
    Refresh,
    /// Compute the value again, and serve the old one if that fails.
    Recompute,
    /// Compute the value again, and never serve the old one.
    Replace,
    /// An option is invalid.
    Refused,
}

/// How a value is written: the expiry that the backend is given, and the metadata.
#[derive(Clone, Debug)]
pub(crate) struct WritePlan {
    pub(crate) kept: Expiry,
    pub(crate) meta: Meta,
}

/// The options in a URL: each has its own name, and a switch is `true` or `false`.
macro_rules! in_urls {
    ($($option:ident($($value:ident: $type:ty)?))*) => {
        impl Options {
            /// The options that a URL can give.
            pub(crate) const NAMES: &[&str] = &[$(stringify!($option)),*];

            /// Takes the options out of a URL.
            ///
            /// # Errors
            ///
            /// [`Config`](crate::ErrorKind::Config) for an invalid value.
            pub(crate) fn take(url: &mut CacheUrl) -> Result<Self> {
                let mut options = Self::default();
                $(in_urls!(@take options, url, $option $($type)?);)*
                options.check()?;
                Ok(options)
            }
        }
    };
    (@take $options:ident, $url:ident, $option:ident) => {
        if $url.take::<bool>(stringify!($option))? == Some(true) {
            $options.$option();
        }
    };
    (@take $options:ident, $url:ident, $option:ident $type:ty) => {
        if let Some(value) = $url.take::<$type>(stringify!($option))? {
            $options.$option(value);
        }
    };
}

each_option!(in_urls);

impl Options {
    /// These options; where one is not set, the one of `other`. `fail_open` is excluded: in a URL
    /// it is a parameter of the resilience layer.
    pub(crate) fn or(&self, other: &Self) -> Self {
        let number = |own: f32, unset: f32, other: f32| if own == unset { other } else { own };
        Self {
            expiry: self.expiry.get().or(other.expiry.get()).into(),
            idle: self.idle.or(other.idle),
            stale_for: self.stale_for.or(other.stale_for),
            soft_timeout: self.soft_timeout.or(other.soft_timeout),
            hard_timeout: self.hard_timeout.or(other.hard_timeout),
            throttle: self.throttle.or(other.throttle),
            lease: self.lease.or(other.lease),
            refresh_ahead: number(self.refresh_ahead, f32::INFINITY, other.refresh_ahead),
            early: number(self.early, UNSET, other.early),
            jitter: number(self.jitter, UNSET, other.jitter),
            fail_open: self.fail_open,
            allow_stale: self.allow_stale || other.allow_stale,
            skip_none: self.skip_none || other.skip_none,
            force_refresh: self.force_refresh || other.force_refresh,
            skip_near: self.skip_near || other.skip_near,
            codec: self.codec.or(other.codec),
            tag_fault: self.tag_fault,
        }
    }

    pub(crate) fn idle(&mut self, idle: Duration) {
        self.idle = OptionalMicros::new(idle);
    }

    pub(crate) fn stale_for(&mut self, stale_for: Duration) {
        self.stale_for = OptionalMicros::new(stale_for);
    }

    pub(crate) fn soft_timeout(&mut self, limit: Duration) {
        self.soft_timeout = OptionalMicros::new(limit);
    }

    pub(crate) fn hard_timeout(&mut self, limit: Duration) {
        self.hard_timeout = OptionalMicros::new(limit);
    }

    pub(crate) fn throttle(&mut self, throttle: Duration) {
        self.throttle = OptionalMicros::new(throttle);
    }

    pub(crate) fn lease(&mut self, lease: Duration) {
        self.lease = OptionalMicros::new(lease);
    }

    pub(crate) fn without_lease(&mut self) {
        self.lease = OptionalMicros::UNSET;
    }

    pub(crate) fn refresh_ahead(&mut self, fraction: f64) {
        self.refresh_ahead =
            if fraction > 0.0 && fraction <= 1.0 { fraction as f32 } else { f32::NAN };
    }

    pub(crate) fn early_refresh(&mut self, beta: f64) {
        self.early = if beta >= 0.0 { beta as f32 } else { f32::NAN };
    }

    pub(crate) fn jitter(&mut self, part: f64) {
        self.jitter = if part >= 0.0 && part.is_finite() { part as f32 } else { f32::NAN };
    }

    pub(crate) fn skip_none(&mut self) {
        self.skip_none = true;
    }

    pub(crate) fn force_refresh(&mut self) {
        self.force_refresh = true;
    }

    pub(crate) fn reads_from(&self) -> ReadFrom {
        if self.skip_near { ReadFrom::Far } else { ReadFrom::Near }
    }

    pub(crate) fn skip_near(&mut self) {
        self.skip_near = true;
    }

    pub(crate) fn allow_stale(&mut self) {
        self.allow_stale = true;
    }

    /// Whether the value of a plain read has to be looked at before it is returned.
    #[inline]
    pub(crate) fn inspects_reads(&self) -> bool {
        self.renews_hits() || self.codec.is_some() || self.tag_fault.is_some() || self.skip_near
    }

    /// The value as it is stored.
    pub(crate) fn written(&self, value: CacheValue) -> Result<CacheValue> {
        match self.codec {
            None => Ok(value),
            Some(codec) => value.written_as(codec),
        }
    }

    /// [`written`](Self::written) for a value that others share.
    pub(crate) fn written_of<'v>(&self, value: &'v CacheValue) -> Result<Cow<'v, CacheValue>> {
        Ok(match self.codec {
            None => Cow::Borrowed(value),
            Some(codec) => Cow::Owned(value.written_as(codec)?),
        })
    }

    /// The value as it is read.
    pub(crate) fn read(&self, value: CacheValue) -> CacheValue {
        match self.codec {
            None => value,
            Some(codec) => value.read_as(codec),
        }
    }

    pub(crate) fn keeps_for(&self) -> Option<Duration> {
        self.stale_for.get().filter(|lasting| !lasting.is_zero())
    }

    pub(crate) fn soft_limit(&self) -> Option<Duration> {
        self.soft_timeout.get()
    }

    pub(crate) fn hard_limit(&self) -> Option<Duration> {
        self.hard_timeout.get()
    }

    pub(crate) fn lease_for(&self) -> Option<Duration> {
        self.lease.get().filter(|lease| !lease.is_zero())
    }

    pub(crate) fn throttle_for(&self) -> Duration {
        self.throttle.get().unwrap_or(THROTTLE)
    }

    /// Whether a hit has to be inspected before it is served.
    pub(crate) fn inspects_hits(&self) -> bool {
        // A comparison with NaN is false, so that invalid options are inspected, and rejected, as
        // well.
        let ordinary = self.refresh_ahead == f32::INFINITY
            && self.early <= 0.0
            && !self.jitter.is_nan()
            && !self.force_refresh
            && !self.inspects_reads();
        !ordinary
    }

    /// Whether a load of a missing key waits for nothing but its loader.
    pub(crate) fn is_plain_load(&self) -> bool {
        self.hard_limit().is_none()
            && self.lease_for().is_none()
            && !self.force_refresh
            && self.check().is_ok()
    }

    /// Whether a plain write needs metadata or another expiry.
    fn shapes_writes(&self) -> bool {
        self.keeps_for().is_some() || self.inspects_hits() || self.jitter > 0.0
    }

    /// Plans the write of a value that took `cost` to compute, on a backend with this default
    /// expiry.
    pub(crate) fn plan_write(&self, default: Lifetime, cost: Duration) -> WritePlan {
        let now = clock::now_us();
        let mut meta = Meta::new(now / 1_000, u32::try_from(cost.as_micros()).unwrap_or(u32::MAX));
        if let Some(idle) = self.idle.get() {
            return self.plan_idle_write(idle, now, meta);
        }
        let expiry = self.expiry.get();
        let Lifetime::For(ttl) = expiry.resolve(default) else {
            return WritePlan { kept: expiry, meta };
        };
        if ttl.is_zero() {
            return WritePlan { kept: Expiry::After(ttl), meta };
        }
        let lasting = self.jittered(ttl);
        // Rounded up, so that a value never expires early.
        meta.end_at(now.saturating_add(clock::micros(lasting)).div_ceil(1_000));
        let kept = match self.keeps_for() {
            Some(stale_for) => {
                meta.keep_stale();
                Expiry::After(lasting.saturating_add(stale_for))
            }
            None if lasting == ttl => expiry,
            None => Expiry::After(lasting),
        };
        WritePlan { kept, meta }
    }

    /// Plans a plain write. Without special options the backend's own expiry is enough.
    pub(crate) fn plan_plain_write(&self, default: impl FnOnce() -> Lifetime) -> Result<WritePlan> {
        if !self.shapes_writes() {
            return Ok(WritePlan { kept: self.expiry.get(), meta: Meta::default() });
        }
        self.check()?;
        Ok(self.plan_write(default(), Duration::ZERO))
    }

    /// The expiry of a counter, which is stored as plain text without metadata.
    pub(crate) fn counter_expiry(&self, default: impl FnOnce() -> Lifetime) -> Result<Expiry> {
        let mut options = *self;
        options.stale_for(Duration::ZERO);
        Ok(options.plan_plain_write(default)?.kept)
    }

    fn jittered(&self, ttl: Duration) -> Duration {
        if self.jitter <= 0.0 {
            return ttl;
        }
        // A duration that overflows means never; `resolve` turns the longest duration into that.
        let more = ttl.as_secs_f64() * f64::from(self.jitter) * fastrand::f64();
        ttl.saturating_add(Duration::try_from_secs_f64(more).unwrap_or(Duration::MAX))
    }

    /// Decides about a hit with this metadata. A call makes one random draw for an early refresh,
    /// and keeps it in `drawn`.
    pub(crate) fn judge(&self, meta: &Meta, drawn: &mut Option<bool>) -> Verdict {
        if self.check().is_err() {
            return Verdict::Refused;
        }
        if self.force_refresh {
            return Verdict::Replace;
        }
        let now = clock::now_ms();
        if *drawn.get_or_insert_with(|| self.is_early(meta, now)) {
            Verdict::Recompute
        } else if self.is_due(meta, now) {
            Verdict::Refresh
        } else {
            Verdict::Serve
        }
    }

    /// Whether a hit with this metadata is due for a refresh in the background.
    fn is_due(&self, meta: &Meta, now_ms: u64) -> bool {
        let (created, end) = (meta.created_ms(), meta.expires_ms());
        if !self.refresh_ahead.is_finite() || end <= created || created == 0 {
            return false;
        }
        let age = now_ms.saturating_sub(created) as f64;
        age >= (end - created) as f64 * f64::from(self.refresh_ahead)
    }

    /// Whether a hit with this metadata is computed again before it expires.
    fn is_early(&self, meta: &Meta, now_ms: u64) -> bool {
        if self.early <= 0.0 || (meta.expires_ms() == 0 && self.early.is_finite()) {
            return false;
        }
        // From (0, 1], because the logarithm of 0 is infinite.
        let draw = 1.0 - fastrand::f64();
        is_early(
            meta.expires_ms() as f64 - now_ms as f64,
            meta.cost_us(),
            f64::from(self.early),
            draw,
        )
    }

    /// Whether a value past its logical expiry may still be served if the loader fails.
    pub(crate) fn serves_stale(&self, meta: &Meta, now_ms: u64) -> bool {
        let Some(stale_for) = self.keeps_for() else { return false };
        now_ms < meta.expires_ms().saturating_add(clock::micros(stale_for).div_ceil(1_000))
    }

    /// Rejects the options that need a load which outlives its caller.
    pub(crate) fn check_here(&self) -> Result<()> {
        let name = if self.soft_limit().is_some() {
            "soft_timeout"
        } else if self.refresh_ahead.is_finite() {
            "refresh_ahead"
        } else {
            return Ok(());
        };
        Err(Error::config(format!(
            "`{name}` needs a load that goes on without its caller: `get_or_load` has one, \
             `get_or_load_here` has not"
        )))
    }

    /// Rejects tags that are wrong.
    pub(crate) fn check_tags(&self) -> Result<()> {
        self.tag_fault.map_or(Ok(()), |fault| Err(fault.error()))
    }

    /// Rejects invalid numbers, and tags that are wrong.
    pub(crate) fn check(&self) -> Result<()> {
        self.check_tags()?;
        let refuse = |is_wrong: bool, what: &'static str| {
            if is_wrong { Err(Error::config(what)) } else { Ok(()) }
        };
        refuse(
            self.refresh_ahead.is_nan(),
            "`refresh_ahead` is a part of a life: more than 0, and at most 1",
        )?;
        refuse(self.early.is_nan(), "the beta of `early_refresh` is 0 or more")?;
        refuse(self.jitter.is_nan(), "`jitter` is 0 or more, and finite")?;
        self.check_idle()
    }
}

/// XFetch: whether a value that took `cost_us` to compute and ends in `left_ms` is computed again,
/// by a draw from (0, 1].
///
/// Vattani, Chierichetti, Lowenstein: Optimal Probabilistic Cache Stampede Prevention, VLDB 2015.
fn is_early(left_ms: f64, cost_us: u32, beta: f64, draw: f64) -> bool {
    beta.is_infinite() || f64::from(cost_us) / 1_000.0 * beta * -draw.ln() >= left_ms
}
