//! Claims: how a load learns that its key was written, removed or cleared in the meantime, by this
//! process or another.
//!
//! Beside a key that is being loaded there is a *token* (a fencing token): the identifier of the
//! claim, how many loads share it, and the end of its lease. Every removal of the key removes the
//! token first, and a claimed write without its token is refused. Writes show in the value itself:
//! a claimed write is refused if the value is another one than at the time of the claim. A value
//! that is written and expires during one load would not show, so a write whose lifetime is shorter
//! than [`BRIEF`] removes the token as well. Values with longer lifetimes still exist when a load
//! of up to a minute ends, and their writes need no extra command. `clear` meets keys and tokens in
//! any order, so for its duration a *mark* refuses claimed writes under its prefix.

use super::commands::{Command, Condition, Ttl, bytes, flag, ttl_arg, unclaim, unclaim_all};
use super::errors::{Code, Failure};
use super::lane::Lane;
use super::millis;
use super::names::{self, marks, token};
use super::ops::Call;
use super::reply::Reply;
use super::scripts::{Invocation, Lua, forget, invoke, remove_key};
use crate::adapter::{Claim, LONGEST_CLAIM, lease_millis};
use crate::error::{Error, ErrorKind, Result};
use crate::expiry::Expiry;
use crate::value::CacheValue;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// A value with a shorter lifetime may be written and expire during one load.
const BRIEF: Duration = Duration::from_secs(60);

impl Ttl {
    /// Whether a value with this lifetime may expire before a load ends that began before the
    /// write.
    pub(super) fn is_brief(self) -> bool {
        matches!(self, Self::Millis(millis) if u128::from(millis) < BRIEF.as_millis())
    }
}

/// A fingerprint of a value: length, and hash of its beginning and end, which distinguish it from
/// other values. larder's header is at the beginning.
macro_rules! fingerprint {
    () => {
        r"local function fingerprint(key)
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

/// Gives up one share of a claim. The last share removes the token.
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

/// Whether a key is being cleared. A mark consists of 32 digits and a prefix.
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

/// Claims a key. Without a lease several loads share a claim, and the first claimed write wins.
/// After a lease has ended, the next claim gets a new identifier, so that the write of the former
/// holder is refused. The clock is read for leases only, because not every user may read it.
static CLAIM: Lua = Lua::new(concat!(
    fingerprint!(),
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
return {id, fingerprint(KEYS[1])}"
));

/// Stores a value under a claim. The value is an argument, or is stored under a temporary key
/// already.
static SET_CLAIMED: Lua = Lua::new(concat!(
    forget!(),
    remove_key!(),
    fingerprint!(),
    give_up!(),
    is_cleared!(),
    r"local id = string.match(redis.call('GET', KEYS[2]) or '', '^(%x+) ')
local now = fingerprint(KEYS[1])
if id ~= ARGV[1] or (now ~= '-' and now ~= ARGV[3]) or is_cleared(KEYS[3], KEYS[1])
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

/// The fencing token of a claim, as only this adapter reads it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClaimToken<'c> {
    id: &'c str,
    leased: bool,
    /// The fingerprint of the value at the time of the claim.
    before: &'c str,
}

impl<'c> ClaimToken<'c> {
    /// Reads a token. `None` for one that this adapter did not write.
    pub(super) fn read(claim: &'c [u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(claim).ok()?.split(' ');
        let (leased, id, before) = (words.next()?, words.next()?, words.next()?);
        Some(Self { id, leased: leased == "1", before })
    }

    fn leased_arg(&self) -> &'static [u8] {
        if self.leased { b"1" } else { b"0" }
    }
}

/// The script of a claimed write. A `ttl` of `0` removes the older value.
pub(super) fn set_claimed(
    full: &str,
    prefix: &str,
    claimed: &ClaimToken<'_>,
    ttl: &str,
    stored: &[u8],
    staged: Option<&str>,
) -> Invocation<bool> {
    let (marks, token) = (marks(prefix), token(full));
    let mut keys = vec![full.as_bytes(), token.as_bytes(), marks.as_bytes()];
    keys.extend(staged.map(str::as_bytes));
    let args = [
        claimed.id.as_bytes(),
        claimed.leased_arg(),
        claimed.before.as_bytes(),
        ttl.as_bytes(),
        stored,
    ];
    invoke(&SET_CLAIMED, &keys, &args, flag)
}

/// Claims a key. The answer is `None` while another load holds the lease.
fn claim(key: &str, token: &str, lease: u64) -> Invocation<Option<Vec<Bytes>>> {
    let read = |answer| match answer {
        Reply::Nil => Some(None),
        Reply::Array(parts) => parts
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
    /// Runs a script; `None` if the server does not permit it.
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
            // A lease needs the server's clock, which not every user may read. Try a claim without
            // a lease.
            Ok(None) if lease > 0 => match self.ask_claim(0).await {
                Ok(claimed) => Ok(claimed.unwrap_or_else(|| Some(Claim::unguarded()))),
                Err(failure) => Err(self.failed(failure)),
            },
            Ok(None) => Ok(Some(Claim::unguarded())),
            Err(failure) => Err(self.failed(failure)),
        }
    }

    /// Claims a key. The outer `None` means that the server does not support claims; loaded values
    /// are then stored without a fencing token.
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
        let Some(claimed) = ClaimToken::read(note) else { return Ok(false) };
        self.outlast_removals().await?;
        match self.store_claimed(value, expiry, &claimed).await {
            Ok(Some(stored)) => Ok(stored),
            // The server does not support claims any more: store without a fencing token.
            Ok(None) => self.store(value, expiry, Condition::None).await,
            Err(failure) if failure.is_odd() => self.store(value, expiry, Condition::None).await,
            Err(failure) => Err(self.refused_write(failure, Condition::None).await),
        }
    }

    /// Stores a value under a claim, and returns whether the claim held; `None` if the server does
    /// not permit the script.
    async fn store_claimed(
        &self,
        value: &CacheValue,
        expiry: Expiry,
        claimed: &ClaimToken<'_>,
    ) -> Result<Option<bool>, Failure> {
        let config = &self.cache.config;
        let stored = value.to_stored(&self.full, config.settings.codec)?;
        let Some(ttl) = self.ttl(expiry) else {
            return self.try_set_claimed(claimed, None, &[], None).await;
        };
        if stored.len() > config.max_value_bytes {
            // Remove the older value, unless another caller has replaced it in the meantime.
            let held = self.try_set_claimed(claimed, None, &[], None).await?;
            return if held.is_some() { Err(self.too_large().into()) } else { Ok(None) };
        }
        self.note_size(stored.len());
        if stored.len() <= config.big_value_bytes {
            return self.try_set_claimed(claimed, Some(ttl), &stored, None).await;
        }
        let staged = self.stage(stored).await?;
        let held = self.try_set_claimed(claimed, Some(ttl), &[], Some(staged.name())).await?;
        if held.is_some() {
            staged.take_over();
        }
        Ok(held)
    }

    /// Runs the script of a claimed write. Without a lifetime it removes the older value.
    async fn try_set_claimed(
        &self,
        claimed: &ClaimToken<'_>,
        ttl: Option<Ttl>,
        stored: &[u8],
        staged: Option<&str>,
    ) -> Result<Option<bool>, Failure> {
        let prefix = self.cache.config.settings.scope.prefix();
        let ttl = ttl.map_or_else(|| "0".to_owned(), ttl_arg);
        self.try_invoke(&set_claimed(&self.full, prefix, claimed, &ttl, stored, staged)).await
    }

    /// Gives up a claim. If the server does not permit that, the claim expires.
    pub(super) async fn release(&self, claim: &Claim) -> Result<()> {
        let Some(claimed) = claim.token().and_then(ClaimToken::read) else { return Ok(()) };
        let script = invoke(
            &RELEASE,
            &[token(&self.full).as_bytes()],
            &[claimed.id.as_bytes(), claimed.leased_arg()],
            flag,
        );
        match self.try_invoke(&script).await {
            Err(failure) if !failure.answered => Err(self.failed(failure)),
            _ => Ok(()),
        }
    }

    /// Runs a command that removes the key, or gives it a brief lifetime, and ends all claims on
    /// the key before it, in one round trip.
    pub(super) async fn run_unclaimed<T: Default>(
        &self,
        lane: &Arc<Lane>,
        make: impl Fn() -> Command<T>,
    ) -> Result<T, Failure> {
        Box::pin(lane.run_after(|| (unclaim(&self.full), make()), self.deadline)).await
    }

    /// Removes the key, without the answer whether it was live.
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
        let claimed = ClaimToken::read(b"1 abc 5:def").unwrap();
        assert_eq!(claimed, ClaimToken { id: "abc", leased: true, before: "5:def" });
        assert_eq!(ClaimToken::read(b"another's claim"), None);
        assert_eq!(ClaimToken::read(b"\xFF\xFF \xFF \xFF \xFF"), None);
    }

    #[test]
    fn what_may_end_within_a_minute_is_brief() {
        assert!(Ttl::Millis(59_999).is_brief());
        assert!(!Ttl::Millis(60_000).is_brief());
        assert!(!Ttl::Never.is_brief());
    }
}
