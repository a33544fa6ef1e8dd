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

use super::calls::{Answer, CallId, Drive, Request};
use super::resp::Bounds;
use super::socket::Socket;
use super::watchdog::watch;
use super::wire::Wire;
use crate::adapters::redis::errors::Failure;
use crate::runtime;
use redis::{Cmd, Pipeline, Value};
use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::sync::Arc;
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
        on_push: impl Fn(Vec<Value>) + Send + Sync + 'static,
    ) -> Self {
        let wire = Arc::new(Wire::new(socket, bounds, drive, Box::new(on_push)));
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
        command: &Cmd,
        deadline: Instant,
    ) -> Result<Value, Failure> {
        let encode = |output: &mut Vec<u8>| command.write_packed_command(output);
        match self.call(1, deadline, encode).await? {
            Answer::One(reply) => Ok(reply),
            Answer::Many(_) => Err(Failure::desynchronized()),
        }
    }

    /// Sends many commands together. As [`exchange`](Self::exchange), with one reply a command.
    pub(super) async fn exchange_all(
        &self,
        commands: &Pipeline,
        deadline: Instant,
    ) -> Result<Vec<Value>, Failure> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let encode = |output: &mut Vec<u8>| {
            commands.cmd_iter().for_each(|command| command.write_packed_command(output));
        };
        Ok(match self.call(commands.len(), deadline, encode).await? {
            Answer::One(reply) => vec![reply],
            Answer::Many(replies) => replies,
        })
    }

    async fn call(
        &self,
        replies: usize,
        deadline: Instant,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Answer<Value>, Failure> {
        let request = Request { replies, deadline: deadline.into_std() };
        let begun = self.wire.calls.begin(request, encode)?;
        let call = InFlight { wire: &self.wire, id: begun.id };
        if begun.gathers {
            // What other tasks are ready to send goes out in the same system call.
            runtime::yield_now().await;
        }
        let answer = poll_fn(|context| self.wire.poll(call.id, context)).await;
        mem::forget(call);
        answer
    }

    /// Whether something is in flight whose caller has gone: the server may execute it at any time.
    pub(super) fn has_abandoned(&self) -> bool {
        self.wire.calls.has_abandoned()
    }

    /// How many replies have come.
    pub(super) fn answered(&self) -> u64 {
        self.wire.calls.answered()
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
        self.wire.calls.fail(failure);
    }
}

impl Drop for DrivenConnection {
    fn drop(&mut self) {
        self.watchdog.abort();
    }
}

impl fmt::Debug for DrivenConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DrivenConnection").finish_non_exhaustive()
    }
}

/// A call, until it has its answer.
struct InFlight<'c> {
    wire: &'c Wire,
    id: CallId,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.wire.calls.leave(self.id);
    }
}

#[cfg(all(test, unix))]
mod tests;
