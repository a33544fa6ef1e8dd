//! A client for one connection: one exchange at a time, of one request or of many that are sent
//! together.
//!
//! The requests of an exchange are encoded into one buffer and sent from there, while the answers
//! that come meanwhile are read: the server may answer before it has read everything. The state of
//! an exchange is in the client and not in the future that waits for it, so a client whose exchange
//! was dropped can still wait for the answers ([`Client::outlast`]).

use super::meta::{Answer, Status, parse};
use super::socket::Socket;
use super::{Condition, Draft, Item, Wants, Written};
use crate::adapters::memcached::errors::Fault;
use crate::adapters::memcached::ttl::Ttl;
use crate::decimal::{MOST_DIGITS, write_digits};
use bytes::{Buf, Bytes, BytesMut};
use std::future::poll_fn;
use std::io;
use std::io::Write as _;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncReadExt, AsyncWrite};

/// As many bytes are read at a time.
const READ: usize = 64 << 10;
/// A buffer that has grown beyond this for one exchange is given back.
const KEPT: usize = 512 << 10;

/// The last answer of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    /// The first one.
    First,
    /// The answer to a `mn` behind many requests, most of which the server answers only if there is
    /// something to say.
    NoOp,
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Client {
    socket: Socket,
    /// The requests, of which the operating system has the first `sent` bytes.
    output: Vec<u8>,
    sent: usize,
    input: BytesMut,
    /// The most bytes of a value.
    most: usize,
    /// The flags that all requests of an exchange have.
    flags: Vec<u8>,
    /// The answer that ends the exchange in flight.
    owed: Option<Last>,
    /// Nothing can be written any more. What the server said before it closed is still to be read.
    unwritable: Option<io::Error>,
    is_broken: bool,
}

impl Client {
    /// A value of more than `most` bytes ends the connection.
    pub(super) fn new(socket: Socket, most: usize) -> Self {
        Self {
            socket,
            output: Vec::new(),
            sent: 0,
            input: BytesMut::new(),
            most,
            flags: Vec::new(),
            owed: None,
            unwritable: None,
            is_broken: false,
        }
    }

    /// Whether it can be used no more: it broke, answered another request, or an exchange was
    /// dropped midway.
    pub(super) fn is_closed(&self) -> bool {
        self.is_broken || self.owed.is_some()
    }

    /// Reads items. With a lifetime it gives it to the items that are there.
    pub(super) async fn get<K: AsRef<str>>(
        &mut self,
        keys: &[K],
        wants: Wants,
        ttl: Option<Ttl>,
        opaque: u32,
    ) -> Result<Vec<Option<Item>>, Fault> {
        let last = self.ask_for(keys, wants, ttl, opaque);
        let mut found = Vec::with_capacity(keys.len());
        let take = |answer: Answer<'_>| match answer.status {
            Status::Missing if last == Last::First => Ok(()),
            Status::Value | Status::Done if answer.opaque == Some(opaque.into()) => {
                place(&mut found, keys, wants, &answer)
            }
            _ => Err(Fault::Misplaced),
        };
        self.exchange(last, take).await?;
        found.resize(keys.len(), None);
        Ok(found)
    }

    fn ask_for<K: AsRef<str>>(
        &mut self,
        keys: &[K],
        wants: Wants,
        ttl: Option<Ttl>,
        opaque: u32,
    ) -> Last {
        let Self { output, flags, .. } = self;
        let last = if keys.len() == 1 { Last::First } else { Last::NoOp };
        for (at, key) in keys.iter().enumerate() {
            if at == 0 || (at == 1 && wants.first != wants.others) {
                flags.clear();
                put(flags, format_args!("{} O{opaque}", wants.at(at).flags()));
                if let Some(ttl) = ttl {
                    put(flags, format_args!(" {ttl}"));
                }
                flags.extend_from_slice(if last == Last::First { b"\r\n" } else { b" q\r\n" });
            }
            output.extend_from_slice(b"mg ");
            output.extend_from_slice(key.as_ref().as_bytes());
            output.extend_from_slice(flags);
        }
        if last == Last::NoOp {
            output.extend_from_slice(b"mn\r\n");
        }
        last
    }

    /// Writes one item.
    pub(super) async fn set(
        &mut self,
        key: &str,
        draft: &Draft,
        condition: Condition,
        opaque: u32,
    ) -> Result<Written, Fault> {
        let Draft { bytes, flags, ttl } = draft;
        let length = bytes.len();
        put(
            &mut self.output,
            format_args!("ms {key} {length} F{flags} {ttl} c O{opaque}{condition}\r\n"),
        );
        self.output.extend_from_slice(bytes);
        self.output.extend_from_slice(b"\r\n");
        self.written(opaque).await
    }

    /// Removes one item.
    pub(super) async fn delete(
        &mut self,
        key: &str,
        condition: Condition,
        opaque: u32,
    ) -> Result<Written, Fault> {
        put(&mut self.output, format_args!("md {key} O{opaque}{condition}\r\n"));
        self.written(opaque).await
    }

    async fn written(&mut self, opaque: u32) -> Result<Written, Fault> {
        let mut written = Written::Refused;
        let take = |answer: Answer<'_>| {
            written = match answer.status {
                Status::Done => Written::Done { cas: answer.cas },
                Status::Refused => Written::Refused,
                _ => return Err(Fault::Misplaced),
            };
            if answer.opaque == Some(opaque.into()) { Ok(()) } else { Err(Fault::Misplaced) }
        };
        self.exchange(Last::First, take).await?;
        Ok(written)
    }

    /// Puts a write of one item beside others into the next exchange, which is
    /// [`set_all`](Self::set_all). The answers name the writes by their `opaque`.
    pub(super) fn add_to_set_all(&mut self, key: &str, bytes: &[u8], flags: &str, opaque: u32) {
        let output = &mut self.output;
        output.extend_from_slice(b"ms ");
        output.extend_from_slice(key.as_bytes());
        output.push(b' ');
        put_number(output, bytes.len() as u64);
        output.extend_from_slice(b" O");
        put_number(output, opaque.into());
        output.extend_from_slice(flags.as_bytes());
        output.extend_from_slice(b" q\r\n");
        output.extend_from_slice(bytes);
        output.extend_from_slice(b"\r\n");
    }

    /// Writes the items that were added, whose opaque numbers are the `count` from `first` on.
    /// Returns the places among them of those whose condition did not hold.
    ///
    /// # Errors
    ///
    /// The first error of the server's concerns one of the items, and does not say which.
    pub(super) async fn set_all(&mut self, first: u32, count: usize) -> Result<Vec<usize>, Fault> {
        self.output.extend_from_slice(b"mn\r\n");
        let mut refused = Vec::new();
        let take = |answer: Answer<'_>| {
            let place = answer.opaque.and_then(|opaque| u32::try_from(opaque).ok());
            let place = place.map(|opaque| opaque.wrapping_sub(first) as usize);
            match (answer.status, place) {
                (Status::Refused, Some(place))
                    if place < count && refused.last().is_none_or(|last| *last < place) =>
                {
                    refused.push(place);
                    Ok(())
                }
                _ => Err(Fault::Misplaced),
            }
        };
        self.exchange(Last::NoOp, take).await?;
        Ok(refused)
    }

    /// Asks for a sign of life.
    pub(super) async fn ping(&mut self) -> Result<(), Fault> {
        self.output.extend_from_slice(b"version\r\n");
        let take = |answer: Answer<'_>| match answer.status {
            Status::Version => Ok(()),
            _ => Err(Fault::Misplaced),
        };
        self.exchange(Last::First, take).await
    }

    /// Waits until the server has answered the exchange that was dropped, or closed the connection:
    /// from then on none of its requests can take effect.
    pub(super) async fn outlast(mut self) {
        let Some(last) = self.owed else { return };
        let mut ignore = |_: Answer<'_>| Ok(());
        // Only the arrival of the answers matters.
        let _ = poll_fn(|context| self.poll_answers(last, &mut ignore, &mut None, context)).await;
    }

    /// Sends what is encoded, and takes the answers. An error of the server's leaves the connection
    /// in step, as all answers are read.
    async fn exchange(
        &mut self,
        last: Last,
        mut take: impl FnMut(Answer<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        if self.is_closed() {
            return Err(Fault::Broken(io::ErrorKind::NotConnected.into()));
        }
        self.owed = Some(last);
        let mut error = None;
        let answered = if self.input.is_empty() {
            poll_fn(|context| self.poll_answers(last, &mut take, &mut error, context)).await
        } else {
            // It came without being asked for.
            Err(Fault::Misplaced)
        };
        self.owed = None;
        self.is_broken = answered.is_err() || matches!(error, Some(Fault::Broken(_)));
        answered.and(error.map_or(Ok(()), Err))
    }

    /// Writes and reads until the last answer has come. Keeps the server's first error.
    fn poll_answers(
        &mut self,
        last: Last,
        take: &mut impl FnMut(Answer<'_>) -> Result<(), Fault>,
        error: &mut Option<Fault>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Fault>> {
        loop {
            self.write(context);
            while let Some((answer, length)) = parse(&self.input, self.most)? {
                let is_last = last == Last::First || answer.status == Status::NoOp;
                match answer.status {
                    Status::Error => {
                        error.get_or_insert_with(|| Fault::answered(answer.value));
                    }
                    Status::NoOp if last == Last::NoOp => {}
                    _ => take(answer)?,
                }
                self.input.advance(length);
                if is_last {
                    return Poll::Ready(Ok(()));
                }
            }
            ready!(self.poll_read(context))?;
        }
    }

    /// Writes as much as the operating system takes. An error is the end of writing only: the
    /// server may have said why it closes, and the reader finds that, and the end.
    fn write(&mut self, context: &mut Context<'_>) {
        while self.sent < self.output.len() {
            let rest = &self.output[self.sent..];
            let error = match Pin::new(&mut self.socket).poll_write(context, rest) {
                Poll::Pending => return,
                Poll::Ready(Ok(0)) => io::ErrorKind::WriteZero.into(),
                Poll::Ready(Ok(written)) => {
                    self.sent += written;
                    continue;
                }
                Poll::Ready(Err(error)) => error,
            };
            self.unwritable = Some(error);
            self.sent = self.output.len();
        }
        self.output.clear();
        self.output.shrink_to(KEPT);
        self.sent = 0;
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let Self { socket, input, .. } = self;
        if input.is_empty() && input.capacity() > KEPT {
            *input = BytesMut::new();
        }
        input.reserve(READ);
        let end = match ready!(pin!(socket.read_buf(input)).poll(context)) {
            Ok(0) => io::ErrorKind::UnexpectedEof.into(),
            Ok(_) => return Poll::Ready(Ok(())),
            Err(error) => error,
        };
        Poll::Ready(Err(Fault::Broken(self.unwritable.take().unwrap_or(end))))
    }
}

/// Puts a hit beside its key. Only hits of several keys are answered, in the order of the keys.
fn place<K: AsRef<str>>(
    found: &mut Vec<Option<Item>>,
    keys: &[K],
    wants: Wants,
    answer: &Answer<'_>,
) -> Result<(), Fault> {
    loop {
        let key = keys.get(found.len()).ok_or(Fault::Misplaced)?;
        if answer.key == Some(key.as_ref().as_bytes()) {
            break;
        }
        found.push(None);
    }
    if answer.status != wants.at(found.len()).hit() {
        return Err(Fault::Misplaced);
    }
    found.push(Some(Item {
        bytes: Bytes::copy_from_slice(answer.value),
        flags: answer.flags,
        cas: answer.cas,
        remaining: answer.remaining,
        size: answer.size,
    }));
    Ok(())
}

fn put_number(out: &mut Vec<u8>, number: u64) {
    let mut room = [0; MOST_DIGITS];
    let begin = write_digits(number, &mut room);
    out.extend_from_slice(&room[begin..]);
}

fn put(out: &mut Vec<u8>, words: std::fmt::Arguments<'_>) {
    // Writing to a vector cannot fail.
    let _ = out.write_fmt(words);
}

#[cfg(all(test, unix))]
mod tests;
