//! What a server sends, looked at before the driver reads it: how long a reply is, and what an
//! error says.
//!
//! The driver reads a reply however long it grows, and gives the connection up for an error that is
//! not text. A server quotes what it was sent in errors, and that may be a value.

use std::io;
use std::time::{Duration, Instant};

/// As long may a line be: errors, numbers and lengths.
const LINE: usize = 64 << 10;
/// As many values may one reply hold, at all depths together. The driver takes 56 bytes for a value
/// however short, four times as many for an array of one, and half as much again while it moves
/// what has come. No reply to what is asked here holds more than some thousand: a step through the
/// keys ends with the first thousand found, and a batch reads a thousand at once.
const VALUES: u64 = 1 << 16;
/// As many bytes may a reply of many values have.
const REPLY: u64 = 1 << 30;
/// A value of this size is read whatever the limit for writing is: other processes may have
/// another.
const READ: u64 = 64 << 20;
/// What stands around a value: a header, and what scripts add.
const SLACK: u64 = 64 << 10;
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

/// Where in the stream of replies a connection is.
#[derive(Debug)]
pub(in crate::adapters::redis) struct Replies {
    bounds: Bounds,
    state: State,
    /// Values that the reply still lacks.
    lacking: u64,
    values: u64,
    bytes: u64,
    /// Since when the reply has been coming, and since when for too long.
    begun: Option<Instant>,
    late: Option<Instant>,
    ended: u64,
    error: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Before the byte that says what comes.
    Kind,
    Line {
        kind: u8,
        len: usize,
        number: Number,
    },
    Body {
        left: u64,
        is_error: bool,
    },
}

/// A length, as far as it has come.
#[derive(Clone, Copy, Debug, Default)]
struct Number {
    is_negative: bool,
    value: Option<u64>,
}

impl Number {
    fn read(&mut self, digits: &[u8]) -> io::Result<()> {
        for digit in digits {
            match digit {
                b'0'..=b'9' => {
                    let digit = u64::from(digit - b'0');
                    let before = self.value.unwrap_or(0);
                    self.value = Some(before.saturating_mul(10).saturating_add(digit));
                }
                b'-' if self.value.is_none() && !self.is_negative => self.is_negative = true,
                b'\r' | b'\n' => {}
                _ => return Err(not_redis()),
            }
        }
        Ok(())
    }

    /// `None` for -1, which says that there is nothing. No other length is negative, and none is
    /// left out.
    fn length(self) -> io::Result<Option<u64>> {
        match self {
            Self { is_negative: false, value: Some(length) } => Ok(Some(length)),
            Self { is_negative: true, value: Some(1) } => Ok(None),
            _ => Err(not_redis()),
        }
    }
}

impl Replies {
    pub(in crate::adapters::redis) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            state: State::Kind,
            lacking: 0,
            values: 0,
            bytes: 0,
            begun: None,
            late: None,
            ended: 0,
            error: Vec::new(),
        }
    }

    /// Looks at what has come, and makes errors text.
    ///
    /// # Errors
    ///
    /// For what is no reply, and for a reply beyond the bounds.
    pub(in crate::adapters::redis) fn look(&mut self, mut bytes: &mut [u8]) -> io::Result<()> {
        self.bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            let read = match self.state {
                State::Kind => {
                    self.begin(bytes[0])?;
                    1
                }
                State::Line { kind, len, number } => self.line(kind, len, number, bytes)?,
                State::Body { left, is_error } => self.body(left, is_error, bytes),
            };
            bytes = &mut bytes[read..];
        }
        if self.is_between() { Ok(()) } else { self.is_in_time() }
    }

    /// The line of an error that has come since it was last asked for, if it was one of the first
    /// replies.
    pub(in crate::adapters::redis) fn take_first_error(&mut self) -> Option<String> {
        let error = std::mem::take(&mut self.error);
        (!error.is_empty()).then(|| String::from_utf8_lossy(&error).into_owned())
    }

    fn is_between(&self) -> bool {
        self.lacking == 0 && matches!(self.state, State::Kind)
    }

    fn begin(&mut self, kind: u8) -> io::Result<()> {
        if self.lacking == 0 {
            (self.lacking, self.values) = (1, 0);
        }
        match kind {
            b'+' | b'-' | b':' | b'$' | b'*' | b'_' | b'#' | b',' | b'(' | b'!' | b'=' | b'%'
            | b'~' | b'>' | b'|' => {}
            // The first byte of a TLS alert.
            0x15 => return Err(invalid("the server speaks TLS (`rediss:`)")),
            _ => return Err(not_redis()),
        }
        if kind == b'-' {
            self.error.clear();
        }
        self.state = State::Line { kind, len: 0, number: Number::default() };
        Ok(())
    }

    fn line(
        &mut self,
        kind: u8,
        len: usize,
        mut number: Number,
        bytes: &mut [u8],
    ) -> io::Result<usize> {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let read = end.map_or(bytes.len(), |end| end + 1);
        let part = &mut bytes[..read];
        let len = len + read;
        if len > LINE {
            return Err(invalid("a line of a reply is too long"));
        }
        match kind {
            b'-' => {
                make_text(part);
                if self.ended < FIRST {
                    let room = KEPT.saturating_sub(self.error.len());
                    let text = part.iter().filter(|byte| !byte.is_ascii_control());
                    self.error.extend(text.take(room));
                }
            }
            b'$' | b'!' | b'=' | b'*' | b'~' | b'>' | b'%' | b'|' => number.read(part)?,
            _ => {}
        }
        if end.is_some() {
            self.state = State::Kind;
            self.end_line(kind, number)?;
        } else {
            self.state = State::Line { kind, len, number };
        }
        Ok(read)
    }

    fn end_line(&mut self, kind: u8, number: Number) -> io::Result<()> {
        match kind {
            b'$' | b'!' | b'=' => {
                if let Some(length) = number.length()? {
                    if length > self.bounds.value {
                        return Err(invalid("a value is larger than any that is read"));
                    }
                    self.state = State::Body { left: length + 2, is_error: kind == b'!' };
                    return Ok(());
                }
            }
            b'*' | b'~' | b'>' => self.expect(number.length()?.unwrap_or(0))?,
            b'%' | b'|' => {
                let pairs = number.length()?.ok_or_else(not_redis)?;
                self.expect(pairs.saturating_mul(2))?;
            }
            _ => {}
        }
        // Attributes stand before a value, and are none.
        if kind != b'|' {
            self.end_value();
        }
        Ok(())
    }

    fn expect(&mut self, values: u64) -> io::Result<()> {
        self.values = self.values.saturating_add(values);
        if self.values > VALUES {
            return Err(invalid("a reply has too many values"));
        }
        self.lacking += values;
        Ok(())
    }

    fn body(&mut self, left: u64, is_error: bool, bytes: &mut [u8]) -> usize {
        let read = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
        if is_error {
            make_text(&mut bytes[..read]);
        }
        let left = left - read as u64;
        if left > 0 {
            self.state = State::Body { left, is_error };
        } else {
            self.state = State::Kind;
            self.end_value();
        }
        read
    }

    fn end_value(&mut self) {
        self.lacking = self.lacking.saturating_sub(1);
        if self.lacking == 0 {
            (self.begun, self.late, self.bytes) = (None, None, 0);
            self.ended = self.ended.saturating_add(1);
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

/// In place, and whatever part of a line it is.
fn make_text(bytes: &mut [u8]) {
    for byte in bytes {
        if !byte.is_ascii() {
            *byte = b'?';
        }
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn not_redis() -> io::Error {
    invalid("what answers does not speak redis's protocol")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replies() -> Replies {
        Replies::new(Bounds::new(1 << 20, Duration::from_secs(1)))
    }

    const MIXED: &[u8] =
        b"+OK\r\n:-12\r\n$3\r\na\nb\r\n$-1\r\n*2\r\n$0\r\n\r\n*1\r\n:1\r\n%1\r\n+a\r\n_\r\n\
        |1\r\n+a\r\n+b\r\n#t\r\n=7\r\ntxt:abc\r\n~0\r\n*-1\r\n-ERR no\r\n!5\r\nERR x\r\n";

    #[test]
    fn replies_are_told_apart_however_they_are_cut() {
        for size in 1..=MIXED.len() {
            let mut replies = replies();
            for part in MIXED.to_vec().chunks_mut(size) {
                replies.look(part).unwrap();
            }
            assert!(replies.is_between() && replies.begun.is_none(), "{size}");
            assert_eq!(replies.ended, 12, "{size}");
        }
    }

    #[test]
    fn errors_become_text_and_values_stay_as_they_are() {
        let stream = b"-ERR unknown 'k\xFFv'\r\n$2\r\n\xC1\xFF\r\n!4\r\nX \xFF\xFE\r\n".to_vec();
        for size in 1..=stream.len() {
            let mut stream = stream.clone();
            let mut replies = replies();
            stream.chunks_mut(size).for_each(|part| replies.look(part).unwrap());
            assert_eq!(stream, b"-ERR unknown 'k?v'\r\n$2\r\n\xC1\xFF\r\n!4\r\nX ??\r\n");
            assert_eq!(replies.take_first_error().as_deref(), Some("ERR unknown 'k?v'"));
        }
    }

    #[test]
    fn a_reply_has_bounds() {
        let refused = |bytes: &[u8]| replies().look(&mut bytes.to_vec()).is_err();
        assert!(refused(b"$99999999999999999999\r\n"));
        assert!(refused(b"$68000000\r\n"), "more than 64 MiB");
        assert!(!refused(b"$67000000\r\n"));
        assert!(refused(b"*9999999\r\n"));
        assert!(refused(b"*1000000\r\n*1000000\r\n"));
        assert!(refused(&[b"+".as_slice(), &[b'a'; LINE + 1]].concat()));
        for length in ["", "-", "-2", "-0", "--1", "1-", "-12", "?"] {
            assert!(refused(format!("${length}\r\n").as_bytes()), "{length}");
            assert!(refused(format!("*{length}\r\n").as_bytes()), "{length}");
        }
        assert!(!refused(b"$-1\r\n*-1\r\n") && refused(b"%-1\r\n"));
        assert!(refused(b"HTTP/1.1 200 OK\r\n") && refused(b"\x15\x03\x03") && refused(b"$x\r\n"));
    }

    #[test]
    fn the_values_of_a_reply_are_counted_at_all_depths() {
        let read = |reply: &str, times: usize| {
            let mut replies = replies();
            let looked = replies.look(&mut reply.repeat(times).into_bytes());
            looked.map(|()| replies.values)
        };
        for (begin, nested) in [
            ("*65536\r\n", "*65537\r\n"),
            ("~65536\r\n", "*60000\r\n~6000\r\n"),
            (">65536\r\n", ">60000\r\n+a\r\n*6000\r\n"),
            ("%32768\r\n", "%32768\r\n+a\r\n*1\r\n"),
            ("|32768\r\n", "|32768\r\n+a\r\n%1\r\n"),
        ] {
            assert_eq!(read(begin, 1).unwrap(), VALUES, "{begin}");
            let error = read(nested, 1).unwrap_err();
            assert_eq!(error.to_string(), "a reply has too many values", "{nested}");
        }
        assert!(read("*1\r\n", 1 << 17).is_err(), "one in the other");
        assert!(read("|1\r\n+a\r\n+b\r\n", 1 << 17).is_err(), "attributes of one value");
        assert!(read("*1000\r\n:1\r\n", 1).is_ok());
        assert!(read("*2\r\n:1\r\n:1\r\n", 1 << 17).is_ok(), "each reply by itself");
    }

    #[test]
    fn a_reply_that_never_ends_is_given_up() {
        let mut replies = Replies::new(Bounds { value: u64::MAX, timeout: Duration::ZERO });
        let mut begin = b"$1000000\r\n".to_vec();
        replies.look(&mut begin).unwrap();
        let ended = (0..10).any(|_| {
            std::thread::sleep(Duration::from_millis(1));
            replies.look(&mut [b'a'; 10]).is_err()
        });
        assert!(ended);
    }
}
