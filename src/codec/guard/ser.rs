use std::fmt::Display;

use serde::ser::{
    Error, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
    SerializeTuple, SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::byte::bytes_of;
use super::{Format, MAX_DEPTH, too_deep};
use crate::type_probe::is_byte;

/// The names by which serde_json's own types ask serde_json's serializer for special treatment. Any
/// other serializer would write values that cannot be read back.
pub(in crate::codec) const JSON_ONLY: [&str; 2] =
    ["$serde_json::private::RawValue", "$serde_json::private::Number"];

/// Wraps a serializer, an open container, or a value that is being written.
pub(super) struct Guard<T> {
    inner: T,
    at: Place,
}

/// The position within a value.
#[derive(Clone, Copy)]
pub(in crate::codec) struct Place {
    /// The number of levels that may still be opened.
    left: usize,
    /// Whether this is directly inside `Some`, where a null would be read back as `None`.
    in_some: bool,
    format: Format,
}

impl Place {
    pub(in crate::codec) fn new(format: Format) -> Self {
        Self { left: MAX_DEPTH, in_some: false, format }
    }

    #[inline]
    pub(in crate::codec) fn within_some<E: Error>(self) -> Result<Self, E> {
        Ok(Self { in_some: true, ..self.down()? })
    }

    #[inline]
    pub(in crate::codec) fn within_newtype<E: Error>(self) -> Result<Self, E> {
        Ok(Self { in_some: self.in_some, ..self.down()? })
    }

    #[inline]
    pub(in crate::codec) fn down<E: Error>(self) -> Result<Self, E> {
        match self.left.checked_sub(1) {
            Some(left) => Ok(Self { left, in_some: false, ..self }),
            None => Err(E::custom(too_deep())),
        }
    }

    #[inline]
    pub(in crate::codec) fn null<E: Error>(self) -> Result<(), E> {
        if self.in_some {
            return Err(E::custom("Some(None) and Some(()) would read back as None"));
        }
        Ok(())
    }

    #[inline]
    fn float<E: Error>(self, finite: bool) -> Result<(), E> {
        if self.format == Format::Json && !finite {
            return Err(E::custom("a float that is not finite would read back as null"));
        }
        Ok(())
    }
}

impl<T> Guard<T> {
    #[inline]
    pub(super) fn new(inner: T, format: Format) -> Self {
        Self { inner, at: Place::new(format) }
    }
}

impl<T: Serialize + ?Sized> Serialize for Guard<&T> {
    #[inline]
    fn serialize<S: Serializer>(&self, inner: S) -> Result<S::Ok, S::Error> {
        self.inner.serialize(Guard { inner, at: self.at })
    }
}

macro_rules! forward {
    ($($method:ident($($arg:ident: $type:ty),*);)*) => {$(
        #[inline]
        fn $method(self, $($arg: $type),*) -> Result<S::Ok, S::Error> {
            self.inner.$method($($arg),*)
        }
    )*};
}

macro_rules! open {
    ($($method:ident($($arg:ident: $type:ty),*) -> $compound:ident;)*) => {$(
        #[inline]
        fn $method(self, $($arg: $type),*) -> Result<Self::$compound, S::Error> {
            let at = self.at.down()?;
            Ok(Guard { inner: self.inner.$method($($arg),*)?, at })
        }
    )*};
}

impl<S: Serializer> Serializer for Guard<S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Guard<S::SerializeSeq>;
    type SerializeTuple = Guard<S::SerializeTuple>;
    type SerializeTupleStruct = Guard<S::SerializeTupleStruct>;
    type SerializeTupleVariant = Guard<S::SerializeTupleVariant>;
    type SerializeMap = Guard<S::SerializeMap>;
    type SerializeStruct = Guard<S::SerializeStruct>;
    type SerializeStructVariant = Guard<S::SerializeStructVariant>;

    forward! {
        serialize_bool(v: bool);
        serialize_i8(v: i8);
        serialize_i16(v: i16);
        serialize_i32(v: i32);
        serialize_i64(v: i64);
        serialize_u8(v: u8);
        serialize_u16(v: u16);
        serialize_u32(v: u32);
        serialize_u64(v: u64);
        serialize_char(v: char);
        serialize_str(v: &str);
        serialize_bytes(v: &[u8]);
    }

    open! {
        serialize_seq(len: Option<usize>) -> SerializeSeq;
        serialize_tuple(len: usize) -> SerializeTuple;
        serialize_tuple_struct(name: &'static str, len: usize) -> SerializeTupleStruct;
        serialize_map(len: Option<usize>) -> SerializeMap;
    }

    #[inline]
    fn serialize_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStruct, S::Error> {
        if self.at.format == Format::MessagePack && JSON_ONLY.contains(&name) {
            return Err(S::Error::custom("a piece of JSON can be read from JSON only"));
        }
        let at = self.at.down()?;
        Ok(Guard { inner: self.inner.serialize_struct(name, len)?, at })
    }

    /// Writes a sequence of bytes as bytes, if the format has a form for bytes. Otherwise each
    /// would be written as a number of one or two bytes.
    fn collect_seq<I>(self, items: I) -> Result<S::Ok, S::Error>
    where
        I: IntoIterator,
        I::Item: Serialize,
    {
        let mut items = items.into_iter();
        if self.at.format == Format::MessagePack && is_byte::<I::Item>() {
            self.at.down::<S::Error>()?;
            return self.inner.serialize_bytes(&bytes_of(items).map_err(S::Error::custom)?);
        }
        let len = match items.size_hint() {
            (least, Some(most)) if least == most => Some(least),
            _ => None,
        };
        let mut seq = self.serialize_seq(len)?;
        items.try_for_each(|item| seq.serialize_element(&item))?;
        seq.end()
    }

    #[inline]
    fn serialize_i128(self, v: i128) -> Result<S::Ok, S::Error> {
        match (self.at.format, i64::try_from(v), u64::try_from(v)) {
            (Format::MessagePack, Ok(v), _) => self.inner.serialize_i64(v),
            (Format::MessagePack, _, Ok(v)) => self.inner.serialize_u64(v),
            _ => self.inner.serialize_i128(v),
        }
    }

    #[inline]
    fn serialize_u128(self, v: u128) -> Result<S::Ok, S::Error> {
        match (self.at.format, u64::try_from(v)) {
            (Format::MessagePack, Ok(v)) => self.inner.serialize_u64(v),
            _ => self.inner.serialize_u128(v),
        }
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }

    #[inline]
    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }

    #[inline]
    fn serialize_f32(self, v: f32) -> Result<S::Ok, S::Error> {
        self.at.float(v.is_finite())?;
        self.inner.serialize_f32(v)
    }

    #[inline]
    fn serialize_f64(self, v: f64) -> Result<S::Ok, S::Error> {
        self.at.float(v.is_finite())?;
        self.inner.serialize_f64(v)
    }

    #[inline]
    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.at.null()?;
        self.inner.serialize_none()
    }

    #[inline]
    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.at.null()?;
        self.inner.serialize_unit()
    }

    #[inline]
    fn serialize_unit_struct(self, name: &'static str) -> Result<S::Ok, S::Error> {
        self.at.null()?;
        self.inner.serialize_unit_struct(name)
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        let at = self.at.within_some()?;
        self.inner.serialize_some(&Guard { inner: value, at })
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let at = self.at.within_newtype()?;
        self.inner.serialize_newtype_struct(name, &Guard { inner: value, at })
    }

    #[inline]
    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        // A unit variant has no content, but reading it takes a level.
        self.at.down::<S::Error>()?;
        self.inner.serialize_unit_variant(name, index, variant)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let at = self.at.down()?;
        self.inner.serialize_newtype_variant(name, index, variant, &Guard { inner: value, at })
    }

    // A variant with fields is a container inside a variant: two levels, as in reading.

    #[inline]
    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        let at = self.at.down()?.down()?;
        Ok(Guard { inner: self.inner.serialize_tuple_variant(name, index, variant, len)?, at })
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        let at = self.at.down()?.down()?;
        Ok(Guard { inner: self.inner.serialize_struct_variant(name, index, variant, len)?, at })
    }
}

macro_rules! compounds {
    ($($compound:ident { $($method:ident($($key:ident)?)),* $(; $skip:ident)? })*) => {$(
        impl<C: $compound> $compound for Guard<C> {
            type Ok = C::Ok;
            type Error = C::Error;

            $(
                #[inline]
                fn $method<T: Serialize + ?Sized>(
                    &mut self,
                    $($key: &'static str,)?
                    value: &T,
                ) -> Result<(), C::Error> {
                    self.inner.$method($($key,)? &Guard { inner: value, at: self.at })
                }
            )*

            $(
                #[inline]
                fn $skip(&mut self, key: &'static str) -> Result<(), C::Error> {
                    self.inner.$skip(key)
                }
            )?

            #[inline]
            fn end(self) -> Result<C::Ok, C::Error> {
                self.inner.end()
            }
        }
    )*};
}

compounds! {
    SerializeSeq { serialize_element() }
    SerializeTuple { serialize_element() }
    SerializeTupleStruct { serialize_field() }
    SerializeTupleVariant { serialize_field() }
    SerializeMap { serialize_key(), serialize_value() }
    SerializeStruct { serialize_field(key); skip_field }
    SerializeStructVariant { serialize_field(key); skip_field }
}
