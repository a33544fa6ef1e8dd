//! Reads for a near level.

use super::AsyncRedisCache;
use super::errors::{Code, Failure};
use super::lane::Lane;
use super::lives::{Life, Living};
use super::multi_key::StepReader;
use super::ops::Call;
use crate::adapter::NearEntry;
use crate::error::Result;
use crate::value::CacheValue;
use std::sync::Arc;
use tokio::time::Instant;

type Found = Vec<Result<Option<NearEntry>, Failure>>;

impl Call<'_> {
    pub(super) async fn get_near(&self) -> Result<Option<NearEntry>> {
        let lane = self.reading_lane();
        let failed = |failure| self.failed(failure);
        let entry = self.read_near(lane).await.map_err(failed)?;
        let is_misdirected = entry.as_ref().is_some_and(|entry| entry.value.is_misdirected());
        // As in `get`: a connection that is desynchronized is replaced, and the key is read again.
        if is_misdirected && Box::pin(lane.verify(self.deadline)).await.is_err() {
            return Box::pin(self.read_near(lane)).await.map_err(failed);
        }
        Ok(entry)
    }

    async fn read_near(&self, lane: &Arc<Lane>) -> Result<Option<NearEntry>, Failure> {
        match lane.get_near(&self.full, self.deadline).await {
            Ok(found) => Ok(found.map(|found| found.life.of(self.value(found.stored)))),
            Err(failure) if failure.code == Code::WrongType => Ok(Some(foreign())),
            Err(failure) => Err(failure),
        }
    }
}

impl AsyncRedisCache {
    pub(super) async fn get_near_batch(
        &self,
        keys: &[&str],
    ) -> Result<Vec<Result<Option<NearEntry>>>> {
        let step: StepReader<_> = |cache, lane, names| Box::pin(cache.near_step(lane, names));
        self.in_steps("get_many_near", keys, step).await
    }

    async fn near_step(&self, lane: &Arc<Lane>, names: &[&str]) -> Result<Found, Failure> {
        let deadline = self.deadline();
        let mut is_verified = false;
        loop {
            let found = match lane.get_near_many(names, deadline).await {
                Ok(found) => found,
                Err(failure) if failure.is_refusal() => {
                    return self.near_each(lane, names, deadline).await;
                }
                Err(failure) => return Err(failure),
            };
            let found = found.into_iter().map(|found| found.map(|it| (it.stored, it.life)).unzip());
            let (stored, lives): (Vec<_>, Vec<Option<Life>>) = found.unzip();
            let values = self.checked(lane, names, stored, &mut is_verified, deadline).await?;
            let Some(values) = values else { continue };
            let entry = |(value, life): (Option<CacheValue>, Option<Life>)| {
                Ok(value.map(|value| match life {
                    Some(life) => life.of(value),
                    // It was read by itself later, and its life is not known.
                    None => NearEntry::not_kept(value),
                }))
            };
            return Ok(values.into_iter().zip(lives).map(entry).collect());
        }
    }

    /// Reads each key by commands of its own, in one round trip.
    async fn near_each(
        &self,
        lane: &Arc<Lane>,
        names: &[&str],
        deadline: Instant,
    ) -> Result<Found, Failure> {
        let codec = self.shared.config.settings.codec;
        let found = lane.get_near_each(names, deadline).await?;
        let entry = |(found, name): (Result<Option<Living>, Failure>, &&str)| match found {
            Ok(found) => Ok(found
                .map(|found| found.life.of(CacheValue::from_stored(name, found.stored, codec)))),
            Err(failure) if failure.code == Code::WrongType => Ok(Some(foreign())),
            Err(failure) => Err(failure),
        };
        Ok(found.into_iter().zip(names).map(entry).collect())
    }
}

/// What another program keeps under a key, such as a list.
fn foreign() -> NearEntry {
    NearEntry::not_kept(CacheValue::foreign())
}
