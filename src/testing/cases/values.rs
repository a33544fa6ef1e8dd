//! Types and their bytes.

use super::*;
use serde::{Deserialize, Deserializer, Serializer, de, ser};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Person {
    name: String,
    age: u32,
    tags: Vec<String>,
    home: Option<Box<Person>>,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Kind {
    Unit,
    Newtype(i64),
    Tuple(u8, String),
    Struct { deep: BTreeMap<String, Vec<Option<bool>>> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Name {
    name: String,
}

/// Bytes that serde sees as bytes; a `Vec<u8>` is a sequence to serde.
#[derive(Clone, Debug, PartialEq)]
struct Blob(Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl<'de> de::Visitor<'de> for Bytes {
            type Value = Blob;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(bytes.to_vec()))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut bytes: A) -> Result<Blob, A::Error> {
                let mut blob = Vec::new();
                while let Some(byte) = bytes.next_element()? {
                    blob.push(byte);
                }
                Ok(Blob(blob))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

/// A value that no codec can write.
#[derive(Clone, Deserialize)]
pub(super) struct Unwritable;

impl Serialize for Unwritable {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(ser::Error::custom("cannot be written"))
    }
}

fn person() -> Person {
    let home =
        Person {
            name: "O'Hara \"☂\"".into(), age: 0, tags: vec![], home: None, kind: Kind::Unit
        };
    let deep = BTreeMap::from([(String::new(), vec![None, Some(true)]), ("k".into(), vec![])]);
    Person {
        name: "清".into(),
        age: u32::MAX,
        tags: vec!["".into(), "a".into()],
        home: Some(Box::new(home)),
        kind: Kind::Struct { deep },
    }
}

pub(crate) async fn integers(f: &Fixture) -> Outcome {
    for number in [
        0,
        1,
        -1,
        127,
        128,
        -128,
        -129,
        i64::from(i32::MAX),
        i64::from(i32::MIN),
        1 << 53,
        i64::MAX,
        i64::MIN,
    ] {
        exact(f, &format!("i64 {number}"), number).await?;
    }
    for number in [u64::MAX, u64::MAX - 1, 1 << 63, 255, 256] {
        exact(f, &format!("u64 {number}"), number).await?;
    }
    exact(f, "i8", i8::MIN).await?;
    exact(f, "u16", u16::MAX).await?;
    exact(f, "u32", u32::MAX).await?;
    Ok(())
}

pub(crate) async fn floats(f: &Fixture) -> Outcome {
    let odd = [
        0.1 + 0.2,
        1.234_567_89,
        -1.5,
        f64::MIN_POSITIVE / 4.0,
        f64::MAX,
        f64::MIN,
        f64::EPSILON,
        1e300,
        123_456_789.0,
    ];
    for (number, float) in odd.into_iter().enumerate() {
        exact(f, &format!("float {number}"), float).await?;
    }
    exact(f, "f32", f32::MAX).await?;
    f.put("minus zero", -0.0f64).await?;
    check_eq!(
        f.read::<f64>("minus zero").await?.map(f64::to_bits),
        Some((-0.0f64).to_bits()),
        "the sign of zero"
    );
    Ok(())
}

pub(crate) async fn floats_that_are_not_finite(f: &Fixture) -> Outcome {
    exact(f, "infinite", f64::INFINITY).await?;
    exact(f, "negative", f64::NEG_INFINITY).await?;
    match f.put("nan", f64::NAN).await {
        Err(refused) => check!(
            refused.kind() == ErrorKind::Encode && f.suite.codec != Codec::MessagePack,
            "NaN: {refused:?}"
        ),
        Ok(()) => check_eq!(f.read::<f64>("nan").await?.map(f64::is_nan), Some(true), "NaN is NaN"),
    }
    Ok(())
}

pub(crate) async fn text(f: &Fixture) -> Outcome {
    let texts = [
        "",
        " ",
        "\0",
        "\r\n",
        "a\r\nset x 0 0 1\r\ny\r\nflush_all\r\n",
        "it's \"quoted\" \\ '); DROP TABLE larder; --",
        "清水",
        "👩‍👩‍👧",
        "\u{feff}bom",
        "%s %n",
    ];
    for (number, text) in texts.into_iter().enumerate() {
        exact(f, &format!("text {number}"), text.to_owned()).await?;
    }
    exact(f, "char", '清').await?;
    Ok(())
}

pub(crate) async fn text_that_looks_like_something(f: &Fixture) -> Outcome {
    let looks = [
        "5",
        "-17",
        "1.5",
        "null",
        "true",
        "\"5\"",
        "{\"a\":[1,2]}",
        "[]",
        "{",
        "9223372036854775808",
        "nil",
        "OK",
        "\u{1}\u{91}",
    ];
    for (number, text) in looks.into_iter().enumerate() {
        exact(f, &format!("looks {number}"), text.to_owned()).await?;
    }
    f.put("number", 5i64).await?;
    check_eq!(f.read::<i64>("number").await?, Some(5), "the number beside the text");
    if f.suite.codec == Codec::MessagePack {
        check_kind!(
            f.read::<i64>("looks 0").await,
            ErrorKind::Decode,
            "the text \"5\" read as a number"
        );
    }
    Ok(())
}

pub(crate) async fn bytes(f: &Fixture) -> Outcome {
    let all: Vec<u8> = (0..=255).collect();
    exact(f, "list of bytes", all.clone()).await?;
    exact(f, "bytes", Blob(all)).await?;
    exact(f, "no bytes", Blob(vec![])).await?;
    exact(f, "not text", Blob(vec![0xFF, 0xFE, 0x80])).await?;
    Ok(())
}

pub(crate) async fn bytes_like_our_own(f: &Fixture) -> Outcome {
    let stored = CacheValue::new("inner").to_stored("k", Codec::MessagePack)?;
    let zlib = [0x78, 0x9C, 0x03, 0x00, 0x00, 0x00, 0x00, 0x01];
    for (number, bytes) in
        [&[0xC1, b'L', b'D'][..], &[0xC1], &stored, &stored[..39], &zlib, b"{\"a\":1}"]
            .into_iter()
            .enumerate()
    {
        exact(f, &format!("magic {number}"), Blob(bytes.to_vec())).await?;
        exact(f, "k", Blob(bytes.to_vec())).await?;
    }
    Ok(())
}

pub(crate) async fn structures(f: &Fixture) -> Outcome {
    exact(f, "person", person()).await?;
    for (number, kind) in
        [Kind::Unit, Kind::Newtype(i64::MIN), Kind::Tuple(0, "t".into())].into_iter().enumerate()
    {
        exact(f, &format!("kind {number}"), kind).await?;
    }
    exact(f, "tuple", (1u8, "two".to_owned(), 3.5f32, [4i16; 3], Some('5'))).await?;
    exact(f, "list", vec![vec![Some(1)], vec![], vec![None, Some(-1)]]).await?;
    exact(f, "set", BTreeSet::from(["a".to_owned(), String::new()])).await?;
    exact(f, "result", vec![Ok::<u8, String>(1), Err("no".into())]).await?;
    Ok(())
}

pub(crate) async fn maps(f: &Fixture) -> Outcome {
    exact(f, "by text", BTreeMap::from([("a".to_owned(), 1), (String::new(), 2)])).await?;
    exact(f, "by number", BTreeMap::from([(i64::MIN, "a".to_owned()), (0, "b".to_owned())]))
        .await?;
    exact(f, "by bool", BTreeMap::from([(true, 1), (false, 0)])).await?;
    exact(f, "by pair", BTreeMap::from([((1, 2), 3), ((-1, 0), 4)])).await?;
    exact(f, "by option", BTreeMap::from([(None, 1), (Some(2), 3)])).await?;
    Ok(())
}

pub(crate) async fn shared(f: &Fixture) -> Outcome {
    f.put("k", Arc::new("shared".to_owned())).await?;
    check_eq!(f.text("k").await?.as_deref(), Some("shared"), "an Arc read as what is in it");
    check_eq!(
        f.read::<Arc<String>>("k").await?.as_deref().map(String::as_str),
        Some("shared"),
        "an Arc read as an Arc"
    );
    Ok(())
}

pub(crate) async fn encoded_beforehand(f: &Fixture) -> Outcome {
    let value = CacheValue::new("encoded").into_encoded(f.suite.codec)?;
    f.set("k", value.clone(), Expiry::Default).await?;
    check_eq!(f.text("k").await?.as_deref(), Some("encoded"), "a value that is bytes already");
    f.put_many(&[Entry::new("l", value, Expiry::Default)]).await?;
    check_eq!(
        f.text("l").await?.as_deref(),
        Some("encoded"),
        "a value that is bytes already, in a batch"
    );
    Ok(())
}

pub(crate) async fn moves_between_keys(f: &Fixture) -> Outcome {
    f.put("a", "moved").await?;
    let Some(value) = f.get("a").await? else {
        return Err(Failure::new("nothing under the first key", Location::caller()));
    };
    f.set("b", value, Expiry::Default).await?;
    check_eq!(
        f.text("b").await?.as_deref(),
        Some("moved"),
        "what was read under one key and set under another"
    );
    Ok(())
}

pub(crate) async fn read_as_another_type(f: &Fixture) -> Outcome {
    f.put("text", "world").await?;
    check_eq!(f.text("text").await?.as_deref(), Some("world"), "a &str as a String");
    f.put("number", 5u32).await?;
    check_eq!(f.read::<i64>("number").await?, Some(5), "a u32 as an i64");
    check_eq!(f.read::<u8>("number").await?, Some(5), "a u32 as a u8");
    check_eq!(f.read::<Option<u64>>("number").await?, Some(Some(5)), "a u32 as an Option<u64>");
    if f.suite.codec == Codec::Raw {
        return Ok(());
    }
    f.put("person", person()).await?;
    check_eq!(
        f.read::<Name>("person").await?,
        Some(Name { name: "清".into() }),
        "a struct as one with fewer fields"
    );
    f.put("map", HashMap::from([("name", "by map")])).await?;
    check_eq!(
        f.read::<Name>("map").await?,
        Some(Name { name: "by map".into() }),
        "a map as a struct"
    );
    f.put("array", [1u8, 2, 3]).await?;
    check_eq!(f.read::<Vec<i64>>("array").await?, Some(vec![1, 2, 3]), "an array as a list");
    Ok(())
}

pub(crate) async fn read_as_the_wrong_type(f: &Fixture) -> Outcome {
    f.put("text", "world").await?;
    check_kind!(f.read::<i64>("text").await, ErrorKind::Decode, "a text as a number");
    check_kind!(f.read::<Person>("text").await, ErrorKind::Decode, "a text as a struct");
    f.put("wide", 300u32).await?;
    check_kind!(f.read::<u8>("wide").await, ErrorKind::Decode, "300 as a u8");
    f.put("negative", -1i64).await?;
    check_kind!(f.read::<u64>("negative").await, ErrorKind::Decode, "-1 as a u64");
    check_eq!(f.text("text").await?.as_deref(), Some("world"), "the text afterwards");
    check_eq!(f.remove("wide").await?, true, "remove of what was read as the wrong type");
    Ok(())
}

pub(crate) async fn unwritable_leaves_the_old(f: &Fixture) -> Outcome {
    let value = || CacheValue::new(Unwritable);
    f.put("k", "old").await?;
    check_kind!(
        f.set("k", value(), Expiry::Default).await,
        ErrorKind::Encode,
        "set of what cannot be encoded"
    );
    check_eq!(f.text("k").await?.as_deref(), Some("old"), "the old value after the refused set");
    if f.offers(Verb::Replace).await? {
        check_kind!(
            f.replace("k", value(), Expiry::Default).await,
            ErrorKind::Encode,
            "replace with what cannot be encoded"
        );
        check_eq!(
            f.text("k").await?.as_deref(),
            Some("old"),
            "the old value after the refused replace"
        );
    }
    if f.offers(Verb::Add).await? {
        check_kind!(
            f.add("new", value(), Expiry::Default).await,
            ErrorKind::Encode,
            "add of what cannot be encoded"
        );
    }
    f.check_missing("new", "whose add was refused").await
}

pub(crate) async fn unwritable_in_a_batch(f: &Fixture) -> Outcome {
    f.put("b", "old").await?;
    let entries = [
        Entry::new("a", CacheValue::new("a"), Expiry::Default),
        Entry::new("b", CacheValue::new(Unwritable), Expiry::Default),
        Entry::new("c", CacheValue::new("c"), Expiry::Default),
    ];
    let [a, b, c] = &f.set_many(&entries).await?[..] else {
        return Err(Failure::new("set_many of three gives not three results", Location::caller()));
    };
    check!(a.is_ok() && c.is_ok(), "the companions of what cannot be encoded: {a:?}, {c:?}");
    check_kind!(
        b.as_ref().map_err(Clone::clone),
        ErrorKind::Encode,
        "the entry that cannot be encoded"
    );
    check_eq!(
        f.texts(&["a", "b", "c"]).await?,
        [Some("a".into()), Some("old".into()), Some("c".into())],
        "what is stored"
    );
    Ok(())
}
