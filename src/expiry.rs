//! How long an entry lives: what callers ask for, and what adapters act on.

use std::time::{Duration, SystemTime};

/// The expiry of an entry when neither the call, the wrapper nor the adapter says otherwise.
pub const DEFAULT_TTL: Duration = Duration::from_secs(300);

/// A thousand years. A longer expiry is the same as never, and shorter ones fit every backend's
/// arithmetic.
const LONGEST: Duration = Duration::from_secs(1_000 * 365 * 86_400);

/// When an entry expires, as a caller specifies it.
///
/// An entry has expired as soon as `now >= deadline`. With zero or a point in the past, a write
/// succeeds and the key is missing at once. A thousand years or more, up to [`Duration::MAX`], is
/// [`Never`](Expiry::Never).
///
/// ```
/// use larder::Expiry;
/// use std::time::Duration;
///
/// assert_eq!(Expiry::from(Duration::from_secs(30)), Expiry::After(Duration::from_secs(30)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expiry {
    /// The default expiry of the cache or the adapter: 300 s unless configured.
    #[default]
    Default,
    /// Never.
    Never,
    /// This long after the write.
    After(Duration),
    /// At this point in time, by the wall clock.
    At(SystemTime),
}

/// An [`Expiry`] that has been resolved: what adapters act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// The entry does not expire.
    Never,
    /// The entry expires after this time; zero means at once.
    For(Duration),
}

impl Expiry {
    /// Turns an expiry into a lifetime; `default` replaces [`Expiry::Default`]. No other code does
    /// this.
    ///
    /// ```
    /// use larder::{Expiry, Lifetime};
    /// use std::time::{Duration, SystemTime};
    ///
    /// let default = Lifetime::For(larder::DEFAULT_TTL);
    /// assert_eq!(Expiry::Default.resolve(default), default);
    /// assert_eq!(Expiry::After(Duration::MAX).resolve(default), Lifetime::Never);
    /// let past = Expiry::At(SystemTime::UNIX_EPOCH);
    /// assert_eq!(past.resolve(default), Lifetime::For(Duration::ZERO));
    /// ```
    #[must_use]
    pub fn resolve(self, default: Lifetime) -> Lifetime {
        let lasting = match self {
            Self::Default => return default.normal(),
            Self::Never => return Lifetime::Never,
            Self::After(lasting) => lasting,
            Self::At(when) => when.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO),
        };
        Lifetime::For(lasting).normal()
    }

    /// This expiry, or `other` if this one is [`Expiry::Default`].
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        if self == Self::Default { other } else { self }
    }
}

impl Lifetime {
    /// Whether an entry with this lifetime expires at once.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self == Self::For(Duration::ZERO)
    }

    /// The lifetime in whole milliseconds, rounded up so that a positive lifetime never becomes
    /// zero. `None` means never.
    ///
    /// ```
    /// use larder::Lifetime;
    /// use std::time::Duration;
    ///
    /// assert_eq!(Lifetime::For(Duration::from_micros(1)).as_millis_ceil(), Some(1));
    /// assert_eq!(Lifetime::Never.as_millis_ceil(), None);
    /// ```
    #[must_use]
    pub fn as_millis_ceil(self) -> Option<u64> {
        match self.normal() {
            Self::Never => None,
            Self::For(lasting) => {
                Some(u64::try_from(lasting.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
            }
        }
    }

    fn normal(self) -> Self {
        match self {
            Self::For(lasting) if lasting >= LONGEST => Self::Never,
            other => other,
        }
    }
}

impl Default for Lifetime {
    /// [`DEFAULT_TTL`].
    fn default() -> Self {
        Self::For(DEFAULT_TTL)
    }
}

impl From<Duration> for Expiry {
    fn from(lasting: Duration) -> Self {
        Self::After(lasting)
    }
}

impl From<SystemTime> for Expiry {
    fn from(when: SystemTime) -> Self {
        Self::At(when)
    }
}

impl From<Lifetime> for Expiry {
    fn from(lifetime: Lifetime) -> Self {
        match lifetime {
            Lifetime::Never => Self::Never,
            Lifetime::For(lasting) => Self::After(lasting),
        }
    }
}

impl From<Duration> for Lifetime {
    fn from(lasting: Duration) -> Self {
        Self::For(lasting).normal()
    }
}
