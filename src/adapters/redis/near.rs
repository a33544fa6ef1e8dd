//! Reads for a near level: values with the rest of their lives, and the source that vouches for them.
//!
//! A read is one round trip: `GET` and `PTTL`, or `MGET` and as many `PTTL`, in one write. The life
//! is asked for after the value. A key that is written in between has the old value and the new
//! life, and the server tells of the write, or the value is near for no longer than the bound: as
//! any value that is written after it was read. The other way round, the new value would have the
//! old life, which may be longer than its own, and nothing would end it in time. A transaction would
//! cost the server two more commands for each read.

use super::AsyncRedisCache;
use super::commands::{self, Command};
use super::errors::{Code, Failure};
use super::lane::{Answers, Lane};
use super::multi_key::StepReader;
use super::ops::Call;
use crate::adapter::{NearEntry, SourceId};
use crate::error::Result;
use crate::expiry::Lifetime;
use crate::value::CacheValue;
use bytes::Bytes;
use std::iter;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The answer to one of the commands of a read.
enum Part {
    Value(Option<Bytes>),
    Values(Vec<Option<Bytes>>),
    /// The rest of a key's life; `None` if the key is missing.
    Left(Option<Lifetime>),
}

type Found = Vec<Result<Option<NearEntry>, Failure>>;

fn get(name: &str) -> Command<Part> {
    commands::get(name).read_by(|answer| commands::bytes(answer).map(Part::Value))
}

fn get_all(names: &[&str]) -> Command<Part> {
    let get_all = commands::get_many(names.iter());
    get_all.read_by(|answer| commands::list(answer).map(Part::Values))
}

/// Zero is a key that ends within a millisecond: it is not kept near.
fn left(name: &str) -> Command<Part> {
    commands::time_left(name).read_by(|answer| {
        Some(Part::Left(match commands::int(answer)? {
            -2 => None,
            -1 => Some(Lifetime::Never),
            millis => Some(Lifetime::For(Duration::from_millis(u64::try_from(millis).ok()?))),
        }))
    })
}

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
        let batch = [get(&self.full), left(&self.full)];
        let Answers { answers, source } = lane.read_all(&batch, self.deadline).await?;
        let Ok([value, left]) = <[_; 2]>::try_from(answers) else {
            return Err(Failure::desynchronized());
        };
        let Some(stored) = (match value {
            Ok(Part::Value(stored)) => stored,
            Err(failure) if failure.code == Code::WrongType => return Ok(Some(foreign())),
            Err(failure) => return Err(failure),
            Ok(_) => return Err(Failure::desynchronized()),
        }) else {
            return Ok(None);
        };
        entry(self.value(stored), left, source)
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
            let lives = names.iter().map(|name| left(name));
            let batch: Vec<_> = iter::once(get_all(names)).chain(lives).collect();
            let Answers { answers, source } = lane.read_all(&batch, deadline).await?;
            let mut answers = answers.into_iter();
            let stored = match answers.next() {
                Some(Ok(Part::Values(stored))) => stored,
                Some(Err(failure)) if failure.is_refusal() => {
                    return self.near_each(lane, names, deadline).await;
                }
                Some(Err(failure)) => return Err(failure),
                _ => return Err(Failure::desynchronized()),
            };
            let were_missing: Vec<bool> = stored.iter().map(Option::is_none).collect();
            let values = self.checked(lane, names, stored, &mut is_verified, deadline).await?;
            let Some(values) = values else { continue };
            let entries = values.into_iter().zip(were_missing).zip(answers);
            return Ok(entries
                .map(|((value, was_missing), left)| match value {
                    // It was read by itself later: what is left belongs to what was there before.
                    Some(value) if was_missing => Ok(Some(NearEntry::not_kept(value))),
                    Some(value) => entry(value, left, source),
                    None => Ok(None),
                })
                .collect());
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
        let batch: Vec<_> = names.iter().flat_map(|name| [get(name), left(name)]).collect();
        let Answers { answers, source } = lane.read_all(&batch, deadline).await?;
        let (mut answers, mut found) = (answers.into_iter(), Vec::with_capacity(names.len()));
        for name in names {
            let (Some(value), Some(left)) = (answers.next(), answers.next()) else {
                return Err(Failure::desynchronized());
            };
            found.push(match value {
                Ok(Part::Value(Some(stored))) => {
                    entry(CacheValue::from_stored(name, stored, codec), left, source)
                }
                Ok(Part::Value(None)) => Ok(None),
                Err(failure) if failure.code == Code::WrongType => Ok(Some(foreign())),
                Err(failure) => Err(failure),
                Ok(_) => Err(Failure::desynchronized()),
            });
        }
        Ok(found)
    }
}

/// What another program keeps under a key, such as a list.
fn foreign() -> NearEntry {
    NearEntry::not_kept(CacheValue::foreign())
}

/// An entry, unless it has gone since its value was read. A user who may not ask for its life keeps
/// nothing near.
fn entry(
    value: CacheValue,
    left: Result<Part, Failure>,
    source: Option<SourceId>,
) -> Result<Option<NearEntry>, Failure> {
    match left {
        Ok(Part::Left(left)) => Ok(left.map(|left| {
            let entry = NearEntry::new(value, left);
            match source {
                Some(source) => entry.vouched_by(source),
                None => entry,
            }
        })),
        Err(failure) if failure.is_refusal() => Ok(Some(NearEntry::not_kept(value))),
        Err(failure) => Err(failure),
        Ok(_) => Err(Failure::desynchronized()),
    }
}
