//! A lane: one connection, and the queue in front of it.
//!
//! A connection that is dropped with a command half answered is of no more use, so commands run in
//! the lane's own task, on the runtime of its callers. A caller that gives up drops only the
//! receiver of its answer. All commands on a key use one lane and stay in order. Reads, writes and
//! removals that wait at the same time are sent as one batch.

use super::session::Session;
use super::{Want, Write};
use crate::adapters::memcached::fencing::{ClaimToken, ClaimedWrite};
use crate::adapters::memcached::judging::Found;
use crate::adapters::memcached::keys::Key;
use crate::adapters::memcached::ops::{Count, Each};
use crate::adapters::memcached::ttl::Ttl;
use crate::batching::{Batchable, Limits, Queue};
use crate::error::{Error, Result};
use crate::runtime;
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};
use tokio::task::yield_now;

/// The capacity of the queue. Further callers wait for room until their deadline.
const QUEUE: usize = 256;

pub(in crate::adapters::memcached) type Reply<T> = oneshot::Sender<Result<T>>;

/// A command of a lane.
#[derive(Debug)]
pub(in crate::adapters::memcached) enum Command {
    Fetch(Vec<Key>, Want, Reply<Each<Option<Found>>>),
    Store(Vec<Write>, Reply<Each<()>>),
    Remove(Vec<Key>, Reply<Each<bool>>),
    Add(Write, Reply<bool>),
    Replace(Write, Reply<bool>),
    Take(Key, Reply<Option<Found>>),
    Touch(Key, Ttl, Want, Reply<Option<Found>>),
    Count(Count, Reply<i64>),
    Claim(Key, Option<Ttl>, Reply<Option<ClaimToken>>),
    SetClaimed(ClaimedWrite, Reply<bool>),
    Release(Key, ClaimToken, Reply<()>),
    Clear(String, Reply<()>),
    Ping(Reply<()>),
}

/// Commands of one kind can become one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::adapters::memcached) enum Kind {
    Fetch(Want),
    Store,
    Remove,
}

#[derive(Debug)]
pub(in crate::adapters::memcached) struct Job {
    command: Command,
    deadline: Instant,
}

impl Batchable for Job {
    type Kind = Kind;

    fn kind(&self) -> Option<Kind> {
        self.command.kind()
    }

    fn bytes(&self) -> usize {
        match &self.command {
            Command::Store(writes, _) => writes.iter().map(|write| write.bytes.len()).sum(),
            _ => 0,
        }
    }

    /// A command whose deadline has passed is not begun: its caller already has a timeout.
    fn is_over(&mut self, now: Instant) -> bool {
        now >= self.deadline || self.command.is_abandoned()
    }

    fn keys(&self) -> impl Iterator<Item = u64> {
        self.command.hashes().map(u64::from)
    }
}

/// A handle to a lane's task, which ends when the last handle is dropped.
#[derive(Clone, Debug)]
pub(in crate::adapters::memcached) struct Lane(mpsc::Sender<Job>);

impl Lane {
    /// Starts the lane's task. Must be called inside a runtime.
    pub(in crate::adapters::memcached) fn open(session: Session, limits: Limits) -> Self {
        let (inbox, jobs) = mpsc::channel(QUEUE);
        runtime::spawn(work(session, jobs, limits));
        Self(inbox)
    }

    /// Queues a command and waits for its answer without a time limit. `None` if the lane has
    /// ended.
    pub(in crate::adapters::memcached) async fn ask<T>(
        &self,
        deadline: Instant,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Option<Result<T>> {
        let (reply, answer) = oneshot::channel();
        self.send(deadline, command(reply)).await?;
        answer.await.ok()
    }

    /// Queues a command. `None` if the lane has ended.
    pub(in crate::adapters::memcached) async fn send(
        &self,
        deadline: Instant,
        command: Command,
    ) -> Option<()> {
        self.0.send(Job { command, deadline }).await.ok()
    }
}

async fn work(mut session: Session, mut jobs: mpsc::Receiver<Job>, limits: Limits) {
    let mut waiting = Queue::new(limits);
    let mut come = Vec::with_capacity(QUEUE);
    while jobs.recv_many(&mut come, QUEUE).await > 0 {
        come.drain(..).for_each(|job| waiting.push(job));
        loop {
            let group = waiting.next();
            if group.is_empty() {
                break;
            }
            let was_batched = group.len() > 1;
            run(&mut session, group).await;
            if was_batched {
                // Let the callers that were just answered run first: their next commands may join
                // the next batch.
                yield_now().await;
            }
            // Commands that arrived meanwhile may join those that still wait.
            while waiting.len() < QUEUE
                && let Ok(job) = jobs.try_recv()
            {
                waiting.push(job);
            }
        }
    }
}

async fn run(session: &mut Session, mut group: Vec<Job>) {
    if let Err(error) = session.resolve().await {
        group.into_iter().for_each(|job| job.command.fail(&error));
        return;
    }
    match group.first().and_then(|job| job.command.kind()) {
        Some(kind) if group.len() > 1 => run_batch(session, kind, group).await,
        _ => {
            if let Some(job) = group.pop() {
                run_one(session, job).await;
            }
        }
    }
}

async fn run_batch(session: &mut Session, kind: Kind, group: Vec<Job>) {
    let commands = group.into_iter().map(|job| job.command);
    match kind {
        Kind::Fetch(want) => {
            let (keys, replies) = joined(commands, |command| match command {
                Command::Fetch(keys, _, reply) => Some((keys, reply)),
                _ => None,
            });
            share(session.fetch(&keys, want).await, replies);
        }
        Kind::Store => {
            let (writes, replies) = joined(commands, |command| match command {
                Command::Store(writes, reply) => Some((writes, reply)),
                _ => None,
            });
            share(session.store(&writes).await, replies);
        }
        Kind::Remove => {
            let (keys, replies) = joined(commands, |command| match command {
                Command::Remove(keys, reply) => Some((keys, reply)),
                _ => None,
            });
            share(session.remove(&keys).await, replies);
        }
    }
}

type Shares<T> = Vec<(usize, Reply<Each<T>>)>;

/// Joins commands into one, and notes how many of its results each caller gets.
fn joined<I, T>(
    commands: impl Iterator<Item = Command>,
    take: impl Fn(Command) -> Option<(Vec<I>, Reply<Each<T>>)>,
) -> (Vec<I>, Shares<T>) {
    let mut all = Vec::new();
    let mut replies = Vec::new();
    for (mut items, reply) in commands.filter_map(take) {
        replies.push((items.len(), reply));
        all.append(&mut items);
    }
    (all, replies)
}

fn share<T>(results: Each<T>, replies: Shares<T>) {
    let mut results = results.into_iter();
    for (count, reply) in replies {
        answer(reply, Ok(results.by_ref().take(count).collect()));
    }
}

async fn run_one(session: &mut Session, job: Job) {
    let Job { command, deadline } = job;
    match command {
        Command::Fetch(keys, want, reply) => answer(reply, Ok(session.fetch(&keys, want).await)),
        Command::Store(writes, reply) => answer(reply, Ok(session.store(&writes).await)),
        Command::Remove(keys, reply) => answer(reply, Ok(session.remove(&keys).await)),
        Command::Add(write, reply) => answer(reply, session.add(&write, deadline).await),
        Command::Replace(write, reply) => answer(reply, session.replace(&write, deadline).await),
        Command::Take(key, reply) => answer(reply, session.take(&key, deadline).await),
        Command::Touch(key, ttl, want, reply) => {
            answer(reply, session.touch(&key, ttl, want).await)
        }
        Command::Count(count, reply) => answer(reply, session.count(&count, deadline).await),
        Command::Claim(key, lease, reply) => {
            answer(reply, session.claim(&key, lease, deadline).await)
        }
        Command::SetClaimed(claimed, reply) => answer(reply, session.set_claimed(&claimed).await),
        Command::Release(key, token, reply) => answer(reply, session.release(&key, &token).await),
        Command::Clear(prefix, reply) => answer(reply, session.clear(&prefix, deadline).await),
        Command::Ping(reply) => answer(reply, session.ping().await),
    }
}

fn answer<T>(reply: Reply<T>, result: Result<T>) {
    // The caller may have given up, which is no error.
    let _ = reply.send(result);
}

impl Command {
    /// Whether a clear that takes effect later would undo it.
    pub(in crate::adapters::memcached) fn stores(&self) -> bool {
        match self {
            Self::Store(..)
            | Self::Add(..)
            | Self::Replace(..)
            | Self::Touch(..)
            | Self::Count(..)
            | Self::Claim(..)
            | Self::SetClaimed(..) => true,
            Self::Fetch(..)
            | Self::Remove(..)
            | Self::Take(..)
            | Self::Release(..)
            | Self::Clear(..)
            | Self::Ping(..) => false,
        }
    }

    fn kind(&self) -> Option<Kind> {
        match self {
            Self::Fetch(_, want, _) => Some(Kind::Fetch(*want)),
            Self::Store(..) => Some(Kind::Store),
            Self::Remove(..) => Some(Kind::Remove),
            _ => None,
        }
    }

    fn is_abandoned(&self) -> bool {
        match self {
            Self::Fetch(.., reply) => reply.is_closed(),
            Self::Store(.., reply) => reply.is_closed(),
            Self::Remove(.., reply) => reply.is_closed(),
            Self::Add(.., reply) | Self::Replace(.., reply) | Self::SetClaimed(.., reply) => {
                reply.is_closed()
            }
            Self::Take(.., reply) | Self::Touch(.., reply) => reply.is_closed(),
            Self::Count(.., reply) => reply.is_closed(),
            Self::Claim(.., reply) => reply.is_closed(),
            Self::Clear(.., reply) | Self::Ping(reply) | Self::Release(.., reply) => {
                reply.is_closed()
            }
        }
    }

    fn fail(self, error: &Error) {
        let error = error.clone();
        match self {
            Self::Fetch(.., reply) => answer(reply, Err(error)),
            Self::Store(.., reply) => answer(reply, Err(error)),
            Self::Remove(.., reply) => answer(reply, Err(error)),
            Self::Add(.., reply) | Self::Replace(.., reply) | Self::SetClaimed(.., reply) => {
                answer(reply, Err(error))
            }
            Self::Take(.., reply) | Self::Touch(.., reply) => answer(reply, Err(error)),
            Self::Count(.., reply) => answer(reply, Err(error)),
            Self::Claim(.., reply) => answer(reply, Err(error)),
            Self::Clear(.., reply) | Self::Ping(reply) | Self::Release(.., reply) => {
                answer(reply, Err(error))
            }
        }
    }

    fn hashes(&self) -> impl Iterator<Item = u32> {
        let (keys, writes, one): (&[Key], &[Write], Option<&Key>) = match self {
            Self::Fetch(keys, ..) | Self::Remove(keys, ..) => (keys, &[], None),
            Self::Store(writes, ..) => (&[], writes, None),
            Self::Add(write, ..) | Self::Replace(write, ..) => (&[], &[], Some(&write.key)),
            Self::Take(key, ..)
            | Self::Touch(key, ..)
            | Self::Claim(key, ..)
            | Self::Release(key, ..) => (&[], &[], Some(key)),
            Self::SetClaimed(claimed, _) => (&[], &[], Some(&claimed.key)),
            Self::Count(count, ..) => (&[], &[], Some(&count.key)),
            Self::Clear(..) | Self::Ping(..) => (&[], &[], None),
        };
        keys.iter().chain(writes.iter().map(|write| &write.key)).chain(one).map(Key::hash)
    }
}
