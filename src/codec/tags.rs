//! The tags of an entry, as its header holds them.
//!
//! ```text
//! 0   length of the scope   u16, big endian like the rest
//! 2   scope                 the prefix of the namespace, as a text
//! ..  number of tags        u8
//! ..  for each tag: its generation (u64), the length of its name (u16), and the name
//! ```
//!
//! They stand between the header's fixed part and the payload.

use crate::key::record_key;
use bytes::BufMut;
use std::sync::Arc;

/// The most bytes of tags in a header, whose length is an u16.
const MOST: usize = 60_000;

/// A tag of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    /// The key of the tag's record, with the prefix of the namespace.
    pub(crate) record: Box<str>,
    /// What the record contained before the entry was computed. The entry is live while it still
    /// does.
    pub(crate) generation: u64,
}

/// The tags of an entry. The record of a tag bears the flag of a tagged entry, and no tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tags {
    /// The length of the prefix that all records have in common.
    scope: usize,
    all: Arc<[Tag]>,
}

impl Tags {
    /// What the record of a tag bears.
    pub(crate) fn of_record() -> Self {
        Self { scope: 0, all: Arc::default() }
    }

    /// The tags of an entry, with the prefix of their namespace; `None` if they are too long for a
    /// header.
    pub(crate) fn new(scope: &str, all: Vec<Tag>) -> Option<Self> {
        let tags = Self { scope: scope.len(), all: all.into() };
        (tags.encoded_len() <= MOST).then_some(tags)
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Tag> {
        self.all.iter()
    }

    /// Whether the value is the record of a tag, and no entry.
    pub(crate) fn are_of_record(&self) -> bool {
        self.all.is_empty()
    }

    /// The number of bytes in a header.
    pub(crate) fn encoded_len(&self) -> usize {
        3 + self.scope + self.names().map(|(_, name)| 10 + name.len()).sum::<usize>()
    }

    pub(super) fn write(&self, out: &mut impl BufMut) {
        // `new` has checked that the lengths fit.
        let scope = self.all.first().map_or("", |tag| &tag.record[..self.scope]);
        out.put_u16(scope.len() as u16);
        out.put_slice(scope.as_bytes());
        out.put_u8(self.all.len() as u8);
        for (generation, name) in self.names() {
            out.put_u64(generation);
            out.put_u16(name.len() as u16);
            out.put_slice(name.as_bytes());
        }
    }

    /// Reads what [`write`](Self::write) wrote. What follows belongs to a later version.
    pub(super) fn read(mut bytes: &[u8]) -> Option<Self> {
        let scope = text(&mut bytes)?;
        let [count] = take(&mut bytes)?;
        let mut all = Vec::with_capacity(count.into());
        for _ in 0..count {
            let generation = u64::from_be_bytes(take(&mut bytes)?);
            let record = record_key(scope, text(&mut bytes)?).into();
            all.push(Tag { record, generation });
        }
        let scope = if all.is_empty() { 0 } else { scope.len() };
        Some(Self { scope, all: all.into() })
    }

    fn names(&self) -> impl Iterator<Item = (u64, &str)> {
        let before = record_key("", "").len() + self.scope;
        self.all.iter().map(move |tag| (tag.generation, &tag.record[before..]))
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}

fn text<'b>(bytes: &mut &'b [u8]) -> Option<&'b str> {
    let len = u16::from_be_bytes(take(bytes)?);
    let (text, rest) = bytes.split_at_checked(len.into())?;
    *bytes = rest;
    std::str::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(scope: &str, names: &[&str]) -> Option<Tags> {
        let tag = |name: &&str| Tag { record: record_key(scope, name).into(), generation: 7 };
        Tags::new(scope, names.iter().map(tag).collect())
    }

    #[test]
    fn what_was_written_is_read_and_what_is_cut_is_not() {
        for (scope, names) in
            [("", vec!["user:7"]), ("a:ü:", vec!["", "b\0larder:tag:c", "ß"]), ("", vec![])]
        {
            let tags = tags(scope, &names).unwrap();
            let mut bytes = Vec::new();
            tags.write(&mut bytes);
            assert_eq!(bytes.len(), tags.encoded_len());
            assert_eq!(Tags::read(&bytes).as_ref(), Some(&tags));
            for len in 0..bytes.len() {
                assert_eq!(Tags::read(&bytes[..len]), None, "{len} bytes");
            }
            bytes.extend(b"of a later version");
            assert_eq!(Tags::read(&bytes), Some(tags));
        }
    }

    #[test]
    fn tags_that_no_header_can_hold_are_refused() {
        assert!(tags("", &["x".repeat(50_000).as_str()]).is_some());
        assert!(tags("", &["x".repeat(70_000).as_str()]).is_none());
        assert!(tags(&"x".repeat(70_000), &["tag"]).is_none());
    }
}
