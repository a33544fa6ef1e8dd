//! What the suite may expect of a store.

use super::Verb;
use crate::codec::Codec;
use crate::expiry::{DEFAULT_TTL, Expiry, Lifetime};
use std::time::Duration;

/// What [`conformance!`](super::conformance) may expect of a store. As it comes, it is strict:
/// expiry to the millisecond, every verb, every type.
///
/// Each setter names something that a store is known to do differently, and what is then checked
/// instead.
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
        }
    }

    /// The store counts expiry in whole seconds. An entry still lives as long as it was asked to,
    /// and at most to the next whole second but one.
    #[must_use]
    pub fn whole_seconds(mut self) -> Self {
        self.whole_seconds = true;
        self
    }

    /// The store's limit in bytes. Values of half the limit must then be stored and values over it
    /// must be [`TooLarge`](crate::ErrorKind::TooLarge); without it, either will do for values of
    /// some megabytes.
    #[must_use]
    pub fn max_value(mut self, bytes: usize) -> Self {
        self.max_value = Some(bytes);
        self
    }

    /// The default expiry the adapter is configured with, where it is not larder's.
    #[must_use]
    pub fn default_ttl(mut self, ttl: impl Into<Expiry>) -> Self {
        self.default_ttl = ttl.into().resolve(Lifetime::default());
        self
    }

    /// The codec the adapter is configured with. Under [`Codec::Json`] and [`Codec::Raw`] a value
    /// that the codec cannot hold may be [`Encode`](crate::ErrorKind::Encode) instead of coming
    /// back as it was.
    #[must_use]
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// Verbs that the store does not offer. Cases about them check that they say
    /// [`Unsupported`](crate::ErrorKind::Unsupported).
    #[must_use]
    pub fn except(mut self, verbs: impl IntoIterator<Item = Verb>) -> Self {
        self.excepted.extend(verbs);
        self
    }

    pub(super) fn offers(&self, verb: Verb) -> bool {
        !self.excepted.contains(&verb)
    }

    /// An expiry that is short enough to wait for.
    pub(super) fn short(&self) -> Duration {
        if self.whole_seconds { Duration::from_secs(1) } else { Duration::from_millis(60) }
    }

    /// How long after being written an entry must be gone at the latest.
    pub(super) fn gone_after(&self, ttl: Duration) -> Duration {
        if self.whole_seconds {
            Duration::from_secs(ttl.as_millis().div_ceil(1_000) as u64)
                + Duration::from_millis(1_100)
        } else {
            ttl + Duration::from_millis(20)
        }
    }

    /// How far off an answer about remaining time may be.
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
