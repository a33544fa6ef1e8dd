//! Claims of many keys: read or claim them in one round trip, and store what was loaded in another.

use super::commands::{self, as_is, list, ttl_arg};
use super::errors::{Code, Failure};
use super::fencing::{ClaimToken, set_claimed};
use super::lane::Lane;
use super::multi_key::{STEP_BYTES, STEP_KEYS, failed};
use super::names::{self, CLAIM};
use super::ops::ttl;
use super::reply::Reply;
use super::scripts::{Invocation, Lua, invoke};
use super::{AsyncRedisCache, millis};
use crate::adapter::{Claim, ClaimedEntry, FoundOrClaimed, LONGEST_CLAIM};
use crate::error::Result;
use crate::key::check_all;
use crate::value::CacheValue;
use bytes::Bytes;
use futures_util::future::join_all;
use std::sync::Arc;

/// Claims the keys that are missing, as [`CLAIM`](super::fencing) does without a lease. The names of
/// the tokens are made here, and are not among the keys of the call: the call would be three times
/// as long, and only a cluster, which larder refuses, has to know them.
///
/// Where no key is missing, the answer is an empty list, after one command: a command for each key
/// took more than twice as long. `TOUCH` counts what is there; the read beside the script has used
/// these keys, too. A server that refuses `TOUCH` looks at each key.
static CLAIM_MISSING: Lua = Lua::new(
    r"if redis.pcall('TOUCH', unpack(KEYS)) == #KEYS then return {} end
local claimed = {}
for at, key in ipairs(KEYS) do
  claimed[at] = false
  if redis.pcall('STRLEN', key) == 0 and not redis.call('GET', key) then
    local token, id, shares, ends = key .. ARGV[3], ARGV[1], 0, '0'
    local i, s, e = string.match(redis.call('GET', token) or '', '^(%x+) (%d+) (%d+)$')
    if i then id, shares, ends = i, s, e end
    redis.call('SET', token, string.format('%s %.0f %s', id, shares + 1, ends), 'PX', ARGV[2])
    claimed[at] = id
  end
end
return claimed",
);

/// The fingerprint of a key that is missing.
const MISSING: &str = "-";

type Looked = Vec<Result<FoundOrClaimed, Failure>>;

/// A write of a batch under a claim, and its position.
struct Write {
    at: usize,
    script: Invocation<bool>,
    bytes: usize,
}

impl AsyncRedisCache {
    pub(super) async fn get_or_claim_batch(
        &self,
        keys: &[&str],
    ) -> Result<Vec<Result<FoundOrClaimed>>> {
        check_all(keys.iter().copied())?;
        if self.shared.refusals.refuses_scripts() {
            return self.get_unclaimed(keys).await;
        }
        let lanes = self.lanes()?;
        let mut found = Vec::with_capacity(keys.len());
        for keys in keys.chunks(STEP_KEYS) {
            let full = keys.iter().map(|key| self.full_key(key)).collect::<Result<Vec<_>>>()?;
            let names: Vec<&str> = full.iter().map(AsRef::as_ref).collect();
            match self.get_or_claim_step(self.lane_of(&lanes, &names), &names).await {
                Ok(step) => found.extend(step.into_iter().zip(keys).map(|(answer, key)| {
                    answer.map_err(|failure| failed(&failure, "get_or_claim_many", key))
                })),
                Err(failure) if failure.answered => {
                    found.extend(self.get_unclaimed(keys).await?);
                }
                Err(failure) => found
                    .extend(keys.iter().map(|key| Err(failed(&failure, "get_or_claim_many", key)))),
            }
        }
        Ok(found)
    }

    /// Reads without claims, because the server does not permit the script.
    async fn get_unclaimed(&self, keys: &[&str]) -> Result<Vec<Result<FoundOrClaimed>>> {
        let found = self.get_batch(keys).await?;
        Ok(found.into_iter().map(|found| found.map(FoundOrClaimed::unclaimed)).collect())
    }

    async fn get_or_claim_step(&self, lane: &Arc<Lane>, names: &[&str]) -> Result<Looked, Failure> {
        let (deadline, id) = (self.deadline(), names::random());
        let keys: Vec<&[u8]> = names.iter().map(|name| name.as_bytes()).collect();
        let keep = millis(LONGEST_CLAIM).to_string();
        let args = [id.as_bytes(), keep.as_bytes(), CLAIM.as_bytes()];
        let script = invoke(&CLAIM_MISSING, &keys, &args, list).repeatable();
        let read = as_is(commands::get_many(names.iter()));
        let batch = [read, as_is(script.by_hash.clone())];
        let answers = lane.run_all(&batch, deadline).await?;
        let Ok([values, claims]) = <[Result<Reply, Failure>; 2]>::try_from(answers) else {
            return Err(Failure::desynchronized());
        };
        let claims = match claims {
            Err(failure) if failure.code == Code::NoScript => {
                lane.run(|| script.in_full(), deadline).await
            }
            claims => claims.and_then(|claims| list(claims).ok_or_else(Failure::desynchronized)),
        };
        let values = list(values?).ok_or_else(Failure::desynchronized)?;
        let claims = match claims {
            Ok(none) if none.is_empty() => names.iter().map(|_| None).collect(),
            Ok(claims) => claims,
            Err(failure) if failure.code == Code::Refused => {
                self.shared.note_refused_scripts(failure.error.clone());
                return Err(failure);
            }
            Err(failure) => return Err(failure),
        };
        if values.len() != names.len() || claims.len() != names.len() {
            return Err(Failure::desynchronized());
        }
        self.looked(lane, names, values, claims).await
    }

    /// What was found of each key. A key that was neither read nor claimed holds another program's
    /// list, or came into being in between: it is read by itself.
    async fn looked(
        &self,
        lane: &Arc<Lane>,
        names: &[&str],
        values: Vec<Option<Bytes>>,
        claims: Vec<Option<Bytes>>,
    ) -> Result<Looked, Failure> {
        let codec = self.shared.config.settings.codec;
        let mut looked: Vec<Option<_>> = Vec::with_capacity(names.len());
        for ((stored, id), name) in values.into_iter().zip(claims).zip(names) {
            looked.push(match (stored, id) {
                (Some(stored), _) => {
                    let value = CacheValue::from_stored(name, stored, codec);
                    // Read it again: the connection may be desynchronized.
                    if value.is_misdirected() { None } else { Some(FoundOrClaimed::Found(value)) }
                }
                (None, Some(id)) => {
                    let note = [b"0 ", &*id, b" ", MISSING.as_bytes()].concat();
                    Some(FoundOrClaimed::Claimed(Claim::new(note)))
                }
                (None, None) => None,
            });
        }
        let open: Vec<usize> = (0..looked.len()).filter(|at| looked[*at].is_none()).collect();
        if open.is_empty() {
            return Ok(looked.into_iter().flatten().map(Ok).collect());
        }
        let names: Vec<&str> = open.iter().map(|at| names[*at]).collect();
        let mut again = self.get_step(lane, &names).await?.into_iter();
        let looked = looked.into_iter().filter_map(|looked| match looked {
            Some(looked) => Some(Ok(looked)),
            None => again.next().map(|found| found.map(FoundOrClaimed::unclaimed)),
        });
        Ok(looked.collect())
    }

    pub(super) async fn set_claimed_batch(
        &self,
        entries: &[ClaimedEntry<'_>],
    ) -> Result<Vec<Result<bool>>> {
        check_all(entries.iter().map(|claimed| claimed.entry.key))?;
        let lanes = self.lanes()?;
        let outlasted = lanes.bulk.outlast_removals(self.deadline()).await;
        outlasted.map_err(|failure| failure.error)?;
        let mut stored: Vec<Option<Result<bool>>> = entries.iter().map(|_| None).collect();
        let mut writes = Vec::with_capacity(entries.len());
        let (mut names, mut size) = (Vec::with_capacity(entries.len()), 0);
        for (at, claimed) in entries.iter().enumerate() {
            let full = self.full_key(claimed.entry.key)?;
            if let Some((script, bytes)) = self.claimed_write(&full, claimed) {
                writes.push(Write { at, script, bytes });
                names.push(full);
            }
        }
        let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
        // One lane for all. A write under a claim may be sent over another lane than that of its
        // key: the script refuses a write that comes too late.
        let lane = if names.is_empty() { &lanes.bulk } else { self.lane_of(&lanes, &names) };
        let steps = writes.chunk_by(|_, next| {
            size += next.bytes;
            let fits = size < STEP_BYTES;
            if !fits {
                size = 0;
            }
            fits
        });
        for step in steps.flat_map(|step| step.chunks(STEP_KEYS)) {
            self.set_claimed_step(lane, step, entries, &mut stored).await;
        }
        // The others by themselves: large values, and what the server refused as a script.
        let alone = entries.iter().zip(&stored).enumerate().filter(|(_, (_, done))| done.is_none());
        let alone: Vec<_> = alone
            .map(|(at, (claimed, _))| async move { (at, self.set_claimed_alone(claimed).await) })
            .collect();
        for (at, outcome) in join_all(alone).await {
            stored[at] = Some(outcome);
        }
        Ok(stored.into_iter().map(|outcome| outcome.unwrap_or(Ok(false))).collect())
    }

    /// The script of a write in a batch; `None` for a write that is sent by itself.
    fn claimed_write(
        &self,
        full: &str,
        ClaimedEntry { entry, claim, .. }: &ClaimedEntry<'_>,
    ) -> Option<(Invocation<bool>, usize)> {
        let config = &self.shared.config;
        let claimed = ClaimToken::read(claim.token()?)?;
        let ttl = ttl(config.settings.resolve(entry.expiry))?;
        let stored = entry.value.to_stored(full, config.settings.codec).ok()?;
        let is_small = stored.len() <= config.big_value_bytes.min(config.max_value_bytes);
        if !is_small || self.shared.refusals.refuses_scripts() {
            return None;
        }
        let prefix = config.settings.scope.prefix();
        let script = set_claimed(full, prefix, &claimed, &ttl_arg(ttl), &stored, None);
        Some((script, 3 * full.len() + stored.len()))
    }

    /// Sends the writes of a step in one round trip. Those that the server does not execute, though
    /// it answers, are left open.
    async fn set_claimed_step(
        &self,
        lane: &Arc<Lane>,
        step: &[Write],
        entries: &[ClaimedEntry<'_>],
        stored: &mut [Option<Result<bool>>],
    ) {
        let (mut open, deadline): (Vec<&Write>, _) = (step.iter().collect(), self.deadline());
        let mut is_known = false;
        loop {
            let batch: Vec<_> = open.iter().map(|write| write.script.by_hash.clone()).collect();
            let answers = lane.run_all(&batch, deadline).await;
            let answers = answers.unwrap_or_else(|failure| vec![Err(failure); open.len()]);
            let mut unknown = Vec::new();
            for (write, answer) in open.into_iter().zip(answers) {
                match answer {
                    Ok(held) => stored[write.at] = Some(Ok(held)),
                    Err(failure) if failure.code == Code::NoScript => unknown.push(write),
                    Err(failure) if failure.answered => {}
                    Err(failure) => {
                        let key = entries[write.at].entry.key;
                        stored[write.at] = Some(Err(failed(&failure, "set_claimed_many", key)));
                    }
                }
            }
            // One call in full makes the script known for the others.
            let Some(first) = unknown.pop().filter(|_| !is_known) else { return };
            is_known = true;
            if let Ok(held) = lane.run(|| first.script.in_full(), deadline).await {
                stored[first.at] = Some(Ok(held));
            }
            open = unknown;
        }
    }

    async fn set_claimed_alone(&self, claimed: &ClaimedEntry<'_>) -> Result<bool> {
        let ClaimedEntry { entry, claim, .. } = claimed;
        let call = self.call("set_claimed", entry.key)?;
        call.set_claimed(&entry.value, entry.expiry, claim).await
    }
}
