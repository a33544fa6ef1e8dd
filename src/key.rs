//! What a key may be, and the prefix that a namespace puts before it.

use crate::{Error, ErrorKind, Result};
use std::borrow::Cow;
use std::sync::Arc;

/// Between a namespace and what stands in it.
const SEPARATOR: char = ':';

/// Any text but the empty one is a key. Every adapter calls this before it does anything else.
#[inline]
pub(crate) fn check(key: &str) -> Result<()> {
    if key.is_empty() { Err(empty()) } else { Ok(()) }
}

#[cold]
fn empty() -> Error {
    Error::new(ErrorKind::InvalidKey).with_key("").with_message("a key must not be empty")
}

/// [`check`] for a batch: all keys, before anything is changed.
pub(crate) fn check_all<'a>(keys: impl IntoIterator<Item = &'a str>) -> Result<()> {
    keys.into_iter().try_for_each(check)
}

/// Not inlined: a hit in memory mostly has no prefix, and should stay short.
#[inline(never)]
fn joined(prefix: &str, key: &str) -> String {
    // `format!` takes six times as long, and every call to a server does this.
    let mut whole = String::with_capacity(prefix.len() + key.len());
    whole.push_str(prefix);
    whole.push_str(key);
    whole
}

/// The part of a key space that a handle sees: everything, or what begins with a prefix.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope(Option<Arc<str>>);

impl Scope {
    pub(crate) fn nested(&self, name: &str) -> Self {
        Self::prefixed(format!("{}{name}{SEPARATOR}", self.prefix()))
    }

    pub(crate) fn prefixed(prefix: impl Into<Arc<str>>) -> Self {
        Self(Some(prefix.into()).filter(|prefix| !prefix.is_empty()))
    }

    pub(crate) fn prefix(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }

    /// The key as the adapter knows it. Borrowed where there is no prefix, for a hit must not allocate.
    #[inline]
    pub(crate) fn key<'k>(&self, key: &'k str) -> Result<Cow<'k, str>> {
        check(key)?;
        Ok(match &self.0 {
            None => Cow::Borrowed(key),
            Some(prefix) => Cow::Owned(joined(prefix, key)),
        })
    }
}
