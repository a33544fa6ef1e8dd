use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::*;

mod depth;
mod refusals;

fn to_msgpack<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut inner = rmp_serde::Serializer::new(&mut bytes).with_struct_map().with_human_readable();
    serialize(value, &mut inner, Format::MessagePack).map_err(|e| e.to_string())?;
    Ok(bytes)
}

fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    serialize(value, &mut serde_json::Serializer::new(&mut bytes), Format::Json)
        .map_err(|e| e.to_string())?;
    Ok(bytes)
}

fn from_msgpack<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, String> {
    deserialize(&mut rmp_serde::Deserializer::from_read_ref(bytes).with_human_readable())
        .map_err(|e| e.to_string())
}

fn from_json<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, String> {
    deserialize(&mut serde_json::Deserializer::from_slice(bytes)).map_err(|e| e.to_string())
}

/// Asserts that the guard changes no byte, and that the value is read back.
fn msgpack<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T) {
    let mut plain = Vec::new();
    value
        .serialize(
            &mut rmp_serde::Serializer::new(&mut plain).with_struct_map().with_human_readable(),
        )
        .unwrap();
    assert_eq!(to_msgpack(&value).unwrap(), plain);
    assert_eq!(from_msgpack::<T>(&plain).unwrap(), value);
}

fn json<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T) {
    let plain = serde_json::to_vec(&value).unwrap();
    assert_eq!(to_json(&value).unwrap(), plain);
    assert_eq!(from_json::<T>(&plain).unwrap(), value);
}

fn both<T: Serialize + DeserializeOwned + PartialEq + Debug + Clone>(value: T) {
    msgpack(value.clone());
    json(value);
}

mod round_trips {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Unit;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Wrapped(String);

    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Plain {
        first_name: String,
        #[serde(rename = "N")]
        number: i64,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        list: Vec<u32>,
        maybe: Option<String>,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Flat {
        id: u8,
        #[serde(flatten)]
        plain: Plain,
        #[serde(flatten)]
        rest: BTreeMap<String, Value>,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum External {
        Unit,
        New(Plain),
        Tuple(u8, String),
        Struct { a: f64, b: Option<Unit2> },
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "type")]
    enum Internal {
        Unit,
        New(Plain),
        Struct { a: Vec<External> },
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "t", content = "c")]
    enum Adjacent {
        Unit,
        New(Wrapped),
        Tuple(u8, char),
        Struct { a: bool },
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        Number(i64),
        Text(String),
        Plain(Plain),
        Many(Vec<Untagged>),
    }

    #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
    enum Unit2 {
        A,
        B,
    }

    fn plain() -> Plain {
        Plain {
            first_name: "Žofie".into(),
            number: i64::MIN,
            list: vec![1, u32::MAX],
            maybe: Some("x".into()),
        }
    }

    #[test]
    fn scalars() {
        both(true);
        both(i8::MIN);
        both(u64::MAX);
        both(i64::MIN);
        both(1.5_f32);
        both(-0.1_f64);
        both(f64::MAX);
        both('ž');
        both(String::from("text"));
        both(());
        both(Unit);
        both(i128::MIN);
        both(i128::MAX);
        both(u128::MAX);
        both(std::time::Duration::from_millis(1_500));
        both("127.0.0.1".parse::<std::net::IpAddr>().unwrap());
        msgpack(f64::INFINITY);
        assert!(from_msgpack::<f64>(&to_msgpack(&f64::NAN).unwrap()).unwrap().is_nan());
    }

    /// The only case in which the guard changes the written bytes: plain MessagePack would write an
    /// array of numbers.
    #[test]
    fn bytes_are_written_as_bytes_and_read_from_both_forms() {
        let bytes = vec![1_u8, 2, 200];
        let written = to_msgpack(&bytes).unwrap();
        assert_eq!(written, [0xc4, 3, 1, 2, 200]);
        assert_eq!(from_msgpack::<Vec<u8>>(&written).unwrap(), bytes);
        assert_eq!(from_msgpack::<Vec<u8>>(&[0x93, 1, 2, 0xcc, 200]).unwrap(), bytes);
        assert_eq!(to_msgpack(&Some(Vec::<u8>::new())).unwrap(), [0xc4, 0]);
        from_msgpack::<String>(&[0xc4, 1, b'a']).unwrap_err();
        let keys = BTreeMap::from([(bytes, Some(1)), (vec![], None)]);
        assert_eq!(from_msgpack::<BTreeMap<_, _>>(&to_msgpack(&keys).unwrap()).unwrap(), keys);
    }

    #[test]
    fn containers() {
        json(vec![1_u8, 2, 3]);
        both([1_u16; 4]);
        both((1_u8, String::from("a"), [true]));
        both(None::<u8>);
        both(Some(5));
        both(Some(Some(5)));
        json(Some(Vec::<u8>::new()));
        both(Some(Vec::<u16>::new()));
        both(Some(Unit2::A));
        both(vec![Some(1), None]);
        both(Ok::<u8, String>(1));
        both(Wrapped("a".into()));
        both(Some(Wrapped("a".into())));
        both(HashMap::from([("a".to_owned(), vec![1]), ("b".to_owned(), vec![])]));
        both(BTreeMap::from([(1_u8, 'a'), (2, 'b')]));
        both(BTreeMap::from([(Unit2::A, 1), (Unit2::B, 2)]));
        msgpack(BTreeMap::from([((1, 2), 'a')]));
        msgpack(BTreeMap::from([(vec![1_u16], Some(1)), (vec![], None)]));
        both((0..10_000).collect::<Vec<u32>>());
        both((0..5_000).map(|n| (n.to_string(), n)).collect::<HashMap<String, u32>>());
    }

    #[test]
    fn derived() {
        both(plain());
        both(Plain::default());
        both(vec![plain(), Plain::default()]);
        let rest =
            BTreeMap::from([("x".into(), Value::from(vec![1, 2])), ("y".into(), Value::Null)]);
        both(Flat { id: 1, plain: plain(), rest });
        let externals = vec![
            External::Unit,
            External::New(plain()),
            External::Tuple(1, "a".into()),
            External::Struct { a: 0.5, b: Some(Unit2::B) },
        ];
        both(externals.clone());
        both(vec![Internal::Unit, Internal::New(plain()), Internal::Struct { a: externals }]);
        both(vec![
            Adjacent::Unit,
            Adjacent::New(Wrapped("a".into())),
            Adjacent::Tuple(1, 'a'),
            Adjacent::Struct { a: true },
        ]);
        let few = vec![Untagged::Number(1), Untagged::Text("a".into()), Untagged::Plain(plain())];
        both(Untagged::Many(vec![Untagged::Many(few), Untagged::Many(vec![])]));
        both(serde_json::json!({"a": [1, -1, 0.5, "x", null, {"b": {}}], "c": true}));
    }

    #[test]
    fn zero_copy() {
        let bytes = to_msgpack("text").unwrap();
        assert_eq!(from_msgpack::<&str>(&bytes).unwrap(), "text");
        assert_eq!(from_msgpack::<&[u8]>(&[0xc4, 2, 0, 255]).unwrap(), [0, 255]);
        assert_eq!(from_json::<(&str, Option<&str>)>(br#"["a","b"]"#).unwrap(), ("a", Some("b")));
    }
}
