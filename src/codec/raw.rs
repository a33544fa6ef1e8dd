//! The codec `Raw`: text and bytes without any encoding, for programs in other languages. redis-cli
//! shows the text that was set.
//!
//! There is no header and no type in the bytes, so only a single text or sequence of bytes can be
//! stored. Numbers are stored as decimal text, as the counters of all servers and clients are.

use std::fmt::{self, Display};
use std::str::{self, FromStr};

use serde::de::value::{BorrowedStrDeserializer, SeqDeserializer};
use serde::de::{Deserialize, Deserializer, Expected, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use serde::ser::{Impossible, Serialize, SerializeSeq, SerializeTuple, Serializer};

use super::guard::MAX_DEPTH;

pub(crate) fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, Error> {
    Ok(value.serialize(Encoder { left: MAX_DEPTH })?.into_text())
}

pub(crate) fn from_slice<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, Error> {
    T::deserialize(Decoder { bytes, left: MAX_DEPTH })
}

/// Why a value cannot be written or read. The error never contains a part of the value. So the
/// messages of a type's own implementation are dropped: `custom` messages often quote their input.
#[derive(Debug)]
pub(crate) struct Error(String);

impl Error {
    fn takes(what: &str) -> Self {
        Self(format!("Raw takes text, bytes, and numbers, not {what}"))
    }

    fn gives(what: &str) -> Self {
        Self(format!("Raw gives text, bytes, and numbers, not {what}"))
    }

    fn not(what: &str) -> Self {
        Self(format!("the bytes are not {what}"))
    }

    fn too_deep() -> Self {
        Self(format!("nested more than {MAX_DEPTH} levels deep"))
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl serde::ser::Error for Error {
    fn custom<T: Display>(_: T) -> Self {
        Self("the type refused to be written".to_owned())
    }
}

impl serde::de::Error for Error {
    fn custom<T: Display>(_: T) -> Self {
        Self("the type refused what was read".to_owned())
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::not(&expected.to_string())
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::not(&expected.to_string())
    }

    fn invalid_length(_: usize, expected: &dyn Expected) -> Self {
        Self(format!("the bytes are not as many as expected: {expected}"))
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self::not(&format!("one of {}", expected.join(", ")))
    }
}

/// The written form of a value. A single byte is kept apart, because it is a number by itself and a
/// byte in a sequence.
enum Piece {
    Byte(u8),
    Whole(Vec<u8>),
}

impl Piece {
    fn text(text: impl Into<String>) -> Result<Self, Error> {
        Ok(Self::Whole(text.into().into_bytes()))
    }

    fn into_text(self) -> Vec<u8> {
        match self {
            Self::Byte(byte) => byte.to_string().into_bytes(),
            Self::Whole(bytes) => bytes,
        }
    }
}

struct Encoder {
    left: usize,
}

impl Encoder {
    #[inline]
    fn down(&self) -> Result<Self, Error> {
        self.left.checked_sub(1).map(|left| Self { left }).ok_or_else(Error::too_deep)
    }
}

macro_rules! write_text {
    ($($method:ident($type:ty);)*) => {$(
        fn $method(self, v: $type) -> Result<Piece, Error> {
            Piece::text(v.to_string())
        }
    )*};
}

macro_rules! write_float {
    ($($method:ident($type:ty);)*) => {$(
        fn $method(self, v: $type) -> Result<Piece, Error> {
            if !v.is_finite() {
                return Err(Error::takes("a float that is not finite"));
            }
            // `Debug` writes the shortest text that is read back as the same number, where
            // `Display` may write 300 zeros.
            Piece::text(format!("{v:?}"))
        }
    )*};
}

impl Serializer for Encoder {
    type Ok = Piece;
    type Error = Error;
    type SerializeSeq = Bytes;
    type SerializeTuple = Bytes;
    type SerializeTupleStruct = Impossible<Piece, Error>;
    type SerializeTupleVariant = Impossible<Piece, Error>;
    type SerializeMap = Impossible<Piece, Error>;
    type SerializeStruct = Impossible<Piece, Error>;
    type SerializeStructVariant = Impossible<Piece, Error>;

    write_text! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_i128(i128);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
        serialize_u128(u128);
        serialize_char(char);
        serialize_str(&str);
    }

    write_float! {
        serialize_f32(f32);
        serialize_f64(f64);
    }

    #[inline]
    fn serialize_u8(self, v: u8) -> Result<Piece, Error> {
        Ok(Piece::Byte(v))
    }

    fn serialize_bytes(self, v: &[u8]) -> Result<Piece, Error> {
        Ok(Piece::Whole(v.to_vec()))
    }

    fn serialize_none(self) -> Result<Piece, Error> {
        Err(Error::takes("None"))
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Piece, Error> {
        value.serialize(self.down()?)
    }

    fn serialize_unit(self) -> Result<Piece, Error> {
        Err(Error::takes("a unit"))
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Piece, Error> {
        Err(Error::takes("a unit struct"))
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<Piece, Error> {
        Piece::text(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Piece, Error> {
        value.serialize(self.down()?)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<Piece, Error> {
        Err(Error::takes("a variant with data"))
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Bytes, Error> {
        // The length may be wrong, so only a part of it is reserved; `Vec` grows by itself.
        let bytes = Vec::with_capacity(len.unwrap_or(0).min(1 << 20));
        Ok(Bytes { bytes, within: self.down()? })
    }

    fn serialize_tuple(self, len: usize) -> Result<Bytes, Error> {
        self.serialize_seq(Some(len))
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, Error> {
        Err(Error::takes("a tuple struct"))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Error> {
        Err(Error::takes("a variant with data"))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Error> {
        Err(Error::takes("a map"))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeStruct, Error> {
        Err(Error::takes("a struct"))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Error> {
        Err(Error::takes("a variant with data"))
    }
}

struct Bytes {
    bytes: Vec<u8>,
    within: Encoder,
}

impl SerializeSeq for Bytes {
    type Ok = Piece;
    type Error = Error;

    #[inline]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        match value.serialize(Encoder { left: self.within.left })? {
            Piece::Byte(byte) => self.bytes.push(byte),
            Piece::Whole(_) => return Err(Error::takes("a sequence of anything but bytes (u8)")),
        }
        Ok(())
    }

    fn end(self) -> Result<Piece, Error> {
        Ok(Piece::Whole(self.bytes))
    }
}

impl SerializeTuple for Bytes {
    type Ok = Piece;
    type Error = Error;

    #[inline]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        SerializeSeq::serialize_element(self, value)
    }

    fn end(self) -> Result<Piece, Error> {
        SerializeSeq::end(self)
    }
}

struct Decoder<'de> {
    bytes: &'de [u8],
    left: usize,
}

impl<'de> Decoder<'de> {
    fn text(&self) -> Result<&'de str, Error> {
        str::from_utf8(self.bytes).map_err(|_| Error::not("UTF-8 text"))
    }

    fn parse<T: FromStr>(&self, what: &str) -> Result<T, Error> {
        // `FromStr` accepts a leading plus, which no counter writes.
        match self.text()? {
            text if text.starts_with('+') => Err(Error::not(what)),
            text => text.parse().map_err(|_| Error::not(what)),
        }
    }

    fn down(self) -> Result<Self, Error> {
        match self.left.checked_sub(1) {
            Some(left) => Ok(Self { left, ..self }),
            None => Err(Error::too_deep()),
        }
    }
}

macro_rules! read_text {
    ($($method:ident => $visit:ident, $what:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            visitor.$visit(self.parse($what)?)
        }
    )*};
}

macro_rules! read_float {
    ($($method:ident => $visit:ident, $type:ty, $what:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.parse::<$type>($what)? {
                float if float.is_finite() => visitor.$visit(float),
                _ => Err(Error::not($what)),
            }
        }
    )*};
}

macro_rules! refuse {
    ($($method:ident($($type:ty),*), $what:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, $(_: $type,)* _: V) -> Result<V::Value, Error> {
            Err(Error::gives($what))
        }
    )*};
}

impl<'de> Deserializer<'de> for Decoder<'de> {
    type Error = Error;

    read_text! {
        deserialize_bool => visit_bool, "true or false";
        deserialize_i8 => visit_i8, "a number that fits i8";
        deserialize_i16 => visit_i16, "a number that fits i16";
        deserialize_i32 => visit_i32, "a number that fits i32";
        deserialize_i64 => visit_i64, "a number that fits i64";
        deserialize_i128 => visit_i128, "a number that fits i128";
        deserialize_u8 => visit_u8, "a number that fits u8";
        deserialize_u16 => visit_u16, "a number that fits u16";
        deserialize_u32 => visit_u32, "a number that fits u32";
        deserialize_u64 => visit_u64, "a number that fits u64";
        deserialize_u128 => visit_u128, "a number that fits u128";
        deserialize_char => visit_char, "a single character";
    }

    read_float! {
        deserialize_f32 => visit_f32, f32, "a finite number that fits f32";
        deserialize_f64 => visit_f64, f64, "a finite number that fits f64";
    }

    refuse! {
        deserialize_unit(), "a unit";
        deserialize_unit_struct(&'static str), "a unit struct";
        deserialize_tuple_struct(&'static str, usize), "a tuple struct";
        deserialize_map(), "a map";
        deserialize_struct(&'static str, &'static [&'static str]), "a struct";
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match str::from_utf8(self.bytes) {
            Ok(text) => visitor.visit_borrowed_str(text),
            Err(_) => visitor.visit_borrowed_bytes(self.bytes),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_borrowed_str(self.text()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_borrowed_bytes(self.bytes)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_borrowed_bytes(self.bytes)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let mut bytes = SeqDeserializer::new(self.bytes.iter().copied());
        let value = visitor.visit_seq(&mut bytes)?;
        bytes.end()?;
        Ok(value)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self.down()?)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self.down()?)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(BorrowedStrDeserializer::new(self.text()?))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! { identifier }
}

#[cfg(test)]
mod tests;
