//! The header of stored bytes.
//!
//! ```text
//! 0   magic C1 4C 44   the byte 0xC1 begins no MessagePack, no JSON and no UTF-8 text
//! 3   format version   2; version 1 is still read
//! 4   codec of the payload
//! 5   flags: 1 = kept beyond the logical expiry, as stale; 2 = tagged; an unknown flag is a miss
//! 6   length of the header        u16: here begins the payload
//! 8   created, ms since 1970      u64, big endian like the rest
//! 16  logical expiry, ms          u64, 0 = unknown
//! 24  cost of computing, µs       u32
//! 28  length of the payload       u32
//! 32  SipHash-2-4 of the key      u64: a reply that belongs to another key is noticed
//! 40  CRC-32 of all else: the above, what follows up to the payload, and the payload
//! 44  the tags, of a tagged value: see `tags.rs`
//! ..  payload
//! ```
//!
//! A later version of larder may add fields before the payload. The length of the header shows
//! them. If older versions must not use such a value, a flag marks it.
//!
//! So a program that does not know tags misses tagged values. Version 1 had 40 bytes: a CRC-32 of the key at 28, the payload's length at 32, and the checksum
//! at 36.

use super::{Codec, Tags};
use crate::clock;
use crate::error::{Error, ErrorKind};
use crate::meta::Meta;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::any::type_name;
use std::hash::Hasher;

const MAGIC: [u8; 3] = [0xC1, b'L', b'D'];
const KEPT: u8 = 1;
const TAGGED: u8 = 2;

/// The lengths of the headers that are written, and of those of version 1.
const LEN: usize = 44;
const LEN_1: usize = 40;

/// The number of stored bytes that [`logical_end`] needs, in both versions.
#[cfg(any(feature = "redis", feature = "sqlite"))]
pub(crate) const HEAD: usize = LEN_1;

/// The position of the checksum.
const CHECKED: usize = 40;
const CHECKED_1: usize = 36;

/// The key of SipHash, which other programs do not use, so that no other hash of a key is mistaken
/// for this one.
const HASH_KEY: (u64, u64) = (0x6c61_7264_6572_2e6b, 0x6579_2e63_6865_636b);

/// Why stored bytes are not a value of larder. Each is a miss.
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

/// The hash of a key: selects lanes, and checks the key in headers of version 1.
pub(crate) fn key_hash(key: &str) -> u32 {
    crc32fast::hash(key.as_bytes())
}

/// The check of the key in the header. A CRC-32 would be too short: among 100,000 keys two have the
/// same.
#[allow(
    deprecated,
    reason = "deprecated for maps; here SipHash-2-4 itself is meant, which only this type promises"
)]
fn key_check(key: &str) -> u64 {
    let mut hasher = std::hash::SipHasher::new_with_keys(HASH_KEY.0, HASH_KEY.1);
    hasher.write(key.as_bytes());
    hasher.finish()
}

/// The stored form of a payload.
pub(crate) fn frame(
    key: &str,
    codec: Codec,
    (meta, tags): (&Meta, Option<&Tags>),
    payload: &[u8],
) -> Bytes {
    let begin = LEN + tags.map_or(0, Tags::encoded_len);
    let mut out = BytesMut::with_capacity(begin + payload.len());
    let flags = u8::from(meta.has_stale_window()) * KEPT + u8::from(tags.is_some()) * TAGGED;
    out.put_slice(&MAGIC);
    out.put_slice(&[2, codec_id(codec), flags]);
    // The tags are shorter than an u16 can say.
    out.put_u16(begin as u16);
    let [created, expires] = clock::to_wall([meta.created_ms(), meta.expires_ms()]);
    // A value without a time of creation is created now.
    out.put_u64(if created > 0 { created } else { clock::wall_ms() });
    out.put_u64(expires);
    out.put_u32(meta.cost_us());
    // A payload over 4 GiB exceeds the limit of every store, which refuses it.
    out.put_u32(payload.len() as u32);
    out.put_u64(key_check(key));
    out.put_u32(0);
    if let Some(tags) = tags {
        tags.write(&mut out);
    }
    let sum = checksum(&[&out[..CHECKED], &out[CHECKED + 4..], payload]);
    out[CHECKED..CHECKED + 4].copy_from_slice(&sum.to_be_bytes());
    out.put_slice(payload);
    out.freeze()
}

/// What a header says.
pub(crate) struct Header {
    /// The codec of the payload.
    pub(crate) codec: Codec,
    pub(crate) meta: Meta,
    pub(crate) tags: Option<Tags>,
}

/// What [`unframe`] reads.
pub(crate) enum Unframed {
    /// The payload behind a header, with what the header says.
    Framed(Header, Bytes),
    /// The number of a counter.
    Number(i64),
    /// Bytes without a header, which the codec of the store needs none for.
    Plain(Bytes),
    /// Bytes without a header, in a store whose codec has one.
    Foreign(Bytes),
    Defect(Defect),
}

/// Whether bytes begin like a header.
pub(crate) fn begins_like_a_header(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// Reads what [`frame`] wrote, and what plain codecs write.
pub(crate) fn unframe(key: &str, stored: Bytes, codec: Codec) -> Unframed {
    if codec == Codec::Raw {
        return Unframed::Plain(stored);
    }
    if stored.first() != Some(&MAGIC[0]) {
        return match (codec.has_header(), counter(&stored)) {
            (false, _) => Unframed::Plain(stored),
            (true, Some(number)) => Unframed::Number(number),
            (true, None) => Unframed::Foreign(stored),
        };
    }
    match parse(key, &stored) {
        Ok((header, begin)) => {
            // `advance` instead of `slice`: slicing would make the buffer shared, which costs an
            // allocation, for no second owner.
            let mut payload = stored;
            payload.advance(begin);
            Unframed::Framed(header, payload)
        }
        Err(Defect::Foreign) => Unframed::Foreign(stored),
        Err(defect) => Unframed::Defect(defect),
    }
}

/// Returns what the header says, and the position of the payload.
fn parse(key: &str, stored: &[u8]) -> Result<(Header, usize), Defect> {
    let Some((magic, [version, ..])) = stored.split_first_chunk() else {
        return Err(Defect::Damaged);
    };
    if *magic != MAGIC {
        return Err(Defect::Foreign);
    }
    let begin = match version {
        1 => check_1(key, stored)?,
        2 => check(key, stored)?,
        _ => return Err(Defect::OtherVersion),
    };
    let codec = codec_of(stored[4]).ok_or(Defect::OtherVersion)?;
    let flags = stored[5];
    if flags & !(KEPT | TAGGED) != 0 {
        return Err(Defect::OtherVersion);
    }
    let tags = match flags & TAGGED {
        0 => None,
        _ => {
            let tags = stored.get(LEN..begin).and_then(Tags::read);
            Some(tags.ok_or(Defect::Damaged)?)
        }
    };
    let meta = Meta::from_header(
        u64_at(stored, 8),
        u64_at(stored, 16),
        u32_at(stored, 24),
        flags & KEPT != 0,
    );
    Ok((Header { codec, meta, tags }, begin))
}

/// Checks that the stored bytes are undamaged and belong to the key. Returns the position of the
/// payload.
fn check(key: &str, stored: &[u8]) -> Result<usize, Defect> {
    let begin = usize::from(stored.get(6..).map_or(0, |rest| u16_at(rest, 0)));
    let Some(payload) = stored.get(begin.max(LEN)..) else { return Err(Defect::Damaged) };
    let (before, after) = (&stored[..CHECKED], &stored[CHECKED + 4..]);
    if begin < LEN
        || u32_at(stored, 28) as usize != payload.len()
        || u32_at(stored, CHECKED) != checksum(&[before, after])
    {
        return Err(Defect::Damaged);
    }
    if u64_at(stored, 32) != key_check(key) {
        return Err(Defect::OtherKey);
    }
    Ok(begin)
}

/// [`check`] for bytes of version 1.
fn check_1(key: &str, stored: &[u8]) -> Result<usize, Defect> {
    let Some(payload) = stored.get(LEN_1..) else { return Err(Defect::Damaged) };
    if u32_at(stored, 32) as usize != payload.len()
        || u32_at(stored, CHECKED_1) != checksum(&[&stored[..CHECKED_1], payload])
    {
        return Err(Defect::Damaged);
    }
    if u32_at(stored, 28) != key_hash(key) {
        return Err(Defect::OtherKey);
    }
    Ok(LEN_1)
}

/// Reads from the first [`HEAD`] stored bytes the logical end, and whether the value has tags.
/// `None` if it has neither, or the bytes were not written by larder. Without the payload the
/// checksum cannot be checked, so the value may still be unreadable.
#[cfg(any(feature = "redis", feature = "sqlite"))]
pub(crate) fn logical_end(head: &[u8]) -> Option<Meta> {
    let header: &[u8; HEAD] = head.first_chunk()?;
    // Flags and times have the same positions in both versions.
    let is_own = header[..3] == MAGIC && matches!(header[3], 1 | 2);
    let [is_kept, is_tagged] = [KEPT, TAGGED].map(|flag| is_own && header[5] & flag != 0);
    (is_kept || is_tagged).then(|| {
        let [created, expires] = [8, 16].map(|at| u64_at(header, at));
        let mut meta = Meta::from_header(created, expires, 0, is_kept);
        meta.set_tagged(is_tagged);
        meta
    })
}

/// Reads a counter, which stores keep as decimal text so that their own arithmetic works on it.
fn counter(stored: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(stored).ok().filter(|text| text.len() <= 20)?;
    // Only the canonical form is a counter: "007" or "+7" is a text.
    text.parse::<i64>().ok().filter(|number| number.to_string() == text)
}

fn checksum(parts: &[&[u8]]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    parts.iter().for_each(|part| crc.update(part));
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

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    number(bytes, at).map_or(0, u16::from_be_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    number(bytes, at).map_or(0, u32::from_be_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    number(bytes, at).map_or(0, u64::from_be_bytes)
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Tag;

    const KEY: &str = "users:7";

    fn read(key: &str, stored: Bytes) -> Result<Bytes, Defect> {
        match unframe(key, stored, Codec::MessagePack) {
            Unframed::Framed(_, payload) => Ok(payload),
            Unframed::Defect(defect) => Err(defect),
            _ => panic!("it begins with a header"),
        }
    }

    fn sealed(mut stored: Vec<u8>) -> Bytes {
        let sum = checksum(&[&stored[..CHECKED], &stored[CHECKED + 4..]]);
        stored[CHECKED..CHECKED + 4].copy_from_slice(&sum.to_be_bytes());
        stored.into()
    }

    #[test]
    fn the_hash_of_keys_is_the_one_that_is_documented() {
        #[allow(deprecated, reason = "see key_check")]
        let mut hasher = std::hash::SipHasher::new_with_keys(
            u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7]),
            u64::from_le_bytes([8, 9, 10, 11, 12, 13, 14, 15]),
        );
        hasher.write(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]);
        assert_eq!(hasher.finish(), 0xa129_ca61_49be_45e5, "the example of the paper");
        assert_eq!(key_check(KEY), 0xb6f3_6317_cacb_3a84, "stored bytes outlive the program");
    }

    /// Two keys with the same CRC-32, by which version 1 checked keys.
    #[test]
    fn keys_that_version_1_confused_are_distinguished() {
        let mut seen = std::collections::HashMap::new();
        let (one, other) = (0..)
            .find_map(|at| {
                let key = format!("user:{at}:profile {}", at * 7_919);
                seen.insert(key_hash(&key), key.clone()).map(|other| (key, other))
            })
            .expect("a CRC-32 has 4 billion values");
        assert_ne!(one, other);
        let stored = frame(&one, Codec::MessagePack, (&Meta::default(), None), b"\x01");
        assert_eq!(read(&one, stored.clone()), Ok(Bytes::from_static(b"\x01")));
        assert_eq!(read(&other, stored), Err(Defect::OtherKey));
    }

    #[test]
    fn more_before_the_payload_is_skipped_and_an_unknown_flag_is_a_miss() {
        let plain = frame(KEY, Codec::MessagePack, (&Meta::default(), None), b"\x07");
        let mut longer = plain.to_vec();
        longer.splice(LEN..LEN, *b"more");
        longer[7] += 4;
        assert_eq!(read(KEY, sealed(longer.clone())), Ok(Bytes::from_static(b"\x07")));
        longer[5] |= 4;
        assert_eq!(read(KEY, sealed(longer)), Err(Defect::OtherVersion));
        let mut shorter = plain.to_vec();
        shorter[7] -= 1;
        assert_eq!(read(KEY, sealed(shorter)), Err(Defect::Damaged));
    }

    /// The check of flags in the programs that did not know tags.
    fn is_read_without_tags(stored: &[u8]) -> bool {
        matches!(stored[3], 1 | 2) && stored[5] & !KEPT == 0
    }

    #[test]
    fn a_program_that_does_not_know_tags_misses_tagged_values_and_no_others() {
        let tag = Tag { record: "\0larder:tag:a".into(), generation: 7 };
        let tags = Tags::new("", vec![tag]).expect("they fit");
        let mut kept = Meta::default();
        kept.keep_stale();
        for meta in [Meta::default(), kept] {
            let tagged = frame(KEY, Codec::MessagePack, (&meta, Some(&tags)), b"\x07");
            assert!(!is_read_without_tags(&tagged));
            let Unframed::Framed(header, payload) =
                unframe(KEY, tagged.clone(), Codec::MessagePack)
            else {
                panic!("it begins with a header")
            };
            assert_eq!((header.tags.as_ref(), &payload[..]), (Some(&tags), &b"\x07"[..]));
            assert_eq!(header.meta.has_stale_window(), meta.has_stale_window());
            let untagged = frame(KEY, Codec::MessagePack, (&meta, None), b"\x07");
            assert!(is_read_without_tags(&untagged) && untagged.len() == LEN + 1);
            // The tags are below the checksum.
            let mut damaged = tagged.to_vec();
            damaged[LEN + 4] ^= 1;
            assert_eq!(read(KEY, damaged.into()), Err(Defect::Damaged));
        }
    }

    #[test]
    fn tags_that_are_cut_are_damaged() {
        let mut cut = frame(KEY, Codec::MessagePack, (&Meta::default(), None), b"\x07").to_vec();
        cut[5] |= TAGGED;
        assert_eq!(read(KEY, sealed(cut)), Err(Defect::Damaged));
    }
}
