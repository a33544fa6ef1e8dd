//! The one place that builds runtimes and spawns tasks.

mod background;
mod backoff;
mod loaders;
mod per_runtime;
mod stack;

#[cfg(feature = "redis")]
pub(crate) use background::background_connects;
pub(crate) use background::{background, can_connect};
pub(crate) use backoff::Backoff;
pub(crate) use per_runtime::PerRuntime;
pub(crate) use stack::{deeper, is_stack_deep, spawn_on_new_stack};

use crate::error::{Error, ErrorKind, Result};
use background::is_background;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;
use tokio::runtime::{EnterGuard, Handle, RuntimeFlavor, worker_index};
use tokio::task::JoinHandle;

/// The caller's runtime, or the background runtime if the caller has none.
pub(crate) fn current() -> Handle {
    Handle::try_current().unwrap_or_else(|_| background().clone())
}

/// Whether the caller is inside a runtime.
pub(crate) fn is_inside_one() -> bool {
    // A worker needs no reference-counted handle to know.
    worker_index().is_some() || Handle::try_current().is_ok()
}

/// Lets other tasks that are ready run first. Wakes its caller itself, where tokio's function of
/// this name leaves that to a scheduler that the blocking face may block.
pub(crate) async fn yield_now() {
    let mut has_yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Enters the background runtime; `None` on a thread that is ending, see [`is_gone`].
pub(crate) fn enter_background() -> Option<EnterGuard<'static>> {
    (!is_gone()).then(|| background().enter())
}

/// Whether the thread is ending and tokio's thread-locals are destroyed: from then on it can enter
/// no runtime.
pub(crate) fn is_gone() -> bool {
    Handle::try_current().is_err_and(|error| error.is_thread_local_destroyed())
}

/// The error of a call that would have to wait on a thread that is ending, see [`is_gone`].
pub(crate) fn gone() -> Error {
    Error::new(ErrorKind::Unavailable).with_message("the thread is ending, and tokio has left it")
}

/// The error of a call whose task ended with its runtime.
pub(crate) fn stopped() -> Error {
    Error::new(ErrorKind::Unavailable).with_message("the runtime of the call has stopped")
}

/// Polls `call` inside a runtime: the caller's, or the background one if the caller has none. On a
/// thread that can enter no runtime any more (see [`is_gone`]), only a call that `can_do_without`
/// is polled.
///
/// Futures are passed by `Pin<&mut>`: an `async fn` argument is stored twice in the future,
/// doubling at each level.
pub(crate) fn inside<T>(
    can_do_without: impl Fn() -> bool,
    mut call: Pin<&mut impl Future<Output = Result<T>>>,
) -> impl Future<Output = Result<T>> {
    poll_fn(move |cx| {
        // A worker is inside its runtime already. This is the common case, and needs no
        // reference-counted handle.
        let _entered =
            match worker_index().map_or_else(|| Handle::try_current().map(drop), |_| Ok(())) {
                Ok(()) => None,
                Err(error) if !error.is_thread_local_destroyed() => Some(background().enter()),
                Err(_) if can_do_without() => None,
                Err(_) => return Poll::Ready(Err(gone())),
            };
        call.as_mut().poll(cx)
    })
}

/// Runs `work` inside a runtime: the caller's, or the background one if the caller has none. On a
/// thread that can enter no runtime any more (see [`is_gone`]), `work` runs in none.
pub(crate) fn inside_now<R>(work: impl FnOnce() -> R) -> R {
    let _entered = if is_inside_one() { None } else { enter_background() };
    work()
}

/// `tokio::time::timeout` by the background runtime's clock, because the caller's runtime may have
/// no clock, or one that a test pauses. Never times out on a thread that [`is_gone`].
pub(crate) async fn background_timeout<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    let timed = match enter_background() {
        Some(_entered) => Ok(tokio::time::timeout(limit, future)),
        None => Err(future),
    };
    match timed {
        Ok(timed) => timed.await.ok(),
        Err(future) => Some(future.await),
    }
}

/// Sleeps by the clock of the caller's runtime; without a runtime, by the background runtime's.
pub(crate) async fn caller_sleep(duration: Duration) {
    caller_timeout(duration, std::future::pending::<()>()).await;
}

/// [`background_timeout`], but by the clock of the caller's runtime if it has one.
pub(crate) async fn caller_timeout<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    if is_inside_one() {
        tokio::time::timeout(limit, future).await.ok()
    } else {
        background_timeout(limit, future).await
    }
}

/// Sleeps by the background runtime's clock. Must not be used on a thread that [`is_gone`].
pub(crate) async fn background_sleep(duration: Duration) {
    let _over = background_timeout(duration, std::future::pending::<()>()).await;
}

/// [`background_timeout`] for a limit that the user has set. Tests that pause tokio's clock pause
/// this one as well.
pub(crate) async fn user_timeout<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    #[cfg(feature = "test-util")]
    {
        let sleep = || tokio::time::sleep(limit);
        // tokio reports a runtime without a clock by a panic only.
        if let Ok(sleep) = std::panic::catch_unwind(sleep) {
            return match futures_util::future::select(std::pin::pin!(future), std::pin::pin!(sleep))
                .await
            {
                futures_util::future::Either::Left((output, _)) => Some(output),
                futures_util::future::Either::Right(_) => None,
            };
        }
    }
    background_timeout(limit, future).await
}

/// Runs larder's own work on the caller's runtime, detached from the caller.
pub(crate) fn spawn<F>(work: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    current().spawn(work)
}

/// A timer of the background runtime, which does not depend on the caller's runtime and its clock.
#[cfg(feature = "sqlite")]
pub(crate) fn background_sleep_until(at: std::time::Instant) -> tokio::time::Sleep {
    let _entered = background().enter();
    tokio::time::sleep_until(at.into())
}

/// Runs larder's own work on the background runtime, which outlives the runtime of every caller.
#[cfg(any(feature = "memory", feature = "redis", feature = "sqlite"))]
pub(crate) fn spawn_background<F>(work: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    background().spawn(work)
}

/// Runs blocking work on a thread of the blocking pool of the caller's runtime.
pub(crate) fn spawn_blocking<R: Send + 'static>(
    work: impl FnOnce() -> R + Send + 'static,
) -> JoinHandle<R> {
    current().spawn_blocking(work)
}

/// Runs a user's future detached from the caller, and returns its runtime: the caller's, or
/// separate threads if that is the background runtime, because a loader that blocks must not stall
/// the thread that drives connections.
pub(crate) fn spawn_loader(loader: Pin<Box<dyn Future<Output = ()> + Send>>) -> Handle {
    let home = current();
    if is_background(&home) {
        return loaders::spawn(loader);
    }
    home.spawn(loader);
    home
}

thread_local! {
    static BLOCKED: Cell<bool> = const { Cell::new(false) };
    /// The runtime that a blocked thread was in. A nested wait sees only the background runtime.
    static OUTER: RefCell<Option<Handle>> = const { RefCell::new(None) };
}

/// Whether this thread is blocked in the blocking face, together with any runtime that it was
/// driving.
pub(crate) fn is_blocked() -> bool {
    BLOCKED.get()
}

/// See [`Blocked::polls_every`].
const UNWOKEN: Duration = Duration::from_millis(1);

/// A thread that is about to block, until dropped.
pub(crate) struct Blocked {
    is_outermost: bool,
}

impl Blocked {
    pub(crate) fn enter() -> Self {
        let is_outermost = !BLOCKED.replace(true);
        if is_outermost && let Some(outer) = loaders::home().or_else(|| Handle::try_current().ok())
        {
            // If the thread-local is gone, the thread is ending and drives no runtime any more.
            let _kept = OUTER.try_with(|kept| kept.replace(Some(outer)));
        }
        Self { is_outermost }
    }

    /// Runs `park`, which parks this thread. A worker of a multi-thread runtime first hands its
    /// tasks, and the driving of timers and sockets, to another thread.
    pub(crate) fn park<R>(&self, park: impl FnOnce() -> R) -> R {
        let outer = OUTER.try_with(|kept| kept.borrow().clone()).ok().flatten();
        match outer {
            Some(outer) if is_worker_of(&outer) => {
                // `block_in_place` takes the other thread from the current runtime.
                let _home = outer.enter();
                tokio::task::block_in_place(park)
            }
            _ => park(),
        }
    }

    /// How often a parked thread polls although nothing has woken it. What yields inside a
    /// current-thread runtime (`tokio::task::yield_now`) leaves its waker to the scheduler, which
    /// this thread blocks: nothing else would wake the thread.
    pub(crate) fn polls_every(&self) -> Option<Duration> {
        let is_scheduler = |outer: &Handle| outer.runtime_flavor() == RuntimeFlavor::CurrentThread;
        let blocks_one =
            |kept: &RefCell<Option<Handle>>| kept.borrow().as_ref().is_some_and(is_scheduler);
        OUTER.try_with(blocks_one).unwrap_or(false).then_some(UNWOKEN)
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        if self.is_outermost {
            BLOCKED.set(false);
            let _kept = OUTER.try_with(|kept| kept.take());
        }
    }
}

/// Whether this thread is running a task as a worker of `runtime`, a multi-thread one: there
/// `block_in_place` has something to hand over, while it panics in a `LocalSet` and inside
/// `block_on`. The check for a task distinguishes a worker from a current-thread runtime's
/// `block_on` in which another runtime's handle was entered.
fn is_worker_of(runtime: &Handle) -> bool {
    runtime.runtime_flavor() == RuntimeFlavor::MultiThread
        && worker_index().is_some()
        && tokio::task::try_id().is_some()
}

/// Locks a mutex whose data is consistent at every point where a panic could happen, so that
/// poisoning can be ignored.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
