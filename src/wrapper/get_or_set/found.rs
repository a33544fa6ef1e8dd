//! What a call of `get_or_set*` finds when it reads.

use crate::wrapper::events::CallInfo;

/// What a read found.
pub(super) enum Found<T> {
    Value(T),
    /// A value to serve, and to refresh in the background.
    Due(T),
    /// A value to serve if the loader fails or is late.
    Usable(Usable<T>),
    Nothing,
    /// The backend failed, and the call goes on without it (fail-open).
    Unknown,
}

/// A value that may be served.
pub(super) struct Usable<T> {
    pub(super) value: T,
    pub(super) is_stale: bool,
}

/// A miss, with a value that may be served if the loader fails.
pub(super) struct Miss<'a, T> {
    pub(super) info: CallInfo<'a>,
    pub(super) usable: Option<Usable<T>>,
}

impl<T> Miss<'_, T> {
    /// The miss with its usable value, which can be served once.
    pub(super) fn take(&mut self) -> Self {
        Self { usable: self.usable.take(), ..*self }
    }
}
