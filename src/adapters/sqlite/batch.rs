//! The queue of a lane, and which waiting commands become one statement.

use super::job::{Waiting, Work};
use super::reads::{Get, select_many};
use super::statements::{Put, upsert_many};
use crate::batching::{Batchable, Queue};
use crate::error::Error;
use futures_util::future::BoxFuture;
use sqlx::SqliteConnection;
use std::time::Instant;

/// A command in a lane's queue.
pub(super) enum Job {
    Get(Waiting<Get>),
    Put(Waiting<Put>),
    Alone(Box<dyn Work>),
}

impl Job {
    /// Returns the work of this job alone.
    pub(super) fn alone(self) -> Box<dyn Work> {
        match self {
            Self::Get(get) => Box::new(get),
            Self::Put(put) => Box::new(put),
            Self::Alone(work) => work,
        }
    }

    /// Takes the next job of a queue, together with the waiting jobs that fit into the same
    /// statement.
    pub(super) fn next(queue: &mut Queue<Self>) -> Option<Box<dyn Work>> {
        let mut batch = queue.next();
        if batch.len() < 2 {
            return batch.pop().map(Self::alone);
        }
        let (mut gets, mut puts) = (Vec::new(), Vec::new());
        for job in batch {
            match job {
                Self::Get(get) => gets.push(get),
                Self::Put(put) => puts.push(put),
                // A job without a kind is never joined with others.
                alone @ Self::Alone(_) => return Some(alone.alone()),
            }
        }
        Some(if puts.is_empty() {
            Box::new(GetTogether::new(gets))
        } else {
            Box::new(PutTogether::new(puts))
        })
    }
}

/// Jobs of one kind can become one statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Get,
    Put,
}

impl Batchable for Job {
    type Kind = Kind;

    fn kind(&self) -> Option<Kind> {
        match self {
            Self::Get(_) => Some(Kind::Get),
            Self::Put(put) if put.command.is_small() => Some(Kind::Put),
            Self::Put(_) | Self::Alone(_) => None,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Put(put) => put.command.bytes(),
            Self::Get(_) | Self::Alone(_) => 0,
        }
    }

    fn is_over(&mut self, now: Instant) -> bool {
        match self {
            Self::Get(get) => get.is_over(now),
            Self::Put(put) => put.is_over(now),
            Self::Alone(work) => work.is_over(now),
        }
    }

    fn keys(&self) -> impl Iterator<Item = u64> {
        let key = match self {
            Self::Get(get) => Some(&get.command.0),
            Self::Put(put) => Some(put.command.key()),
            Self::Alone(_) => None,
        };
        key.map(|key| u64::from(crc32fast::hash(key.as_bytes()))).into_iter()
    }
}

/// Reads that are executed as one statement.
pub(super) struct GetTogether(Vec<Waiting<Get>>);

impl GetTogether {
    pub(super) fn new(gets: Vec<Waiting<Get>>) -> Self {
        Self(gets)
    }
}

impl Work for GetTogether {
    fn run<'a>(&'a mut self, on: &'a mut SqliteConnection) -> BoxFuture<'a, sqlx::Result<()>> {
        Box::pin(async move {
            let keys: Vec<&str> = self.0.iter().map(|get| get.command.0.as_str()).collect();
            let found = select_many(on, &keys).await?;
            self.0.iter_mut().zip(found).for_each(|(get, value)| get.answer(Ok(value)));
            Ok(())
        })
    }

    fn fail(&mut self, error: &Error) {
        self.0.iter_mut().for_each(|get| get.fail(error));
    }

    fn is_over(&mut self, now: Instant) -> bool {
        self.0.retain_mut(|get| !get.is_over(now));
        self.0.is_empty()
    }
}

/// Writes that are executed as one statement.
pub(super) struct PutTogether(Vec<Waiting<Put>>);

impl PutTogether {
    pub(super) fn new(puts: Vec<Waiting<Put>>) -> Self {
        Self(puts)
    }
}

impl Work for PutTogether {
    fn run<'a>(&'a mut self, on: &'a mut SqliteConnection) -> BoxFuture<'a, sqlx::Result<()>> {
        Box::pin(async move {
            upsert_many(on, &self.0.iter().map(|put| &put.command.0).collect::<Vec<_>>()).await?;
            self.0.iter_mut().for_each(|put| put.answer(Ok(())));
            Ok(())
        })
    }

    fn fail(&mut self, error: &Error) {
        self.0.iter_mut().for_each(|put| put.fail(error));
    }

    fn is_over(&mut self, now: Instant) -> bool {
        self.0.retain_mut(|put| !put.is_over(now));
        self.0.is_empty()
    }
}
