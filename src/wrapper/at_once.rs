//! Calls that are mostly answered at once.

use std::future::{Future, poll_fn};
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::Poll;

/// A future that is as small as what `begin` holds. When it is first polled, `begin` answers or says what is to be waited for. An `async fn`
/// would carry the room for that wait along, and move it around with every call.
#[inline]
pub(super) fn at_once<R, F: Future<Output = R>>(begin: impl FnOnce() -> ControlFlow<R, Pin<Box<F>>>) -> impl Future<Output = R> {
    let (mut begin, mut rest) = (Some(begin), None);
    poll_fn(move |context| {
        if let Some(begin) = begin.take() {
            match begin() {
                ControlFlow::Break(answer) => return Poll::Ready(answer),
                ControlFlow::Continue(wait) => rest = Some(wait),
            }
        }
        match &mut rest {
            Some(rest) => rest.as_mut().poll(context),
            None => panic!("a call is polled after it has answered"),
        }
    })
}
