//! Many keys at once, and all of them.

use super::commands::{self, Command, Condition};
use super::errors::{BACKEND, Failure};
use super::fencing::{REMARK, mark, marks, token, unclaim_all, unmark};
use super::lane::Lane;
use super::ops::ttl;
use super::{AsyncRedisCache, Call, Lanes};
use crate::key::check_all;
use crate::{CacheValue, Entry, Error, ErrorKind, Result};
use bytes::Bytes;
use futures_util::future::join_all;
use std::borrow::Cow;
use std::sync::Arc;
use tokio::time::Instant;

/// One step of a batch: few enough that the server is not held up for long, many enough that round trips do not count.
const STEP_KEYS: usize = 1000;
const STEP_BYTES: usize = 1 << 20;
/// Larger reads go where they hold up nobody.
const SMALL_READ: usize = 64;
/// How many keys the server looks at in one step of a `clear`.
const SCAN_COUNT: usize = 1000;

/// What is to be done for one key of a batch, and where its result belongs.
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
        /// What claims on the key must not survive.
        token: Option<Vec<u8>>,
    },
    /// Too big for a batch: goes alone, between its neighbours.
    Big(Bytes, commands::Ttl),
    TooLarge,
}

impl AsyncRedisCache {
    pub(super) async fn get_batch(&self, keys: &[&str]) -> Result<Vec<Result<Option<CacheValue>>>> {
        check_all(keys.iter().copied())?;
        let lanes = self.lanes()?;
        let full = keys.iter().map(|key| self.full_key(key)).collect::<Result<Vec<_>>>()?;
        let mut found = Vec::with_capacity(keys.len());
        for (keys, full) in keys.chunks(STEP_KEYS).zip(full.chunks(STEP_KEYS)) {
            let names: Vec<&str> = full.iter().map(AsRef::as_ref).collect();
            let lane =
                if names.len() > SMALL_READ { &lanes.bulk } else { lanes.of(self.hash(names[0])) };
            match self.get_step(lane, &names).await {
                Ok(values) => found.extend(values.into_iter().map(Ok)),
                Err(failure) => {
                    found.extend(keys.iter().map(|key| Err(failed(&failure, "get_many", key))));
                    if failure.error.is_retryable() {
                        // The next step would only wait for the same.
                        break;
                    }
                }
            }
        }
        if let Some(Err(error)) = found.last().cloned() {
            found.extend(keys[found.len()..].iter().map(|key| Err(error.clone().with_key(key))));
        }
        Ok(found)
    }

    async fn get_step(
        &self,
        lane: &Arc<Lane>,
        names: &[&str],
    ) -> Result<Vec<Option<CacheValue>>, Failure> {
        let deadline = self.deadline();
        let mut verified = false;
        loop {
            let values = lane.run(|| commands::get_many(names.iter()), deadline).await?;
            if values.len() != names.len() {
                lane.verify(deadline).await?;
                return Err(Failure::out_of_step());
            }
            let codec = self.shared.config.settings.codec;
            let read = |(stored, name): (Option<Bytes>, &&str)| {
                stored.map(|stored| CacheValue::from_stored(name, stored, codec))
            };
            let values: Vec<_> = values.into_iter().zip(names).map(read).collect();
            let misdirected = values.iter().flatten().any(CacheValue::is_misdirected);
            // As in a single get: a connection that is out of step is replaced, and asked again.
            if !misdirected
                || std::mem::replace(&mut verified, true)
                || lane.verify(deadline).await.is_ok()
            {
                return Ok(values);
            }
        }
    }

    pub(super) async fn set_batch(&self, entries: &[Entry<'_>]) -> Result<Vec<Result<()>>> {
        check_all(entries.iter().map(|entry| entry.key))?;
        let lanes = self.lanes()?;
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

    /// The writes of one lane, in order.
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
            hash,
            deadline: self.deadline(),
        };
        match write {
            Write::Big(value, ttl) => {
                self.shared.bulky.note(hash, true);
                call.store_big(value, ttl, Condition::None).await
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
                // The look first: a removed value has no end to look at.
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
                // A look that the server refuses hinders no removal.
                let was_stale = judges && look.unwrap_or(false);
                removed[at] = removal.map(|live| live && !was_stale);
            }
        }
        Ok(removed)
    }

    pub(super) async fn clear_prefix(&self, prefix: &str) -> Result<()> {
        let own = self.shared.config.settings.scope.prefix();
        let prefix: Cow<'_, str> =
            if own.is_empty() { prefix.into() } else { format!("{own}{prefix}").into() };
        if prefix.is_empty() {
            let message = "without a prefix every key of the database would be this cache's own";
            return Err(Error::new(ErrorKind::Unsupported).with_message(message));
        }
        let lanes = self.lanes()?;
        let failed = |failure: Failure| failure.error;
        for lane in lanes.all() {
            // A write that timed out must not land after it was cleared.
            lane.settle(self.deadline()).await.map_err(failed)?;
        }
        let (marks, id) = (marks(own), format!("{:032x}", fastrand::u128(..)));
        let mark = mark(&marks, &id, &prefix);
        lanes.bulk.invoke(&mark, self.deadline()).await.map_err(failed)?;
        let mut marked = Instant::now();
        let mut cursor = Bytes::from_static(b"0");
        loop {
            let step = || commands::scan(&cursor, &prefix, SCAN_COUNT);
            let (next, keys) = lanes.bulk.run(step, self.deadline()).await.map_err(failed)?;
            for keys in keys.chunks(STEP_KEYS) {
                let keys: &Vec<&[u8]> =
                    &keys.iter().map(AsRef::as_ref).filter(|key| *key != marks).collect();
                if !keys.is_empty() {
                    lanes
                        .bulk
                        .run(|| commands::discard(keys), self.deadline())
                        .await
                        .map_err(failed)?;
                }
            }
            if &*next == b"0" {
                return lanes
                    .bulk
                    .run(|| unmark(&marks, &id, &prefix), self.deadline())
                    .await
                    .map(drop)
                    .map_err(failed);
            }
            if marked.elapsed() > REMARK {
                lanes.bulk.invoke(&mark, self.deadline()).await.map_err(failed)?;
                marked = Instant::now();
            }
            cursor = next;
        }
    }
}

/// Commands that travel together.
struct Step {
    op: &'static str,
    places: Vec<usize>,
    commands: Vec<Command<bool>>,
    /// Of the keys whose claims end with it.
    tokens: Vec<Vec<u8>>,
    bytes: usize,
    /// The server is away: what follows is not tried.
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

    fn push(&mut self, at: usize, command: Command<bool>, bytes: usize, token: Option<Vec<u8>>) {
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
            // First of all, as in `unclaim`.
            commands.insert(0, unclaim_all(&tokens));
        }
        let ran = match &self.broken {
            Some(failure) => Err(failure.clone()),
            None => lane.run_all(&commands, cache.deadline()).await,
        };
        match ran {
            Ok(mut answers) => {
                if unclaims && let Err(failure) = answers.remove(0) {
                    // Nothing of it counts: a load that is under way could undo it.
                    return places
                        .into_iter()
                        .map(|at| (at, Err(failed(&failure, self.op, keys[at]))))
                        .collect();
                }
                let outcome = |(at, answer): (usize, Result<bool, Failure>)| {
                    (at, answer.map_err(|failure| failed(&failure, self.op, keys[at])))
                };
                places.into_iter().zip(answers).map(outcome).collect()
            }
            Err(failure) => {
                let outcomes = places
                    .into_iter()
                    .map(|at| (at, Err(failed(&failure, self.op, keys[at]))))
                    .collect();
                if failure.error.is_retryable() {
                    self.broken = Some(failure);
                }
                outcomes
            }
        }
    }
}

/// Items in the order given, lane by lane.
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

fn failed(failure: &Failure, op: &'static str, key: &str) -> Error {
    failure.error.clone().with_op(op).with_key(key)
}
