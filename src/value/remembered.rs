//! Encoded values that remember the object to which they were decoded first.

use super::encoded::Encoded;
use super::{CacheValue, Contained, Kept, Known, Meta};
use crate::codec::{Codec, Tags};
use crate::error::Result;
use serde::de::DeserializeOwned;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

/// The object to which a value was decoded first: another type is decoded each time.
#[derive(Default)]
pub(super) struct Memory(OnceLock<Box<dyn Remembers>>);

/// An object whose `Drop` may panic.
trait Remembers: Send + Sync {
    fn object(&self) -> Option<&dyn Any>;
}

impl<T: Any + Send + Sync> Remembers for Contained<T> {
    fn object(&self) -> Option<&dyn Any> {
        self.0.as_ref().map(|object| object as &dyn Any)
    }
}

/// A value that consists of bytes, and remembers their object.
struct Remembered {
    value: CacheValue,
    memory: Memory,
}

impl Kept for Remembered {
    fn write(&self, codec: Codec, out: &mut Vec<u8>) -> Result<()> {
        self.value.0.kept.write(codec, out)
    }

    fn encoded_len(&self, codec: Codec) -> Result<usize> {
        self.value.0.kept.encoded_len(codec)
    }

    fn footprint(&self) -> Result<usize> {
        // The bytes, and the object that will stand beside them.
        Ok(self.value.0.kept.footprint()?.saturating_mul(2))
    }

    #[inline]
    fn object(&self) -> &dyn Any {
        let object = self.memory.0.get().and_then(|object| object.object());
        object.unwrap_or_else(|| self.value.0.kept.object())
    }

    fn memory(&self) -> Option<&Memory> {
        Some(&self.memory)
    }

    fn encoded(&self) -> Option<&Encoded> {
        self.value.0.kept.encoded()
    }

    fn tags(&self) -> Option<&Tags> {
        self.value.0.kept.tags()
    }
}

impl CacheValue {
    /// The same value, which remembers the object to which it is decoded first, if it consists of
    /// bytes.
    pub(crate) fn remembering(self) -> Self {
        if self.0.kept.encoded().is_none_or(|bytes| bytes.payload().is_err()) {
            return self;
        }
        let meta: Meta = self.0.meta.clone();
        let kept = Remembered { value: self, memory: Memory::default() };
        Self(Arc::new(Known { meta, kept }))
    }

    /// [`decode`](CacheValue::decode) for a value that may remember its object.
    #[inline]
    pub(crate) fn decode_once<T>(&self) -> Result<T>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        let decoded: T = self.decode()?;
        if let Some(memory) = self.0.kept.memory()
            && memory.0.get().is_none()
        {
            // A `Clone` that panics is the user's, and its object is not remembered. The caller
            // has one already.
            if let Ok(object) = catch_unwind(AssertUnwindSafe(|| decoded.clone())) {
                let _first_stays = memory.0.set(Box::new(Contained(Some(object))));
            }
        }
        Ok(decoded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Tag;
    use crate::error::Result;

    fn stored() -> Result<CacheValue> {
        let bytes = CacheValue::new("text".to_owned()).to_stored("k", Codec::MessagePack)?;
        Ok(CacheValue::from_stored("k", bytes, Codec::MessagePack).remembering())
    }

    #[test]
    fn the_first_type_is_remembered_and_another_is_decoded() -> Result<()> {
        let value = stored()?;
        assert!(value.object::<String>().is_none());
        assert_eq!(value.decode_once::<String>()?, "text");
        let first: *const String = value.object::<String>().expect("remembered");
        assert_eq!(value.decode_once::<String>()?, "text");
        assert_eq!(&*value.decode_once::<Box<str>>()?, "text");
        assert!(value.object::<Box<str>>().is_none());
        let second: *const String = value.object::<String>().expect("remembered");
        assert_eq!(first, second);
        Ok(())
    }

    #[test]
    fn tags_stay_with_a_value_that_remembers() -> Result<()> {
        let tag = Tag { record: "\0larder:tag:a".into(), generation: 7 };
        let tags = Tags::new("", vec![tag]).expect("few");
        let bytes = CacheValue::new(5u8).tagged(tags.clone()).to_stored("k", Codec::MessagePack)?;
        let read = CacheValue::from_stored("k", bytes, Codec::MessagePack).remembering();
        assert_eq!(read.decode_once::<u8>()?, 5);
        for value in [read.tagged(tags.clone()), read] {
            assert_eq!(value.tags(), Some(&tags));
            assert_eq!(value.object::<u8>(), Some(&5));
        }
        Ok(())
    }

    #[test]
    fn what_is_no_bytes_or_cannot_be_read_stays_as_it_is() {
        let typed = CacheValue::new(5u8).remembering();
        assert_eq!(typed.object::<u8>(), Some(&5));
        let damaged = CacheValue::from_stored("k", vec![0xC1, 1, 2].into(), Codec::MessagePack);
        assert!(damaged.remembering().is_unreadable());
    }
}
