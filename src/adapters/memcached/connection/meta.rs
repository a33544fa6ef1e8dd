//! Answers to the meta commands of memcached's text protocol, out of bytes.

use crate::adapters::memcached::errors::Fault;

/// The longest line of an answer. A key has 250 bytes at most, and an error is a sentence.
const LONGEST_LINE: usize = 4 << 10;

const LINE_END: &[u8] = b"\r\n";

/// What an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// A hit with its value.
    Value,
    /// A hit without its value, or a command that was carried out.
    Done,
    /// No item under the key that is read.
    Missing,
    /// The condition of a write did not hold.
    Refused,
    /// All requests before are answered.
    NoOp,
    /// The server's version.
    Version,
    /// An error; the message is the value.
    Error,
}

/// One answer, as it is in the bytes that were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer<'b> {
    pub(super) status: Status,
    pub(super) value: &'b [u8],
    pub(super) key: Option<&'b [u8]>,
    pub(super) opaque: Option<u64>,
    pub(super) flags: u32,
    pub(super) cas: u64,
    /// The remaining seconds; negative is never.
    pub(super) remaining: i64,
    /// The bytes of the value, which need not be in the answer.
    pub(super) size: u64,
}

impl<'b> Answer<'b> {
    fn new(status: Status, value: &'b [u8]) -> Self {
        Self { status, value, key: None, opaque: None, flags: 0, cas: 0, remaining: -1, size: 0 }
    }

    /// Reads the flags of an answer, each of which is a letter and a token.
    fn read_flags(&mut self, mut flags: &'b [u8]) -> Option<()> {
        while let Some((letter, token)) = flags.split_first() {
            flags = match letter {
                b' ' => token,
                b'k' => {
                    let (key, rest) = split(token);
                    self.key = Some(key);
                    rest
                }
                b'O' => {
                    let (opaque, rest) = number(token)?;
                    self.opaque = Some(opaque);
                    rest
                }
                b'f' => {
                    let (flags, rest) = number(token)?;
                    self.flags = flags.try_into().ok()?;
                    rest
                }
                b'c' => {
                    let (cas, rest) = number(token)?;
                    self.cas = cas;
                    rest
                }
                b's' => {
                    let (size, rest) = number(token)?;
                    self.size = size;
                    rest
                }
                b't' => {
                    let (remaining, rest) = signed(token)?;
                    self.remaining = remaining;
                    rest
                }
                _ => split(token).1,
            };
        }
        Some(())
    }
}

/// The first answer in `input`, and its length in bytes; `None` if it has not come as a whole.
///
/// # Errors
///
/// [`Fault::Misplaced`] for bytes that are no answer, and [`Fault::Unbounded`] as soon as a value
/// of more than `most` bytes is announced.
pub(super) fn parse(input: &[u8], most: usize) -> Result<Option<(Answer<'_>, usize)>, Fault> {
    let searched = &input[..input.len().min(LONGEST_LINE)];
    let Some(end) = find(b'\n', searched) else {
        let is_too_long = searched.len() == LONGEST_LINE;
        return if is_too_long { Err(Fault::Misplaced) } else { Ok(None) };
    };
    let line = input[..end].strip_suffix(b"\r").ok_or(Fault::Misplaced)?;
    let (word, rest) = split(line);
    let status = match word {
        b"VA" => return value(rest, input, end + 1, most),
        b"HD" => Status::Done,
        b"EN" => Status::Missing,
        b"NS" | b"EX" | b"NF" => Status::Refused,
        b"MN" => Status::NoOp,
        b"VERSION" => return Ok(Some((Answer::new(Status::Version, rest), end + 1))),
        b"ERROR" | b"CLIENT_ERROR" | b"SERVER_ERROR" => {
            return Ok(Some((Answer::new(Status::Error, line), end + 1)));
        }
        _ => return Err(Fault::Misplaced),
    };
    let mut answer = Answer::new(status, &[]);
    answer.read_flags(rest).ok_or(Fault::Misplaced)?;
    Ok(Some((answer, end + 1)))
}

/// An answer with a value, which begins at `from`; `words` are its length and flags.
fn value<'b>(
    words: &'b [u8],
    input: &'b [u8],
    from: usize,
    most: usize,
) -> Result<Option<(Answer<'b>, usize)>, Fault> {
    let (length, flags) = number(words).ok_or(Fault::Misplaced)?;
    let fits = usize::try_from(length).ok().filter(|length| *length <= most);
    let length = fits.ok_or(Fault::Unbounded { length, most })?;
    let Some((value, rest)) = input[from..].split_at_checked(length) else { return Ok(None) };
    let Some(end) = rest.get(..LINE_END.len()) else { return Ok(None) };
    let mut answer = Answer::new(Status::Value, value);
    if end != LINE_END || answer.read_flags(flags).is_none() {
        return Err(Fault::Misplaced);
    }
    Ok(Some((answer, from + length + LINE_END.len())))
}

/// The first word of a line, and what follows the space after it.
fn split(line: &[u8]) -> (&[u8], &[u8]) {
    match find(b' ', line) {
        Some(at) => (&line[..at], &line[at + 1..]),
        None => (line, &[]),
    }
}

/// Where a byte is first. Eight bytes are looked at in one step: most of the time of a large read
/// went into looking for the ends of lines and words.
fn find(byte: u8, bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    let (chunks, rest) = bytes.as_chunks::<8>();
    for (at, chunk) in chunks.iter().enumerate() {
        // Zero where the byte is, and the subtraction takes a one out of the highest bit there.
        let other = u64::from_le_bytes(*chunk) ^ (ONES * u64::from(byte));
        let found = other.wrapping_sub(ONES) & !other & (ONES << 7);
        if found != 0 {
            return Some(8 * at + found.trailing_zeros() as usize / 8);
        }
    }
    let at = rest.iter().position(|other| *other == byte)?;
    Some(8 * chunks.len() + at)
}

/// The number that a word is, and what follows the space after it.
fn number(line: &[u8]) -> Option<(u64, &[u8])> {
    let (mut number, mut length) = (0u64, 0);
    for byte in line {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        number = number.wrapping_mul(10).wrapping_add(digit.into());
        length += 1;
    }
    let (digits, rest) = line.split_at(length);
    let number = match length {
        0 => return None,
        // They fit.
        1..20 => number,
        _ => std::str::from_utf8(digits).ok()?.parse().ok()?,
    };
    match rest {
        [] => Some((number, rest)),
        [b' ', rest @ ..] => Some((number, rest)),
        _ => None,
    }
}

fn signed(line: &[u8]) -> Option<(i64, &[u8])> {
    let (digits, sign) = line.strip_prefix(b"-").map_or((line, 1), |digits| (digits, -1));
    let (number, rest) = number(digits)?;
    Some((sign * i64::try_from(number).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MOST: usize = 1 << 20;

    /// All answers in `bytes`, as texts, and the bytes that are left of an answer.
    fn read(mut bytes: &[u8]) -> (Vec<String>, Result<&[u8], Fault>) {
        let mut answers = Vec::new();
        loop {
            match parse(bytes, MOST) {
                Ok(Some((answer, length))) => {
                    answers.push(format!("{answer:?}"));
                    bytes = &bytes[length..];
                }
                Ok(None) => return (answers, Ok(bytes)),
                Err(fault) => return (answers, Err(fault)),
            }
        }
    }

    fn one(bytes: &[u8]) -> Answer<'_> {
        for end in 0..bytes.len() {
            assert!(matches!(parse(&bytes[..end], MOST), Ok(None)), "cut at {end}: {bytes:?}");
        }
        let (answer, length) = parse(bytes, MOST).expect("an answer").expect("as a whole");
        assert_eq!(length, bytes.len());
        answer
    }

    #[test]
    fn every_answer_is_read_and_only_as_a_whole() {
        let hit = one(b"VA 5 f2147483648 c18446744073709551615 t-1 kp:key O7\r\na\r\nb \r\n");
        assert_eq!((hit.status, hit.value), (Status::Value, &b"a\r\nb "[..]));
        assert_eq!((hit.key, hit.opaque), (Some(&b"p:key"[..]), Some(7)));
        assert_eq!((hit.flags, hit.cas, hit.remaining), (1 << 31, u64::MAX, -1));
        assert_eq!(one(b"VA 0 t60\r\n\r\n").remaining, 60);
        assert_eq!(one(b"HD s1048576 f0\r\n").size, 1 << 20);
        for (bytes, status) in [
            (&b"HD c9 O1\r\n"[..], Status::Done),
            (b"HD\r\n", Status::Done),
            (b"EN\r\n", Status::Missing),
            (b"NS O1\r\n", Status::Refused),
            (b"EX O1\r\n", Status::Refused),
            (b"NF O1\r\n", Status::Refused),
            (b"MN\r\n", Status::NoOp),
            (b"VERSION 1.6.18\r\n", Status::Version),
            (b"ERROR\r\n", Status::Error),
        ] {
            assert_eq!(one(bytes).status, status, "{bytes:?}");
        }
        let refused = one(b"SERVER_ERROR object too large for cache\r\n");
        assert_eq!(refused.value, b"SERVER_ERROR object too large for cache");
    }

    /// Flags of newer servers are passed over.
    #[test]
    fn unknown_flags_are_no_error() {
        let hit = one(b"HD W X s12 h1 zz k a\r\n");
        assert_eq!((hit.status, hit.key), (Status::Done, Some(&b""[..])));
    }

    #[test]
    fn a_byte_is_found_where_it_is_first() {
        for length in 0..40 {
            let mut bytes: Vec<u8> = (0..length).map(|at| 128 + at).collect();
            assert_eq!(find(b'\n', &bytes), None);
            for at in (0..bytes.len()).rev() {
                // Beside the one that is looked for, the bytes that are nearly the same.
                bytes[at] = b'\n';
                assert_eq!(find(b'\n', &bytes), Some(at));
                let next = bytes.get_mut(at + 1);
                next.into_iter().for_each(|next| *next = b'\n' + 1);
                assert_eq!(find(b'\n', &bytes), Some(at));
            }
        }
    }

    #[test]
    fn what_is_no_answer_is_noticed() {
        for bytes in [
            &b"\r\n"[..],
            b"\n",
            b"HD\n",
            b"STORED\r\n",
            b"VA\r\n\r\n",
            b"VA -1\r\n\r\n",
            b"VA x\r\n\r\n",
            b"VA 1\r\nab\r\n",
            b"VA 18446744073709551616\r\n",
            b"HD O\r\n",
            b"HD O-1\r\n",
            b"HD f4294967296\r\n",
            b"HD c18446744073709551616\r\n",
            b"HD t\r\n",
            b"HD s-1\r\n",
        ] {
            assert!(matches!(parse(bytes, MOST), Err(Fault::Misplaced)), "{bytes:?}");
        }
        assert!(matches!(parse(&[b'H'; LONGEST_LINE], MOST), Err(Fault::Misplaced)));
    }

    #[test]
    fn a_value_without_bound_is_not_waited_for() {
        for length in [MOST as u64 + 1, 1 << 40, u64::MAX] {
            let line = format!("VA {length} t-1\r\n");
            let parsed = parse(line.as_bytes(), MOST);
            assert!(
                matches!(parsed, Err(Fault::Unbounded { length: told, .. }) if told == length),
                "{line}: {parsed:?}"
            );
        }
        assert!(matches!(parse(format!("VA {MOST}\r\n").as_bytes(), MOST), Ok(None)));
    }

    /// Bytes that are near to answers: whole answers, parts of them, and noise.
    fn hostile() -> impl Strategy<Value = Vec<u8>> {
        let words = prop::sample::select(vec![
            &b"VA 5 f0 c1 t-1 kk O1\r\nhello\r\n"[..],
            b"HD O1 c2\r\n",
            b"EN\r\n",
            b"MN\r\n",
            b"NF k1\r\n",
            b"VA 3\r\n",
            b"VA 1048576\r\n",
            b"VA 1048577\r\n",
            b"SERVER_ERROR out of memory\r\n",
            b" ",
            b"\r\n",
            b"VA ",
            b"99999999999999999999",
        ]);
        let part =
            prop_oneof![words.prop_map(<[u8]>::to_vec), prop::collection::vec(any::<u8>(), 0..12)];
        prop::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn the_cut_of_the_bytes_changes_nothing(bytes in hostile(), at in any::<prop::sample::Index>()) {
            let whole = read(&bytes);
            let at = at.index(bytes.len() + 1);
            let (mut answers, rest) = read(&bytes[..at]);
            match rest {
                Ok(rest) => {
                    let later = [rest, &bytes[at..]].concat();
                    let (more, end) = read(&later);
                    answers.extend(more);
                    prop_assert_eq!(end.map(<[u8]>::to_vec).ok(), whole.1.map(<[u8]>::to_vec).ok());
                }
                Err(_) => prop_assert!(whole.1.is_err()),
            }
            prop_assert_eq!(answers, whole.0);
        }
    }
}
