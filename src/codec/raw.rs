//! placeholder, overwritten
use serde::{Deserialize, Serialize};
pub(crate) type Error = serde_json::Error;
pub(crate) fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, Error> { serde_json::to_vec(value) }
pub(crate) fn from_slice<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, Error> { serde_json::from_slice(bytes) }
