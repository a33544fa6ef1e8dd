//! What a call of `get_or_set*` finds when it reads.

use crate::wrapper::events::CallInfo;
use crate::wrapper::value_type::Answer;

/// What a read found.
pub(super) enum Found {
    Value(Answer),
    /// A value to serve, and to refresh in the background.
    Due(Answer),
    /// A value to serve if the loader fails or is late.
    Usable(Usable),
    Nothing,
    /// The backend failed, and the call goes on without it (fail-open); with what a near level still
    /// has.
    Unknown(Option<Usable>),
}

/// A value that may be served.
pub(super) struct Usable {
    pub(super) value: Answer,
    pub(super) is_stale: bool,
}

/// A miss, with a value that may be served if the loader fails.
pub(super) struct Miss<'a> {
    pub(super) info: CallInfo<'a>,
    pub(super) usable: Option<Usable>,
}

impl Miss<'_> {
    /// The miss with its usable value, which can be served once.
    pub(super) fn take(&mut self) -> Self {
        Self { usable: self.usable.take(), ..*self }
    }
}
