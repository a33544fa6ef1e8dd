//! Two calls with different arguments never share a key.

use larder::cached;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};

#[cached(key = "{first}:{second}")]
fn colon(first: &str, second: &str) -> bool {
    first == second
}

#[cached(key = "x{{{first}}}:{{{second}::{third}!%")]
fn braces(first: &str, second: &str, third: &str) -> bool {
    first == second && second == third
}

#[cached(key = "{first}25{second}%", namespace = "a:b")]
fn digits(first: &str, second: &str) -> bool {
    first == second
}

#[cached]
fn json(first: String, second: Option<String>, third: Vec<Vec<u8>>) -> bool {
    Some(first) == second && third.is_empty()
}

#[cached(name = "map")]
fn map(all: HashMap<String, Option<i64>>, more: BTreeMap<i32, String>) -> bool {
    all.is_empty() && more.is_empty()
}

/// Text of what keys are made of.
fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[:%{}25!x\"\\\\,]{0,5}", "\\PC{0,3}", Just(String::new())]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn different_texts_have_different_keys(
        (a, b, c) in (text(), text(), text()),
        (d, e, f) in (text(), text(), text()),
    ) {
        let same = a == d && b == e;
        prop_assert_eq!(colon::key(&a, &b) == colon::key(&d, &e), same);
        prop_assert_eq!(digits::key(&a, &b) == digits::key(&d, &e), same);
        prop_assert_eq!(braces::key(&a, &b, &c) == braces::key(&d, &e, &f), same && c == f);
        // The same text, cut at another place.
        let all = format!("{a}:{b}");
        for (at, _) in all.char_indices() {
            let (first, second) = all.split_at(at);
            let same = first == a && second == b;
            prop_assert_eq!(colon::key(first, second) == colon::key(&a, &b), same);
            prop_assert_eq!(digits::key(first, second) == digits::key(&a, &b), same);
        }
    }

    #[test]
    fn different_arguments_have_different_json(
        (a, b, c) in (text(), proptest::option::of(text()), proptest::collection::vec(any::<Vec<u8>>(), 0..2)),
        (d, e, f) in (text(), proptest::option::of(text()), proptest::collection::vec(any::<Vec<u8>>(), 0..2)),
    ) {
        let same = a == d && b == e && c == f;
        prop_assert_eq!(json::key(a.clone(), b, c) == json::key(d.clone(), e, f), same);
        let one = HashMap::from([(a.clone(), None), (d.clone(), Some(1))]);
        let other = HashMap::from([(d.clone(), Some(1)), (a.clone(), None)]);
        let more = BTreeMap::from([(1, a.clone())]);
        let keys = (map::key(one.clone(), more.clone()), map::key(other.clone(), more));
        prop_assert_eq!(keys.0 == keys.1, one == other);
        let less = BTreeMap::from([(1, format!("{a}x"))]);
        prop_assert_ne!(map::key(one, less), keys.0);
    }
}

#[test]
fn keys_look_as_they_are_documented() {
    assert_eq!(colon::key("a:b", "100%"), "a%3Ab:100%25");
    assert_eq!(digits::key("2", ""), "a%3Ab:%3225%");
    assert_eq!(json::key("a".to_owned(), None, vec![]), "it::macros::keys::json:\"a\":null:[]");
    let all = HashMap::from([("b".to_owned(), Some(1)), ("a".to_owned(), None)]);
    assert_eq!(map::key(all, BTreeMap::new()), "map:{\"a\":null,\"b\":1}:{}");
}
