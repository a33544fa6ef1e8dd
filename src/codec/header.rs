//! The header of stored bytes.
//!
//! ```text
//! 0   magic C1 4C 44   0xC1 is the one byte that begins no MessagePack, no JSON and no UTF-8 text
//! 3   format version
//! 4   codec of the payload
//! 5   flags: 1 = kept beyond the logical expiry, as stale
//! 6   reserved, zero
//! 8   created, ms since 1970      u64, big endian like the rest
//! 16  logical expiry, ms          u64, 0 = unknown
//! 24  cost of computing, µs       u32
//! 28  CRC-32 of the key           a reply that belongs to another key is noticed
//! 32  length of the payload       u32
//! 36  CRC-32 of all the above and the payload
//! 40  payload
//! ```

use super::Codec;
use crate::value::Meta;
use crate::{Error, ErrorKind, clock};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::any::type_name;

const MAGIC: [u8; 3] = [0xC1, b'L', b'D'];
const VERSION: u8 = 1;
const LEN: usize = 40;
const CHECKED: usize = 36;
/// How many of the first stored bytes [`logical_end`] needs.
pub(crate) const HEAD: usize = LEN;
const KEPT: u8 = 1;

/// Why stored bytes cannot be a value of larder's. All of them are misses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defect {
    Foreign,
    OtherVersion,
    OtherKey,
    Damaged,
}

impl Defect {
    pub(crate) fn error<T>(self) -> Error {
        let why = match self {
            Self::Foreign => "they were not written by larder with this codec",
            Self::OtherVersion => "they are of a format version this program does not know",
            Self::OtherKey => "they belong to another key",
            Self::Damaged => "they are damaged",
        };
        Error::new(ErrorKind::Decode)
            .with_message(format!("the stored bytes cannot be read as {}: {why}", type_name::<T>()))
    }
}

/// What the header says of the key.
pub(crate) fn key_hash(key: &str) -> u32 {
    crc32fast::hash(key.as_bytes())
}

/// The stored form of a payload.
pub(crate) fn frame(key: &str, codec: Codec, meta: &Meta, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(LEN + payload.len());
    out.put_slice(&MAGIC);
    out.put_slice(&[VERSION, codec_id(codec), u8::from(meta.is_kept()) * KEPT, 0, 0]);
    let [created, expires] = clock::to_wall([meta.created_ms(), meta.expires_ms()]);
    // A value that says nothing of its age is made now.
    out.put_u64(if created > 0 { created } else { clock::wall_ms() });
    out.put_u64(expires);
    out.put_u32(meta.cost_us());
    out.put_u32(key_hash(key));
    // A payload past 4 GiB is over every store's limit; the store says so.
    out.put_u32(payload.len() as u32);
    out.put_u32(checksum(&out, payload));
    out.put_slice(payload);
    out.freeze()
}

/// What [`frame`] put together: a counter's number, or the payload and how to read it.
pub(crate) fn unframe(
    key_hash: u32,
    stored: Bytes,
    codec: Codec,
) -> Result<(Option<i64>, Codec, Meta, Bytes), Defect> {
    if codec == Codec::Raw {
        return Ok((None, codec, Meta::default(), stored));
    }
    if stored.first() != Some(&MAGIC[0]) {
        return match (codec.has_header(), counter(&stored)) {
            (false, _) => Ok((None, codec, Meta::default(), stored)),
            (true, Some(number)) => Ok((Some(number), codec, Meta::default(), stored)),
            (true, None) => Err(Defect::Foreign),
        };
    }
    let (codec, meta) = parse(key_hash, &stored)?;
    // Not a slice: that would share the bytes with nobody, at the price of an allocation.
    let mut payload = stored;
    payload.advance(LEN);
    Ok((None, codec, meta, payload))
}

fn parse(key_hash: u32, stored: &[u8]) -> Result<(Codec, Meta), Defect> {
    let header: &[u8; LEN] = stored.first_chunk().ok_or(Defect::Damaged)?;
    if header[..3] != MAGIC {
        return Err(Defect::Foreign);
    }
    if header[3] != VERSION {
        return Err(Defect::OtherVersion);
    }
    let payload = &stored[LEN..];
    if u64::from(u32_at(header, 32)) != payload.len() as u64
        || u32_at(header, CHECKED) != checksum(&header[..CHECKED], payload)
    {
        return Err(Defect::Damaged);
    }
    if u32_at(header, 28) != key_hash {
        return Err(Defect::OtherKey);
    }
    let codec = codec_of(header[4]).ok_or(Defect::OtherVersion)?;
    let meta = Meta::from_header(
        u64_at(header, 8),
        u64_at(header, 16),
        u32_at(header, 24),
        header[5] & KEPT != 0,
    );
    Ok((codec, meta))
}

/// What the first [`HEAD`] stored bytes say of a logical end; `None` if there is none, or they are not larder's. The payload is not
/// there to be checked, so this does not tell whether the value can be read.
pub(crate) fn logical_end(head: &[u8]) -> Option<Meta> {
    let header: &[u8; HEAD] = head.first_chunk()?;
    let is_kept = header[..3] == MAGIC && header[3] == VERSION && header[5] & KEPT != 0;
    is_kept.then(|| Meta::from_header(0, u64_at(header, 16), 0, true))
}

/// A counter that a store keeps as decimal text, so that its own arithmetic works on it.
fn counter(stored: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(stored).ok().filter(|text| text.len() <= 20)?;
    // Canonical only: "007" or "+7" is somebody's text.
    text.parse::<i64>().ok().filter(|number| number.to_string() == text)
}

fn checksum(header: &[u8], payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(header);
    crc.update(payload);
    crc.finalize()
}

fn codec_id(codec: Codec) -> u8 {
    match codec {
        Codec::MessagePack => 1,
        Codec::Json => 2,
        Codec::Raw => 3,
    }
}

fn codec_of(id: u8) -> Option<Codec> {
    [Codec::MessagePack, Codec::Json, Codec::Raw].into_iter().find(|codec| codec_id(*codec) == id)
}

fn u32_at(header: &[u8; LEN], at: usize) -> u32 {
    header[at..].first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

fn u64_at(header: &[u8; LEN], at: usize) -> u64 {
    header[at..].first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}
