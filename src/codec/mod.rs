//! The codecs, which turn values into bytes and back, and the header of stored bytes.

#[cfg(feature = "memory")]
mod footprint;
mod guard;
mod header;
mod octets;
mod raw;
pub(crate) mod scratch;
mod tags;

#[cfg(feature = "redis")]
pub(crate) use header::key_hash;
pub(crate) use header::{Defect, Header, Unframed, begins_like_a_header, frame, unframe};
#[cfg(any(feature = "redis", feature = "sqlite"))]
pub(crate) use header::{HEAD, logical_end};
pub(crate) use tags::{Tag, Tags};

use crate::error::{Error, ErrorKind, Result};
use crate::panics;
use guard::Format;
use octets::Octets;
use serde::de::{DeserializeOwned, Deserializer, Visitor};
use serde::{Serialize, Serializer};
use std::any::type_name;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::str::FromStr;

/// MessagePack's null.
pub(crate) const NIL: u8 = 0xC0;

/// Writes a value as JSON, as the codec does, for a key. The value may borrow.
#[cfg(feature = "macros")]
pub(crate) fn write_json<T: Serialize + ?Sized>(value: &T, out: impl io::Write) -> Result<()> {
    let write = || {
        let mut inner = serde_json::Serializer::new(out);
        let written = guard::serialize(value, &mut inner, Format::Json);
        written.map_err(|cause| Error::new(ErrorKind::Encode).with_source(cause))
    };
    panics::contain(write, || format!("the `Serialize` of {} panicked", type_name::<T>()))
}

/// How values become bytes.
///
/// | codec | stored as | for |
/// |---|---|---|
/// | [`MessagePack`](Codec::MessagePack) | a 44-byte header, then MessagePack with fields by name | larder on both sides: damage, foreign bytes and misdirected replies are noticed |
/// | [`Json`](Codec::Json) | plain JSON text | programs in other languages |
/// | [`Raw`](Codec::Raw) | text and bytes as they are, numbers as decimal text | programs in other languages |
///
/// Integers within `i64` that a counter verb has touched are plain decimal text under every codec.
/// Values that would be read back as other values are refused with [`ErrorKind::Encode`]:
/// `Some(())`, `Some(None)`, more than 64 levels of nesting, and under `Json` a float that is not
/// finite.
///
/// ```
/// use larder::Codec;
///
/// assert_eq!("json".parse::<Codec>()?, Codec::Json);
/// # Ok::<(), larder::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Codec {
    /// MessagePack with struct fields by name, behind a header. The default.
    #[default]
    MessagePack,
    /// JSON text, no header.
    Json,
    /// Text, bytes and numbers as they are, no header.
    Raw,
}

impl Codec {
    const NAMES: [(&'static str, Self); 3] =
        [("msgpack", Self::MessagePack), ("json", Self::Json), ("raw", Self::Raw)];

    /// Encodes a value. A panic of the value's own `Serialize` is an outcome of its write: an
    /// adapter may be in the middle of a batch.
    pub(crate) fn encoded_len<T: Serialize + 'static>(self, value: &T) -> Result<usize> {
        let mut count = Count(0);
        self.write(value, &mut count)?;
        Ok(count.0)
    }

    /// The number of bytes that `value` takes in this process's memory, if the value can be encoded
    /// as MessagePack: see [`footprint`].
    #[cfg(feature = "memory")]
    pub(crate) fn footprint<T: Serialize>(value: &T) -> Result<usize> {
        let measure = || {
            footprint::footprint(value)
                .map_err(|cause| Self::MessagePack.unencodable::<T>(cause.into()))
        };
        panics::contain(measure, || format!("the `Serialize` of {} panicked", type_name::<T>()))
    }

    fn unencodable<T>(self, cause: Box<dyn StdError + Send + Sync>) -> Error {
        Error::new(ErrorKind::Encode)
            .with_message(format!("{} cannot be encoded as {self}", type_name::<T>()))
            .with_source(cause)
    }

    /// Writes a value. A panic of its `Serialize` becomes an error, because the adapter may be in
    /// the middle of a batch.
    pub(crate) fn write<T: Serialize + 'static, W: io::Write>(
        self,
        value: &T,
        out: W,
    ) -> Result<()> {
        panics::contain(
            || self.serialize(value, out),
            || format!("the `Serialize` of {} panicked", type_name::<T>()),
        )
    }

    fn serialize<T: Serialize + 'static, W: io::Write>(self, value: &T, mut out: W) -> Result<()> {
        let failed = |cause| self.unencodable::<T>(cause);
        match self {
            Self::MessagePack => {
                let mut inner =
                    rmp_serde::Serializer::new(out).with_struct_map().with_human_readable();
                match octets::of(value) {
                    Some(bytes) => inner.serialize_bytes(bytes),
                    None => guard::serialize(value, &mut inner, Format::MessagePack),
                }
                .map_err(|e| failed(e.into()))
            }
            Self::Json => {
                let mut inner = serde_json::Serializer::new(out);
                guard::serialize(value, &mut inner, Format::Json).map_err(|e| failed(e.into()))
            }
            Self::Raw => match octets::of(value) {
                Some(bytes) => out.write_all(bytes),
                None => out.write_all(&raw::to_vec(value).map_err(|e| failed(e.into()))?),
            }
            .map_err(|e| failed(e.into())),
        }
    }

    pub(crate) fn decode<T: DeserializeOwned + 'static>(self, bytes: &[u8]) -> Result<T> {
        panics::contain(
            || self.deserialize(bytes),
            || format!("the `Deserialize` of {} panicked", type_name::<T>()),
        )
    }

    fn deserialize<T: DeserializeOwned + 'static>(self, bytes: &[u8]) -> Result<T> {
        // serde's own message is not repeated: "invalid type: string \"…\"" contains the value.
        let failed = || {
            self.undecodable::<T>(if self.is_nothing(bytes) {
                "the value was stored as an Option that is None, or as (); read it as an Option"
            } else {
                "they do not have that shape"
            })
        };
        match self {
            Self::MessagePack => {
                let mut inner = rmp_serde::Deserializer::from_read_ref(bytes).with_human_readable();
                let value = if octets::is::<T>() {
                    let read = guard::deserialize(&mut inner);
                    read.ok().and_then(|Octets(bytes)| octets::into(|| bytes)).ok_or_else(failed)?
                } else {
                    guard::deserialize(&mut inner).map_err(|_| failed())?
                };
                if is_at_end(&mut inner) {
                    Ok(value)
                } else {
                    Err(self.undecodable::<T>("bytes follow the value"))
                }
            }
            Self::Json => {
                let mut inner = serde_json::Deserializer::from_slice(bytes);
                let value = guard::deserialize(&mut inner).map_err(|_| failed())?;
                inner.end().map_err(|_| self.undecodable::<T>("bytes follow the value"))?;
                Ok(value)
            }
            Self::Raw => match octets::into(|| bytes.to_vec()) {
                Some(value) => Ok(value),
                None => raw::from_slice(bytes).map_err(|_| failed()),
            },
        }
    }

    /// Whether these bytes are the form of `None` and `()`.
    fn is_nothing(self, bytes: &[u8]) -> bool {
        match self {
            Self::MessagePack => bytes == [NIL],
            Self::Json => bytes == b"null",
            // `Raw` cannot write them.
            Self::Raw => false,
        }
    }

    fn undecodable<T>(self, why: &'static str) -> Error {
        Error::new(ErrorKind::Decode).with_message(format!(
            "the stored {self} bytes cannot be read as {}: {why}",
            type_name::<T>()
        ))
    }

    /// Whether values of this codec can have a logical end. Under `Raw` a header would be a part of
    /// the value.
    #[cfg(any(feature = "redis", feature = "memcached", feature = "sqlite"))]
    pub(crate) fn has_logical_ends(self) -> bool {
        self != Self::Raw
    }

    /// Whether stored bytes begin with larder's header.
    pub(crate) fn has_header(self) -> bool {
        self == Self::MessagePack
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MessagePack => "msgpack",
            Self::Json => "json",
            Self::Raw => "raw",
        })
    }
}

impl FromStr for Codec {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::NAMES
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|&(_, codec)| codec)
            .ok_or_else(|| {
                Error::config(format!(
                    "unknown codec `{name}`; there are: {}",
                    Self::NAMES.map(|(known, _)| known).join(", ")
                ))
            })
    }
}

/// Whether nothing follows a value. The reader does not say what is left; only at the end there is
/// no marker of a further value.
fn is_at_end<'de>(rest: impl Deserializer<'de, Error = rmp_serde::decode::Error>) -> bool {
    let further = rest.deserialize_any(NoValue);
    matches!(further, Err(rmp_serde::decode::Error::InvalidMarkerRead(_)))
}

/// Takes no value, and so reads no marker inside one.
struct NoValue;

impl<'de> Visitor<'de> for NoValue {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the end")
    }
}

/// A writer that only counts.
struct Count(usize);

impl io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
