//! Bytes that are damaged, foreign, misdirected, of another version, or meant to hurt.

use super::framed;
use crate::support::noise::{noise, watch};
use crate::trials::{rng, trials};
use bytes::Bytes;
use larder::{
    AsyncCacheAdapter, AsyncCacheWrapper, AsyncMemoryCache, CacheValue, Codec, ErrorKind, Expiry,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, SystemTime};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    id: u64,
    name: String,
    tags: Vec<String>,
    parent: Option<Box<Record>>,
    kind: Kind,
    scores: BTreeMap<String, f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Kind {
    Plain,
    Counted(u32),
    Sized { w: i8, h: i64 },
    Pair(String, Vec<u8>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Tree {
    Leaf(i64),
    Text(String),
    Branch(Vec<Tree>),
    Named(HashMap<String, Tree>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Chain {
    End,
    Link(Box<Chain>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Tagged {
    One { inner: Box<Option<Tagged>> },
    Two(BTreeMap<String, Tree>),
}

fn record() -> Record {
    let parent = Record {
        id: 1,
        name: "root".into(),
        tags: vec![],
        parent: None,
        kind: Kind::Plain,
        scores: BTreeMap::new(),
    };
    Record {
        id: u64::MAX,
        name: "Ada Lovelace".into(),
        tags: vec!["maths".into(), "engines".into()],
        parent: Some(Box::new(parent)),
        kind: Kind::Sized { w: -3, h: 1 << 40 },
        scores: BTreeMap::from([("a".into(), 0.5)]),
    }
}

fn decode<T: DeserializeOwned + Clone + Send + Sync + 'static>(value: &CacheValue) -> Option<T> {
    match value.decode::<T>() {
        Ok(read) => Some(read),
        Err(e) => {
            assert_eq!(e.kind(), ErrorKind::Decode);
            None
        }
    }
}

/// Reads it as everything there is. What comes of it does not matter; that it comes does.
fn read_as_everything(value: &CacheValue) {
    macro_rules! each {
        ($($type:ty),* $(,)?) => {$( let _read = decode::<$type>(value); )*};
    }
    each!(
        u8, i64, u128, f32, bool, char, String, (), Option<u8>, Option<Vec<Option<String>>>, Vec<u8>, Vec<Vec<String>>, [u8; 4],
        (u8, String, Vec<u8>), HashMap<String, u8>, BTreeMap<u32, Tree>, Record, Kind, Tree, Chain, Tagged, Duration, SystemTime,
        std::net::IpAddr, serde_json::Value, std::path::PathBuf, std::num::NonZeroU8, Box<str>, std::sync::Arc<Record>,
    );
    let _ = value.as_counter();
    let _ = value.to_stored("k", Codec::Json);
    let _ = value
        .clone()
        .into_encoded(Codec::MessagePack)
        .map(|value| value.encoded_len(Codec::MessagePack));
    let _ = format!("{value:?} {:?} {}", value.created(), value.is_misdirected());
}

const CODECS: [Codec; 3] = [Codec::MessagePack, Codec::Json, Codec::Raw];

#[test]
fn flipped_bits() {
    let mut rng = rng("flipped_bits");
    let originals = [
        CacheValue::new(record()).to_stored("key", Codec::MessagePack).unwrap(),
        CacheValue::new("world").to_stored("key", Codec::MessagePack).unwrap(),
        CacheValue::new(7u8).to_stored("key", Codec::MessagePack).unwrap(),
        CacheValue::new(vec![0u8; 4_000]).to_stored("key", Codec::MessagePack).unwrap(),
    ];
    for trial in 0..trials(200_000, 1_000_000) {
        let original = &originals[if trial % 50 == 0 { 3 } else { trial % 3 }];
        let mut damaged = original.to_vec();
        for _ in 0..rng.usize(1..4) {
            let bit = rng.usize(..damaged.len() * 8);
            damaged[bit / 8] ^= 1 << (bit % 8);
        }
        let same = damaged[..] == original[..];
        let value = CacheValue::from_stored("key", damaged.into(), Codec::MessagePack);
        assert!(same || value.is_unreadable(), "trial {trial}: damage was not noticed");
        assert!(same || decode::<Record>(&value).is_none() && decode::<String>(&value).is_none());
    }
}

#[test]
fn cut_and_lengthened() {
    let original = CacheValue::new(record()).to_stored("key", Codec::MessagePack).unwrap();
    assert_eq!(
        CacheValue::from_stored("key", original.clone(), Codec::MessagePack)
            .decode::<Record>()
            .unwrap(),
        record()
    );
    for length in 0..original.len() {
        let value = CacheValue::from_stored("key", original.slice(..length), Codec::MessagePack);
        assert!(value.is_unreadable(), "cut to {length}");
        read_as_everything(&value);
    }
    let longer = [&original[..], b"\0"].concat();
    assert!(CacheValue::from_stored("key", longer.into(), Codec::MessagePack).is_unreadable());
}

#[test]
fn another_key_another_version() {
    let stored = CacheValue::new(7).to_stored("key", Codec::MessagePack).unwrap();
    let value = CacheValue::from_stored("kez", stored.clone(), Codec::MessagePack);
    assert!(value.is_unreadable() && value.is_misdirected());
    for version in (0..=255).filter(|version| ![1, 2].contains(version)) {
        let mut newer = stored.to_vec();
        newer[3] = version;
        let value = CacheValue::from_stored("key", newer.into(), Codec::MessagePack);
        assert!(value.is_unreadable() && !value.is_misdirected());
        assert!(value.decode::<i32>().unwrap_err().to_string().contains("version"));
    }
}

/// What other programs store, and what `redis-cli SET k hello` leaves.
#[test]
fn foreign_bytes() {
    let foreign: [&[u8]; 14] = [
        b"hello",
        b"",
        b" ",
        b"null",
        b"{\"a\":1}",
        b"[1,2]",
        b"007",
        b"+7",
        b"-",
        b"99999999999999999999",
        b"1.5",
        b"\x80\x04K\x05.",
        b"\xff\xfe",
        b"\xC1",
    ];
    for bytes in foreign {
        let value = CacheValue::from_stored("k", Bytes::copy_from_slice(bytes), Codec::MessagePack);
        assert!(value.is_unreadable(), "{bytes:?}");
        read_as_everything(&value);
        for codec in CODECS {
            read_as_everything(&CacheValue::from_stored("k", Bytes::copy_from_slice(bytes), codec));
        }
    }
    for counter in [0, -1, 42, i64::MAX, i64::MIN] {
        for codec in CODECS {
            let value = CacheValue::from_stored("k", counter.to_string().into(), codec);
            assert_eq!(
                (value.decode::<i64>().unwrap(), value.as_counter().unwrap()),
                (counter, counter),
                "{codec}"
            );
        }
    }
    assert_eq!(
        CacheValue::from_stored("k", "hello".into(), Codec::Raw).decode::<String>().unwrap(),
        "hello"
    );
    assert_eq!(
        CacheValue::from_stored("k", "{\"a\":1}".into(), Codec::Json)
            .decode::<HashMap<String, u8>>()
            .unwrap()["a"],
        1
    );
}

/// Values that look like a header, JSON or compressed data come back as they are.
#[test]
fn values_that_look_like_something_else() {
    let header = CacheValue::new(7).to_stored("k", Codec::MessagePack).unwrap().to_vec();
    let lookalikes = [
        header,
        b"\xC1LD\x01".to_vec(),
        b"{\"a\":1}".to_vec(),
        b"42".to_vec(),
        b"\x1f\x8b\x08".to_vec(),
        b"\x28\xb5\x2f\xfd".to_vec(),
    ];
    for bytes in lookalikes {
        for codec in CODECS {
            let stored = CacheValue::new(bytes.clone()).to_stored("k", codec).unwrap();
            let back = CacheValue::from_stored("k", stored, codec).decode::<Vec<u8>>();
            assert_eq!(back.unwrap(), bytes, "{codec}");
        }
    }
    for text in ["42", "null", "\u{1}", "{}", "-0"] {
        for codec in CODECS {
            let stored = CacheValue::new(text).to_stored("k", codec).unwrap();
            assert_eq!(
                CacheValue::from_stored("k", stored, codec).decode::<String>().unwrap(),
                text,
                "{codec}"
            );
        }
    }
}

#[test]
fn random_bytes() {
    let mut rng = rng("random_bytes");
    let alive = CacheValue::new(record()).into_encoded(Codec::MessagePack).unwrap();
    let genuine = alive.to_stored("k", Codec::MessagePack).unwrap().slice(44..).to_vec();
    for trial in 0..trials(20_000, 500_000) {
        let mut payload: Vec<u8> = match trial % 4 {
            0 => (0..rng.usize(..64)).map(|_| rng.u8(..)).collect(),
            // MessagePack's own markers, in any order.
            1 => (0..rng.usize(1..24))
                .map(|_| {
                    rng.choice([
                        0x80, 0x91, 0x9f, 0xa1, 0xc0, 0xc2, 0xc4, 0xca, 0xcf, 0xd9, 0xdc, 0xde,
                        0xff, 1u8,
                    ])
                    .unwrap()
                })
                .collect(),
            2 => (0..rng.usize(1..40))
                .map(|_| rng.choice(*b"[]{}\",:0123456789.eE+-ntfalsruxyz\\ ").unwrap())
                .collect(),
            _ => genuine.clone(),
        };
        if trial % 4 == 3 {
            for _ in 0..rng.usize(1..6) {
                let at = rng.usize(..payload.len());
                payload[at] = rng.u8(..);
            }
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            read_as_everything(&CacheValue::from_stored(
                "k",
                framed("k", &payload),
                Codec::MessagePack,
            ));
            for codec in CODECS {
                read_as_everything(&CacheValue::from_stored("k", payload.clone().into(), codec));
            }
        }));
        assert!(outcome.is_ok(), "trial {trial}: a panic for {payload:02x?}");
    }
}

#[test]
fn deep_nesting_on_a_small_stack() {
    let work = || {
        for depth in [63, 64, 65, 200, 10_000, 1_000_000] {
            let payloads = [
                [vec![0x91; depth], vec![1]].concat(),
                [[0x81, 0xa1, b'a'].repeat(depth), vec![1]].concat(),
                [[0x81, 0xa4, b'L', b'i', b'n', b'k'].repeat(depth), b"\xa3End".to_vec()].concat(),
            ];
            for payload in payloads {
                let value = CacheValue::from_stored("k", framed("k", &payload), Codec::MessagePack);
                assert!(!value.is_unreadable());
                read_as_everything(&value);
                assert_eq!(
                    decode::<serde_json::Value>(&value).is_some(),
                    depth <= 63 || depth == 64 && payload[0] != 0,
                    "depth {depth}"
                );
            }
            for text in [
                format!("{}1{}", "[".repeat(depth), "]".repeat(depth)),
                "[".repeat(depth),
                "{\"a\":".repeat(depth),
                format!("{}\"End\"{}", "{\"Link\":".repeat(depth), "}".repeat(depth)),
            ] {
                read_as_everything(&CacheValue::from_stored("k", text.into(), Codec::Json));
            }
        }
    };
    std::thread::Builder::new()
        .stack_size(if cfg!(debug_assertions) { 2 << 20 } else { 512 << 10 })
        .spawn(work)
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn lengths_that_lie() {
    watch();
    for marker in [
        &[0xdd, 255, 255, 255, 255][..],
        &[0xdf, 255, 255, 255, 255],
        &[0xdb, 255, 255, 255, 255],
        &[0xc6, 255, 255, 255, 255],
    ] {
        for nested in 0..4 {
            let payload = [vec![0x91; nested], marker.to_vec(), vec![1; 100]].concat();
            let value = CacheValue::from_stored("k", framed("k", &payload), Codec::MessagePack);
            let begun = std::time::Instant::now();
            read_as_everything(&value);
            assert!(begun.elapsed() < Duration::from_secs(1) + noise(), "{:?}", begun.elapsed());
        }
    }
}

/// The same through the wrapper: a plain get is a miss, `get_or_set` heals, and the batch goes on.
#[tokio::test]
async fn through_the_wrapper() {
    let memory = AsyncMemoryCache::builder().encoded().build();
    let cache = AsyncCacheWrapper::new(memory.clone()).unwrap();
    let keep = async |bytes: &[u8]| {
        let stored = Bytes::copy_from_slice(bytes);
        let value = CacheValue::from_stored("k", stored, Codec::MessagePack);
        memory.set("k", value, Expiry::Never).await.unwrap();
    };
    for (bytes, is_miss) in [
        (&b"hello"[..], true),
        (b"\xC1LD\x09 from the future, where headers are longer than forty bytes", true),
        (&framed("k", b"\xa5world"), false),
    ] {
        keep(bytes).await;
        match cache.get::<u64>("k").await {
            Ok(found) => assert!(is_miss && found.is_none()),
            Err(e) => assert!(
                !is_miss
                    && e.kind() == ErrorKind::Decode
                    && e.key() == Some("k")
                    && e.to_string().contains("u64")
            ),
        }
        assert_eq!(cache.get_or_set("k", 5u64).await.unwrap(), 5);
        assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(5));
        keep(bytes).await;
        assert!(cache.remove("k").await.unwrap(), "remove never decodes");
    }
    keep(b"hello").await;
    cache.set("other", 1u8).await.unwrap();
    assert_eq!(cache.get_many::<u8, _>(["k", "other"]).await.unwrap(), [None, Some(1)]);
    assert!(cache.update_timeout::<u8>("k", Expiry::Never).await.unwrap_err().is_not_found());
    assert_eq!(cache.take::<u8>("k").await.unwrap(), None);
    assert!(!cache.contains("k").await.unwrap());
}
