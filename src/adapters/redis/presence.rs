//! Whether keys are there, and on which side of their logical ends: by the first bytes of their
//! values.

use super::AsyncRedisCache;
use super::commands::{self, Command};
use super::errors::Failure;
use super::lane::Lane;
use super::multi_key::StepReader;
use super::ops::Call;
use crate::adapter::Presence;
use crate::error::Result;
use std::sync::Arc;

type Found = Vec<Result<Presence, Failure>>;

/// What a key is asked.
fn questions(name: &str) -> [Command<Presence>; 2] {
    [commands::exists(name), commands::head(name)]
}

/// What the answers say. `None` for a user who may read whole values, but not parts of them.
fn judged(
    exists: Result<Presence, Failure>,
    end: Result<Presence, Failure>,
) -> Option<Result<Presence, Failure>> {
    match (exists, end) {
        (Ok(Presence::Missing), _) => Some(Ok(Presence::Missing)),
        (Err(failure), _) | (_, Err(failure)) if failure.is_refusal() => None,
        (Ok(_), Ok(end)) => Some(Ok(end)),
        // A value of another type has no logical end.
        (exists, _) => Some(exists),
    }
}

impl Call<'_> {
    pub(super) async fn presence(&self) -> Result<Presence> {
        let answers = self.lane().run_all(&questions(&self.full), self.deadline).await;
        let answers = <[Result<Presence, Failure>; 2]>::try_from(
            answers.map_err(|failure| self.failed(failure))?,
        );
        let Ok([exists, end]) = answers else {
            return Err(self.failed(Failure::desynchronized()));
        };
        match judged(exists, end) {
            Some(judged) => judged.map_err(|failure| self.failed(failure)),
            None => Ok(Presence::of_found(self.get().await?.as_ref())),
        }
    }
}

impl AsyncRedisCache {
    pub(super) async fn presence_batch(&self, keys: &[&str]) -> Result<Vec<Result<Presence>>> {
        let step: StepReader<_> = |cache, lane, names| Box::pin(cache.presence_step(lane, names));
        self.in_steps("presence_many", keys, step).await
    }

    async fn presence_step(&self, lane: &Arc<Lane>, names: &[&str]) -> Result<Found, Failure> {
        let batch: Vec<_> = names.iter().flat_map(|name| questions(name)).collect();
        let mut answers = lane.run_all(&batch, self.deadline()).await?.into_iter();
        let pairs = std::iter::from_fn(|| Some((answers.next()?, answers.next()?)));
        let found: Option<Found> = pairs.map(|(exists, end)| judged(exists, end)).collect();
        match found {
            Some(found) => Ok(found),
            None => {
                let found = self.get_step(lane, names).await?.into_iter();
                Ok(found.map(|found| Ok(Presence::of_found(found?.as_ref()))).collect())
            }
        }
    }
}
