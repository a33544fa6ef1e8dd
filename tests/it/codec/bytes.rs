//! Bytes: written in one piece, whatever holds them, and read as anything that holds bytes, also
//! from what larder wrote once.

use super::framed;
use ::bytes::Bytes;
use larder::{CacheValue, Codec, ErrorKind};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Debug;
use std::sync::Arc;

fn stored<T: Serialize + Send + Sync + 'static>(value: T) -> Bytes {
    CacheValue::new(value).to_stored("k", Codec::MessagePack).unwrap()
}

fn read<T: DeserializeOwned + Clone + 'static>(stored: Bytes) -> T {
    CacheValue::from_stored("k", stored, Codec::MessagePack).decode().unwrap()
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct File {
    name: String,
    content: Vec<u8>,
    parts: Vec<Vec<u8>>,
    by_name: BTreeMap<String, Box<[u8]>>,
    maybe: Option<Arc<[u8]>>,
    queue: VecDeque<u8>,
    set: BTreeSet<u8>,
    fixed: [u8; 4],
    wrapped: Wrapped,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Wrapped(Vec<u8>);

fn some(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 37 + 200) as u8).collect()
}

fn file(len: usize) -> File {
    File {
        name: "a".to_owned(),
        content: some(len),
        parts: vec![some(len), vec![], some(1)],
        by_name: BTreeMap::from([("b".to_owned(), some(len).into())]),
        maybe: Some(some(len).into()),
        queue: some(len).into(),
        set: some(len).into_iter().collect(),
        fixed: [0, 127, 128, 255],
        wrapped: Wrapped(some(len)),
    }
}

/// Every number of a byte array above 127 takes two bytes; bytes take one each, and a few for their
/// length.
#[test]
fn bytes_are_stored_in_one_piece_wherever_they_are() {
    for len in [0, 1, 31, 255, 256, 65_535, 65_536, 1 << 20] {
        let text = stored("x".repeat(len)).len();
        for bytes in [
            stored(some(len)),
            stored::<Box<[u8]>>(some(len).into()),
            stored::<Arc<[u8]>>(some(len).into()),
            stored(Some(some(len))),
            stored(Wrapped(some(len))),
            stored(VecDeque::from(some(len))),
        ] {
            assert!(bytes.len() <= text + 2, "{} for {len} bytes, {text} as text", bytes.len());
        }
        let file = stored(file(len)).len();
        assert!(file <= 6 * len + 700, "{file} for a file of 6 × {len} bytes");
    }
}

#[test]
fn bytes_are_read_as_whatever_holds_bytes() {
    for len in [0, 1, 4, 300, 70_000] {
        let bytes = some(len);
        // As the numbers of an array, by which versions before did it, and in one piece.
        let array = framed("k", &{
            let mut out = Vec::new();
            let numbers: Vec<u16> = bytes.iter().copied().map(u16::from).collect();
            numbers.serialize(&mut rmp_serde::Serializer::new(&mut out)).unwrap();
            out
        });
        for stored in [stored(bytes.clone()), stored(ByteBuf::from(bytes.clone())), array] {
            assert_eq!(read::<Vec<u8>>(stored.clone()), bytes);
            assert_eq!(*read::<Box<[u8]>>(stored.clone()), bytes);
            assert_eq!(*read::<Arc<[u8]>>(stored.clone()), bytes);
            assert_eq!(read::<ByteBuf>(stored.clone()), bytes);
            assert_eq!(read::<VecDeque<u8>>(stored.clone()), bytes);
            assert_eq!(read::<Option<Vec<u8>>>(stored.clone()), Some(bytes.clone()));
            assert_eq!(read::<Wrapped>(stored.clone()), Wrapped(bytes.clone()));
            assert_eq!(read::<Vec<u32>>(stored.clone()).len(), len);
            if len == 4 {
                assert_eq!(read::<[u8; 4]>(stored.clone()), *bytes);
            }
            let wrong = CacheValue::from_stored("k", stored, Codec::MessagePack);
            assert_eq!(wrong.decode::<String>().unwrap_err().kind(), ErrorKind::Decode);
            if len > 4 {
                assert_eq!(wrong.decode::<[u8; 4]>().unwrap_err().kind(), ErrorKind::Decode);
            }
        }
        assert_eq!(read::<File>(stored(file(len))), file(len));
    }
}

/// Behind these, serde keeps what it reads in a buffer of its own, in which bytes are no sequence.
#[test]
fn bytes_in_flattened_tagged_and_untagged_types_come_back() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Flat {
        id: u8,
        #[serde(flatten)]
        file: File,
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "type")]
    enum Tagged {
        File(File),
        Bytes { bytes: Vec<u8>, buf: ByteBuf },
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "t", content = "c")]
    enum Adjacent {
        Bytes(Vec<u8>),
        Pair(Vec<u8>, ByteBuf),
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        Text(String),
        Bytes(Vec<u8>),
        File(File),
    }
    fn back<T: Serialize + DeserializeOwned + Clone + PartialEq + Debug + Send + Sync + 'static>(
        value: T,
    ) {
        assert_eq!(read::<T>(stored(value.clone())), value);
    }
    for len in [0, 3, 300] {
        back(Flat { id: 1, file: file(len) });
        back(Tagged::File(file(len)));
        back(Tagged::Bytes { bytes: some(len), buf: ByteBuf::from(some(len)) });
        back(Adjacent::Bytes(some(len)));
        back(Adjacent::Pair(some(len), ByteBuf::from(some(len))));
        back(Untagged::Bytes(some(len)));
        back(Untagged::File(file(len)));
        let value = read::<serde_json::Value>(stored(some(len)));
        assert_eq!(value, serde_json::to_value(some(len)).unwrap());
    }
}

#[test]
fn bytes_are_bytes_under_raw_and_numbers_under_json() {
    let bytes = some(300);
    let raw = CacheValue::new(bytes.clone()).to_stored("k", Codec::Raw).unwrap();
    assert_eq!(raw, bytes);
    let json = CacheValue::new(vec![1u8, 200]).to_stored("k", Codec::Json).unwrap();
    assert_eq!(&json[..], b"[1,200]");
    for (stored, codec) in [(raw, Codec::Raw), (json, Codec::Json)] {
        let value = CacheValue::from_stored("k", stored, codec);
        assert!(!value.decode::<Vec<u8>>().unwrap().is_empty());
        assert_eq!(*value.decode::<Arc<[u8]>>().unwrap(), value.decode::<Vec<u8>>().unwrap());
    }
}
