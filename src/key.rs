//! Valid keys, and the prefix that a namespace puts before them.

use crate::error::{Error, ErrorKind, Result};
#[cfg(feature = "redis")]
use compact_str::CompactString;
use std::borrow::Cow;
use std::sync::Arc;

/// How a character is written in the name of a namespace that stands for itself in keys only. `:` ends
/// a name, and `%` begins an escape. A NUL begins the mark of records: no name and the key behind it
/// make that mark together.
fn escape(character: char) -> Option<&'static str> {
    match character {
        ':' => Some("%3A"),
        '%' => Some("%25"),
        '\0' => Some("%00"),
        _ => None,
    }
}

/// What stands between the prefix of a namespace and the name of a tag, in the key of the tag's
/// record.
const TAG_MARK: &str = "\0larder:tag:";

/// The key of the record of a tag.
pub(crate) fn record_key(scope: &str, tag: &str) -> String {
    [scope, TAG_MARK, tag].concat()
}

/// Whether a key is that of a record, in any namespace.
#[inline]
pub(crate) fn is_record(key: &str) -> bool {
    // Nearly every key is without a NUL, which is found faster.
    key.as_bytes().contains(&0) && key.contains(TAG_MARK)
}

/// [`check`] for a verb that writes: the records of tags are larder's own.
pub(crate) fn check_write(key: &str) -> Result<()> {
    if is_record(key) {
        return Err(Error::new(ErrorKind::InvalidKey)
            .with_key(key)
            .with_message("keys that contain `\\0larder:tag:` are those of larder's own records"));
    }
    check(key)
}

/// Checks a key: every text except the empty one is a key. Every adapter calls this first.
#[inline]
pub(crate) fn check(key: &str) -> Result<()> {
    if key.is_empty() { Err(empty()) } else { Ok(()) }
}

#[cold]
fn empty() -> Error {
    Error::new(ErrorKind::InvalidKey).with_key("").with_message("a key must not be empty")
}

/// [`check`] for a batch: all keys are checked before anything is changed.
pub(crate) fn check_all<'a>(keys: impl IntoIterator<Item = &'a str>) -> Result<()> {
    keys.into_iter().try_for_each(check)
}

/// Not inlined: most hits in memory have no prefix, and their code should stay short.
#[inline(never)]
fn joined(prefix: &str, key: &str) -> String {
    // `format!` takes six times as long, and every call to a server comes through here.
    let mut whole = String::with_capacity(prefix.len() + key.len());
    whole.push_str(prefix);
    whole.push_str(key);
    whole
}

/// The part of a key space that a handle sees: all keys, or those with a prefix.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope(Option<Arc<str>>);

impl Scope {
    /// The scope of the namespace `name` within this one. Two chains of names never give the same
    /// prefix, because names are escaped: no character of a name can be read as its end.
    pub(crate) fn nested(&self, name: &str) -> Self {
        let mut prefix = self.prefix().to_owned();
        Self::write_name(name, |part| prefix.push_str(part));
        Self::prefixed(prefix)
    }

    /// Shows the prefix of the namespace `name` to `write`, in parts.
    pub(crate) fn write_name(name: &str, mut write: impl FnMut(&str)) {
        for part in name.split_inclusive(|character| escape(character).is_some()) {
            match part.chars().next_back().and_then(escape) {
                Some(escape) => [&part[..part.len() - 1], escape].into_iter().for_each(&mut write),
                None => write(part),
            }
        }
        write(":");
    }

    pub(crate) fn prefixed(prefix: impl Into<Arc<str>>) -> Self {
        Self(Some(prefix.into()).filter(|prefix| !prefix.is_empty()))
    }

    pub(crate) fn prefix(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }

    /// The key with the prefix, as the adapter gets it. Borrowed if there is no prefix, because a
    /// hit must not allocate.
    #[inline]
    pub(crate) fn key<'k>(&self, key: &'k str) -> Result<Cow<'k, str>> {
        check(key)?;
        Ok(match &self.0 {
            None => Cow::Borrowed(key),
            Some(prefix) => Cow::Owned(joined(prefix, key)),
        })
    }

    /// [`key`](Self::key) for an adapter that adds a prefix to nearly every key.
    #[cfg(feature = "redis")]
    pub(crate) fn compact_key(&self, key: &str) -> Result<CompactString> {
        check(key)?;
        let prefix = self.prefix();
        let mut whole = CompactString::with_capacity(prefix.len() + key.len());
        whole.push_str(prefix);
        whole.push_str(key);
        Ok(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(names: &[&str]) -> String {
        names.iter().fold(Scope::default(), |scope, name| scope.nested(name)).prefix().to_owned()
    }

    #[test]
    fn no_two_chains_of_names_have_one_prefix() {
        let names = [
            "", ":", "%", "\0", "%00", "a", "a:", ":a", "a%3A", "a%", "%3A", "%253A", "a:b", "b",
            "3A",
        ];
        let mut chains: Vec<Vec<&str>> = names.iter().map(|name| vec![*name]).collect();
        for first in names {
            for second in names {
                chains.push(vec![first, second]);
                chains.extend(names.map(|third| vec![first, second, third]));
            }
        }
        let mut known = std::collections::HashMap::new();
        for chain in &chains {
            if let Some(other) = known.insert(prefix(chain), chain) {
                panic!("{chain:?} and {other:?} are both {:?}", prefix(chain));
            }
        }
    }

    #[test]
    fn only_a_chain_that_goes_on_begins_with_another() {
        let names = ["", ":", "%", "a", "a:", "a%3A", "a:b"];
        for outer in names {
            for other in names {
                let begins = prefix(&[other]).starts_with(&prefix(&[outer]));
                assert_eq!(begins, outer == other, "{other:?} and {outer:?}");
                assert!(prefix(&[outer, other]).starts_with(&prefix(&[outer])));
            }
        }
    }

    #[test]
    fn names_without_separators_stand_as_they_are() {
        assert_eq!(prefix(&["users", "posts"]), "users:posts:");
        assert_eq!(prefix(&["a:b"]), "a%3Ab:");
        assert_eq!(prefix(&["100%"]), "100%25:");
    }

    #[test]
    fn no_names_and_key_are_a_record_unless_the_key_is_one_by_itself() {
        let names =
            ["\0", "\0larder", "\0larder:tag:", "\0larder:tag", "larder", "tag", "a\0larder"];
        let keys = ["t", "tag:t", "larder:tag:t", ":tag:t", "\0larder:t", "\0larder", ":t"];
        let chains = names.iter().flat_map(|first| names.map(|second| vec![*first, second]));
        for chain in chains.chain(names.map(|name| vec![name])) {
            for key in keys {
                let whole = prefix(&chain) + key;
                assert!(!is_record(&whole), "{chain:?}, {key:?}: {whole:?}");
            }
        }
        assert!(is_record(&(prefix(&["a"]) + "\0larder:tag:t")));
    }
}
