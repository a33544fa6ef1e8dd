//! What passes between a wrapper and an adapter.

use crate::codec::{self, Codec, Defect};
use crate::{Error, ErrorKind, Result};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A value that an adapter stores without understanding it: a cheap handle on a shared typed object, or on encoded bytes.
///
/// Adapters that live in the process keep the handle as it is, and a `get` of the type that was set is a downcast and a clone.
/// Adapters that store bytes ask for them with [`to_stored`](CacheValue::to_stored) and come back with [`from_stored`](CacheValue::from_stored).
/// Cloning costs a reference count. `Debug` never shows the value.
///
/// ```
/// use larder::CacheValue;
///
/// # fn main() -> larder::Result<()> {
/// let value = CacheValue::new(5u32);
/// assert_eq!(value.decode::<u32>()?, 5); // a downcast
/// assert_eq!(value.decode::<i64>()?, 5); // through the codec
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct CacheValue {
    repr: Repr,
    meta: Meta,
}

#[derive(Clone)]
enum Repr {
    Typed(Arc<dyn ErasedValue>),
    Encoded { codec: Codec, payload: Bytes },
    Unreadable(Defect),
}

/// What is known about a value besides the value: it travels in the header of [`Codec::MessagePack`] and is lost under the plain codecs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    /// Milliseconds since 1970; 0 is unknown.
    pub(crate) created_ms: u64,
    /// The logical end of life, in milliseconds since 1970; 0 is none of its own.
    pub(crate) expires_ms: u64,
    /// What computing the value took, in microseconds.
    pub(crate) cost_us: u32,
}

/// A typed object behind a vtable: it can be recognised, and it can be encoded.
trait ErasedValue: Send + Sync {
    fn as_any(&self) -> &dyn Any;
    fn encode(&self, codec: Codec) -> Result<Vec<u8>>;
    fn encoded_len(&self, codec: Codec) -> Result<usize>;
}

impl<T: Serialize + Send + Sync + 'static> ErasedValue for T {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn encode(&self, codec: Codec) -> Result<Vec<u8>> {
        codec.encode(self)
    }

    fn encoded_len(&self, codec: Codec) -> Result<usize> {
        codec.encoded_len(self)
    }
}

impl CacheValue {
    /// A handle on a typed object. Nothing is encoded yet.
    pub fn new<T: Serialize + Send + Sync + 'static>(value: T) -> Self {
        Self { repr: Repr::Typed(Arc::new(value)), meta: Meta::default() }
    }

    /// Reads the value as a `T`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Decode`] when the value is not something serde can read as a `T`.
    pub fn decode<T: DeserializeOwned + Clone + 'static>(&self) -> Result<T> {
        match &self.repr {
            Repr::Typed(object) => match object.as_any().downcast_ref::<T>() {
                Some(value) => Ok(value.clone()),
                None => Codec::MessagePack.decode(&object.encode(Codec::MessagePack)?),
            },
            Repr::Encoded { codec, payload } => codec.decode(payload),
            Repr::Unreadable(defect) => Err(defect.error::<T>()),
        }
    }

    /// The bytes that a store keeps for this value under `key`: with a header under [`Codec::MessagePack`], plain under the others.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Encode`] when the codec cannot write the value.
    pub fn to_stored(&self, key: &str, codec: Codec) -> Result<Bytes> {
        let (written, payload) = match &self.repr {
            Repr::Typed(object) => (codec, object.encode(codec)?.into()),
            Repr::Encoded { codec: written, payload } => (*written, payload.clone()),
            Repr::Unreadable(defect) => return Err(Error::new(ErrorKind::Encode).with_source(defect.error::<()>())),
        };
        if codec.has_header() {
            Ok(codec::frame(key, written, &self.meta, &payload))
        } else if written == codec {
            Ok(payload)
        } else {
            Err(Error::new(ErrorKind::Encode).with_message(format!("the value is encoded as {written} already and cannot be stored as {codec}")))
        }
    }

    /// The value that a store kept under `key` with [`to_stored`](CacheValue::to_stored).
    ///
    /// Never fails: bytes that are damaged, of an unknown version, or meant for another key give a value that
    /// [`is_unreadable`](CacheValue::is_unreadable), which the wrapper counts as a miss.
    #[must_use]
    pub fn from_stored(key: &str, stored: Bytes, codec: Codec) -> Self {
        match codec::unframe(key, stored, codec) {
            Ok((Some(number), ..)) => Self::new(number),
            Ok((None, codec, meta, payload)) => Self { repr: Repr::Encoded { codec, payload }, meta },
            Err(defect) => Self { repr: Repr::Unreadable(defect), meta: Meta::default() },
        }
    }

    /// Turns a typed object into the bytes that `codec` makes of it, as a remote store would.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Encode`] when the codec cannot write the value.
    pub fn into_encoded(self, codec: Codec) -> Result<Self> {
        match &self.repr {
            Repr::Typed(object) => {
                let payload = object.encode(codec)?.into();
                Ok(Self { repr: Repr::Encoded { codec, payload }, meta: self.meta })
            }
            _ => Ok(self),
        }
    }

    /// How many bytes `codec` needs for the value, headers aside. Also the proof that it can be encoded.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Encode`] when the codec cannot write the value.
    pub fn encoded_len(&self, codec: Codec) -> Result<usize> {
        match &self.repr {
            Repr::Typed(object) => object.encoded_len(codec),
            Repr::Encoded { payload, .. } => Ok(payload.len()),
            Repr::Unreadable(_) => Ok(0),
        }
    }

    /// The value as a counter: any integer that fits an `i64`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotANumber`] for everything else.
    pub fn as_counter(&self) -> Result<i64> {
        self.decode::<i64>().map_err(|cause| Error::new(ErrorKind::NotANumber).with_source(cause))
    }

    /// The stored bytes could not be read at all: damaged, from another format version, or another key's.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        matches!(self.repr, Repr::Unreadable(_))
    }

    /// The stored bytes belong to another key. An adapter that sees this on a shared connection should drop the connection.
    #[must_use]
    pub fn is_misdirected(&self) -> bool {
        matches!(self.repr, Repr::Unreadable(Defect::OtherKey))
    }

    /// When the value was written, where that is known.
    #[must_use]
    pub fn created(&self) -> Option<SystemTime> {
        (self.meta.created_ms > 0).then(|| SystemTime::UNIX_EPOCH + Duration::from_millis(self.meta.created_ms))
    }

    pub(crate) fn with_meta(mut self, meta: Meta) -> Self {
        self.meta = meta;
        self
    }

    pub(crate) fn unreadable_reason(&self) -> Option<Error> {
        match &self.repr {
            Repr::Unreadable(defect) => Some(defect.error::<()>()),
            _ => None,
        }
    }
}

impl fmt::Debug for CacheValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("CacheValue");
        match &self.repr {
            Repr::Typed(_) => out.field("typed", &true),
            Repr::Encoded { codec, payload } => out.field("codec", codec).field("bytes", &payload.len()),
            Repr::Unreadable(defect) => out.field("unreadable", defect),
        };
        out.finish_non_exhaustive()
    }
}
