//! Runs the suite on a small store, and on the same store with one bug at a time: the suite must
//! find each.

mod broken;
mod faulty;
mod ledger;
mod minimal;
mod slot;
mod store;
#[cfg(feature = "memory")]
mod telling;

use super::{Suite, conformance};
use crate::codec::Codec;
use store::Store;

conformance!(msgpack, Store::encoded(Codec::MessagePack));
conformance!(json, Store::encoded(Codec::Json), Suite::new().codec(Codec::Json));
conformance!(raw, Store::encoded(Codec::Raw), Suite::new().codec(Codec::Raw));
conformance!(limited, Store::limited(), Suite::new().max_value(Store::LIMIT));

#[cfg(feature = "memory")]
conformance!(memory, crate::adapters::memory::AsyncMemoryCache::new());
#[cfg(feature = "memory")]
conformance!(
    memory_of_bytes_behind_a_prefix,
    crate::adapters::memory::AsyncMemoryCache::builder()
        .encoded()
        .prefix("users:*[a-z]%_:")
        .build()
);
