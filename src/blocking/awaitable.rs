//! One function for async and blocking code.

use super::wait;
use crate::runtime::background_timeout;
use std::future::{Future, IntoFuture};
use std::time::Duration;

/// A future that async code awaits and blocking code waits for: what Python's `@awaitable` does, in
/// every context.
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

/// Makes a future usable from both worlds. See [`Awaitable`].
pub fn awaitable<F: Future>(future: F) -> Awaitable<F> {
    Awaitable { future }
}

impl<F: Future> Awaitable<F> {
    /// Runs the future to its end on this thread, whatever the thread is. See
    /// [`CacheWrapper`](crate::CacheWrapper) for where that works.
    ///
    /// In a thread-local's destructor tokio's own may be gone: a future that needs a timer, a
    /// socket or `spawn` then panics as tokio does. larder's calls do not; what cannot be done
    /// without waiting is [`Unavailable`](crate::ErrorKind::Unavailable).
    ///
    /// larder's own calls have their deadlines. A future of yours that waits for something only
    /// this thread can drive (a socket of the current-thread runtime that the thread is in) never
    /// ends: use [`wait_timeout`](Awaitable::wait_timeout) if in doubt.
    pub fn wait(self) -> F::Output {
        wait(self.future)
    }

    /// [`wait`](Awaitable::wait) with a time limit: `None` when `patience` has passed, and the
    /// future is dropped.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let never = larder::awaitable(std::future::pending::<()>());
    /// assert_eq!(never.wait_timeout(Duration::from_millis(1)), None);
    /// ```
    pub fn wait_timeout(self, patience: Duration) -> Option<F::Output> {
        wait(background_timeout(patience, self.future))
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
