//! Futures of calls that are usually answered at once.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

/// A future as small as `call`, the arguments of a call. On the first poll `now` answers, or
/// `later` builds the future to wait for. An `async fn` would reserve room for that wait and move
/// it with every call. Moving `call` right after writing it stalls store-to-load forwarding (about
/// 5 ns), so it is moved only when the call must wait.
#[inline]
pub(super) fn ready_or_boxed<C, R, F: Future<Output = R>>(
    call: C,
    mut now: impl FnMut(&mut C) -> Poll<R>,
    later: impl FnOnce(C) -> Pin<Box<F>>,
) -> impl Future<Output = R> {
    let (mut begin, mut rest) = (Some((call, later)), None);
    poll_fn(move |context| {
        if let Some((call, _)) = &mut begin {
            let answer = now(call);
            if answer.is_ready() {
                return answer;
            }
            rest = begin.take().map(|(call, later)| later(call));
        }
        match &mut rest {
            Some(rest) => rest.as_mut().poll(context),
            None => panic!("a call has neither begun nor ended"),
        }
    })
}
