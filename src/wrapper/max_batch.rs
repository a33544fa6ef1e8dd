//! How many keys a loader for several keys is given at once.

/// The most keys that one call of a loader for several keys is given. It is not among the options
/// that a URL can give: there `max_batch` is a parameter of adapters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MaxBatch(u32);

impl MaxBatch {
    pub(crate) fn new(most: usize) -> Self {
        Self(u32::try_from(most).unwrap_or(u32::MAX))
    }

    /// `None` for zero, which is refused.
    pub(crate) fn get(self) -> Option<usize> {
        (self.0 > 0).then_some(self.0 as usize)
    }
}

impl Default for MaxBatch {
    fn default() -> Self {
        Self(500)
    }
}
