//! Panics in the program's own code that larder runs. Each becomes the error of the call in which
//! it happened.

use crate::error::{Error, ErrorKind, Result};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `work`. A panic becomes an error of the kind [`Panic`](ErrorKind::Panic), which says `what`
/// panicked.
pub(crate) fn contain<R>(
    work: impl FnOnce() -> Result<R>,
    what: impl FnOnce() -> String,
) -> Result<R> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        Err(Error::new(ErrorKind::Panic).with_message(what()).with_source(panic_message(panic)))
    })
}

/// Drops a value of the user's, whose `Drop` may panic.
pub(crate) fn drop_contained<T>(value: T) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        // The panic hook has reported it.
        let _message = panic_message(panic);
    }
}

/// The message of a panic, if it has one. The payload is the user's, and its `Drop` may panic.
pub(crate) fn panic_message(panic: Box<dyn Any + Send>) -> String {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message")
        .to_owned();
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(again);
    }
    message
}
