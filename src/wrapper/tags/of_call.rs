//! The tags of a call of a function under an attribute macro.

use super::TagNames;
use crate::options::TagFault;
use crate::wrapper::{AsyncCacheWrapper, View};

/// A call whose write has tags. They are made of the call's arguments, and only after no hit was at
/// hand, because a hit does not need them.
#[derive(Debug)]
#[must_use]
pub struct TaggedCall {
    cache: AsyncCacheWrapper,
    drawn: Option<bool>,
}

impl TaggedCall {
    /// The view, with the tags of the call.
    pub fn view(&self) -> View<'_> {
        View { drawn: self.drawn, ..self.cache.view() }
    }
}

impl View<'_> {
    /// The view with tags of the namespace that has this prefix. `None` is a tag that could not be
    /// written.
    pub(crate) fn tagged_call<'t>(
        self,
        prefix: &str,
        tags: impl IntoIterator<Item = Option<&'t str>>,
    ) -> TaggedCall {
        let drawn = self.drawn;
        let tags: Option<Vec<&str>> = tags.into_iter().collect();
        let read = match tags {
            Some(tags) => TagNames::read_within(prefix, tags),
            None => Err(TagFault::Unwritten),
        };
        TaggedCall { cache: self.into_cache().given(read), drawn }
    }
}
