//! Calls that are mostly answered at once.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

/// A future that is as small as `call`, what a call is about. When it is first polled, `now` answers, or `later` says what is to be waited
/// for. An `async fn` would carry the room for that wait along, and move it around with every call; and `call` itself is only moved if it
/// has to wait, for to read what has just been written, in other pieces, stops a processor for 5 ns.
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
