//! Arguments as JSON in a key: equal values give equal text, for any order of the entries in their
//! maps.

use crate::codec::write_json;
use crate::error::{Error, ErrorKind, Result};
use serde::Serialize;
use std::io;

/// Writes `value`.
///
/// # Errors
///
/// [`InvalidKey`](ErrorKind::InvalidKey) for values that JSON cannot represent: a float that is not
/// finite, `Some(None)`, a map whose keys are not text.
pub(super) fn write<T: Serialize + ?Sized>(value: &T, out: impl io::Write) -> Result<()> {
    write_json(value, out).map_err(|error| {
        Error::new(ErrorKind::InvalidKey)
            .with_message("an argument cannot be written as JSON in a key")
            .with_source(error)
    })
}

/// Compact JSON with the entries of its maps in the order of their keys; `None` if it has no map.
pub(super) fn in_order(text: &str) -> Option<String> {
    let has_map = text.contains('{');
    has_map.then(|| String::from_utf8_lossy(&sorted(&mut text.as_bytes())).into_owned())
}

/// One value of compact JSON, with the entries of its maps in the order of their keys. The numbers
/// stay text, because a number of 128 bits would lose digits if it were read.
fn sorted(rest: &mut &[u8]) -> Vec<u8> {
    match rest.first() {
        Some(b'{') => {
            let mut entries = Vec::new();
            items(rest, |rest| {
                let key = plain(rest);
                take(rest, 1);
                entries.push([&key[..], b":", &sorted(rest)].concat());
            });
            entries.sort_unstable();
            [b"{", &entries.join(&b',')[..], b"}"].concat()
        }
        Some(b'[') => {
            let mut entries = Vec::new();
            items(rest, |rest| entries.push(sorted(rest)));
            [b"[", &entries.join(&b',')[..], b"]"].concat()
        }
        _ => plain(rest),
    }
}

/// The items of a list or map, from its first bracket to its last.
fn items(rest: &mut &[u8], mut item: impl FnMut(&mut &[u8])) {
    take(rest, 1);
    while !matches!(rest.first(), None | Some(b']' | b'}')) {
        item(rest);
        if rest.first() == Some(&b',') {
            take(rest, 1);
        }
    }
    take(rest, 1);
}

/// A text, or a value without brackets: a number or a word.
fn plain(rest: &mut &[u8]) -> Vec<u8> {
    if rest.first() != Some(&b'"') {
        let end = rest.iter().position(|byte| b",]}".contains(byte)).unwrap_or(rest.len());
        return take(rest, end);
    }
    let mut is_escaped = false;
    let end = rest.iter().skip(1).position(|byte| {
        let is_end = *byte == b'"' && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        is_end
    });
    take(rest, end.map_or(rest.len(), |end| end + 2))
}

fn take(rest: &mut &[u8], count: usize) -> Vec<u8> {
    let (taken, after) = rest.split_at(count.min(rest.len()));
    *rest = after;
    taken.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn key<T: Serialize + ?Sized>(value: &T) -> Result<String> {
        let mut written = Vec::new();
        write(value, &mut written)?;
        let written = String::from_utf8(written).unwrap();
        Ok(in_order(&written).unwrap_or(written))
    }

    #[test]
    fn maps_are_sorted_at_every_level() {
        let inner = |names: &[&str]| -> HashMap<String, u128> {
            names.iter().map(|name| ((*name).to_owned(), u128::MAX)).collect()
        };
        let names = ["b", "a", "}", "\"", "\\", "a,b", "ü"];
        let once = key(&[inner(&names)]).unwrap();
        for _ in 0..20 {
            assert_eq!(key(&[inner(&names)]).unwrap(), once, "a new map has a new order");
        }
        assert!(once.starts_with("[{"), "{once}");
        assert!(once.contains(&format!("\"a\":{}", u128::MAX)), "{once}");
        let read: Vec<HashMap<String, f64>> = serde_json::from_str(&once).unwrap();
        assert_eq!(read[0].len(), names.len(), "{once}");
    }

    #[test]
    fn plain_values_stay_as_they_are() {
        assert_eq!(key(&(1, true, "a{b", [0u8; 0])).unwrap(), "[1,true,\"a{b\",[]]");
        assert_eq!(key("").unwrap(), "\"\"");
    }

    #[test]
    fn what_json_would_write_as_another_value_has_no_key() {
        assert_eq!(key(&f64::NAN).unwrap_err().kind(), ErrorKind::InvalidKey);
        assert_eq!(key(&Some(None::<u8>)).unwrap_err().kind(), ErrorKind::InvalidKey);
        assert_eq!(key(&Some(None::<u8>)).is_err(), key(&Some(())).is_err());
    }
}
