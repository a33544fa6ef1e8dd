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
//! - `reading`: which entries are live
//! - `records`: the generations for a write, and how long records live
//! - `ends`: until when the records live that this process has seen
//! - `removal`: the removal of tags

mod ends;
mod face;
mod owned;
mod reading;
mod records;
mod removal;

pub(super) use ends::RecordEnds;
pub use face::Tagged;
pub(crate) use face::tagged_options;

use super::{AsyncCacheWrapper, View};
use crate::key::{Scope, record_key};
use crate::options::TagFault;
use std::sync::Arc;

/// The most tags of an entry.
const MOST: usize = 16;

/// The names of the tags that a cache gives to what it writes. Usually none.
#[derive(Clone, Debug, Default)]
pub(crate) struct TagNames(Option<Arc<[Box<str>]>>);

impl TagNames {
    /// # Errors
    ///
    /// Too many names, or one that is empty.
    pub(super) fn read<I>(tags: I) -> Result<Self, TagFault>
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
        Ok(Self((!names.is_empty()).then(|| names.into())))
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Box<str>> {
        self.0.as_deref().unwrap_or_default().iter()
    }

    /// The keys of the records.
    pub(super) fn records(&self, scope: &Scope) -> Vec<String> {
        self.iter().map(|name| record_key(scope.prefix(), name)).collect()
    }
}

impl View<'_> {
    /// The cache and options of the view, with these tags.
    pub(super) fn with_tags<I>(self, tags: I) -> AsyncCacheWrapper
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let mut cache = self.into_cache();
        let read = TagNames::read(tags);
        // Refused by the calls, as other options that are wrong.
        cache.options.tag_fault = read.as_ref().err().copied();
        cache.tags = read.unwrap_or_default();
        cache
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(names: &[&str]) -> Result<Vec<String>, TagFault> {
        Ok(TagNames::read(names)?.iter().map(|name| name.to_string()).collect())
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
