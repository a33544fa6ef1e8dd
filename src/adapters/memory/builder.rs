//! The settings of a memory cache.

use super::{AsyncMemoryCache, Bounds};
use crate::adapters::{Settings, read_url};
use crate::codec::Codec;
use crate::error::{Error, Result};
use crate::expiry::Expiry;
use crate::key::Scope;
use crate::url::CacheUrl;

/// The settings of an [`AsyncMemoryCache`], in the words of its URL.
///
/// ```
/// use larder::AsyncMemoryCache;
/// use std::time::Duration;
///
/// let cache = AsyncMemoryCache::builder().max_entries(10_000).max_bytes(1 << 20).default_ttl(Duration::from_secs(60)).build();
/// assert_eq!(cache.entry_count(), 0);
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct MemoryBuilder {
    settings: Settings,
    max_entries: u64,
    max_bytes: u64,
    encoded: bool,
    shared: bool,
}

impl Default for MemoryBuilder {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            max_entries: 100_000,
            max_bytes: 128 << 20,
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

    /// At most so many bytes of keys and values, as the codec would encode them, with 112 bytes an entry on top. Default 128 MiB.
    ///
    /// An entry counts for at least about `max_bytes / max_entries`. The store is divided into shards of at least 4 MiB, where it
    /// has as much; an entry that counts for more than 97 % of a shard is `TooLarge`.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes.max(1);
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
        builder.encoded = url.take("encoded")?.unwrap_or_default();
        builder.shared = url.take("shared")?.unwrap_or_default();
        Ok(builder)
    }

    pub(super) fn bounds(&self) -> Bounds {
        Bounds { max_entries: self.max_entries, max_bytes: self.max_bytes }
    }

    pub(super) fn is_shared(&self) -> bool {
        self.shared
    }

    pub(super) fn into_parts(self) -> (Settings, bool) {
        let encoded = self.encoded || !self.settings.codec.has_header();
        (self.settings, encoded)
    }
}
