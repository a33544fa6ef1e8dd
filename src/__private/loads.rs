//! The calls of functions under `#[cached]`.
//!
//! Each takes the view with the function's options, the key, the load, and `keep`, which decides
//! whether a value is stored. A function that returns no `Result` cannot say that the cache failed:
//! its call goes on without the cache, and panics with the words of a load that panicked.

use super::errors::{Fallible, LoadFailure};
use super::key::KeyBuf;
use crate::blocking::{BlockingView, wait};
use crate::error::{Error, ErrorKind, Result};
use crate::wrapper::{
    BoxedLoader, Cacheable, Cause, DetachedCall, LoadResult, Loaded, NotAResult, Pinned, Runs, View,
};
use futures_util::future::BoxFuture;

use std::error::Error as StdError;
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// `keep` of a function that stores every value.
pub fn every<T>(_: &T) -> bool {
    true
}

/// The value of a call that needs no wait, or the view for the call. The load of the call has a
/// task of its own, or runs in the call of a blocking function.
///
/// For functions with tags, whose hits do not need them.
pub fn at_hand<'a, T: Cacheable>(view: View<'a>, key: &KeyBuf) -> ControlFlow<T, View<'a>> {
    look(view, key, Runs::InTask)
}

/// [`at_hand`] for a call that carries its load.
pub fn at_hand_here<'a, T: Cacheable>(view: View<'a>, key: &KeyBuf) -> ControlFlow<T, View<'a>> {
    look(view, key, Runs::InCaller)
}

/// [`at_hand`] for a blocking function.
pub fn at_hand_blocking<'a, T: Cacheable>(
    view: BlockingView<'a>,
    key: &KeyBuf,
) -> ControlFlow<T, BlockingView<'a>> {
    look(view.0, key, Runs::AtOnce).map_continue(BlockingView)
}

fn look<'a, T: Cacheable>(view: View<'a>, key: &KeyBuf, runs: Runs) -> ControlFlow<T, View<'a>> {
    match key.checked() {
        Ok(key) => view.at_hand(key, runs),
        // The call meets the error again.
        Err(_) => ControlFlow::Continue(view),
    }
}

/// The entry under the key, from blocking code.
///
/// # Errors
///
/// As [`View::get`].
pub fn peek_blocking<T: Cacheable>(view: BlockingView<'_>, key: &KeyBuf) -> Result<Option<T>> {
    view.get(key.checked()?)
}

// What makes a detached load is a pointer with the arguments of the function, and no closure: a
// closure has a type of its own, with which all code around a call would be compiled again.

/// The call of a function that may fail. Its load has a task of its own; `load` makes it.
pub fn try_detached<T, E, R, A>(
    view: View<'_>,
    key: &KeyBuf,
    load: fn(A) -> BoxFuture<'static, R>,
    arguments: A,
    keep: impl FnOnce(&T) -> bool + Send + 'static,
) -> impl Future<Output = Result<T>>
where
    T: Cacheable,
    E: LoadFailure,
    R: Fallible<Ok = T, Err = E> + 'static,
{
    view.get_or_start_boxed(key.checked(), move || try_loading(load(arguments), keep))
}

/// The call of a function that cannot fail. Its load has a task of its own; `load` makes it.
pub fn detached<'a, T, By, A>(
    view: View<'a>,
    key: &'a KeyBuf,
    load: fn(A) -> BoxFuture<'static, T>,
    arguments: A,
    keep: impl FnOnce(&T) -> bool + Send + 'static,
) -> impl Future<Output = T>
where
    T: Cacheable + NotAResult<By>,
{
    let make = move || loading(load(arguments), keep);
    let call = view.fail_open(true).get_or_start_boxed(key.checked(), make);
    Unfailing { call, view, key, instead: None }
}

/// A call of a function that cannot say that the cache failed.
struct Unfailing<'a, T, L> {
    call: DetachedCall<'a, &'a str, T, L>,
    view: View<'a>,
    key: &'a KeyBuf,
    /// What is waited for after the cache has failed.
    instead: Option<BoxFuture<'a, T>>,
}

impl<T: Cacheable, L: FnOnce() -> BoxedLoader> Future for Unfailing<'_, T, L> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Self { call, view, key, instead } = &mut *self;
        if instead.is_none() {
            match Pin::new(&mut *call).poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(value)) => return Poll::Ready(value),
                Poll::Ready(Err(error)) if error.kind() == ErrorKind::Panic => panic_again(&error),
                Poll::Ready(Err(error)) => {
                    *instead = Some(match call.unused() {
                        Some(make) => Box::pin(run_without_cache(make())),
                        None => Box::pin(wait_on(*view, key, error)),
                    });
                }
            }
        }
        match instead {
            Some(instead) => instead.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

async fn run_without_cache<T: Cacheable>(load: BoxedLoader) -> T {
    let loaded = load.await.map(|loaded| loaded.value.decode());
    match loaded {
        Ok(Ok(value)) => value,
        Ok(Err(error)) => panic_again(&error),
        Err(cause) => panic!("{cause}"),
    }
}

/// Waits for the load that the call gave up with `error`, however long it takes.
async fn wait_on<T: Cacheable>(view: View<'_>, key: &KeyBuf, error: Error) -> T {
    let gone = || async move { Err(Cause::from(error)) };
    let view = view.fail_open(true).hard_timeout(Duration::MAX);
    let key = key.checked().unwrap_or_default();
    view.get_or_start(key, gone).await.unwrap_or_else(|error| panic_again(&error))
}

// The loads do not depend on their function, but on the types of its value and error only: they are
// compiled once for all functions of these types.

fn try_loading<T, E, F>(load: F, keep: impl FnOnce(&T) -> bool + Send + 'static) -> BoxedLoader
where
    T: Cacheable,
    E: LoadFailure,
    F: Future<Output: Fallible<Ok = T, Err = E>> + Send + 'static,
{
    Box::pin(async move { judged(load.await, keep).map(Loaded::untyped) })
}

fn loading<T: Cacheable>(
    load: impl Future<Output = T> + Send + 'static,
    keep: impl FnOnce(&T) -> bool + Send + 'static,
) -> BoxedLoader {
    Box::pin(async move { Ok(kept(load.await, keep).untyped()) })
}

/// The call of a function that may fail. The call carries its load, which its caller has pinned.
pub fn try_here<'a, T, E, F>(
    view: View<'a>,
    key: &'a KeyBuf,
    load: Pin<&'a mut Option<F>>,
    keep: impl FnOnce(&T) -> bool,
) -> impl Future<Output = Result<T>>
where
    T: Cacheable,
    E: LoadFailure,
    F: Future<Output: Fallible<Ok = T, Err = E>>,
{
    view.get_or_carry_pinned(key.checked(), Pinned::new(load, keep, judged_untyped))
}

/// The call of a function that cannot fail. The call carries its load, which its caller has pinned.
pub async fn here<T, By, F>(
    view: View<'_>,
    key: &KeyBuf,
    load: Pin<&mut Option<F>>,
    keep: impl FnOnce(&T) -> bool,
) -> T
where
    T: Cacheable + NotAResult<By>,
    F: Future<Output = T>,
{
    let mut load = Once { load, is_over: false };
    let mut borrowed = Some(&mut load);
    let carried = Pinned::new(Pin::new(&mut borrowed), keep, kept_untyped);
    let answer = view.fail_open(true).get_or_carry_pinned(key.checked(), carried).await;
    match answer {
        Ok(value) => value,
        Err(error) if error.kind() == ErrorKind::Panic => panic_again(&error),
        Err(_) if !load.is_over => load.await,
        // The call gave up while its value was stored: the store has a task of its own.
        Err(error) => wait_on(view, key, error).await,
    }
}

/// The call of a blocking function that may fail.
pub fn try_call<T, E, R>(
    view: BlockingView<'_>,
    key: &KeyBuf,
    load: impl FnOnce() -> R,
    keep: impl FnOnce(&T) -> bool,
) -> Result<T>
where
    T: Cacheable,
    E: LoadFailure,
    R: Fallible<Ok = T, Err = E>,
{
    let mut unused = Some((load, keep));
    in_call(view, key, &mut || match unused.take() {
        Some((load, keep)) => judged(load(), keep),
        None => Err(used()),
    })
}

/// The call of a blocking function that cannot fail.
pub fn call<T, By>(
    view: BlockingView<'_>,
    key: &KeyBuf,
    load: impl FnOnce() -> T,
    keep: impl FnOnce(&T) -> bool,
) -> T
where
    T: Cacheable + NotAResult<By>,
{
    let mut unused = Some((load, keep));
    let answer = in_call(BlockingView(view.0.fail_open(true)), key, &mut || match unused.take() {
        Some((load, keep)) => Ok(kept(load(), keep)),
        None => Err(used()),
    });
    match (answer, unused) {
        (Ok(value), _) => value,
        (Err(error), Some((load, _))) if error.kind() != ErrorKind::Panic => load(),
        (Err(error), _) => panic_again(&error),
    }
}

/// The call of a blocking function. It does not know the function, so that it is compiled once for
/// all functions with this type of value.
fn in_call<T: Cacheable>(
    view: BlockingView<'_>,
    key: &KeyBuf,
    load: &mut dyn FnMut() -> Result<Loaded<T>, Cause>,
) -> Result<T> {
    let key = key.checked()?;
    wait(view.0.get_or_call(key, |_| load()))
}

fn used() -> Cause {
    Cause::from("a load is begun once")
}

/// A future that knows whether it is over.
struct Once<'a, F> {
    load: Pin<&'a mut Option<F>>,
    is_over: bool,
}

impl<F: Future> Future for Once<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Some(load) = self.load.as_mut().as_pin_mut() else { return Poll::Pending };
        let polled = load.poll(cx);
        self.is_over = polled.is_ready();
        polled
    }
}

fn kept<T>(value: T, keep: impl FnOnce(&T) -> bool) -> Loaded<T> {
    if keep(&value) { Loaded::new(value) } else { Loaded::unstored(value) }
}

fn judged<R>(returned: R, keep: impl FnOnce(&R::Ok) -> bool) -> Result<Loaded<R::Ok>, Cause>
where
    R: Fallible<Err: LoadFailure>,
{
    match returned.into_result() {
        Ok(value) => Ok(kept(value, keep)),
        Err(error) => Err(error.into()),
    }
}

fn judged_untyped<R>(returned: R, keep: impl FnOnce(&R::Ok) -> bool) -> LoadResult
where
    R: Fallible<Ok: Cacheable, Err: LoadFailure>,
{
    judged(returned, keep).map(Loaded::untyped)
}

fn kept_untyped<T: Cacheable>(value: T, keep: impl FnOnce(&T) -> bool) -> LoadResult {
    Ok(kept(value, keep).untyped())
}

/// Panics with the words of a load's panic, or with what the cache says.
fn panic_again(error: &Error) -> ! {
    match error.source() {
        Some(words) if error.kind() == ErrorKind::Panic => panic!("{words}"),
        _ => panic!("{error}"),
    }
}
