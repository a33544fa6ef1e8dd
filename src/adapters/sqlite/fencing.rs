//! Claims: how a load learns that its key was written, removed or cleared meanwhile, by this
//! process or another.
//!
//! While the value of a missing key is computed, a placeholder row with an expiry before 1970
//! stands under the key. To every other operation it is an expired row: a removal deletes it, a
//! write replaces it. A claimed write finds its placeholder there, or is refused. For a live key,
//! the claim token holds a fingerprint of the value. Leases have their own table.

use super::connection::database::Role::Write;
use super::job::Command;
use super::statements::{Stored, bytes_at, upsert};
use super::{AsyncSqliteCache, time, transaction};
use crate::adapter::{Claim, LONGEST_CLAIM, lease_millis};
use crate::error::{Error, ErrorKind, Result};
use crate::expiry::Expiry;
use crate::value::CacheValue;
use bytes::Bytes;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Row as _, query};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// A random identifier.
type Id = [u8; 16];

fn new_id() -> Id {
    fastrand::u128(..).to_be_bytes()
}

/// The newest expiry of a placeholder that no claim can fill any more. The expiry of a placeholder
/// is its time of creation, counted backwards from 1970.
pub(super) fn abandoned() -> i64 {
    let longest = i64::try_from(LONGEST_CLAIM.as_millis()).unwrap_or(i64::MAX);
    longest.saturating_sub(time::now())
}

/// The content of a row.
#[derive(Debug)]
enum Row {
    None,
    /// A placeholder: its identifier, and how many claims share it.
    Place(Id, u64),
    /// A value, live or expired.
    Value {
        fingerprint: u64,
        live: bool,
    },
}

/// The fencing token of a claim, as only this adapter reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClaimToken {
    /// The identifier of the lease.
    lease: Option<Id>,
    before: Before,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Place(Id),
    Value(u64),
}

impl ClaimToken {
    pub(super) fn to_claim(self) -> Claim {
        let mut note =
            vec![u8::from(self.lease.is_some()), u8::from(matches!(self.before, Before::Place(_)))];
        note.extend_from_slice(&self.lease.unwrap_or_default());
        match self.before {
            Before::Place(id) => note.extend_from_slice(&id),
            Before::Value(fingerprint) => note.extend_from_slice(&fingerprint.to_be_bytes()),
        }
        Claim::new(note)
    }

    /// Reads a token. `None` for one that this adapter did not write.
    fn read(claim: &[u8]) -> Option<Self> {
        let ([leased, place], rest) = claim.split_first_chunk()?;
        let (lease, before) = rest.split_first_chunk()?;
        let before = match place {
            1 => Before::Place(before.try_into().ok()?),
            _ => Before::Value(u64::from_be_bytes(before.try_into().ok()?)),
        };
        Some(Self { lease: (*leased == 1).then_some(*lease), before })
    }
}

/// Claims a key. Returns `None` while another caller holds the lease.
struct Take {
    key: String,
    /// In milliseconds; 0 is no lease.
    lease: u64,
}

impl Command for Take {
    type Output = Option<ClaimToken>;
    const BRIEF: bool = false;

    async fn run(&self, on: &mut SqliteConnection) -> sqlx::Result<Option<ClaimToken>> {
        transaction::begin(on).await?;
        let taken = take(on, &self.key, self.lease).await;
        transaction::end(on, taken).await
    }
}

/// Claims a key inside a transaction. Returns `None`, and changes nothing of the key, while another
/// caller holds the lease.
pub(super) async fn take(
    on: &mut SqliteConnection,
    key: &str,
    lease: u64,
) -> sqlx::Result<Option<ClaimToken>> {
    let lease = match lease {
        0 => None,
        lasting => match take_lease(on, key, lasting).await? {
            None => return Ok(None),
            taken => taken,
        },
    };
    let before = match row(on, key).await? {
        Row::Value { fingerprint, live: true } => Before::Value(fingerprint),
        Row::Place(id, shares) if lease.is_none() => {
            place(on, key, id, shares + 1).await?;
            Before::Place(id)
        }
        // The placeholder of an ended lease gets a new identifier, so that the former holder's
        // write is refused.
        Row::Place(..) | Row::None | Row::Value { .. } => {
            let id = new_id();
            place(on, key, id, 1).await?;
            Before::Place(id)
        }
    };
    Ok(Some(ClaimToken { lease, before }))
}

/// The place of a value that is being computed: a name, and how many share it.
async fn place(on: &mut SqliteConnection, key: &str, id: Id, shares: u64) -> sqlx::Result<()> {
    let value = [&id[..], &shares.to_be_bytes()].concat();
    // The age of the placeholder counts from now.
    upsert(
        on,
        &[&Stored { key: key.to_owned(), value: value.into(), expires_at: Some(-time::now()) }],
    )
    .await
}

async fn row(on: &mut SqliteConnection, key: &str) -> sqlx::Result<Row> {
    let sql = "SELECT expires_at, value FROM larder_cache WHERE key = ?1";
    let Some(row) = query(sql).bind(key).fetch_optional(on).await? else { return Ok(Row::None) };
    let (expires_at, value): (Option<i64>, Bytes) = (row.try_get_unchecked(0)?, bytes_at(&row, 1)?);
    if expires_at.is_some_and(|at| at < 0)
        && let Some((id, shares)) = value.split_first_chunk()
        && let Ok(shares) = shares.try_into()
    {
        return Ok(Row::Place(*id, u64::from_be_bytes(shares)));
    }
    // Only this process compares the fingerprint, so the hash need not be stable.
    let mut fingerprint = DefaultHasher::new();
    (expires_at, &*value).hash(&mut fingerprint);
    Ok(Row::Value {
        fingerprint: fingerprint.finish(),
        live: expires_at.is_none_or(|at| at > time::now()),
    })
}

async fn take_lease(
    on: &mut SqliteConnection,
    key: &str,
    lasting: u64,
) -> sqlx::Result<Option<Id>> {
    let (id, now) = (new_id(), time::now());
    let until = now.saturating_add(i64::try_from(lasting).unwrap_or(i64::MAX));
    query("DELETE FROM larder_leases WHERE until <= ?1").bind(now).execute(&mut *on).await?;
    let sql = "INSERT INTO larder_leases (key, holder, until) VALUES (?1, ?2, ?3) ON CONFLICT \
               (key) DO NOTHING";
    let taken = query(sql).bind(key).bind(&id[..]).bind(until).execute(on).await?;
    Ok((taken.rows_affected() > 0).then_some(id))
}

/// Whether no other caller holds the lease now.
async fn is_leased_to(on: &mut SqliteConnection, key: &str, id: Id) -> sqlx::Result<bool> {
    let others = query("SELECT 1 FROM larder_leases WHERE key = ?1 AND holder <> ?2")
        .bind(key)
        .bind(id.to_vec())
        .fetch_optional(on)
        .await?;
    Ok(others.is_none())
}

/// Ends a claim without storing a value.
async fn give_up(on: &mut SqliteConnection, key: &str, token: ClaimToken) -> sqlx::Result<()> {
    end_lease(on, key, token).await?;
    let Before::Place(mine) = token.before else { return Ok(()) };
    match row(on, key).await? {
        Row::Place(id, shares) if id == mine && shares > 1 => place(on, key, id, shares - 1).await,
        Row::Place(id, _) if id == mine => delete(on, key).await,
        _ => Ok(()),
    }
}

async fn end_lease(on: &mut SqliteConnection, key: &str, token: ClaimToken) -> sqlx::Result<()> {
    if let Some(lease) = token.lease {
        query("DELETE FROM larder_leases WHERE key = ?1 AND holder = ?2")
            .bind(key)
            .bind(lease.to_vec())
            .execute(on)
            .await?;
    }
    Ok(())
}

async fn delete(on: &mut SqliteConnection, key: &str) -> sqlx::Result<()> {
    query("DELETE FROM larder_cache WHERE key = ?1").bind(key).execute(on).await.map(drop)
}

/// Stores a value under a claim, or removes the old value where there is none to store. Returns
/// whether the claim held.
pub(super) struct SetClaimed {
    key: String,
    entry: Option<Stored>,
    token: ClaimToken,
}

impl Command for SetClaimed {
    type Output = bool;
    const BRIEF: bool = false;

    async fn run(&self, on: &mut SqliteConnection) -> sqlx::Result<bool> {
        transaction::begin(on).await?;
        let holds = self.run_in(on).await;
        transaction::end(on, holds).await
    }
}

impl SetClaimed {
    pub(super) fn bytes(&self) -> usize {
        self.entry.as_ref().map_or(0, Stored::bytes)
    }

    /// Reads and writes in one transaction: a removal or another process's write cannot come between
    /// the check of the row and the write in its place.
    pub(super) async fn run_in(&self, on: &mut SqliteConnection) -> sqlx::Result<bool> {
        let Self { key, entry, token } = self;
        let in_time = match token.lease {
            None => true,
            Some(id) => is_leased_to(on, key, id).await?,
        };
        let holds = in_time
            && match (token.before, row(on, key).await?) {
                (Before::Place(mine), Row::Place(id, _)) => mine == id,
                (Before::Value(then), Row::Value { fingerprint, .. }) => then == fingerprint,
                _ => false,
            };
        if !holds {
            give_up(on, key, *token).await?;
        } else {
            match entry {
                Some(entry) => upsert(on, &[entry]).await?,
                None => delete(on, key).await?,
            }
            end_lease(on, key, *token).await?;
        }
        Ok(holds)
    }
}

/// Gives up a claim.
struct Release {
    key: String,
    token: ClaimToken,
}

impl Command for Release {
    type Output = ();
    const BRIEF: bool = false;

    async fn run(&self, on: &mut SqliteConnection) -> sqlx::Result<()> {
        transaction::begin(on).await?;
        let given_up = give_up(on, &self.key, self.token).await;
        transaction::end(on, given_up).await
    }
}

impl AsyncSqliteCache {
    pub(super) async fn take_claim(
        &self,
        key: &str,
        lease: Option<Duration>,
    ) -> Result<Option<Claim>> {
        let take = Take { key: self.full(key)?, lease: lease_millis(lease) };
        Ok(self.engine.call(Write, take).await?.map(ClaimToken::to_claim))
    }

    pub(super) async fn store_claimed(
        &self,
        key: &str,
        value: &CacheValue,
        expiry: Expiry,
        claim: &[u8],
    ) -> Result<bool> {
        let write = self.claimed_write(key, value, expiry, claim)?;
        let Some((write, refused)) = write else { return Ok(false) };
        let filled = self.engine.call(Write, write).await?;
        refused.map_or(Ok(filled), Err)
    }

    /// The write of a value under a claim, and the error of a value that is too large: the write then
    /// removes the old value, unless another caller has replaced it meanwhile. `None` for a claim of
    /// another store.
    pub(super) fn claimed_write(
        &self,
        key: &str,
        value: &CacheValue,
        expiry: Expiry,
        claim: &[u8],
    ) -> Result<Option<(SetClaimed, Option<Error>)>> {
        let key = self.full(key)?;
        let Some(token) = ClaimToken::read(claim) else { return Ok(None) };
        let lifetime = self.settings.resolve(expiry);
        let (entry, refused) = match self.encode(key.clone(), value, lifetime) {
            Ok(entry) => (Some(entry).filter(|_| !lifetime.is_zero()), None),
            Err(error) if error.kind() == ErrorKind::TooLarge => (None, Some(error)),
            Err(error) => return Err(error),
        };
        Ok(Some((SetClaimed { key, entry, token }, refused)))
    }

    pub(super) async fn release_claim(&self, key: &str, claim: &Claim) -> Result<()> {
        let key = self.full(key)?;
        match claim.token().and_then(ClaimToken::read) {
            Some(token) => self.engine.call(Write, Release { key, token }).await,
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_read_as_it_was_written() {
        for lease in [None, Some(new_id())] {
            for before in [Before::Place(new_id()), Before::Value(fastrand::u64(..))] {
                let token = ClaimToken { lease, before };
                assert_eq!(ClaimToken::read(token.to_claim().token().unwrap()), Some(token));
            }
        }
        for other in [&b""[..], b"x", &[0; 18], &[1; 50]] {
            assert_eq!(ClaimToken::read(other), None);
        }
    }

    #[test]
    fn a_place_is_past_and_abandoned_after_an_hour() {
        let hour = 3_600_000;
        assert!(-time::now() < abandoned());
        assert!(-(time::now() - hour - 1_000) > abandoned());
        assert!(abandoned() < 0);
    }
}
