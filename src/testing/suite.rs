//! The expectations of the suite about a store.

use super::Verb;
use crate::codec::Codec;
use crate::expiry::{DEFAULT_TTL, Expiry, Lifetime};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The expectations of [`conformance!`](super::conformance) about a store. By default they are
/// strict: expiry to the millisecond, every verb, every type.
///
/// Each setter declares a known difference of a store, and says what is then checked instead.
///
/// ```
/// use larder::testing::{Suite, Verb};
///
/// let suite = Suite::new().whole_seconds().except([Verb::Take]);
/// # let _ = suite;
/// ```
#[derive(Clone, Debug)]
pub struct Suite {
    pub(super) whole_seconds: bool,
    pub(super) max_value: Option<usize>,
    pub(super) default_ttl: Lifetime,
    pub(super) codec: Codec,
    pub(super) excepted: Vec<Verb>,
    filling: Option<Filling>,
}

/// Makes the store full with `true`, and gives it room again with `false`.
#[derive(Clone)]
struct Filling(Arc<dyn Fn(bool) + Send + Sync>);

impl fmt::Debug for Filling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Filling")
    }
}

/// The store is full until this is dropped.
pub(super) struct Full<'s>(Option<&'s Filling>);

impl Drop for Full<'_> {
    fn drop(&mut self) {
        if let Some(Filling(fill)) = self.0 {
            fill(false);
        }
    }
}

impl Suite {
    /// The strict suite.
    #[must_use]
    pub fn new() -> Self {
        Self {
            whole_seconds: false,
            max_value: None,
            default_ttl: Lifetime::For(DEFAULT_TTL),
            codec: Codec::MessagePack,
            excepted: Vec::new(),
            filling: None,
        }
    }

    /// The store counts expiry in whole seconds. An entry still lives at least as long as
    /// requested, and less than two seconds longer.
    #[must_use]
    pub fn whole_seconds(mut self) -> Self {
        self.whole_seconds = true;
        self
    }

    /// The store's limit in bytes. Values of half the limit must then be stored, and values over
    /// the limit must be [`TooLarge`](crate::ErrorKind::TooLarge). Without this setting both are
    /// accepted for values of some megabytes.
    #[must_use]
    pub fn max_value(mut self, bytes: usize) -> Self {
        self.max_value = Some(bytes);
        self
    }

    /// The default expiry of the adapter, if it is not larder's default.
    #[must_use]
    pub fn default_ttl(mut self, ttl: impl Into<Expiry>) -> Self {
        self.default_ttl = ttl.into().resolve(Lifetime::default());
        self
    }

    /// The codec of the adapter. Under [`Codec::Json`] and [`Codec::Raw`] a value that the codec
    /// cannot represent may be [`Encode`](crate::ErrorKind::Encode).
    #[must_use]
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// Verbs that the store does not support. Their cases check that they return
    /// [`Unsupported`](crate::ErrorKind::Unsupported).
    #[must_use]
    pub fn except(mut self, verbs: impl IntoIterator<Item = Verb>) -> Self {
        self.excepted.extend(verbs);
        self
    }

    /// How the suite makes the store full: called with `true`, it has the store refuse writes and
    /// take reads and removals as before; with `false`, the store has room again. The case
    /// `housekeeping::refused` uses it. Without it nothing is refused there.
    ///
    /// ```no_run
    /// # use std::process::Command;
    /// use larder::testing::Suite;
    ///
    /// let suite = Suite::new().filling(|is_full| {
    ///     let limit = if is_full { "1" } else { "0" };
    ///     let mut redis = Command::new("redis-cli");
    ///     redis.args(["config", "set", "maxmemory", limit]).status().expect("redis-cli");
    /// });
    /// # let _ = suite;
    /// ```
    #[must_use]
    pub fn filling(mut self, fill: impl Fn(bool) + Send + Sync + 'static) -> Self {
        self.filling = Some(Filling(Arc::new(fill)));
        self
    }

    /// Makes the store full, if that is possible.
    pub(super) fn full(&self) -> Full<'_> {
        if let Some(Filling(fill)) = &self.filling {
            fill(true);
        }
        Full(self.filling.as_ref())
    }

    pub(super) fn offers(&self, verb: Verb) -> bool {
        !self.excepted.contains(&verb)
    }

    /// An expiry that is short enough to wait for.
    pub(super) fn short(&self) -> Duration {
        if self.whole_seconds { Duration::from_secs(1) } else { Duration::from_millis(60) }
    }

    /// The longest time after its write at which an entry may still exist.
    pub(super) fn gone_after(&self, ttl: Duration) -> Duration {
        if self.whole_seconds {
            Duration::from_secs(ttl.as_millis().div_ceil(1_000) as u64)
                + Duration::from_millis(1_100)
        } else {
            ttl + Duration::from_millis(20)
        }
    }

    /// The allowed error of an answer about remaining time.
    pub(super) fn tolerance(&self) -> Duration {
        if self.whole_seconds { Duration::from_millis(1_100) } else { Duration::from_millis(20) }
    }
}

impl Default for Suite {
    /// [`Suite::new`].
    fn default() -> Self {
        Self::new()
    }
}
