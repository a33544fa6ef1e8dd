//! Numbers that are read as another type than they were written as: the same number, or an error.

use larder::{CacheValue, Codec, ErrorKind};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const CODECS: [Codec; 2] = [Codec::MessagePack, Codec::Json];

/// As a store would have it, and as memory has it.
fn read<T: Serialize + Clone + Send + Sync + 'static, R: DeserializeOwned + Clone + 'static>(
    value: &T,
    codec: Codec,
) -> [Result<R, ErrorKind>; 2] {
    let object = CacheValue::new(value.clone());
    let stored = object.to_stored("k", codec).unwrap();
    [object.decode(), CacheValue::from_stored("k", stored, codec).decode()]
        .map(|read| read.map_err(|error| error.kind()))
}

#[test]
fn a_float_that_does_not_fit_is_no_infinity() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Point<F> {
        x: F,
        rest: Option<Vec<F>>,
    }
    for codec in CODECS {
        for large in [1e300, -1e300, f64::MAX, f64::from(f32::MAX) * 2.0] {
            for read in read::<_, f32>(&large, codec) {
                assert_eq!(read, Err(ErrorKind::Decode), "{large} under {codec}");
            }
            for read in read::<_, Vec<f32>>(&vec![1.0, large], codec) {
                assert_eq!(read, Err(ErrorKind::Decode), "{large} in a list under {codec}");
            }
            for read in read::<_, (f32, Option<f32>)>(&(1.0, Some(large)), codec) {
                assert_eq!(read, Err(ErrorKind::Decode), "{large} in a tuple under {codec}");
            }
            for read in
                read::<_, BTreeMap<String, f32>>(&BTreeMap::from([("a".to_owned(), large)]), codec)
            {
                assert_eq!(read, Err(ErrorKind::Decode), "{large} in a map under {codec}");
            }
            for read in
                read::<_, Point<f32>>(&Point { x: 1.0, rest: Some(vec![2.0, large]) }, codec)
            {
                assert_eq!(read, Err(ErrorKind::Decode), "{large} in a struct under {codec}");
            }
        }
        for fits in [0.1, f64::from(f32::MAX), f64::MIN_POSITIVE] {
            for read in read::<_, f32>(&fits, codec) {
                assert_eq!(read, Ok(fits as f32), "{fits} under {codec}");
            }
        }
    }
    for odd in [f64::INFINITY, f64::NEG_INFINITY] {
        for read in read::<_, f32>(&odd, Codec::MessagePack) {
            assert_eq!(read, Ok(odd as f32), "an infinity is one");
        }
    }
}

/// As `docs/codecs.md` says: what is stored is never read as another number.
#[test]
fn a_wide_field_of_a_flattened_type_is_not_read_back() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Inner {
        wide: u128,
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Flat {
        #[serde(flatten)]
        inner: Inner,
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "kind")]
    enum Tagged {
        A { wide: u128 },
    }
    for wide in [0, 5, u128::MAX] {
        let (flat, tagged) = (Flat { inner: Inner { wide } }, Tagged::A { wide });
        assert_eq!(read::<_, Flat>(&flat, Codec::MessagePack), [Ok(flat), Err(ErrorKind::Decode)]);
        assert_eq!(
            read::<_, Tagged>(&tagged, Codec::MessagePack),
            [Ok(tagged), Err(ErrorKind::Decode)]
        );
    }
}

#[test]
fn a_wide_integer_that_fits_is_the_integer_that_it_is() {
    for codec in CODECS {
        for read in read::<_, u64>(&5u128, codec) {
            assert_eq!(read, Ok(5));
        }
        for read in read::<_, i8>(&-5i128, codec) {
            assert_eq!(read, Ok(-5));
        }
        for read in read::<_, u64>(&u128::from(u64::MAX), codec) {
            assert_eq!(read, Ok(u64::MAX));
        }
        for read in read::<_, u64>(&i128::from(u64::MAX), codec) {
            assert_eq!(read, Ok(u64::MAX));
        }
        for read in read::<_, Vec<u16>>(&vec![1u128, 65_535], codec) {
            assert_eq!(read, Ok(vec![1, 65_535]));
        }
        for read in read::<_, u128>(&7u8, codec) {
            assert_eq!(read, Ok(7));
        }
        for wide in [0, 1, u128::from(u64::MAX) + 1, u128::MAX] {
            for read in read::<_, u128>(&wide, codec) {
                assert_eq!(read, Ok(wide));
            }
        }
        for wide in [-1, i128::MIN, i128::MAX, i128::from(i64::MIN) - 1] {
            for read in read::<_, i128>(&wide, codec) {
                assert_eq!(read, Ok(wide));
            }
        }
        for read in read::<_, u64>(&u128::MAX, codec) {
            assert_eq!(read, Err(ErrorKind::Decode));
        }
    }
    assert_eq!(CacheValue::new(5u128).as_counter().unwrap(), 5);
}

/// Sixteen bytes, as they were written for every wide integer.
#[test]
fn wide_integers_of_version_1_are_read() {
    let mut payload = vec![0xC4, 16];
    payload.extend(5u128.to_be_bytes());
    let value = CacheValue::from_stored("k", super::framed("k", &payload), Codec::MessagePack);
    assert_eq!(value.decode::<u128>().unwrap(), 5);
}
