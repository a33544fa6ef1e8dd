//! A walk through the keys of a store, page by page.

use bytes::Bytes;

/// A place in a walk through the keys of a store: see
/// [`AsyncCacheAdapter::keys`](crate::AsyncCacheAdapter::keys). Its content is the adapter's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyCursor(Bytes);

impl KeyCursor {
    /// A place, whose meaning only the adapter knows.
    ///
    /// ```
    /// assert_eq!(larder::KeyCursor::new("42").place(), b"42");
    /// ```
    #[must_use]
    pub fn new(place: impl Into<Bytes>) -> Self {
        Self(place.into())
    }

    /// The place, as the adapter wrote it.
    #[must_use]
    pub fn place(&self) -> &[u8] {
        &self.0
    }
}

/// Some of the keys of a store: see [`AsyncCacheAdapter::keys`](crate::AsyncCacheAdapter::keys).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyPage {
    /// The keys, as callers of the adapter know them. There may be none although a page follows.
    pub keys: Vec<String>,
    /// Where the next page begins; `None` after the last page.
    pub next: Option<KeyCursor>,
}

impl KeyPage {
    /// A page of keys, and where the next page begins.
    ///
    /// ```
    /// use larder::KeyPage;
    ///
    /// let whole = KeyPage::new(vec!["a".to_owned()], None);
    /// assert!(whole.next.is_none());
    /// ```
    #[must_use]
    pub fn new(keys: Vec<String>, next: Option<KeyCursor>) -> Self {
        Self { keys, next }
    }
}
