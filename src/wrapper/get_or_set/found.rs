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

/// What the caller of a load has in its hand meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reserve {
    Nothing,
    /// A value that is served if the load fails or is late, or that was served already.
    Usable,
    /// A value that has not expired: nobody waits for a load that another process runs.
    Fresh,
}

impl Miss<'_> {
    pub(super) fn reserve(&self) -> Reserve {
        match &self.usable {
            None => Reserve::Nothing,
            Some(usable) if usable.is_stale => Reserve::Usable,
            Some(_) => Reserve::Fresh,
        }
    }

    /// The miss with its usable value, which can be served once.
    pub(super) fn take(&mut self) -> Self {
        Self { usable: self.usable.take(), ..*self }
    }
}
