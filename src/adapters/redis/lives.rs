//! Values with the rest of their lives, for a near level, and the source that vouches for them.
//!
//! A read is one round trip: `GET` and `PTTL`, or `MGET` and as many `PTTL`, in one write. The life
//! is asked for after the value. A key that is written in between has the old value and the new
//! life, and the server tells of the write, or the value is near for no longer than the bound: as
//! any value that is written after it was read. The other way round, the new value would have the
//! old life, which may be longer than its own, and nothing would end it in time. A transaction would
//! cost the server two more commands for each read.

use super::commands;
use super::connection::connection::Connection;
use super::connection::managed::ManagedConnection;
use super::errors::{Code, Failure};
use super::in_place::{GetAllWithLives, GetEachWithLife};
use super::raw::EncodeAll;
use super::reply::Reply;
use crate::adapter::{NearEntry, SourceId};
use crate::expiry::Lifetime;
use crate::value::CacheValue;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use std::vec;
use tokio::time::Instant;

/// What is known of the life of a value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    /// `None` if the user may not ask for it.
    left: Option<Lifetime>,
    source: Option<SourceId>,
}

impl Life {
    /// The value with its life. Without a life it is not kept near.
    pub(super) fn of(self, value: CacheValue) -> NearEntry {
        let Some(left) = self.left else { return NearEntry::not_kept(value) };
        let entry = NearEntry::new(value, left);
        match self.source {
            Some(source) => entry.vouched_by(source),
            None => entry,
        }
    }
}

/// What the server keeps under a key.
#[derive(Debug)]
pub(super) struct Living {
    pub(super) stored: Bytes,
    pub(super) life: Life,
}

/// Reads keys together. `None` for a key that is missing, or holds another program's list.
pub(super) async fn read_all<K: AsRef<str>>(
    managed: &Arc<ManagedConnection>,
    names: impl ExactSizeIterator<Item = K> + Clone + Sync,
    deadline: Instant,
) -> Result<Vec<Option<Living>>, Failure> {
    let count = names.len();
    let mut answers = Answers::to(managed, &GetAllWithLives(names), deadline).await?;
    let stored = answers.next(commands::list)?;
    if stored.len() != count {
        return Err(Failure::desynchronized());
    }
    stored.into_iter().map(|stored| answers.with_life(Ok(stored))).collect()
}

/// Reads a key by commands of its own.
pub(super) async fn read_one(
    managed: &Arc<ManagedConnection>,
    name: &str,
    deadline: Instant,
) -> Result<Option<Living>, Failure> {
    let mut answers = Answers::to(managed, &GetEachWithLife(&[name]), deadline).await?;
    let stored = answers.next(commands::bytes);
    answers.with_life(stored)
}

/// Reads each key by commands of its own, all in one round trip.
pub(super) async fn read_each(
    managed: &Arc<ManagedConnection>,
    names: &[&str],
    deadline: Instant,
) -> Result<Vec<Result<Option<Living>, Failure>>, Failure> {
    let mut answers = Answers::to(managed, &GetEachWithLife(names), deadline).await?;
    let mut found = Vec::with_capacity(names.len());
    for _ in names {
        let stored = answers.next(commands::bytes);
        match answers.with_life(stored) {
            Err(failure) if failure.code == Code::Desynchronized => return Err(failure),
            living => found.push(living),
        }
    }
    Ok(found)
}

/// The answers to commands that were sent together, in their order.
struct Answers<'m> {
    managed: &'m Arc<ManagedConnection>,
    connection: Arc<Connection>,
    /// The source that vouches for what was read.
    source: Option<SourceId>,
    values: vec::IntoIter<Reply>,
}

impl<'m> Answers<'m> {
    async fn to(
        managed: &'m Arc<ManagedConnection>,
        commands: &impl EncodeAll,
        deadline: Instant,
    ) -> Result<Self, Failure> {
        let connection = match managed.usable(true) {
            Some(connection) => connection,
            // Boxed: seldom needed, and each read would have room for it.
            None => Box::pin(managed.usable_by(deadline, true)).await?,
        };
        // Before the commands are sent: a source that opens later has not told of what changed
        // since.
        let source = connection.source();
        let values = managed.exchange_all(&connection, commands, deadline).await?.into_iter();
        Ok(Self { managed, connection, source, values })
    }

    fn next<T>(&mut self, read: fn(Reply) -> Option<T>) -> Result<T, Failure> {
        let value = self.values.next().ok_or_else(Failure::desynchronized)?;
        self.managed.read(&self.connection, read, value)
    }

    /// What was stored, with the answer of its life, which is the next one. `None` if the key has
    /// gone in between.
    fn with_life(
        &mut self,
        stored: Result<Option<Bytes>, Failure>,
    ) -> Result<Option<Living>, Failure> {
        let left = match self.next(left) {
            Ok(left) => left.map(Some),
            Err(failure) if failure.is_refusal() => Some(None),
            Err(failure) => return Err(failure),
        };
        let source = self.source;
        Ok(stored?.zip(left).map(|(stored, left)| Living { stored, life: Life { left, source } }))
    }
}

/// The rest of a key's life; `None` if the key is missing. Zero is a key that ends within a
/// millisecond: it is not kept near.
fn left(answer: Reply) -> Option<Option<Lifetime>> {
    Some(match commands::int(answer)? {
        -2 => None,
        -1 => Some(Lifetime::Never),
        millis => Some(Lifetime::For(Duration::from_millis(u64::try_from(millis).ok()?))),
    })
}
