//! Runs the commands of a lane on its session.

use super::command::{Command, Job, Kind, Reply, answer};
use super::session::Session;
use crate::adapters::memcached::ops::Each;

/// Runs commands that share a batch, or one command.
pub(super) async fn run(session: &mut Session, mut group: Vec<Job>) {
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
