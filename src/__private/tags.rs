//! The tags of a call.

use super::key::KeyBuf;
use crate::blocking::BlockingView;
use crate::wrapper::{TaggedCall, View};

/// The call with these tags. They are those of the key's namespace.
pub fn tagged(view: View<'_>, key: &KeyBuf, tags: &[KeyBuf]) -> TaggedCall {
    view.tagged_call(key.prefix(), tags.iter().map(|tag| tag.checked().ok()))
}

/// [`tagged`] for a blocking function.
pub fn tagged_blocking(view: BlockingView<'_>, key: &KeyBuf, tags: &[KeyBuf]) -> TaggedCall {
    tagged(view.0, key, tags)
}

/// The view of a call with tags, for a blocking function.
#[must_use]
pub fn blocking_view(call: &TaggedCall) -> BlockingView<'_> {
    BlockingView(call.view())
}
