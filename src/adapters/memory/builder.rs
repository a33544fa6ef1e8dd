//! The settings of a memory cache.

use super::{AsyncMemoryCache, Bounds};
use crate::adapters::{Settings, read_table, read_url};
use crate::codec::Codec;
use crate::error::{Error, Result};
use crate::expiry::Expiry;
use crate::key::Scope;
use crate::url::CacheUrl;
use crate::value::CacheValue;
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::sync::Arc;

/// A user's function that weighs values.
#[derive(Clone)]
pub(super) struct Weigher(Arc<Weigh>);

type Weigh = dyn Fn(&str, &CacheValue) -> u64 + Send + Sync;

impl Weigher {
    pub(super) fn weigh(&self, key: &str, value: &CacheValue) -> usize {
        usize::try_from((self.0)(key, value)).unwrap_or(usize::MAX)
    }
}

impl fmt::Debug for Weigher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Weigher")
    }
}

/// The settings of an [`AsyncMemoryCache`]. The parameters of its URL have the same names.
///
/// ```
/// use larder::AsyncMemoryCache;
/// use std::time::Duration;
///
/// let cache = AsyncMemoryCache::builder()
///     .max_entries(10_000)
///     .max_bytes(1 << 20)
///     .default_ttl(Duration::from_secs(60))
///     .build();
/// assert_eq!(cache.entry_count(), 0);
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct MemoryBuilder {
    settings: Settings,
    max_entries: u64,
    max_bytes: u64,
    max_value_bytes: u64,
    weigher: Option<Weigher>,
    encoded: bool,
    shared: bool,
}

impl Default for MemoryBuilder {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            max_entries: 100_000,
            max_bytes: 128 << 20,
            max_value_bytes: 32 << 20,
            weigher: None,
            encoded: false,
            shared: false,
        }
    }
}

impl MemoryBuilder {
    /// Sets the most entries. Default 100,000; at least 1.
    pub fn max_entries(mut self, entries: u64) -> Self {
        self.max_entries = entries.max(1);
        self
    }

    /// Sets the most bytes of keys and values, plus 112 bytes for each entry. Default 128 MiB; at
    /// least 1.
    ///
    /// The weight of a value is estimated from its size and its `Serialize`: the heap of texts,
    /// lists, maps and boxes of the standard library is right within a factor of two. Skipped
    /// fields, spare capacity, other allocators, and the width of the elements of a list with
    /// nothing but `None` or variants without fields are not seen; use a
    /// [`weigher`](MemoryBuilder::weigher) for those. Encoded bytes count with their length.
    ///
    /// An entry that counts for more than this bound is `TooLarge`.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes.max(1);
        self
    }

    /// Sets the most bytes of one value. A value that counts for more is
    /// [`TooLarge`](crate::ErrorKind::TooLarge), on every machine. Default 32 MiB; at least 1, 4 GiB
    /// at most.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// use larder::{AsyncCacheWrapper, AsyncMemoryCache, ErrorKind};
    ///
    /// let small = AsyncMemoryCache::builder().max_value_bytes(1_000).build();
    /// let cache = AsyncCacheWrapper::new(small)?;
    /// let refused = cache.set("k", "x".repeat(1_001)).await.unwrap_err();
    /// assert_eq!(refused.kind(), ErrorKind::TooLarge);
    /// # Ok(()) }
    /// ```
    pub fn max_value_bytes(mut self, bytes: u64) -> Self {
        self.max_value_bytes = bytes.max(1);
        self
    }

    /// Sets a function that returns the weight of a value in bytes, instead of the estimate. It
    /// gets the key, prefix included, and the value. It runs once for each write, while no lock is
    /// held.
    ///
    /// ```
    /// use larder::{AsyncMemoryCache, CacheValue};
    /// use serde::Serialize;
    ///
    /// #[derive(Serialize)]
    /// struct Page {
    ///     title: String,
    ///     #[serde(skip)]
    ///     rendered: Vec<u8>,
    /// }
    ///
    /// let cache = AsyncMemoryCache::builder().weigher(|_, value: &CacheValue| {
    ///     value.downcast_ref::<Page>().map_or(100, |page| page.rendered.capacity() as u64)
    /// });
    /// ```
    pub fn weigher(
        mut self,
        weigher: impl Fn(&str, &CacheValue) -> u64 + Send + Sync + 'static,
    ) -> Self {
        self.weigher = Some(Weigher(Arc::new(weigher)));
        self
    }

    /// Sets the expiry that [`Expiry::Default`] means. Default 300 s.
    pub fn default_ttl(mut self, ttl: impl Into<Expiry>) -> Self {
        self.settings.default_ttl = ttl.into().resolve(self.settings.default_ttl);
        self
    }

    /// Sets the prefix of every key. Empty by default.
    pub fn prefix(mut self, prefix: impl AsRef<str>) -> Self {
        self.settings.scope = Scope::prefixed(prefix.as_ref());
        self
    }

    /// Sets the codec that checks and measures values. Every codec except [`Codec::MessagePack`]
    /// implies [`encoded`](MemoryBuilder::encoded), because the value that it returns may differ
    /// from the value that was set.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.settings.codec = codec;
        self
    }

    /// Keeps encoded bytes instead of objects, as a remote store does.
    pub fn encoded(mut self) -> Self {
        self.encoded = true;
        self
    }

    /// Uses the process-wide store. It has the default bounds; the bounds set here have no effect.
    pub fn shared(mut self) -> Self {
        self.shared = true;
        self
    }

    /// Builds the cache. Spawns nothing; a background sweep starts with the first entry that can
    /// expire.
    #[must_use]
    pub fn build(self) -> AsyncMemoryCache {
        AsyncMemoryCache::build(self)
    }

    pub(super) fn from_url(url: &str) -> Result<Self> {
        read_url(url, Self::from_cache_url)
    }

    /// Takes the parameters of this adapter out of a URL.
    pub(crate) fn from_cache_url(url: &mut CacheUrl) -> Result<Self> {
        if url.scheme() != "memory" || !url.is_bare() {
            return Err(Error::config(
                "a memory URL is `memory:` or `memory://`, with parameters behind a question mark",
            ));
        }
        let mut builder = Self::default();
        builder.settings.take(url)?;
        if let Some(entries) = url.take("max_entries")? {
            builder = builder.max_entries(more_than_zero("max_entries", entries)?);
        }
        if let Some(bytes) = url.take_size("max_bytes")? {
            builder = builder.max_bytes(more_than_zero("max_bytes", bytes)?);
        }
        if let Some(bytes) = url.take_size("max_value_bytes")? {
            builder = builder.max_value_bytes(more_than_zero("max_value_bytes", bytes)?);
        }
        builder.encoded = url.take("encoded")?.unwrap_or_default();
        builder.shared = url.take("shared")?.unwrap_or_default();
        Ok(builder)
    }

    pub(super) fn bounds(&self) -> Bounds {
        Bounds {
            max_entries: self.max_entries,
            max_bytes: self.max_bytes,
            max_value_bytes: self.max_value_bytes,
        }
    }

    pub(super) fn is_shared(&self) -> bool {
        self.shared
    }

    pub(super) fn into_parts(self) -> (Settings, Option<Weigher>, bool) {
        let encoded = self.encoded || !self.settings.codec.has_header();
        (self.settings, self.weigher, encoded)
    }
}

/// With a bound of zero nothing could be stored.
fn more_than_zero(name: &'static str, bound: u64) -> Result<u64> {
    match bound {
        0 => Err(Error::config(format!(
            "`{name}` must be more than zero; a cache that stores nothing is `off:`"
        ))),
        bound => Ok(bound),
    }
}

/// Reads the settings out of a table, such as one of TOML or JSON: the words are the parameters of
/// the adapter's URL, with the same syntax. A word that is not known is an error
/// that lists the known ones.
///
/// ```
/// let table = r#"{ "max_entries": 10000, "max_bytes": "64MiB", "default_ttl": "5m" }"#;
/// let cache = serde_json::from_str::<larder::MemoryBuilder>(table)?.build();
/// # Ok::<(), serde_json::Error>(())
/// ```
impl<'de> Deserialize<'de> for MemoryBuilder {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        read_table(from, "memory:", Self::from_cache_url)
    }
}
