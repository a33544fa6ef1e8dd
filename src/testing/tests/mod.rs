//! The suite on a small store, and on the same store with bugs put in: each must be caught.

mod broken;
mod store;

use super::{Suite, conformance};
use crate::Codec;
use store::Store;

conformance!(store_of_handles, Store::new());
conformance!(store_of_msgpack, Store::encoded(Codec::MessagePack));
conformance!(store_of_json, Store::encoded(Codec::Json), Suite::new().codec(Codec::Json));
