use super::*;
use crate::codec::Codec;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, LinkedList, VecDeque};
use std::fmt::Debug;
use std::sync::Arc;

fn bytes<T: Serialize>(object: &T) -> usize {
    footprint(object).unwrap()
}

/// Asserts that the estimate is between half and twice the actual size, and not less than the
/// object itself.
fn about<T: Serialize>(what: &str, object: T, actual: usize) {
    let said = bytes(&object);
    assert!(said * 2 >= actual && said <= actual * 2, "{what}: {said} for {actual}");
    assert!(said >= size_of_val(&object), "{what}: {said}");
}

const MANY: usize = 1_000;

fn many<T, C: FromIterator<T>>(item: impl Fn(usize) -> T) -> C {
    (0..MANY).map(item).collect()
}

/// The size of an allocation by glibc.
fn allocation(bytes: usize) -> usize {
    (bytes + 8).div_ceil(16).max(2) * 16
}

#[test]
fn lists_count_for_what_their_elements_take() {
    about("bytes", many::<_, Vec<u8>>(|at| at as u8), 24 + MANY);
    about("words", many::<_, Vec<u64>>(|at| at as u64), 24 + 8 * MANY);
    about("floats", many::<_, Box<[f32]>>(|at| at as f32), 16 + 4 * MANY);
    about("a queue", many::<_, VecDeque<u16>>(|at| at as u16), 32 + 2 * MANY);
    about("texts", many::<_, Vec<String>>(|at| at.to_string()), MANY * (24 + allocation(3)));
    about("empty texts", many::<_, Vec<String>>(|_| String::new()), MANY * 24);
    about("boxes", many::<_, Vec<Box<u8>>>(|at| Box::new(at as u8)), MANY * (8 + allocation(1)));
    about(
        "handles",
        many::<_, Vec<Arc<u64>>>(|at| Arc::new(at as u64)),
        MANY * (8 + allocation(24)),
    );
    about("lists", many::<_, Vec<Vec<u32>>>(|_| vec![1, 2, 3]), MANY * (24 + allocation(12)));
    about("pairs", many::<_, Vec<(u64, u64)>>(|at| (at as u64, 1)), MANY * 16);
    about("uneven pairs", many::<_, Vec<(u8, u64)>>(|at| (at as u8, 1)), MANY * 16);
    about("uneven triples", many::<_, Vec<(u8, u32, u8)>>(|at| (1, at as u32, 1)), MANY * 8);
    about("nothing", many::<_, Vec<Option<u64>>>(|_| None), MANY * 16);
    about("an option", many::<_, HashMap<u64, Option<u32>>>(|at| (at as u64, None)), 2_048 * 17);
    about("options", many::<_, Vec<Option<u64>>>(|at| (at % 2 == 0).then_some(1)), MANY * 16);
    about("a chain", many::<_, LinkedList<u64>>(|at| at as u64), MANY * allocation(24));
}

#[test]
fn maps_and_sets_count_for_their_places_too() {
    about("a set", many::<_, HashSet<u64>>(|at| at as u64), 2_048 * 9);
    about("an ordered set", many::<_, BTreeSet<u64>>(|at| at as u64), MANY * 8 * 3 / 2);
    about("a map", many::<_, HashMap<u64, u64>>(|at| (at as u64, 1)), 2_048 * 17);
    let texts: BTreeMap<String, String> = many(|at| (at.to_string(), "x".repeat(50)));
    about("texts", texts, MANY * (48 * 4 / 3 + allocation(3) + allocation(50)));
}

#[test]
fn many_small_maps_and_sets_count_for_their_empty_places() {
    type Ordered<V> = Vec<BTreeMap<V, V>>;
    let leaf = |pair: usize| 24 + allocation(11 * pair + 16);
    let table = |pair: usize| 48 + allocation(4 * pair + 4 + 16);
    for entries in 1..=3 {
        let keys = move |at: usize| (at..at + entries).map(|at| at as u64);
        let pairs = move |at: usize| keys(at).map(|key| (key, key));
        let what = |kind: &str| format!("{kind} of {entries}");
        about(&what("trees"), many::<_, Ordered<u64>>(|at| pairs(at).collect()), MANY * leaf(16));
        let tables = many::<_, Vec<HashMap<u64, u64>>>(|at| pairs(at).collect());
        about(&what("tables"), tables, MANY * table(16));
        let sets = many::<_, Vec<HashSet<u64>>>(|at| keys(at).collect());
        about(&what("sets"), sets, MANY * table(8));
        let ordered = many::<_, Vec<BTreeSet<u64>>>(|at| keys(at).collect());
        about(&what("ordered sets"), ordered, MANY * leaf(8));
        let texts = move |at: usize| keys(at).map(|key| (key.to_string(), key.to_string()));
        let texts = many::<_, Ordered<String>>(|at| texts(at).collect());
        about(&what("texts"), texts, MANY * (leaf(48) + 2 * entries * allocation(4)));
    }
    about("empty maps", many::<_, Vec<HashMap<u64, u64>>>(|_| HashMap::new()), MANY * 48);
}

#[test]
fn objects_count_for_their_own_size_and_what_they_hold() {
    #[derive(Serialize)]
    struct User {
        id: u64,
        name: String,
        boxed: Box<[u64; 8]>,
        #[serde(skip)]
        _inline: [u8; 1_000],
    }
    let user = || User { id: 1, name: "n".repeat(100), boxed: Box::default(), _inline: [0; 1_000] };
    let held = allocation(100) + allocation(64);
    about("an object", user(), size_of::<User>() + held);
    about("a handle on one", Arc::new((1u64, "n".repeat(1_000))), 32 + allocation(1_000));
    about("a number", 7u64, 8);
    about("a text", "x".repeat(1 << 20), 24 + (1 << 20));
}

/// The footprint accepts the values that the codec can write, and refuses the others.
#[test]
fn what_cannot_be_encoded_has_no_footprint() {
    fn alike<T: Serialize + Debug + 'static>(value: T) {
        let written = Codec::MessagePack.encoded_len(&value);
        assert_eq!(footprint(&value).is_ok(), written.is_ok(), "{value:?}");
    }
    alike(Some(()));
    alike(Some(None::<u8>));
    alike(Some(Some(1)));
    alike(vec![Some(None::<u8>)]);
    alike(HashMap::from([("a", f64::NAN)]));
    alike(u128::MAX);
    #[derive(Debug, Default, Serialize)]
    struct Deep(Option<Box<Deep>>);
    for depth in [10, 30, 31, 32, 33, 63, 64, 65, 1_000] {
        alike((0..depth).fold(Deep::default(), |inner, _| Deep(Some(Box::new(inner)))));
    }
}
