use std::fmt::{self, Formatter};

use serde::de::{EnumAccess, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::json;

use super::*;

#[derive(Serialize)]
struct Unit;
#[derive(Serialize)]
struct New<T>(T);
#[derive(Serialize)]
#[serde(untagged)]
enum Blank {
    Unit,
}

#[test]
fn nulls_within_some() {
    fn refused<T: Serialize>(value: T) {
        assert!(to_msgpack(&value).unwrap_err().contains("read back as None"));
        assert!(to_json(&value).unwrap_err().contains("read back as None"));
        assert!(to_msgpack(&vec![(1, value)]).is_err());
    }
    refused(Some(()));
    refused(Some(Unit));
    refused(Some(None::<u8>));
    refused(Some(Some(None::<u8>)));
    refused(Some(New(None::<u8>)));
    refused(New(Some(New(New(())))));
    refused(Some(Value::Null));
    refused(Some(Blank::Unit));
    to_msgpack(&Some(vec![None::<u8>])).unwrap();
    to_json(&Some(((), None::<u8>, New(None::<u8>)))).unwrap();
}

#[test]
fn floats_json_has_no_word_for() {
    for float in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert!(to_json(&float).unwrap_err().contains("not finite"));
        assert!(to_json(&vec![Some(float as f32)]).unwrap_err().contains("not finite"));
        to_msgpack(&float).unwrap();
    }
}

/// Reads the first element of any container and leaves the rest unread.
#[derive(Debug)]
struct Sloppy<const ENUM: bool>;

impl<'de, const ENUM: bool> Visitor<'de> for Sloppy<ENUM> {
    type Value = Self;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self, A::Error> {
        seq.next_element::<u8>().map(|_| self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        map.next_key::<String>().map(|_| self)
    }

    fn visit_enum<A: EnumAccess<'de>>(self, choice: A) -> Result<Self, A::Error> {
        choice.variant::<String>().map(|_| self)
    }
}

impl<'de, const ENUM: bool> Deserialize<'de> for Sloppy<ENUM> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if ENUM { from.deserialize_enum("Sloppy", &[], Self) } else { from.deserialize_any(Self) }
    }
}

#[test]
fn what_a_visitor_leaves_is_not_taken_for_what_follows() {
    fn refused<T: DeserializeOwned + Debug>(value: &Value) {
        from_msgpack::<T>(&to_msgpack(value).unwrap()).unwrap_err();
        from_json::<T>(&to_json(value).unwrap()).unwrap_err();
    }
    refused::<(Sloppy<false>, u8)>(&json!([[1, 2], 3]));
    refused::<(Sloppy<false>, u8)>(&json!([{"a": 1, "b": 1}, 3]));
    // rmp-serde alone would read (Sloppy, 1).
    refused::<(Sloppy<false>, u8)>(&json!([{"a": 1}, 3]));
    refused::<(Sloppy<true>, u8)>(&json!([{"a": 1}, 3]));
    from_msgpack::<(Sloppy<true>, u8)>(&to_msgpack(&("a", 3)).unwrap()).unwrap();
    // Bytes that are read as a tuple: rmp-serde alone returns the first two.
    from_msgpack::<(u8, u8)>(&[0xc4, 3, 1, 2, 3]).unwrap_err();
    assert_eq!(from_msgpack::<(u8, u8)>(&[0xc4, 2, 1, 2]).unwrap(), (1, 2));
}

/// Lengths of four billion elements, nested.
#[test]
fn lengths_reserve_little() {
    struct Hint(usize);
    impl<'de> Deserialize<'de> for Hint {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            struct Look;
            impl<'de> Visitor<'de> for Look {
                type Value = Hint;
                fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
                    f.write_str("a sequence")
                }
                fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Hint, A::Error> {
                    let own = seq.size_hint().unwrap_or(0);
                    let below = seq.next_element::<Hint>().ok().flatten().map_or(0, |hint| hint.0);
                    while seq.next_element::<IgnoredAny>()?.is_some() {}
                    Ok(Hint(own + below))
                }
            }
            from.deserialize_seq(Look)
        }
    }
    let Hint(honest) = from_msgpack(&[0x92, 0x93, 1, 2, 3, 4]).unwrap();
    assert_eq!(honest, 5);
    let huge = [vec![0x91; 20], vec![0xdc, 0xff, 0xff], vec![1; 65_535]].concat();
    let Hint(reserved) = from_msgpack(&huge).unwrap();
    assert_eq!(reserved, 8);
    assert!(from_msgpack::<Vec<Vec<u8>>>(&[0xdd, 255, 255, 255, 255]).is_err());
}

/// A value that looks like serde_json's `RawValue` to a serializer. Only serde_json's serializer
/// turns it into JSON.
#[test]
fn a_piece_of_json_is_refused_where_it_could_not_be_read_back() {
    #[derive(Serialize)]
    #[serde(rename = "$serde_json::private::RawValue")]
    struct Raw {
        #[serde(rename = "$serde_json::private::RawValue")]
        json: &'static str,
    }
    let raw = || Raw { json: "[1]" };
    assert!(to_msgpack(&raw()).is_err());
    assert!(to_msgpack(&Some(vec![raw()])).is_err());
    assert!(to_json(&raw()).is_ok());
}
