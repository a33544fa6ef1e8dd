//! Tags: names by which entries are removed together.
//!
//! Each tag has a *record* in the store, a random number: its *generation*. An entry with tags
//! bears the generations that were read before its value was computed, and is live while each
//! record is there and equal. Removing a tag removes its record. A generation is never made again,
//! so whatever is lost, evicted or late, no entry comes back.
//!
//! - `mod`: the tags that a cache gives to what it writes
//! - `face`: a cache with tags, as people call it
//! - `owned`: its verbs that write one key
//! - `of_call`: the tags of one call, which are made on a miss only
//! - `reading`: which entries are live
//! - `records`: the generations for a write, and how long records live
//! - `ends`: until when the records live that this process has seen
//! - `removal`: the removal of tags

mod ends;
mod face;
#[cfg(feature = "macros")]
mod of_call;
mod owned;
mod reading;
mod records;
mod removal;

pub(super) use ends::RecordEnds;
pub use face::Tagged;
pub(crate) use face::tagged_options;
#[cfg(feature = "macros")]
pub(crate) use of_call::{CallTags, TaggedWrite};

use super::{AsyncCacheWrapper, View};
use crate::key::{Scope, record_key};
use crate::options::TagFault;
use std::borrow::Cow;
use std::sync::Arc;

/// The most tags of an entry.
const MOST: usize = 16;

/// The names of the tags that a cache gives to what it writes. Usually none.
#[derive(Clone, Debug, Default)]
pub(crate) struct TagNames(Option<Arc<Names>>);

#[derive(Debug)]
struct Names {
    /// The prefix of the tags' namespace, after that of the cache. Empty unless one call alone is
    /// in that namespace.
    within: Box<str>,
    all: Box<[Box<str>]>,
}

impl TagNames {
    /// # Errors
    ///
    /// Too many names, or one that is empty.
    pub(super) fn read<I>(tags: I) -> Result<Self, TagFault>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        Self::read_within("", tags)
    }

    /// [`read`](Self::read), for tags of the namespace with this prefix.
    fn read_within<I>(within: &str, tags: I) -> Result<Self, TagFault>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let mut names: Vec<Box<str>> = Vec::new();
        for tag in tags {
            let name = tag.as_ref();
            if name.is_empty() {
                return Err(TagFault::Empty);
            }
            if names.iter().any(|known| **known == *name) {
                continue;
            }
            if names.len() == MOST {
                return Err(TagFault::TooMany);
            }
            names.push(name.into());
        }
        if names.is_empty() {
            return Ok(Self::default());
        }
        Ok(Self(Some(Arc::new(Names { within: within.into(), all: names.into() }))))
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Box<str>> {
        self.0.as_deref().map(|names| &*names.all).unwrap_or_default().iter()
    }

    /// The prefix of the tags' namespace, for a cache with this scope.
    pub(super) fn prefix<'s>(&self, scope: &'s Scope) -> Cow<'s, str> {
        match self.0.as_deref() {
            Some(names) if !names.within.is_empty() => {
                Cow::Owned([scope.prefix(), &names.within].concat())
            }
            _ => Cow::Borrowed(scope.prefix()),
        }
    }

    /// The keys of the records.
    pub(super) fn records(&self, scope: &Scope) -> Vec<String> {
        let prefix = self.prefix(scope);
        self.iter().map(|name| record_key(&prefix, name)).collect()
    }
}

impl View<'_> {
    /// The cache and options of the view, with these tags.
    pub(super) fn with_tags<I>(self, tags: I) -> AsyncCacheWrapper
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        self.into_cache().given(TagNames::read(tags))
    }
}

impl AsyncCacheWrapper {
    fn given(mut self, read: Result<TagNames, TagFault>) -> Self {
        // Refused by the calls, as other options that are wrong.
        self.options.tag_fault = read.as_ref().err().copied();
        self.tags = read.unwrap_or_default();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(names: &[&str]) -> Result<Vec<String>, TagFault> {
        Ok(TagNames::read(names)?.iter().map(|name| name.to_string()).collect())
    }

    #[test]
    fn tags_of_a_namespace_are_those_of_a_cache_in_this_namespace() {
        let (outer, inner) =
            (Scope::default().nested("a"), Scope::default().nested("a").nested("b"));
        let of_call = TagNames::read_within("b:", ["t"]).unwrap();
        assert_eq!(of_call.records(&outer), TagNames::read(["t"]).unwrap().records(&inner));
        assert_eq!(of_call.prefix(&outer), inner.prefix());
    }

    #[test]
    fn sixteen_different_names_are_tags_and_no_more() {
        assert_eq!(read(&["a", "b", "a"]).unwrap(), ["a", "b"]);
        assert!(TagNames::read([""; 0]).unwrap().is_empty());
        assert_eq!(read(&["a", ""]), Err(TagFault::Empty));
        let mut names: Vec<String> = (0..16).map(|number| number.to_string()).collect();
        names.push("0".to_owned());
        assert_eq!(TagNames::read(&names).unwrap().iter().count(), 16);
        names.push("16".to_owned());
        assert_eq!(TagNames::read(&names).unwrap_err(), TagFault::TooMany);
    }
}
