//! The commands, and how their answers are read.

use super::names::token;
use crate::adapter::Presence;
use crate::codec::{HEAD, logical_end};
use bytes::Bytes;
use redis::{Arg, Cmd, Script, ToRedisArgs, Value, cmd};
use std::sync::OnceLock;
use std::time::Duration;

/// What a key has, more or less.
const KEY_LEN: usize = 32;

/// A command, and what its answer means; `None` for an answer that it never gives.
pub(super) struct Command<T> {
    pub(super) cmd: Cmd,
    pub(super) read: fn(Value) -> Option<T>,
    /// Running it twice comes to the same, so that a connection that broke is no reason to fail.
    pub(super) repeatable: bool,
}

impl<T> Clone for Command<T> {
    fn clone(&self) -> Self {
        Self { cmd: self.cmd.clone(), ..*self }
    }
}

impl<T> Command<T> {
    pub(super) fn new(name: &str, read: fn(Value) -> Option<T>) -> Self {
        Self { cmd: cmd(name), read, repeatable: true }
    }

    /// With room for so many arguments that have so many bytes.
    fn sized(name: &str, args: usize, bytes: usize, read: fn(Value) -> Option<T>) -> Self {
        let mut cmd = Cmd::with_capacity(args + 1, name.len() + bytes);
        cmd.arg(name);
        Self { cmd, read, repeatable: true }
    }

    pub(super) fn arg(mut self, arg: impl ToRedisArgs) -> Self {
        self.cmd.arg(arg);
        self
    }

    pub(super) fn once(mut self) -> Self {
        self.repeatable = false;
        self
    }

    /// Whether it does nothing but remove keys.
    pub(super) fn removes(&self) -> bool {
        matches!(self.cmd.args_iter().next(), Some(Arg::Simple(b"UNLINK" | b"DEL")))
    }

    /// The same removal by another command; what removes nothing stays as it is.
    pub(super) fn removing_by(self, removal: Removal) -> Self {
        if !self.removes() {
            return self;
        }
        let mut removing = cmd(removal.name());
        for arg in self.cmd.args_iter().skip(1) {
            if let Arg::Simple(key) = arg {
                removing.arg(key);
            }
        }
        Self { cmd: removing, ..self }
    }
}

/// The command that removes keys. They differ in who gives the memory back, the server or another thread of its.
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

/// Whether a write depends on what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    None,
    Missing,
    Live,
}

/// How long a key is to live; zero is not among it.
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
    // Of the rest, `PX` and a number are the longest.
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

/// Removes without asking what was there.
pub(super) fn discard<K: ToRedisArgs>(keys: K) -> Command<bool> {
    Command::new("UNLINK", flag).arg(keys)
}

/// Makes the claims on a key fail.
pub(super) fn forget_claim(key: &str) -> Command<Value> {
    Command::new("UNLINK", Some).arg(token(key))
}

/// The number as text in the place of a live value, whose expiry stays.
pub(super) fn set_text(key: &str, number: i64) -> Command<bool> {
    Command::new("SET", done).arg(key).arg(number).arg("XX").arg("KEEPTTL")
}

/// The command, with its answer as it comes.
pub(super) fn as_is(command: Command<bool>) -> Command<Value> {
    Command { cmd: command.cmd, read: Some, repeatable: command.repeatable }
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

/// Its answer does not tell a missing key from one that never expires.
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

/// What the first bytes of a value tell of its logical end. A missing key is as empty as a value without one.
pub(super) fn head(key: &str) -> Command<Presence> {
    let read = |answer| {
        let end = logical_end(&bytes(answer)??);
        Some(end.as_ref().map_or(Presence::Live, Presence::by))
    };
    Command::new("GETRANGE", read).arg(key).arg(0).arg(HEAD - 1)
}

/// [`contains`], as a presence.
pub(super) fn exists(key: &str) -> Command<Presence> {
    let read = |answer| Some(if flag(answer)? { Presence::Live } else { Presence::Missing });
    Command::new("EXISTS", read).arg(key)
}

/// Whether a value is past its logical end.
pub(super) fn is_stale(key: &str) -> Command<bool> {
    let Command { cmd, repeatable, .. } = head(key);
    let read = |answer| {
        let end = logical_end(&bytes(answer)??);
        Some(end.is_some_and(|end| Presence::by(&end) == Presence::Stale))
    };
    Command { cmd, read, repeatable }
}

/// `None` is missing, `Some(None)` never.
pub(super) fn time_left(key: &str) -> Command<Option<Option<Duration>>> {
    Command::new("PTTL", |answer| {
        Some(match int(answer)? {
            -2 => None,
            -1 => Some(None),
            // Live for less than a millisecond, and not over.
            millis => Some(Some(Duration::from_millis(u64::try_from(millis).ok()?.max(1)))),
        })
    })
    .arg(key)
}

/// How many bytes the arguments of a command have.
pub(super) fn size(cmd: &Cmd) -> usize {
    let len = |arg: Arg<&[u8]>| match arg {
        Arg::Simple(bytes) => bytes.len(),
        _ => 0,
    };
    cmd.args_iter().map(len).sum()
}

pub(super) fn ping() -> Command<()> {
    Command::new("PING", |answer| {
        matches!(answer, Value::SimpleString(pong) if pong == "PONG").then_some(())
    })
}

/// Answers with `text`, as `ECHO` does.
pub(super) fn ping_with(text: &str) -> Command<Option<Bytes>> {
    Command::new("PING", bytes).arg(text)
}

pub(super) fn echo(text: &str) -> Command<Option<Bytes>> {
    Command::new("ECHO", bytes).arg(text)
}

/// One step through the keys that begin with `prefix`: where to go on, and keys.
pub(super) fn scan(cursor: &[u8], prefix: &str, count: usize) -> Command<(Bytes, Vec<Bytes>)> {
    let read = |answer| {
        let Value::Array(parts) = answer else { return None };
        let [cursor, keys] = <[Value; 2]>::try_from(parts).ok()?;
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

/// What a counter script found.
#[derive(Debug)]
pub(super) enum Counted {
    Sum(i64),
    /// Not decimal text, so not for the server to count with.
    Other(Bytes),
    Overflow,
    NotANumber,
}

/// A script and the name that a server gives it.
pub(super) struct Lua {
    code: &'static str,
    hash: OnceLock<String>,
}

impl Lua {
    pub(super) const fn new(code: &'static str) -> Self {
        Self { code, hash: OnceLock::new() }
    }

    fn hash(&self) -> &str {
        self.hash.get_or_init(|| Script::new(self.code).get_hash().to_owned())
    }
}

/// Removes keys that stand beside a user's. What is refused there must not undo, or fail, what a script does for the user.
macro_rules! forget {
    () => {
        r"local function forget(...)
  local answer = redis.pcall('UNLINK', ...)
  if type(answer) == 'table' then redis.pcall('DEL', ...) end
end
"
    };
}
pub(super) use forget;

/// Removes a user's key.
macro_rules! remove_key {
    () => {
        r"local function remove_key(key)
  local answer = redis.pcall('UNLINK', key)
  if type(answer) == 'table' then redis.call('DEL', key) end
end
"
    };
}
pub(super) use remove_key;

/// Adds to decimal text, and keeps its expiry. The sum is handed back as text, for Lua's numbers end at 2^53. Whatever is too
/// long to be an integer under any codec stays on the server.
static INCREASE: Lua = Lua::new(concat!(
    forget!(),
    r"local old = redis.pcall('GET', KEYS[1])
if type(old) == 'table' then return old end
if not old then
  if ARGV[2] == '' then redis.call('SET', KEYS[1], ARGV[1])
  elseif ARGV[2] ~= '0' then redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
  forget(KEYS[2])
  return {'sum', ARGV[1]}
end
if #old > 128 then return {'not a number'} end
local sum = redis.pcall('INCRBY', KEYS[1], ARGV[1])
if type(sum) ~= 'table' then
  forget(KEYS[2])
  return {'sum', redis.call('GET', KEYS[1])}
end
if string.find(sum.err, 'overflow', 1, true) then return {'overflow'} end
if string.find(sum.err, 'not an integer', 1, true) then return {'other', old} end
return sum"
));

/// Puts a sum in place of what it was computed from, if that is still there. Its expiry is that of before, or a new one.
static EXCHANGE: Lua = Lua::new(concat!(
    forget!(),
    remove_key!(),
    r"local old = redis.pcall('GET', KEYS[1])
if type(old) == 'table' then return old end
if old ~= ARGV[1] then return 0 end
if ARGV[3] == 'keep' then redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
elseif ARGV[3] == '' then redis.call('SET', KEYS[1], ARGV[2])
elseif ARGV[3] == '0' then remove_key(KEYS[1])
else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
forget(KEYS[2])
return 1"
));

/// Gives a value that has been stored under a name of its own its real one. If it is gone, it was cleared or evicted meanwhile:
/// then what it was to replace goes as well. Its expiry is set before it has its name: if that is refused, nothing has changed.
static INSTALL: Lua = Lua::new(concat!(
    forget!(),
    remove_key!(),
    r"if ARGV[1] ~= 'none' then
  local live = redis.call('EXISTS', KEYS[2]) == 1
  if (ARGV[1] == 'missing') == live then
    forget(KEYS[1])
    return 0
  end
end
local there
if ARGV[2] == '' then there = redis.call('PERSIST', KEYS[1]) else there = redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
if there == 1 then redis.call('RENAME', KEYS[1], KEYS[2]) else remove_key(KEYS[2]) end
forget(KEYS[3])
return 1"
));

/// A script: by its hash, and in full for a server that has not seen it.
pub(super) struct Invocation<T> {
    pub(super) by_hash: Command<T>,
    script: &'static Lua,
}

impl<T> Invocation<T> {
    pub(super) fn in_full(&self) -> Command<T> {
        let mut command = Command::new("EVAL", self.by_hash.read).arg(self.script.code).once();
        // After the command's name and the hash.
        for arg in self.by_hash.cmd.args_iter().skip(2) {
            if let Arg::Simple(arg) = arg {
                command = command.arg(arg);
            }
        }
        command
    }
}

pub(super) fn invoke<T>(
    script: &'static Lua,
    keys: &[&[u8]],
    args: &[&[u8]],
    read: fn(Value) -> Option<T>,
) -> Invocation<T> {
    let by_hash =
        Command::new("EVALSHA", read).arg(script.hash()).arg(keys.len()).arg(keys).arg(args).once();
    Invocation { by_hash, script }
}

/// `ttl` is for a key that is missing; `None` leaves it missing.
pub(super) fn increase(key: &str, by: i64, ttl: Option<Ttl>) -> Invocation<Counted> {
    let ttl = counter_ttl(ttl);
    let read = |answer| {
        let Value::Array(parts) = answer else { return None };
        let mut parts = parts.into_iter();
        let what = bytes(parts.next()?)??;
        let rest = parts.next().and_then(bytes).flatten();
        match (&*what, rest) {
            (b"sum", Some(sum)) => std::str::from_utf8(&sum).ok()?.parse().ok().map(Counted::Sum),
            (b"other", Some(old)) => Some(Counted::Other(old)),
            (b"overflow", None) => Some(Counted::Overflow),
            (b"not a number", None) => Some(Counted::NotANumber),
            _ => None,
        }
    };
    invoke(
        &INCREASE,
        &[key.as_bytes(), token(key).as_bytes()],
        &[by.to_string().as_bytes(), ttl.as_bytes()],
        read,
    )
}

/// Whether `old` was still there.
/// `ttl` is [`counter_ttl`]'s, or [`KEEP_TTL`].
pub(super) fn exchange(key: &str, old: &[u8], new: i64, ttl: &str) -> Invocation<bool> {
    let new = new.to_string();
    invoke(
        &EXCHANGE,
        &[key.as_bytes(), token(key).as_bytes()],
        &[old, new.as_bytes(), ttl.as_bytes()],
        flag,
    )
}

/// Whether the condition held.
pub(super) fn install(staged: &str, key: &str, ttl: Ttl, condition: Condition) -> Invocation<bool> {
    let condition: &[u8] = match condition {
        Condition::None => b"none",
        Condition::Missing => b"missing",
        Condition::Live => b"live",
    };
    invoke(
        &INSTALL,
        &[staged.as_bytes(), key.as_bytes(), token(key).as_bytes()],
        &[condition, ttl_arg(ttl).as_bytes()],
        flag,
    )
}

/// As [`EXCHANGE`] knows the expiry of before.
pub(super) const KEEP_TTL: &str = "keep";

/// The expiry of a counter that starts; `None` is at once.
pub(super) fn counter_ttl(ttl: Option<Ttl>) -> String {
    ttl.map_or_else(|| "0".to_owned(), ttl_arg)
}

pub(super) fn ttl_arg(ttl: Ttl) -> String {
    match ttl {
        Ttl::Never => String::new(),
        Ttl::Millis(millis) => millis.to_string(),
    }
}

pub(super) fn bytes(answer: Value) -> Option<Option<Bytes>> {
    match answer {
        Value::Nil => Some(None),
        Value::BulkString(bytes) => Some(Some(bytes.into())),
        _ => None,
    }
}

fn list(answer: Value) -> Option<Vec<Option<Bytes>>> {
    match answer {
        Value::Array(values) => values.into_iter().map(bytes).collect(),
        _ => None,
    }
}

pub(super) fn int(answer: Value) -> Option<i64> {
    match answer {
        Value::Int(number) => Some(number),
        _ => None,
    }
}

pub(super) fn flag(answer: Value) -> Option<bool> {
    int(answer).map(|number| number > 0)
}

fn done(answer: Value) -> Option<bool> {
    match answer {
        Value::Okay => Some(true),
        Value::Nil => Some(false),
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
        assert!((get("k").read)(Value::Int(1)).is_none());
        assert!((contains("k").read)(Value::BulkString(b"1".to_vec())).is_none());
        assert!((set("k", b"v", Ttl::Never, Condition::None).read)(Value::Int(1)).is_none());
        assert!((scan(b"0", "p", 10).read)(Value::Array(vec![])).is_none());
        assert!((time_left("k").read)(Value::Int(-3)).is_none());
        assert!(
            (increase("k", 1, None).by_hash.read)(Value::Array(vec![Value::BulkString(
                b"sum".to_vec()
            )]))
            .is_none()
        );
    }
}
