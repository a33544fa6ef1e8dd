//! Values with tags.

use super::encoded::Encoded;
#[cfg(feature = "memory")]
use super::remembered::Memory;
use super::{CacheValue, Kept, Known};
use crate::codec::{self, Codec, Tags};
use crate::error::{Error, ErrorKind, Result};
use bytes::Bytes;
use std::any::Any;
use std::sync::Arc;

/// A value with tags. They are beside the value and not in its metadata, so that a value without
/// tags takes no more memory.
struct Tagged {
    value: CacheValue,
    tags: Tags,
}

impl Kept for Tagged {
    fn write(&self, codec: Codec, out: &mut Vec<u8>) -> Result<()> {
        self.value.0.kept.write(codec, out)
    }

    fn encoded_len(&self, codec: Codec) -> Result<usize> {
        self.value.0.kept.encoded_len(codec)
    }

    #[cfg(feature = "memory")]
    fn footprint(&self) -> Result<usize> {
        Ok(self.value.0.kept.footprint()?.saturating_add(self.tags.encoded_len()))
    }

    fn object(&self) -> &dyn Any {
        self.value.0.kept.object()
    }

    fn encoded(&self) -> Option<&Encoded> {
        self.value.0.kept.encoded()
    }

    #[cfg(feature = "memory")]
    fn memory(&self) -> Option<&Memory> {
        self.value.0.kept.memory()
    }

    fn tags(&self) -> Option<&Tags> {
        Some(&self.tags)
    }
}

impl CacheValue {
    /// The same value with these tags, in place of those that it has.
    pub(crate) fn tagged(&self, tags: Tags) -> Self {
        let mut meta = self.0.meta.clone();
        meta.set_tagged(true);
        let kept = Tagged { value: self.clone(), tags };
        Self(Arc::new(Known { meta, kept }))
    }

    pub(super) fn with_tags(self, tags: Option<Tags>) -> Self {
        match tags {
            None => self,
            Some(tags) => self.tagged(tags),
        }
    }

    /// The tags of the entry, if it has any.
    pub(crate) fn tags(&self) -> Option<&Tags> {
        if self.is_tagged() { self.0.kept.tags() } else { None }
    }

    /// Whether the records of the entry's tags have to be read before it is served.
    #[inline]
    pub(crate) fn is_tagged(&self) -> bool {
        self.0.meta.is_tagged()
    }

    /// Checks that a store with this codec can note what has to be noted beside the value.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] if the value has a stale window or tags, and is stored without a
    /// header.
    pub(crate) fn check_form(&self, key: &str, codec: Codec) -> Result<()> {
        if self.0.meta.is_plain() {
            return Ok(());
        }
        let form = match self.0.kept.encoded() {
            Some(Encoded::OfView(own, _)) => *own,
            _ => codec,
        };
        if form.has_header() {
            return Ok(());
        }
        let (what, have) = if self.is_tagged() { ("tags", "have") } else { ("`stale_for`", "has") };
        Err(Error::new(ErrorKind::Unsupported)
            .with_key(key)
            .with_message(format!("{what} {have} to be noted in a header, and {form} has none")))
    }

    /// A sum would be stored without tags, and stay when one of them is removed.
    pub(super) fn check_countable(&self) -> Result<()> {
        if !self.is_tagged() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unsupported)
            .with_message("the entry has tags, and a counter cannot have any"))
    }

    /// The stored form with a header.
    pub(super) fn framed(&self, key: &str, codec: Codec, payload: &[u8]) -> Bytes {
        codec::frame(key, codec, (self.meta(), self.tags()), payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Tag;
    use crate::meta::Meta;

    fn tags() -> Tags {
        let tag = Tag { record: "\0larder:tag:a".into(), generation: 7 };
        Tags::new("", vec![tag]).unwrap()
    }

    #[test]
    fn tags_stay_with_a_value_whatever_becomes_of_it() {
        let value = CacheValue::new(5u8).tagged(tags());
        let bytes = value.clone().into_encoded(Codec::MessagePack).unwrap();
        let stored = value.to_stored("k", Codec::MessagePack).unwrap();
        let read = CacheValue::from_stored("k", stored, Codec::MessagePack);
        for value in [
            value.renewed(Meta::new(1, 2)),
            value.renewed(Meta::default()).renewed(Meta::default()),
            value.clone().with_meta(Meta::default()),
            value.written_as(Codec::Raw).unwrap(),
            CacheValue::new(5i64).tagged(tags()).read_as(Codec::Raw),
            bytes,
            read,
            value,
        ] {
            assert_eq!(value.tags(), Some(&tags()));
            assert_eq!(value.decode::<u8>().unwrap(), 5);
        }
    }

    #[test]
    fn a_value_without_tags_is_as_large_as_before() {
        assert_eq!(size_of::<Meta>(), 24);
        assert!(CacheValue::new(5u8).tags().is_none());
    }

    #[test]
    fn what_cannot_be_noted_is_refused() {
        let value = CacheValue::new(5u8).tagged(tags());
        for codec in [Codec::Json, Codec::Raw] {
            let error = value.to_stored("k", codec).unwrap_err();
            assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains("tags"));
        }
        let own = value.written_as(Codec::MessagePack).unwrap();
        let stored = own.to_stored("k", Codec::Json).unwrap();
        assert!(CacheValue::from_stored("k", stored, Codec::Json).is_tagged());
        let json = value.written_as(Codec::Json).unwrap();
        let error = json.to_stored("k", Codec::MessagePack).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert_eq!(value.as_counter().unwrap_err().kind(), ErrorKind::Unsupported);
    }
}
