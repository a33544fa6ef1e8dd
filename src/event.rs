//! Events: what happened inside a call, for observers.

use crate::error::Error;
use std::fmt;
use std::time::Duration;

/// How much of a key `Debug` and traces show.
const KEY_SHOWN: usize = 128;

/// Something that happened inside a cache.
///
/// | call | events |
/// |---|---|
/// | `get`, `get_or`, `get_or_fail` | one [`Hit`](EventKind::Hit) or [`Miss`](EventKind::Miss) |
/// | `get_many` | one of them a key |
/// | `get_or_set*` | one [`Hit`](EventKind::Hit), [`StaleHit`](EventKind::StaleHit) or [`Miss`](EventKind::Miss); after a miss [`Joined`](EventKind::Joined), or [`Load`](EventKind::Load) or [`LoadError`](EventKind::LoadError): one of them a load |
/// | `get_or_set_many*` | one of the first three a key; [`Joined`](EventKind::Joined) for each key that another call loads; [`Load`](EventKind::Load) or [`LoadError`](EventKind::LoadError), one a load, whose key is the namespace's prefix if it is for several keys |
/// | `set`, `set_many`, `add`, `replace`, `incr`, `decr` | one [`Set`](EventKind::Set) a key that was stored |
/// | `remove`, `take` | one [`Remove`](EventKind::Remove) a key that was live |
/// | `remove_tags` | one [`Remove`](EventKind::Remove) a tag that entries may have had; its `key` is the tag |
/// | a load whose [tags](crate::View::tags) cannot be read | one [`BackendError`](EventKind::BackendError), whose `op` is `tags` |
/// | `clear` | one [`Clear`](EventKind::Clear) |
/// | `contains`, `expiry`, `touch`, `update_timeout` | none |
/// | a hit with [`idle`](crate::View::idle) whose renewal fails | one [`BackendError`](EventKind::BackendError), whose `op` is `idle`, beside the hit |
/// | any, whose backend fails | one [`BackendError`](EventKind::BackendError) a call, or a key of a batch |
/// | any, that finds bytes it cannot read | one [`DecodeError`](EventKind::DecodeError); a [`Miss`](EventKind::Miss) too where it counts as one |
///
/// ```
/// use larder::{AsyncCacheWrapper, EventKind};
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicUsize, Ordering};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
/// let cache = AsyncCacheWrapper::new("memory")?;
/// let loads = Arc::new(AtomicUsize::new(0));
/// let counted = loads.clone();
/// cache.observe(move |event| {
///     if event.kind == EventKind::Load {
///         counted.fetch_add(1, Ordering::Relaxed);
///     }
/// });
/// cache.get_or_set("k", 1u8).await?;
/// cache.get_or_set("k", 2u8).await?;
/// assert_eq!(loads.load(Ordering::Relaxed), 1);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Event<'a> {
    /// The kind of the event.
    pub kind: EventKind,
    /// The adapter's name, such as `redis`.
    pub backend: &'a str,
    /// The verb, such as `get`, if a call caused the event.
    pub op: Option<&'static str>,
    /// The key with the prefix of its namespace, if the event is about one key. `Debug` cuts it to
    /// 128 bytes.
    pub key: Option<&'a str>,
    /// How long the call of the backend or the loader took. The keys of a batch have the time of
    /// the batch. `None` if the time was not measured.
    pub took: Option<Duration>,
    /// How many such events this one stands for: 1, unless an adapter removes many entries at once
    /// without reading them.
    pub count: u64,
    /// The error, if there was one.
    pub error: Option<&'a Error>,
    /// Whether traces may show the key.
    #[cfg(feature = "tracing")]
    pub(crate) shows_key: bool,
}

impl<'a> Event<'a> {
    /// An event with its kind and its backend. Adapters build their events from this one, for
    /// [`EventSinks::emit`](crate::EventSinks::emit).
    ///
    /// ```
    /// use larder::{Event, EventKind};
    ///
    /// let event = Event::new(EventKind::Evict, "my store").with_key("k");
    /// assert_eq!((event.backend, event.key, event.count), ("my store", Some("k"), 1));
    /// ```
    #[must_use]
    pub fn new(kind: EventKind, backend: &'a str) -> Self {
        Self {
            kind,
            backend,
            op: None,
            key: None,
            took: None,
            count: 1,
            error: None,
            #[cfg(feature = "tracing")]
            shows_key: false,
        }
    }

    /// Sets the verb.
    #[must_use]
    pub fn with_op(mut self, op: &'static str) -> Self {
        self.op = Some(op);
        self
    }

    /// Sets the key.
    #[must_use]
    pub fn with_key(mut self, key: &'a str) -> Self {
        self.key = Some(key);
        self
    }

    /// Sets how long it took.
    #[must_use]
    pub fn with_took(mut self, took: impl Into<Option<Duration>>) -> Self {
        self.took = took.into();
        self
    }

    /// Sets how many events this one stands for.
    #[must_use]
    pub fn with_count(mut self, count: u64) -> Self {
        self.count = count;
        self
    }

    /// Sets the error.
    #[must_use]
    pub fn with_error(mut self, error: impl Into<Option<&'a Error>>) -> Self {
        self.error = error.into();
        self
    }

    /// The key's first 128 bytes.
    pub(crate) fn key_shown(&self) -> Option<&'a str> {
        self.key.map(shown)
    }
}

/// The part of a key that is shown.
pub(crate) fn shown(key: &str) -> &str {
    &key[..key.floor_char_boundary(KEY_SHOWN)]
}

impl fmt::Debug for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Event");
        out.field("kind", &self.kind)
            .field("backend", &self.backend)
            .field("op", &self.op)
            .field("key", &self.key_shown());
        out.field("took", &self.took)
            .field("count", &self.count)
            .field("error", &self.error)
            .finish()
    }
}

/// The kinds of [`Event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// A read found a live value.
    Hit,
    /// A read found nothing.
    Miss,
    /// A value past its logical expiry was served.
    StaleHit,
    /// A value was stored by a caller.
    Set,
    /// A caller removed a live key.
    Remove,
    /// A caller removed all keys of a cache or namespace; `key` is their common prefix.
    Clear,
    /// An entry was removed because it expired. Only adapters that notice this emit it.
    Expire,
    /// An entry was evicted to make room. Only adapters that notice this emit it.
    Evict,
    /// A loader returned a value. The value may not have been stored.
    Load,
    /// A loader failed, panicked or exceeded the time limit of its caller. A later result of the
    /// same loader emits nothing.
    LoadError,
    /// A caller waits for a loader that another caller started.
    Joined,
    /// The backend failed, or a loaded value could not be stored. With fail-open the call went on
    /// without the backend.
    BackendError,
    /// A value could not be read: its bytes are damaged or were not written by larder, or it does
    /// not have the type that was asked for.
    DecodeError,
    /// The circuit breaker opened: the backend failed too often, and calls are answered without it.
    BreakerOpen,
    /// The circuit breaker closed: the backend is asked again.
    BreakerClose,
    /// The adapter was replaced; `backend` is the new one.
    Swap,
    /// A stream that told the near level of changes ended, or cannot be had (then there is an
    /// error). Its values are near by age until [`NearBack`](EventKind::NearBack).
    NearLost,
    /// A stream tells the near level of changes again.
    NearBack,
}

impl EventKind {
    /// The name in traces.
    #[cfg(feature = "tracing")]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::StaleHit => "stale_hit",
            Self::Set => "set",
            Self::Remove => "remove",
            Self::Clear => "clear",
            Self::Expire => "expire",
            Self::Evict => "evict",
            Self::Load => "load",
            Self::LoadError => "load_error",
            Self::Joined => "joined",
            Self::BackendError => "backend_error",
            Self::DecodeError => "decode_error",
            Self::BreakerOpen => "breaker_open",
            Self::BreakerClose => "breaker_close",
            Self::Swap => "swap",
            Self::NearLost => "near_lost",
            Self::NearBack => "near_back",
        }
    }

    /// All kinds, in the order of their numbers.
    pub(crate) const ALL: [Self; 18] = [
        Self::Hit,
        Self::Miss,
        Self::StaleHit,
        Self::Set,
        Self::Remove,
        Self::Clear,
        Self::Expire,
        Self::Evict,
        Self::Load,
        Self::LoadError,
        Self::Joined,
        Self::BackendError,
        Self::DecodeError,
        Self::BreakerOpen,
        Self::BreakerClose,
        Self::Swap,
        Self::NearLost,
        Self::NearBack,
    ];
}
