//! Claims of many keys: one transaction claims the missing ones, and one stores what was loaded.

use super::AsyncSqliteCache;
use super::connection::database::Role::Write;
use super::fencing::{ClaimToken, SetClaimed, take};
use super::job::Command;
use super::statements::CHUNK_BYTES;
use super::transaction;
use crate::adapter::{Claim, ClaimedEntry};
use crate::error::Result;
use crate::key;
use sqlx::sqlite::SqliteConnection;

/// The number of keys in one transaction.
const STEP: usize = 500;

const OP: &str = "set_claimed_many";

/// Claims keys, without leases.
struct TakeMany(Vec<String>);

impl Command for TakeMany {
    type Output = Vec<Option<ClaimToken>>;
    const BRIEF: bool = false;

    async fn run(&self, on: &mut SqliteConnection) -> sqlx::Result<Self::Output> {
        transaction::begin(on).await?;
        let taken = self.take_all(on).await;
        transaction::end(on, taken).await
    }
}

impl TakeMany {
    async fn take_all(&self, on: &mut SqliteConnection) -> sqlx::Result<Vec<Option<ClaimToken>>> {
        let mut taken = Vec::with_capacity(self.0.len());
        for key in &self.0 {
            taken.push(take(on, key, 0).await?);
        }
        Ok(taken)
    }
}

/// Stores values under their claims.
struct SetManyClaimed(Vec<SetClaimed>);

impl Command for SetManyClaimed {
    type Output = Vec<bool>;
    const BRIEF: bool = false;

    async fn run(&self, on: &mut SqliteConnection) -> sqlx::Result<Vec<bool>> {
        transaction::begin(on).await?;
        let held = self.store_all(on).await;
        transaction::end(on, held).await
    }
}

impl SetManyClaimed {
    async fn store_all(&self, on: &mut SqliteConnection) -> sqlx::Result<Vec<bool>> {
        let mut held = Vec::with_capacity(self.0.len());
        for write in &self.0 {
            held.push(write.run_in(on).await?);
        }
        Ok(held)
    }
}

/// The writes of one transaction, with the positions of their results.
///
/// It is bounded by bytes as well: a transaction keeps all other writers out, is in the log as a
/// whole, and could never end in a file that is smaller.
#[derive(Default)]
struct ClaimedStep {
    writes: Vec<SetClaimed>,
    places: Vec<usize>,
    bytes: usize,
}

impl ClaimedStep {
    fn has_room_for(&self, write: &SetClaimed) -> bool {
        self.writes.is_empty()
            || (self.writes.len() < STEP && self.bytes + write.bytes() <= CHUNK_BYTES)
    }

    fn push(&mut self, at: usize, write: SetClaimed) {
        self.bytes += write.bytes();
        self.places.push(at);
        self.writes.push(write);
    }
}

impl AsyncSqliteCache {
    /// Claims keys, without leases.
    pub(super) async fn take_claims(&self, keys: &[&str]) -> Vec<Result<Option<Claim>>> {
        let mut claims = Vec::with_capacity(keys.len());
        for keys in keys.chunks(STEP) {
            let taken = async {
                let full = keys.iter().map(|key| self.full(key)).collect::<Result<Vec<_>>>()?;
                self.engine.call(Write, TakeMany(full)).await
            };
            match taken.await {
                Ok(tokens) => {
                    claims.extend(tokens.into_iter().map(|one| Ok(one.map(ClaimToken::to_claim))));
                }
                Err(error) => {
                    let failed = |key: &&str| Err(self.name(error.clone(), "claim").with_key(key));
                    claims.extend(keys.iter().map(failed));
                }
            }
        }
        claims
    }

    pub(super) async fn store_all_claimed(
        &self,
        entries: &[ClaimedEntry<'_>],
    ) -> Result<Vec<Result<bool>>> {
        key::check_all(entries.iter().map(|claimed| claimed.entry.key))
            .map_err(|error| self.name(error, OP))?;
        let mut results = Vec::with_capacity(entries.len());
        let mut step = ClaimedStep::default();
        for ClaimedEntry { entry, claim, .. } in entries {
            let token = claim.token().unwrap_or_default();
            let write = self.claimed_write(entry.key, &entry.value, entry.expiry, token);
            let result = match write {
                Ok(Some((write, refused))) => {
                    if !step.has_room_for(&write) {
                        self.store_claimed_step(&mut step, &mut results).await;
                    }
                    step.push(results.len(), write);
                    // The old value is removed instead, if the claim holds.
                    refused.map_or(Ok(true), Err)
                }
                Ok(None) => Ok(false),
                Err(error) => Err(error),
            };
            results.push(result);
        }
        self.store_claimed_step(&mut step, &mut results).await;
        let named = |(claimed, result): (&ClaimedEntry<'_>, Result<bool>)| {
            result.map_err(|error| self.name(error, OP).with_key(claimed.entry.key))
        };
        Ok(entries.iter().zip(results).map(named).collect())
    }

    /// Stores what is in the step, in one transaction, and sets the results of its entries.
    async fn store_claimed_step(&self, step: &mut ClaimedStep, results: &mut [Result<bool>]) {
        let ClaimedStep { writes, places, .. } = std::mem::take(step);
        if writes.is_empty() {
            return;
        }
        match self.engine.call(Write, SetManyClaimed(writes)).await {
            Ok(held) => {
                for (at, held) in places.into_iter().zip(held) {
                    if let Ok(result) = &mut results[at] {
                        *result = held;
                    }
                }
            }
            Err(error) => places.into_iter().for_each(|at| results[at] = Err(error.clone())),
        }
    }
}
