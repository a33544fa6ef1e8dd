//! The value that passes between a wrapper and an adapter.

mod encoded;
#[cfg(feature = "memory")]
mod remembered;
mod tagged;

use crate::clock;
use crate::codec::{self, Codec, Defect, Header, Tags, Unframed, scratch};
use crate::error::{Error, ErrorKind, Result};
use crate::meta::Meta;
use bytes::Bytes;
use encoded::Encoded;
#[cfg(feature = "memory")]
use remembered::Memory;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::Any;
use std::fmt;
use std::mem::needs_drop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A value that an adapter stores without understanding it: a cheap handle on a shared typed
/// object, or on encoded bytes.
///
/// Adapters within the process keep the handle itself, and a `get` of the type that was set is a
/// downcast and a clone. Adapters that store bytes take them from
/// [`to_stored`](CacheValue::to_stored) and make a value of them with
/// [`from_stored`](CacheValue::from_stored). Cloning increments a reference count. `Debug` never
/// shows the value.
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
pub struct CacheValue(Arc<Known<dyn Kept>>);

/// The one allocation behind a [`CacheValue`]: the object or the bytes, and the metadata.
struct Known<K: ?Sized> {
    meta: Meta,
    kept: K,
}

trait Kept: Send + Sync {
    /// Appends the encoded value.
    fn write(&self, codec: Codec, out: &mut Vec<u8>) -> Result<()>;
    fn encoded_len(&self, codec: Codec) -> Result<usize>;
    /// The bytes that the value takes in this process's memory, if the value can be encoded.
    #[cfg(feature = "memory")]
    fn footprint(&self) -> Result<usize>;
    /// The object itself.
    fn object(&self) -> &dyn Any;
    /// The bytes' place for the object that they were decoded to, if there is one.
    #[cfg(feature = "memory")]
    fn memory(&self) -> Option<&Memory> {
        None
    }
    /// The encoded bytes, if the value consists of bytes.
    fn encoded(&self) -> Option<&Encoded> {
        None
    }
    /// The tags of the entry, if it has any. Without a default: a value around another that forgot
    /// them would be served after the removal of a tag.
    fn tags(&self) -> Option<&Tags>;
    /// The value whose metadata was replaced, if this is one with other metadata.
    fn original(&self) -> Option<&CacheValue> {
        None
    }
}

struct Typed<T>(T);

/// A typed object whose `Drop` may panic. The panic is contained: the last owner of a value may be
/// any caller (a write that evicts it, the sweep, a `clear`), and a second panic while the first
/// unwinds would abort the process. The panic hook has reported it. `None` only while the object is
/// dropped.
struct Contained<T>(Option<T>);

/// A value with other metadata.
struct Renewed(CacheValue);

impl<T: Serialize + Send + Sync + 'static> Kept for Typed<T> {
    fn write(&self, codec: Codec, out: &mut Vec<u8>) -> Result<()> {
        codec.write(&self.0, out)
    }

    fn encoded_len(&self, codec: Codec) -> Result<usize> {
        codec.encoded_len(&self.0)
    }

    #[cfg(feature = "memory")]
    fn footprint(&self) -> Result<usize> {
        Codec::footprint(&self.0)
    }

    fn object(&self) -> &dyn Any {
        &self.0
    }

    fn tags(&self) -> Option<&Tags> {
        None
    }
}

impl<T: Serialize + Send + Sync + 'static> Kept for Contained<T> {
    fn write(&self, codec: Codec, out: &mut Vec<u8>) -> Result<()> {
        self.0.as_ref().map_or(Ok(()), |object| codec.write(object, out))
    }

    fn encoded_len(&self, codec: Codec) -> Result<usize> {
        self.0.as_ref().map_or(Ok(0), |object| codec.encoded_len(object))
    }

    #[cfg(feature = "memory")]
    fn footprint(&self) -> Result<usize> {
        self.0.as_ref().map_or(Ok(0), Codec::footprint)
    }

    #[inline]
    fn object(&self) -> &dyn Any {
        match &self.0 {
            Some(object) => object,
            None => &(),
        }
    }

    fn tags(&self) -> Option<&Tags> {
        None
    }
}

impl<T> Drop for Contained<T> {
    fn drop(&mut self) {
        let object = self.0.take();
        let _contained = catch_unwind(AssertUnwindSafe(|| drop(object)));
    }
}

impl Kept for Renewed {
    fn write(&self, codec: Codec, out: &mut Vec<u8>) -> Result<()> {
        self.0.0.kept.write(codec, out)
    }

    fn encoded_len(&self, codec: Codec) -> Result<usize> {
        self.0.0.kept.encoded_len(codec)
    }

    #[cfg(feature = "memory")]
    fn footprint(&self) -> Result<usize> {
        self.0.0.kept.footprint()
    }

    fn object(&self) -> &dyn Any {
        self.0.0.kept.object()
    }

    fn encoded(&self) -> Option<&Encoded> {
        self.0.0.kept.encoded()
    }

    fn tags(&self) -> Option<&Tags> {
        self.0.tags()
    }

    fn original(&self) -> Option<&CacheValue> {
        Some(&self.0)
    }
}

impl CacheValue {
    /// A handle on a typed object. Nothing is encoded yet.
    pub fn new<T: Serialize + Send + Sync + 'static>(object: T) -> Self {
        Self::known(object, Meta::default())
    }

    /// A handle on a typed object, with metadata.
    pub(crate) fn known<T: Serialize + Send + Sync + 'static>(object: T, meta: Meta) -> Self {
        if needs_drop::<T>() {
            Self(Arc::new(Known { meta, kept: Contained(Some(object)) }))
        } else {
            Self(Arc::new(Known { meta, kept: Typed(object) }))
        }
    }

    /// Whether both handles refer to the same value.
    #[cfg(feature = "memory")]
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The object, if it is a `T`, which needs no codec.
    #[inline]
    pub(crate) fn object<T: 'static>(&self) -> Option<&T> {
        self.0.kept.object().downcast_ref()
    }

    /// Reads the value as a `T`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Decode`] when serde cannot read the value as a `T`.
    pub fn decode<T: DeserializeOwned + Clone + 'static>(&self) -> Result<T> {
        if let Some(object) = self.object::<T>() {
            return Ok(object.clone());
        }
        match self.0.kept.encoded().map(Encoded::payload) {
            None => {
                self.encoded_with(Codec::MessagePack, |bytes| Codec::MessagePack.decode(bytes))?
            }
            Some(Ok((codec, payload))) => codec.decode(payload),
            Some(Err(defect)) => Err(defect.error::<T>()),
        }
    }

    /// [`decode`](CacheValue::decode) for a value that may remember its object; without a near level
    /// none does.
    #[cfg(not(feature = "memory"))]
    pub(crate) fn decode_once<T: DeserializeOwned + Clone + 'static>(&self) -> Result<T> {
        self.decode()
    }

    /// The bytes that a store keeps for this value under `key`: with a header under
    /// [`Codec::MessagePack`], plain under the others.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Encode`] when the codec cannot write the value. [`ErrorKind::Unsupported`] when
    /// the value is to be kept beyond its expiry, or has tags, and the codec has no header that could
    /// say so.
    pub fn to_stored(&self, key: &str, codec: Codec) -> Result<Bytes> {
        let own = match self.0.kept.encoded() {
            Some(Encoded::OfView(own, payload)) => Some((*own, payload)),
            _ => None,
        };
        self.check_form(key, codec)?;
        if let Some((own, payload)) = own {
            return self.stored_by_view(key, own, payload, codec);
        }
        match self.0.kept.encoded().map(Encoded::payload) {
            Some(Ok((written, payload))) if codec.has_header() => {
                Ok(self.framed(key, written, payload))
            }
            Some(Ok((written, payload))) if written == codec => Ok(payload.clone()),
            _ if codec.has_header() => {
                self.encoded_with(codec, |payload| self.framed(key, codec, payload))
            }
            _ => self.encoded_with(codec, Bytes::copy_from_slice),
        }
    }

    /// [`to_stored`](CacheValue::to_stored) for bytes that a view has encoded.
    fn stored_by_view(
        &self,
        key: &str,
        own: Codec,
        payload: &Bytes,
        codec: Codec,
    ) -> Result<Bytes> {
        if !own.has_header() {
            return Ok(payload.clone());
        }
        if codec == Codec::Raw {
            return Err(Error::new(ErrorKind::Unsupported).with_key(key).with_message(format!(
                "the header of {own} would be a part of the value: the adapter's codec is {codec}"
            )));
        }
        Ok(self.framed(key, own, payload))
    }

    /// Makes a value of the bytes that a store kept under `key`, see
    /// [`to_stored`](CacheValue::to_stored).
    ///
    /// Never fails. If the bytes are damaged, of an unknown version, or belong to another key, the
    /// value [`is_unreadable`](CacheValue::is_unreadable), which the wrapper counts as a miss.
    #[must_use]
    pub fn from_stored(key: &str, stored: Bytes, codec: Codec) -> Self {
        let (meta, kept) = match codec::unframe(key, stored, codec) {
            Unframed::Number(number) => return Self::new(number),
            Unframed::Framed(Header { codec, meta, tags }, payload) => {
                let value = Self(Arc::new(Known { meta, kept: Encoded::Known(codec, payload) }));
                return value.with_tags(tags);
            }
            Unframed::Plain(payload) => (Meta::default(), Encoded::Plain(codec, payload)),
            Unframed::Foreign(bytes) => (Meta::default(), Encoded::Foreign(bytes)),
            Unframed::Defect(defect) => (Meta::default(), Encoded::Unreadable(defect)),
        };
        Self(Arc::new(Known { meta, kept }))
    }

    /// A counter as stores of bytes keep it: decimal text, under every codec.
    #[cfg(feature = "memory")]
    pub(crate) fn counter(number: i64, codec: Codec) -> Self {
        let codec = if codec.has_header() { Codec::Json } else { codec };
        let kept = Encoded::Plain(codec, Bytes::from(number.to_string()));
        Self(Arc::new(Known { meta: Meta::default(), kept }))
    }

    /// The value of a key that another program stored and that no codec can read, such as a list.
    #[cfg(feature = "redis")]
    pub(crate) fn foreign() -> Self {
        Self(Arc::new(Known { meta: Meta::default(), kept: Encoded::Unreadable(Defect::Foreign) }))
    }

    /// Encodes a typed object with `codec`, as an adapter of a remote store does.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Encode`] when the codec cannot write the value.
    pub fn into_encoded(self, codec: Codec) -> Result<Self> {
        if self.0.kept.encoded().is_some() {
            return Ok(self);
        }
        let payload = self.encoded_with(codec, Bytes::copy_from_slice)?;
        Ok(self.with_bytes(Encoded::Known(codec, payload)))
    }

    /// Encodes a typed object as a view with this codec does: every adapter stores it in the form
    /// of this codec.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Encode`] when the codec cannot write the value, or when the bytes could not be
    /// told from those of another codec.
    pub(crate) fn written_as(&self, codec: Codec) -> Result<Self> {
        let payload = self.encoded_with(codec, Bytes::copy_from_slice)?;
        if !codec.has_header() && codec::begins_like_a_header(&payload) {
            return Err(Error::new(ErrorKind::Encode)
                .with_message("bytes that begin like larder's header are read as one"));
        }
        Ok(self.with_bytes(Encoded::OfView(codec, payload)))
    }

    /// The value as a view with this codec reads it: by its header, or by this codec where there is
    /// none.
    pub(crate) fn read_as(&self, codec: Codec) -> Self {
        let plain = match (self.0.kept.encoded(), self.object::<i64>()) {
            _ if codec.has_header() => None,
            (Some(Encoded::Plain(_, bytes) | Encoded::Foreign(bytes)), _) => Some(bytes.clone()),
            // A counter is text in every store.
            (None, Some(number)) => Some(Bytes::from(number.to_string())),
            _ => None,
        };
        plain.map_or_else(|| self.clone(), |bytes| self.with_bytes(Encoded::Plain(codec, bytes)))
    }

    /// The same value as bytes.
    fn with_bytes(&self, kept: Encoded) -> Self {
        let value = Self(Arc::new(Known { meta: self.0.meta.clone(), kept }));
        value.with_tags(self.tags().cloned())
    }

    /// Encodes the value into a buffer that is used again, and reads it there.
    fn encoded_with<R>(&self, codec: Codec, read: impl FnOnce(&[u8]) -> R) -> Result<R> {
        scratch::with(|bytes| {
            self.0.kept.write(codec, bytes)?;
            Ok(read(bytes))
        })
    }

    /// How many bytes `codec` needs for the value, without a header. Also proves that the value can
    /// be encoded.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Encode`] when the codec cannot write the value.
    pub fn encoded_len(&self, codec: Codec) -> Result<usize> {
        self.0.kept.encoded_len(codec)
    }

    /// How many bytes of this process's memory the value takes: for an object an estimate from its
    /// `Serialize`, for bytes their number. Also proves that the value can be encoded.
    #[cfg(feature = "memory")]
    pub(crate) fn footprint(&self) -> Result<usize> {
        self.0.kept.footprint()
    }

    /// The object, if it is kept as a `T`. For use in a weigher, see
    /// [`MemoryBuilder::weigher`](crate::MemoryBuilder::weigher).
    ///
    /// ```
    /// let value = larder::CacheValue::new("text");
    /// assert_eq!(value.downcast_ref::<&str>(), Some(&"text"));
    /// assert_eq!(value.downcast_ref::<String>(), None);
    /// ```
    #[must_use]
    pub fn downcast_ref<T: 'static>(&self) -> Option<&T> {
        self.object()
    }

    /// Reads the value as a counter: any integer that fits an `i64`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotANumber`] for everything else. [`ErrorKind::Unsupported`] for a value with
    /// tags, because a counter has no header that could name them.
    pub fn as_counter(&self) -> Result<i64> {
        self.check_countable()?;
        self.decode::<i64>().map_err(|cause| Error::new(ErrorKind::NotANumber).with_source(cause))
    }

    /// Whether the stored bytes cannot be read at all: damaged, of another format version, or of
    /// another key.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        self.defect().is_some()
    }

    /// Whether the stored bytes belong to another key. An adapter that reads such bytes from a
    /// shared connection should drop the connection.
    #[must_use]
    pub fn is_misdirected(&self) -> bool {
        self.defect() == Some(Defect::OtherKey)
    }

    /// When the value was written, if known.
    #[must_use]
    pub fn created(&self) -> Option<SystemTime> {
        let [created] = clock::to_wall([self.0.meta.created_ms()]);
        (created > 0).then(|| SystemTime::UNIX_EPOCH + Duration::from_millis(created))
    }

    /// Whether the value is past its logical expiry, and kept only to be served if a loader fails
    /// (see [`stale_for`](crate::View::stale_for)). For the verbs of a cache such a value is
    /// missing; an adapter returns it.
    #[must_use]
    #[inline]
    pub fn is_stale(&self) -> bool {
        self.0.meta.is_stale()
    }

    pub(crate) fn meta(&self) -> &Meta {
        &self.0.meta
    }

    /// The value with its metadata. Costs nothing while this is the only handle.
    pub(crate) fn with_meta(mut self, mut meta: Meta) -> Self {
        meta.set_tagged(self.is_tagged());
        match Arc::get_mut(&mut self.0) {
            Some(known) => known.meta = meta,
            None => return self.renewed(meta),
        }
        self
    }

    /// The same value with other metadata.
    pub(crate) fn renewed(&self, mut meta: Meta) -> Self {
        meta.set_tagged(self.is_tagged());
        // Keep the original instead of a chain of values: an entry in memory may be renewed for
        // ever.
        let original = self.0.kept.original().unwrap_or(self).clone();
        Self(Arc::new(Known { meta, kept: Renewed(original) }))
    }

    /// Moves the logical expiry, for all callers that share this handle.
    pub(crate) fn move_end(&self, expires_ms: u64) {
        self.0.meta.move_end(expires_ms);
    }

    /// Elects the caller that may replace this stale value: returns `true` to one of the callers
    /// that share the handle.
    pub(crate) fn claim_replacement(&self) -> bool {
        self.0.meta.claim_replacement()
    }

    /// Whether serde writes the value as nil: `None`, `()` or a null.
    pub(crate) fn is_nil(&self) -> Result<bool> {
        Ok(self.0.kept.encoded_len(Codec::MessagePack)? == 1
            && self.encoded_with(Codec::MessagePack, |bytes| bytes == [codec::NIL])?)
    }

    pub(crate) fn unreadable_reason(&self) -> Option<Error> {
        self.defect().map(Defect::error::<()>)
    }

    fn defect(&self) -> Option<Defect> {
        self.0.kept.encoded()?.payload().err()
    }
}

impl fmt::Debug for CacheValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("CacheValue");
        match self.0.kept.encoded().map(Encoded::payload) {
            None => out.field("typed", &true),
            Some(Ok((codec, payload))) => out.field("codec", &codec).field("bytes", &payload.len()),
            Some(Err(defect)) => out.field("unreadable", &defect),
        };
        out.finish_non_exhaustive()
    }
}
