//! What a call may be told beside its key and value.

use crate::Expiry;
use std::time::Duration;

/// The options of a call: those of its wrapper, changed by the view it goes through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) expiry: Expiry,
    pub(crate) fail_open: bool,
    pub(crate) lease: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self { expiry: Expiry::Default, fail_open: true, lease: None }
    }
}
