//! The words of a table, such as one of TOML or JSON, as texts: they are read as the parameters of
//! a URL are.

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// The word whose value may be a list, of the servers of memcached.
const LIST: &str = "server";

/// Names and values, in the order of the table. A name may occur twice.
pub(crate) struct Words(pub(crate) Vec<(String, String)>);

impl Words {
    /// Takes a word out.
    pub(crate) fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(given, _)| given == name)?;
        Some(self.0.remove(at).1)
    }

    pub(crate) fn of_map<'de, A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        let mut words = Vec::new();
        while let Some((name, word)) = map.next_entry::<String, Word>()? {
            match word {
                Word::Nothing => {}
                Word::List(_) if name != LIST => {
                    let message = format!("the setting `{name}` is one value, and not a list");
                    return Err(A::Error::custom(message));
                }
                Word::Text(value) | Word::List(value) => words.push((name, value)),
            }
        }
        Ok(Self(words))
    }
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Table;
        impl<'de> Visitor<'de> for Table {
            type Value = Words;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of settings")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Words, A::Error> {
                Words::of_map(map)
            }
        }
        from.deserialize_map(Table)
    }
}

/// A value as a text.
enum Word {
    Text(String),
    /// Texts, with commas between them.
    List(String),
    /// A null, which is as good as no word.
    Nothing,
}

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(AnyWord)
    }
}

struct AnyWord;

macro_rules! as_text {
    ($($visit:ident($type:ty);)*) => {$(
        fn $visit<E: Error>(self, value: $type) -> Result<Word, E> {
            Ok(Word::Text(value.to_string()))
        }
    )*};
}

impl<'de> Visitor<'de> for AnyWord {
    type Value = Word;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a number, true or false, or a list of texts")
    }

    as_text! {
        visit_bool(bool);
        visit_i64(i64);
        visit_u64(u64);
        visit_f64(f64);
        visit_str(&str);
    }

    fn visit_unit<E: Error>(self) -> Result<Word, E> {
        Ok(Word::Nothing)
    }

    fn visit_none<E: Error>(self) -> Result<Word, E> {
        Ok(Word::Nothing)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Word, D::Error> {
        Word::deserialize(from)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Word, A::Error> {
        let mut texts: Vec<String> = Vec::new();
        while let Some(text) = list.next_element()? {
            texts.push(text);
        }
        Ok(Word::List(texts.join(",")))
    }
}
