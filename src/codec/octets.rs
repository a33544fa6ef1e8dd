//! Values that consist of bytes only.
//!
//! serde sees a `Vec<u8>` as a sequence of numbers, and would visit each of them. For the types of
//! bytes that are known here, all bytes are copied at once.

use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// The bytes of a value, if its type is a known type of bytes.
pub(super) fn of<T: 'static>(value: &T) -> Option<&[u8]> {
    let value: &dyn Any = value;
    if let Some(bytes) = value.downcast_ref::<Vec<u8>>() {
        return Some(bytes);
    }
    value
        .downcast_ref::<Box<[u8]>>()
        .map(AsRef::as_ref)
        .or_else(|| value.downcast_ref::<Arc<[u8]>>().map(AsRef::as_ref))
}

/// Makes a value of a known type of bytes; `None` for another type.
pub(super) fn into<T: 'static>(bytes: impl FnOnce() -> Vec<u8>) -> Option<T> {
    let mut made: Option<T> = None;
    let place: &mut dyn Any = &mut made;
    if let Some(place) = place.downcast_mut::<Option<Vec<u8>>>() {
        *place = Some(bytes());
    } else if let Some(place) = place.downcast_mut::<Option<Box<[u8]>>>() {
        *place = Some(bytes().into());
    } else if let Some(place) = place.downcast_mut::<Option<Arc<[u8]>>>() {
        *place = Some(bytes().into());
    }
    made
}

/// Whether a type is a known type of bytes.
pub(super) fn is<T: 'static>() -> bool {
    into::<T>(Vec::new).is_some()
}

/// Reads bytes that were written as bytes, or as a sequence of numbers, as older versions of larder
/// did.
pub(super) struct Octets(pub(super) Vec<u8>);

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_byte_buf(OctetsVisitor).map(Self)
    }
}

struct OctetsVisitor;

impl<'de> Visitor<'de> for OctetsVisitor {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }

    fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
        Ok(bytes)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<Vec<u8>, A::Error> {
        let mut bytes = Vec::with_capacity(numbers.size_hint().unwrap_or(0));
        while let Some(byte) = numbers.next_element()? {
            bytes.push(byte);
        }
        Ok(bytes)
    }
}
