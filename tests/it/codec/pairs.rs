//! Written as one type, read as another: the value, or a typed error, and never something else.

use larder::{CacheValue, Codec, ErrorKind};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::time::{Duration, SystemTime};

/// Reads `written` as an `R`: as an object in memory, as stored bytes, and as JSON.
fn check<W, R>(written: W, expected: Option<R>)
where
    W: Serialize + Clone + Send + Sync + 'static,
    R: DeserializeOwned + Clone + PartialEq + Debug + Send + Sync + 'static,
{
    let pair = format!("{} as {}", std::any::type_name::<W>(), std::any::type_name::<R>());
    for (way, read) in [
        ("an object", object::<W, R>(&written)),
        ("bytes", bytes::<W, R>(&written, Codec::MessagePack)),
    ] {
        match (&read, &expected) {
            (Ok(read), Some(expected)) => assert_eq!(read, expected, "{pair}, from {way}"),
            (Ok(read), None) => panic!("{pair}, from {way}: misread as {read:?}"),
            (Err(kind), None) => assert_eq!(*kind, ErrorKind::Decode, "{pair}, from {way}"),
            (Err(kind), Some(_)) => panic!("{pair}, from {way}: {kind}"),
        }
    }
    // JSON knows fewer types, and so may refuse, but must not misread either.
    if let (Ok(read), Some(expected)) = (bytes::<W, R>(&written, Codec::Json), &expected) {
        assert_eq!(read, *expected, "{pair}, from JSON");
    }
}

fn object<
    W: Serialize + Clone + Send + Sync + 'static,
    R: DeserializeOwned + Clone + Send + Sync + 'static,
>(
    written: &W,
) -> Result<R, ErrorKind> {
    CacheValue::new(written.clone()).decode().map_err(|e| e.kind())
}

fn bytes<
    W: Serialize + Clone + Send + Sync + 'static,
    R: DeserializeOwned + Clone + Send + Sync + 'static,
>(
    written: &W,
    codec: Codec,
) -> Result<R, ErrorKind> {
    let stored = CacheValue::new(written.clone()).to_stored("k", codec).map_err(|e| e.kind())?;
    CacheValue::from_stored("k", stored, codec).decode().map_err(|e| e.kind())
}

macro_rules! types {
    ($($item:item)*) => {$(
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        $item
    )*};
}

types! {
    struct Size { width: u32, height: u32 }
    struct SizeTurned { height: u32, width: u32 }
    struct SizeAgain { width: u32, height: u32 }
    struct Range { from: u32, to: u32 }
    struct Renamed { breadth: u32, height: u32 }
    struct Aliased { #[serde(alias = "width")] breadth: u32, height: u32 }
    struct Less { width: u32 }
    struct More { width: u32, height: u32, depth: u32 }
    struct MoreDefault { width: u32, height: u32, #[serde(default)] depth: u32 }
    struct MoreOption { width: u32, height: u32, depth: Option<u32> }
    #[serde(deny_unknown_fields)]
    struct Strict { width: u32 }
    struct Gap { first: u32, #[serde(skip_serializing)] second: u32, third: u32 }
    struct GapRead { first: u32, third: u32 }
    struct GapFull { first: u32, second: u32, third: u32 }
    struct MaybeGap { #[serde(skip_serializing_if = "Option::is_none", default)] a: Option<u32>, #[serde(skip_serializing_if = "Option::is_none", default)] b: Option<u32> }
    struct Flat { id: u32, #[serde(flatten)] size: Size }
    struct FlatAll { id: u32, width: u32, height: u32 }
    struct FlatRest { id: u32, #[serde(flatten)] rest: BTreeMap<String, u32> }
    struct FlatNumbers { id: u32, #[serde(flatten)] rest: BTreeMap<u32, u32> }
    struct Metres(f64);
    struct Pair(u32, u32);
    struct Unit;
    enum Colour { Red, Green, Blue }
    enum ColourTurned { Blue, Green, Red }
    enum ColourLess { Red }
    enum Shape { Dot, Circle(u32), Box { w: u32, h: u32 }, Line(u32, u32) }
    enum ShapeTurned { Line(u32, u32), Box { h: u32, w: u32 }, Dot, Circle(u64) }
    enum ShapeChanged { Dot(u32), Circle { r: u32 }, Box(u32, u32), Line { a: u32, b: u32 } }
    #[serde(tag = "type")]
    enum Tagged { A { x: u32 }, B { x: u32 } }
    #[serde(tag = "t", content = "c")]
    enum Adjacent { A(u32), B(u32) }
    #[serde(untagged)]
    enum Untagged { Number(u32), Text(String), Size(Size) }
}

#[test]
fn structs() {
    let size = Size { width: 3, height: 4 };
    check(size.clone(), Some(SizeTurned { height: 4, width: 3 }));
    check(size.clone(), Some(SizeAgain { width: 3, height: 4 }));
    check(size.clone(), None::<Range>);
    check(size.clone(), None::<Renamed>);
    check(size.clone(), Some(Aliased { breadth: 3, height: 4 }));
    check(size.clone(), Some(Less { width: 3 }));
    check(size.clone(), None::<More>);
    check(size.clone(), Some(MoreDefault { width: 3, height: 4, depth: 0 }));
    check(size.clone(), Some(MoreOption { width: 3, height: 4, depth: None }));
    check(size.clone(), None::<Strict>);
    check(Less { width: 3 }, Some(Strict { width: 3 }));
    check(size.clone(), Some(BTreeMap::from([("width".to_owned(), 3), ("height".to_owned(), 4)])));
    check(HashMap::from([("width", 3), ("height", 4)]), Some(size.clone()));
    check(size.clone(), None::<Vec<u32>>);
    check(size.clone(), None::<(u32, u32)>);
    check(size.clone(), None::<Pair>);
    check(size, Some(Untagged::Size(Size { width: 3, height: 4 })));
}

#[test]
fn what_has_no_names_is_not_read_by_position() {
    check((3, 4), None::<Size>);
    check(Pair(3, 4), None::<Size>);
    check(Pair(3, 4), None::<SizeTurned>);
    check(vec![3, 4], None::<Size>);
    check(vec![Pair(3, 4)], None::<Vec<Size>>);
    check((7, (3, 4)), None::<(u32, Size)>);
    // MessagePack would take a number for a field's place, and for a variant's.
    check(BTreeMap::from([(0, 3), (1, 4)]), None::<Size>);
    check(0, None::<Shape>);
    check(BTreeMap::from([(1, 4)]), None::<Shape>);
    check(vec![1, 2], None::<Vec<Colour>>);
    // Numbers are keys like others where they are no fields.
    check(BTreeMap::from([(5, 6)]), Some(BTreeMap::from([(5u8, 6u8)])));
    check(
        FlatNumbers { id: 1, rest: BTreeMap::from([(5, 6)]) },
        Some(FlatNumbers { id: 1, rest: BTreeMap::from([(5, 6)]) }),
    );
}

#[test]
fn skipped_fields() {
    let gap = Gap { first: 1, second: 2, third: 3 };
    check(gap.clone(), Some(GapRead { first: 1, third: 3 }));
    check(gap, None::<GapFull>);
    check(MaybeGap { a: None, b: Some(2) }, Some(BTreeMap::from([("b".to_owned(), 2)])));
    check(
        vec![MaybeGap { a: None, b: Some(2) }, MaybeGap { a: Some(1), b: None }],
        Some(vec![BTreeMap::from([("b".to_owned(), 2)]), BTreeMap::from([("a".to_owned(), 1)])]),
    );
    let flat = Flat { id: 1, size: Size { width: 3, height: 4 } };
    check(flat.clone(), Some(FlatAll { id: 1, width: 3, height: 4 }));
    check(FlatAll { id: 1, width: 3, height: 4 }, Some(flat.clone()));
    check(
        flat,
        Some(FlatRest {
            id: 1,
            rest: BTreeMap::from([("width".to_owned(), 3), ("height".to_owned(), 4)]),
        }),
    );
}

#[test]
fn numbers() {
    check(5u8, Some(5u64));
    check(5u64, Some(5u8));
    check(300u64, None::<u8>);
    check(-1i32, None::<u32>);
    check(-1i8, Some(-1i64));
    check(u64::MAX, None::<i64>);
    check(i64::MIN, None::<i32>);
    check(5i64, Some(5u64));
    check(1.5f64, None::<i64>);
    check(5.0f64, None::<u8>);
    check(5, Some(5.0f64));
    check(0.5f32, Some(0.5f64));
    check("5", None::<u32>);
    check(5, None::<String>);
    check(true, None::<u8>);
    check(1u8, None::<bool>);
    check(0, None::<Option<bool>>);
    check("true", None::<bool>);
    check(65u8, None::<char>);
    check(Duration::from_secs(5), None::<SystemTime>);
    check(SystemTime::UNIX_EPOCH, None::<Duration>);
    check(Duration::from_secs(5), None::<u64>);
}

#[test]
fn text_and_lists() {
    check("world", Some("world".to_owned()));
    check('a', Some("a".to_owned()));
    check("ab", None::<char>);
    check("text", None::<Vec<u8>>);
    check(b"text".to_vec(), None::<String>);
    check(vec![1, 2, 3], None::<(u8, u8)>);
    check((1, 2), None::<(u8, u8, u8)>);
    check(vec![1, 2], Some([1u8, 2]));
    check(vec![1, 2, 3], None::<[u8; 2]>);
    check((1, 2), Some(vec![1u8, 2]));
    check((1, 2), Some(Pair(1, 2)));
    check((1, "a"), None::<(String, u8)>);
    check(vec![vec![1]], None::<Vec<u8>>);
    check(Vec::<u8>::new(), None::<String>);
    check("", None::<()>);
    check(HashMap::from([("a", 1)]), None::<HashMap<String, String>>);
    check(HashMap::from([("a", 1)]), None::<Vec<(String, u8)>>);
    check(std::net::Ipv4Addr::LOCALHOST, Some("127.0.0.1".to_owned()));
    check("127.0.0.300", None::<std::net::Ipv4Addr>);
}

#[test]
fn options_and_units() {
    check(Some(5), Some(5));
    check(5, Some(Some(5)));
    check(None::<u8>, None::<u8>);
    check((), Some(None::<u8>));
    check(None::<u8>, Some(()));
    check((), None::<u8>);
    check((), None::<String>);
    check((), None::<Vec<u8>>);
    check((), None::<bool>);
    check(Unit, None::<()>);
    check(Unit, Some(Unit));
    check(Metres(1.5), Some(1.5f64));
    check(1.5f64, Some(Metres(1.5)));
    check(vec![Some(1), None], None::<Vec<u8>>);
    check(vec![Some(1), None], Some(vec![Some(1u8), None]));
}

#[test]
fn enums() {
    check(Colour::Red, Some(ColourTurned::Red));
    check(
        vec![Colour::Red, Colour::Green, Colour::Blue],
        Some(vec![ColourTurned::Red, ColourTurned::Green, ColourTurned::Blue]),
    );
    check(Colour::Blue, None::<ColourLess>);
    check(Colour::Red, Some(ColourLess::Red));
    check(0u32, None::<Colour>);
    check("Red", Some(Colour::Red));
    check("red", None::<Colour>);
    check(Colour::Red, Some("Red".to_owned()));
    check(Shape::Circle(3), Some(ShapeTurned::Circle(3)));
    check(Shape::Box { w: 3, h: 4 }, Some(ShapeTurned::Box { h: 4, w: 3 }));
    check(Shape::Line(3, 4), Some(ShapeTurned::Line(3, 4)));
    check(Shape::Dot, Some(ShapeTurned::Dot));
    check(Shape::Dot, None::<ShapeChanged>);
    check(Shape::Circle(3), None::<ShapeChanged>);
    check(Shape::Box { w: 3, h: 4 }, None::<ShapeChanged>);
    check(Shape::Line(3, 4), None::<ShapeChanged>);
    check(Shape::Circle(3), None::<Colour>);
    check(Colour::Red, None::<Shape>);
    check(Tagged::B { x: 1 }, Some(Tagged::B { x: 1 }));
    check(
        Tagged::B { x: 1 },
        Some(BTreeMap::from([
            ("type".to_owned(), Untagged::Text("B".into())),
            ("x".to_owned(), Untagged::Number(1)),
        ])),
    );
    check(Adjacent::B(1), Some(Adjacent::B(1)));
    check(Adjacent::B(1), None::<Tagged>);
    check("text", Some(Untagged::Text("text".into())));
    check(-1, None::<Untagged>);
}

/// What follows the value is noticed, whatever it is.
#[test]
fn trailing_bytes() {
    for (payload, codec) in [
        (&b"5 6"[..], Codec::Json),
        (b"5x", Codec::Json),
        (b"\"a\"\"b\"", Codec::Json),
        (b"[1][2]", Codec::Json),
    ] {
        let value = CacheValue::from_stored("k", payload.to_vec().into(), codec);
        assert_eq!(value.decode::<u8>().unwrap_err().kind(), ErrorKind::Decode);
        assert!(value.decode::<String>().is_err() && value.decode::<Vec<u8>>().is_err());
    }
    for payload in [&[5u8, 6][..], &[0x91, 1, 2], &[0xa1, b'a', 0xc0]] {
        let value = CacheValue::from_stored("k", super::framed("k", payload), Codec::MessagePack);
        assert!(!value.is_unreadable());
        assert!(
            value.decode::<u8>().is_err()
                && value.decode::<String>().is_err()
                && value.decode::<Vec<u8>>().is_err()
        );
    }
    assert_eq!(
        CacheValue::from_stored("k", super::framed("k", &[5]), Codec::MessagePack)
            .decode::<u8>()
            .unwrap(),
        5
    );
}
