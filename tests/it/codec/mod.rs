//! Bytes and values: what is written as one type and read as another, damaged bytes, foreign bytes,
//! and what errors may say.

#![allow(clippy::unwrap_used, reason = "tests")]

mod bytes;
mod damage;
mod numbers;
mod pairs;
mod properties;
mod redaction;

use ::bytes::{BufMut, Bytes, BytesMut};

/// Stored bytes with a header of version 1 that is in order, over any payload: what larder wrote
/// once, and still reads.
fn framed(key: &str, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_slice(b"\xC1LD\x01\x01\0\0\0");
    out.put_u64(0);
    out.put_u64(0);
    out.put_u32(0);
    out.put_u32(crc32fast::hash(key.as_bytes()));
    out.put_u32(payload.len() as u32);
    let mut crc = crc32fast::Hasher::new();
    crc.update(&out);
    crc.update(payload);
    out.put_u32(crc.finalize());
    out.put_slice(payload);
    out.freeze()
}
