//! The settings that every adapter has, in the words that URLs and builders share.

use crate::key::Scope;
use crate::url::CacheUrl;
use crate::{Codec, Expiry, Lifetime, Result};

/// What is the same in every room.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    /// Before every key, so that `clear` knows its own.
    pub(crate) scope: Scope,
    /// Stands in for [`Expiry::Default`].
    pub(crate) default_ttl: Lifetime,
    pub(crate) codec: Codec,
}

/// A store over a network, and what has to be known to put something around it.
#[cfg(any(feature = "redis", feature = "memcached"))]
pub(crate) struct Remote<A> {
    pub(crate) adapter: A,
    pub(crate) op_timeout: std::time::Duration,
    pub(crate) default_ttl: Lifetime,
    /// Whether it leads to one place, which is there or away as a whole.
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
