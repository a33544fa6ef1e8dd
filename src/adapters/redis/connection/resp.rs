//! RESP, redis's protocol in its versions 2 and 3: what a server sends becomes values, piece by
//! piece as it comes.
//!
//! A reply has bounds: the bytes of a value, the number of values, how deep they are nested, and
//! how long the reply may take. Errors become text, because a server quotes in them what it was
//! sent, and that may be a value. The redis crate's parser reads the rare kinds, and is the oracle
//! of the tests for the others.
//!
//! Source: <https://redis.io/docs/latest/develop/reference/protocol-spec/>.

use crate::adapters::redis::reply::{Reply, ServerError};
use bytes::{Buf, Bytes, BytesMut};
use std::io;
use std::mem;
use std::time::{Duration, Instant};

/// As long may a line be: errors, numbers and lengths.
const LINE: usize = 64 << 10;
/// As many values may one reply hold, at all depths together: each takes 40 bytes however short it
/// is. No reply to what is asked here holds more than some thousand: a step through the keys ends
/// with the first thousand found, and a batch reads a thousand at once.
const VALUES: u64 = 1 << 16;
/// Nothing that is asked here is answered by more than four levels.
const DEPTH: usize = 32;
/// As many bytes may a reply of many values have.
const REPLY: u64 = 1 << 30;
/// A value of this size is read whatever the limit for writing is: other processes may have
/// another.
const READ: u64 = 64 << 20;
/// What stands around a value: a header, and what scripts add.
const SLACK: u64 = 64 << 10;
/// Room for a value is made ahead up to this; for the rest when as much has really come.
const AHEAD: usize = 1 << 20;
/// Of the errors at the beginning of a connection so much is kept.
const KEPT: usize = 128;
/// Replies that belong to the beginning of a connection.
const FIRST: u64 = 8;

/// What a reply may come to.
#[derive(Clone, Copy, Debug)]
pub(in crate::adapters::redis) struct Bounds {
    /// Bytes of one value.
    value: u64,
    /// A reply that takes longer, twice in a row, is one that never ends.
    timeout: Duration,
}

impl Bounds {
    pub(in crate::adapters::redis) fn new(max_value_bytes: usize, timeout: Duration) -> Self {
        let value = u64::try_from(max_value_bytes).unwrap_or(u64::MAX).max(READ);
        Self { value: value.saturating_add(SLACK), timeout }
    }
}

/// What a server says.
#[derive(Debug, PartialEq)]
pub(in crate::adapters::redis) enum Message {
    Reply(Reply),
    /// What nothing was asked for, such as the name of a key that has changed.
    Push(Vec<Reply>),
}

/// Where in the stream of replies a connection is.
#[derive(Debug)]
pub(super) struct Parser {
    bounds: Bounds,
    state: State,
    /// Lists whose elements are not all there yet, the outermost first.
    open: Vec<Open>,
    /// Elements of the reply that have been announced, and its bytes so far.
    values: u64,
    bytes: u64,
    /// Since when the reply has been coming, and since when for too long.
    begun: Option<Instant>,
    late: Option<Instant>,
    ended: u64,
    error: String,
}

#[derive(Debug)]
enum State {
    /// In a line, of which so many bytes have been looked at.
    Line { looked: usize },
    /// In a string of so many bytes.
    Body { kind: u8, len: usize, got: Vec<u8> },
}

/// A list whose elements are not all there yet.
#[derive(Debug)]
struct Open {
    kind: u8,
    left: u64,
    values: Vec<Reply>,
}

/// What a line or a string comes to.
enum Part {
    Whole(Reply),
    /// More belongs to it.
    Unfinished,
}

impl Parser {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            state: State::Line { looked: 0 },
            open: Vec::new(),
            values: 0,
            bytes: 0,
            begun: None,
            late: None,
            ended: 0,
            error: String::new(),
        }
    }

    /// Takes the next message out of `input`; `None` if not all of it is there.
    ///
    /// # Errors
    ///
    /// For what is no reply, and for a reply beyond the bounds. Then nothing more can be read.
    pub(super) fn next(&mut self, input: &mut BytesMut) -> io::Result<Option<Message>> {
        loop {
            let before = input.len();
            let part = match &mut self.state {
                State::Line { looked } => {
                    let looked = mem::take(looked);
                    self.line(input, looked)?
                }
                State::Body { .. } => self.body(input)?,
            };
            self.bytes += (before - input.len()) as u64;
            let Some(part) = part else {
                if !(self.is_between() && input.is_empty()) {
                    self.is_in_time()?;
                }
                return Ok(None);
            };
            if let Part::Whole(value) = part
                && let Some(message) = self.complete(value)?
            {
                self.end();
                return Ok(Some(message));
            }
        }
    }

    /// The line of an error that has come since it was last asked for, if it was one of the first
    /// replies.
    pub(super) fn take_first_error(&mut self) -> Option<String> {
        let error = mem::take(&mut self.error);
        (!error.is_empty()).then_some(error)
    }

    fn is_between(&self) -> bool {
        self.open.is_empty() && matches!(self.state, State::Line { looked: 0 })
    }

    /// The next line of `input`; `None` if its end is not there.
    fn line(&mut self, input: &mut BytesMut, looked: usize) -> io::Result<Option<Part>> {
        if let Some(first) = input.first() {
            check_kind(*first)?;
        }
        let Some(end) = input[looked..].iter().position(|byte| *byte == b'\n') else {
            self.state = State::Line { looked: input.len() };
            return if input.len() > LINE { Err(too_long()) } else { Ok(None) };
        };
        let len = looked + end + 1;
        if len > LINE {
            return Err(too_long());
        }
        let Some((kind, text)) = input[..len].strip_suffix(b"\r\n").and_then(<[u8]>::split_first)
        else {
            return Err(not_redis());
        };
        let (kind, mut used) = (*kind, len);
        let part = match kind {
            b'+' if text == b"OK" => Part::Whole(Reply::Okay),
            b'+' => Part::Whole(Reply::Simple(utf8(text)?.to_owned())),
            b':' => Part::Whole(Reply::Int(utf8(text)?.trim().parse().map_err(|_| not_redis())?)),
            b'_' if text.is_empty() => Part::Whole(Reply::Nil),
            b'_' => return Err(not_redis()),
            b'#' => Part::Whole(Reply::Boolean(match text {
                b"t" => true,
                b"f" => false,
                _ => return Err(not_redis()),
            })),
            b'-' => {
                let line = as_text(text);
                self.keep_error(&line);
                Part::Whole(Reply::Error(ServerError::new(line)))
            }
            b',' | b'(' => Part::Whole(by_the_driver(&input[..len])?),
            b'$' => match self.length_of_string(text)? {
                None => Part::Whole(Reply::Nil),
                Some(size) => match input[len..].split_at_checked(size) {
                    // All of it is there, as with most values: one copy, into its own room.
                    Some((value, [b'\r', b'\n', ..])) => {
                        used += size + 2;
                        Part::Whole(Reply::Bulk(Bytes::copy_from_slice(value)))
                    }
                    _ => self.begin_string(kind, size),
                },
            },
            b'!' | b'=' => match self.length_of_string(text)? {
                None => return Err(not_redis()),
                Some(size) => self.begin_string(kind, size),
            },
            _ => self.begin_list(kind, length(text)?)?,
        };
        input.advance(used);
        Ok(Some(part))
    }

    /// How long a string is; `None` for none at all.
    fn length_of_string(&self, text: &[u8]) -> io::Result<Option<usize>> {
        let Some(len) = length(text)? else { return Ok(None) };
        if len > self.bounds.value {
            return Err(invalid("a value is larger than any that is read"));
        }
        usize::try_from(len).map(Some).map_err(|_| not_redis())
    }

    /// The rest is read as it comes.
    fn begin_string(&mut self, kind: u8, len: usize) -> Part {
        self.state = State::Body { kind, len, got: Vec::with_capacity(len.min(AHEAD)) };
        Part::Unfinished
    }

    fn begin_list(&mut self, kind: u8, len: Option<u64>) -> io::Result<Part> {
        let len = match (kind, len) {
            (b'*' | b'~', None) => return Ok(Part::Whole(Reply::Nil)),
            (_, None) => return Err(not_redis()),
            (b'%' | b'|', Some(pairs)) => pairs.saturating_mul(2),
            (_, Some(len)) => len,
        };
        self.values = self.values.saturating_add(len);
        if self.values > VALUES {
            return Err(invalid("a reply has too many values"));
        }
        if kind == b'>' && !self.open.is_empty() || self.open.len() == DEPTH {
            return Err(not_redis());
        }
        let values = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
        let list = Open { kind, left: len, values };
        if len > 0 {
            self.open.push(list);
            return Ok(Part::Unfinished);
        }
        Ok(match list.kind {
            // Attributes stand before a value, and are none.
            b'|' => Part::Unfinished,
            _ => Part::Whole(list.close()?),
        })
    }

    /// As much of a string as is there; `None` if that is not all of it.
    fn body(&mut self, input: &mut BytesMut) -> io::Result<Option<Part>> {
        let State::Body { kind, len, got } = &mut self.state else { return Ok(None) };
        let lacking = *len - got.len();
        let come = lacking.min(input.len());
        if got.capacity() - got.len() < come {
            got.reserve_exact(lacking);
        }
        got.extend_from_slice(&input[..come]);
        input.advance(come);
        if come < lacking || input.len() < 2 {
            return Ok(None);
        }
        if !input.starts_with(b"\r\n") {
            return Err(not_redis());
        }
        input.advance(2);
        let (kind, got) = (*kind, mem::take(got));
        self.state = State::Line { looked: 0 };
        if kind == b'$' {
            return Ok(Some(Part::Whole(Reply::Bulk(got.into()))));
        }
        if kind == b'!' {
            return Ok(Some(Part::Whole(Reply::Error(ServerError::new(as_text(&got))))));
        }
        let head = format!("{}{}\r\n", char::from(kind), got.len());
        let whole = [head.as_bytes(), &got, b"\r\n"].concat();
        by_the_driver(&whole).map(|value| Some(Part::Whole(value)))
    }

    /// Puts a value where it belongs; the message, if that ends it. A push is what a list that
    /// begins with `>` comes to.
    fn complete(&mut self, mut value: Reply) -> io::Result<Option<Message>> {
        while let Some(mut list) = self.open.pop() {
            list.values.push(value);
            list.left -= 1;
            if list.left > 0 {
                self.open.push(list);
                return Ok(None);
            }
            match list.kind {
                b'|' => return Ok(None),
                b'>' => return Ok(Some(Message::Push(list.values))),
                _ => value = list.close()?,
            }
        }
        Ok(Some(Message::Reply(value)))
    }

    fn end(&mut self) {
        (self.begun, self.late, self.bytes, self.values) = (None, None, 0, 0);
        self.ended = self.ended.saturating_add(1);
    }

    fn keep_error(&mut self, line: &str) {
        if self.ended < FIRST {
            self.error = line.trim_end().chars().take(KEPT).collect();
        }
    }

    /// The clock is looked at when something has come, for a reply that stands still grows no more.
    /// Time in which the runtime itself stood still is not the server's: too late is who is late
    /// twice.
    fn is_in_time(&mut self) -> io::Result<()> {
        if self.bytes > REPLY {
            return Err(invalid("a reply is too large"));
        }
        let now = Instant::now();
        let since = *self.late.as_ref().unwrap_or(self.begun.get_or_insert(now));
        if now.duration_since(since) <= self.bounds.timeout {
            return Ok(());
        }
        match self.late.replace(now) {
            None => Ok(()),
            Some(_) => Err(invalid("a reply does not end")),
        }
    }
}

impl Open {
    /// The value of a list whose elements are all there.
    fn close(self) -> io::Result<Reply> {
        Ok(match self.kind {
            b'*' => Reply::Array(self.values),
            b'~' => Reply::Set(self.values),
            b'%' => {
                let mut pairs = Vec::with_capacity(self.values.len() / 2);
                let mut values = self.values.into_iter();
                while let (Some(key), Some(value)) = (values.next(), values.next()) {
                    pairs.push((key, value));
                }
                Reply::Map(pairs)
            }
            _ => return Err(not_redis()),
        })
    }
}

fn check_kind(kind: u8) -> io::Result<()> {
    match kind {
        b'+' | b'-' | b':' | b'$' | b'*' | b'_' | b'#' | b',' | b'(' | b'!' | b'=' | b'%'
        | b'~' | b'>' | b'|' => Ok(()),
        // The first byte of a TLS alert.
        0x15 => Err(invalid("the server speaks TLS (`rediss:`)")),
        _ => Err(not_redis()),
    }
}

/// A length; `None` for -1, which says that there is nothing. No other length is negative, and none
/// is left out.
fn length(digits: &[u8]) -> io::Result<Option<u64>> {
    match digits {
        b"-1" => Ok(None),
        [] => Err(not_redis()),
        digits if digits.iter().all(u8::is_ascii_digit) => {
            let number = |before: u64, digit: &u8| {
                before.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
            };
            Ok(Some(digits.iter().fold(0, number)))
        }
        _ => Err(not_redis()),
    }
}

fn utf8(bytes: &[u8]) -> io::Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| not_redis())
}

/// Bytes as text, whatever they are.
fn as_text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| if byte.is_ascii() { char::from(*byte) } else { '?' }).collect()
}

/// Rare kinds.
fn by_the_driver(whole: &[u8]) -> io::Result<Reply> {
    redis::parse_redis_value(whole).map(Reply::from).map_err(|_| not_redis())
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn too_long() -> io::Error {
    invalid("a line of a reply is too long")
}

fn not_redis() -> io::Error {
    invalid("what answers does not speak redis's protocol")
}

#[cfg(test)]
mod tests;
