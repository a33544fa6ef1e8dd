//! The errors of functions under `#[cached]`.

use crate::error::Error;
use std::error::Error as StdError;

/// The return type of a function that may fail. An alias of `Result` is one, too.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is called `Result`, and is not `std::result::Result`",
    note = "the attributes take a return type of this name for a `Result`: rename the type"
)]
pub trait Fallible {
    type Ok;
    type Err;

    fn is_success(&self) -> bool;

    fn as_success(&self) -> Option<&Self::Ok>;

    fn into_result(self) -> Result<Self::Ok, Self::Err>;
}

impl<T, E> Fallible for Result<T, E> {
    type Ok = T;
    type Err = E;

    fn is_success(&self) -> bool {
        self.is_ok()
    }

    fn as_success(&self) -> Option<&T> {
        self.as_ref().ok()
    }

    fn into_result(self) -> Self {
        self
    }
}

/// The error of a function with `errors = clone`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of a cached function as it is",
    label = "needs `Clone`, `std::error::Error` and `From<larder::Error>`",
    note = "by default each caller gets the function's own error, so `{Self}` needs `Clone`, `std::error::Error`, `Send`, `Sync`, and `From<larder::Error>` for the errors of the cache",
    note = "or say `errors = wrap`: each caller gets `{Self}::from(larder::Error)`, for `anyhow::Error` and boxes",
    note = "or say `errors = a::function`, a function from `larder::Error` to `{Self}`"
)]
pub trait OwnError: StdError + Clone + From<Error> + Send + Sync + 'static {}

#[diagnostic::do_not_recommend]
impl<E: StdError + Clone + From<Error> + Send + Sync + 'static> OwnError for E {}

/// The error of a function with `errors = wrap`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be made from `larder::Error`",
    label = "needs `From<larder::Error>`",
    note = "`errors = wrap` returns `{Self}::from(larder::Error)`: implement it, or say `errors = a::function`, a function from `larder::Error` to `{Self}`"
)]
pub trait WrapsError: From<Error> {}

#[diagnostic::do_not_recommend]
impl<E: From<Error>> WrapsError for E {}

/// An error that all callers of a load can share.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of a cached function",
    label = "needs `Into<Box<dyn std::error::Error + Send + Sync>>`",
    note = "all callers that wait for a load share its error: implement `std::error::Error`, or return a text, a box or `anyhow::Error`"
)]
pub trait LoadFailure: Into<Box<dyn StdError + Send + Sync>> {}

#[diagnostic::do_not_recommend]
impl<E: Into<Box<dyn StdError + Send + Sync>>> LoadFailure for E {}

/// The function's own error, for each caller. An error of larder is converted.
pub fn own<E: OwnError>(error: Error) -> E {
    match error.load_error::<E>() {
        Some(own) => own.clone(),
        None => E::from(error),
    }
}

/// Converts larder's error into the function's error.
pub fn wrap<E: WrapsError>(error: Error) -> E {
    E::from(error)
}
