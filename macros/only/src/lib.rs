//! The attribute macros in a crate that depends on larder only, under every lint. What is here
//! compiles without a warning; that it runs is tested in larder's own tests.

pub mod forms;
pub mod keys;
pub mod methods;
pub mod more;
pub mod names;
pub mod tags;
pub mod writes;

use larder::AsyncCacheWrapper;
use std::fmt;

/// A cache of one's own.
///
/// # Panics
///
/// Never: memory needs no configuration.
#[must_use]
pub fn cache() -> AsyncCacheWrapper {
    AsyncCacheWrapper::new("memory").expect("memory")
}

/// Waits on this thread: the crate has no runtime of its own.
///
/// # Panics
///
/// Never: the call returns its future's output.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    larder::awaitable(async { Ok::<T, larder::Error>(future.await) })
        .wait()
        .expect("the output of the future")
}

/// An error of an application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppError {
    /// There is no such thing.
    NotFound,
    /// The cache failed.
    Cache(String),
}

impl fmt::Display for AppError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for AppError {}

impl From<larder::Error> for AppError {
    fn from(error: larder::Error) -> Self {
        Self::Cache(error.to_string())
    }
}
