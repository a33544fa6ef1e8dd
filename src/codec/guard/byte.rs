//! A serializer for one byte: an item of a sequence that is known to consist of bytes.

use serde::ser::{Error, Impossible, Serialize, Serializer};
use std::fmt::Display;

/// Returns the byte that it is given.
pub(super) struct ByteOf;

/// The error for an item that is no byte.
#[derive(Debug)]
pub(super) struct NoByte;

impl std::fmt::Display for NoByte {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an item that is no byte")
    }
}

impl std::error::Error for NoByte {}

impl Error for NoByte {
    fn custom<T: Display>(_: T) -> Self {
        Self
    }
}

/// Copies the bytes of a sequence of bytes at once.
pub(super) fn bytes_of<T: Serialize>(items: impl Iterator<Item = T>) -> Result<Vec<u8>, NoByte> {
    let mut are_bytes = true;
    let bytes = items
        .map(|item| {
            item.serialize(ByteOf).unwrap_or_else(|NoByte| {
                are_bytes = false;
                0
            })
        })
        .collect();
    if are_bytes { Ok(bytes) } else { Err(NoByte) }
}

macro_rules! refuse {
    ($($method:ident($($type:ty),*) -> $ok:ty;)*) => {$(
        fn $method(self, $(_: $type),*) -> Result<$ok, NoByte> {
            Err(NoByte)
        }
    )*};
}

impl Serializer for ByteOf {
    type Ok = u8;
    type Error = NoByte;
    type SerializeSeq = Impossible<u8, NoByte>;
    type SerializeTuple = Impossible<u8, NoByte>;
    type SerializeTupleStruct = Impossible<u8, NoByte>;
    type SerializeTupleVariant = Impossible<u8, NoByte>;
    type SerializeMap = Impossible<u8, NoByte>;
    type SerializeStruct = Impossible<u8, NoByte>;
    type SerializeStructVariant = Impossible<u8, NoByte>;

    #[inline]
    fn serialize_u8(self, byte: u8) -> Result<u8, NoByte> {
        Ok(byte)
    }

    refuse! {
        serialize_bool(bool) -> u8;
        serialize_i8(i8) -> u8;
        serialize_i16(i16) -> u8;
        serialize_i32(i32) -> u8;
        serialize_i64(i64) -> u8;
        serialize_u16(u16) -> u8;
        serialize_u32(u32) -> u8;
        serialize_u64(u64) -> u8;
        serialize_f32(f32) -> u8;
        serialize_f64(f64) -> u8;
        serialize_char(char) -> u8;
        serialize_str(&str) -> u8;
        serialize_bytes(&[u8]) -> u8;
        serialize_none() -> u8;
        serialize_unit() -> u8;
        serialize_unit_struct(&'static str) -> u8;
        serialize_unit_variant(&'static str, u32, &'static str) -> u8;
        serialize_seq(Option<usize>) -> Self::SerializeSeq;
        serialize_tuple(usize) -> Self::SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeTupleVariant;
        serialize_map(Option<usize>) -> Self::SerializeMap;
        serialize_struct(&'static str, usize) -> Self::SerializeStruct;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Self::SerializeStructVariant;
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<u8, NoByte> {
        Err(NoByte)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: &T,
    ) -> Result<u8, NoByte> {
        Err(NoByte)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<u8, NoByte> {
        Err(NoByte)
    }
}
