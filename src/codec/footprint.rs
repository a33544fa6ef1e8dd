//! Estimates the memory of an object from its `Serialize`. Also proves that the object can be
//! encoded.
//!
//! This is a serializer that writes nothing and adds sizes. It sees the content of an object, not
//! its layout. The size of a field is known from its type. Of an element of a list only the content
//! is known. For the rest it assumes the types of the standard library: a text is a `String`, a
//! list is a `Vec`, and a number inside another type is in a `Box`. Skipped fields are not seen.

use super::guard::{Format, JSON_ONLY, Place};
use crate::type_probe::{ListKind, is_number, list_kind};
use serde::ser::{
    Error as _, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
    SerializeTuple, SerializeTupleStruct, SerializeTupleVariant, Serializer,
};
use std::fmt::Display;

/// The allocator: the smallest allocation, the bytes that it adds to each, and the step to which it
/// rounds.
const LEAST_PIECE: usize = 32;
const PIECE_NOTE: usize = 8;
const PIECE_STEP: usize = 16;

/// The size of a `String` or `Vec` itself, of a map itself, and of a list's node without its
/// element.
const HANDLE: usize = 24;
const MAP: usize = 48;
const NODE: usize = 16;

/// The width of an element of which only is known that it is `None` or `()`. An `Option` is as wide
/// as its content would be.
const NOTHING: usize = 8;

/// Hash tables and trees are never full: three slots for two entries.
const TABLE: (usize, usize) = (3, 2);

/// The slots of the smallest that are not empty: four in a hash table, eleven in a tree.
const FEWEST_SLOTS: usize = 6;

/// The number of bytes that `object` takes.
pub(crate) fn footprint<T: Serialize>(object: &T) -> Result<usize, Refused> {
    let part = placed(object, Place::new(Format::MessagePack))?;
    Ok(part.here + part.beyond)
}

/// Why a value cannot be encoded.
#[derive(Debug)]
pub(crate) struct Refused(String);

impl Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

impl serde::ser::Error for Refused {
    fn custom<T: Display>(words: T) -> Self {
        Self(words.to_string())
    }
}

/// The size of a value: in its own place, and in allocations.
#[derive(Clone, Copy, Debug)]
struct Part {
    here: usize,
    beyond: usize,
    is: Is,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Is {
    Number,
    /// A handle whose size is assumed.
    Handle,
    Other,
}

impl Part {
    fn number<T>(_: T) -> Self {
        Self { here: size_of::<T>(), beyond: 0, is: Is::Number }
    }

    fn handle(here: usize, beyond: usize) -> Self {
        Self { here, beyond, is: Is::Handle }
    }

    fn other(here: usize, beyond: usize) -> Self {
        Self { here, beyond, is: Is::Other }
    }
}

/// The size of an allocation for this number of bytes.
fn piece(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        _ => bytes.saturating_add(PIECE_NOTE).next_multiple_of(PIECE_STEP).max(LEAST_PIECE),
    }
}

/// Measures a value whose type and size are known: a field, or the content of an `Option`.
fn placed<T: Serialize + ?Sized>(value: &T, at: Place) -> Result<Part, Refused> {
    let part = value.serialize(Footprint { at })?;
    let here = size_of_val(value);
    let is_boxed = match part.is {
        Is::Number => !is_number::<T>(),
        Is::Handle => false,
        Is::Other => part.here > here,
    };
    let boxed = if is_boxed { piece(part.here) } else { 0 };
    Ok(Part { here, beyond: part.beyond + boxed, is: part.is })
}

/// Measures an element whose type is not known.
fn element<T: Serialize + ?Sized>(value: &T, at: Place) -> Result<Part, Refused> {
    let part = value.serialize(Footprint { at })?;
    if part.is == Is::Number && !is_number::<T>() {
        return Ok(Part::other(size_of::<usize>(), part.beyond + piece(part.here)));
    }
    Ok(if part.here == 0 { Part { here: NOTHING, ..part } } else { part })
}

struct Footprint {
    at: Place,
}

/// A container whose end has not been reached.
struct Open {
    at: Place,
    count: usize,
    /// The widest element and key so far. All are counted as so wide.
    widest: usize,
    widest_key: usize,
    here: usize,
    /// The strictest alignment of the fields so far.
    align: usize,
    beyond: usize,
}

impl Footprint {
    fn open(self) -> Result<Open, Refused> {
        let at = self.at.down()?;
        Ok(Open { at, count: 0, widest: 0, widest_key: 0, here: 0, align: 1, beyond: 0 })
    }

    /// Opens a variant with fields. Its tag takes one word at most.
    fn open_variant(self) -> Result<Open, Refused> {
        let at = self.at.down()?;
        Ok(Open { here: size_of::<usize>(), ..Footprint { at }.open()? })
    }
}

impl Open {
    fn field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        let part = placed(value, self.at)?;
        self.here += part.here;
        self.align = self.align.max(align_of_val(value));
        self.beyond += part.beyond;
        Ok(())
    }

    /// Adds an element of a list, or a value of a map.
    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        let part = element(value, self.at)?;
        self.widest = self.widest.max(part.here);
        self.beyond += part.beyond;
        Ok(())
    }

    fn list(self, kind: ListKind) -> Part {
        let elements = match kind {
            ListKind::Dense => piece(self.count * self.widest),
            ListKind::Sparse => piece(self.slots() * (self.widest + 1)),
            ListKind::Linked => self.count * piece(self.widest + NODE),
        };
        Part::handle(HANDLE, self.beyond + elements)
    }

    /// The places for the elements of a set, or the pairs of a map.
    fn slots(&self) -> usize {
        match self.count {
            0 => 0,
            count => (count * TABLE.0).div_ceil(TABLE.1).max(FEWEST_SLOTS),
        }
    }

    fn fields(self) -> Part {
        Part::other(self.here.next_multiple_of(self.align), self.beyond)
    }
}

macro_rules! numbers {
    ($($method:ident($type:ty);)*) => {$(
        #[inline]
        fn $method(self, v: $type) -> Result<Part, Refused> {
            Ok(Part::number(v))
        }
    )*};
}

impl Serializer for Footprint {
    type Ok = Part;
    type Error = Refused;
    type SerializeSeq = Open;
    type SerializeTuple = Open;
    type SerializeTupleStruct = Open;
    type SerializeTupleVariant = Open;
    type SerializeMap = Open;
    type SerializeStruct = Open;
    type SerializeStructVariant = Open;

    numbers! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_i128(i128);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
        serialize_u128(u128);
        serialize_f32(f32);
        serialize_f64(f64);
        serialize_char(char);
    }

    fn serialize_str(self, v: &str) -> Result<Part, Refused> {
        Ok(Part::handle(HANDLE, piece(v.len())))
    }

    fn serialize_bytes(self, v: &[u8]) -> Result<Part, Refused> {
        Ok(Part::handle(HANDLE, piece(v.len())))
    }

    fn serialize_none(self) -> Result<Part, Refused> {
        self.at.null()?;
        Ok(Part::other(0, 0))
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Part, Refused> {
        let part = placed(value, self.at.within_some()?)?;
        Ok(Part::other(part.here, part.beyond))
    }

    fn serialize_unit(self) -> Result<Part, Refused> {
        self.serialize_none()
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Part, Refused> {
        self.serialize_none()
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
    ) -> Result<Part, Refused> {
        self.at.down::<Refused>()?;
        Ok(Part::other(1, 0))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Part, Refused> {
        let part = placed(value, self.at.within_newtype()?)?;
        Ok(Part::other(part.here, part.beyond))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<Part, Refused> {
        let part = placed(value, self.at.down()?)?;
        Ok(Part::other(part.here + size_of::<usize>(), part.beyond))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Open, Refused> {
        self.open()
    }

    fn serialize_tuple(self, _: usize) -> Result<Open, Refused> {
        self.open()
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Open, Refused> {
        self.open()
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Open, Refused> {
        self.open_variant()
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Open, Refused> {
        self.open()
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Open, Refused> {
        if JSON_ONLY.contains(&name) {
            return Err(Refused::custom("a piece of JSON can be read from JSON only"));
        }
        self.open()
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Open, Refused> {
        self.open_variant()
    }

    /// The numbers of a list all have the same size, so they are not visited.
    fn collect_seq<I>(self, items: I) -> Result<Part, Refused>
    where
        I: IntoIterator,
        I::Item: Serialize,
    {
        let kind = list_kind::<I>();
        let mut items = items.into_iter();
        let mut open = self.open()?;
        if is_number::<I::Item>()
            && let (least, Some(most)) = items.size_hint()
            && least == most
        {
            if let Some(first) = items.next() {
                open.widest = first.serialize(Footprint { at: open.at })?.here;
                open.count = most;
            }
            return Ok(open.list(kind));
        }
        items.try_for_each(|item| SerializeSeq::serialize_element(&mut open, &item))?;
        Ok(open.list(kind))
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<Part, Refused> {
        self.serialize_str(&value.to_string())
    }
}

impl SerializeSeq for Open {
    type Ok = Part;
    type Error = Refused;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        self.count += 1;
        self.value(value)
    }

    fn end(self) -> Result<Part, Refused> {
        Ok(self.list(ListKind::Dense))
    }
}

impl SerializeMap for Open {
    type Ok = Part;
    type Error = Refused;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Refused> {
        let part = element(key, self.at)?;
        self.count += 1;
        self.widest_key = self.widest_key.max(part.here);
        self.beyond += part.beyond;
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        self.value(value)
    }

    fn end(self) -> Result<Part, Refused> {
        let width = self.widest_key + self.widest;
        let Part { beyond, .. } = Self { widest: width, ..self }.list(ListKind::Sparse);
        Ok(Part::handle(MAP, beyond))
    }
}

macro_rules! fields {
    ($($compound:ident: $method:ident($($key:ident)?);)*) => {$(
        impl $compound for Open {
            type Ok = Part;
            type Error = Refused;

            fn $method<T: Serialize + ?Sized>(
                &mut self,
                $($key: &'static str,)?
                value: &T,
            ) -> Result<(), Refused> {
                self.field(value)
            }

            fn end(self) -> Result<Part, Refused> {
                Ok(self.fields())
            }
        }
    )*};
}

fields! {
    SerializeTuple: serialize_element();
    SerializeTupleStruct: serialize_field();
    SerializeTupleVariant: serialize_field();
    SerializeStruct: serialize_field(_key);
    SerializeStructVariant: serialize_field(_key);
}

#[cfg(test)]
mod tests;
