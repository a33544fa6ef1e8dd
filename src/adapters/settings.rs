//! The settings that all adapters share, and how they are read from URLs.

use crate::codec::Codec;
use crate::error::{Error, Result};
use crate::expiry::{Expiry, Lifetime};
use crate::key::Scope;
use crate::options::Options;
use crate::url::{CacheUrl, Words};
use serde::de::{Deserialize, Deserializer, Error as _};

/// The URL parameters of [`Resilient`](crate::layers::Resilient), which a cache puts around a
/// remote adapter that it creates from a URL.
#[cfg(any(feature = "redis", feature = "memcached"))]
const LAYER: [&str; 5] = ["resilient", "breaker", "retry", "recovery", "fail_open"];

/// Reads the URL of an adapter that is built in code. Parameters of a cache are refused.
pub(crate) fn read_url<B>(text: &str, read: impl FnOnce(&mut CacheUrl) -> Result<B>) -> Result<B> {
    read_all(CacheUrl::parse(text)?, read)
}

/// Reads all parameters, of which none may be left over, nor be one of a cache.
fn read_all<B>(mut url: CacheUrl, read: impl FnOnce(&mut CacheUrl) -> Result<B>) -> Result<B> {
    let read = read(&mut url)?;
    refuse_options(&url)?;
    url.finish()?;
    Ok(read)
}

/// Reads the builder of an adapter out of a table. `url` is what the table adds its words to.
#[cfg(any(feature = "memory", feature = "redis", feature = "memcached", feature = "sqlite"))]
pub(crate) fn read_table<'de, B, D: Deserializer<'de>>(
    from: D,
    url: &str,
    read: impl FnOnce(&mut CacheUrl) -> Result<B>,
) -> Result<B, D::Error> {
    let words = Words::deserialize(from)?;
    let table = CacheUrl::parse(url).map(|url| url.with_table(words, true));
    table.and_then(|table| read_all(table, read)).map_err(|error: Error| D::Error::custom(error))
}

/// [`read_url`] for an adapter that a cache wraps in a layer.
#[cfg(any(feature = "redis", feature = "memcached"))]
pub(crate) fn read_remote_url<B>(
    text: &str,
    read: impl FnOnce(&mut CacheUrl) -> Result<B>,
) -> Result<B> {
    read_url(text, without_layer(read))
}

/// [`read_table`] for an adapter that a cache wraps in a layer.
#[cfg(any(feature = "redis", feature = "memcached"))]
pub(crate) fn read_remote_table<'de, B, D: Deserializer<'de>>(
    from: D,
    url: &str,
    read: impl FnOnce(&mut CacheUrl) -> Result<B>,
) -> Result<B, D::Error> {
    read_table(from, url, without_layer(read))
}

/// Refuses the parameters of a layer where there is only the adapter.
#[cfg(any(feature = "redis", feature = "memcached"))]
fn without_layer<B>(
    read: impl FnOnce(&mut CacheUrl) -> Result<B>,
) -> impl FnOnce(&mut CacheUrl) -> Result<B> {
    |url| read(url).and_then(|read| refuse_layer(url).map(|()| read))
}

#[cfg(any(feature = "redis", feature = "memcached"))]
fn refuse_layer(url: &CacheUrl) -> Result<()> {
    url.refuse(
        &LAYER,
        "is for caches that are given the URL; wrap an adapter that is built in code in \
         `larder::layers::Resilient`",
    )
}

/// Refuses the options of a cache in the URL of an adapter, which does not use them.
pub(crate) fn refuse_options(url: &CacheUrl) -> Result<()> {
    url.refuse(
        Options::NAMES,
        "is an option of a cache: pass the URL to the cache itself, or the option to its builder",
    )
}

/// The settings that all adapters share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    /// The prefix of every key, which limits `clear` to the adapter's own keys.
    pub(crate) scope: Scope,
    /// Replaces [`Expiry::Default`].
    pub(crate) default_ttl: Lifetime,
    pub(crate) codec: Codec,
}

/// A remote adapter, with the settings that the `Resilient` layer needs.
#[cfg(any(feature = "redis", feature = "memcached"))]
pub(crate) struct Remote<A> {
    pub(crate) adapter: A,
    pub(crate) op_timeout: std::time::Duration,
    pub(crate) default_ttl: Lifetime,
    /// Whether there is one server, which is available or unavailable as a whole.
    pub(crate) is_one: bool,
}

impl Settings {
    #[cfg(any(feature = "redis", feature = "memcached"))]
    pub(crate) fn with_prefix(prefix: &str) -> Self {
        Self { scope: Scope::prefixed(prefix), ..Self::default() }
    }

    /// Takes `prefix`, `default_ttl` and `codec` out of a URL.
    pub(crate) fn take(&mut self, url: &mut CacheUrl) -> Result<()> {
        if let Some(prefix) = url.take::<String>("prefix")? {
            self.scope = Scope::prefixed(prefix);
        }
        if let Some(default_ttl) = url.take("default_ttl")? {
            self.default_ttl = default_ttl;
        }
        if let Some(codec) = url.take("codec")? {
            self.codec = codec;
        }
        Ok(())
    }

    pub(crate) fn resolve(&self, expiry: Expiry) -> Lifetime {
        expiry.resolve(self.default_ttl)
    }
}
