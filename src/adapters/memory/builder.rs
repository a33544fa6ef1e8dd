//! The settings of a memory cache.

use super::{AsyncMemoryCache, Bounds};
use crate::adapters::{Settings, read_url};
use crate::codec::Codec;
use crate::error::{Error, Result};
use crate::expiry::Expiry;
use crate::key::Scope;
use crate::url::CacheUrl;
use crate::value::CacheValue;
use std::fmt;
use std::sync::Arc;

/// A user's own way to say what a value counts for.
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

/// The settings of an [`AsyncMemoryCache`], in the words of its URL.
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
    /// At most so many entries. Default 100,000; at least 1.
    pub fn max_entries(mut self, entries: u64) -> Self {
        self.max_entries = entries.max(1);
        self
    }

    /// At most so many bytes of keys and values, with 112 bytes an entry on top. Default 128 MiB.
    ///
    /// What a value takes is worked out from its size and from what its `Serialize` shows: the heap
    /// of texts, lists, maps and boxes of the standard library within a factor of two. What is
    /// skipped when it is written, spare capacity and other allocators' habits are not seen:
    /// [`weigher`](MemoryBuilder::weigher) is for those. Bytes count as they are.
    ///
    /// An entry that counts for more than all of it is `TooLarge`.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes.max(1);
        self
    }

    /// A value that counts for more bytes is [`TooLarge`](crate::ErrorKind::TooLarge), on every
    /// machine. Default 32 MiB; 4 GiB at most.
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
        self.max_value_bytes = bytes;
        self
    }

    /// Says what a value counts for, in bytes, in place of what is worked out. It gets the key,
    /// prefix included, and the value; it runs once a write, where no lock is held.
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

    /// What [`Expiry::Default`] means. Default 300 s.
    pub fn default_ttl(mut self, ttl: impl Into<Expiry>) -> Self {
        self.settings.default_ttl = ttl.into().resolve(self.settings.default_ttl);
        self
    }

    /// Before every key. Default empty.
    pub fn prefix(mut self, prefix: impl AsRef<str>) -> Self {
        self.settings.scope = Scope::prefixed(prefix.as_ref());
        self
    }

    /// The codec that values are checked and measured with. Any but [`Codec::MessagePack`] implies
    /// [`encoded`](MemoryBuilder::encoded): what it gives back is not always what it was given.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.settings.codec = codec;
        self
    }

    /// Keeps bytes instead of objects, for parity with a remote store byte for byte.
    pub fn encoded(mut self) -> Self {
        self.encoded = true;
        self
    }

    /// The process-wide store. Its bounds are the defaults, whatever is said here.
    pub fn shared(mut self) -> Self {
        self.shared = true;
        self
    }

    /// The cache. Spawns nothing; a background sweep starts with the first entry that can expire.
    #[must_use]
    pub fn build(self) -> AsyncMemoryCache {
        AsyncMemoryCache::build(self)
    }

    pub(super) fn from_url(url: &str) -> Result<Self> {
        read_url(url, Self::from_cache_url)
    }

    /// Takes what is memory's out of a URL.
    pub(crate) fn from_cache_url(url: &mut CacheUrl) -> Result<Self> {
        if url.scheme() != "memory" || !url.is_bare() {
            return Err(Error::config(
                "a memory URL is `memory:` or `memory://`, with parameters behind a question mark",
            ));
        }
        let mut builder = Self::default();
        builder.settings.take(url)?;
        if let Some(entries) = url.take("max_entries")? {
            builder = builder.max_entries(entries);
        }
        if let Some(bytes) = url.take_size("max_bytes")? {
            builder = builder.max_bytes(bytes);
        }
        if let Some(bytes) = url.take_size("max_value_bytes")? {
            builder = builder.max_value_bytes(bytes);
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
