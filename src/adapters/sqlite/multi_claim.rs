//! Claims of many keys: one transaction claims the missing ones, and one stores what was loaded.

use super::AsyncSqliteCache;
use super::connection::database::Role::Write;
use super::fencing::{ClaimToken, SetClaimed, take};
use super::job::Command;
use crate::adapter::{Claim, ClaimedEntry};
use crate::error::{Error, Result};
use crate::key;
use futures_util::future::join_all;
use sqlx::Connection as _;
use sqlx::sqlite::SqliteConnection;

/// The number of keys in one transaction.
const STEP: usize = 500;

/// Claims keys, without leases.
struct TakeMany(Vec<String>);

impl Command for TakeMany {
    type Output = Vec<Option<ClaimToken>>;
    const BRIEF: bool = false;

    async fn run(&self, on: &mut SqliteConnection) -> sqlx::Result<Self::Output> {
        let mut step = on.begin_with("BEGIN IMMEDIATE").await?;
        let mut taken = Vec::with_capacity(self.0.len());
        for key in &self.0 {
            taken.push(take(&mut step, key, 0).await?);
        }
        step.commit().await?;
        Ok(taken)
    }
}

/// Stores values under their claims.
struct SetManyClaimed(Vec<SetClaimed>);

impl Command for SetManyClaimed {
    type Output = Vec<bool>;
    const BRIEF: bool = false;

    async fn run(&self, on: &mut SqliteConnection) -> sqlx::Result<Vec<bool>> {
        let mut step = on.begin_with("BEGIN IMMEDIATE").await?;
        let mut held = Vec::with_capacity(self.0.len());
        for write in &self.0 {
            held.push(write.run_in(&mut step).await?);
        }
        step.commit().await?;
        Ok(held)
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
        const OP: &str = "set_claimed_many";
        let named = |error: Error, key: &str| self.name(error, OP).with_key(key);
        key::check_all(entries.iter().map(|claimed| claimed.entry.key))
            .map_err(|error| self.name(error, OP))?;
        let steps = entries.chunks(STEP).map(|entries| async move {
            let (mut writes, mut results) = (Vec::new(), Vec::with_capacity(entries.len()));
            for ClaimedEntry { entry, claim, .. } in entries {
                let token = claim.token().unwrap_or_default();
                results.push(
                    match self.claimed_write(entry.key, &entry.value, entry.expiry, token) {
                        Ok(Some((write, refused))) => {
                            writes.push(write);
                            refused.map_or(Ok(None), |error| Err((Some(()), error)))
                        }
                        Ok(None) => Ok(Some(false)),
                        Err(error) => Err((None, error)),
                    },
                );
            }
            let held = self.engine.call(Write, SetManyClaimed(writes)).await;
            let mut held = held.map(Vec::into_iter);
            let mut next = || match &mut held {
                Ok(held) => Ok(held.next().unwrap_or(false)),
                Err(error) => Err(error.clone()),
            };
            let ended = entries.iter().zip(results).map(|(claimed, result)| {
                let stored = match result {
                    Ok(None) => next(),
                    Ok(Some(known)) => Ok(known),
                    // The old value was removed instead.
                    Err((Some(()), refused)) => next().and(Err(refused)),
                    Err((None, error)) => Err(error),
                };
                stored.map_err(|error| named(error, claimed.entry.key))
            });
            ended.collect::<Vec<_>>()
        });
        Ok(join_all(steps).await.into_iter().flatten().collect())
    }
}
