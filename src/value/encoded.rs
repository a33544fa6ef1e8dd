//! Values that consist of encoded bytes.

use super::Kept;
use crate::codec::{Codec, Defect, Tags};
use crate::error::{Error, ErrorKind, Result};
use bytes::Bytes;
use std::any::Any;

/// Encoded bytes.
pub(super) enum Encoded {
    /// Bytes whose codec is certain: a header named it, or they were encoded here.
    Known(Codec, Bytes),
    /// Bytes that a view has encoded: they are stored in the form of this codec, whatever the
    /// adapter's own is.
    OfView(Codec, Bytes),
    /// Bytes without a header, taken to be of the adapter's codec. A view may know better.
    Plain(Codec, Bytes),
    /// Bytes without a header, in a store whose codec has one. A view may know their codec.
    Foreign(Bytes),
    Unreadable(Defect),
}

impl Encoded {
    pub(super) fn payload(&self) -> Result<(Codec, &Bytes), Defect> {
        match self {
            Self::Known(codec, bytes) | Self::OfView(codec, bytes) | Self::Plain(codec, bytes) => {
                Ok((*codec, bytes))
            }
            Self::Foreign(_) => Err(Defect::Foreign),
            Self::Unreadable(defect) => Err(*defect),
        }
    }
}

impl Kept for Encoded {
    fn write(&self, codec: Codec, out: &mut Vec<u8>) -> Result<()> {
        match self.payload() {
            Ok((written, payload)) if written == codec => {
                out.extend_from_slice(payload);
                Ok(())
            }
            Ok((written, _)) => Err(Error::new(ErrorKind::Encode).with_message(format!(
                "the value is encoded as {written} already and cannot be stored as {codec}"
            ))),
            Err(defect) => Err(Error::new(ErrorKind::Encode).with_source(defect.error::<()>())),
        }
    }

    fn encoded_len(&self, _: Codec) -> Result<usize> {
        Ok(self.payload().map_or(0, |(_, payload)| payload.len()))
    }

    #[cfg(feature = "memory")]
    fn footprint(&self) -> Result<usize> {
        self.encoded_len(Codec::MessagePack)
    }

    fn object(&self) -> &dyn Any {
        self
    }

    fn encoded(&self) -> Option<&Encoded> {
        Some(self)
    }

    fn tags(&self) -> Option<&Tags> {
        None
    }
}
