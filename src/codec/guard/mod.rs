//! placeholder, overwritten
use serde::{Deserialize, Deserializer, Serialize, Serializer};
#[derive(Clone, Copy)]
pub(crate) struct Rules { pub(crate) finite_floats_only: bool }
pub(crate) fn serialize<T: Serialize + ?Sized, S: Serializer>(value: &T, inner: S, rules: Rules) -> Result<S::Ok, S::Error> { let _ = rules.finite_floats_only; value.serialize(inner) }
pub(crate) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(inner: D) -> Result<T, D::Error> { T::deserialize(inner) }
