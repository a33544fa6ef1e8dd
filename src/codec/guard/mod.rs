//! The guard: rules that no format enforces by itself.
//!
//! A recursive value must not overflow the stack, a hostile length must not allocate memory, and a
//! value that would be read back as another value must not be written. The guard wraps a serde
//! `Serializer` or `Deserializer`, counts each level, and forwards the rest unchanged. So the bytes
//! of a format and its zero-copy reads stay the same.
//!
//! Both directions count levels in the same way, so every value that could be written can be read.
//! Fields and variants are read by name only: a list is never read as a struct, and a number never
//! as a variant.
//!
//! The guard does not see how serde's derive works on its own buffers. When a tagged, untagged or
//! flattened type is read, its buffer has passed the guard, so it is shallow. Only a type that
//! contains itself without any input in between (an untagged or flattened `Option<Box<Self>>`)
//! recurses without end, in every format. When a variant with fields inside an internally tagged or
//! flattened type is written, serde buffers the fields before the guard sees them, so thousands of
//! levels there still overflow the stack.

mod byte;
mod de;
mod ser;
#[cfg(test)]
mod tests;

#[cfg(feature = "memory")]
pub(super) use ser::{JSON_ONLY, Place};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The most containers, variants, newtypes and options that may be nested.
pub(crate) const MAX_DEPTH: usize = 64;

/// The guarded format, for the rules that apply to one format only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Has a form for bytes, in which sequences of `u8` are written. Has no form for integers of
    /// more than 64 bits except 16 raw bytes, so 128-bit integers that fit into 64 bits are written
    /// as such.
    MessagePack,
    /// Would write NaN and the infinities as `null` without an error. Has no form for bytes.
    Json,
}

pub(crate) fn serialize<T: Serialize + ?Sized, S: Serializer>(
    value: &T,
    inner: S,
    format: Format,
) -> Result<S::Ok, S::Error> {
    value.serialize(ser::Guard::new(inner, format))
}

pub(crate) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    inner: D,
) -> Result<T, D::Error> {
    T::deserialize(de::Guard::new(inner))
}

fn too_deep() -> String {
    format!("nested more than {MAX_DEPTH} levels deep")
}
