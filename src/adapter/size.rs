//! How large a store is.

/// How large a store is, as far as its adapter knows without asking it: see
/// [`AsyncCacheAdapter::size`](crate::AsyncCacheAdapter::size).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreSize {
    /// The number of entries.
    pub entries: Option<u64>,
    /// The number of bytes.
    pub bytes: Option<u64>,
}

impl StoreSize {
    /// A size of which both numbers are known.
    ///
    /// ```
    /// let size = larder::StoreSize::new(3, 400);
    /// assert_eq!((size.entries, size.bytes), (Some(3), Some(400)));
    /// ```
    #[must_use]
    pub fn new(entries: u64, bytes: u64) -> Self {
        Self { entries: Some(entries), bytes: Some(bytes) }
    }
}
