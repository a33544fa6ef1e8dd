//! The commands that the server is sent, and how their answers are read.

use super::names::token;
use super::raw::{Argument, Encode, RawCommand};
use super::reply::Reply;
use crate::adapter::Presence;
use crate::codec::{HEAD, logical_end};
use bytes::Bytes;
use redis::Cmd;
use std::time::Duration;

/// The typical length of a key.
const KEY_LEN: usize = 32;

/// A command, and the function that reads its answer. The function returns `None` for an answer
/// that the command cannot give.
pub(super) struct Command<T, C = RawCommand> {
    pub(super) raw: C,
    pub(super) read: fn(Reply) -> Option<T>,
    /// Whether the command is idempotent, and is sent again after its connection broke.
    pub(super) repeatable: bool,
}

impl<T> Clone for Command<T> {
    fn clone(&self) -> Self {
        Self { raw: self.raw.clone(), ..*self }
    }
}

impl<T, C: Encode> Encode for Command<T, C> {
    fn write(&self, output: &mut Vec<u8>) {
        self.raw.write(output);
    }

    fn for_the_driver(&self) -> Cmd {
        self.raw.for_the_driver()
    }
}

impl<T> Command<T> {
    pub(super) fn new(name: &str, read: fn(Reply) -> Option<T>) -> Self {
        Self { raw: RawCommand::new(name), read, repeatable: true }
    }

    /// A command with room for `args` arguments of `bytes` bytes in total.
    fn sized(name: &str, args: usize, bytes: usize, read: fn(Reply) -> Option<T>) -> Self {
        Self { raw: RawCommand::sized(name, args, bytes), read, repeatable: true }
    }

    pub(super) fn arg(self, arg: impl Argument) -> Self {
        Self { raw: self.raw.arg(arg), ..self }
    }

    pub(super) fn args<A: Argument>(self, args: impl IntoIterator<Item = A>) -> Self {
        Self { raw: self.raw.args(args), ..self }
    }

    /// The same command, whose answer is read in another way.
    pub(super) fn read_by<U>(self, read: fn(Reply) -> Option<U>) -> Command<U> {
        Command { raw: self.raw, read, repeatable: self.repeatable }
    }

    pub(super) fn once(mut self) -> Self {
        self.repeatable = false;
        self
    }

    /// Whether the command only removes keys.
    pub(super) fn removes(&self) -> bool {
        matches!(self.raw.iter().next(), Some(b"UNLINK" | b"DEL"))
    }

    /// The same removal by another command. A command that is no removal stays as it is.
    pub(super) fn removing_by(self, removal: Removal) -> Self {
        if !self.removes() {
            return self;
        }
        let raw = RawCommand::new(removal.name()).args(self.raw.iter().skip(1));
        Self { raw, ..self }
    }
}

/// The commands that remove keys. `DEL` frees the memory in the server's main thread, `UNLINK` in
/// another thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removal {
    Unlink,
    Delete,
}

impl Removal {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Unlink => Self::Delete,
            Self::Delete => Self::Unlink,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Unlink => "UNLINK",
            Self::Delete => "DEL",
        }
    }
}

/// Whether a write depends on the present value of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    None,
    Missing,
    Live,
}

/// How long a key is to live; never zero.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ttl {
    Never,
    Millis(u64),
}

pub(super) fn get(key: &str) -> Command<Option<Bytes>> {
    Command::sized("GET", 1, key.len(), bytes).arg(key)
}

pub(super) fn get_many<K: AsRef<str>>(
    keys: impl Iterator<Item = K>,
) -> Command<Vec<Option<Bytes>>> {
    let command = Command::sized("MGET", keys.size_hint().0, keys.size_hint().0 * KEY_LEN, list);
    keys.fold(command, |command, key| command.arg(key.as_ref()))
}

/// Whether the condition held.
pub(super) fn set(key: &str, value: &[u8], ttl: Ttl, condition: Condition) -> Command<bool> {
    // The longest of the other arguments are `PX` and a number.
    let mut command =
        Command::sized("SET", 5, key.len() + value.len() + 24, done).arg(key).arg(value);
    if let Ttl::Millis(millis) = ttl {
        command = command.arg("PX").arg(millis);
    }
    match condition {
        Condition::None => command,
        Condition::Missing => command.arg("NX").once(),
        Condition::Live => command.arg("XX").once(),
    }
}

/// Whether the key was live.
pub(super) fn remove(key: &str) -> Command<bool> {
    Command::new("UNLINK", flag).arg(key).once()
}

/// Removes a key, without the answer whether it was live.
pub(super) fn discard(key: &str) -> Command<bool> {
    discard_all([key])
}

pub(super) fn discard_all<K: Argument>(keys: impl IntoIterator<Item = K>) -> Command<bool> {
    Command::new("UNLINK", flag).args(keys)
}

/// Ends the claims on a key.
pub(super) fn forget_claim(key: &str) -> Command<Reply> {
    Command::new("UNLINK", Some).arg(token(key))
}

/// Ends the claims on a key. Send it before the removal that it belongs to: a claim that is made
/// between the two belongs to a load that began after the removal, so its value may be stored.
pub(super) fn unclaim<T: Default>(full: &str) -> Command<T> {
    unclaim_all(&[token(full)])
}

pub(super) fn unclaim_all<T: Default>(tokens: &[String]) -> Command<T> {
    Command::new("UNLINK", |answer| int(answer).map(|_| T::default())).args(tokens)
}

/// Replaces a live value by a number as text, and keeps the expiry.
pub(super) fn set_text(key: &str, number: i64) -> Command<bool> {
    Command::new("SET", done).arg(key).arg(number).arg("XX").arg("KEEPTTL")
}

/// Makes the next `exec` on this connection do nothing if the key is changed before.
pub(super) fn watch(key: &str) -> Command<Reply> {
    Command::new("WATCH", Some).arg(key).once()
}

pub(super) fn multi() -> Command<Reply> {
    Command::new("MULTI", Some).once()
}

pub(super) fn exec() -> Command<Reply> {
    Command::new("EXEC", Some).once()
}

/// The command with its answer unread.
pub(super) fn as_is<T>(command: Command<T>) -> Command<Reply> {
    command.read_by(Some)
}

pub(super) fn take(key: &str) -> Command<Option<Bytes>> {
    Command::new("GETDEL", bytes).arg(key).once()
}

pub(super) fn get_and_expire(key: &str, ttl: Ttl) -> Command<Option<Bytes>> {
    let command = Command::new("GETEX", bytes).arg(key);
    match ttl {
        Ttl::Never => command.arg("PERSIST"),
        Ttl::Millis(millis) => command.arg("PX").arg(millis),
    }
}

pub(super) fn expire(key: &str, millis: u64) -> Command<bool> {
    Command::new("PEXPIRE", flag).arg(key).arg(millis)
}

/// Removes the expiry of a key. The answer is the same for a missing key and for a key that never
/// expires.
pub(super) fn persist(key: &str) -> Command<bool> {
    Command::new("PERSIST", flag).arg(key)
}

pub(super) fn contains(key: &str) -> Command<bool> {
    Command::new("EXISTS", flag).arg(key)
}

/// Whether any of the keys is live.
pub(super) fn contain_any<K: AsRef<str>>(keys: impl Iterator<Item = K>) -> Command<bool> {
    keys.fold(Command::new("EXISTS", flag), |command, key| command.arg(key.as_ref()))
}

/// Reads the logical end from the first bytes of a value. The answer for a missing key is the same
/// as for a value without a logical end.
pub(super) fn head(key: &str) -> Command<Presence> {
    let read = |answer| {
        let end = logical_end(&bytes(answer)??);
        Some(end.as_ref().map_or(Presence::Live, Presence::by))
    };
    Command::new("GETRANGE", read).arg(key).arg(0_usize).arg(HEAD - 1)
}

/// [`contains`], with a [`Presence`] as the answer.
pub(super) fn exists(key: &str) -> Command<Presence> {
    let read = |answer| Some(if flag(answer)? { Presence::Live } else { Presence::Missing });
    Command::new("EXISTS", read).arg(key)
}

/// Whether a value is past its logical end.
pub(super) fn is_stale(key: &str) -> Command<bool> {
    head(key).read_by(|answer| {
        let end = logical_end(&bytes(answer)??);
        Some(end.is_some_and(|end| end.is_stale()))
    })
}

/// The remaining lifetime of a key: `None` if the key is missing, `Some(None)` if it never expires.
pub(super) fn time_left(key: &str) -> Command<Option<Option<Duration>>> {
    let read = |answer| {
        Some(match int(answer)? {
            -2 => None,
            -1 => Some(None),
            // 0 means less than a millisecond: the key is still live.
            millis => Some(Some(Duration::from_millis(u64::try_from(millis).ok()?.max(1)))),
        })
    };
    Command::sized("PTTL", 1, key.len(), read).arg(key)
}

pub(super) fn ping() -> Command<()> {
    Command::new("PING", |answer| {
        matches!(answer, Reply::Simple(pong) if pong == "PONG").then_some(())
    })
}

/// Answers with `text`, as `ECHO` does.
pub(super) fn ping_with(text: &str) -> Command<Option<Bytes>> {
    Command::new("PING", bytes).arg(text)
}

pub(super) fn echo(text: &str) -> Command<Option<Bytes>> {
    Command::new("ECHO", bytes).arg(text)
}

/// One step through the keys that begin with `prefix`. The answer is the cursor for the next step,
/// and some keys.
pub(super) fn scan(cursor: &[u8], prefix: &str, count: usize) -> Command<(Bytes, Vec<Bytes>)> {
    let read = |answer| {
        let Reply::Array(parts) = answer else { return None };
        let [cursor, keys] = <[Reply; 2]>::try_from(parts).ok()?;
        let keys = list(keys)?.into_iter().collect::<Option<_>>()?;
        Some((bytes(cursor)??, keys))
    };
    Command::new("SCAN", read)
        .arg(cursor)
        .arg("MATCH")
        .arg(literal(prefix) + "*")
        .arg("COUNT")
        .arg(count)
}

/// A pattern that matches `text` and nothing else.
fn literal(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 1);
    for character in text.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

pub(super) fn ttl_arg(ttl: Ttl) -> String {
    match ttl {
        Ttl::Never => String::new(),
        Ttl::Millis(millis) => millis.to_string(),
    }
}

pub(super) fn bytes(answer: Reply) -> Option<Option<Bytes>> {
    match answer {
        Reply::Nil => Some(None),
        Reply::Bulk(bytes) => Some(Some(bytes)),
        _ => None,
    }
}

pub(super) fn list(answer: Reply) -> Option<Vec<Option<Bytes>>> {
    match answer {
        Reply::Array(values) => values.into_iter().map(bytes).collect(),
        _ => None,
    }
}

pub(super) fn int(answer: Reply) -> Option<i64> {
    match answer {
        Reply::Int(number) => Some(number),
        _ => None,
    }
}

pub(super) fn flag(answer: Reply) -> Option<bool> {
    int(answer).map(|number| number > 0)
}

pub(super) fn done(answer: Reply) -> Option<bool> {
    match answer {
        Reply::Okay => Some(true),
        Reply::Nil => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_characters_are_text() {
        assert_eq!(literal(r"a*b?[c]\d%_"), r"a\*b\?\[c\]\\d%_");
    }

    #[test]
    fn answers_of_another_kind_are_noticed() {
        assert!((get("k").read)(Reply::Int(1)).is_none());
        let one = Reply::Bulk(Bytes::from_static(b"1"));
        assert!((contains("k").read)(one).is_none());
        assert!((set("k", b"v", Ttl::Never, Condition::None).read)(Reply::Int(1)).is_none());
        assert!((scan(b"0", "p", 10).read)(Reply::Array(vec![])).is_none());
        assert!((time_left("k").read)(Reply::Int(-3)).is_none());
    }
}
