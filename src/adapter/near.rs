//! What a near level asks of the adapter behind it: values with the rest of their life, and sources
//! that vouch for these values.

#[cfg(any(
    feature = "testing",
    all(test, feature = "memory", any(feature = "redis", feature = "sqlite"))
))]
mod recorder;

#[cfg(any(
    feature = "testing",
    all(test, feature = "memory", any(feature = "redis", feature = "sqlite"))
))]
pub(crate) use recorder::{Recorder, Records};

use super::AsyncCacheAdapter;
use crate::error::{ErrorKind, Result};
use crate::expiry::{Expiry, Lifetime};
use crate::value::CacheValue;
use futures_util::future::{BoxFuture, join_all};
use std::fmt;

/// A value, and how long a near level may keep it: the answer of
/// [`get_near`](AsyncCacheAdapter::get_near).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NearEntry {
    /// The value.
    pub value: CacheValue,
    /// The rest of the entry's life, counted from some time after the read was sent. Zero if the
    /// value must not be kept near.
    pub left: Lifetime,
    /// The source that vouches for the value; `None` if only its age does.
    pub source: Option<SourceId>,
}

impl NearEntry {
    /// A value for which nobody vouches. It is served near for no longer than the near bound.
    #[must_use]
    pub fn new(value: CacheValue, left: Lifetime) -> Self {
        Self { value, left, source: None }
    }

    /// A value that must not be kept near, because the rest of its life is not known.
    #[must_use]
    pub fn not_kept(value: CacheValue) -> Self {
        Self::new(value, Lifetime::For(std::time::Duration::ZERO))
    }

    /// Names the source that vouches for the value. The value was read through the same stream
    /// that tells the source of changes.
    #[must_use]
    pub fn vouched_by(mut self, source: SourceId) -> Self {
        self.source = Some(source);
        self
    }
}

/// The name of a [`Source`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceId {
    /// The number that a near value bears.
    pub(crate) number: u16,
    /// Which use of the number this is.
    pub(crate) life: u64,
}

/// When a question was sent to the store, by the clock of the near level: see [`Source::now`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AskedAt(pub(crate) u64);

/// What opens sources in a near level.
pub(crate) trait OpensSources: Send + Sync {
    /// `None` if the near level is gone, or cannot count another source.
    fn open(&self) -> Option<Box<dyn Vouches>>;
    fn is_gone(&self) -> bool;
}

/// A source, as its near level implements it. Dropping it ends the source.
pub(crate) trait Vouches: Send + Sync {
    fn id(&self) -> SourceId;
    fn now(&self) -> AskedAt;
    fn forget(&self, key: &str);
    fn forget_prefix(&self, prefix: &str);
    fn confirm(&self, asked_at: AskedAt);
    /// `false` if the near level is gone.
    fn wanted(&self) -> BoxFuture<'_, bool>;
}

/// A near level that an adapter can tell of changes: see
/// [`follow`](AsyncCacheAdapter::follow). Cloning it is cheap. It does not keep the near level alive.
#[derive(Clone)]
pub struct Follower(std::sync::Arc<dyn OpensSources>);

impl Follower {
    #[cfg(any(feature = "memory", feature = "testing"))]
    pub(crate) fn new(opens: std::sync::Arc<dyn OpensSources>) -> Self {
        Self(opens)
    }

    /// A new source, for one ordered stream from the store: a connection, or a poller. `None` if the
    /// near level is gone, or has too many sources; then the values of this stream are near by age.
    #[must_use]
    pub fn source(&self) -> Option<Source> {
        self.0.open().map(Source)
    }

    /// Whether the near level is gone: nobody needs to be told of changes any more.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.0.is_gone()
    }
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").finish_non_exhaustive()
    }
}

/// A source: one ordered stream from the store, which tells a near level of changes and vouches for
/// the values that were read through it.
///
/// An adapter that follows keeps two rules:
///
/// 1. From the read of a value on that names this source, every change of its key is told
///    ([`forget`](Source::forget)) before any [`confirm`](Source::confirm) of a question that was
///    sent after the change had returned to its caller.
/// 2. When the first rule cannot be kept any more, because the stream broke, the source is dropped.
///
/// Dropping it ends it, and with it everything for which it vouched.
pub struct Source(Box<dyn Vouches>);

impl Source {
    /// The name for [`NearEntry::vouched_by`].
    #[must_use]
    pub fn id(&self) -> SourceId {
        self.0.id()
    }

    /// The time now. Taken before a question is sent, it is the argument of
    /// [`confirm`](Source::confirm) once the answer has come.
    #[must_use]
    pub fn now(&self) -> AskedAt {
        self.0.now()
    }

    /// A key may have changed. Short, and never waits.
    pub fn forget(&self, key: &str) {
        self.0.forget(key);
    }

    /// All keys that begin with `prefix` may have changed; with the empty prefix, all keys.
    pub fn forget_prefix(&self, prefix: &str) {
        self.0.forget_prefix(prefix);
    }

    /// The stream has answered a question that was sent at `asked_at`, and before that answer it has
    /// told of everything that had changed until then.
    pub fn confirm(&self, asked_at: AskedAt) {
        self.0.confirm(asked_at);
    }

    /// Waits until a hit wants this source confirmed, because no answer has come for half a near
    /// bound. The adapter then asks the store a question through the stream, such as `PING`. An idle
    /// cache wants nothing. Returns `false` if the near level is gone: then the source is of no use,
    /// and the store need not tell of changes any more.
    ///
    /// # Cancel safety
    ///
    /// A dropped future loses no request: the next call is ready at once.
    pub async fn wanted(&self) -> bool {
        self.0.wanted().await
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Source").field(&self.id()).finish()
    }
}

/// [`get_near`](AsyncCacheAdapter::get_near) by `get` and `expiry`.
pub(crate) async fn near_by_expiry<A: AsyncCacheAdapter + ?Sized>(
    adapter: &A,
    key: &str,
) -> Result<Option<NearEntry>> {
    match adapter.get(key).await? {
        Some(value) => with_life(adapter, key, value).await,
        None => Ok(None),
    }
}

/// [`get_many_near`](AsyncCacheAdapter::get_many_near) by `get_many` and `expiry`.
pub(crate) async fn many_near_by_expiry<A: AsyncCacheAdapter + ?Sized>(
    adapter: &A,
    keys: &[&str],
) -> Result<Vec<Result<Option<NearEntry>>>> {
    let found = adapter.get_many(keys).await?;
    let entries = keys.iter().zip(found).map(|(key, found)| async move {
        match found? {
            Some(value) => with_life(adapter, key, value).await,
            None => Ok(None),
        }
    });
    Ok(join_all(entries).await)
}

/// A value with the rest of its life. It is asked for after the value was read: an entry that has
/// gone in between is none, and one that was replaced is older than the near bound for no longer
/// than any other.
async fn with_life<A: AsyncCacheAdapter + ?Sized>(
    adapter: &A,
    key: &str,
    value: CacheValue,
) -> Result<Option<NearEntry>> {
    match adapter.expiry(key).await {
        Ok(Some(Expiry::Never)) => Ok(Some(NearEntry::new(value, Lifetime::Never))),
        Ok(Some(Expiry::After(left))) => Ok(Some(NearEntry::new(value, Lifetime::For(left)))),
        Ok(_) => Ok(Some(NearEntry::not_kept(value))),
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            Ok(Some(NearEntry::not_kept(value)))
        }
        Err(error) => Err(error),
    }
}
