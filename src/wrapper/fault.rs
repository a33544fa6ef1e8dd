//! What went wrong, and whose fault it is.

use crate::{Error, ErrorKind};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Whether a program can go on as if the key were missing.
pub(super) fn concerns_backend(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::TooLarge | ErrorKind::Backend
    )
}

/// What a panic said, where it said something. Its payload is the user's, and may panic when it is
/// dropped.
pub(super) fn words(panic: Box<dyn Any + Send>) -> String {
    let words = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("the loader panicked")
        .to_owned();
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(again);
    }
    words
}
