//! A connection that its callers drive: no task carries their calls, and no channel.
//!
//! ```text
//!   call ──► output ──► socket ──► server ──► input ──► reply ──► first call in the queue
//!            writer ▲                        ▲ reader
//! ```
//!
//! A call appends its command to the output and waits for its reply in the queue (`calls`). One
//! caller at a time writes for all, one reads for all (`wire`); a lone caller writes, waits and
//! reads in its own task. `resp` makes values of what was read, `socket` is what is written to and
//! read from, and the `watchdog` keeps deadlines.

use super::calls::{Answer, Begun, CallId, Drive, Request};
use super::resp::Bounds;
use super::socket::Socket;
use super::tracking::Tracking;
use super::watchdog::watch;
use super::wire::{Listener, Wire};
use crate::adapters::redis::deadline_in;
use crate::adapters::redis::errors::Failure;
use crate::adapters::redis::raw::{Encode, EncodeAll, RawCommand};
use crate::adapters::redis::reply::Reply;
use std::fmt;
use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// One connection, shared by all who call over it.
pub(in crate::adapters::redis) struct DrivenConnection {
    wire: Arc<Wire>,
    watchdog: AbortHandle,
}

impl DrivenConnection {
    /// Drives a socket on the current runtime.
    pub(super) fn new(
        socket: Socket,
        bounds: Bounds,
        drive: Drive,
        listener: Arc<dyn Listener>,
    ) -> Self {
        let wire = Arc::new(Wire::new(socket, bounds, drive, listener));
        let watchdog = tokio::spawn(watch(wire.clone(), drive)).abort_handle();
        Self { wire, watchdog }
    }

    /// Sends one command and waits for its reply; an error of the server's is a reply.
    ///
    /// # Errors
    ///
    /// [`Timeout`](crate::ErrorKind::Timeout) within a few milliseconds after the deadline, and how
    /// the connection ended, if it has.
    ///
    /// # Cancel safety
    ///
    /// A dropped call passes its roles on. Its command is not sent if no writer has taken it yet;
    /// else its replies are thrown away when they come.
    pub(super) async fn exchange(
        &self,
        command: &impl Encode,
        deadline: Instant,
    ) -> Result<Reply, Failure> {
        exchange(&self.wire, command, deadline).await
    }

    /// Sends many commands together. As [`exchange`](Self::exchange), with one reply a command.
    pub(super) async fn exchange_all<C: EncodeAll + ?Sized>(
        &self,
        commands: &C,
        deadline: Instant,
    ) -> Result<Vec<Reply>, Failure> {
        let replies = commands.count();
        if replies == 0 {
            return Ok(Vec::new());
        }
        let encode = |output: &mut Vec<u8>| commands.write(output);
        Ok(match call(&self.wire, replies, deadline, encode).await? {
            Answer::One(reply) => vec![reply],
            Answer::Many(replies) => replies,
        })
    }

    /// Sends a `PING` each time that the tracking wants an answer, until it ends. Where nobody hears
    /// any more what the server tells, has the server stop.
    pub(super) fn answer(&self, tracking: Arc<Tracking>, timeout: Duration) {
        drop(tokio::spawn(ping_when_wanted(Arc::downgrade(&self.wire), tracking, timeout)));
    }

    /// Lets the kernel send small commands together where nothing is lost by that. The server has
    /// answered the login within `answered_in`.
    pub(super) fn hold_small_commands_if_at_hand(&self, answered_in: Duration) -> io::Result<()> {
        self.wire.hold_small_commands_if_at_hand(answered_in)
    }

    /// Whether something is in flight whose caller has gone: the server may execute it at any time.
    pub(super) fn has_abandoned(&self) -> bool {
        self.wire.calls.has_abandoned()
    }

    /// How many replies have come.
    pub(super) fn answered(&self) -> u64 {
        self.wire.calls.answered()
    }

    /// How long ago replies came; since it was opened, if none has come.
    pub(super) fn silent_for(&self) -> Duration {
        self.wire.silent_for()
    }

    /// Whether it is open and nothing waits to be read, as far as the operating system knows.
    pub(super) fn is_open_and_quiet(&self) -> bool {
        self.wire.is_open_and_quiet()
    }

    /// The line of an error among the first replies.
    pub(super) fn take_first_error(&self) -> Option<String> {
        self.wire.take_first_error()
    }

    /// Ends it: all calls in flight have this error.
    pub(super) fn end(&self, failure: &Failure) {
        self.wire.fail(failure);
    }
}

impl Drop for DrivenConnection {
    fn drop(&mut self) {
        self.wire.end_listening();
        self.watchdog.abort();
    }
}

impl fmt::Debug for DrivenConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DrivenConnection").finish_non_exhaustive()
    }
}

/// The task does not keep the connection alive.
async fn ping_when_wanted(wire: Weak<Wire>, tracking: Arc<Tracking>, timeout: Duration) {
    let ping = RawCommand::new("PING");
    while tracking.wants_answer().await {
        let Some(wire) = wire.upgrade() else { return };
        // An error is an answer, too. Without an answer the proof ends by itself.
        drop(exchange(&wire, &ping, deadline_in(timeout)).await);
    }
    if let (true, Some(wire)) = (tracking.is_unfollowed(), wire.upgrade()) {
        // If it fails, the server remembers keys until the connection ends, and nothing else.
        drop(exchange(&wire, &untrack(), deadline_in(timeout)).await);
    }
}

/// The command after which the server tells nothing more over a connection.
pub(super) fn untrack() -> RawCommand {
    RawCommand::new("CLIENT").args(["TRACKING", "OFF"])
}

async fn exchange(wire: &Wire, command: &impl Encode, deadline: Instant) -> Result<Reply, Failure> {
    let encode = |output: &mut Vec<u8>| command.write(output);
    match call(wire, 1, deadline, encode).await? {
        Answer::One(reply) => Ok(reply),
        Answer::Many(_) => Err(Failure::desynchronized()),
    }
}

fn call<E: FnOnce(&mut Vec<u8>)>(
    wire: &Wire,
    replies: usize,
    deadline: Instant,
    encode: E,
) -> Call<'_, E> {
    let request = Request { replies, deadline: deadline.into_std() };
    Call { wire, stage: Stage::New(request, encode) }
}

/// A call, from before its command is encoded until it has its answer. It is in flight from its
/// first poll on.
struct Call<'c, E> {
    wire: &'c Wire,
    stage: Stage<E>,
}

enum Stage<E> {
    New(Request, E),
    InFlight(CallId),
    Over,
}

// Nothing is pinned: what is in flight is in the state of the connection.
impl<E> Unpin for Call<'_, E> {}

impl<E: FnOnce(&mut Vec<u8>)> Future for Call<'_, E> {
    type Output = Result<Answer<Reply>, Failure>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let wire = self.wire;
        let id = match self.stage {
            Stage::InFlight(id) => id,
            _ => {
                let Stage::New(request, encode) = mem::replace(&mut self.stage, Stage::Over) else {
                    return Poll::Pending;
                };
                let Begun { id, roles, gathers } =
                    wire.calls.begin(request, encode, context.waker())?;
                self.stage = Stage::InFlight(id);
                if gathers {
                    // The tasks that are ready run before this one: what they send goes out in the
                    // same system call.
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                ready!(wire.work(id, roles, context));
                id
            }
        };
        let answer = ready!(wire.poll(id, context));
        self.stage = Stage::Over;
        Poll::Ready(answer)
    }
}

impl<E> Drop for Call<'_, E> {
    fn drop(&mut self) {
        if let Stage::InFlight(id) = self.stage {
            self.wire.calls.leave(id);
        }
    }
}

#[cfg(all(test, unix))]
mod tests;
