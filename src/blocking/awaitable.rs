//! One function for async and blocking code.

use super::wait;
use crate::runtime::background_timeout;
use std::future::{Future, IntoFuture};
use std::time::Duration;

/// A future that async code awaits and that blocking code waits for, as with Python's `@awaitable`.
///
/// ```
/// use larder::{Awaitable, async_cached, awaitable};
/// use std::future::Future;
///
/// fn get_hello() -> Awaitable<impl Future<Output = larder::Result<Option<String>>>> {
///     awaitable(async_cached().get::<String>("hello"))
/// }
///
/// # fn main() -> larder::Result<()> {
/// larder::set("hello", "world")?;
/// assert_eq!(get_hello().wait()?.as_deref(), Some("world")); // blocking code
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// assert_eq!(get_hello().await?.as_deref(), Some("world")); // async code
/// # Ok(()) })
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "an awaitable does nothing until it is awaited or waited for"]
pub struct Awaitable<F> {
    future: F,
}

/// Makes a future usable in async and in blocking code. See [`Awaitable`].
pub fn awaitable<F: Future>(future: F) -> Awaitable<F> {
    Awaitable { future }
}

impl<F: Future> Awaitable<F> {
    /// Runs the future to its end on this thread. It works on every thread that
    /// [`CacheWrapper`](crate::CacheWrapper) lists.
    ///
    /// In a thread-local's destructor tokio's own thread-locals may be gone. A future of yours that
    /// needs a timer, a socket or `spawn` then panics, as tokio does. larder's calls do not panic;
    /// a call that would have to wait is [`Unavailable`](crate::ErrorKind::Unavailable).
    ///
    /// larder's own calls have deadlines. A future of yours never ends if it waits for something
    /// that only this thread can drive, for example a socket of the current-thread runtime that the
    /// thread is in. In doubt use [`wait_timeout`](Awaitable::wait_timeout).
    pub fn wait(self) -> F::Output {
        wait(self.future)
    }

    /// [`wait`](Awaitable::wait) with a time limit: `None` when `limit` has passed, and the
    /// future is dropped.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let never = larder::awaitable(std::future::pending::<()>());
    /// assert_eq!(never.wait_timeout(Duration::from_millis(1)), None);
    /// ```
    pub fn wait_timeout(self, limit: Duration) -> Option<F::Output> {
        wait(background_timeout(limit, self.future))
    }

    /// The future itself, for `select!`, `join!` and `spawn`.
    pub fn into_inner(self) -> F {
        self.future
    }
}

impl<F: Future> IntoFuture for Awaitable<F> {
    type Output = F::Output;
    type IntoFuture = F;

    fn into_future(self) -> F {
        self.future
    }
}
