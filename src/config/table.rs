//! A cache that a table configures, such as one of TOML or JSON.

use super::{IntoAdapter, Opened, open_table, refuse_options_of};
use crate::adapter::AsyncCacheAdapter;
use crate::error::Result;
use crate::url::Words;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use std::fmt;
use std::sync::Arc;

/// What a table of a configuration file says about a cache, read by serde.
///
/// The word `adapter` is an alias, class name or URL, as
/// [`AsyncCacheWrapper::new`](crate::AsyncCacheWrapper::new) takes it. All others are the
/// parameters of its URL, and the options of the cache: the same words with the same syntax, where
/// a number or switch may also be one of the format. Where `adapter` is no URL, the address has
/// words of its own: `host`, `port`, `tls` and `unix_socket` for redis, `server` for memcached (a
/// text or a list), `path` for sqlite. A text in place of the table is the `adapter` alone.
/// [`docs::configuration`](crate::docs::configuration) has all words.
///
/// A word that is not known, or a value that cannot be, is an error when the table is read; the
/// message lists the known words. `Debug` shows no value, because one may be a password.
///
/// ```
/// use larder::{AsyncCacheWrapper, CacheConfig};
///
/// #[derive(serde::Deserialize)]
/// struct App {
///     cache: CacheConfig,
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let app: App = serde_json::from_str(
///     r#"{ "cache": { "adapter": "memory", "max_bytes": "64MiB", "default_ttl": "5m",
///                     "stale_for": "1h", "jitter": 0.1 } }"#,
/// )?;
/// let cache = AsyncCacheWrapper::new(app.cache)?;
///
/// let wrong = serde_json::from_str::<App>(r#"{ "cache": { "adapter": "memory", "size": 5 } }"#);
/// assert!(wrong.err().is_some_and(|error| error.to_string().contains("max_entries")));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct CacheConfig {
    adapter: String,
    words: Vec<(String, String)>,
}

impl CacheConfig {
    /// The table, if a cache can be made of it. Makes one, which does no I/O, so that an error
    /// comes while the file is read.
    fn checked(adapter: String, words: Words) -> Result<Self> {
        let config = Self { adapter, words: words.0 };
        config.opened().map(|_| config)
    }

    fn opened(&self) -> Result<Opened> {
        open_table(&self.adapter, Words(self.words.clone()))
    }
}

impl IntoAdapter for CacheConfig {
    fn into_adapter(self) -> Result<Arc<dyn AsyncCacheAdapter>> {
        let opened = self.opened()?;
        refuse_options_of(&opened)?;
        Ok(opened.adapter)
    }

    fn into_opened(self) -> Result<Opened> {
        self.opened()
    }
}

impl<'de> Deserialize<'de> for CacheConfig {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Table;
        impl<'de> Visitor<'de> for Table {
            type Value = CacheConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of settings, or the name or URL of an adapter")
            }

            fn visit_str<E: Error>(self, adapter: &str) -> Result<CacheConfig, E> {
                CacheConfig::checked(adapter.to_owned(), Words(Vec::new())).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<CacheConfig, A::Error> {
                let mut words = Words::of_map(map)?;
                let adapter = words.take("adapter").ok_or_else(|| {
                    A::Error::custom("the table has no `adapter`: an alias, class name or URL")
                })?;
                if words.take("adapter").is_some() {
                    return Err(A::Error::custom("the setting `adapter` is given twice"));
                }
                CacheConfig::checked(adapter, words).map_err(A::Error::custom)
            }
        }
        from.deserialize_any(Table)
    }
}

impl fmt::Debug for CacheConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.words.iter().map(|(name, _)| name);
        f.debug_struct("CacheConfig").field("words", &names.collect::<Vec<_>>()).finish()
    }
}
