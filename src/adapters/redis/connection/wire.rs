//! What the callers of a connection drive: the calls, and the two halves of the socket.

use super::calls::{Answer, CallId, Calls, Delivery, Drive, Roles, Turn};
use super::resp::{Bounds, Message, Parser};
use super::socket::{Incoming, Outgoing, Socket};
use super::tcp::hold_if_at_hand;
use crate::adapters::redis::errors::Failure;
use crate::adapters::redis::millis;
use crate::adapters::redis::reply::Reply;
use crate::runtime::lock;
use bytes::BytesMut;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWrite};

/// As many bytes are read at a time.
const READ: usize = 64 << 10;
/// A buffer that has grown beyond this for one large command is given back.
const KEPT: usize = 1 << 20;
/// After as many bytes a reader lets other tasks of its runtime go on.
const TURN: usize = 512 << 10;

/// The shared state of a connection.
///
/// A call is polled with I/O under the lock of its half, and then with the lock of the calls: never
/// the other way round.
pub(super) struct Wire {
    pub(super) calls: Calls<Reply, Failure>,
    output: Mutex<Output>,
    input: Mutex<Input>,
    born: Instant,
    /// When something was read last, in milliseconds since it was born.
    heard: AtomicU64,
    listener: Arc<dyn Listener>,
}

/// Hears what happens on a connection besides the calls. Called under locks of the connection, so it
/// does not wait, and does not call over this connection.
pub(super) trait Listener: Send + Sync {
    /// The server sent something without being asked. In order with the replies: whatever the server
    /// sent before it answered comes before [`answered`](Listener::answered).
    fn pushed(&self, push: Vec<Reply>);

    /// A writer is about to send commands. Returns the time, if the listener wants to know when
    /// commands that are answered were sent.
    fn sending(&self) -> Option<u64>;

    /// Commands were answered, the newest of which were sent at that time.
    fn answered(&self, sent_at: u64);

    /// The connection has ended, or is not to be believed any more. Called before any call ends by
    /// it.
    fn ended(&self);
}

struct Output {
    half: Outgoing,
    /// Taken by a writer, and with the operating system up to `at`.
    buffer: Vec<u8>,
    at: usize,
    /// Nothing can be written any more. What the server said before it closed is still to be read.
    is_broken: bool,
}

struct Input {
    half: Incoming,
    buffer: BytesMut,
    parser: Parser,
    /// Cut out, and not delivered yet: empty between polls.
    replies: Vec<Reply>,
}

impl Wire {
    pub(super) fn new(
        socket: Socket,
        bounds: Bounds,
        drive: Drive,
        listener: Arc<dyn Listener>,
    ) -> Self {
        let (incoming, outgoing) = socket.split();
        let (buffer, at, is_broken) = (Vec::new(), 0, false);
        Self {
            calls: Calls::new(drive),
            output: Mutex::new(Output { half: outgoing, buffer, at, is_broken }),
            input: Mutex::new(Input {
                half: incoming,
                buffer: BytesMut::new(),
                parser: Parser::new(bounds),
                replies: Vec::new(),
            }),
            born: Instant::now(),
            heard: AtomicU64::new(0),
            listener,
        }
    }

    /// Polls a call: writes and reads for all, if that is its turn.
    pub(super) fn poll(
        &self,
        id: CallId,
        context: &mut Context<'_>,
    ) -> Poll<Result<Answer<Reply>, Failure>> {
        loop {
            match self.calls.poll(id, context.waker()) {
                Turn::Done(answer) => return Poll::Ready(answer),
                Turn::Work(roles) => ready!(self.work(id, roles, context)),
            }
        }
    }

    /// Does what a call has to do. Ready if something was read, which may be its answer.
    pub(super) fn work(&self, id: CallId, roles: Roles, context: &mut Context<'_>) -> Poll<()> {
        if roles.write {
            self.write(context);
        }
        if roles.read { self.read(id, context) } else { Poll::Pending }
    }

    /// Writes as much as the operating system takes. An error is the end of writing only: the
    /// server may have said why it closes, and the reader finds that, and the end.
    pub(super) fn write(&self, context: &mut Context<'_>) {
        let mut output = lock(&self.output);
        if let Poll::Ready(Err(_)) = self.poll_flush(&mut output, context) {
            output.is_broken = true;
            output.buffer.clear();
            output.at = 0;
            while self.calls.take_output(&mut output.buffer, || None) {
                output.buffer.clear();
            }
        }
    }

    fn poll_flush(&self, output: &mut Output, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Output { half, buffer, at, is_broken } = output;
        loop {
            if *at == buffer.len() || *is_broken {
                buffer.clear();
                buffer.shrink_to(KEPT);
                *at = 0;
                if !*is_broken {
                    // An encrypted stream has buffers of its own.
                    ready!(Pin::new(&mut *half).poll_flush(context))?;
                }
                if !self.calls.take_output(buffer, || self.listener.sending()) {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            match ready!(Pin::new(&mut *half).poll_write(context, &buffer[*at..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => *at += written,
            }
        }
    }

    /// Reads for `by` until replies have come, and delivers them. Ready also when the connection
    /// has ended.
    pub(super) fn read(&self, by: CallId, context: &mut Context<'_>) -> Poll<()> {
        let mut input = lock(&self.input);
        let read = ready!(self.poll_read(&mut input, by, context));
        drop(input);
        self.finish(read);
        Poll::Ready(())
    }

    /// Wakes the callers of what was read, or ends the connection.
    fn finish(&self, read: Result<Delivery, Failure>) {
        let read =
            read.and_then(
                |delivery| {
                    if delivery.wake() { Ok(()) } else { Err(Failure::desynchronized()) }
                },
            );
        if let Err(failure) = read {
            self.fail(&failure);
        }
    }

    /// Reads while nothing is in flight: what the server sends without being asked, and the end. A
    /// call that begins meanwhile polls after this one, for both have the lock of the input, so the
    /// waker that is kept is that of the call.
    pub(super) fn read_idle(&self, by: CallId, context: &mut Context<'_>) -> Poll<()> {
        let mut input = lock(&self.input);
        if !self.calls.is_idle() {
            return Poll::Ready(());
        }
        let read = ready!(self.poll_read(&mut input, by, context));
        drop(input);
        self.finish(read);
        Poll::Ready(())
    }

    fn poll_read(
        &self,
        input: &mut Input,
        by: CallId,
        context: &mut Context<'_>,
    ) -> Poll<Result<Delivery, Failure>> {
        let Input { half, buffer, parser, replies } = input;
        let mut read = 0;
        loop {
            if read >= TURN {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            if buffer.capacity() - buffer.len() < READ / 2 {
                buffer.reserve(READ);
            }
            match ready!(pin!(half.read_buf(buffer)).poll(context))? {
                0 => {
                    let closed = io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the server closed the connection",
                    );
                    return Poll::Ready(Err(closed.into()));
                }
                amount => read += amount,
            }
            while let Some(message) = parser.next(buffer)? {
                match message {
                    Message::Push(push) => self.listener.pushed(push),
                    Message::Reply(reply) => replies.push(reply),
                }
            }
            if replies.is_empty() {
                continue;
            }
            self.heard.store(millis(self.born.elapsed()), Ordering::Relaxed);
            // Under the lock of the input: another reader must not deliver what comes later first.
            let answered = |sent_at| self.listener.answered(sent_at);
            return Poll::Ready(Ok(self.calls.deliver(by, replies.drain(..), answered)));
        }
    }

    /// Ends the connection: all calls in flight and all later ones have this error.
    pub(super) fn fail(&self, failure: &Failure) {
        // First the listener: a caller that has seen the end may read over another connection.
        self.listener.ended();
        self.calls.fail(failure);
    }

    /// Nothing that comes from now on is believed.
    pub(super) fn end_listening(&self) {
        self.listener.ended();
    }

    /// Lets the kernel send small commands together where nothing is lost by that.
    pub(super) fn hold_small_commands_if_at_hand(&self, answered_in: Duration) -> io::Result<()> {
        let output = lock(&self.output);
        output.half.with_tcp(|stream| hold_if_at_hand(stream, answered_in)).unwrap_or(Ok(()))
    }

    /// How long ago replies came; since it was opened, if none has come.
    pub(super) fn silent_for(&self) -> Duration {
        let heard = Duration::from_millis(self.heard.load(Ordering::Relaxed));
        self.born.elapsed().saturating_sub(heard)
    }

    /// Whether it is open and nothing waits to be read, as far as the operating system knows.
    pub(super) fn is_open_and_quiet(&self) -> bool {
        !self.calls.has_ended() && lock(&self.input).half.is_open_and_quiet()
    }

    /// The line of an error among the first replies.
    pub(super) fn take_first_error(&self) -> Option<String> {
        lock(&self.input).parser.take_first_error()
    }
}
