use std::mem::forget;
use std::thread;

use serde::de::IgnoredAny;

use super::*;

#[derive(Serialize, Deserialize)]
struct Link {
    z: Option<Box<Link>>,
}

#[derive(Serialize, Deserialize)]
struct List(Vec<List>);

#[derive(Serialize, Deserialize)]
struct Map(HashMap<String, Map>);

#[derive(Serialize, Deserialize)]
enum Tree {
    Leaf,
    One(Box<Tree>),
    Two(Box<Tree>, u8),
    Named { z: Box<Tree> },
}

#[derive(Serialize, Deserialize)]
struct Endless(Option<Box<Endless>>);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Leaf(u8),
    Many(Vec<Untagged>),
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "t")]
enum Tagged {
    Leaf,
    Node { z: Option<Box<Tagged>>, name: Option<String> },
}

#[derive(Serialize, Deserialize)]
struct Flat {
    #[serde(flatten)]
    rest: HashMap<String, Flat>,
}

#[derive(Serialize, Deserialize)]
struct Mixed {
    a: String,
    #[serde(flatten)]
    tail: Tail,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "t")]
enum Tail {
    End,
    More { z: Option<Box<Mixed>>, b: String, c: Vec<String>, d: Option<u64> },
}

#[derive(Serialize, Deserialize)]
struct Pair(u8, Option<Box<Pair>>);

const STACK: usize = 512 * 1024;

/// A stack overflow aborts the process, so a test that ends has shown that there was none.
fn on_small_stack(run: impl FnOnce() + Send + 'static) {
    thread::Builder::new().stack_size(STACK).spawn(run).unwrap().join().unwrap();
}

fn nested(open: &str, core: &str, close: &str, levels: usize) -> String {
    [&open.repeat(levels), core, &close.repeat(levels)].concat()
}

/// Shallow documents can be read, deep ones are errors. Near 64 levels both may happen, because one
/// level of the document is one or two levels of the type.
fn probe<T: DeserializeOwned + 'static>(
    open: &'static str,
    core: &'static str,
    close: &'static str,
) {
    on_small_stack(move || {
        for levels in
            [1, 2, 16, 31, 32, 33, 62, 63, 64, 65, 126, 127, 128, 1_000, 100_000, 1_000_000]
        {
            let name = std::any::type_name::<T>();
            let json = nested(open, core, close, levels);
            let read = from_json::<T>(json.as_bytes());
            assert!(read.is_ok() || levels > 16, "{name} {levels}");
            assert!(read.is_err() || levels <= 64, "{name} {levels}");
            let read = from_msgpack::<T>(&msgpack_of(open, core, close, levels));
            assert!(read.is_ok() || levels > 16, "{name} {levels} {:?}", read.err());
            assert!(read.is_err() || levels <= 64, "{name} {levels}");
        }
    });
}

/// The same document in MessagePack, where closing a container takes no bytes. `z` sorts last, so
/// the bytes before the core open the levels.
fn msgpack_of(open: &str, core: &str, close: &str, levels: usize) -> Vec<u8> {
    let pack = |json: &str| to_msgpack(&serde_json::from_str::<Value>(json).unwrap()).unwrap();
    let mut head = pack(&nested(open, "null", close, 1));
    assert_eq!(head.pop(), Some(0xc0));
    [head.repeat(levels), pack(core)].concat()
}

#[test]
fn of_what_is_read() {
    probe::<Link>(r#"{"z":"#, "null", "}");
    probe::<List>("[", "[]", "]");
    probe::<Map>(r#"{"k":"#, "{}", "}");
    probe::<Tree>(r#"{"One":"#, r#""Leaf""#, "}");
    probe::<Tree>(r#"{"Named":{"z":"#, r#""Leaf""#, "}}");
    probe::<Untagged>("[", "1", "]");
    probe::<Tagged>(r#"{"t":"Node","z":"#, r#"{"t":"Leaf"}"#, "}");
    probe::<Tagged>(r#"{"t":"Node","name":null,"z":"#, "null", "}");
    probe::<Flat>(r#"{"k":"#, "{}", "}");
    probe::<Mixed>(r#"{"a":"a","b":"b","c":["c"],"t":"More","z":"#, "null", "}");
    probe::<Value>("[", "1", "]");
    probe::<Value>(r#"{"k":"#, "1", "}");
    probe::<Pair>("[1,", "null", "]");
}

#[test]
fn of_what_takes_no_input() {
    on_small_stack(|| {
        assert!(from_msgpack::<Endless>(&[1]).is_err());
        assert!(from_json::<Endless>(b"1").is_err());
    });
}

#[test]
fn of_what_is_ignored() {
    on_small_stack(|| {
        for levels in [1, 63, 64, 65, 1_000, 100_000, 1_000_000] {
            let read = from_msgpack::<IgnoredAny>(&msgpack_of("[", "1", "]", levels));
            assert_eq!(read.is_ok(), levels <= 64, "{levels}");
            // serde_json ignores without recursion.
            from_json::<IgnoredAny>(nested("[", "1", "]", levels).as_bytes()).unwrap();
        }
    });
}

#[test]
fn what_can_be_written_can_be_read() {
    on_small_stack(|| {
        let mut deepest = [0; 4];
        for levels in 1..100 {
            let mut list = List(vec![]);
            let mut link = Link { z: None };
            let mut one = Tree::Leaf;
            let mut named = Tree::Leaf;
            for n in 0..levels {
                list = List(vec![list]);
                link = Link { z: Some(Box::new(link)) };
                one = Tree::One(Box::new(one));
                named = if n % 2 == 0 {
                    Tree::Named { z: Box::new(named) }
                } else {
                    Tree::Two(Box::new(named), 1)
                };
            }
            fn agrees<T: Serialize + DeserializeOwned>(
                value: &T,
                levels: usize,
                deepest: &mut usize,
            ) {
                if let Ok(bytes) = to_msgpack(value) {
                    *deepest = levels;
                    from_msgpack::<T>(&bytes).map(drop).unwrap();
                    from_json::<T>(&to_json(value).unwrap()).map(drop).unwrap();
                }
            }
            agrees(&list, levels, &mut deepest[0]);
            agrees(&link, levels, &mut deepest[1]);
            agrees(&one, levels, &mut deepest[2]);
            agrees(&named, levels, &mut deepest[3]);
        }
        // A newtype and its `Vec`, a struct and its `Option`, a variant, and a variant with fields.
        assert_eq!(deepest, [31, 31, 63, 31]);
    });
}

#[test]
fn of_what_is_written() {
    fn refused<T: Serialize>(value: T) {
        assert_eq!(to_msgpack(&value).unwrap_err(), too_deep());
        assert!(to_json(&value).unwrap_err().contains(&too_deep()));
        // Dropping the value would recurse to the same depth.
        forget(value);
    }
    on_small_stack(|| {
        let grow = |levels| {
            refused((0..levels).fold(Link { z: None }, |l, _| Link { z: Some(Box::new(l)) }));
            refused((0..levels).fold(List(vec![]), |l, _| List(vec![l])));
            refused(
                (0..levels)
                    .fold(Map(HashMap::new()), |m, _| Map(HashMap::from([(String::new(), m)]))),
            );
            refused((0..levels).fold(Tree::Leaf, |t, _| Tree::One(Box::new(t))));
            refused((0..levels).fold(Tree::Leaf, |t, _| Tree::Two(Box::new(t), 1)));
            refused((0..levels).fold(Tree::Leaf, |t, _| Tree::Named { z: Box::new(t) }));
            refused((0..levels).fold(Endless(None), |e, _| Endless(Some(Box::new(e)))));
            refused((0..levels).fold(Untagged::Leaf(1), |u, _| Untagged::Many(vec![u])));
            refused(
                (0..levels)
                    .fold(Tagged::Leaf, |t, _| Tagged::Node { z: Some(Box::new(t)), name: None }),
            );
            refused((0..levels).fold(Flat { rest: HashMap::new() }, |f, _| Flat {
                rest: HashMap::from([("k".into(), f)]),
            }));
            refused((0..levels).fold(Pair(1, None), |p, _| Pair(1, Some(Box::new(p)))));
            refused((0..levels).fold(Value::Null, |v, _| Value::Array(vec![v])));
        };
        grow(65);
        grow(1_000);
        grow(100_000);
    });
}
