//! What every format is held to, and none enforces by itself.
//!
//! A recursive value must not overflow the stack, a hostile length must not take memory, and a
//! value that would read back as another one must not be written. The guard wraps a serde
//! `Serializer` or `Deserializer`, watches each step down, and forwards the rest unchanged, so a
//! format keeps its bytes and its zero-copy reads.
//!
//! Both directions count alike: what could be written can be read. Fields and variants are read by
//! name only: a list is no struct and a number no variant, however well they fit.
//!
//! Out of sight are the steps serde's derive takes among its own buffers. Reading a tagged,
//! untagged or flattened type, the buffer came through the guard and so is shallow; only a type
//! that holds itself with nothing of the input in between (an untagged or flattened
//! `Option<Box<Self>>`) recurses without end, in every format. Writing a variant with fields inside
//! an internally tagged or flattened one, serde buffers those fields before the guard is shown
//! them, so thousands of levels there still overflow.

mod byte;
mod de;
mod ser;
#[cfg(test)]
mod tests;

#[cfg(feature = "memory")]
pub(super) use ser::{JSON_ONLY, Place};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How many containers, variants, newtypes and options may lie within one another.
pub(crate) const MAX_DEPTH: usize = 64;

/// Which format is guarded, for what one of them needs beyond the rules for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Has a form for bytes, which sequences of `u8` get; has none for integers of more than 64
    /// bits but 16 raw bytes, so those that fit are written as the integers that they are.
    MessagePack,
    /// Writes NaN and the infinities as `null` without a word, and has no form for bytes.
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
