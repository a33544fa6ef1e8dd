//! Claims: how a load learns that its key was written, removed or cleared meanwhile, in any
//! process.
//!
//! Beside a key that is being loaded stands a *token*: who claimed it, how many share the claim,
//! and until when it is leased. Whatever removes the key removes the token first, and a fill
//! without its token is refused. The value itself shows writes: a fill is refused if it is there
//! and was not, or is another one. That leaves a value that comes and goes during one load, so a
//! write that may be gone within [`BRIEF`] removes the token as well; longer ones are still there
//! when a load of up to a minute ends, and cost nothing. `clear` meets keys and tokens in any
//! order: while it is at work a *mark* stands there, under which nothing is filled.

use super::commands::{Command, Condition, Ttl, bytes, flag, ttl_arg, unclaim, unclaim_all};
use super::errors::{Code, Failure};
use super::lane::Lane;
use super::millis;
use super::names::{self, marks, token};
use super::ops::Call;
use super::scripts::{Invocation, Lua, forget, invoke, remove_key};
use crate::adapter::{Claim, LONGEST_CLAIM, lease_millis};
use crate::error::{Error, ErrorKind, Result};
use crate::expiry::Expiry;
use crate::value::CacheValue;
use bytes::Bytes;
use redis::Value;
use std::sync::Arc;
use std::time::Duration;

/// A value that lives shorter may come and go while another is computed.
const BRIEF: Duration = Duration::from_secs(60);

impl Ttl {
    /// Whether what lives so long may be gone before a load that began earlier is done.
    pub(super) fn is_brief(self) -> bool {
        matches!(self, Self::Millis(millis) if u128::from(millis) < BRIEF.as_millis())
    }
}

/// What a value looks like: enough of it to see whether it is another one. Larder's own header is
/// in its beginning.
macro_rules! look {
    () => {
        r"local function look(key)
  local length = redis.pcall('STRLEN', key)
  if type(length) == 'table' then
    if string.find(length.err, 'WRONGTYPE', 1, true) then return 'other' end
    length = redis.call('STRLEN', key)
  end
  if length == 0 then return redis.call('GET', key) and '0:' or '-' end
  if length <= 131072 then return length .. ':' .. redis.sha1hex(redis.call('GET', key)) end
  return length .. ':' .. redis.sha1hex(redis.call('GETRANGE', key, 0, 65535) .. redis.call('GETRANGE', key, -65536, -1))
end
"
    };
}

/// Takes a share of a claim back; the last one takes the token along.
macro_rules! give_up {
    () => {
        r"local function give_up(key, id, leased)
  local i, shares, ends = string.match(redis.call('GET', key) or '', '^(%x+) (%d+) (%d+)$')
  if i ~= id then return 0 end
  if leased == '1' then ends = '0' end
  if tonumber(shares) <= 1 then forget(key)
  else redis.pcall('SET', key, i .. ' ' .. (shares - 1) .. ' ' .. ends, 'KEEPTTL') end
  return 1
end
"
    };
}

/// Whether a key is being cleared. A mark is 32 digits and a prefix.
macro_rules! is_cleared {
    () => {
        r"local function is_cleared(marks, key)
  local all = redis.call('ZRANGE', marks, 0, -1, 'WITHSCORES')
  if #all == 0 then return false end
  local now = redis.call('TIME')[1] * 1000
  for at = 1, #all, 2 do
    local prefix = string.sub(all[at], 33)
    if tonumber(all[at + 1]) > now and string.sub(key, 1, #prefix) == prefix then return true end
  end
  return false
end
"
    };
}

/// Without a lease a claim is shared: the first fill wins. A lease that has ended passes on under a
/// new name, so that the fill of its former holder is refused. The clock is asked for leases only:
/// not every user may.
static CLAIM: Lua = Lua::new(concat!(
    look!(),
    r"local now = 0
if ARGV[2] ~= '0' then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local id, shares, ends = ARGV[1], 0, 0
local i, s, e = string.match(redis.call('GET', KEYS[2]) or '', '^(%x+) (%d+) (%d+)$')
if i then
  e = tonumber(e)
  if ARGV[2] == '0' then id, shares, ends = i, s, e
  elseif e > now then return false
  elseif e == 0 then id, shares = i, s end
end
if ARGV[2] ~= '0' then ends = now + ARGV[2] end
redis.call('SET', KEYS[2], string.format('%s %.0f %.0f', id, shares + 1, ends), 'PX', ARGV[3])
return {id, look(KEYS[1])}"
));

/// The value comes along, or stands under a name of its own already.
static FILL: Lua = Lua::new(concat!(
    forget!(),
    remove_key!(),
    look!(),
    give_up!(),
    is_cleared!(),
    r"local id = string.match(redis.call('GET', KEYS[2]) or '', '^(%x+) ')
local there = look(KEYS[1])
if id ~= ARGV[1] or (there ~= '-' and there ~= ARGV[3]) or is_cleared(KEYS[3], KEYS[1])
  or (KEYS[4] and redis.call('STRLEN', KEYS[4]) == 0) then
  if KEYS[4] then forget(KEYS[4]) end
  give_up(KEYS[2], ARGV[1], ARGV[2])
  return 0
end
if ARGV[4] == '0' then remove_key(KEYS[1])
elseif KEYS[4] then
  if ARGV[4] == '' then redis.call('PERSIST', KEYS[4]) else redis.call('PEXPIRE', KEYS[4], ARGV[4]) end
  redis.call('RENAME', KEYS[4], KEYS[1])
elseif ARGV[4] == '' then redis.call('SET', KEYS[1], ARGV[5])
else redis.call('SET', KEYS[1], ARGV[5], 'PX', ARGV[4]) end
forget(KEYS[2])
return 1"
));

static RELEASE: Lua =
    Lua::new(concat!(forget!(), give_up!(), "return give_up(KEYS[1], ARGV[1], ARGV[2])"));

/// What a claim says, between this adapter and itself.
#[derive(Debug, PartialEq, Eq)]
struct Noted<'c> {
    id: &'c str,
    leased: bool,
    /// What was there.
    there: &'c str,
}

impl<'c> Noted<'c> {
    /// `None` for a claim that is not ours.
    fn read(claim: &'c [u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(claim).ok()?.split(' ');
        let (leased, id, there) = (words.next()?, words.next()?, words.next()?);
        Some(Self { id, leased: leased == "1", there })
    }

    fn leased_arg(&self) -> &'static [u8] {
        if self.leased { b"1" } else { b"0" }
    }
}

/// `None` while another load has it.
fn claim(key: &str, token: &str, lease: u64) -> Invocation<Option<Vec<Bytes>>> {
    let read = |answer| match answer {
        Value::Nil => Some(None),
        Value::Array(parts) => parts
            .into_iter()
            .map(|part| bytes(part)?)
            .collect::<Option<Vec<_>>>()
            .filter(|parts| parts.len() == 2)
            .map(Some),
        _ => None,
    };
    let id = names::random();
    let (lease, keep) = (lease.to_string(), millis(LONGEST_CLAIM).to_string());
    invoke(
        &CLAIM,
        &[key.as_bytes(), token.as_bytes()],
        &[id.as_bytes(), lease.as_bytes(), keep.as_bytes()],
        read,
    )
}

impl Call<'_> {
    /// Runs a script; `None` where the server does not permit it.
    pub(super) async fn try_invoke<T>(&self, script: &Invocation<T>) -> Result<Option<T>, Failure> {
        if self.cache.refusals.refuses_scripts() {
            return Ok(None);
        }
        match self.lane().invoke(script, self.deadline).await {
            Err(failure) if failure.is_refusal() => {
                if failure.code == Code::Refused {
                    self.cache.note_refused_scripts(failure.error);
                }
                Ok(None)
            }
            outcome => outcome.map(Some),
        }
    }

    pub(super) async fn claim(&self, lease: Option<Duration>) -> Result<Option<Claim>> {
        let lease = lease_millis(lease);
        match self.ask_claim(lease).await {
            Ok(Some(claimed)) => Ok(claimed),
            // A lease needs the server's clock, which not every user may read; what a claim needs
            // is less.
            Ok(None) if lease > 0 => match self.ask_claim(0).await {
                Ok(claimed) => Ok(claimed.unwrap_or_else(|| Some(Claim::unguarded()))),
                Err(failure) => Err(self.failed(failure)),
            },
            Ok(None) => Ok(Some(Claim::unguarded())),
            Err(failure) => Err(self.failed(failure)),
        }
    }

    /// The outer `None` is for a server that cannot give claims: what is loaded is then stored as
    /// it was before there were any.
    async fn ask_claim(&self, lease: u64) -> Result<Option<Option<Claim>>, Failure> {
        let parts = match self.try_invoke(&claim(&self.full, &token(&self.full), lease)).await {
            Ok(Some(Some(parts))) => parts,
            Ok(Some(None)) => return Ok(Some(None)),
            Ok(None) => return Ok(None),
            Err(failure) if failure.is_odd() || failure.code == Code::OutOfMemory => {
                return Ok(None);
            }
            Err(failure) => return Err(failure),
        };
        let mut note = if lease > 0 { b"1".to_vec() } else { b"0".to_vec() };
        for part in parts {
            note.push(b' ');
            note.extend_from_slice(&part);
        }
        Ok(Some(Some(Claim::new(note))))
    }

    pub(super) async fn set_claimed(
        &self,
        value: &CacheValue,
        expiry: Expiry,
        claim: &Claim,
    ) -> Result<bool> {
        let Some(note) = claim.token() else {
            return self.store(value, expiry, Condition::None).await;
        };
        let Some(noted) = Noted::read(note) else { return Ok(false) };
        match self.fill(value, expiry, &noted).await {
            Ok(Some(filled)) => Ok(filled),
            // What cannot be guarded any more is stored all the same.
            Ok(None) => self.store(value, expiry, Condition::None).await,
            Err(failure) if failure.is_odd() => self.store(value, expiry, Condition::None).await,
            Err(failure) => Err(self.refused_write(failure, Condition::None).await),
        }
    }

    /// `None` is for a server that does not run the script.
    async fn fill(
        &self,
        value: &CacheValue,
        expiry: Expiry,
        noted: &Noted<'_>,
    ) -> Result<Option<bool>, Failure> {
        let config = &self.cache.config;
        let stored = value.to_stored(&self.full, config.settings.codec)?;
        let Some(ttl) = self.ttl(expiry) else {
            return self.fill_with(noted, None, &[], None).await;
        };
        if stored.len() > config.max_value_bytes {
            // What it was to replace goes, unless another value is there by now.
            let filled = self.fill_with(noted, None, &[], None).await?;
            return if filled.is_some() { Err(self.too_large().into()) } else { Ok(None) };
        }
        self.note_size(stored.len());
        if stored.len() <= config.big_value_bytes {
            return self.fill_with(noted, Some(ttl), &stored, None).await;
        }
        let staged = self.stage(stored).await?;
        let filled = self.fill_with(noted, Some(ttl), &[], Some(staged.name())).await?;
        if filled.is_some() {
            staged.take_over();
        }
        Ok(filled)
    }

    /// Without a lifetime, what is there goes instead.
    async fn fill_with(
        &self,
        noted: &Noted<'_>,
        ttl: Option<Ttl>,
        stored: &[u8],
        staged: Option<&str>,
    ) -> Result<Option<bool>, Failure> {
        let marks = marks(self.cache.config.settings.scope.prefix());
        let (token, ttl) = (token(&self.full), ttl.map_or_else(|| "0".to_owned(), ttl_arg));
        let mut keys = vec![self.full.as_bytes(), token.as_bytes(), marks.as_bytes()];
        keys.extend(staged.map(str::as_bytes));
        let args = [
            noted.id.as_bytes(),
            noted.leased_arg(),
            noted.there.as_bytes(),
            ttl.as_bytes(),
            stored,
        ];
        self.try_invoke(&invoke(&FILL, &keys, &args, flag)).await
    }

    /// Gives a claim back. Where the server does not permit that, the claim ends by itself.
    pub(super) async fn release(&self, claim: &Claim) -> Result<()> {
        let Some(noted) = claim.token().and_then(Noted::read) else { return Ok(()) };
        let script = invoke(
            &RELEASE,
            &[token(&self.full).as_bytes()],
            &[noted.id.as_bytes(), noted.leased_arg()],
            flag,
        );
        match self.try_invoke(&script).await {
            Err(failure) if !failure.answered => Err(self.failed(failure)),
            _ => Ok(()),
        }
    }

    /// Runs a command that removes the key, or may let it end soon: no claim from before survives
    /// it. One round trip.
    pub(super) async fn run_unclaimed<T: Default>(
        &self,
        lane: &Arc<Lane>,
        make: impl Fn() -> Command<T>,
    ) -> Result<T, Failure> {
        Box::pin(lane.run_after(|| (unclaim(&self.full), make()), self.deadline)).await
    }

    /// Removes the key without asking what was there.
    pub(super) async fn discard(&self) -> Result<(), Failure> {
        let keys = [token(&self.full), self.full.to_string()];
        self.lane().run(|| unclaim_all::<bool>(&keys), self.deadline).await.map(drop)
    }

    pub(super) fn too_large(&self) -> Error {
        let limit = self.cache.config.max_value_bytes;
        self.named(
            Error::new(ErrorKind::TooLarge)
                .with_message(format!("the value is larger than `max_value_bytes`, {limit}")),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_read_as_it_was_written() {
        let noted = Noted::read(b"1 abc 5:def").unwrap();
        assert_eq!(noted, Noted { id: "abc", leased: true, there: "5:def" });
        assert_eq!(Noted::read(b"another's claim"), None);
        assert_eq!(Noted::read(b"\xFF\xFF \xFF \xFF \xFF"), None);
    }

    #[test]
    fn what_may_end_within_a_minute_is_brief() {
        assert!(Ttl::Millis(59_999).is_brief());
        assert!(!Ttl::Millis(60_000).is_brief());
        assert!(!Ttl::Never.is_brief());
    }
}
