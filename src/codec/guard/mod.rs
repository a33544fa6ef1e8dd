//! What every format is held to, and none enforces by itself.
//!
//! A recursive value must not overflow the stack, a hostile length must not take memory, and a value that would read
//! back as another one must not be written. The guard wraps a serde `Serializer` or `Deserializer`, watches each step
//! down, and forwards the rest unchanged, so a format keeps its bytes and its zero-copy reads.
//!
//! Both directions count alike: what could be written can be read.
//! Fields and variants are read by name only: a list is no struct and a number no variant, however well they fit.
//!
//! Out of sight are the steps serde's derive takes among its own buffers. Reading a tagged, untagged or flattened type,
//! the buffer came through the guard and so is shallow; only a type that holds itself with nothing of the input in
//! between (an untagged or flattened `Option<Box<Self>>`) recurses without end, in every format. Writing a variant with
//! fields inside an internally tagged or flattened one, serde buffers those fields before the guard is shown them, so
//! thousands of levels there still overflow.

mod de;
mod ser;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How many containers, variants, newtypes and options may lie within one another.
pub(crate) const MAX_DEPTH: usize = 64;

/// What a format needs beyond the rules for all.
#[derive(Clone, Copy)]
pub(crate) struct Rules {
    /// For JSON, which writes NaN and the infinities as `null` without a word.
    pub(crate) finite_floats_only: bool,
}

pub(crate) fn serialize<T: Serialize + ?Sized, S: Serializer>(
    value: &T,
    inner: S,
    rules: Rules,
) -> Result<S::Ok, S::Error> {
    value.serialize(ser::Guard::new(inner, rules))
}

pub(crate) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    inner: D,
) -> Result<T, D::Error> {
    T::deserialize(de::Guard::new(inner))
}

fn too_deep() -> String {
    format!("nested more than {MAX_DEPTH} levels deep")
}
