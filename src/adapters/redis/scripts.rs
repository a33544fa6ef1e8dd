//! Scripts: how they are called, and the scripts of counters and large values.

use super::commands::{Command, Condition, Ttl, bytes, flag, ttl_arg};
use super::names::token;
use super::reply::Reply;
use bytes::Bytes;
use redis::Script;
use std::sync::OnceLock;

/// What a counter script found.
#[derive(Debug)]
pub(super) enum Counted {
    Sum(i64),
    /// Not decimal text: the server cannot add to this value.
    Other(Bytes),
    Overflow,
    NotANumber,
}

/// A script, and the hash by which a server knows it.
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

/// Removes auxiliary keys. If the server refuses this, the script must go on: its effect for the
/// user counts.
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

/// Adds to decimal text, and keeps its expiry. The sum is returned as text, because Lua's numbers
/// are exact up to 2^53 only. A value that is too long to be an integer under any codec is not
/// returned.
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

/// Replaces a value by the sum that was computed from it, if the value has not changed. The expiry
/// stays, or is a new one.
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

/// Renames a staged value to its key. If the staged value is missing, it was cleared or evicted in
/// the meantime, and the older value is removed as well. The expiry is set before the rename: if it
/// is refused, nothing has changed.
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

/// A call of a script: by its hash, and in full for a server that does not know the script.
pub(super) struct Invocation<T> {
    pub(super) by_hash: Command<T>,
    script: &'static Lua,
}

impl<T> Invocation<T> {
    /// A call that is sent again after its connection broke.
    pub(super) fn repeatable(mut self) -> Self {
        self.by_hash.repeatable = true;
        self
    }

    pub(super) fn in_full(&self) -> Command<T> {
        let command = Command::new("EVAL", self.by_hash.read).arg(self.script.code).once();
        // The arguments after the command's name and the hash.
        command.args(self.by_hash.raw.iter().skip(2))
    }
}

pub(super) fn invoke<T>(
    script: &'static Lua,
    keys: &[&[u8]],
    args: &[&[u8]],
    read: fn(Reply) -> Option<T>,
) -> Invocation<T> {
    let by_hash = Command::new("EVALSHA", read).arg(script.hash()).arg(keys.len());
    Invocation { by_hash: by_hash.args(keys).args(args).once(), script }
}

/// Adds to a counter. `ttl` applies to a key that is missing; `None` leaves it missing.
pub(super) fn increase(key: &str, by: i64, ttl: Option<Ttl>) -> Invocation<Counted> {
    let ttl = counter_ttl(ttl);
    let read = |answer| {
        let Reply::Array(parts) = answer else { return None };
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

/// Exchanges the value of a counter. The answer is whether the value was still `old`. `ttl` is a
/// result of [`counter_ttl`], or [`KEEP_TTL`].
pub(super) fn exchange(key: &str, old: &[u8], new: i64, ttl: &str) -> Invocation<bool> {
    let new = new.to_string();
    invoke(
        &EXCHANGE,
        &[key.as_bytes(), token(key).as_bytes()],
        &[old, new.as_bytes(), ttl.as_bytes()],
        flag,
    )
}

/// Installs a staged value. The answer is whether the condition held.
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

/// The argument of [`EXCHANGE`] that keeps the expiry.
pub(super) const KEEP_TTL: &str = "keep";

/// The argument for the expiry of a new counter. A `ttl` of `None` means that it expires at once.
pub(super) fn counter_ttl(ttl: Option<Ttl>) -> String {
    ttl.map_or_else(|| "0".to_owned(), ttl_arg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_another_kind_are_noticed() {
        let answer = Reply::Array(vec![Reply::Bulk(Bytes::from_static(b"sum"))]);
        assert!((increase("k", 1, None).by_hash.read)(answer).is_none());
    }
}
