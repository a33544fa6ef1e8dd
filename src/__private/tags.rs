//! The tags of a call.

use super::key::KeyBuf;
use crate::blocking::BlockingView;
use crate::wrapper::{CallTags, TaggedWrite, View};

/// The names of tags. `None` is one that could not be written.
pub fn names<const N: usize>(tags: &[KeyBuf; N]) -> [Option<&str>; N] {
    tags.each_ref().map(|tag| tag.checked().ok())
}

/// The tags of a call with this key. They are those of the key's namespace.
pub fn call_tags<'t>(key: &'t KeyBuf, names: &'t [Option<&'t str>]) -> CallTags<'t> {
    CallTags::new(key.prefix(), names)
}

/// The view of a call that makes these tags when it has missed.
#[must_use]
pub fn tagged<'a>(view: View<'a>, tags: &'a CallTags<'a>) -> View<'a> {
    view.with_call_tags(tags)
}

/// [`tagged`] for a blocking function.
#[must_use]
pub fn tagged_blocking<'a>(view: BlockingView<'a>, tags: &'a CallTags<'a>) -> BlockingView<'a> {
    BlockingView(view.0.with_call_tags(tags))
}

/// A write with these tags.
pub fn tagged_write(view: View<'_>, tags: &CallTags<'_>) -> TaggedWrite {
    TaggedWrite::new(view, tags)
}

/// [`tagged_write`] for a blocking function.
pub fn tagged_write_blocking(view: BlockingView<'_>, tags: &CallTags<'_>) -> TaggedWrite {
    TaggedWrite::new(view.0, tags)
}

/// The view of a write with tags, for a blocking function.
#[must_use]
pub fn blocking_view(write: &TaggedWrite) -> BlockingView<'_> {
    BlockingView(write.view())
}
