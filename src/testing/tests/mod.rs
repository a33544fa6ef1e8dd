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

use super::{Failure, Suite, conformance};
use crate::codec::Codec;
use store::Store;

/// The failure of a case that must find a bug. Some cases draw at random what they do, or race: what
/// one run does not find, one of the next runs does.
fn found_in_some_runs(run: impl Fn() -> Result<(), Failure>) -> Failure {
    (0..5).find_map(|_| run().err()).expect("the case passes on an adapter that is broken")
}

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
