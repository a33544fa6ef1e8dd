//! The conformance suite through the wrapper's typed verbs, and behind a namespace.

use larder::testing::conformance;
use larder::{
    AsyncCacheAdapter, AsyncCacheWrapper, CacheValue, Codec, Entry, Expiry, KeyCursor, KeyPage,
    Result,
};
use serde::de::{SeqAccess, Visitor};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

conformance!(wrapper, Through::new("memory:", &[]));
conformance!(wrapper_encoded, Through::new("memory:?encoded=true", &[]));
conformance!(namespace, Through::new("memory:", &["n*", ""]));
conformance!(namespace_with_prefix, Through::new("memory:?prefix=app.&encoded=true", &["users"]));

/// An adapter that does everything by the verbs of a wrapper.
pub(crate) struct Through {
    cache: AsyncCacheWrapper,
    kind: String,
    /// What its namespaces put before a key.
    path: String,
}

impl Through {
    pub(crate) fn new(url: &str, namespaces: &[&str]) -> Self {
        Self::over(AsyncCacheWrapper::new(url).unwrap(), namespaces)
    }

    pub(crate) fn over(root: AsyncCacheWrapper, namespaces: &[&str]) -> Self {
        Self::within(root, &namespaces.iter().map(|name| format!("{name}:")).collect::<String>())
    }

    fn within(root: AsyncCacheWrapper, path: &str) -> Self {
        let kind = root.adapter().unwrap().backend().to_owned();
        let cache = match path.strip_suffix(':') {
            Some(names) => nested(&root, names),
            None => root,
        };
        // A colon between names stays; within them it does not occur in these tests.
        Self { cache, kind, path: path.replace('%', "%25") }
    }
}

/// A namespace within a namespace for each of the names between colons.
fn nested(cache: &AsyncCacheWrapper, names: &str) -> AsyncCacheWrapper {
    names.split(':').fold(cache.clone(), |cache, name| cache.namespace(name))
}

/// A value that the wrapper does not understand either: a number goes as a number, so that counters
/// work, the rest as bytes.
#[derive(Clone)]
struct Opaque(CacheValue);

const KEY: &str = "opaque";

impl Serialize for Opaque {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        match self.0.as_counter() {
            Ok(number) => out.serialize_i64(number),
            Err(_) => out.serialize_bytes(
                &self.0.to_stored(KEY, Codec::MessagePack).map_err(S::Error::custom)?,
            ),
        }
    }
}

impl<'de> Deserialize<'de> for Opaque {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Look;
        impl<'de> Visitor<'de> for Look {
            type Value = Opaque;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or bytes")
            }

            fn visit_i64<E>(self, number: i64) -> Result<Opaque, E> {
                Ok(Opaque(CacheValue::new(number)))
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Opaque, E> {
                i64::try_from(number)
                    .map(|number| Opaque(CacheValue::new(number)))
                    .map_err(E::custom)
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Opaque, E> {
                let value = CacheValue::from_stored(KEY, bytes.to_vec().into(), Codec::MessagePack);
                if value.is_unreadable() {
                    Err(E::custom("not the bytes of a value"))
                } else {
                    Ok(Opaque(value))
                }
            }

            /// What bytes are to a reader that takes anything.
            fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<Opaque, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = numbers.next_element()? {
                    bytes.push(byte);
                }
                self.visit_bytes(&bytes)
            }
        }
        from.deserialize_any(Look)
    }
}

fn inner(found: Option<Opaque>) -> Option<CacheValue> {
    found.map(|Opaque(value)| value)
}

#[async_trait::async_trait]
impl AsyncCacheAdapter for Through {
    async fn get(&self, key: &str) -> Result<Option<CacheValue>> {
        // The value inside has an end that the wrapper does not see, and would be missing as one of
        // the wrapper's own.
        Ok(inner(self.cache.get(key).await?).filter(|value| !value.is_stale()))
    }

    async fn set(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<()> {
        self.cache.ttl(expiry).set(key, Opaque(value)).await
    }

    async fn remove(&self, key: &str) -> Result<bool> {
        self.cache.remove(key).await
    }

    async fn update_timeout(&self, key: &str, expiry: Expiry) -> Result<Option<CacheValue>> {
        match self.cache.update_timeout(key, expiry).await {
            Ok(Opaque(value)) => Ok(Some(value)),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    async fn clear(&self, prefix: &str) -> Result<()> {
        // A wrapper clears its own keys. A part of them is a namespace, or only the adapter knows
        // it.
        match prefix.strip_suffix(':') {
            _ if prefix.is_empty() => self.cache.clear().await,
            // `%` and NUL are text here, and are escaped in the prefix of a namespace.
            Some(names) if !names.contains(['%', '\0']) => nested(&self.cache, names).clear().await,
            _ => self.cache.adapter()?.clear(&format!("{}{prefix}", self.path)).await,
        }
    }

    async fn add(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<bool> {
        self.cache.ttl(expiry).add(key, Opaque(value)).await
    }

    async fn replace(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<bool> {
        self.cache.ttl(expiry).replace(key, Opaque(value)).await
    }

    async fn incr(&self, key: &str, by: i64, expiry: Expiry) -> Result<i64> {
        self.cache.ttl(expiry).incr(key, by).await
    }

    async fn take(&self, key: &str) -> Result<Option<CacheValue>> {
        Ok(inner(self.cache.take(key).await?))
    }

    async fn expiry(&self, key: &str) -> Result<Option<Expiry>> {
        self.cache.expiry(key).await
    }

    async fn contains(&self, key: &str) -> Result<bool> {
        self.cache.contains(key).await
    }

    async fn touch(&self, key: &str, expiry: Expiry) -> Result<bool> {
        self.cache.touch(key, expiry).await
    }

    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Result<Option<CacheValue>>>> {
        Ok(self.cache.get_many(keys).await?.into_iter().map(|found| Ok(inner(found))).collect())
    }

    async fn set_many(&self, entries: &[Entry<'_>]) -> Result<Vec<Result<()>>> {
        // A wrapper returns the first error of a batch, with its key. Keys that occur twice are
        // asked one by one.
        let keys: HashSet<_> = entries.iter().map(|entry| entry.key).collect();
        if keys.len() < entries.len() && !keys.contains("") {
            let mut stored = Vec::new();
            for Entry { key, value, expiry, .. } in entries {
                stored.push(self.set(key, value.clone(), *expiry).await);
            }
            return Ok(stored);
        }
        let writes =
            entries.iter().map(|entry| (entry.key, Opaque(entry.value.clone()), entry.expiry));
        match self.cache.view().set_each(writes).await {
            Ok(()) => Ok(entries.iter().map(|_| Ok(())).collect()),
            Err(e) if e.key().is_some_and(|key| !key.is_empty() && keys.contains(key)) => {
                Ok(entries
                    .iter()
                    .map(|entry| if Some(entry.key) == e.key() { Err(e.clone()) } else { Ok(()) })
                    .collect())
            }
            Err(e) => Err(e),
        }
    }

    async fn remove_many(&self, keys: &[&str]) -> Result<Vec<Result<bool>>> {
        if keys.contains(&"") {
            return self.cache.remove(keys).await.map(|_| Vec::new());
        }
        let mut removed = Vec::new();
        for key in keys {
            removed.push(self.cache.remove(*key).await);
        }
        Ok(removed)
    }

    async fn keys(&self, prefix: &str, _: Option<&KeyCursor>) -> Result<KeyPage> {
        let mut keys = Vec::new();
        let mut walk = self.cache.keys(prefix);
        while let Some(key) = walk.next().await {
            keys.push(key?);
        }
        Ok(KeyPage::new(keys, None))
    }

    fn has_logical_ends(&self) -> bool {
        false
    }

    async fn connect(&self) -> Result<()> {
        self.cache.connect().await
    }

    async fn ping(&self) -> Result<()> {
        self.cache.ping().await
    }

    async fn close(&self) -> Result<()> {
        self.cache.close().await
    }

    async fn reconnect(&self) -> Result<()> {
        self.cache.reconnect().await
    }

    fn rebuild(&self) -> Result<Arc<dyn AsyncCacheAdapter>> {
        let root = AsyncCacheWrapper::new(self.cache.adapter()?.rebuild()?)?;
        Ok(Arc::new(Self::within(root, &self.path.replace("%25", "%"))))
    }

    fn backend(&self) -> &str {
        &self.kind
    }
}
