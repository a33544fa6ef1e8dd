//! The tags of a call of a function under an attribute macro.

use super::TagNames;
use crate::options::TagFault;
use crate::wrapper::{AsyncCacheWrapper, View};
use std::sync::OnceLock;

/// The tags of a call that may be a hit. They are in the caller's frame, and no cache has them
/// before the call has missed, because a hit needs none.
#[derive(Debug)]
pub struct CallTags<'t> {
    prefix: &'t str,
    names: &'t [Option<&'t str>],
    tagged: OnceLock<AsyncCacheWrapper>,
}

impl<'t> CallTags<'t> {
    /// Tags of the namespace that has this prefix. `None` is a tag that could not be written.
    pub(crate) fn new(prefix: &'t str, names: &'t [Option<&'t str>]) -> Self {
        Self { prefix, names, tagged: OnceLock::new() }
    }

    fn read(&self) -> Result<TagNames, TagFault> {
        let names: Option<Vec<&str>> = self.names.iter().copied().collect();
        TagNames::read_within(self.prefix, names.ok_or(TagFault::Unwritten)?)
    }
}

impl<'a> View<'a> {
    /// The view with tags that its next call makes when it has missed.
    pub(crate) fn with_call_tags(self, tags: &'a CallTags<'a>) -> Self {
        Self { call_tags: Some(tags), ..self }
    }

    /// Gives the tags of the call to what it writes from now on.
    pub(in crate::wrapper) fn make_call_tags(&mut self) {
        let Some(tags) = self.call_tags.take() else { return };
        self.cache = tags.tagged.get_or_init(|| self.cache.clone().given(tags.read()));
        self.options.tag_fault = self.cache.options.tag_fault;
    }
}

/// A write with tags, which are made of the arguments of the function.
#[derive(Debug)]
#[must_use]
pub struct TaggedWrite(AsyncCacheWrapper);

impl TaggedWrite {
    /// The cache and options of a view, with these tags.
    pub(crate) fn new(view: View<'_>, tags: &CallTags<'_>) -> Self {
        Self(view.into_cache().given(tags.read()))
    }

    /// The view, with the tags.
    pub fn view(&self) -> View<'_> {
        self.0.view()
    }
}
