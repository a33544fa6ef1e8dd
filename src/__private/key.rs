//! The key of a call, on the stack.

use super::json;
use crate::error::{Error, ErrorKind, Result};
use crate::key::Scope;
use serde::Serialize;
use std::fmt::{self, Display, Write};
use std::io;

/// The longest key that needs no allocation, in bytes.
const SHORT: usize = 62;

/// A key that is built from texts and arguments.
#[derive(Debug)]
pub struct KeyBuf {
    text: Text,
    /// The length of the namespace's prefix, which is the beginning of the text.
    namespace: usize,
    /// Why an argument cannot be part of a key.
    refused: Option<Error>,
}

#[derive(Debug)]
enum Text {
    Short { bytes: [u8; SHORT], len: u8 },
    Long(String),
}

impl Text {
    fn as_str(&self) -> &str {
        match self {
            Self::Long(text) => text,
            // Only whole texts are appended, so this is valid UTF-8.
            Self::Short { bytes, len } => {
                std::str::from_utf8(&bytes[..usize::from(*len)]).unwrap_or_default()
            }
        }
    }
}

/// An argument in a key or tag.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be part of a key or tag",
    label = "needs `std::fmt::Display`",
    note = "a hole in a key or tag is written with `Display`: name a field (`{{user.id}}`) or a call (`{{id.get()}}`) instead, or say `skip(…)`"
)]
pub trait KeyPart: Display {}

#[diagnostic::do_not_recommend]
impl<T: Display + ?Sized> KeyPart for T {}

/// An argument in the key of a function without `key`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be part of a key",
    label = "needs `serde::Serialize`",
    note = "without `key` the arguments are written as JSON: derive `Serialize`, write a `key`, or say `skip(…)`"
)]
pub trait JsonPart: Serialize {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + ?Sized> JsonPart for T {}

impl Default for KeyBuf {
    fn default() -> Self {
        Self::new()
    }
}

impl KeyBuf {
    #[must_use]
    pub fn new() -> Self {
        Self { text: Text::Short { bytes: [0; SHORT], len: 0 }, namespace: 0, refused: None }
    }

    /// Begins with a namespace: its name, escaped as [`AsyncCacheWrapper::namespace`] does.
    ///
    /// [`AsyncCacheWrapper::namespace`]: crate::AsyncCacheWrapper::namespace
    pub fn namespace(&mut self, name: impl AsRef<str>) {
        Scope::write_name(name.as_ref(), |part| self.text(part));
        self.namespace = self.as_str().len();
    }

    /// Appends text as it is.
    pub fn text(&mut self, text: &str) {
        if let Text::Short { bytes, len } = &mut self.text {
            let start = usize::from(*len);
            let end = start + text.len();
            if let (Some(room), Ok(end)) = (bytes.get_mut(start..end), u8::try_from(end)) {
                room.copy_from_slice(text.as_bytes());
                *len = end;
                return;
            }
            let mut long = String::with_capacity(2 * end);
            long.push_str(self.as_str());
            self.text = Text::Long(long);
        }
        if let Text::Long(long) = &mut self.text {
            long.push_str(text);
        }
    }

    /// Appends an argument as it is: the only one in its key.
    pub fn whole<T: KeyPart + ?Sized>(&mut self, value: &T) {
        let written = write!(self, "{value}");
        self.refuse_unless(written.is_ok());
    }

    /// Appends an argument, in which `%` and the characters of `separators` are escaped.
    pub fn part<T: KeyPart + ?Sized>(&mut self, value: &T, separators: &str) {
        let written = write!(Escaped { key: self, separators }, "{value}");
        self.refuse_unless(written.is_ok());
    }

    /// Appends an argument as JSON, with the keys of its maps in order.
    pub fn json<T: JsonPart + ?Sized>(&mut self, value: &T) {
        let start = self.as_str().len();
        if let Err(error) = json::write(value, Json(self)) {
            self.refused.get_or_insert(error);
        } else if let Some(sorted) = json::in_order(&self.as_str()[start..]) {
            self.truncate(start);
            self.text(&sorted);
        }
    }

    fn refuse_unless(&mut self, is_written: bool) {
        if !is_written {
            self.refused.get_or_insert_with(|| {
                Error::new(ErrorKind::InvalidKey)
                    .with_message("the `Display` of an argument in the key failed")
            });
        }
    }

    /// The key, or the error of an argument that cannot be part of it.
    pub(super) fn checked(&self) -> Result<&str> {
        match &self.refused {
            None => Ok(self.as_str()),
            Some(refused) => Err(refused.clone()),
        }
    }

    /// [`checked`](Self::checked) for a future that outlives the buffer.
    pub(super) fn owned(&self) -> Result<String> {
        self.checked().map(str::to_owned)
    }

    /// The prefix of the namespace; empty without one.
    pub(super) fn prefix(&self) -> &str {
        &self.as_str()[..self.namespace]
    }

    /// The text so far.
    fn as_str(&self) -> &str {
        self.text.as_str()
    }

    /// Cuts the text, at a place where it once ended.
    fn truncate(&mut self, to: usize) {
        match &mut self.text {
            Text::Long(text) => text.truncate(to),
            Text::Short { len, .. } => *len = u8::try_from(to).unwrap_or(*len).min(*len),
        }
    }

    /// The key as text; empty if an argument cannot be part of a key.
    #[must_use]
    pub fn into_key(self) -> String {
        match (self.refused, self.text) {
            (Some(_), _) => String::new(),
            (None, Text::Long(text)) => text,
            (None, short @ Text::Short { .. }) => short.as_str().to_owned(),
        }
    }
}

impl Write for KeyBuf {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.text(text);
        Ok(())
    }
}

/// Appends the JSON that is written.
struct Json<'a>(&'a mut KeyBuf);

impl io::Write for Json<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.text(std::str::from_utf8(bytes).map_err(io::Error::other)?);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Escapes what is written: no text of an argument can be read as its end.
struct Escaped<'a> {
    key: &'a mut KeyBuf,
    separators: &'a str,
}

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        let is_special = |letter: char| letter == '%' || self.separators.contains(letter);
        while let Some(at) = rest.find(is_special) {
            let (plain, special) = rest.split_at(at);
            let len = special.chars().next().map_or(0, char::len_utf8);
            self.key.text(plain);
            for byte in special[..len].bytes() {
                write!(self.key, "%{byte:02X}")?;
            }
            rest = &special[len..];
        }
        self.key.text(rest);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(parts: &[&str], separators: &[&str]) -> String {
        let mut key = KeyBuf::new();
        let all = separators.concat();
        for (at, part) in parts.iter().enumerate() {
            key.part(part, &all);
            key.text(separators.get(at).unwrap_or(&""));
        }
        key.into_key()
    }

    #[test]
    fn a_key_grows_from_the_stack_to_the_heap() {
        for len in [0, 1, 61, 62, 63, 64, 200] {
            let mut buffer = KeyBuf::new();
            let mut text = String::new();
            while text.len() < len {
                buffer.text("ü");
                text.push('ü');
            }
            buffer.whole(&7);
            text.push('7');
            assert_eq!(buffer.as_str(), text);
            assert_eq!(buffer.into_key(), text);
        }
    }

    #[test]
    fn a_key_knows_the_prefix_of_its_namespace() {
        let mut buffer = KeyBuf::new();
        assert_eq!(buffer.prefix(), "");
        buffer.namespace("a:b");
        buffer.text(&"x".repeat(SHORT));
        assert_eq!(buffer.prefix(), "a%3Ab:");
    }

    #[test]
    fn separators_and_the_escape_itself_are_escaped_in_upper_case() {
        assert_eq!(key(&["a:b", "100%"], &[":"]), "a%3Ab:100%25");
        assert_eq!(key(&["a/b", "c"], &["/"]), "a%2Fb/c");
        assert_eq!(key(&["", ""], &["::"]), "::");
        assert_eq!(key(&["→", "b"], &["→"]), "%E2%86%92→b");
    }

    #[test]
    fn a_separator_that_is_a_digit_does_not_end_an_escape() {
        let texts = ["", "2", "%", "%2", "25", "%25", "5", "2%", "22"];
        let mut known = std::collections::HashMap::new();
        for first in texts {
            for second in texts {
                let text = key(&[first, second], &["2"]);
                let other = known.insert(text.clone(), (first, second));
                assert!(other.is_none(), "{text}: {other:?} and {first:?}, {second:?}");
            }
        }
    }
}
