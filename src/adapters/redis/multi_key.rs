//! The operations on many keys.

use super::commands::{self, Command, Condition, unclaim_all};
use super::errors::{BACKEND, Code, Failure};
use super::lane::Lane;
use super::names::token;
use super::ops::{Call, ttl};
use super::{AsyncRedisCache, Lanes};
use crate::adapter::Entry;
use crate::codec::Codec;
use crate::error::{Error, Result};
use crate::key::check_all;
use crate::value::CacheValue;
use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use std::sync::Arc;
use tokio::time::Instant;

/// The number of keys in one step of a batch: few enough to occupy the server briefly, and so many
/// that the round trips do not matter.
pub(super) const STEP_KEYS: usize = 1000;
pub(super) const STEP_BYTES: usize = 1 << 20;
/// Reads of more keys use the lane for large values, where no small value waits for them; and so do
/// reads of keys that hold large ones.
const SMALL_READ: usize = 128;

/// One key of a batch, and the position of its result.
struct Item<T> {
    at: usize,
    hash: u32,
    task: T,
}

/// A write of a batch.
enum Write {
    Command {
        command: Command<bool>,
        bytes: usize,
        /// The token of the key, if the write ends the claims on the key.
        token: Option<String>,
    },
    /// Too large for a batch: sent by itself, between the writes before and after it.
    Big(Bytes, commands::Ttl),
    TooLarge,
}

impl AsyncRedisCache {
    pub(super) async fn get_batch(&self, keys: &[&str]) -> Result<Vec<Result<Option<CacheValue>>>> {
        let step: StepReader<_> = |cache, lane, names| Box::pin(cache.get_step(lane, names));
        self.in_steps("get_many", keys, step).await
    }

    /// Reads keys in steps, each of which sends its commands together.
    pub(super) async fn in_steps<T>(
        &self,
        op: &'static str,
        keys: &[&str],
        read: StepReader<T>,
    ) -> Result<Vec<Result<T>>> {
        check_all(keys.iter().copied())?;
        let lanes = self.lanes()?;
        let full = keys.iter().map(|key| self.full_key(key)).collect::<Result<Vec<_>>>()?;
        let mut found = Vec::with_capacity(keys.len());
        for (step, full) in keys.chunks(STEP_KEYS).zip(full.chunks(STEP_KEYS)) {
            let names: Vec<&str> = full.iter().map(AsRef::as_ref).collect();
            let lane = self.lane_of(&lanes, &names);
            match read(self, lane, &names).await {
                Ok(values) => found.extend(
                    values
                        .into_iter()
                        .zip(step)
                        .map(|(value, key)| value.map_err(|failure| failed(&failure, op, key))),
                ),
                Err(failure) => {
                    // Without the server the next step would fail in the same way.
                    let is_over = failure.error.is_retryable();
                    let failing = if is_over { &keys[found.len()..] } else { step };
                    found.extend(failing.iter().map(|key| Err(failed(&failure, op, key))));
                    if is_over {
                        break;
                    }
                }
            }
        }
        Ok(found)
    }

    pub(super) fn lane_of<'l>(&self, lanes: &'l Lanes, names: &[&str]) -> &'l Arc<Lane> {
        let bulky = &self.shared.bulky;
        let is_large = names.len() > SMALL_READ
            || !bulky.is_empty() && names.iter().any(|name| bulky.contains(self.hash(name)));
        if is_large { &lanes.bulk } else { lanes.of(|| self.hash(names[0])) }
    }

    pub(super) async fn get_step(
        &self,
        lane: &Arc<Lane>,
        names: &[&str],
    ) -> Result<Found, Failure> {
        let deadline = self.deadline();
        let mut is_verified = false;
        loop {
            let stored = match lane.run(|| commands::get_many(names.iter()), deadline).await {
                Ok(stored) => stored,
                Err(failure) if failure.is_refusal() => {
                    return self.get_each(lane, names, deadline).await;
                }
                Err(failure) => return Err(failure),
            };
            let values = self.checked(lane, names, stored, &mut is_verified, deadline).await?;
            if let Some(values) = values {
                return Ok(values.into_iter().map(Ok).collect());
            }
        }
    }

    /// The values that the server answered to one `MGET`; `None` if the keys have to be read again,
    /// because the connection was desynchronized and has been replaced, as in a single `get`.
    pub(super) async fn checked(
        &self,
        lane: &Arc<Lane>,
        names: &[&str],
        stored: Vec<Option<Bytes>>,
        is_verified: &mut bool,
        deadline: Instant,
    ) -> Result<Option<Vec<Option<CacheValue>>>, Failure> {
        if stored.len() != names.len() {
            lane.verify(deadline).await?;
            return Err(Failure::desynchronized());
        }
        let mut values = read_all(stored, names, self.shared.config.settings.codec);
        let is_misdirected = values.iter().flatten().any(CacheValue::is_misdirected);
        if is_misdirected
            && !std::mem::replace(is_verified, true)
            && lane.verify(deadline).await.is_err()
        {
            return Ok(None);
        }
        self.find_foreign(lane, names, &mut values, deadline).await?;
        Ok(Some(values))
    }

    /// Finds keys that hold another program's list or hash. `MGET` answers nil for them, as for a
    /// missing key.
    async fn find_foreign(
        &self,
        lane: &Arc<Lane>,
        names: &[&str],
        values: &mut [Option<CacheValue>],
        deadline: Instant,
    ) -> Result<(), Failure> {
        let missing: Vec<usize> = (0..values.len()).filter(|at| values[*at].is_none()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let there = || commands::contain_any(missing.iter().map(|at| names[*at]));
        if let Ok(false) = lane.run(there, deadline).await {
            return Ok(());
        }
        let missing_names: Vec<&str> = missing.iter().map(|at| names[*at]).collect();
        let again = self.get_each(lane, &missing_names, deadline).await?;
        for (at, found) in missing.into_iter().zip(again) {
            values[at] = found?;
        }
        Ok(())
    }

    /// Reads each key by a command of its own, in one round trip.
    async fn get_each(
        &self,
        lane: &Arc<Lane>,
        names: &[&str],
        deadline: Instant,
    ) -> Result<Found, Failure> {
        let codec = self.shared.config.settings.codec;
        let batch: Vec<_> = names.iter().map(|name| commands::get(name)).collect();
        let answers = lane.run_all(&batch, deadline).await?;
        let read = |(answer, name): (Result<Option<Bytes>, Failure>, &&str)| match answer {
            Err(failure) if failure.code == Code::WrongType => Ok(Some(CacheValue::foreign())),
            answer => answer
                .map(|stored| stored.map(|stored| CacheValue::from_stored(name, stored, codec))),
        };
        Ok(answers.into_iter().zip(names).map(read).collect())
    }

    pub(super) async fn set_batch(&self, entries: &[Entry<'_>]) -> Result<Vec<Result<()>>> {
        check_all(entries.iter().map(|entry| entry.key))?;
        let lanes = self.lanes()?;
        let outlasted = lanes.bulk.outlast_removals(self.deadline()).await;
        outlasted.map_err(|failure| failure.error)?;
        let mut stored: Vec<Result<()>> = Vec::with_capacity(entries.len());
        let mut items = Vec::with_capacity(entries.len());
        for (at, entry) in entries.iter().enumerate() {
            let full = self.full_key(entry.key)?;
            match self.write(&full, entry) {
                Ok(task) => {
                    items.push(Item { at, hash: self.hash(&full), task });
                    stored.push(Ok(()));
                }
                Err(error) => stored
                    .push(Err(error.with_backend(BACKEND).with_op("set_many").with_key(entry.key))),
            }
        }
        let keys: Vec<&str> = entries.iter().map(|entry| entry.key).collect();
        let groups = by_lane(&lanes, items);
        let groups = join_all(
            groups.into_iter().map(|(lane, items)| self.write_group(&lanes, lane, items, &keys)),
        )
        .await;
        for (at, outcome) in groups.into_iter().flatten() {
            stored[at] = outcome;
        }
        Ok(stored)
    }

    fn write(&self, full: &str, entry: &Entry<'_>) -> Result<Write> {
        let config = &self.shared.config;
        let value = entry.value.to_stored(full, config.settings.codec)?;
        Ok(match ttl(config.settings.resolve(entry.expiry)) {
            None => Write::Command {
                command: commands::discard(full),
                bytes: full.len(),
                token: Some(token(full)),
            },
            Some(_) if value.len() > config.max_value_bytes => Write::TooLarge,
            Some(ttl) if value.len() > config.big_value_bytes => Write::Big(value, ttl),
            Some(ttl) => Write::Command {
                command: commands::set(full, &value, ttl, Condition::None),
                bytes: full.len() + value.len(),
                token: ttl.is_brief().then(|| token(full)),
            },
        })
    }

    /// Executes the writes of one lane, in order.
    async fn write_group(
        &self,
        lanes: &Arc<Lanes>,
        lane: &Arc<Lane>,
        items: Vec<Item<Write>>,
        keys: &[&str],
    ) -> Vec<(usize, Result<()>)> {
        let mut done = Vec::with_capacity(items.len());
        let mut step = Step::new("set_many");
        for Item { at, hash, task } in items {
            match task {
                Write::Command { command, bytes, token } => {
                    step.push(at, command, bytes, token);
                    if step.is_full() {
                        done.extend(step.run(self, lane, keys).await);
                    }
                }
                big => {
                    done.extend(step.run(self, lane, keys).await);
                    let outcome = match &step.broken {
                        Some(failure) => Err(failed(failure, "set_many", keys[at])),
                        None => self.write_big(lanes.clone(), keys[at], hash, big).await,
                    };
                    done.push((at, outcome));
                }
            }
        }
        done.extend(step.run(self, lane, keys).await);
        done.into_iter().map(|(at, outcome)| (at, outcome.map(drop))).collect()
    }

    async fn write_big(
        &self,
        lanes: Arc<Lanes>,
        key: &str,
        hash: u32,
        write: Write,
    ) -> Result<bool> {
        let full = self.full_key(key)?;
        let call = Call {
            cache: &self.shared,
            lanes,
            op: "set_many",
            key,
            full,
            deadline: self.deadline(),
        };
        match write {
            Write::Big(value, ttl) => {
                self.shared.bulky.note(hash, true);
                match call.store_big(value, ttl, Condition::None).await {
                    Ok(done) => Ok(done),
                    Err(failure) => Err(call.refused_write(failure, Condition::None).await),
                }
            }
            _ => Err(call.refuse_too_large(Condition::None).await?),
        }
    }

    pub(super) async fn remove_batch(&self, keys: &[&str]) -> Result<Vec<Result<bool>>> {
        check_all(keys.iter().copied())?;
        let lanes = self.lanes()?;
        let mut items = Vec::with_capacity(keys.len());
        for (at, key) in keys.iter().enumerate() {
            let full = self.full_key(key)?;
            items.push(Item {
                at,
                hash: self.hash(&full),
                task: (commands::is_stale(&full), commands::remove(&full), token(&full)),
            });
        }
        let groups = by_lane(&lanes, items).into_iter().map(|(lane, items)| async move {
            let mut done = Vec::with_capacity(items.len());
            let mut step = Step::new("remove_many");
            for Item { at, task: (look, removal, token), .. } in items {
                // Read the head first: after the removal there is nothing to read.
                step.push(at, look, 0, None);
                step.push(at, removal, 0, Some(token));
                if step.is_full() {
                    done.extend(step.run(self, lane, keys).await);
                }
            }
            done.extend(step.run(self, lane, keys).await);
            done
        });
        let mut removed: Vec<Result<bool>> = keys.iter().map(|_| Ok(false)).collect();
        let judges = self.shared.config.settings.codec.has_logical_ends();
        for group in join_all(groups).await {
            let mut outcomes = group.into_iter();
            while let (Some((_, look)), Some((at, removal))) = (outcomes.next(), outcomes.next()) {
                // If the server refuses to read the head, the key is removed all the same.
                let was_stale = judges && look.unwrap_or(false);
                removed[at] = removal.map(|live| live && !was_stale);
            }
        }
        Ok(removed)
    }
}

/// The result of [`AsyncRedisCache::get_step`], for each name.
pub(super) type Found = Vec<Result<Option<CacheValue>, Failure>>;

/// Reads the keys of one step, which share a lane.
pub(super) type StepReader<T> =
    for<'s> fn(
        &'s AsyncRedisCache,
        &'s Arc<Lane>,
        &'s [&'s str],
    ) -> BoxFuture<'s, Result<Vec<Result<T, Failure>>, Failure>>;

/// The commands of one round trip.
struct Step {
    op: &'static str,
    places: Vec<usize>,
    commands: Vec<Command<bool>>,
    /// The tokens of the keys whose claims end with this step.
    tokens: Vec<String>,
    bytes: usize,
    /// The server is unavailable: later steps are not tried.
    broken: Option<Failure>,
}

impl Step {
    fn new(op: &'static str) -> Self {
        Self {
            op,
            places: Vec::new(),
            commands: Vec::new(),
            tokens: Vec::new(),
            bytes: 0,
            broken: None,
        }
    }

    fn push(&mut self, at: usize, command: Command<bool>, bytes: usize, token: Option<String>) {
        self.places.push(at);
        self.commands.push(command);
        self.tokens.extend(token);
        self.bytes += bytes;
    }

    fn is_full(&self) -> bool {
        self.commands.len() >= STEP_KEYS || self.bytes >= STEP_BYTES
    }

    async fn run(
        &mut self,
        cache: &AsyncRedisCache,
        lane: &Arc<Lane>,
        keys: &[&str],
    ) -> Vec<(usize, Result<bool>)> {
        let places = std::mem::take(&mut self.places);
        let mut commands = std::mem::take(&mut self.commands);
        let tokens = std::mem::take(&mut self.tokens);
        self.bytes = 0;
        let unclaims = !tokens.is_empty();
        if unclaims {
            // Before the removals, as in `unclaim`.
            commands.insert(0, unclaim_all(&tokens));
        }
        let ran = match &self.broken {
            Some(failure) => Err(failure.clone()),
            None => lane.run_all(&commands, cache.deadline()).await,
        };
        let answers = match ran {
            Ok(mut answers) => match unclaims.then(|| answers.remove(0)) {
                // The claims did not end, so a load in flight could undo these writes: report them
                // as failed. A user who may not end claims may still write.
                Some(Err(failure)) if !failure.is_refusal() => {
                    vec![Err(failure); places.len()]
                }
                _ => answers,
            },
            Err(failure) => {
                if failure.error.is_retryable() {
                    self.broken = Some(failure.clone());
                }
                vec![Err(failure); places.len()]
            }
        };
        let outcome = |(at, answer): (usize, Result<bool, Failure>)| {
            (at, answer.map_err(|failure| failed(&failure, self.op, keys[at])))
        };
        let refused: Vec<usize> = places
            .iter()
            .zip(&answers)
            .filter(|(_, answer)| is_value_refused(answer))
            .map(|(at, _)| *at)
            .collect();
        let mut done: Vec<_> = places.into_iter().zip(answers).map(outcome).collect();
        if !refused.is_empty() && !discard(cache, lane, &refused, keys).await {
            for (at, outcome) in &mut done {
                if refused.contains(at)
                    && let Err(error) = outcome
                {
                    *error = error.clone().with_refused_write();
                }
            }
        }
        done
    }
}

/// Whether the server refused the value, and so would still serve the older one.
fn is_value_refused(answer: &Result<bool, Failure>) -> bool {
    matches!(answer, Err(failure) if matches!(failure.code, Code::OutOfMemory | Code::TooLarge))
}

/// Removes the older values, as a single `set` does if the server refuses the new value. Returns
/// whether that succeeded.
async fn discard(
    cache: &AsyncRedisCache,
    lane: &Arc<Lane>,
    places: &[usize],
    keys: &[&str],
) -> bool {
    let names = places.iter().filter_map(|at| cache.full_key(keys[*at]).ok());
    let names: Vec<String> = names.flat_map(|name| [token(&name), name.into_string()]).collect();
    lane.run(|| commands::discard_all(&names), cache.deadline()).await.is_ok()
}

/// The values of keys.
fn read_all(stored: Vec<Option<Bytes>>, names: &[&str], codec: Codec) -> Vec<Option<CacheValue>> {
    let read = |(stored, name): (Option<Bytes>, &&str)| {
        stored.map(|stored| CacheValue::from_stored(name, stored, codec))
    };
    stored.into_iter().zip(names).map(read).collect()
}

/// The items in their order, grouped by lane.
fn by_lane<T>(lanes: &Lanes, items: Vec<Item<T>>) -> Vec<(&Arc<Lane>, Vec<Item<T>>)> {
    let mut groups: Vec<(&Arc<Lane>, Vec<Item<T>>)> =
        lanes.lanes.iter().map(|lane| (lane, Vec::new())).collect();
    for item in items {
        let at = item.hash as usize % groups.len();
        groups[at].1.push(item);
    }
    groups.retain(|(_, items)| !items.is_empty());
    groups
}

pub(super) fn failed(failure: &Failure, op: &'static str, key: &str) -> Error {
    failure.error.clone().with_op(op).with_key(key)
}
