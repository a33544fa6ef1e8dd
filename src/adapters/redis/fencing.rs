//! Claims: what tells a load that somebody wrote, removed or cleared its key meanwhile, in whatever process.
//!
//! Beside a key that is being loaded stands a *token*: who claimed it, how many share the claim, and until when it is leased. Whatever
//! removes the key removes the token first, and a fill without its token is refused. The value itself tells of writes: a fill is
//! refused if it is there and was not, or is another one. That leaves a value that comes and goes during one load, so a write that
//! may be gone within [`BRIEF`] removes the token as well; longer ones are still there when a load of up to a minute ends, and cost
//! nothing. `clear` meets keys and tokens in any order: while it is at work a *mark* stands there, under which nothing is filled.

use super::commands::{
    Command, Condition, Invocation, Lua, Ttl, bytes, flag, int, invoke, ttl_arg,
};
use super::errors::{Code, Failure};
use super::lane::Lane;
use super::millis;
use super::ops::Call;
use crate::adapter::{LONGEST_CLAIM, lease_millis};
use crate::{CacheValue, Claim, Error, ErrorKind, Expiry, Result};
use bytes::Bytes;
use redis::Value;
use std::sync::Arc;
use std::time::Duration;

/// Not UTF-8, so that no user's key is alike; a `SCAN` for a prefix finds it all the same.
const SUFFIX: &[u8] = b"\xFFclaim";
const MARKS: &[u8] = b"\xFFclears";

/// How long a clear that was never finished stands in the way of fills. One that takes longer renews its mark.
const MARKED: Duration = Duration::from_secs(60);
pub(super) const REMARK: Duration = Duration::from_secs(10);

/// A value that lives shorter may come and go while another is computed.
const BRIEF: Duration = Duration::from_secs(60);

/// Where the token of a key is kept.
pub(super) fn token(full: &str) -> Vec<u8> {
    [full.as_bytes(), SUFFIX].concat()
}

/// Where it is noted which keys are being cleared.
pub(super) fn marks(prefix: &str) -> Vec<u8> {
    [prefix.as_bytes(), MARKS].concat()
}

/// Makes the claims on a key fail. It goes before what it is there for: a claim that is made in between is of a load that begins
/// after this removal did, and so is none of its concern.
pub(super) fn unclaim<T: Default>(full: &str) -> Command<T> {
    unclaim_all(&[token(full)])
}

pub(super) fn unclaim_all<T: Default>(tokens: &[Vec<u8>]) -> Command<T> {
    Command::new("UNLINK", |answer| int(answer).map(|_| T::default())).arg(tokens)
}

/// Notes that keys with a prefix are being cleared, from now on and for [`MARKED`]; `id` tells this clear from others.
pub(super) fn mark(marks: &[u8], id: &str, prefix: &str) -> Invocation<bool> {
    let lasting = millis(MARKED).to_string();
    invoke(&MARK, &[marks], &[lasting.as_bytes(), id.as_bytes(), prefix.as_bytes()], flag)
}

pub(super) fn unmark(marks: &[u8], id: &str, prefix: &str) -> Command<bool> {
    Command::new("ZREM", flag).arg(marks).arg([id, prefix].concat())
}

impl Ttl {
    /// Whether what lives so long may be gone before a load that began earlier is done.
    pub(super) fn is_brief(self) -> bool {
        matches!(self, Self::Millis(millis) if u128::from(millis) < BRIEF.as_millis())
    }
}

/// What a value looks like: enough of it to tell whether it is another one. Larder's own header is in its beginning.
macro_rules! look {
    () => {
        r"local function look(key)
  if redis.call('EXISTS', key) == 0 then return '-' end
  local length = redis.pcall('STRLEN', key)
  if type(length) == 'table' then return 'other' end
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
  if tonumber(shares) <= 1 then redis.call('UNLINK', key)
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

static MARK: Lua = Lua::new(
    r"redis.call('ZADD', KEYS[1], redis.call('TIME')[1] * 1000 + ARGV[1], ARGV[2] .. ARGV[3])
redis.call('PEXPIRE', KEYS[1], 2 * ARGV[1])
return 1",
);

/// Without a lease a claim is shared: the first fill wins. A lease that has ended passes on under a new name, so that the fill of
/// whoever had it is refused.
static CLAIM: Lua = Lua::new(concat!(
    look!(),
    r"local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
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
    look!(),
    give_up!(),
    is_cleared!(),
    r"local id = string.match(redis.call('GET', KEYS[2]) or '', '^(%x+) ')
local there = look(KEYS[1])
if id ~= ARGV[1] or (there ~= '-' and there ~= ARGV[3]) or is_cleared(KEYS[3], KEYS[1])
  or (KEYS[4] and redis.call('EXISTS', KEYS[4]) == 0) then
  if KEYS[4] then redis.call('UNLINK', KEYS[4]) end
  give_up(KEYS[2], ARGV[1], ARGV[2])
  return 0
end
if ARGV[4] == '0' then redis.call('UNLINK', KEYS[1])
elseif KEYS[4] then
  redis.call('RENAME', KEYS[4], KEYS[1])
  if ARGV[4] == '' then redis.call('PERSIST', KEYS[1]) else redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
elseif ARGV[4] == '' then redis.call('SET', KEYS[1], ARGV[5])
else redis.call('SET', KEYS[1], ARGV[5], 'PX', ARGV[4]) end
redis.call('UNLINK', KEYS[2])
return 1"
));

static RELEASE: Lua = Lua::new(concat!(give_up!(), "return give_up(KEYS[1], ARGV[1], ARGV[2])"));

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

/// `None` while somebody else has it.
fn claim(key: &str, token: &[u8], lease: u64) -> Invocation<Option<Vec<Bytes>>> {
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
    let id = format!("{:032x}", fastrand::u128(..));
    let (lease, keep) = (lease.to_string(), millis(LONGEST_CLAIM).to_string());
    invoke(
        &CLAIM,
        &[key.as_bytes(), token],
        &[id.as_bytes(), lease.as_bytes(), keep.as_bytes()],
        read,
    )
}

impl Call<'_> {
    pub(super) async fn claim(&self, lease: Option<Duration>) -> Result<Option<Claim>> {
        let lease = lease_millis(lease);
        let script = claim(&self.full, &token(&self.full), lease);
        let parts = match self.lane().invoke(&script, self.deadline).await {
            Ok(Some(parts)) => parts,
            Ok(None) => return Ok(None),
            // A user who may not run scripts has what there was before claims.
            Err(Failure { code: Code::NotPermitted, .. }) => return Ok(Some(Claim::unguarded())),
            Err(failure) => return Err(self.failed(failure)),
        };
        let mut note = if lease > 0 { b"1".to_vec() } else { b"0".to_vec() };
        for part in parts {
            note.push(b' ');
            note.extend_from_slice(&part);
        }
        Ok(Some(Claim::new(note)))
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
        let config = &self.cache.config;
        let stored = value
            .to_stored(&self.full, config.settings.codec)
            .map_err(|error| self.named(error))?;
        let Some(ttl) = self.ttl(expiry) else {
            return self.fill_with(&noted, None, &[], None).await;
        };
        if stored.len() > config.max_value_bytes {
            // What it was to replace goes, unless somebody else's is there by now.
            self.fill_with(&noted, None, &[], None).await?;
            return Err(self.too_large());
        }
        self.note_size(stored.len());
        if stored.len() > config.big_value_bytes {
            let staged = self.stage(stored).await?;
            return self.fill_with(&noted, Some(ttl), &[], Some(&staged)).await;
        }
        self.fill_with(&noted, Some(ttl), &stored, None).await
    }

    /// Without a lifetime, what is there goes instead.
    async fn fill_with(
        &self,
        noted: &Noted<'_>,
        ttl: Option<Ttl>,
        stored: &[u8],
        staged: Option<&str>,
    ) -> Result<bool> {
        let marks = marks(self.cache.config.settings.scope.prefix());
        let (token, ttl) = (token(&self.full), ttl.map_or_else(|| "0".to_owned(), ttl_arg));
        let mut keys = vec![self.full.as_bytes(), &token, &marks];
        keys.extend(staged.map(str::as_bytes));
        let args = [
            noted.id.as_bytes(),
            noted.leased_arg(),
            noted.there.as_bytes(),
            ttl.as_bytes(),
            stored,
        ];
        let filled = self.lane().invoke(&invoke(&FILL, &keys, &args, flag), self.deadline).await;
        if let Err(Failure { code: Code::OutOfMemory, .. }) = filled {
            // As in `store`: the server would go on to serve the older value.
            let _ = self.discard().await;
        }
        filled.map_err(|failure| self.failed(failure))
    }

    pub(super) async fn release(&self, claim: &Claim) -> Result<()> {
        let Some(noted) = claim.token().and_then(Noted::read) else { return Ok(()) };
        let script = invoke(
            &RELEASE,
            &[&token(&self.full)],
            &[noted.id.as_bytes(), noted.leased_arg()],
            flag,
        );
        self.invoke(&script).await.map(drop)
    }

    /// Runs a command that removes the key, or may let it end soon: no claim from before survives it. One round trip.
    pub(super) async fn run_unclaimed<T: Default>(
        &self,
        lane: &Arc<Lane>,
        make: impl Fn() -> Command<T>,
    ) -> Result<T, Failure> {
        Box::pin(lane.run_after(|| (unclaim(&self.full), make()), self.deadline)).await
    }

    /// Removes the key without asking what was there.
    pub(super) async fn discard(&self) -> Result<()> {
        self.run(|| unclaim_all::<bool>(&[token(&self.full), self.full.as_bytes().to_vec()]))
            .await
            .map(drop)
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
        assert_eq!(Noted::read(b"somebody else's"), None);
        assert_eq!(Noted::read(b"\xFF\xFF \xFF \xFF \xFF"), None);
    }

    #[test]
    fn no_key_is_like_a_token() {
        assert!(std::str::from_utf8(&token("k")).is_err());
        assert!(std::str::from_utf8(&marks("")).is_err());
        assert_ne!(token("k"), marks("k"));
    }

    #[test]
    fn what_may_end_within_a_minute_is_brief() {
        assert!(Ttl::Millis(59_999).is_brief());
        assert!(!Ttl::Millis(60_000).is_brief());
        assert!(!Ttl::Never.is_brief());
    }
}
