use std::fmt;

use serde::de::value::SeqDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, Unexpected,
    VariantAccess, Visitor,
};

use super::{MAX_DEPTH, too_deep};

/// The most elements for which a length may reserve memory, halved at each level. So nested false
/// lengths reserve twice this at most, and for true lengths the memory soon grows beyond it.
const MAX_RESERVED: usize = 256;

/// Wraps a deserializer, a visitor, a seed, or an access that one passes to another.
pub(super) struct Guard<T> {
    inner: T,
    /// The number of levels that may still be entered.
    left: usize,
    reads: Reads,
}

/// The kind of value that is asked for, as far as the rules need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reads {
    /// No special rule.
    Plain,
    /// Fields or variants, by their names. MessagePack can have positions instead, but larder never
    /// writes these, so the bytes belong to another type.
    Names,
    /// An `f32`. An `f64` may be too large for it, and serde would turn that into infinity.
    Single,
    /// Text. Bytes are refused, even if they are valid UTF-8.
    Text,
    /// Any value, usually for serde's own buffer behind `flatten`, `untagged` and tags. serde reads
    /// buffered bytes as bytes only, and a buffered sequence also as bytes; so bytes are buffered
    /// as a sequence.
    Anything,
}

impl<T> Guard<T> {
    #[inline]
    pub(super) fn new(inner: T) -> Self {
        Self { inner, left: MAX_DEPTH, reads: Reads::Plain }
    }

    #[inline]
    fn with<U>(&self, inner: U) -> Guard<U> {
        Guard { inner, left: self.left, reads: Reads::Plain }
    }

    #[inline]
    fn with_names<U>(&self, inner: U) -> Guard<U> {
        Guard { inner, left: self.left, reads: Reads::Names }
    }

    #[inline]
    fn with_single<U>(&self, inner: U) -> Guard<U> {
        Guard { inner, left: self.left, reads: Reads::Single }
    }

    #[inline]
    fn with_text<U>(&self, inner: U) -> Guard<U> {
        Guard { inner, left: self.left, reads: Reads::Text }
    }

    #[inline]
    fn with_anything<U>(&self, inner: U) -> Guard<U> {
        Guard { inner, left: self.left, reads: Reads::Anything }
    }

    #[inline]
    fn like<U>(&self, inner: U) -> Guard<U> {
        Guard { inner, left: self.left, reads: self.reads }
    }

    #[inline]
    fn by_name<E: Error>(&self) -> Result<(), E> {
        if self.reads == Reads::Names {
            Err(E::custom("a place instead of a name"))
        } else {
            Ok(())
        }
    }

    #[inline]
    fn down<U, E: Error>(&self, inner: U) -> Result<Guard<U>, E> {
        match self.left.checked_sub(1) {
            Some(left) => Ok(Guard { inner, left, reads: Reads::Plain }),
            None => Err(E::custom(too_deep())),
        }
    }

    #[inline]
    fn cap(&self, hint: Option<usize>) -> Option<usize> {
        let depth = MAX_DEPTH - self.left;
        hint.map(|n| n.min(MAX_RESERVED.checked_shr(depth as u32).unwrap_or(0)))
    }
}

/// Returns an error if a visitor has ended before its container: rmp-serde would drop the rest of
/// bytes that are read as a tuple.
#[inline]
fn used_up<E: Error>(hint: Option<usize>) -> Result<(), E> {
    match hint {
        Some(1..) => Err(E::custom("more elements than the type takes")),
        _ => Ok(()),
    }
}

/// Bytes as a sequence, which is what serde expects for a `Vec<u8>`.
fn numbers<'b, 'de, E: Error>(bytes: &'b [u8]) -> impl SeqAccess<'de, Error = E> + use<'b, 'de, E> {
    SeqDeserializer::new(bytes.iter().copied())
}

macro_rules! deserialize {
    ($($with:ident: $($method:ident($($arg:ident: $type:ty),*))*;)*) => {$($(
        #[inline]
        fn $method<V: Visitor<'de>>(self, $($arg: $type,)* visitor: V) -> Result<V::Value, D::Error> {
            let visitor = self.$with(visitor);
            self.inner.$method($($arg,)* visitor)
        }
    )*)*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Guard<D> {
    type Error = D::Error;

    deserialize! {
        with:
            deserialize_bool()
            deserialize_i8()
            deserialize_i16()
            deserialize_i32()
            deserialize_i64()
            deserialize_i128()
            deserialize_u8()
            deserialize_u16()
            deserialize_u32()
            deserialize_u64()
            deserialize_u128()
            deserialize_f64()
            deserialize_char()
            deserialize_bytes()
            deserialize_byte_buf()
            deserialize_option()
            deserialize_unit()
            deserialize_unit_struct(name: &'static str)
            deserialize_newtype_struct(name: &'static str)
            deserialize_seq()
            deserialize_tuple(len: usize)
            deserialize_tuple_struct(name: &'static str, len: usize)
            deserialize_map()
            deserialize_enum(name: &'static str, variants: &'static [&'static str])
            deserialize_ignored_any();
        with_names:
            deserialize_struct(name: &'static str, fields: &'static [&'static str]);
        with_single:
            deserialize_f32();
        with_text:
            deserialize_str()
            deserialize_string();
        with_anything:
            deserialize_any();
        like:
            deserialize_identifier();
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

macro_rules! visit {
    ($($method:ident($($arg:ident: $type:ty)?);)*) => {$(
        #[inline]
        fn $method<E: Error>(self, $($arg: $type)?) -> Result<V::Value, E> {
            self.inner.$method($($arg)?)
        }
    )*};
}

macro_rules! visit_number {
    ($($method:ident($type:ty);)*) => {$(
        #[inline]
        fn $method<E: Error>(self, v: $type) -> Result<V::Value, E> {
            self.by_name()?;
            self.inner.$method(v)
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Guard<V> {
    type Value = V::Value;

    visit! {
        visit_bool(v: bool);
        visit_f32(v: f32);
        visit_char(v: char);
        visit_str(v: &str);
        visit_borrowed_str(v: &'de str);
        visit_string(v: String);
        visit_none();
        visit_unit();
    }

    visit_number! {
        visit_i8(i8);
        visit_i16(i16);
        visit_i32(i32);
        visit_i64(i64);
        visit_i128(i128);
        visit_u8(u8);
        visit_u16(u16);
        visit_u32(u32);
        visit_u64(u64);
        visit_u128(u128);
    }

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    #[inline]
    fn visit_f64<E: Error>(self, v: f64) -> Result<V::Value, E> {
        if self.reads == Reads::Single && v.is_finite() && (v as f32).is_infinite() {
            return Err(E::custom("a number too large for an f32"));
        }
        self.inner.visit_f64(v)
    }

    #[inline]
    fn visit_bytes<E: Error>(self, v: &[u8]) -> Result<V::Value, E> {
        match self.reads {
            Reads::Anything => self.visit_seq(numbers(v)),
            Reads::Text => Err(E::invalid_type(Unexpected::Bytes(v), &self.inner)),
            _ => self.inner.visit_bytes(v),
        }
    }

    #[inline]
    fn visit_borrowed_bytes<E: Error>(self, v: &'de [u8]) -> Result<V::Value, E> {
        match self.reads {
            Reads::Anything => self.visit_seq(numbers(v)),
            Reads::Text => Err(E::invalid_type(Unexpected::Bytes(v), &self.inner)),
            _ => self.inner.visit_borrowed_bytes(v),
        }
    }

    #[inline]
    fn visit_byte_buf<E: Error>(self, v: Vec<u8>) -> Result<V::Value, E> {
        match self.reads {
            Reads::Anything => self.visit_seq(numbers(&v)),
            Reads::Text => Err(E::invalid_type(Unexpected::Bytes(&v), &self.inner)),
            _ => self.inner.visit_byte_buf(v),
        }
    }

    // These two may consume no input (msgpack-rust#381), so only the count of levels ends them.

    #[inline]
    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        let inner = self.down(inner)?;
        self.inner.visit_some(inner)
    }

    #[inline]
    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        let inner = self.down(inner)?;
        self.inner.visit_newtype_struct(inner)
    }

    #[inline]
    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<V::Value, A::Error> {
        self.by_name()?;
        let mut seq = self.down(seq)?;
        let value = self.inner.visit_seq(&mut seq)?;
        used_up(seq.inner.size_hint())?;
        Ok(value)
    }

    #[inline]
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        let mut map = self.down(Entries { map, owes_value: false })?;
        map.reads = self.reads;
        let value = self.inner.visit_map(&mut map)?;
        used_up(map.inner.map.size_hint())?;
        if map.inner.owes_value {
            return Err(A::Error::custom("a key was read without its value"));
        }
        Ok(value)
    }

    #[inline]
    fn visit_enum<A: EnumAccess<'de>>(self, choice: A) -> Result<V::Value, A::Error> {
        let mut content = None;
        let choice = self.down(Choice { choice, content: &mut content })?;
        let value = self.inner.visit_enum(choice)?;
        if let Some(unread) = content {
            unread.unit_variant()?;
        }
        Ok(value)
    }
}

impl<'de, T: DeserializeSeed<'de>> DeserializeSeed<'de> for Guard<T> {
    type Value = T::Value;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<T::Value, D::Error> {
        let inner = self.like(inner);
        self.inner.deserialize(inner)
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Guard<A> {
    type Error = A::Error;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, A::Error> {
        let seed = self.with(seed);
        self.inner.next_element_seed(seed)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.cap(self.inner.size_hint())
    }
}

/// The entries of a map, and whether the value of the last key has not been read: rmp-serde would
/// read that value as the next item.
struct Entries<A> {
    map: A,
    owes_value: bool,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Guard<Entries<A>> {
    type Error = A::Error;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        if self.inner.owes_value {
            return Err(A::Error::custom("a key was read without its value"));
        }
        let seed = self.like(seed);
        let key = self.inner.map.next_key_seed(seed)?;
        self.inner.owes_value = key.is_some();
        Ok(key)
    }

    #[inline]
    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        self.inner.owes_value = false;
        let seed = self.with(seed);
        self.inner.map.next_value_seed(seed)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.cap(self.inner.map.size_hint())
    }
}

/// An enum, and its content until it is read. Content that the visitor has not read is read as that
/// of a unit variant, so nothing is left in the input.
struct Choice<'a, A, C> {
    choice: A,
    content: &'a mut Option<C>,
}

impl<'a, 'de, A, C> EnumAccess<'de> for Guard<Choice<'a, A, C>>
where
    A: EnumAccess<'de, Variant = C>,
    C: VariantAccess<'de, Error = A::Error>,
{
    type Error = A::Error;
    type Variant = Guard<&'a mut Option<C>>;

    #[inline]
    fn variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<(T::Value, Self::Variant), A::Error> {
        let Choice { choice, content } = self.inner;
        let (name, variant) =
            choice.variant_seed(Guard { inner: seed, left: self.left, reads: Reads::Names })?;
        *content = Some(variant);
        Ok((name, Guard { inner: content, left: self.left, reads: Reads::Plain }))
    }
}

impl<C> Guard<&mut Option<C>> {
    #[inline]
    fn take<E: Error>(&mut self) -> Result<C, E> {
        self.inner.take().ok_or_else(|| E::custom("a variant without content"))
    }
}

impl<'de, C: VariantAccess<'de>> VariantAccess<'de> for Guard<&mut Option<C>> {
    type Error = C::Error;

    #[inline]
    fn unit_variant(mut self) -> Result<(), C::Error> {
        self.take()?.unit_variant()
    }

    #[inline]
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(
        mut self,
        seed: T,
    ) -> Result<T::Value, C::Error> {
        let seed = self.with(seed);
        self.take()?.newtype_variant_seed(seed)
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(
        mut self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, C::Error> {
        let visitor = self.with(visitor);
        self.take()?.tuple_variant(len, visitor)
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        mut self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, C::Error> {
        let visitor = self.with_names(visitor);
        self.take()?.struct_variant(fields, visitor)
    }
}
