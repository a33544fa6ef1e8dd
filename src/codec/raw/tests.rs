use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;

use serde::de::{DeserializeOwned, Error as _};

use super::*;

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Name(String);

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Mood {
    VeryGood,
    Said(String),
}

/// A type that asks for bytes, as serde_bytes does.
#[derive(Debug, PartialEq)]
struct Blob(Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Blob;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: serde::de::Error>(self, v: &[u8]) -> Result<Blob, E> {
                Ok(Blob(v.to_vec()))
            }
        }
        from.deserialize_byte_buf(Bytes)
    }
}

fn same<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T, raw: impl AsRef<[u8]>) {
    assert_eq!(to_vec(&value).unwrap(), raw.as_ref());
    assert_eq!(from_slice::<T>(raw.as_ref()).unwrap(), value);
}

fn unreadable<T: DeserializeOwned + Debug>(raw: impl AsRef<[u8]>) -> String {
    from_slice::<T>(raw.as_ref()).unwrap_err().to_string()
}

#[test]
fn text_is_as_it_is() {
    same(String::from("žluťoučký \"kůň\"\n"), "žluťoučký \"kůň\"\n");
    same(String::new(), "");
    same('ž', "ž");
    same(Name("a".into()), "a");
    same(Some(Name("a".into())), "a");
    same(Mood::VeryGood, "very-good");
    same("::1".parse::<IpAddr>().unwrap(), "::1");
    same(Arc::<str>::from("a"), "a");
}

#[test]
fn bytes_are_as_they_are() {
    let all: Vec<u8> = (0..=255).collect();
    same(all.clone(), &all);
    same(Vec::<u8>::new(), "");
    same([0_u8, 255, 7], [0, 255, 7]);
    same((1_u8, 2_u8), [1, 2]);
    same(Arc::<[u8]>::from([255]), [255]);
    same(Some(vec![1_u8]), [1]);
    same(Blob(all.clone()), &all);
}

#[test]
fn numbers_are_decimal_text() {
    same(true, "true");
    same(false, "false");
    same(7_u8, "7");
    same(-7_i8, "-7");
    same(i64::MIN, "-9223372036854775808");
    same(u64::MAX, "18446744073709551615");
    same(i128::MIN, i128::MIN.to_string());
    same(u128::MAX, u128::MAX.to_string());
    same(0.1_f32, "0.1");
    same(1.0_f64, "1.0");
    same(f64::MAX, "1.7976931348623157e308");
    same(5e-324_f64, "5e-324");
    same(std::num::NonZeroU8::new(3).unwrap(), "3");
    assert_eq!(to_vec(&-0.0_f64).unwrap(), b"-0.0");
    assert!(from_slice::<f64>(b"-0.0").unwrap().is_sign_negative());
    assert_eq!(from_slice::<f64>(b"3").unwrap(), 3.0);
}

#[test]
fn numbers_are_read_strictly() {
    for text in ["", "+1", " 1", "1 ", "1\n", "0x1", "1_000", "1.0", "256", "-1", "١"] {
        assert_eq!(unreadable::<u8>(text), "the bytes are not a number that fits u8", "{text:?}");
    }
    for text in ["", "+1.0", "inf", "-inf", "NaN", "infinity", "1e999", " 1.0", "1,0", "1e"] {
        unreadable::<f64>(text);
        unreadable::<f32>(text);
    }
    for text in ["", "True", "1", "true ", "yes"] {
        unreadable::<bool>(text);
    }
    unreadable::<char>("");
    unreadable::<char>("ab");
}

#[test]
fn zero_copy() {
    assert_eq!(from_slice::<&str>(b"a").unwrap(), "a");
    assert_eq!(from_slice::<&[u8]>(&[255]).unwrap(), [255]);
    #[derive(serde::Deserialize)]
    struct Held<'a>(#[serde(borrow)] Cow<'a, str>);
    assert!(matches!(from_slice::<Held<'_>>(b"a").unwrap().0, Cow::Borrowed("a")));
}

#[test]
fn any_is_text_or_bytes() {
    #[derive(Debug, PartialEq, serde::Deserialize)]
    #[serde(untagged)]
    enum Either {
        Text(String),
        Bytes(Blob),
    }
    assert_eq!(from_slice::<Either>(b"5").unwrap(), Either::Text("5".into()));
    assert_eq!(from_slice::<Either>(&[255]).unwrap(), Either::Bytes(Blob(vec![255])));
    from_slice::<serde::de::IgnoredAny>(&[255]).unwrap();
}

#[test]
fn all_else_is_refused() {
    #[derive(serde::Serialize)]
    struct Unit;
    #[derive(serde::Serialize)]
    struct Pair(u8, u8);
    #[derive(serde::Serialize)]
    struct Named {
        a: u8,
    }
    fn refused<T: Serialize>(value: T) {
        let message = to_vec(&value).unwrap_err().to_string();
        assert!(message.starts_with("Raw takes text, bytes, and numbers, not "), "{message}");
    }
    refused(());
    refused(None::<u8>);
    refused(Some(()));
    refused(Unit);
    refused(Pair(1, 2));
    refused(Named { a: 1 });
    refused(HashMap::from([("a", 1)]));
    refused(vec!["a"]);
    refused(vec![1_u16]);
    refused(vec![vec![1_u8]]);
    refused((1_u8, "a"));
    refused(Mood::Said("a".into()));
    refused(f32::NAN);
    refused(f64::INFINITY);
    unreadable::<()>("");
    unreadable::<HashMap<String, u8>>("{}");
    unreadable::<Mood>("said");
    unreadable::<[u8; 2]>([1]);
    unreadable::<[u8; 2]>([1, 2, 3]);
    unreadable::<String>([255]);
}

#[test]
fn no_message_contains_the_value() {
    /// A type whose error quotes its input.
    #[derive(Debug)]
    struct Talkative;
    impl<'de> Deserialize<'de> for Talkative {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            Err(D::Error::custom(String::deserialize(from)?))
        }
    }
    let secret = "s3cr3t-115";
    let messages = [
        unreadable::<u64>(secret),
        unreadable::<f64>(secret),
        unreadable::<bool>(secret),
        unreadable::<char>(secret),
        unreadable::<Mood>(secret),
        unreadable::<IpAddr>(secret),
        unreadable::<Talkative>(secret),
        unreadable::<Vec<String>>(secret),
        unreadable::<(u8, String)>(secret),
        unreadable::<[u8; 3]>(secret),
        unreadable::<HashMap<String, u8>>(secret),
        unreadable::<Option<()>>(secret),
        unreadable::<std::num::NonZeroU8>("0"),
    ];
    for message in messages {
        assert!(!message.contains("s3cr3t") && !message.contains("115"), "{message}");
    }
}

#[test]
fn a_type_that_holds_itself_ends() {
    #[derive(Debug, serde::Serialize, serde::Deserialize)]
    struct Endless(Option<Box<Endless>>);
    assert_eq!(unreadable::<Endless>("a"), Error::too_deep().to_string());

    #[derive(serde::Serialize)]
    struct Nest(Vec<Nest>);
    let mut nest = Nest(Vec::new());
    for _ in 0..100_000 {
        nest = Nest(vec![nest]);
    }
    assert_eq!(to_vec(&nest).unwrap_err().to_string(), Error::too_deep().to_string());
    std::mem::forget(nest);
}
